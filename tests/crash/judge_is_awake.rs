//! The judge judged: forged histories, each with one fault, and the complaint that it must raise.

use relay_testkit::Offer;

use crate::history::{Committed, Copy, History, Left, Offered, Report};
use crate::judge::judge;

#[test]
fn a_good_history_is_passed() {
    complains_of(&good(), &[]);
}

#[test]
fn one_lost_recipient_of_two_is_seen() {
    let mut history = good();
    history
        .copies
        .retain(|copy| copy.recipient != "b@takes.example");
    complains_of(&history, &["lost: b@takes.example of id1"]);
}

#[test]
fn a_delivery_under_another_id_than_the_promised_is_seen() {
    let mut history = good();
    history.copies[0].id = "other".to_owned();
    complains_of(&history, &["lost: a@takes.example was promised as id1"]);
}

#[test]
fn a_bounce_without_its_report_is_seen() {
    let mut history = good();
    history.reports.clear();
    history.copies.retain(|copy| copy.id != "dsn2");
    complains_of(&history, &["lost: x@nobody.example of id2"]);
}

#[test]
fn a_message_without_a_sender_needs_its_refusal_and_no_report() {
    let mut history = good();
    history.offered[1].sender = String::new();
    history.reports.clear();
    history.copies.retain(|copy| copy.id != "dsn2");
    complains_of(&history, &[]);
    history.refused.clear();
    complains_of(&history, &["lost: x@nobody.example of id2"]);
}

#[test]
fn a_message_without_a_250_may_exist_or_not() {
    let mut history = good();
    history.offered[0].answer = Offer::Lost;
    complains_of(&history, &[]);
    history.copies.retain(|copy| copy.id != "id1");
    complains_of(&history, &[]);
}

#[test]
fn a_second_copy_within_one_life_is_seen() {
    let mut history = good();
    history.copies.push(history.copies[0].clone());
    complains_of(
        &history,
        &["doubled: a@takes.example got id1 twice in life 1"],
    );
}

#[test]
fn a_second_copy_after_the_commit_is_seen() {
    let mut history = good();
    let again = Copy {
        life: 2,
        ..history.copies[0].clone()
    };
    history.copies.push(again);
    complains_of(
        &history,
        &["doubled: a@takes.example got id1 in life 2, after"],
    );
}

#[test]
fn a_second_copy_is_forgiven_where_a_crash_came_before_the_commit() {
    let mut history = good();
    let again = Copy {
        life: 2,
        ..history.copies[0].clone()
    };
    history.copies.push(again);
    history.committed.clear();
    complains_of(&history, &[]);
}

#[test]
fn a_report_delivered_twice_is_judged_as_any_message() {
    let mut history = good();
    let again = history
        .copies
        .iter()
        .find(|copy| copy.id == "dsn2")
        .cloned();
    history.copies.extend(again);
    complains_of(&history, &["doubled: s2@sender.example got dsn2 twice"]);
}

#[test]
fn two_reports_of_one_bounce_are_seen() {
    let mut history = good();
    history.reports.push(Report {
        id: "dsn3".to_owned(),
        ..history.reports[0].clone()
    });
    complains_of(&history, &["reported: x@nobody.example more than once"]);
}

#[test]
fn a_report_of_what_was_delivered_is_seen() {
    let mut history = good();
    history.reports[0].failed.push("a@takes.example".to_owned());
    complains_of(
        &history,
        &[
            "reported: a@takes.example to s2@sender.example in dsn2",
            "reported: a@takes.example as failed, and delivered",
            "reported: a@takes.example as failed, its host never said so",
        ],
    );
}

#[test]
fn a_changed_text_is_seen() {
    let mut history = good();
    history.copies[0].text.pop();
    complains_of(&history, &["changed: a@takes.example"]);
}

#[test]
fn a_message_that_nobody_sent_is_seen() {
    let mut history = good();
    history.copies[0].recipient = "stranger@takes.example".to_owned();
    complains_of(
        &history,
        &["lost: a@takes.example", "invented: stranger@takes.example"],
    );
}

#[test]
fn what_stays_in_the_queue_or_in_quarantine_is_seen() {
    let mut history = good();
    history
        .copies
        .retain(|copy| copy.recipient != "b@takes.example");
    history.left.push(Left {
        id: "id1".to_owned(),
        recipient: "b@takes.example".to_owned(),
    });
    history.quarantined.push("seg-1.record".to_owned());
    complains_of(
        &history,
        &["not calm: b@takes.example of id1", "not calm: seg-1.record"],
    );
}

#[test]
fn a_refused_message_is_seen() {
    let mut history = good();
    history.offered[0].answer = Offer::Refused("452 4.3.1 full".to_owned());
    complains_of(
        &history,
        &["not calm: [\"a@takes.example\", \"b@takes.example\"] in life 1 heard 452 4.3.1 full"],
    );
}

/// Exactly these complaints, by how they begin.
fn complains_of(history: &History, expected: &[&str]) {
    let complaints = judge(history);
    let fits = complaints.len() == expected.len()
        && complaints
            .iter()
            .zip(expected)
            .all(|(complaint, begin)| complaint.starts_with(begin));
    assert!(
        fits,
        "expected {expected:#?}, the judge says {complaints:#?}"
    );
}

/// Two recipients delivered, one refused and reported.
fn good() -> History {
    let offered = |number: u32, recipients: &[&str]| Offered {
        life: 1,
        sender: format!("s{number}@sender.example"),
        recipients: recipients.iter().map(|r| (*r).to_owned()).collect(),
        text: format!("text {number}\r\n"),
        answer: Offer::Promised(format!("id{number}")),
    };
    let copy = |id: &str, recipient: &str, text: &str| Copy {
        id: id.to_owned(),
        recipient: recipient.to_owned(),
        life: 1,
        text: text.to_owned(),
    };
    let committed = |id: &str, recipient: &str| Committed {
        life: 1,
        id: id.to_owned(),
        recipient: recipient.to_owned(),
    };
    History {
        offered: vec![
            offered(1, &["a@takes.example", "b@takes.example"]),
            offered(2, &["x@nobody.example"]),
        ],
        copies: vec![
            copy("id1", "a@takes.example", "text 1\r\n"),
            copy("id1", "b@takes.example", "text 1\r\n"),
            copy("dsn2", "s2@sender.example", "a report"),
        ],
        reports: vec![Report {
            id: "dsn2".to_owned(),
            to: "s2@sender.example".to_owned(),
            failed: vec!["x@nobody.example".to_owned()],
        }],
        refused: vec!["x@nobody.example".to_owned()],
        committed: vec![
            committed("id1", "a@takes.example"),
            committed("id1", "b@takes.example"),
            committed("dsn2", "s2@sender.example"),
        ],
        ..History::default()
    }
}
