//! `relayctl queue show`: one message in text.

use jiff::Timestamp;
use relay_admin::view::{AttemptView, MessageDetail, RecipientView};

use crate::text::{self, Screen, Tone, state_tone};

pub fn render(detail: &MessageDetail, now: Timestamp, screen: &Screen) -> String {
    let message = &detail.message;
    let mut lines = vec![screen.paint(&format!("Message {}", message.id), Tone::Strong)];
    lines.extend(facts(detail, now));
    for recipient in &message.recipients {
        lines.push(String::new());
        lines.push(headline(recipient, screen));
        lines.extend(next(recipient, now));
        lines.extend(recipient.history.iter().map(attempt));
    }
    if let Some(headers) = &detail.headers {
        lines.push(String::new());
        lines.push(screen.paint("Header", Tone::Strong));
        lines.extend(headers.lines().map(|l| format!("  {}", text::harmless(l))));
    }
    lines.join("\n")
}

fn facts(detail: &MessageDetail, now: Timestamp) -> Vec<String> {
    let message = &detail.message;
    let fact = |name: &str, value: &str| format!("  {:<9} {value}", format!("{name}:"));
    let mut arrived = format!(
        "{} ({})",
        text::time(message.arrived),
        text::ago(message.arrived, now)
    );
    if let Some(client) = &detail.client {
        arrived.push_str(&format!(" from {client}"));
    }
    if let Some(user) = &message.user {
        arrived.push_str(&format!(" by user {user}"));
    }
    let mut facts = vec![
        fact("Sender", &text::harmless(&message.sender)),
        fact("Arrived", &arrived),
        fact("Size", &text::size(message.size)),
    ];
    if let Some(of) = &detail.dsn_of {
        facts.push(fact("Report", &format!("about message {of}")));
    }
    facts.extend(detail.blocked_by.iter().map(|words| fact("Now", words)));
    facts
}

fn headline(recipient: &RecipientView, screen: &Screen) -> String {
    let tone = state_tone(&recipient.state).unwrap_or(Tone::Faint);
    let mut line = format!(
        "{}: {}",
        text::harmless(&recipient.address),
        screen.paint(&recipient.state, tone)
    );
    if recipient.attempts > 0 {
        let attempts = text::count(u64::from(recipient.attempts), "attempt");
        line.push_str(&format!(" after {attempts}"));
    }
    line
}

fn next(recipient: &RecipientView, now: Timestamp) -> Option<String> {
    let at =
        |what: &str, at: Timestamp| format!("{what} {} ({})", text::time(at), text::until(at, now));
    let next = recipient.next_attempt.map(|time| at("next try", time));
    let expires = recipient.expires.map(|time| at("given up", time));
    let parts: Vec<String> = next.into_iter().chain(expires).collect();
    (!parts.is_empty()).then(|| format!("  {}", parts.join(", ")))
}

fn attempt(attempt: &AttemptView) -> String {
    let tls = attempt.tls.as_deref().unwrap_or("in clear");
    let host = match &attempt.host {
        Some(host) => format!("{}, {tls}, ", text::harmless(host)),
        None => String::new(),
    };
    format!(
        "  {}  {host}{}\n      {}\n      {} by rule {} ({})",
        text::time(attempt.at),
        attempt.phase,
        text::harmless(&attempt.reply),
        attempt.action,
        attempt.rule,
        attempt.category
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::command::queue::samples;

    #[test]
    fn a_message_is_shown_with_every_attempt_and_what_it_waits_for() {
        let mut message = samples::deferred();
        message.recipients.truncate(1);
        message.recipients[0].history = vec![AttemptView {
            at: samples::at(-240),
            host: Some("mx.example.com [192.0.2.7]".to_owned()),
            tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384".to_owned()),
            phase: "rcpt".to_owned(),
            reply: "450 4.7.1 Greylisted, come back in 30 seconds".to_owned(),
            category: "greylisted".to_owned(),
            action: "wait_hint".to_owned(),
            rule: "greylisting-hint".to_owned(),
        }];
        let detail = MessageDetail {
            message,
            client: Some("127.0.0.1".to_owned()),
            dsn_of: None,
            headers: Some("From: a@x.test\nSubject: \x1b[31mred\n".to_owned()),
            blocked_by: vec!["waits for its next attempt".to_owned()],
        };
        expect![[r#"
            Message 3f7k9q2mxt4p
              Sender:   a@x.test
              Arrived:  2026-11-22 15:56:00 UTC (4m ago) from 127.0.0.1 by user billing
              Size:     2.0 kB
              Now:      waits for its next attempt

            greylist@example.com: deferred after 1 attempt
              next try 2026-11-22 16:05:00 UTC (in 5m), given up 2026-11-27 15:56:00 UTC (in 4d23h)
              2026-11-22 15:56:00 UTC  mx.example.com [192.0.2.7], TLSv1.3 TLS_AES_256_GCM_SHA384, rcpt
                  450 4.7.1 Greylisted, come back in 30 seconds
                  wait_hint by rule greylisting-hint (greylisted)

            Header
              From: a@x.test
              Subject: �[31mred"#]]
        .assert_eq(&render(&detail, samples::now(), &Screen::plain()));
    }
}
