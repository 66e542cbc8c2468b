//! An operator gives recipients up: one settlement of their ends and of the DSN about them, as an
//! attempt would make it.

use std::sync::Arc;

use jiff::Timestamp;
use relay_config::Config;
use relay_message::dsn::DsnKind;
use relay_observe::{Basis, Event, Tried};
use relay_policy::{Action, Category, Decision, Fate, Rule};
use relay_queue::{Message, OPERATOR, RecipientChange, Settlement};
use relay_smtp::{EnhancedStatus, Failure, Phase, QueueId};

use crate::report::{Line, Reporter};
use crate::settle::{Reports, Said, Verdict};

/// What an operator gives up.
pub struct GivenUp<'a> {
    pub message: &'a Message,
    /// The start of its body, as [`relay_message::dsn::ORIGINAL_BYTES_MAX`] says, for the DSN.
    pub start: &'a [u8],
    /// Places in the envelope; those that are settled already are left out.
    pub places: &'a [u32],
    pub config: &'a Config,
    pub now: Timestamp,
}

/// The settlement and what is to be told once it is written. A sender `<>` gets no DSN.
pub fn give_up(
    given_up: &GivenUp<'_>,
    mut new_id: impl FnMut() -> QueueId,
) -> (Settlement, Vec<Event>) {
    let GivenUp { message, now, .. } = given_up;
    let open: Vec<_> = message
        .each()
        .filter(|(place, _, state)| !state.state.is_final() && given_up.places.contains(place))
        .collect();
    let decision = decision();
    let mut changes = Vec::with_capacity(open.len());
    let mut events = Vec::new();
    let mut verdicts = Vec::with_capacity(open.len());
    for &(index, recipient, state) in &open {
        let words = match state.last_attempt() {
            Some(last) => format!(
                "given up by an operator; the last answer was: {}",
                last.reply
            ),
            None => "given up by an operator before the first try".to_owned(),
        };
        let mut state = state.clone();
        state.give_up(*now, &words);
        changes.push(RecipientChange { index, state });
        events.push(Event::RecipientBounced {
            id: message.id,
            recipient: recipient.mailbox.to_string(),
            tried: by_operator(message, &words, &decision.action.to_string()),
        });
        verdicts.push(verdict(index, words, &decision));
    }
    let lines: Vec<Line<'_>> = open
        .iter()
        .zip(&verdicts)
        .map(|(&(_, recipient, _), verdict)| Line {
            recipient,
            verdict,
            decision: &decision,
            next_attempt: None,
            expires: None,
        })
        .collect();
    let reporter = Reporter {
        message,
        start: given_up.start,
        config: given_up.config,
        now: *now,
    };
    let dsns = reporter.dsns(DsnKind::Failed, &lines, &mut new_id, &mut events);
    let settlement = Settlement {
        id: message.id,
        changes,
        dsns,
    };
    (settlement, events)
}

/// What an operator did to a recipient, as it stands beside the attempts.
pub fn by_operator(message: &Message, words: &str, action: &str) -> Box<Tried> {
    Box::new(Tried {
        sender: message.envelope.reverse_path.to_string(),
        user: message.arrival.user.clone(),
        site: None,
        host: None,
        tls: None,
        phase: Phase::Dns,
        reply: words.to_owned(),
        basis: Basis::Operator,
        accepted_before: 0,
        rule: OPERATOR.to_owned(),
        category: OPERATOR.to_owned(),
        action: action.to_owned(),
        provider: None,
    })
}

fn verdict(index: u32, words: String, decision: &Decision) -> Verdict {
    Verdict {
        index,
        phase: Phase::Dns,
        said: Said::Failure {
            failure: Failure::Expired,
            words,
        },
        host: None,
        tls: None,
        accepted_before: 0,
        reports: Reports::Ours,
        decision: decision.clone(),
    }
}

/// No rule of the table: a person decided. The category is used for nothing but the type.
fn decision() -> Decision {
    Decision {
        action: Action::Bounce,
        category: Category::Undetermined,
        rule: Arc::new(Rule {
            name: OPERATOR.to_owned(),
            place: "relayctl queue bounce".to_owned(),
            explain: Some("An operator of this mail system has given the message up.".to_owned()),
            fix: None,
            retry: None,
            give_up_after: None,
        }),
        wait: None,
        // No subject of RFC 3463 speaks of a person's decision: 5.0.0, "other undefined status".
        status: EnhancedStatus::permanent(0, 0),
        provider: None,
        fate: Fate::Bounced,
    }
}
