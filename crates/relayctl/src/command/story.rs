//! Entries of the history in an operator's words: a message's story, or a line each.

use relay_observe::history::Entry;

use crate::text::{self, Screen, Tone};

/// Recipients that are named one by one.
const NAMED: usize = 5;

/// What happened, with everything that is known of it, below its time. For the story of one message.
pub fn part(entry: &Entry, screen: &Screen) -> String {
    let (words, tone) = headline(entry);
    let time = text::time(entry.at);
    let mut lines = vec![format!("{time}  {}", painted(&words, tone, screen))];
    let detail = |words: &str| text::paragraph("    ", words, screen);
    if entry.host.is_some() || entry.phase.is_some() && entry.rule.as_deref() != Some("operator") {
        lines.push(detail(&place(entry)));
    }
    if let Some(reply) = &entry.reply {
        lines.push(detail(reply));
    }
    if let (Some(rule), Some(action), false) = (&entry.rule, &entry.action, by_operator(entry)) {
        let category = entry.category.as_deref().unwrap_or_default();
        lines.push(detail(&format!("{action} by rule {rule} ({category})")));
    }
    if let Some(fix) = &entry.fix {
        lines.push(detail(&format!("To do: {fix}")));
    }
    lines.join("\n")
}

/// One line, cut at the screen's width. For lists.
pub fn line(entry: &Entry, screen: &Screen) -> String {
    let (words, tone) = headline(entry);
    let id = entry.id.map_or_else(String::new, |id| format!("{id}  "));
    let mut rest = words;
    if let Some(rule) = entry.rule.as_ref().filter(|_| !by_operator(entry)) {
        rest.push_str(&format!(" by {rule}"));
    }
    if let Some(reply) = &entry.reply {
        rest.push_str(&format!(": {reply}"));
    }
    let begin = format!("{}  {id}", text::time(entry.at));
    let left = screen.width.saturating_sub(begin.chars().count()).max(20);
    let rest = text::shortened(&rest, left);
    format!("{begin}{}", painted(&rest, tone, screen))
}

fn painted(words: &str, tone: Option<Tone>, screen: &Screen) -> String {
    let words = text::harmless(words);
    match tone {
        Some(tone) => screen.paint(&words, tone),
        None => words,
    }
}

fn by_operator(entry: &Entry) -> bool {
    entry.rule.as_deref() == Some("operator")
}

