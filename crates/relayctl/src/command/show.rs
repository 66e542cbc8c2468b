//! `relayctl queue show`: one message in text. First why it is still here and what can be done, then
//! what has happened.

use std::collections::BTreeSet;

use jiff::Timestamp;
use relay_admin::view::{Advice, AttemptView, MessageDetail, RecipientView};

use crate::text::{self, Screen, Tone, state_tone};

pub fn render(detail: &MessageDetail, now: Timestamp, screen: &Screen) -> String {
    let message = &detail.message;
    let mut lines = vec![screen.paint(&format!("Message {}", message.id), Tone::Strong)];
    lines.extend(facts(detail, now, screen));
    let mut explained = BTreeSet::new();
    for recipient in &message.recipients {
        lines.push(String::new());
        lines.push(headline(recipient, screen));
        lines.extend(times(recipient, now));
        lines.extend(route(recipient));
        // A rule that many recipients met is explained once.
        let advice = recipient.advice.as_ref();
        if let Some(advice) = advice.filter(|advice| explained.insert(&advice.rule)) {
            lines.extend(self::advice(advice, screen));
        }
        let history = recipient.history.iter();
        lines.extend(history.map(|attempt| self::attempt(attempt, screen)));
    }
    if let Some(headers) = &detail.headers {
        lines.push(String::new());
        lines.push(screen.paint("Header", Tone::Strong));
        lines.extend(headers.lines().map(|l| format!("  {}", text::harmless(l))));
    }
    lines.join("\n")
}

fn facts(detail: &MessageDetail, now: Timestamp, screen: &Screen) -> Vec<String> {
    let message = &detail.message;
    let fact = |name: &str, value: &str| {
        text::paragraph(&format!("  {:<9} ", format!("{name}:")), value, screen)
    };
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
        fact("Sender", &message.sender),
        fact("Arrived", &arrived),
        fact("Size", &text::size(message.size)),
    ];
    if message.priority != 0 {
        facts.push(fact(
            "Priority",
            &format!("{} (of -9 to 9)", message.priority),
        ));
    }
    if let Some(of) = &detail.dsn_of {
        facts.push(fact("Report", &format!("about message {of}")));
    }
    if detail.requiretls {
        facts.push(fact(
            "TLS",
            "required on every hop (REQUIRETLS), else bounced",
        ));
    }
    let waits = detail.blocked_by.iter();
    facts.extend(waits.map(|words| fact("Now", &text::with_times_from_now(words, now))));
    let some = |states: &[&str]| {
        let mut recipients = message.recipients.iter();
        recipients.any(|recipient| states.contains(&recipient.state.as_str()))
    };
    let id = &message.id;
    if some(&["held"]) {
        let held = format!("until an operator says: relayctl queue release --id {id}");
        facts.push(fact("Held", &held));
    }
    if some(&["queued", "deferred"]) {
        let flush = format!("relayctl queue flush --wait --id {id}");
        facts.push(fact("Try now", &flush));
    }
    facts
}

fn headline(recipient: &RecipientView, screen: &Screen) -> String {
    let tone = state_tone(&recipient.state).unwrap_or(Tone::Faint);
    let mut line = format!(
        "{}: {}",
        text::harmless(&recipient.address),
        screen.paint(&recipient.state, tone)
    );
    if let ("held", Some(rule)) = (recipient.state.as_str(), &recipient.rule) {
        line.push_str(&match rule.as_str() {
            "operator" => " by an operator".to_owned(),
            rule => format!(" by rule {rule}"),
        });
    }
    if recipient.attempts > 0 {
        let attempts = text::count(u64::from(recipient.attempts), "attempt");
        line.push_str(&format!(" after {attempts}"));
    }
    line
}

fn times(recipient: &RecipientView, now: Timestamp) -> Vec<String> {
    let line = |what: &str, at: Timestamp| {
        let at = text::to_come(at);
        format!("  {what:<9} {} ({})", text::time(at), text::until(at, now))
    };
    let next = recipient.next_attempt.map(|at| line("Next try", at));
    let expires = recipient.expires.map(|at| line("Expires", at));
    next.into_iter().chain(expires).collect()
}

/// Only where it is not the configured way.
fn route(recipient: &RecipientView) -> Option<String> {
    let words = match recipient.route.as_deref()? {
        "mx" => "the domain's own hosts".to_owned(),
        relay => format!("by way of {}", text::harmless(relay)),
    };
    Some(format!("  {:<9} {words}, by an operator's word", "Route"))
}

