//! `relayctl queue ...`: look at messages. What is done to them is in [`super::act`] and
//! [`super::flush`].

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use relay_admin::reroute::WayTo;
use relay_admin::select::Selection;
use relay_admin::view::{MessageDetail, MessageView, PageView, SummaryView};

use crate::Output;
use crate::client::{Client, Pairs};
use crate::command::act::{Act, act};
use crate::command::flush::flush;
use crate::command::select::Select;
use crate::command::{export, import, show, summary, verify};
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{self, Format, Screen, Tone};

#[derive(clap::Subcommand)]
pub enum Queue {
    /// Messages in the queue, and below them those that have left it lately
    List {
        #[command(flatten)]
        select: Select,
        /// Show at most so many messages [default: 50; all with --json]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Only messages that have left the queue lately (relayd remembers some of them)
        #[arg(long)]
        finished: bool,
        #[command(flatten)]
        output: Output,
    },
    /// One message: every attempt, what it waits for, when it is tried next
    Show {
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Try messages now, whatever their next time and their site's suspension; nothing selected:
    /// all. Rate limits are kept
    Flush {
        #[command(flatten)]
        select: Select,
        /// Wait until they have been tried
        #[arg(long)]
        wait: bool,
        /// Wait no longer than this, such as 30s or 10m
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = text::parse_span)]
        timeout: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Keep messages from being tried until they are released
    Hold {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        output: Output,
    },
    /// Let held messages go: they are due now
    Release {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        output: Output,
    },
    /// Give up recipients that are not finished; their senders get a report that an operator did it
    Bounce {
        #[command(flatten)]
        select: Select,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Send recipients another way than the configuration says, or back; when they are tried does not
    /// change: flush the same selection to try them now
    Reroute {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        way: Way,
        #[command(flatten)]
        output: Output,
    },
    /// Discard recipients that are not finished; no report is sent to the sender
    Delete {
        #[command(flatten)]
        select: Select,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Write messages into a file with everything that is known of them, to move them to another
    /// machine; nothing selected: all. They stay in the queue
    Export {
        /// The file, which must not be there yet; -: standard output
        file: PathBuf,
        #[command(flatten)]
        select: Select,
        /// The state directory of a relayd that is not running; its journal is recovered as at a start
        #[arg(long, value_name = "DIR")]
        offline: Option<PathBuf>,
    },
    /// Take over messages from a file that `export` has written, or from Postfix. What was taken over
    /// before is left out, so an import that broke off can be repeated
    Import {
        /// The file; -: standard input
        #[arg(required_unless_present = "postfix", conflicts_with = "postfix")]
        file: Option<PathBuf>,
        /// From Postfix, which must have been stopped: its queue directory, or some of its queue files.
        /// They are left as they are
        #[arg(long, value_name = "PATH", num_args = 0.., default_missing_value = "/var/spool/postfix")]
        postfix: Option<Vec<PathBuf>>,
        #[command(flatten)]
        output: Output,
    },
    /// Read everything that is stored, and hold the index against the journal; nothing is changed.
    /// Exit status 1: something is damaged or missing
    Verify {
        /// The state directory of a relayd that is not running
        #[arg(long, value_name = "DIR")]
        offline: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Who is stuck, since when: waiting recipients by domain and age
    Summary {
        #[command(flatten)]
        select: Select,
        /// Show at most so many domains
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        output: Output,
    },
}

/// One of them must be given.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Way {
    /// By way of this relay; one of a route keeps the route's login and TLS
    #[arg(long, value_name = "HOST[:PORT]")]
    via: Option<String>,
    /// To the hosts of each recipient's domain, whatever routes there are
    #[arg(long)]
    mx: bool,
    /// As configured
    #[arg(long)]
    default: bool,
}

impl Way {
    fn to(self) -> WayTo {
        match (self.via, self.mx) {
            (Some(relay), _) => WayTo::Via(relay),
            (None, true) => WayTo::Mx,
            (None, false) => WayTo::Default,
        }
    }
}

/// Messages shown in text where nothing else is said.
const LIMIT: usize = 50;
/// Messages asked for at once.
const PAGE: usize = 500;
/// Finished ones below the list.
const FINISHED: usize = 10;
/// Recipients of one message shown in the list.
const RECIPIENTS: usize = 5;

impl Queue {
    pub async fn run(self, client: &Client, screen: &Screen) -> Outcome {
        match self {
            Queue::List {
                select,
                limit,
                finished,
                output,
            } => {
                let what = if finished { What::Finished } else { What::Live };
                let selection = select.selection();
                match output.format() {
                    Format::Json => list_json(client, &selection, limit, what).await,
                    Format::Text => list_text(client, &selection, limit, what, screen).await,
                }
            }
            Queue::Show { id, output } => show_one(client, &id, output.format(), screen).await,
            Queue::Flush {
                select,
                wait,
                timeout,
                output,
            } => {
                let most = wait.then(|| Duration::from_secs(timeout));
                flush(client, select.selection(), most, output.format()).await
            }
            Queue::Hold { select, output } => {
                act(client, Act::Hold, &select, output.format()).await
            }
            Queue::Release { select, output } => {
                act(client, Act::Release, &select, output.format()).await
            }
            Queue::Bounce {
                select,
                yes,
                output,
            } => act(client, Act::Bounce(yes.into()), &select, output.format()).await,
            Queue::Delete {
                select,
                yes,
                output,
            } => act(client, Act::Delete(yes.into()), &select, output.format()).await,
            Queue::Reroute {
                select,
                way,
                output,
            } => act(client, Act::Reroute(way.to()), &select, output.format()).await,
            Queue::Export {
                file,
                select,
                offline,
            } => export::export(client, &file, select.selection(), offline).await,
            Queue::Import {
                file,
                postfix,
                output,
            } => match (postfix, file) {
                (Some(paths), _) => import::postfix(client, &paths, output.format()).await,
                (None, Some(file)) => import::file(client, &file, output.format()).await,
                (None, None) => Err(Trouble::Usage("say which file".to_owned())),
            },
            Queue::Verify { offline, output } => {
                let format = output.format();
                match offline {
                    Some(directory) => verify::offline(directory, format, screen),
                    None => verify::online(client, format, screen).await,
                }
            }
            Queue::Summary {
                select,
                limit,
                output,
            } => {
                let selection = select.selection();
                summarize(client, &selection, limit, output.format(), screen).await
            }
        }
    }
}

/// Which messages a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Those in the queue; in text, the latest finished ones below.
    Live,
    Finished,
}

impl What {
    fn path(self) -> &'static str {
        match self {
            What::Live => "/v1/queue",
            What::Finished => "/v1/queue/finished",
        }
    }
}