/// What happened, in one sentence, and how it is to be seen.
fn headline(entry: &Entry) -> (String, Option<Tone>) {
    let recipient = entry.recipient.as_deref().unwrap_or_default();
    let site = entry.site.as_deref().unwrap_or_default();
    let until = entry.until.map_or_else(String::new, text::time);
    let count = entry.count.unwrap_or_default();
    let because = entry.reason.as_deref().unwrap_or_default();
    match entry.event.as_str() {
        "message_accepted" => (accepted(entry), None),
        "client_gone_before_reply" => (
            "the client left before it heard that the message was accepted; it may send it again"
                .to_owned(),
            Some(Tone::Warning),
        ),
        "recipient_delivered" => {
            let after = entry.age.map_or_else(String::new, |age| {
                format!(" after {}", text::span(age.max(0.0) as u64))
            });
            (format!("{recipient}: delivered{after}"), Some(Tone::Good))
        }
        "recipient_deferred" => (
            format!("{recipient}: deferred until {until}"),
            Some(Tone::Warning),
        ),
        "recipient_bounced" if by_operator(entry) => (
            format!("{recipient}: given up by an operator"),
            Some(Tone::Bad),
        ),
        "recipient_bounced" => (format!("{recipient}: bounced"), Some(Tone::Bad)),
        "recipient_held" if by_operator(entry) => (
            format!("{recipient}: held by an operator"),
            Some(Tone::Warning),
        ),
        "recipient_held" => (format!("{recipient}: held"), Some(Tone::Warning)),
        "recipient_released" => (format!("{recipient}: released by an operator"), None),
        "recipient_rerouted" => {
            let way = match &entry.route {
                Some(route) => format!("route {route}"),
                None => "its configured way".to_owned(),
            };
            (format!("{recipient}: sent by an operator over {way}"), None)
        }
        "recipient_discarded" => (format!("{recipient}: deleted by an operator"), None),
        "suppression_added" => {
            let until = match entry.until {
                Some(until) => format!(" until {}", text::time(until)),
                None => String::new(),
            };
            (
                format!("{recipient}: not to be tried again{until}"),
                Some(Tone::Warning),
            )
        }
        "report_received" => {
            let kind = entry.action.as_deref().unwrap_or_default();
            match kind {
                "failed" => (
                    format!("{recipient}: a report came back, the mail failed further on"),
                    Some(Tone::Bad),
                ),
                "complaint" => (format!("{recipient}: complained about it"), Some(Tone::Bad)),
                other => (format!("{recipient}: a report came back, {other}"), None),
            }
        }
        "suppression_removed" => (format!("{recipient}: may be tried again"), None),
        "dsn_queued" => {
            let about = entry
                .of
                .map_or_else(String::new, |of| format!(" about {of}"));
            let id = entry.id.map_or_else(String::new, |id| id.to_string());
            (format!("report {id}{about} to {recipient} queued"), None)
        }
        "dsn_not_sent" => (
            format!("{recipient}: no report, the message has no sender"),
            None,
        ),
        "session_failed" => (format!("session to {site} failed"), Some(Tone::Warning)),
        "site_slowed" => (
            format!("site {site} slowed down until {until}"),
            Some(Tone::Warning),
        ),
        "site_suspended" => (
            format!("site {site} suspended until {until}"),
            Some(Tone::Warning),
        ),
        "site_resumed" => (format!("site {site} resumed"), None),
        "alert" => (
            format!("site {site}: a person should look"),
            Some(Tone::Bad),
        ),
        "flushed" => (
            format!("{} flushed by an operator", text::count(count, "message")),
            None,
        ),
        "queue_recovered" => (
            format!("queue read at start: {}", text::count(count, "message")),
            None,
        ),
        "history_lost" => (
            format!(
                "{} missing here: the disk did not keep up",
                text::count(count, "event")
            ),
            Some(Tone::Bad),
        ),
        "queue_stopped" => (
            format!("the queue takes no more mail: {because}"),
            Some(Tone::Bad),
        ),
        "outcome_unwritten" => (
            format!("its outcome could not be written, it is sent once more: {because}"),
            Some(Tone::Bad),
        ),
        "reload_refused" => (
            "reload refused; the old configuration stays".to_owned(),
            Some(Tone::Warning),
        ),
        "stopping" => (
            format!("relayd stops; {} open", text::count(count, "session")),
            None,
        ),
        // The others, and those that a newer relayd has written, say it by their name.
        other => {
            let words = other.replace('_', " ");
            match because {
                "" => (format!("relayd: {words}"), None),
                because => (format!("relayd: {words}, {because}"), None),
            }
        }
    }
}

fn accepted(entry: &Entry) -> String {
    let mut words = "accepted".to_owned();
    if let Some(client) = &entry.client {
        words.push_str(&format!(" from {client}"));
    }
    if let Some(user) = &entry.user {
        words.push_str(&format!(" by user {user}"));
    }
    let sender = entry.sender.as_deref().unwrap_or("<>");
    let total = entry.recipients_total.unwrap_or_default();
    let named: Vec<&str> = entry
        .recipients
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect();
    let mut to = named.join(", ");
    if total > named.len() as u64 {
        to.push_str(&format!(" and {} more", total - named.len() as u64));
    }
    let size = text::size(entry.size.unwrap_or_default());
    words.push_str(&format!(", {size}: {sender} to {to}"));
    words
}

