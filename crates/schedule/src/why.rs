//! What an operator may ask: why a job does not go now, and how the sites are.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relay_smtp::{NextHop, QueueId};

use crate::groups::Usage;
use crate::hop::State;
use crate::jobs::{JobRef, Place};
use crate::pause::{Pause, Stage};
use crate::scheduler::Scheduler;
use crate::site::{Gate, Queued, Site};
use crate::time::{self, Micros};
use crate::words::SiteId;

/// Next hops named in a [`SiteState`].
const HOPS_SHOWN: usize = 20;

/// What a job waits for. Display says it in words.
#[derive(Clone, Debug, PartialEq)]
pub enum Blocked {
    NotDue {
        hop: NextHop,
        until: Timestamp,
    },
    /// DNS is being asked.
    Resolving {
        hop: NextHop,
    },
    InFlight {
        hop: NextHop,
    },
    Suspended {
        site: SiteId,
        until: Timestamp,
        rule: String,
    },
    /// The site was dead; one dispatch finds out whether it still is.
    Probing {
        site: SiteId,
    },
    Rate {
        site: SiteId,
        per_second: f64,
    },
    /// All connections that limits, feedback and slow-downs allow are busy.
    Connections {
        site: SiteId,
        allowed: u32,
    },
    /// A cap that sites share has no room.
    Shared {
        site: SiteId,
        name: Arc<str>,
        /// None: until a session ends.
        until: Option<Timestamp>,
    },
    /// All sessions of all sites are in use.
    Sessions {
        allowed: usize,
    },
    /// A session was just asked for, or one just broke off.
    Turn {
        site: SiteId,
    },
}

/// One site, as `status` and `site list` show it.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteState {
    pub site: SiteId,
    /// At most 20 of them.
    pub hops: Vec<NextHop>,
    pub hops_total: usize,
    /// Due jobs without a session.
    pub ready: usize,
    /// Jobs whose time has not come.
    pub waiting: u64,
    pub in_flight: u32,
    pub sessions: u32,
    /// By the limits, as slowed down.
    pub connections: u32,
    /// By the feedback.
    pub window: u32,
    /// Messages per second, as slowed down; None: no limit.
    pub rate: Option<f64>,
    pub suspended_until: Option<Timestamp>,
    pub slow_until: Option<Timestamp>,
    /// When the recovery after a suspension goes a step further.
    pub recovering_until: Option<Timestamp>,
    /// What stands behind a suspension or slow-down.
    pub why: Option<String>,
    /// Source addresses that are suspended there, are tried again, or recover.
    pub sources: Vec<SourceState>,
    /// In one session.
    pub messages_per_connection: u32,
    /// In one transaction.
    pub recipients_per_transaction: u32,
    /// What is in use of the caps that it shares with other sites.
    pub shared: Vec<Usage>,
}

/// One source address towards a site.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceState {
    pub address: IpAddr,
    /// `suspended`, `probing` or `recovering`.
    pub state: &'static str,
    /// None: until a probe went well.
    pub until: Option<Timestamp>,
    pub rule: String,
}

impl Scheduler {
    /// What each job of the message waits for. Empty: there is none.
    pub fn why(&self, id: QueueId, now: Timestamp) -> Vec<Blocked> {
        let now = time::clock(now);
        self.jobs
            .of(id)
            .filter_map(|job| self.why_job(job, now))
            .collect()
    }

    /// All sites that there are, by number of due jobs, most first.
    pub fn sites(&self, now: Timestamp) -> Vec<SiteState> {
        let now = time::clock(now);
        let mut sites: Vec<SiteState> = self
            .sites
            .values()
            .map(|site| self.site_state(site, now))
            .collect();
        sites.sort_by(|a, b| b.ready.cmp(&a.ready).then_with(|| a.site.cmp(&b.site)));
        sites
    }

    /// How many sites there are.
    pub fn sites_total(&self) -> usize {
        self.sites.len()
    }

    pub fn has_site(&self, site: &SiteId) -> bool {
        self.site_numbers.contains_key(site)
    }

    fn why_job(&self, job: JobRef, now: Micros) -> Option<Blocked> {
        let slot = self.jobs.slot(job);
        let hop = self.hops.get(slot.hop)?;
        let name = || hop.name.clone();
        Some(match slot.place {
            Place::Free => return None,
            Place::Waiting => Blocked::NotDue {
                hop: name(),
                until: time::timestamp(slot.due),
            },
            Place::Unresolved => Blocked::Resolving { hop: name() },
            Place::InFlight => Blocked::InFlight { hop: name() },
            Place::Ready => self.why_ready(self.sites.get(&hop.site?)?, now),
        })
    }

    fn why_ready(&self, entry: &Site, now: Micros) -> Blocked {
        let site = entry.id.clone();
        if entry.gate(now) == Gate::FlushedOnly {
            let (until, rule) = suspension(entry, now).unwrap_or((now, String::new()));
            return Blocked::Suspended {
                site,
                until: time::timestamp(until),
                rule,
            };
        }
        let allowed = entry.sessions_allowed(now);
        if entry.health.state(now) == State::Probing || entry.is_probing() {
            return Blocked::Probing { site };
        }
        if let Some(per_second) = entry.rate.per_second()
            && entry.rate.next() > now
        {
            return Blocked::Rate { site, per_second };
        }
        if let Some(group) = entry.blocked_by
            && !self.groups.has_room(group, now)
            && let Some((name, until)) = self.groups.describe(group, now)
        {
            let until = until.map(time::timestamp);
            return Blocked::Shared { site, name, until };
        }
        if entry.sessions.len() as u32 >= allowed {
            return Blocked::Connections { site, allowed };
        }
        if entry.queued != Queued::No {
            return Blocked::Sessions {
                allowed: self.sessions_max,
            };
        }
        Blocked::Turn { site }
    }

