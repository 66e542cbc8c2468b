//! Selecting messages: the SELECT of relayctl, as a value.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use relay_smtp::{Host, QueueId, Recipient};

use crate::message::{Message, RecipientState, State};

/// All given parts must hold. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    pub id: Option<QueueId>,
    /// A recipient's domain, lower case.
    pub to: Option<String>,
    /// An unfinished recipient's domain is one of these, lower case; or some recipient goes another way
    /// than its domain's ([`Message::detours`]): for who knows where domains lead.
    pub ways: Option<Arc<BTreeSet<String>>>,
    /// A recipient's address.
    pub recipient: Option<String>,
    /// The reverse-path; `<>` for the null one.
    pub sender: Option<String>,
    /// Rule or category of a recipient's last decision.
    pub rule: Option<String>,
    pub category: Option<String>,
    /// Arrived before.
    pub before: Option<Timestamp>,
    pub user: Option<String>,
    /// A recipient is to be tried by then at the latest.
    pub due: Option<Timestamp>,
}

impl Select {
    /// Whether the message is meant. Parts about recipients hold if one unfinished recipient has them all.
    pub fn matches(&self, message: &Message) -> bool {
        self.matches_message(message)
            && (!self.names_recipients()
                || message
                    .each()
                    .any(|(_, recipient, state)| self.matches_recipient(recipient, state)))
    }

    /// Whether this recipient of a message that matches is meant: unfinished, and all parts about
    /// recipients hold for it.
    pub fn matches_recipient(&self, recipient: &Recipient, state: &RecipientState) -> bool {
        let last = state.last();
        !state.state.is_final()
            && holds(&self.to, |to| is_host(recipient.mailbox.host(), to))
            && holds(&self.recipient, |text| {
                is_address(&recipient.mailbox.to_string(), text)
            })
            && self.due.is_none_or(|at| is_due(state, at))
            && holds(&self.rule, |rule| last.is_some_and(|l| l.rule == rule))
            && holds(&self.category, |category| {
                last.is_some_and(|l| l.category == category)
            })
    }

    fn matches_message(&self, message: &Message) -> bool {
        self.id.is_none_or(|id| id == message.id)
            && self.before.is_none_or(|at| message.arrival.at < at)
            && holds(&self.user, |user| {
                message.arrival.user.as_deref() == Some(user)
            })
            && (self.ways.as_ref()).is_none_or(|domains| goes_by(message, domains))
            && holds(&self.sender, |sender| {
                is_address(&message.envelope.reverse_path.to_string(), sender)
            })
    }

    fn names_recipients(&self) -> bool {
        self.to.is_some()
            || self.recipient.is_some()
            || self.rule.is_some()
            || self.category.is_some()
            || self.due.is_some()
    }
}

fn goes_by(message: &Message, domains: &BTreeSet<String>) -> bool {
    let in_one = |recipient: &Recipient| {
        domains.contains(&recipient.mailbox.host().to_string().to_ascii_lowercase())
    };
    let mut open = message.each().filter(|(_, _, now)| !now.state.is_final());
    !message.detours.is_empty() || open.any(|(_, recipient, _)| in_one(recipient))
}

fn is_due(state: &RecipientState, at: Timestamp) -> bool {
    match state.state {
        State::Queued | State::Deferred => state.next_attempt <= at,
        State::Held | State::Delivered | State::Bounced | State::Discarded => false,
    }
}

fn holds(part: &Option<String>, test: impl FnOnce(&str) -> bool) -> bool {
    part.as_deref().is_none_or(test)
}

fn is_host(host: &Host, text: &str) -> bool {
    match host {
        Host::Domain(domain) => domain.as_str().eq_ignore_ascii_case(text),
        Host::Address(_) => host.to_string().eq_ignore_ascii_case(text),
    }
}

/// Local parts are compared byte by byte, domains without regard to case (RFC 5321 section 2.4).
fn is_address(address: &str, text: &str) -> bool {
    match (address.rsplit_once('@'), text.rsplit_once('@')) {
        (Some((local, host)), Some((text_local, text_host))) => {
            local == text_local && host.eq_ignore_ascii_case(text_host)
        }
        (_, _) => address == text,
    }
}
