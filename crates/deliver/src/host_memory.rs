//! Hosts that could not be used lately: dead ones are passed over, those that sent us to another host
//! are tried last. One probe at a time finds out whether a dead one is back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, RngExt};
use relay_smtp::client::Chunking;
use relay_smtp::{Failure, Phase};

/// The first time that a dead host is left alone, doubled by each failed probe.
const DEAD_FIRST: SignedDuration = SignedDuration::from_secs(60);
const DEAD_MAX: SignedDuration = SignedDuration::from_secs(15 * 60);
/// How long a host that refused BDAT gets DATA.
const WITHOUT_CHUNKS: SignedDuration = SignedDuration::from_hours(24);
/// How long a host is tried last that answered, but sent us away.
const RESTING: SignedDuration = SignedDuration::from_secs(60);
/// Addresses remembered. Beyond these the list begins anew: then a time-out is waited for once more.
const ADDRESSES_MAX: usize = 20_000;

/// Shared by all sessions. No lock is held across a wait.
#[derive(Debug, Default)]
pub struct HostMemory {
    all: Mutex<BTreeMap<Place, Known>>,
    /// How many there are: mostly none, and then nobody waits for the lock.
    count: AtomicUsize,
    /// Hosts that offer CHUNKING and refuse BDAT, and when they get another chance.
    without_chunks: Mutex<BTreeMap<String, Timestamp>>,
}

/// A host by one of its addresses. Relays at one address are told apart by their ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub host: String,
    pub port: u16,
    pub address: IpAddr,
}

impl Place {
    pub(crate) fn new(host: &str, address: SocketAddr) -> Place {
        Place {
            host: host.to_owned(),
            port: address.port(),
            address: address.ip(),
        }
    }

    fn is_of(&self, (host, port): &(String, u16)) -> bool {
        self.host == *host && self.port == *port
    }
}

#[derive(Clone, Debug)]
struct Known {
    trouble: Trouble,
    since: Timestamp,
    until: Timestamp,
    /// In a row.
    failures: u32,
    probe: Probe,
    last: LastFailure,
}

/// What it came to last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastFailure {
    pub phase: Phase,
    pub failure: Failure,
    pub words: String,
}

/// How badly a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It does not answer. To find that out again costs a time-out.
    Dead,
    /// It answers, and is of no use.
    Resting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    /// Since then. A session that ended without a word must not keep the host dead for ever.
    Out(Timestamp),
}

/// A probe that has not come back after this is given up.
const PROBE_TAKES_MAX: SignedDuration = SignedDuration::from_secs(600);

/// What may be done with a host now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Alive,
    /// Its time is over, and the caller is the one who finds out.
    Probe,
    TryLast,
    PassOver {
        until: Timestamp,
        last: LastFailure,
    },
}

/// For operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTrouble {
    pub host: String,
    pub address: SocketAddr,
    /// `dead` or `tried last`.
    pub state: &'static str,
    pub until: Timestamp,
    /// What it came to.
    pub why: String,
}

impl HostMemory {
    /// Whether a host that offers CHUNKING is to be believed.
    pub(crate) fn chunking(&self, host: &str, now: Timestamp) -> Chunking {
        let refused = self.without_chunks.lock();
        let refused = refused.unwrap_or_else(PoisonError::into_inner);
        match refused.get(host) {
            Some(until) if now < *until => Chunking::Never,
            Some(_) | None => Chunking::WhereItPays,
        }
    }

    /// It has refused BDAT.
    pub(crate) fn refused_chunks(&self, host: &str, now: Timestamp) {
        let refused = self.without_chunks.lock();
        let mut refused = refused.unwrap_or_else(PoisonError::into_inner);
        // As above: what is forgotten costs one more session each.
        if refused.len() >= ADDRESSES_MAX {
            refused.clear();
        }
        let until = now.saturating_add(WITHOUT_CHUNKS).unwrap_or(now);
        refused.insert(host.to_owned(), until);
    }

    /// Who is told `Probe` has the host for himself: what comes of it is to be reported.
    pub(crate) fn standing(&self, place: &Place, now: Timestamp) -> Standing {
        if self.count.load(Ordering::Acquire) == 0 {
            return Standing::Alive;
        }
        let mut all = self.lock();
        let Some(known) = all.get_mut(place) else {
            return Standing::Alive;
        };
        let probing = match known.probe {
            Probe::Out(since) => now.duration_since(since) < PROBE_TAKES_MAX,
            Probe::None => false,
        };
        match known.trouble {
            Trouble::Resting if now >= known.until => Standing::Alive,
            Trouble::Resting => Standing::TryLast,
            Trouble::Dead if now >= known.until && !probing => {
                known.probe = Probe::Out(now);
                Standing::Probe
            }
            Trouble::Dead => Standing::PassOver {
                until: known.until.max(now),
                last: known.last.clone(),
            },
        }
    }