async fn list_json(
    client: &Client,
    selection: &Selection,
    limit: Option<usize>,
    what: What,
) -> Outcome {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after = None;
    while left > 0 {
        let page = page(client, what, selection, left.min(PAGE), after).await?;
        for message in &page.messages {
            println!("{}", text::json_line(message));
        }
        left -= page.messages.len().min(left);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(Done::Well)
}

async fn list_text(
    client: &Client,
    selection: &Selection,
    limit: Option<usize>,
    what: What,
    screen: &Screen,
) -> Outcome {
    let limit = limit.unwrap_or(LIMIT);
    let (live, done) = match what {
        What::Live => (
            Some(live(client, selection, limit).await?),
            page(client, What::Finished, selection, FINISHED, None).await?,
        ),
        What::Finished => (None, page(client, what, selection, limit, None).await?),
    };
    let text = render(live.as_ref(), &done, Timestamp::now(), screen);
    println!("{text}");
    Ok(Done::Well)
}

/// Up to `limit` messages. An answer may hold few of them, or none, and yet say that there are more.
async fn live(client: &Client, selection: &Selection, limit: usize) -> Result<PageView, Trouble> {
    let mut all = PageView {
        messages: Vec::new(),
        next: None,
    };
    loop {
        let left = (limit - all.messages.len()).min(PAGE);
        let page = page(client, What::Live, selection, left, all.next).await?;
        all.messages.extend(page.messages);
        all.next = page.next;
        if all.next.is_none() || all.messages.len() >= limit {
            return Ok(all);
        }
    }
}

async fn page(
    client: &Client,
    what: What,
    selection: &Selection,
    limit: usize,
    after: Option<String>,
) -> Result<PageView, Trouble> {
    let mut pairs: Pairs = selection.to_pairs();
    pairs.push(("limit", limit.to_string()));
    pairs.extend(after.map(|id| ("after", id)));
    client.get(what.path(), &pairs).await
}

fn render(live: Option<&PageView>, done: &PageView, now: Timestamp, screen: &Screen) -> String {
    let mut parts = Vec::new();
    match live {
        Some(page) if page.messages.is_empty() => parts.push("No messages wait.".to_owned()),
        Some(page) => {
            let headers = ["ID", "AGE", "TO", "STATE", "TRIES", "NEXT", "LAST REPLY"];
            let rows = page.messages.iter().flat_map(|m| rows(m, now)).collect();
            parts.push(screen.paint_states(&fitted(&headers, rows, screen)));
            if page.next.is_some() {
                let shown = text::count(page.messages.len() as u64, "message");
                parts.push(format!("The first {shown}; more with --limit."));
            }
        }
        None => {}
    }
    if !done.messages.is_empty() {
        let headers = ["ID", "WHEN", "TO", "STATE", "TRIES", "LAST REPLY"];
        let rows = done.messages.iter().flat_map(|m| done_rows(m, now));
        let table = fitted(&headers, rows.collect(), screen);
        parts.push(format!(
            "{}\n{}",
            screen.paint("Recently finished", Tone::Strong),
            screen.paint_states(&table)
        ));
    } else if live.is_none() {
        parts.push("relayd remembers no finished messages.".to_owned());
    }
    parts.join("\n\n")
}

/// Below this many columns the number of tries gives its place to the reply.
const NARROW: usize = 90;

/// The table, on a narrow screen without TRIES and with shorter addresses.
fn fitted(headers: &[&str], mut rows: Vec<Vec<String>>, screen: &Screen) -> String {
    let mut headers = headers.to_vec();
    if screen.width < NARROW {
        let tries = headers.iter().position(|header| *header == "TRIES");
        if let Some(tries) = tries {
            headers.remove(tries);
            rows.iter_mut()
                .filter(|row| tries < row.len())
                .for_each(|row| {
                    row.remove(tries);
                });
        }
        for address in rows.iter_mut().filter_map(|row| row.get_mut(2)) {
            *address = text::shortened(address, 22);
        }
    }
    text::table(&headers, rows, screen)
}

fn rows(message: &MessageView, now: Timestamp) -> Vec<Vec<String>> {
    let age = u64::try_from(now.duration_since(message.arrived).as_secs()).unwrap_or(0);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for recipient in message.recipients.iter().take(RECIPIENTS) {
        let first = rows.is_empty();
        let only_first = |text: String| if first { text } else { String::new() };
        rows.push(vec![
            only_first(message.id.clone()),
            only_first(text::span(age)),
            text::shortened(&recipient.address, 30),
            recipient.state.clone(),
            recipient.attempts.to_string(),
            recipient
                .next_attempt
                .map_or_else(String::new, |at| text::until(at, now)),
            recipient.last_reply.clone().unwrap_or_default(),
        ]);
    }
    rows.extend(and_more(message, 7));
    rows
}

fn done_rows(message: &MessageView, now: Timestamp) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for recipient in message.recipients.iter().take(RECIPIENTS) {
        let first = rows.is_empty();
        rows.push(vec![
            if first {
                message.id.clone()
            } else {
                String::new()
            },
            recipient
                .last_attempt
                .map_or_else(String::new, |at| text::ago(at, now)),
            text::shortened(&recipient.address, 30),
            recipient.state.clone(),
            recipient.attempts.to_string(),
            recipient.last_reply.clone().unwrap_or_default(),
        ]);
    }
    rows.extend(and_more(message, 6));
    rows
}

