//! Tables: from verdicts to settlements.

use std::sync::LazyLock;

use rand::SeedableRng;
use rand::rngs::StdRng;
use relay_policy::{Context, Stimulus, Table, decide};
use relay_queue::Arrival;
use relay_smtp::envelope::{Envelope, Notify, Wanted};
use relay_smtp::{Domain, Mailbox, ReversePath};

use super::*;

/// Compiling it takes longer than a whole test.
static TABLE: LazyLock<Table> = LazyLock::new(Table::default_table);

const ARRIVED: &str = "2026-11-22T12:00:00Z";
const BODY: &[u8] = b"From: a@s.example\r\nSubject: hello\r\n\r\nhello\r\n";

/// One message to three recipients of one domain, settled `age` after it arrived.
struct Case {
    sender: ReversePath,
    notify: Option<Notify>,
    age: Duration,
    state: RecipientState,
    reports: Reports,
    /// `dsn.copies_to` and `dsn.double_bounces_to`.
    operator: Option<&'static str>,
}

impl Case {
    fn new() -> Case {
        Case {
            sender: ReversePath::Mailbox(mailbox("a@s.example")),
            notify: None,
            age: Duration::from_secs(10),
            state: RecipientState::new(ARRIVED.parse().unwrap()),
            reports: Reports::Ours,
            operator: None,
        }
    }

    fn aged(hours: u64) -> Case {
        Case {
            age: Duration::from_secs(hours * 3600),
            ..Case::new()
        }
    }

    fn message(&self) -> Message {
        let recipients = ["b@r.example", "c@r.example", "d@r.example"];
        Message {
            id: QueueId::from_u64(7),
            envelope: Envelope {
                reverse_path: self.sender.clone(),
                recipients: recipients
                    .iter()
                    .map(|address| Recipient {
                        notify: self.notify,
                        ..Recipient::plain(mailbox(address))
                    })
                    .collect(),
                body_type: Default::default(),
                utf8: Default::default(),
                require_tls: Default::default(),
                priority: Default::default(),
                ret: None,
                envid: None,
            },
            arrival: Arrival {
                at: ARRIVED.parse().unwrap(),
                client: None,
                user: None,
                dsn_of: None,
            },
            size: BODY.len() as u64,
            recipients: vec![self.state.clone(); recipients.len()],
            detours: Default::default(),
        }
    }

    /// `said`: by recipient, phase and reply, or the word of a failure.
    fn settle(&self, said: &[(u32, Phase, &str)]) -> Settling {
        let verdicts = said
            .iter()
            .map(|(index, phase, text)| self.verdict(*index, *phase, text))
            .collect();
        let message = self.message();
        let mut config = Config::default_for("relay.example");
        config.dsn.copies_to = self.operator.map(str::to_owned);
        config.dsn.double_bounces_to = self.operator.map(str::to_owned);
        let expired = Stimulus::Failure(Failure::Expired);
        let arrived: Timestamp = ARRIVED.parse().unwrap();
        let input = Input {
            message: &message,
            start: BODY,
            hop: &NextHop::Domain(Domain::parse("r.example").unwrap()),
            site: Some("mx.r.example"),
            verdicts,
            expired: decide(&TABLE, expired, &Context::of(Phase::Rcpt)),
            config: &config,
            now: later(arrived, self.age).unwrap(),
            news: SiteNews::Good,
        };
        settle(
            &input,
            || QueueId::from_u64(100),
            &mut StdRng::seed_from_u64(1),
        )
    }