    fn site_state(&self, site: &Site, now: Micros) -> SiteState {
        let hops = || site.hops.iter().filter_map(|&hop| self.hops.get(hop));
        let suspended = suspension(site, now);
        let slow = site.slow.as_ref();
        SiteState {
            site: site.id.clone(),
            hops: hops()
                .take(HOPS_SHOWN)
                .map(|hop| hop.name.clone())
                .collect(),
            hops_total: site.hops.len(),
            ready: site.ready.len() + site.flushed.len(),
            waiting: hops().map(|hop| u64::from(hop.waiting)).sum(),
            in_flight: site.in_flight,
            sessions: site.sessions.len() as u32,
            connections: (site.limits.connections >> site.halvings()).max(1),
            window: site.window.size(),
            rate: site.rate.per_second(),
            suspended_until: suspended.as_ref().map(|&(until, _)| time::timestamp(until)),
            slow_until: slow.map(|slow| time::timestamp(slow.until)),
            recovering_until: site.pause.as_ref().and_then(recovering_until),
            why: suspended
                .map(|(_, rule)| rule)
                .or_else(|| slow.map(|slow| slow.rule.to_string()))
                .or_else(|| site.pause.as_ref().map(|pause| pause.rule.to_string())),
            sources: site.sources.iter().map(source_state).collect(),
            messages_per_connection: site.limits.messages_per_connection,
            recipients_per_transaction: site.limits.recipients_per_transaction,
            shared: self.shared_by(site, now),
        }
    }
}

impl Scheduler {
    fn shared_by(&self, site: &Site, now: Micros) -> Vec<Usage> {
        let groups = site.shares.all().map(|(_, group)| group);
        groups
            .filter_map(|group| self.groups.usage(group, now))
            .collect()
    }
}

fn recovering_until(pause: &Pause) -> Option<Timestamp> {
    match pause.stage() {
        Stage::Recovering { until, .. } => Some(time::timestamp(until)),
        Stage::Suspended { .. } | Stage::Probing => None,
    }
}

fn source_state((address, pause): (IpAddr, &Pause)) -> SourceState {
    let (state, until) = match pause.stage() {
        Stage::Suspended { until } => ("suspended", Some(until)),
        Stage::Probing => ("probing", None),
        Stage::Recovering { until, .. } => ("recovering", Some(until)),
    };
    SourceState {
        address,
        state,
        until: until.map(time::timestamp),
        rule: pause.rule.to_string(),
    }
}

/// The later of the two kinds of suspension.
fn suspension(site: &Site, now: Micros) -> Option<(Micros, String)> {
    let by_rule = site
        .suspended_by_rule(now)
        .map(|(until, rule)| (until, rule.to_string()));
    let by_health = match site.health.state(now) {
        State::Suspended(until) => Some((until, site.health.words())),
        State::Well | State::Probing => None,
    };
    by_rule
        .into_iter()
        .chain(by_health)
        .max_by_key(|&(until, _)| until)
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocked::NotDue { hop, until } => {
                write!(f, "{hop}: waits for its next attempt at {}", whole(*until))
            }
            Blocked::Resolving { hop } => write!(f, "{hop}: waits for DNS"),
            Blocked::InFlight { hop } => write!(f, "{hop}: is being tried now"),
            Blocked::Suspended { site, until, rule } => write!(
                f,
                "site {} suspended until {} by {rule}",
                site.0,
                whole(*until)
            ),
            Blocked::Probing { site } => write!(
                f,
                "site {} could not be reached or was suspended; waits for the probe that finds out how it is now",
                site.0
            ),
            Blocked::Rate { site, per_second } => {
                write!(f, "site {}: rate {} reached", site.0, rate(*per_second))
            }
            Blocked::Shared {
                site,
                name,
                until: None,
            } => write!(f, "site {}: no room now: {name}", site.0),
            Blocked::Shared {
                site,
                name,
                until: Some(until),
            } => write!(
                f,
                "site {}: no room until {}: {name}",
                site.0,
                whole(*until)
            ),
            Blocked::Connections { site, allowed: 1 } => {
                write!(f, "site {}: waits for its one connection", site.0)
            }
            Blocked::Connections { site, allowed } => {
                write!(f, "site {}: waits for one of {allowed} connections", site.0)
            }
            Blocked::Sessions { allowed } => {
                write!(
                    f,
                    "waits for one of the {allowed} sessions of all sites together"
                )
            }
            Blocked::Turn { site } => write!(f, "site {}: a session is about to take it", site.0),
        }
    }
}

/// To the second, rounded up: what has passed is not shown as to come.
fn whole(at: Timestamp) -> Timestamp {
    let up = at
        .checked_add(SignedDuration::from_nanos(999_999_999))
        .unwrap_or(at);
    Timestamp::from_second(up.as_second()).unwrap_or(at)
}

/// `20/s`, `3/min`, `2/h`: in the unit in which it is not below 1.
fn rate(per_second: f64) -> String {
    let (number, unit) = match per_second {
        rate if rate >= 1.0 => (rate, "s"),
        rate if rate * 60.0 >= 1.0 => (rate * 60.0, "min"),
        rate => (rate * 3600.0, "h"),
    };
    format!("{}/{unit}", (number * 100.0).round() / 100.0)
}