fn place(entry: &Entry) -> String {
    let phase = entry.phase.map_or("", |phase| phase.word());
    match &entry.host {
        Some(host) => {
            let tls = entry.tls.as_deref().unwrap_or("in clear");
            match entry.event.as_str() {
                "session_failed" => format!("{host}, {phase}"),
                _ => format!("{host}, {tls}, {phase}"),
            }
        }
        None => phase.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn entries() -> Vec<Entry> {
        let accepted = r#"{"at":"2026-11-22T16:00:00.000Z","event":"message_accepted","id":"3f7k9q2mxt4p","sender":"app@x.test","recipients":["a@example.com","b@example.com"],"recipients_total":2,"size":2000,"client":"127.0.0.1","user":"billing"}"#;
        let deferred = r#"{"at":"2026-11-22T16:00:01.000Z","event":"recipient_deferred","id":"3f7k9q2mxt4p","sender":"app@x.test","recipient":"a@example.com","host":"mx.example.com [192.0.2.7]","tls":"TLSv1.3 TLS_AES_256_GCM_SHA384","phase":"rcpt","code":450,"enhanced":"4.7.1","reply":"450 4.7.1 Greylisted, come back in 30 seconds","rule":"greylisted","category":"greylisted","action":"wait_hint","until":"2026-11-22T16:00:31Z"}"#;
        let bounced = r#"{"at":"2026-11-22T16:00:02.000Z","event":"recipient_bounced","id":"3f7k9q2mxt4p","recipient":"b@example.com","phase":"dns","reply":"given up by an operator before the first try","rule":"operator","category":"operator","action":"bounce"}"#;
        let report = r#"{"at":"2026-11-22T16:00:02.000Z","event":"dsn_queued","id":"3f7k9q2mxt5q","of":"3f7k9q2mxt4p","sender":"<>","recipient":"app@x.test"}"#;
        let newer =
            r#"{"at":"2026-11-22T16:00:03.000Z","event":"moon_landed","reason":"it was time"}"#;
        [accepted, deferred, bounced, report, newer]
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_story_tells_who_said_what_and_what_came_of_it() {
        let story: Vec<String> = entries()
            .iter()
            .map(|entry| part(entry, &Screen::plain()))
            .collect();
        expect![[r#"
            2026-11-22 16:00:00 UTC  accepted from 127.0.0.1 by user billing, 2.0 kB: app@x.test to a@example.com, b@example.com
            2026-11-22 16:00:01 UTC  a@example.com: deferred until 2026-11-22 16:00:31 UTC
                mx.example.com [192.0.2.7], TLSv1.3 TLS_AES_256_GCM_SHA384, rcpt
                450 4.7.1 Greylisted, come back in 30 seconds
                wait_hint by rule greylisted (greylisted)
            2026-11-22 16:00:02 UTC  b@example.com: given up by an operator
                given up by an operator before the first try
            2026-11-22 16:00:02 UTC  report 3f7k9q2mxt5q about 3f7k9q2mxt4p to app@x.test queued
            2026-11-22 16:00:03 UTC  relayd: moon landed, it was time"#]].assert_eq(&story.join("\n"));
    }

    #[test]
    fn a_list_has_a_line_for_each_that_fits_the_screen() {
        let list: Vec<String> = entries()
            .iter()
            .map(|entry| line(entry, &Screen::plain()))
            .collect();
        assert!(list.iter().all(|line| line.chars().count() <= 100));
        expect![[r#"
            2026-11-22 16:00:00 UTC  3f7k9q2mxt4p  accepted from 127.0.0.1 by user billing, 2.0 kB: app@x.test …
            2026-11-22 16:00:01 UTC  3f7k9q2mxt4p  a@example.com: deferred until 2026-11-22 16:00:31 UTC by gre…
            2026-11-22 16:00:02 UTC  3f7k9q2mxt4p  b@example.com: given up by an operator: given up by an opera…
            2026-11-22 16:00:02 UTC  3f7k9q2mxt5q  report 3f7k9q2mxt5q about 3f7k9q2mxt4p to app@x.test queued
            2026-11-22 16:00:03 UTC  relayd: moon landed, it was time"#]].assert_eq(&list.join("\n"));
    }
}
