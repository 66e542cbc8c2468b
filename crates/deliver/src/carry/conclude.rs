//! What follows for the attempt from the verdicts of one transaction: who is tried again at once, where, and
//! whether the session may go on.

use std::net::IpAddr;

use relay_policy::{Action, Category, Fate};
use relay_smtp::Phase;

use super::one_try::{Once, Try};
use super::{Carrier, Go};
use crate::judge::{Judged, flow};
use crate::link::Flow;
use crate::open::Peer;
use crate::settle::Verdict;

impl Carrier {
    /// Puts final verdicts aside, tells of what concerns more than the recipient, and returns those
    /// that are to be tried again at once.
    pub(super) async fn sort(
        &mut self,
        judged: Vec<Judged>,
        attempt: &mut Try,
        source: Option<IpAddr>,
    ) -> Rest {
        let mut rest = Rest::default();
        for Judged {
            verdict,
            accepted_before,
        } in judged
        {
            let decision = &verdict.decision;
            self.tell(attempt, decision, &verdict.said, source).await;
            match (decision.fate, decision.action) {
                (Fate::AgainNow, Action::NextMx) => rest.elsewhere.push(verdict),
                (Fate::AgainNow, Action::RetryTls | Action::RetryPlain) => {
                    rest.switch.push(verdict);
                }
                (Fate::AgainNow, _) => {
                    rest.accepted_before.get_or_insert(accepted_before);
                    rest.again.push(verdict);
                }
                (Fate::Delivered | Fate::Deferred | Fate::Bounced | Fate::Held, _) => {
                    if flow(decision, source).is_some() {
                        rest.stop = Some(Go::Stop);
                    }
                    attempt.verdicts.push(verdict);
                }
            }
        }
        rest
    }

    /// Draws the conclusions for this attempt: the second level of a decision.
    pub(super) async fn go_on(&mut self, rest: Rest, peer: Peer, attempt: &mut Try) -> Go {
        let mut keep = Keep::Open;
        if let Some(verdict) = rest.switch.first() {
            keep = Keep::Close;
            match self.switch_tls(attempt, &peer.host, verdict.decision.action) {
                Go::On => attempt.retry(rest.switch),
                Go::Stop => attempt.verdicts.extend(rest.switch),
            }
        }
        if !rest.elsewhere.is_empty() {
            keep = Keep::Close;
            attempt.hosts.leave(&peer.candidate);
            self.remember_elsewhere(&peer, &rest.elsewhere);
            attempt.retry(rest.elsewhere);
        }
        if let Some(first) = rest.again.first() {
            match split(first, rest.accepted_before.unwrap_or(0)) {
                Split::Smaller(recipients) => {
                    self.recipients_learned = Some(recipients);
                    self.send_flow(Flow::RecipientsPerTransaction(recipients))
                        .await;
                    attempt.retry(rest.again);
                }
                Split::NewSession if peer.messages > 1 => {
                    self.send_flow(Flow::MessagesPerConnection(peer.messages - 1))
                        .await;
                    keep = Keep::Close;
                    attempt.retry(rest.again);
                }
                // Not even the first message of a session was taken: another would fare no better.
                Split::NewSession => attempt.verdicts.extend(rest.again),
            }
        }
        match (peer.wire.session.end(), keep) {
            (Some(_), _) => self.closed(&peer),
            (None, Keep::Close) => self.close(peer).await,
            (None, Keep::Open) => self.peer = Some(peer),
        }
        rest.stop.unwrap_or(Go::On)
    }

    /// `retry_plain` and `retry_tls`. What the configuration requires is seen to when the next
    /// session opens: this only changes what opportunistic sessions do.
    pub(super) fn switch_tls(&mut self, attempt: &mut Try, host: &str, action: Action) -> Go {
        if attempt.switched == Once::Done {
            return Go::Stop;
        }
        attempt.switched = Once::Done;
        if action == Action::RetryPlain {
            let now = self.world.clock.now();
            self.world.tls.remember_plain(host, now);
        } else {
            self.world.tls.forget_plain(host);
        }
        Go::On
    }
}

/// Who is to be tried again at once, and how.
#[derive(Default)]
pub(super) struct Rest {
    /// In a new transaction.
    again: Vec<Verdict>,
    /// RCPTs accepted before the first of them was refused.
    accepted_before: Option<u32>,
    /// On another host.
    elsewhere: Vec<Verdict>,
    /// With, or without, TLS.
    switch: Vec<Verdict>,
    stop: Option<Go>,
}

enum Split {
    /// At most so many recipients at a time.
    Smaller(u32),
    NewSession,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Open,
    Close,
}

/// `new_transaction`: fewer recipients at a time, or a session of its own.
fn split(verdict: &Verdict, accepted: u32) -> Split {
    let recipients = match verdict.phase {
        // As many as were taken before the first refusal.
        Phase::Rcpt => accepted,
        // The whole transaction was refused for its size: half of it.
        Phase::Data | Phase::Body if verdict.decision.category == Category::TooManyRecipients => {
            accepted / 2
        }
        Phase::Dns
        | Phase::Connect
        | Phase::Banner
        | Phase::Ehlo
        | Phase::Starttls
        | Phase::Auth
        | Phase::Mail
        | Phase::Data
        | Phase::Body
        | Phase::Quit => 0,
    };
    match recipients {
        0 => Split::NewSession,
        _ => Split::Smaller(recipients),
    }
}