    fn verdict(&self, index: u32, phase: Phase, text: &str) -> Verdict {
        let failure = Failure::ALL.into_iter().find(|f| f.word() == text);
        let said = match failure {
            Some(failure) => Said::Failure {
                failure,
                words: format!("{text} in words"),
            },
            None => Said::Reply(relay_policy::parse_pasted(text).unwrap()),
        };
        let stimulus = match &said {
            Said::Reply(reply) => Stimulus::Reply(reply),
            Said::Failure { failure, .. } => Stimulus::Failure(*failure),
        };
        let decision = decide(&TABLE, stimulus, &Context::of(phase));
        Verdict {
            index,
            phase,
            said,
            host: Some("mx.r.example [192.0.2.1]".to_owned()),
            tls: None,
            accepted_before: 0,
            reports: self.reports,
            decision,
        }
    }
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn states(settling: &Settling) -> Vec<(u32, State)> {
    settling
        .settlement
        .changes
        .iter()
        .map(|change| (change.index, change.state.state))
        .collect()
}

#[test]
fn each_reply_leads_to_its_state() {
    for (phase, text, wanted) in [
        (Phase::Body, "250 2.0.0 ok", State::Delivered),
        (Phase::Body, "451 4.3.0 try later", State::Deferred),
        (Phase::Rcpt, "550 5.1.1 no such user", State::Bounced),
        (Phase::Connect, "refused", State::Deferred),
        (Phase::Dns, "null-mx", State::Bounced),
        (Phase::Dns, "no-such-domain", State::Bounced),
        (Phase::Dns, "dns-trouble", State::Deferred),
        (Phase::Body, "lost-after-body", State::Deferred),
        (Phase::Mail, "too-many-hops", State::Bounced),
        (Phase::Mail, "too-big-for-host", State::Bounced),
    ] {
        let settling = Case::new().settle(&[(1, phase, text)]);
        assert_eq!(states(&settling), [(1, wanted)], "{text}");
        let state = &settling.settlement.changes[0].state;
        assert_eq!(state.attempts, 1);
        let last = state.last().unwrap();
        assert_eq!(last.phase, phase);
        assert!(!last.rule.is_empty() && !last.reply.is_empty());
    }
}

#[test]
fn several_failed_recipients_share_one_dsn_and_the_others_are_due_again() {
    let settling = Case::new().settle(&[
        (0, Phase::Rcpt, "550 5.1.1 no such user"),
        (1, Phase::Rcpt, "550 5.1.1 no such user either"),
        (2, Phase::Body, "451 4.3.0 later"),
    ]);
    let [dsn] = settling.settlement.dsns.as_slice() else {
        panic!("{:?}", settling.settlement.dsns);
    };
    assert_eq!(dsn.envelope.reverse_path, ReversePath::Null);
    assert_eq!(
        dsn.envelope.recipients,
        [Recipient::plain(mailbox("a@s.example"))]
    );
    assert_eq!(dsn.arrival.dsn_of, Some(QueueId::from_u64(7)));
    let text = String::from_utf8_lossy(dsn.body.in_memory().unwrap());
    assert!(text.contains("b@r.example") && text.contains("c@r.example"));
    assert!(!text.contains("d@r.example"));
    let due = settling.settlement.changes[2].state.next_attempt;
    assert_eq!(settling.report.due_again, Some(due));
    let told = settling.events.iter();
    assert!(
        told.clone()
            .any(|event| matches!(event, Event::DsnQueued { .. }))
    );
}

#[test]
fn recipients_without_a_verdict_are_left_as_they_are() {
    let settling = Case::new().settle(&[(0, Phase::Body, "250 ok")]);
    assert_eq!(states(&settling), [(0, State::Delivered)]);
    assert_eq!(settling.report.due_again, Some(ARRIVED.parse().unwrap()));
    let all = [0, 1, 2].map(|index| (index, Phase::Body, "250 ok"));
    assert_eq!(Case::new().settle(&all).report.due_again, None);
}

#[test]
fn nobody_is_told_of_a_bounce_from_the_null_path() {
    let case = Case {
        sender: ReversePath::Null,
        ..Case::new()
    };
    let settling = case.settle(&[(0, Phase::Rcpt, "550 5.1.1 no such user")]);
    assert_eq!(states(&settling), [(0, State::Bounced)]);
    assert!(settling.settlement.dsns.is_empty());
    let not_sent = |event: &Event| matches!(event, Event::DsnNotSent { .. });
    assert!(settling.events.iter().any(not_sent));
}

#[test]
fn notify_is_honoured() {
    let only_success = Notify::On {
        success: Wanted::Yes,
        failure: Wanted::No,
        delay: Wanted::No,
    };
    let failure = Notify::On {
        success: Wanted::No,
        failure: Wanted::Yes,
        delay: Wanted::No,
    };
    for (notify, failed, delayed) in [
        (None, 1, 1),
        (Some(Notify::Never), 0, 0),
        (Some(only_success), 0, 0),
        (Some(failure), 1, 0),
    ] {
        let case = Case {
            notify,
            ..Case::aged(5)
        };
        let bounce = case.settle(&[(0, Phase::Rcpt, "550 5.1.1 no such user")]);
        assert_eq!(bounce.settlement.dsns.len(), failed, "{notify:?}");
        let delay = case.settle(&[(0, Phase::Body, "451 4.3.0 later")]);
        assert_eq!(delay.settlement.dsns.len(), delayed, "{notify:?}");
    }
}

#[test]
fn a_delay_is_told_once_and_not_before_its_time() {
    let said = [(0, Phase::Body, "451 4.3.0 later")];
    let early = Case::aged(3).settle(&said);
    assert!(early.settlement.dsns.is_empty());
    assert!(!early.settlement.changes[0].state.warned);

    let late = Case::aged(5).settle(&said);
    let text =
        String::from_utf8_lossy(late.settlement.dsns[0].body.in_memory().unwrap()).into_owned();
    assert!(text.contains("Action: delayed"), "{text}");
    let state = late.settlement.changes[0].state.clone();
    assert!(state.warned);

    let case = Case {
        state,
        ..Case::aged(7)
    };
    assert!(case.settle(&said).settlement.dsns.is_empty());
}

#[test]
fn an_expired_recipient_bounces_with_its_last_reply_and_a_permanent_status() {
    let settling = Case::aged(24 * 6).settle(&[(0, Phase::Body, "451 4.3.0 still no")]);
    assert_eq!(states(&settling), [(0, State::Bounced)]);
    let last = settling.settlement.changes[0].state.last().unwrap().clone();
    assert!(last.reply.contains("still no"), "{last:?}");
    assert_eq!(last.category, "message-expired");
    let text =
        String::from_utf8_lossy(settling.settlement.dsns[0].body.in_memory().unwrap()).into_owned();
    assert!(text.contains("Status: 5.4.7"), "{text}");
    assert!(text.contains("still no"), "{text}");
    let Event::RecipientBounced { tried, .. } = &settling.events[0] else {
        panic!("{:?}", settling.events);
    };
    // Whoever decides again later must decide on the age, not on the reply.
    assert!(matches!(tried.basis, Basis::Failure(Failure::Expired)));
    assert_eq!(tried.site.as_deref(), Some("mx.r.example"));
}

#[test]
fn a_time_in_the_reply_is_kept() {
    let settling = Case::new().settle(&[(
        0,
        Phase::Rcpt,
        "450 4.7.1 Greylisted, please try again in 300 seconds",
    )]);
    let state = &settling.settlement.changes[0].state;
    let now: Timestamp = "2026-11-22T12:00:10Z".parse().unwrap();
    let wait = state.next_attempt.duration_since(now).as_secs();
    assert!((300..=345).contains(&wait), "{wait} s");
}

#[test]
fn a_recipient_need_not_sit_out_the_slowness_of_its_site() {
    let settling = Case::new().settle(&[(
        0,
        Phase::Connect,
        "421 4.7.0 too many connections from your address",
    )]);
    let state = &settling.settlement.changes[0].state;
    assert_eq!(state.history.last().unwrap().action, "slow");
    // By the schedule's first step, a minute, not by the rule's quarter of an hour.
    let now: Timestamp = "2026-11-22T12:00:10Z".parse().unwrap();
    let wait = state.next_attempt.duration_since(now).as_secs();
    assert!((50..=70).contains(&wait), "{wait} s");
}

const SUCCESS: Notify = Notify::On {
    success: Wanted::Yes,
    failure: Wanted::No,
    delay: Wanted::No,
};

/// The text of each report, and whom it is for.
fn reports(settling: &Settling) -> Vec<(String, String)> {
    let dsns = settling.settlement.dsns.iter();
    dsns.map(|dsn| {
        let text = String::from_utf8_lossy(dsn.body.in_memory().unwrap()).into_owned();
        assert_eq!(dsn.envelope.reverse_path, ReversePath::Null);
        (dsn.envelope.recipients[0].mailbox.to_string(), text)
    })
    .collect()
}

#[test]
fn a_success_that_was_asked_for_is_told_once_for_all_where_the_host_will_not_tell() {
    let taken = [
        (0, Phase::Body, "250 2.0.0 ok"),
        (1, Phase::Body, "250 2.0.0 ok"),
        (2, Phase::Rcpt, "550 5.1.1 no such user"),
    ];
    let case = Case {
        notify: Some(SUCCESS),
        ..Case::new()
    };
    let told = reports(&case.settle(&taken));
    let [(to, text)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(to, "a@s.example");
    assert_eq!(text.matches("Action: relayed").count(), 2, "{text}");
    assert_eq!(text.matches("Status: 2.0.0").count(), 2, "{text}");
    assert!(!text.contains("d@r.example"), "{text}");

    let passed_on = Case {
        reports: Reports::PassedOn,
        ..case
    };
    assert!(reports(&passed_on.settle(&taken)).is_empty());
    for notify in [None, Some(Notify::Never)] {
        let case = Case {
            notify,
            ..Case::new()
        };
        assert!(reports(&case.settle(&taken[..2])).is_empty());
    }
}

#[test]
fn an_operator_gets_a_copy_of_every_failure_and_what_has_no_sender_to_be_told() {
    let refused = [(0, Phase::Rcpt, "550 5.1.1 no such user")];
    let to = |case: Case| -> Vec<String> {
        let told = reports(&case.settle(&refused));
        told.into_iter().map(|(to, _)| to).collect()
    };
    let operator = Some("postmaster@s.example");
    let case = |notify, sender| Case {
        operator,
        notify,
        sender,
        ..Case::new()
    };
    let sender = || ReversePath::Mailbox(mailbox("a@s.example"));
    assert_eq!(
        to(case(None, sender())),
        ["postmaster@s.example", "a@s.example"]
    );
    assert_eq!(
        to(case(Some(Notify::Never), sender())),
        ["postmaster@s.example"]
    );
    assert_eq!(to(case(None, ReversePath::Null)), ["postmaster@s.example"]);
    // The operator's own mailbox refuses: that leads to nothing more.
    let itself = Case {
        operator: Some("b@r.example"),
        sender: ReversePath::Null,
        ..Case::new()
    };
    assert!(to(itself).is_empty());
    let delayed = Case {
        operator,
        ..Case::aged(5)
    };
    let delayed = delayed.settle(&[(0, Phase::Body, "451 4.3.0 later")]);
    assert_eq!(reports(&delayed).len(), 1);
}
