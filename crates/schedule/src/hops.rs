//! Next hops as numbers, each with its site once that is known.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use relay_smtp::NextHop;

use crate::jobs::{HopRef, JobRef};
use crate::site::SiteRef;
use crate::time::{MINUTE, Micros};

/// A site is asked for again after this: domains move.
const RESOLVED_KEPT: Micros = 5 * MINUTE;
/// A next hop without jobs is forgotten after this.
const IDLE_KEPT: Micros = 10 * MINUTE;

#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) name: NextHop,
    pub(crate) site: Option<SiteRef>,
    pub(crate) resolving: Resolving,
    stale_at: Micros,
    /// Due jobs until the site is known.
    pub(crate) unresolved: BTreeSet<JobRef>,
    pub(crate) jobs: u32,
    pub(crate) waiting: u32,
    forget_at: Option<Micros>,
}

/// Whether an answer is owed by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolving {
    No,
    Asked,
}

#[derive(Debug, Default)]
pub(crate) struct Hops {
    numbers: HashMap<NextHop, HopRef>,
    hops: BTreeMap<HopRef, Hop>,
    /// Next hops without jobs by the time at which they are forgotten.
    idle: BTreeSet<(Micros, HopRef)>,
    next: HopRef,
}

impl Hop {
    /// Where a job may go at once. After a reload the answer comes first: the site as it is has the old limits.
    pub(crate) fn site_in_force(&self) -> Option<SiteRef> {
        self.site.filter(|_| self.stale_at > 0)
    }
}

impl Hops {
    pub(crate) fn find(&self, name: &NextHop) -> Option<HopRef> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn get(&self, hop: HopRef) -> Option<&Hop> {
        self.hops.get(&hop)
    }

    pub(crate) fn get_mut(&mut self, hop: HopRef) -> Option<&mut Hop> {
        self.hops.get_mut(&hop)
    }

    pub(crate) fn intern(&mut self, name: NextHop) -> HopRef {
        if let Some(&hop) = self.numbers.get(&name) {
            return hop;
        }
        while self.hops.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let hop = self.next;
        self.next = self.next.wrapping_add(1);
        self.numbers.insert(name.clone(), hop);
        self.hops.insert(
            hop,
            Hop {
                name,
                site: None,
                resolving: Resolving::No,
                stale_at: 0,
                unresolved: BTreeSet::new(),
                jobs: 0,
                waiting: 0,
                forget_at: None,
            },
        );
        hop
    }

    pub(crate) fn job_added(&mut self, hop: HopRef) {
        if let Some(entry) = self.hops.get_mut(&hop) {
            entry.jobs += 1;
            if let Some(at) = entry.forget_at.take() {
                self.idle.remove(&(at, hop));
            }
        }
    }

    pub(crate) fn job_removed(&mut self, hop: HopRef, now: Micros) {
        if let Some(entry) = self.hops.get_mut(&hop) {
            entry.jobs -= 1;
            if entry.jobs == 0 {
                let at = now + IDLE_KEPT;
                entry.forget_at = Some(at);
                self.idle.insert((at, hop));
            }
        }
    }

    /// Whether the driver is to be asked for the site now; notes that it has been.
    pub(crate) fn ask(&mut self, hop: HopRef, now: Micros) -> Option<NextHop> {
        let entry = self.hops.get_mut(&hop)?;
        let known = entry.site.is_some() && now < entry.stale_at;
        if known || entry.resolving == Resolving::Asked {
            return None;
        }
        entry.resolving = Resolving::Asked;
        Some(entry.name.clone())
    }

    /// Notes the answer; returns the site that the hop had before.
    pub(crate) fn resolved(&mut self, hop: HopRef, site: SiteRef, now: Micros) -> Option<SiteRef> {
        let entry = self.hops.get_mut(&hop)?;
        entry.resolving = Resolving::No;
        entry.stale_at = now + RESOLVED_KEPT;
        entry.site.replace(site)
    }

    /// Every site is to be asked for again. Returns the next hops that have jobs.
    pub(crate) fn all_stale(&mut self) -> Vec<HopRef> {
        let mut with_jobs = Vec::new();
        for (&hop, entry) in &mut self.hops {
            entry.stale_at = 0;
            if entry.jobs > entry.waiting {
                with_jobs.push(hop);
            }
        }
        with_jobs
    }

    pub(crate) fn next_forget(&self) -> Option<Micros> {
        self.idle.first().map(|&(at, _)| at)
    }

    /// A next hop that has had no jobs for long enough, taken out.
    pub(crate) fn pop_idle(&mut self, now: Micros) -> Option<(HopRef, Hop)> {
        let &(at, hop) = self.idle.first()?;
        if at > now {
            return None;
        }
        self.idle.pop_first();
        let entry = self.hops.remove(&hop)?;
        self.numbers.remove(&entry.name);
        Some((hop, entry))
    }
}
