//! One host of an attempt: which is next, opened, and remembered where it was of no use.

use std::net::SocketAddr;

use rand::rngs::StdRng;
use relay_policy::{Action, Decision};
use relay_route::Candidate;
use relay_smtp::{Failure, Phase};

use super::Carrier;
use super::one_try::Try;
use crate::host_memory::{LastFailure, Place, Trouble, trouble_of};
use crate::hosts::NoHost;
use crate::open::{Peer, Refusal, Target};
use crate::settle::{Said, Verdict};

impl Carrier {
    /// The host to dial now.
    pub(super) async fn next_host(
        &mut self,
        attempt: &mut Try,
    ) -> Result<(Candidate, SocketAddr), NoHost> {
        let now = self.world.clock.now();
        let (router, memory) = (&self.world.router, &self.world.hosts);
        attempt.hosts.next(router, memory, now).await
    }

    /// A host that has answered, and by the policy is not the one to speak to now.
    pub(super) fn remember_sent_away(
        &mut self,
        place: Place,
        refusal: &Refusal,
        decision: &Decision,
    ) {
        if let (Said::Reply(_), Action::NextMx) = (&refusal.said, decision.action) {
            self.rest(place, refusal.phase, refusal.said.text());
        }
    }

    /// The same, found out by a transaction.
    pub(super) fn remember_elsewhere(&mut self, peer: &Peer, verdicts: &[Verdict]) {
        if let Some(first) = verdicts.first() {
            let words = first.said.text();
            let place = Place::new(&peer.host, peer.address);
            self.rest(place, first.phase, words);
        }
    }

    fn rest(&mut self, place: Place, phase: Phase, words: String) {
        let last = LastFailure {
            phase,
            failure: Failure::Lost,
            words,
        };
        let now = self.world.clock.now();
        let (hosts, rng) = (&self.world.hosts, &mut self.rng);
        hosts.failed(place, Trouble::Resting, last, (now, now), rng);
    }
}

/// Opens a session; whether the host is there is known from then on.
pub(super) async fn open_remembered(
    target: &Target<'_>,
    rng: &mut StdRng,
) -> Result<Peer, Refusal> {
    let world = target.world;
    // Our own settings say so, not the host.
    target.check_address()?;
    let began = world.clock.now();
    let place = Place::new(&target.candidate.host, target.address);
    let opened = target.open().await;
    match &opened {
        Ok(_) => world.hosts.good(&place),
        Err(Refusal {
            phase,
            said: Said::Failure { failure, words },
            ..
        }) => {
            if let Some(trouble) = trouble_of(*phase, *failure) {
                let last = LastFailure {
                    phase: *phase,
                    failure: *failure,
                    words: words.clone(),
                };
                let times = (began, world.clock.now());
                world.hosts.failed(place, trouble, last, times, rng);
            }
        }
        // It speaks; what that means is the policy's part.
        Err(Refusal {
            said: Said::Reply(_),
            ..
        }) => world.hosts.good(&place),
    }
    opened
}