/// A row that says how many recipients are not shown.
fn and_more(message: &MessageView, columns: usize) -> Option<Vec<String>> {
    let more = message.recipients.len().saturating_sub(RECIPIENTS);
    if more == 0 {
        return None;
    }
    let mut row = vec![String::new(); columns];
    if let Some(cell) = row.get_mut(2) {
        *cell = format!("and {more} more");
    }
    Some(row)
}

async fn show_one(client: &Client, id: &str, format: Format, screen: &Screen) -> Outcome {
    let path = format!("/v1/queue/{}", crate::client::percent_encoded(id));
    let detail: MessageDetail = client.get(&path, &Pairs::new()).await?;
    match format {
        Format::Json => println!("{}", text::json_line(&detail)),
        Format::Text => println!("{}", show::render(&detail, Timestamp::now(), screen)),
    }
    Ok(Done::Well)
}

async fn summarize(
    client: &Client,
    selection: &Selection,
    limit: usize,
    format: Format,
    screen: &Screen,
) -> Outcome {
    let mut pairs = selection.to_pairs();
    pairs.push(("limit", limit.to_string()));
    let view: SummaryView = client.get("/v1/queue/summary", &pairs).await?;
    match format {
        Format::Json => {
            for row in view.domains.iter().chain([&view.total]) {
                println!("{}", text::json_line(row));
            }
        }
        Format::Text => println!("{}", summary::render(&view, screen)),
    }
    Ok(Done::Well)
}

#[cfg(test)]
pub mod samples {
    //! Fixed views for the tests of this and other commands.

    use jiff::{SignedDuration, Timestamp};
    use relay_admin::view::{MessageView, RecipientView};

    pub fn now() -> Timestamp {
        "2026-11-22T16:00:00Z".parse().unwrap()
    }

    pub fn at(seconds_from_now: i64) -> Timestamp {
        now() + SignedDuration::from_secs(seconds_from_now)
    }

