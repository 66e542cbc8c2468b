//! Recipient -> source: a site that refuses everyone we write to, for a reason that speaks of us.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_smtp::QueueId;

use super::Asked;
use crate::category::Category;
use crate::decide::{Action, Decision, Fate};

/// So many recipients: fewer may all have the same filter of their own.
const RECIPIENTS: usize = 10;
/// Of so many messages: one message may be refused for what is in it, to any number of recipients.
const MESSAGES: usize = 3;
/// Within this time.
const WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// How long the source pauses; then one message tries. As most rules that speak of a block list say.
pub(super) const PAUSE: Duration = Duration::from_secs(3600);
/// Without a further refusal it is forgotten after this.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Pairs of site and source remembered; beyond these the one that was silent longest is forgotten.
const PAIRS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Alike(BTreeMap<(String, Option<IpAddr>), Refusals>);

/// Since the site last took something from this source.
#[derive(Debug)]
struct Refusals {
    /// The latest, at most [`LATEST`] of them.
    latest: VecDeque<(Timestamp, QueueId, Category)>,
    last: Timestamp,
    raised: Raised,
}

/// Enough to find ten of one kind among others.
const LATEST: usize = 4 * RECIPIENTS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raised {
    No,
    /// Until something is taken: the message that tries after the pause must not bounce either.
    Yes,
}

impl Alike {
    pub(super) fn hear(&mut self, asked: &Asked<'_>, decision: &Decision, now: Timestamp) {
        if decision.fate == Fate::Delivered {
            if !self.0.is_empty() {
                self.0.remove(&key(asked));
            }
            return;
        }
        if !counts(decision) {
            return;
        }
        if self.0.len() >= PAIRS_MAX {
            self.make_room(now);
        }
        let refusals = self.0.entry(key(asked)).or_insert_with(|| Refusals {
            latest: VecDeque::new(),
            last: now,
            raised: Raised::No,
        });
        refusals.add(asked.message, decision.category, now);
    }

    pub(super) fn speaks_of_us(
        &self,
        asked: &Asked<'_>,
        decision: &Decision,
        now: Timestamp,
    ) -> bool {
        if self.0.is_empty() || !counts(decision) {
            return false;
        }
        let refusals = self.0.get(&key(asked));
        refusals.is_some_and(|known| known.raised == Raised::Yes && known.lasts(now))
    }

    pub(super) fn forget(&mut self, site: &str) {
        self.0.retain(|(of, _), _| of != site);
    }

    fn make_room(&mut self, now: Timestamp) {
        self.0.retain(|_, refusals| refusals.lasts(now));
        let oldest = self.0.iter().min_by_key(|(_, refusals)| refusals.last);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone())
            && self.0.len() >= PAIRS_MAX
        {
            self.0.remove(&oldest);
        }
    }
}

impl Refusals {
    fn add(&mut self, message: QueueId, category: Category, now: Timestamp) {
        if !self.lasts(now) {
            self.raised = Raised::No;
        }
        self.last = now;
        let fresh = |at: Timestamp| now.duration_since(at) < WITHIN;
        self.latest.retain(|&(at, ..)| fresh(at));
        if self.latest.len() >= LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back((now, message, category));
        let alike = || self.latest.iter().filter(|(.., of)| *of == category);
        let mut messages: Vec<QueueId> = alike().map(|&(_, message, _)| message).collect();
        let recipients = messages.len();
        messages.sort_unstable();
        messages.dedup();
        if recipients >= RECIPIENTS && messages.len() >= MESSAGES {
            self.raised = Raised::Yes;
        }
    }

    fn lasts(&self, now: Timestamp) -> bool {
        now.duration_since(self.last) < KEPT
    }
}

fn key(asked: &Asked<'_>) -> (String, Option<IpAddr>) {
    (asked.site.to_owned(), asked.source)
}

/// A refusal that speaks of our address or name, or of nothing but "policy", and would end with the recipient.
fn counts(decision: &Decision) -> bool {
    let ends_with_recipient = match decision.action {
        Action::Defer | Action::Bounce | Action::BounceSuppress | Action::Alert => true,
        // These concern the flow already, or are an operator's wish, or are tried another way first.
        Action::Ok
        | Action::WaitHint
        | Action::NextMx
        | Action::NewTransaction
        | Action::RetryTls
        | Action::RetryPlain
        | Action::Slow
        | Action::SuspendSource
        | Action::SuspendDestination
        | Action::Hold => false,
    };
    ends_with_recipient && ABOUT_US.contains(&decision.category)
}

/// Not what concerns the sender's domain (`auth-failed`, `sender-rejected`): another sender's mail from
/// the same address would be taken.
const ABOUT_US: [Category; 5] = [
    Category::IpBlocked,
    Category::BadReputation,
    Category::RdnsMissing,
    Category::HeloRejected,
    Category::PolicyRejected,
];
