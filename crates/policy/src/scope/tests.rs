//! What a site answers, in its order, and what becomes of the last one of each line.

use jiff::SignedDuration;
use relay_smtp::Phase;

use super::*;
use crate::{Context, Stimulus, Table, decide, parse_pasted};

struct Play {
    table: Table,
    scope: Scope,
    now: Timestamp,
    message: QueueId,
    unbelieved: usize,
}

/// `T: +9m` lets time pass, `O: believe` is the operator. `N WHO each|one REPLY = ACTION RULE`: the
/// recipients WHO0, WHO1... of a message each, or of one, get the reply; what becomes of the last.
fn play(transcript: &str) -> Play {
    let mut play = Play {
        table: Table::default_table(),
        scope: Scope::default(),
        now: Timestamp::UNIX_EPOCH,
        message: QueueId::from_u64(1),
        unbelieved: 0,
    };
    for line in transcript
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if let Some(time) = line.strip_prefix("T: +") {
            let span: SignedDuration = time.parse().unwrap();
            play.now = play.now.checked_add(span).unwrap();
        } else if line == "O: believe" {
            play.scope.believe("mx", play.now);
        } else {
            play.answers(line);
        }
    }
    play
}

impl Play {
    fn answers(&mut self, line: &str) {
        let (asked, expected) = line.split_once(" = ").unwrap();
        let parts: Vec<&str> = asked.splitn(4, ' ').collect();
        let [count, who, messages, reply] = parts[..] else {
            panic!("{line}");
        };
        let mut last = None;
        self.message = self.message.next();
        for number in 0..count.parse().unwrap() {
            if messages == "each" {
                self.message = self.message.next();
            }
            last = Some(self.answer(&format!("{who}{number}@rcpt.example"), reply));
        }
        let last = last.unwrap();
        assert_eq!(
            format!("{} {}", last.action, last.rule.name),
            expected,
            "{line}"
        );
    }

    fn answer(&mut self, recipient: &str, reply: &str) -> Decision {
        let reply = parse_pasted(reply).unwrap();
        let phase = match reply.code {
            250 => Phase::Body,
            _ => Phase::Rcpt,
        };
        let decision = decide(&self.table, Stimulus::Reply(&reply), &Context::of(phase));
        let asked = Asked {
            site: "mx",
            source: None,
            message: self.message,
            recipient: &Mailbox::parse(recipient).unwrap(),
        };
        self.now = self
            .now
            .checked_add(SignedDuration::from_millis(10))
            .unwrap();
        match self.scope.hear(&asked, &decision, self.now) {
            Heard::Nothing => {}
            Heard::Unbelieved(recipients) => self.unbelieved += recipients.len(),
        }
        let raised = self.scope.raised(&asked, &decision, self.now);
        assert!(
            raised
                .as_ref()
                .is_none_or(|raised| raised.fate == Fate::Deferred)
        );
        raised.unwrap_or(decision)
    }
}

const TAKEN: &str = "each 250 2.0.0 Ok = ok accepted";

#[test]
fn ten_of_three_messages_refused_for_what_we_are_suspend_the_source_until_one_is_taken() {
    play(
        "9 a each 550 5.7.25 no reverse DNS = alert rdns-missing
         1 b each 550 5.7.25 no reverse DNS = suspend_source many-refused-alike
         1 c each 550 5.1.1 No such user = bounce_suppress recipient-unknown
         1 d each 554 5.7.1 Message rejected due to administrative policy = suspend_source many-refused-alike
         T: +1h
         1 probe each 550 5.7.25 no reverse DNS = suspend_source many-refused-alike
         T: +1h
         1 probe each 250 2.0.0 Ok = ok accepted
         1 e each 550 5.7.25 no reverse DNS = alert rdns-missing",
    );
}

#[test]
fn one_message_may_be_refused_to_any_number_and_what_is_taken_meanwhile_counts_against_it() {
    play(
        "40 a one 554 5.7.1 Message rejected due to administrative policy = bounce refused-for-policy
         1 b each 250 2.0.0 Ok = ok accepted
         9 c each 554 5.7.1 Message rejected due to administrative policy = bounce refused-for-policy
         1 d each 250 2.0.0 Ok = ok accepted
         9 e each 554 5.7.1 Message rejected due to administrative policy = bounce refused-for-policy
         T: +10m
         9 f each 554 5.7.1 Message rejected due to administrative policy = bounce refused-for-policy
         O: believe
         1 g each 554 5.7.1 Message rejected due to administrative policy = bounce refused-for-policy",
    );
}

#[test]
fn a_site_that_took_nearly_all_and_now_knows_nobody_is_not_believed() {
    let played = play(&format!(
        "2 wrong each 550 5.1.1 No such user = bounce_suppress recipient-unknown
         70 a {TAKEN}
         9 b each 550 5.1.1 No such user = bounce_suppress recipient-unknown
         1 c each 550 5.1.1 No such user = defer unusually-many-unknown
         T: +3h
         30 d each 550 5.1.1 No such user = defer unusually-many-unknown
         T: +3h
         1 e each 550 5.1.1 No such user = defer unusually-many-unknown
         30 f {TAKEN}
         1 g each 550 5.1.1 No such user = bounce_suppress recipient-unknown"
    ));
    assert_eq!(
        played.unbelieved, 10,
        "what was suppressed before is undone"
    );
}

#[test]
fn addresses_that_took_mail_and_are_unknown_now_tell_a_broken_directory_without_a_usual_share() {
    let played = play(&format!(
        "3 a {TAKEN}
         17 b each 550 5.1.1 No such user = bounce_suppress recipient-unknown
         2 a each 550 5.1.1 No such user = bounce_suppress recipient-unknown
         3 a each 550 5.1.1 No such user = defer unusually-many-unknown"
    ));
    assert_eq!(played.unbelieved, 20);
}

#[test]
fn an_old_list_is_believed_and_so_is_a_site_where_many_were_always_unknown() {
    play("200 old each 550 5.1.1 No such user = bounce_suppress recipient-unknown");
    let mut mixed = String::new();
    for round in 0..30 {
        mixed += &format!(
            "2 a{round} {TAKEN}\n1 b{round} each 550 5.1.1 No such user = bounce_suppress recipient-unknown\n"
        );
    }
    play(&(mixed + "40 c each 550 5.1.1 No such user = bounce_suppress recipient-unknown"));
}

#[test]
fn the_doubt_ends_after_a_day_or_by_an_operators_word() {
    let broken = format!(
        "70 a {TAKEN}
         10 b each 550 5.1.1 No such user = defer unusually-many-unknown\n"
    );
    play(&format!(
        "{broken} O: believe
         30 c each 550 5.1.1 No such user = bounce_suppress recipient-unknown"
    ));
    let three_hours = "T: +3h\n1 d each 550 5.1.1 No such user = defer unusually-many-unknown\n";
    play(&format!(
        "{broken}{}T: +3h
         30 e each 550 5.1.1 No such user = bounce_suppress recipient-unknown",
        three_hours.repeat(7)
    ));
    play(&format!(
        "{broken} T: +4h
         1 f each 550 5.1.1 No such user = bounce_suppress recipient-unknown"
    ));
}
