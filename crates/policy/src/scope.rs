//! Many failures alike raise the scope of a decision: what one reply says of a recipient, twenty say of us
//! or of the other side.
//!
//! It only ever turns a bounce or a deferral into a deferral. What is heard of hosts is `schedule`'s.

mod alike;
mod unknown;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use relay_smtp::{Mailbox, QueueId};

use crate::decide::{Action, Decision, Fate, Rule};
use crate::status::status;
use alike::Alike;
use unknown::Unknown;

/// Stands behind a source address that is suspended since many were refused alike.
pub const MANY_REFUSED_ALIKE: &str = "many-refused-alike";
/// Stands behind recipients that wait although the site says that they do not exist.
pub const UNUSUALLY_MANY_UNKNOWN: &str = "unusually-many-unknown";

static RULES: LazyLock<[Arc<Rule>; 2]> = LazyLock::new(|| {
    [
        (
            MANY_REFUSED_ALIKE,
            "The site has refused ten recipients of at least three messages from this source address for one reason that speaks of us, and taken none meanwhile.",
            "Read the reply: have the address taken off the block list, or give it a name in DNS. Then: relayctl site resume SITE",
        ),
        (
            UNUSUALLY_MANY_UNKNOWN,
            "The site says of unusually many recipients that they do not exist, also of some that took mail or where nearly all did: rather its directory is broken. They wait, and nobody is suppressed.",
            "Ask the site's operator. If the addresses are really gone, say so, and they bounce: relayctl site resume SITE",
        ),
    ]
    .map(|(name, explain, fix)| {
        Arc::new(Rule {
            name: name.to_owned(),
            place: "built in".to_owned(),
            explain: Some(explain.to_owned()),
            fix: Some(fix.to_owned()),
            retry: None,
            give_up_after: None,
        })
    })
});

/// The built-in rule of this name.
pub fn rule(name: &str) -> Option<Arc<Rule>> {
    RULES.iter().find(|rule| rule.name == name).cloned()
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub site: &'a str,
    /// None: the kernel chose it.
    pub source: Option<IpAddr>,
    pub message: QueueId,
    pub recipient: &'a Mailbox,
}

/// What follows from one more answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    /// The site is no longer believed. These are the recipients that it called unknown shortly before:
    /// what that did to the suppression list is to be undone.
    Unbelieved(Vec<Mailbox>),
}

/// What all sites have said lately. Its memory is bounded, and a restart begins anew: it takes some
/// twenty answers to know as much again.
#[derive(Debug, Default)]
pub struct Scope {
    alike: Alike,
    unknown: Unknown,
}

impl Scope {
    /// One more recipient has been answered, and this is what the table says of it.
    pub fn hear(&mut self, asked: &Asked<'_>, decision: &Decision, now: Timestamp) -> Heard {
        self.alike.hear(asked, decision, now);
        self.unknown.hear(asked, decision, now)
    }

    /// What the decision becomes by what others were told; None: it stands.
    pub fn raised(
        &self,
        asked: &Asked<'_>,
        decision: &Decision,
        now: Timestamp,
    ) -> Option<Decision> {
        let (name, action, wait) = if self.unknown.doubts(asked, decision, now) {
            (UNUSUALLY_MANY_UNKNOWN, Action::Defer, None)
        } else if self.alike.speaks_of_us(asked, decision, now) {
            let pause = Some(alike::PAUSE);
            (MANY_REFUSED_ALIKE, Action::SuspendSource, pause)
        } else {
            return None;
        };
        let fate = Fate::Deferred;
        Some(Decision {
            action,
            category: decision.category,
            rule: rule(name)?,
            wait,
            status: status(decision.category, fate, Some(decision.status)),
            provider: decision.provider.clone(),
            fate,
        })
    }

    /// An operator's word: the site is right, and what it said before no longer counts.
    pub fn believe(&mut self, site: &str, now: Timestamp) {
        self.alike.forget(site);
        self.unknown.believe(site, now);
    }
}

#[cfg(test)]
mod tests;
