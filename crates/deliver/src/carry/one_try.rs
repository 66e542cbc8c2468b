//! One attempt, as far as it has come: who is still to be tried, what the others were told, which hosts
//! are left.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use relay_policy::Decision;
use relay_schedule::SiteNews;
use relay_schedule::SourceChoice;
use relay_smtp::client::Outcome;
use relay_smtp::{Failure, Phase};

use crate::hosts::Hosts;
use crate::job::Job;
use crate::open::{Peer, Refusal};
use crate::settle::{Reports, Verdict};
use crate::trace::Tap;

/// One attempt, as far as it has come.
pub(crate) struct Try {
    /// Still to be tried in this attempt.
    pub(super) pending: VecDeque<u32>,
    pub verdicts: Vec<Verdict>,
    /// What stands if there is no further host or transaction for them.
    pub(super) fallback: BTreeMap<u32, Verdict>,
    pub(super) hosts: Hosts,
    /// Rules that the dispatcher and the operator have been told of.
    pub(super) told: Vec<String>,
    pub news: SiteNews,
    /// A session that turned out to be dead was replaced.
    pub(super) replaced: Once,
    /// TLS was switched on or off by the policy.
    pub(super) switched: Once,
    /// Which local addresses it may go from. One that is suspended meanwhile is avoided from then on.
    pub(super) sources: SourceChoice,
    /// Of the host that is being called, where somebody watches.
    pub(super) tap: Option<Tap>,
}

/// What an attempt does only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Once {
    NotYet,
    Done,
}

impl Try {
    pub(super) fn new(job: &Job, sources: SourceChoice) -> Try {
        Try {
            pending: job.due.iter().copied().collect(),
            verdicts: Vec::new(),
            fallback: BTreeMap::new(),
            hosts: Hosts::new(job.hop.clone(), job.reach),
            told: Vec::new(),
            news: SiteNews::Neutral,
            replaced: Once::NotYet,
            switched: Once::NotYet,
            sources,
            tap: None,
        }
    }

    /// Whether an open session comes from an address that will do.
    pub(super) fn may_use(&self, source: Option<IpAddr>) -> bool {
        match (source, self.sources.prefer) {
            (None, _) => true,
            (Some(source), Some(wanted)) => source == wanted,
            (Some(source), None) => !self.sources.avoid.contains(&source),
        }
    }

    /// Whether a session that had lain idle was gone before its MAIL was answered. Servers close
    /// idle sessions without a word, so the message gets a new session, once.
    pub(super) fn died_idle(&mut self, peer: &Peer, outcomes: &[Outcome]) -> bool {
        let lost_at_mail = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Failed {
                    phase: Phase::Mail,
                    failure: Failure::Lost,
                    ..
                }
            )
        };
        let died =
            peer.messages > 0 && self.replaced == Once::NotYet && outcomes.iter().all(lost_at_mail);
        if died {
            self.replaced = Once::Done;
        }
        died
    }

    pub(super) fn put_back(&mut self, chunk: &[u32]) {
        for index in chunk.iter().rev() {
            self.pending.push_front(*index);
        }
    }

    /// They are tried again in this attempt; the verdict stands if that is not to be had.
    pub(super) fn retry(&mut self, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            self.pending.push_back(verdict.index);
            self.fallback.insert(verdict.index, verdict);
        }
    }

    /// Nobody can be tried any more: the last failure decides.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal, decision: &Decision) {
        for index in std::mem::take(&mut self.pending) {
            self.verdicts.push(Verdict {
                index,
                phase: refusal.phase,
                said: refusal.said.clone(),
                host: refusal.host.clone(),
                tls: refusal.tls.clone(),
                accepted_before: 0,
                reports: Reports::Ours,
                decision: decision.clone(),
            });
        }
    }
}
