//! Which host, and which of its addresses, is tried next within one attempt.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use relay_route::next_hop::NoPlan;
use relay_route::{Candidate, Router};
use relay_smtp::{NextHop, Phase};

use crate::open::Refusal;
use crate::settle::Said;

/// Addresses dialled in one attempt: behind more than these there is no help, only waiting.
const ADDRESSES_MAX: u32 = 5;
/// Sessions opened in one attempt.
const SESSIONS_MAX: u32 = 2;

/// The hosts of a next hop, walked through once. DNS is asked only when a host is needed.
pub(crate) struct Hosts {
    hop: NextHop,
    /// None: not asked for yet.
    candidates: Option<VecDeque<Candidate>>,
    current: Option<Current>,
    /// Not to be tried (again) in this attempt.
    left: Vec<String>,
    dialled: u32,
    sessions: u32,
}

struct Current {
    candidate: Candidate,
    /// The first one is next.
    addresses: VecDeque<IpAddr>,
}

/// There is no further host.
pub(crate) enum NoHost {
    /// DNS says so.
    Refused(Refusal),
    /// All have been tried, or as many as one attempt may try.
    TriedEnough,
}

impl Hosts {
    pub fn new(hop: NextHop) -> Hosts {
        Hosts {
            hop,
            candidates: None,
            current: None,
            left: Vec::new(),
            dialled: 0,
            sessions: 0,
        }
    }

    /// The host to dial now: the same one as before, unless its address failed or it was left.
    pub async fn next(&mut self, router: &Router) -> Result<(Candidate, SocketAddr), NoHost> {
        if self.dialled >= ADDRESSES_MAX || self.sessions >= SESSIONS_MAX {
            return Err(NoHost::TriedEnough);
        }
        let mut trouble = None;
        loop {
            if let Some(current) = &self.current
                && let Some(address) = current.addresses.front()
            {
                self.dialled += 1;
                let address = SocketAddr::new(*address, current.candidate.port);
                return Ok((current.candidate.clone(), address));
            }
            self.current = None;
            let Some(candidate) = self.next_candidate(router).await? else {
                return Err(trouble.map_or(NoHost::TriedEnough, NoHost::Refused));
            };
            let addresses = match candidate.address {
                Some(address) => Ok(vec![address]),
                None => router.addresses(&candidate.host).await,
            };
            match addresses {
                Ok(addresses) => {
                    self.current = Some(Current {
                        candidate,
                        addresses: addresses.into(),
                    });
                }
                Err(no_plan) => trouble = Some(refusal(no_plan, Some(candidate.host))),
            }
        }
    }

    async fn next_candidate(&mut self, router: &Router) -> Result<Option<Candidate>, NoHost> {
        let candidates = match &mut self.candidates {
            Some(candidates) => candidates,
            None => {
                let plan = router.plan(&self.hop).await;
                let plan = plan.map_err(|no_plan| NoHost::Refused(refusal(no_plan, None)))?;
                self.candidates.insert(plan.candidates.into())
            }
        };
        while let Some(candidate) = candidates.pop_front() {
            if !self.left.contains(&candidate.host) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// The address that was given last does not work.
    pub fn address_failed(&mut self) {
        if let Some(current) = &mut self.current {
            current.addresses.pop_front();
        }
    }

    /// The address that was given last has not been dialled: something else speaks against its host.
    pub fn not_dialled(&mut self) {
        self.dialled = self.dialled.saturating_sub(1);
    }

    /// A session came about.
    pub fn opened(&mut self) {
        self.sessions += 1;
    }

    /// No more of this host in this attempt.
    pub fn leave(&mut self, host: &str) {
        self.left.push(host.to_owned());
        if let Some(current) = &self.current
            && current.candidate.host == host
        {
            self.current = None;
        }
    }
}

fn refusal(no_plan: NoPlan, host: Option<String>) -> Refusal {
    Refusal {
        phase: Phase::Dns,
        said: Said::Failure {
            failure: no_plan.failure,
            words: no_plan.words,
        },
        host,
        source: None,
        tls: None,
    }
}
