//! What is worth keeping of a site over a restart: pauses and slow-downs, not what a moment shows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::groups::WarmedUp;
use crate::pause::{Pause, Stage};
use crate::scheduler::Scheduler;
use crate::site::Site;
use crate::time::{self, Micros};
use crate::words::SiteId;

/// One site with something to keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub site: SiteId,
    #[serde(default)]
    pub pause: Option<KeptPause>,
    #[serde(default)]
    pub slow: Option<KeptSlow>,
    #[serde(default)]
    pub sources: Vec<(IpAddr, KeptPause)>,
}

/// A suspension. One that is over when it is read is tried by a probe first, as it would have been; so is
/// one that was in recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptPause {
    pub until: Timestamp,
    pub length: Duration,
    pub rule: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptSlow {
    pub halvings: u32,
    pub until: Timestamp,
    pub length: Duration,
    pub rule: Arc<str>,
    /// Messages per second before it.
    #[serde(default)]
    pub pace: Option<f64>,
}

impl Scheduler {
    /// All sites with something to keep, by name.
    pub fn kept(&self, now: Timestamp) -> Vec<Kept> {
        let now = time::clock(now);
        let mut kept: Vec<Kept> = self
            .sites
            .values()
            .filter_map(|site| Kept::of(site, now))
            .collect();
        kept.sort_by(|a, b| a.site.cmp(&b.site));
        kept
    }
}

impl Scheduler {
    /// What sources in their warm-up have sent today.
    pub fn warm_ups(&self, now: Timestamp) -> Vec<WarmedUp> {
        self.groups.warm_ups(time::clock(now))
    }

    pub fn is_warming_up(&self) -> bool {
        self.groups.is_warming_up()
    }

    /// What they had sent before a restart. Before anything is resolved.
    pub fn restore_warm_ups(&mut self, warm_ups: Vec<WarmedUp>) {
        self.groups.restore(warm_ups);
    }
}

impl Kept {
    fn of(site: &Site, now: Micros) -> Option<Kept> {
        let kept = Kept {
            site: site.id.clone(),
            pause: site.pause.as_ref().map(|pause| KeptPause::of(pause, now)),
            slow: site.slow.as_ref().map(|slow| KeptSlow {
                halvings: slow.halvings,
                until: time::timestamp(slow.until),
                length: Duration::from_micros(slow.length),
                rule: Arc::clone(&slow.rule),
                pace: slow.pace,
            }),
            sources: site
                .sources
                .iter()
                .map(|(source, pause)| (source, KeptPause::of(pause, now)))
                .collect(),
        };
        let something = kept.pause.is_some() || kept.slow.is_some() || !kept.sources.is_empty();
        something.then_some(kept)
    }
}

impl KeptPause {
    fn of(pause: &Pause, now: Micros) -> KeptPause {
        let until = match pause.stage() {
            Stage::Suspended { until } => until,
            Stage::Probing | Stage::Recovering { .. } => now,
        };
        KeptPause {
            until: time::timestamp(until),
            length: Duration::from_micros(pause.length()),
            rule: Arc::clone(&pause.rule),
        }
    }

    pub(crate) fn pause(&self) -> Pause {
        Pause::kept(
            time::due(self.until),
            Arc::clone(&self.rule),
            time::span(self.length),
        )
    }
}
