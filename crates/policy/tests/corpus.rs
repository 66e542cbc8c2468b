//! The default table held against known replies: the published codes and the registry.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use relay_policy::{Action, Category, Context, Fate, Stimulus, Table, decide, parse_pasted};
use relay_smtp::{Failure, Phase, Reply};

const CODES: &str = include_str!("data/codes.tsv");

#[test]
fn every_published_code_leads_where_it_should() {
    let table = Table::default_table();
    let mut wrong = Vec::new();
    for line in CODES.lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [phase, provider, category, action, text] = cells[..] else {
            panic!("five cells: {line}");
        };
        let context = Context {
            provider: Some(provider).filter(|name| *name != "-"),
            ..Context::of(phase.parse().unwrap())
        };
        let made = decide(
            &table,
            Stimulus::Reply(&parse_pasted(text).unwrap()),
            &context,
        );
        if (made.category.word(), made.action.word()) != (category, action) {
            wrong.push(format!(
                "{line}\n    but {}/{} by {}",
                made.category, made.action, made.rule.name
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_code_in_every_phase_has_a_decision_and_only_5yz_suppresses() {
    let table = Table::default_table();
    for code in 100..600 {
        for phase in Phase::ALL {
            for text in ["", "no"] {
                let made = decide(
                    &table,
                    Stimulus::Reply(&Reply::new(code, None, text)),
                    &Context::of(phase),
                );
                match code {
                    200..400 => assert_eq!(made.action, Action::Ok, "{code} {phase}"),
                    400..500 => assert_ne!(made.action, Action::BounceSuppress, "{code} {phase}"),
                    _ if phase == Phase::Quit => {}
                    _ => assert_ne!(made.fate, Fate::Delivered, "{code} {phase}"),
                }
            }
        }
    }
}

#[test]
fn every_failure_has_a_decision_and_silence_never_suppresses() {
    let table = Table::default_table();
    let said_by_dns = [Failure::NoSuchDomain, Failure::NullMx, Failure::NoAddress];
    for failure in Failure::ALL {
        for phase in Phase::ALL {
            let made = decide(&table, Stimulus::Failure(failure), &Context::of(phase));
            assert_ne!(made.category, Category::Success, "{failure}");
            let suppressed = made.action == Action::BounceSuppress;
            assert_eq!(suppressed, said_by_dns.contains(&failure), "{failure}");
        }
    }
}

#[test]
fn a_refused_recipient_is_a_full_transaction_only_after_an_accepted_one() {
    let table = Table::default_table();
    let reply = Reply::new(552, None, "");
    let ask = |accepted_before| {
        let context = Context {
            accepted_before,
            ..Context::of(Phase::Rcpt)
        };
        decide(&table, Stimulus::Reply(&reply), &context).category
    };
    assert_eq!(ask(0), Category::MailboxFull);
    assert_eq!(ask(1), Category::TooManyRecipients);
    let full = parse_pasted("552 5.2.2 Mailbox over quota").unwrap();
    let context = Context {
        accepted_before: 1,
        ..Context::of(Phase::Rcpt)
    };
    assert_eq!(
        decide(&table, Stimulus::Reply(&full), &context).category,
        Category::MailboxFull
    );
}

#[test]
fn a_greylisting_hint_becomes_the_waiting_time() {
    let table = Table::default_table();
    let reply =
        parse_pasted("451 4.7.1 Greylisting in action, please come back in 00:02:00").unwrap();
    let made = decide(&table, Stimulus::Reply(&reply), &Context::of(Phase::Rcpt));
    assert_eq!(
        (made.action, made.wait.map(|wait| wait.as_secs())),
        (Action::WaitHint, Some(120))
    );
    assert_eq!(made.status.to_string(), "4.7.1");
}
