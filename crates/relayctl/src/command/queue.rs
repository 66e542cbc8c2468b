//! `relayctl queue ...`: look at messages. What is done to them is in [`super::act`] and
//! [`super::flush`].

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use relay_admin::reroute::WayTo;
use relay_admin::select::Selection;
use relay_admin::view::{MessageDetail, SummaryView};

use crate::Output;
use crate::client::{Client, Pairs};
use crate::command::act::{Act, act};
use crate::command::flush::flush;
use crate::command::list::{What, list_json, list_text};
use crate::command::select::Select;
use crate::command::{export, import, show, summary, verify};
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{self, Format, Screen};

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
            priority: 0,
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