    /// An attempt that began at `began` has failed there. What began before the host was found to be dead
    /// says nothing new.
    pub(crate) fn failed(
        &self,
        place: Place,
        trouble: Trouble,
        last: LastFailure,
        (began, now): (Timestamp, Timestamp),
        rng: &mut impl Rng,
    ) {
        let mut all = self.lock();
        if all.len() >= ADDRESSES_MAX {
            all.clear();
        }
        let before = all.get(&place);
        let failures = match before {
            Some(known) if began < known.since => return,
            Some(known) if known.trouble == trouble => known.failures.saturating_add(1),
            Some(_) | None => 1,
        };
        let length = match trouble {
            Trouble::Dead => {
                // Not shorter than what it cost to find out, for this host and the next.
                let first = DEAD_FIRST.max(now.duration_since(began) * 2);
                let pause = (first * (1 << (failures - 1).min(4))).min(DEAD_MAX);
                // So that hosts that died together are not probed together.
                pause + SignedDuration::from_millis(rng.random_range(0..=pause.as_secs() * 100))
            }
            Trouble::Resting => RESTING,
        };
        let known = Known {
            trouble,
            since: now,
            until: now.saturating_add(length).unwrap_or(Timestamp::MAX),
            failures,
            probe: Probe::None,
            last,
        };
        all.insert(place, known);
        self.count.store(all.len(), Ordering::Release);
    }

