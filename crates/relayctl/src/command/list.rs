//! `relayctl queue list`: which messages wait, and which have just left.

use std::io::{self, IsTerminal};

use jiff::Timestamp;
use relay_admin::select::Selection;
use relay_admin::view::{MessageView, PageView};

use crate::client::{Client, Pairs};
use crate::command::act::Progress;
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{self, Screen, Tone};

/// Messages shown in text where nothing else is said.
const LIMIT: usize = 50;
/// Messages asked for at once.
const PAGE: usize = 500;
/// Finished ones below the list.
const FINISHED: usize = 10;
/// Recipients of one message shown in the list.
const RECIPIENTS: usize = 5;

/// Which messages a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
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

/// All of them, a line each; `limit`: at most so many.
pub async fn list_json(
    client: &Client,
    selection: &Selection,
    limit: Option<usize>,
    what: What,
) -> Outcome {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after = None;
    // On a terminal the lines themselves show how far it is.
    let progress = (!io::stdout().is_terminal()).then(|| Progress::new("listed"));
    let mut listed = 0;
    while left > 0 {
        let page = page(client, what, selection, left.min(PAGE), after).await?;
        for message in &page.messages {
            println!("{}", text::json_line(message));
        }
        left -= page.messages.len().min(left);
        listed += page.messages.len() as u64;
        progress.iter().for_each(|progress| progress.show(listed));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    progress.iter().for_each(Progress::end);
    Ok(Done::Well)
}

/// A table of the first ones.
pub async fn list_text(
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
    let progress = Progress::new("found");
    loop {
        let left = (limit - all.messages.len()).min(PAGE);
        let page = page(client, What::Live, selection, left, all.next).await?;
        all.messages.extend(page.messages);
        all.next = page.next;
        progress.show(all.messages.len() as u64);
        if all.next.is_none() || all.messages.len() >= limit {
            progress.end();
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::command::queue::samples;

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