/// What the rule of the last decision says about itself.
pub fn advice(advice: &Advice, screen: &Screen) -> Vec<String> {
    let rule = match advice.place.as_str() {
        "" => advice.rule.clone(),
        place => format!("{} ({place})", advice.rule),
    };
    let rows = [
        ("Rule", Some(&rule)),
        ("Meaning", advice.explain.as_ref()),
        ("To do", advice.fix.as_ref()),
    ];
    rows.into_iter()
        .filter_map(|(name, words)| Some((name, words?)))
        .map(|(name, words)| text::paragraph(&format!("  {name:<9} "), words, screen))
        .collect()
}

fn attempt(attempt: &AttemptView, screen: &Screen) -> String {
    let at = format!("  {}  ", text::time(attempt.at));
    let reply = |words: &str| text::paragraph("      ", words, screen);
    // No attempt but an operator's act: there was no host and no phase.
    if attempt.rule == "operator" {
        return text::paragraph(&at, &attempt.reply, screen);
    }
    let tls = attempt.tls.as_deref().unwrap_or("in clear");
    let host = match &attempt.host {
        Some(host) => format!("{host}, {tls}, {}", attempt.phase),
        None => attempt.phase.clone(),
    };
    let decided = format!(
        "{} by rule {} ({})",
        attempt.action, attempt.rule, attempt.category
    );
    [
        text::paragraph(&at, &host, screen),
        reply(&attempt.reply),
        reply(&decided),
    ]
    .join("\n")
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
        message.recipients[0].advice = Some(Advice {
            rule: "greylisting-hint".to_owned(),
            place: "etc/policy.toml:12".to_owned(),
            explain: Some("The host wants to see a second attempt.".to_owned()),
            fix: Some("Nothing: it is tried again when the host says.".to_owned()),
        });
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
            requiretls: false,
            headers: Some("From: a@x.test\nSubject: \x1b[31mred\n".to_owned()),
            blocked_by: vec![
                "example.com: waits for its next attempt at 2026-11-22T16:05:00Z".to_owned(),
            ],
        };
        expect![[r#"
            Message 3f7k9q2mxt4p
              Sender:   a@x.test
              Arrived:  2026-11-22 15:56:00 UTC (4m ago) from 127.0.0.1 by user billing
              Size:     2.0 kB
              Now:      example.com: waits for its next attempt at 2026-11-22 16:05:00 UTC (in 5m)
              Try now:  relayctl queue flush --wait --id 3f7k9q2mxt4p

            greylist@example.com: deferred after 1 attempt
              Next try  2026-11-22 16:05:00 UTC (in 5m)
              Expires   2026-11-27 15:56:00 UTC (in 4d23h)
              Rule      greylisting-hint (etc/policy.toml:12)
              Meaning   The host wants to see a second attempt.
              To do     Nothing: it is tried again when the host says.
              2026-11-22 15:56:00 UTC  mx.example.com [192.0.2.7], TLSv1.3 TLS_AES_256_GCM_SHA384, rcpt
                  450 4.7.1 Greylisted, come back in 30 seconds
                  wait_hint by rule greylisting-hint (greylisted)

            Header
              From: a@x.test
              Subject: �[31mred"#]]
        .assert_eq(&render(&detail, samples::now(), &Screen::plain()));
    }

    #[test]
    fn a_held_message_says_by_whom_and_how_to_let_it_go() {
        let mut held = samples::recipient("b@example.com", "held", "held by an operator");
        held.rule = Some("operator".to_owned());
        held.history = vec![AttemptView {
            at: samples::at(-60),
            host: None,
            tls: None,
            phase: "dns".to_owned(),
            reply: "held by an operator".to_owned(),
            category: "operator".to_owned(),
            action: "hold".to_owned(),
            rule: "operator".to_owned(),
        }];
        let detail = MessageDetail {
            message: samples::message("3f7k9q2mxt4p", vec![held]),
            client: None,
            dsn_of: None,
            requiretls: false,
            headers: None,
            blocked_by: Vec::new(),
        };
        expect![[r#"
            Message 3f7k9q2mxt4p
              Sender:   a@x.test
              Arrived:  2026-11-22 15:56:00 UTC (4m ago) by user billing
              Size:     2.0 kB
              Held:     until an operator says: relayctl queue release --id 3f7k9q2mxt4p

            b@example.com: held by an operator after 1 attempt
              2026-11-22 15:59:00 UTC  held by an operator"#]]
        .assert_eq(&render(&detail, samples::now(), &Screen::plain()));
    }
}