    /// It works.
    pub(crate) fn good(&self, place: &Place) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut all = self.lock();
        all.remove(place);
        self.count.store(all.len(), Ordering::Release);
    }

    /// An operator's word: these hosts are well.
    pub(crate) fn believe(&self, hosts: &[(String, u16)]) {
        let mut all = self.lock();
        all.retain(|place, _| !hosts.iter().any(|host| place.is_of(host)));
        self.count.store(all.len(), Ordering::Release);
    }

    /// What is known of these hosts.
    pub(crate) fn troubles(&self, hosts: &[(String, u16)], now: Timestamp) -> Vec<HostTrouble> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let all = self.lock();
        let mut troubles = Vec::new();
        for host in hosts {
            let from = Place {
                host: host.0.clone(),
                port: host.1,
                address: IpAddr::from([0, 0, 0, 0]),
            };
            let of_host = all.range(from..).take_while(|(place, _)| place.is_of(host));
            for (place, known) in of_host {
                let state = match known.trouble {
                    Trouble::Dead => "dead",
                    Trouble::Resting if known.until <= now => continue,
                    Trouble::Resting => "tried last",
                };
                troubles.push(HostTrouble {
                    host: place.host.clone(),
                    address: SocketAddr::new(place.address, place.port),
                    state,
                    until: known.until,
                    why: known.last.words.clone(),
                });
            }
        }
        troubles
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Known>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a failure says of the host. None: nothing.
pub(crate) fn trouble_of(phase: Phase, failure: Failure) -> Option<Trouble> {
    match (failure, phase) {
        (Failure::Unreachable | Failure::TimedOut, Phase::Connect)
        | (Failure::TimedOut, Phase::Banner | Phase::Ehlo) => Some(Trouble::Dead),
        // It costs no time to find that out again, and a crowded server refuses, too.
        (
            Failure::Refused
            | Failure::Unreachable
            | Failure::TimedOut
            | Failure::Lost
            | Failure::Garbage
            | Failure::TlsNotOffered
            | Failure::TlsHandshake
            | Failure::TlsCertificate
            | Failure::AuthNotOffered
            | Failure::LoginFailed,
            _,
        ) => Some(Trouble::Resting),
        // What one domain asks for, or one message, or DNS, or we ourselves.
        (
            Failure::NoSuchDomain
            | Failure::NullMx
            | Failure::NoAddress
            | Failure::DnsTrouble
            | Failure::MxLoop
            | Failure::LostAfterBody
            | Failure::TlsaTrouble
            | Failure::TlsaMissing
            | Failure::TlsaMismatch
            | Failure::StsHost
            | Failure::StsCertificate
            | Failure::RequireTls
            | Failure::Utf8NotOffered
            | Failure::TooBigForHost
            | Failure::CannotConvert
            | Failure::TooManyHops
            | Failure::Expired
            | Failure::Suppressed
            | Failure::SourceSuspended
            | Failure::NoToken,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn place() -> Place {
        Place::new("mx1.example", SocketAddr::from(([192, 0, 2, 1], 25)))
    }

    fn last() -> LastFailure {
        LastFailure {
            phase: Phase::Connect,
            failure: Failure::TimedOut,
            words: "no answer within 30 s".to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_dead_host_is_passed_over_and_one_probe_at_a_time_finds_out() {
        let rng = &mut StdRng::seed_from_u64(1);
        let memory = HostMemory::default();
        assert_eq!(memory.standing(&place(), at(0)), Standing::Alive);
        let mut now = 0;
        for minutes in [1, 2, 4, 8, 15, 15] {
            memory.failed(place(), Trouble::Dead, last(), (at(now), at(now)), rng);
            // Sessions that began to wait before that say nothing new.
            let late = (at(now - 30), at(now));
            memory.failed(place(), Trouble::Dead, last(), late, rng);
            let Standing::PassOver { until, .. } = memory.standing(&place(), at(now)) else {
                panic!("not dead");
            };
            let pause = until.duration_since(at(now)).as_secs();
            assert!((minutes * 60..=minutes * 66).contains(&pause), "{pause}");
            now += pause + 1;
            assert_eq!(memory.standing(&place(), at(now)), Standing::Probe);
            let other = memory.standing(&place(), at(now));
            assert!(matches!(other, Standing::PassOver { .. }), "{other:?}");
        }
        let hosts = ["mx0.example", "mx1.example"].map(|host| (host.to_owned(), 25));
        let troubles = memory.troubles(&hosts, at(now));
        assert_eq!(troubles.len(), 1);
        assert_eq!(troubles[0].state, "dead");
        memory.good(&place());
        assert_eq!(memory.standing(&place(), at(now)), Standing::Alive);
    }

    #[test]
    fn a_probe_that_never_comes_back_is_given_up() {
        let rng = &mut StdRng::seed_from_u64(1);
        let memory = HostMemory::default();
        memory.failed(place(), Trouble::Dead, last(), (at(0), at(0)), rng);
        assert_eq!(memory.standing(&place(), at(70)), Standing::Probe);
        assert_ne!(memory.standing(&place(), at(600)), Standing::Probe);
        assert_eq!(memory.standing(&place(), at(670)), Standing::Probe);
    }

    #[test]
    fn a_host_that_sends_us_away_is_tried_last_for_a_minute() {
        let rng = &mut StdRng::seed_from_u64(1);
        let memory = HostMemory::default();
        memory.failed(place(), Trouble::Resting, last(), (at(0), at(0)), rng);
        assert_eq!(memory.standing(&place(), at(59)), Standing::TryLast);
        assert_eq!(memory.standing(&place(), at(60)), Standing::Alive);
        let host = [("mx1.example".to_owned(), 25)];
        assert!(memory.troubles(&host, at(60)).is_empty());
        memory.failed(place(), Trouble::Dead, last(), (at(61), at(61)), rng);
        memory.believe(&host);
        assert_eq!(memory.standing(&place(), at(62)), Standing::Alive);
    }

    #[test]
    fn what_is_known_of_one_port_says_nothing_of_another_at_the_same_address() {
        let rng = &mut StdRng::seed_from_u64(1);
        let memory = HostMemory::default();
        let relay = |port| Place::new("[192.0.2.1]", SocketAddr::from(([192, 0, 2, 1], port)));
        let host = |port| ("[192.0.2.1]".to_owned(), port);
        for port in [465, 587] {
            memory.failed(relay(port), Trouble::Dead, last(), (at(0), at(0)), rng);
        }
        assert_eq!(memory.standing(&relay(2525), at(1)), Standing::Alive);
        memory.good(&relay(2525));
        let dead = |memory: &HostMemory, port| memory.troubles(&[host(port)], at(1)).len();
        assert_eq!([465, 587, 2525].map(|port| dead(&memory, port)), [1, 1, 0]);
        memory.believe(&[host(587)]);
        assert_eq!([465, 587, 2525].map(|port| dead(&memory, port)), [1, 0, 0]);
    }

    #[test]
    fn a_host_that_refused_bdat_gets_another_chance_after_a_day() {
        let memory = HostMemory::default();
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(memory.chunking("mx.example", now), Chunking::WhereItPays);
        memory.refused_chunks("mx.example", now);
        let later = |hours| now + SignedDuration::from_hours(hours);
        assert_eq!(memory.chunking("mx.example", later(23)), Chunking::Never);
        assert_eq!(memory.chunking("mx2.example", now), Chunking::WhereItPays);
        assert_eq!(
            memory.chunking("mx.example", later(24)),
            Chunking::WhereItPays
        );
    }
}