    pub fn recipient(address: &str, state: &str, reply: &str) -> RecipientView {
        RecipientView {
            address: address.to_owned(),
            state: state.to_owned(),
            attempts: 1,
            next_attempt: None,
            expires: None,
            last_attempt: Some(at(-240)),
            last_reply: Some(reply.to_owned()),
            rule: None,
            category: None,
            host: None,
            route: None,
            history: Vec::new(),
            advice: None,
        }
    }

    pub fn message(id: &str, recipients: Vec<RecipientView>) -> MessageView {
        MessageView {
            id: id.to_owned(),
            sender: "a@x.test".to_owned(),
            size: 2_048,
            arrived: at(-240),
            user: Some("billing".to_owned()),
            recipients,
        }
    }

    pub fn deferred() -> MessageView {
        let mut waiting = recipient(
            "greylist@example.com",
            "deferred",
            "450 4.7.1 Greylisted, come back in 30 seconds and then try this very same thing again",
        );
        waiting.next_attempt = Some(at(300));
        waiting.expires = Some(at(5 * 86_400 - 240));
        let bounced = recipient("bounce@example.com", "bounced", "550 5.1.1 No such user");
        message("3f7k9q2mxt4p", vec![waiting, bounced])
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn page_of(messages: Vec<MessageView>, next: Option<&str>) -> PageView {
        PageView {
            messages,
            next: next.map(str::to_owned),
        }
    }

    #[test]
    fn the_list_shows_what_waits_and_what_has_just_left() {
        let live = page_of(vec![samples::deferred()], Some("3f7k9q2mxt4p"));
        let delivered = samples::recipient("ok@example.com", "delivered", "250 2.0.0 Accepted");
        let done = page_of(
            vec![samples::message("3f7k9q2mxt4q", vec![delivered])],
            None,
        );
        let text = render(Some(&live), &done, samples::now(), &Screen::plain());
        expect![[r#"
            ID            AGE  TO                    STATE     TRIES  NEXT   LAST REPLY
            3f7k9q2mxt4p  4m   greylist@example.com  deferred  1      in 5m  450 4.7.1 Greylisted, come back in…
                               bounce@example.com    bounced   1             550 5.1.1 No such user

            The first 1 message; more with --limit.

            Recently finished
            ID            WHEN    TO              STATE      TRIES  LAST REPLY
            3f7k9q2mxt4q  4m ago  ok@example.com  delivered  1      250 2.0.0 Accepted"#]]
        .assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= 100));
    }

    #[test]
    fn a_narrow_screen_leaves_room_for_the_reply() {
        let live = page_of(vec![samples::deferred()], None);
        let none = page_of(Vec::new(), None);
        let screen = Screen {
            width: 80,
            ..Screen::plain()
        };
        let text = render(Some(&live), &none, samples::now(), &screen);
        expect![[r#"
            ID            AGE  TO                    STATE     NEXT   LAST REPLY
            3f7k9q2mxt4p  4m   greylist@example.com  deferred  in 5m  450 4.7.1 Greylisted,…
                               bounce@example.com    bounced          550 5.1.1 No such user"#]]
        .assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn a_message_with_many_recipients_takes_few_lines() {
        let with = |number: usize| {
            let recipients = (0..number)
                .map(|n| samples::recipient(&format!("r{n}@example.com"), "queued", ""))
                .collect();
            samples::message("3f7k9q2mxt4p", recipients)
        };
        let rows = rows(&with(8), samples::now());
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[5][2], "and 3 more");
        assert_eq!(done_rows(&with(5), samples::now()).len(), 5);
    }

    #[test]
    fn an_empty_queue_says_so() {
        let none = page_of(Vec::new(), None);
        let screen = Screen::plain();
        assert_eq!(
            render(Some(&none), &none, samples::now(), &screen),
            "No messages wait."
        );
        assert_eq!(
            render(None, &none, samples::now(), &screen),
            "relayd remembers no finished messages."
        );
    }

    #[test]
    fn a_list_row_in_json_has_the_keys_of_the_contract() {
        let line = text::json_line(&samples::deferred());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        for key in ["id", "sender", "size", "arrived", "recipients"] {
            assert!(value.get(key).is_some(), "{key}: {line}");
        }
        for key in [
            "address",
            "state",
            "attempts",
            "next_attempt",
            "expires",
            "last_reply",
            "rule",
            "category",
            "host",
        ] {
            assert!(value["recipients"][0].get(key).is_some(), "{key}: {line}");
        }
        assert_eq!(value["arrived"], "2026-11-22T15:56:00Z");
        assert!(!line.contains('\n'));
    }
}
