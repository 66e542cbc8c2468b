//! Which host, and which of its addresses, is tried next within one attempt.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use relay_route::next_hop::NoPlan;
use relay_route::{Candidate, Router};
use relay_schedule::Reach;
use relay_smtp::{NextHop, Phase};

use crate::host_memory::{HostMemory, LastFailure, Place, Standing};
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
    left: Vec<(String, u16)>,
    /// Whether hosts that are known to be dead are tried, too.
    reach: Reach,
    /// To be tried when there are no others.
    last: VecDeque<(Candidate, IpAddr)>,
    dead: VecDeque<Dead>,
    dialled: u32,
    sessions: u32,
}

struct Current {
    candidate: Candidate,
    /// The first one is next.
    addresses: VecDeque<IpAddr>,
    /// The one that may be dialled, whatever is remembered of it.
    granted: Option<IpAddr>,
}

/// A host that was passed over.
struct Dead {
    candidate: Candidate,
    address: IpAddr,
    until: Timestamp,
    last: LastFailure,
}

/// There is no further host.
pub(crate) enum NoHost {
    /// DNS says so.
    Refused(Refusal),
    /// None of those that could be tried has answered lately.
    Dead(Refusal),
    /// All have been tried, or as many as one attempt may try.
    TriedEnough,
}

impl Hosts {
    pub fn new(hop: NextHop, reach: Reach) -> Hosts {
        Hosts {
            hop,
            candidates: None,
            current: None,
            left: Vec::new(),
            reach,
            last: VecDeque::new(),
            dead: VecDeque::new(),
            dialled: 0,
            sessions: 0,
        }
    }

    /// The host to dial now: the same one as before, unless its address failed or it was left. Those
    /// that were of no use lately come last; those that do not answer are passed over.
    pub async fn next(
        &mut self,
        router: &Router,
        memory: &HostMemory,
        now: Timestamp,
    ) -> Result<(Candidate, SocketAddr), NoHost> {
        if self.dialled >= ADDRESSES_MAX || self.sessions >= SESSIONS_MAX {
            return Err(NoHost::TriedEnough);
        }
        let mut trouble = None;
        loop {
            if let Some((candidate, address)) = self.next_address(memory, now) {
                self.dialled += 1;
                let address = SocketAddr::new(address, candidate.port);
                return Ok((candidate, address));
            }
            self.current = None;
            let Some(candidate) = self.next_candidate(router).await? else {
                if self.take_put_off() {
                    continue;
                }
                return Err(self.none_left(trouble));
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
                        granted: None,
                    });
                }
                Err(no_plan) => trouble = Some(refusal(no_plan, Some(candidate.host))),
            }
        }
    }

    /// Of the current host. What is not to be tried now is put off.
    fn next_address(&mut self, memory: &HostMemory, now: Timestamp) -> Option<(Candidate, IpAddr)> {
        let current = self.current.as_mut()?;
        loop {
            let address = *current.addresses.front()?;
            let candidate = || current.candidate.clone();
            if current.granted == Some(address) {
                return Some((candidate(), address));
            }
            let place = Place {
                host: current.candidate.host.clone(),
                port: current.candidate.port,
                address,
            };
            match memory.standing(&place, now) {
                Standing::Alive | Standing::Probe => {
                    let candidate = candidate();
                    current.granted = Some(address);
                    return Some((candidate, address));
                }
                Standing::TryLast => self.last.push_back((candidate(), address)),
                Standing::PassOver { until, last } => {
                    let candidate = candidate();
                    self.dead.push_back(Dead {
                        candidate,
                        address,
                        until,
                        last,
                    });
                }
            }
            current.addresses.pop_front();
        }
    }

    /// One that was put off becomes the current one.
    fn take_put_off(&mut self) -> bool {
        let left = &self.left;
        self.last.retain(|(one, _)| !is_left(left, one));
        self.dead.retain(|one| !is_left(left, &one.candidate));
        let next = self.last.pop_front().or_else(|| match self.reach {
            Reach::All => self
                .dead
                .pop_front()
                .map(|one| (one.candidate, one.address)),
            Reach::Living => None,
        });
        let Some((candidate, address)) = next else {
            return false;
        };
        self.current = Some(Current {
            candidate,
            addresses: VecDeque::from([address]),
            granted: Some(address),
        });
        true
    }

    /// Where all were passed over, what they came to last is said again, without waiting for it.
    fn none_left(&self, trouble: Option<Refusal>) -> NoHost {
        match (trouble, self.dead.front()) {
            (Some(refusal), _) => NoHost::Refused(refusal),
            (None, Some(dead)) if self.dialled == 0 => NoHost::Dead(dead.refusal()),
            (None, Some(_) | None) => NoHost::TriedEnough,
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
            if !is_left(&self.left, &candidate) {
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

    /// Its session has carried as much as one may. The next one is none that is opened for a failure.
    pub fn used_up(&mut self) {
        self.sessions = self.sessions.saturating_sub(1);
        self.dialled = self.dialled.saturating_sub(1);
    }

    /// No more of this host in this attempt.
    pub fn leave(&mut self, host: &Candidate) {
        self.left.push((host.host.clone(), host.port));
        if let Some(current) = &self.current
            && is_left(&self.left, &current.candidate)
        {
            self.current = None;
        }
    }
}

/// Relays of one host are told apart by their ports.
fn is_left(left: &[(String, u16)], candidate: &Candidate) -> bool {
    let is = |(host, port): &(String, u16)| *host == candidate.host && *port == candidate.port;
    left.iter().any(is)
}

impl Dead {
    fn refusal(&self) -> Refusal {
        let host = match self.candidate.host.starts_with('[') {
            true => self.candidate.host.clone(),
            false => format!("{} [{}]", self.candidate.host, self.address),
        };
        Refusal {
            phase: self.last.phase,
            said: Said::Failure {
                failure: self.last.failure,
                words: format!(
                    "not tried: known not to answer, next probe from {} ({})",
                    self.until.round(jiff::Unit::Second).unwrap_or(self.until),
                    self.last.words
                ),
            },
            host: Some(host),
            source: None,
            tls: None,
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
