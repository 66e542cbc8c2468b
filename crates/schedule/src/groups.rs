//! Caps that sites share: those of a provider, of a route, or of what goes out from one source address.
//! Who waits for room is served in turn, a site at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::rate::Rate;
use crate::site::SiteRef;
use crate::time::{self, MINUTE, Micros};

pub(crate) type GroupRef = u32;

const DAY: Micros = 24 * 60 * MINUTE;

/// One cap, for a site that it holds for. Shares of one name are one cap.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// In words, with what it counts: `connections to provider google`.
    pub name: Arc<str>,
    pub cap: Cap,
    /// It holds for what goes from this address; None: for everything.
    pub source: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cap {
    /// Sessions at once; at least 1.
    Connections(u32),
    /// Messages per second.
    Rate(f64),
    /// Messages a day (UTC) that grow along a curve.
    WarmUp(WarmUp),
}

/// A source address that receivers get to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Midnight (UTC) of the first day. Before it nothing goes.
    pub start: Timestamp,
    /// Messages on the first day, the second...; after the last there is no cap.
    pub daily: Arc<[u32]>,
}

impl WarmUp {
    /// Messages on the day of `now`; None: no cap any more.
    pub fn allowed(&self, now: Timestamp) -> Option<u32> {
        self.allowed_at(time::clock(now))
    }

    fn allowed_at(&self, now: Micros) -> Option<u32> {
        let start = time::clock(self.start);
        let Some(since) = now.checked_sub(start) else {
            return Some(0);
        };
        let day = usize::try_from(since / DAY).ok()?;
        self.daily.get(day).copied()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    numbers: HashMap<Arc<str>, GroupRef>,
    groups: BTreeMap<GroupRef, Group>,
    /// Those for which sites wait.
    waited_for: BTreeSet<GroupRef>,
    before_restart: Vec<WarmedUp>,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    count: Count,
    /// Sites that have work and found no room.
    blocked: BTreeSet<SiteRef>,
    /// The one served last: the next ones come after it.
    served: SiteRef,
}

#[derive(Debug)]
enum Count {
    Connections { most: u32, used: u32 },
    Rate(Rate),
    WarmUp { curve: WarmUp, day: u64, used: u32 },
}

impl Groups {
    /// The group of a share; one that is there takes the new cap and keeps its count.
    pub(crate) fn set(&mut self, share: &Share, now: Micros) -> GroupRef {
        let Some(&number) = self.numbers.get(&share.name) else {
            let number = GroupRef::try_from(self.groups.len()).unwrap_or(GroupRef::MAX);
            let mut count = Count::new(&share.cap, now);
            let before = self.before_restart.iter();
            if let Some(before) = before.rev().find(|before| before.name == share.name)
                && let Count::WarmUp { day, used, .. } = &mut count
            {
                (*day, *used) = (before.day, before.used);
            }
            let group = Group {
                name: Arc::clone(&share.name),
                count,
                blocked: BTreeSet::new(),
                served: 0,
            };
            self.numbers.insert(Arc::clone(&share.name), number);
            self.groups.insert(number, group);
            return number;
        };
        if let Some(group) = self.groups.get_mut(&number) {
            group.count.change(&share.cap, now);
        }
        number
    }

    /// Whether one more may go now.
    pub(crate) fn has_room(&self, group: GroupRef, now: Micros) -> bool {
        self.groups
            .get(&group)
            .is_none_or(|group| group.count.has_room(now))
    }

    pub(crate) fn take(&mut self, group: GroupRef, now: Micros) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.count.take(now);
        }
    }

    /// A connection has ended, or a message has not gone this way after all.
    pub(crate) fn give_back(&mut self, group: GroupRef, now: Micros) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.count.give_back(now);
        }
    }

    /// The site waits until there is room.
    pub(crate) fn block(&mut self, group: GroupRef, site: SiteRef) {
        if let Some(entry) = self.groups.get_mut(&group) {
            entry.blocked.insert(site);
            self.waited_for.insert(group);
        }
    }

    /// Whether other sites wait for what these hold.
    pub(crate) fn wanted_by_others(&self, held: &[GroupRef], site: SiteRef) -> bool {
        held.iter()
            .filter_map(|group| self.groups.get(group))
            .any(|group| group.blocked.iter().any(|other| *other != site))
    }

    /// The next site that has waited for room that is there now; it does not wait any more.
    pub(crate) fn next_to_serve(&mut self, now: Micros) -> Option<SiteRef> {
        let waited_for = self.waited_for.iter();
        let number = waited_for
            .copied()
            .find(|&group| self.has_room(group, now))?;
        let group = self.groups.get_mut(&number)?;
        let after = group.blocked.range(group.served.saturating_add(1)..).next();
        let site = after.or_else(|| group.blocked.first()).copied();
        if let Some(site) = site {
            group.blocked.remove(&site);
            group.served = site;
        }
        if group.blocked.is_empty() {
            self.waited_for.remove(&number);
        }
        site
    }

    /// When time alone makes room for a site that waits.
    pub(crate) fn next_change(&self, now: Micros) -> Option<Micros> {
        let waited_for = self.waited_for.iter();
        waited_for
            .filter_map(|group| self.groups.get(group)?.count.next(now))
            .min()
    }

    /// In words, and when there is room again as far as that is known.
    pub(crate) fn describe(
        &self,
        group: GroupRef,
        now: Micros,
    ) -> Option<(Arc<str>, Option<Micros>)> {
        let group = self.groups.get(&group)?;
        Some((Arc::clone(&group.name), group.count.next(now)))
    }

    /// What is in use of it, and what may be.
    pub(crate) fn usage(&self, group: GroupRef, now: Micros) -> Option<Usage> {
        let group = self.groups.get(&group)?;
        Some(Usage {
            name: Arc::clone(&group.name),
            used: match &group.count {
                Count::Connections { used, .. } => Some(*used),
                Count::WarmUp { day, used, .. } if *day == now / DAY => Some(*used),
                Count::WarmUp { .. } => Some(0),
                Count::Rate(_) => None,
            },
        })
    }

    /// What sources in their warm-up have sent today.
    pub(crate) fn warm_ups(&self, now: Micros) -> Vec<WarmedUp> {
        let today = |group: &Group| match &group.count {
            Count::WarmUp { day, used, .. } if *day == now / DAY => Some(WarmedUp {
                name: Arc::clone(&group.name),
                day: *day,
                used: *used,
            }),
            Count::WarmUp { .. } | Count::Connections { .. } | Count::Rate(_) => None,
        };
        self.groups.values().filter_map(today).collect()
    }

    pub(crate) fn is_warming_up(&self) -> bool {
        let mut groups = self.groups.values();
        groups.any(|group| matches!(group.count, Count::WarmUp { .. }))
    }

    /// What was used before a restart, for the groups that come.
    pub(crate) fn restore(&mut self, warm_ups: Vec<WarmedUp>) {
        self.before_restart = warm_ups;
    }
}

/// To be kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WarmedUp {
    pub name: Arc<str>,
    /// Since the epoch, UTC.
    pub day: u64,
    pub used: u32,
}

/// What is in use of a cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub name: Arc<str>,
    /// None: a rate.
    pub used: Option<u32>,
}

impl Count {
    fn new(cap: &Cap, now: Micros) -> Count {
        match cap {
            Cap::Connections(most) => Count::Connections {
                most: (*most).max(1),
                used: 0,
            },
            Cap::Rate(per_second) => Count::Rate(Rate::new(Some(*per_second))),
            Cap::WarmUp(curve) => Count::WarmUp {
                curve: curve.clone(),
                day: now / DAY,
                used: 0,
            },
        }
    }

    fn change(&mut self, cap: &Cap, now: Micros) {
        match (&mut *self, cap) {
            (Count::Connections { most, .. }, Cap::Connections(new)) => *most = (*new).max(1),
            (Count::Rate(rate), Cap::Rate(per_second)) => rate.set(Some(*per_second), now),
            (Count::WarmUp { curve, .. }, Cap::WarmUp(new)) => *curve = new.clone(),
            // Its name says what it counts, so this is never another kind.
            (Count::Connections { .. } | Count::Rate(_) | Count::WarmUp { .. }, _) => {
                *self = Count::new(cap, now);
            }
        }
    }

    fn has_room(&self, now: Micros) -> bool {
        match self {
            Count::Connections { most, used } => used < most,
            Count::Rate(rate) => rate.next() <= now,
            Count::WarmUp { curve, day, used } => {
                let used = if *day == now / DAY { *used } else { 0 };
                curve.allowed_at(now).is_none_or(|allowed| used < allowed)
            }
        }
    }

    fn take(&mut self, now: Micros) {
        match self {
            Count::Connections { used, .. } => *used += 1,
            Count::Rate(rate) => rate.take(now),
            Count::WarmUp { day, used, .. } => {
                if *day != now / DAY {
                    (*day, *used) = (now / DAY, 0);
                }
                *used = used.saturating_add(1);
            }
        }
    }

    fn give_back(&mut self, now: Micros) {
        match self {
            Count::Connections { used, .. } => *used = used.saturating_sub(1),
            Count::Rate(_) => {}
            Count::WarmUp { day, used, .. } => {
                if *day == now / DAY {
                    *used = used.saturating_sub(1);
                }
            }
        }
    }

    /// When time makes room, seen from `now`; None: only a session that ends does.
    fn next(&self, now: Micros) -> Option<Micros> {
        match self {
            Count::Connections { .. } => None,
            Count::Rate(rate) => Some(rate.next()),
            Count::WarmUp { .. } if self.has_room(now) => Some(now),
            Count::WarmUp { curve, .. } => {
                let midnight = (now / DAY + 1) * DAY;
                Some(midnight.max(time::clock(curve.start)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn share(name: &str, cap: Cap) -> Share {
        Share {
            name: Arc::from(name),
            cap,
            source: None,
        }
    }

    #[test]
    fn a_cap_on_connections_serves_those_who_wait_in_turn() {
        let mut groups = Groups::default();
        let group = groups.set(&share("c", Cap::Connections(2)), 0);
        groups.take(group, 0);
        groups.take(group, 0);
        assert!(!groups.has_room(group, 0));
        for site in [7, 3, 9] {
            groups.block(group, site);
        }
        assert_eq!(groups.next_to_serve(0), None);
        assert_eq!(groups.next_change(0), None);
        let mut served = Vec::new();
        for _ in 0..5 {
            groups.give_back(group, 0);
            let site = groups.next_to_serve(0).unwrap();
            served.push(site);
            groups.take(group, 0);
            groups.block(group, site);
        }
        assert_eq!(served, [3, 7, 9, 3, 7]);
        assert!(groups.wanted_by_others(&[group], 3));
        // A wider cap makes room at once.
        assert_eq!(groups.set(&share("c", Cap::Connections(3)), 0), group);
        assert!(groups.next_to_serve(0).is_some());
    }

    #[test]
    fn a_warm_up_follows_its_curve_day_by_day_and_ends() {
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let first = time::clock(start);
        let curve = WarmUp {
            start,
            daily: Arc::from([2, 3]),
        };
        let mut groups = Groups::default();
        let cap = Cap::WarmUp(curve);
        let group = groups.set(&share("w", cap), first - DAY);
        assert!(!groups.has_room(group, first - 1), "not before its start");
        groups.block(group, 1);
        assert_eq!(groups.next_change(first - 40 * DAY), Some(first));
        for (day, allowed) in [(0, 2), (1, 3)] {
            let now = first + day * DAY + 3600 * SECOND;
            let mut sent = 0;
            while groups.has_room(group, now) {
                groups.take(group, now);
                sent += 1;
            }
            assert_eq!(sent, allowed);
            assert_eq!(groups.next_change(now), Some(first + (day + 1) * DAY));
            groups.give_back(group, now);
            assert!(groups.has_room(group, now), "it did not go after all");
        }
        let after = first + 2 * DAY;
        for _ in 0..1000 {
            assert!(groups.has_room(group, after));
            groups.take(group, after);
        }
    }

    #[test]
    fn what_was_used_before_a_restart_counts_on_the_same_day_only() {
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let now = time::clock(start);
        let mut groups = Groups::default();
        let curve = WarmUp {
            start,
            daily: Arc::from([5, 5]),
        };
        let group = groups.set(&share("w", Cap::WarmUp(curve.clone())), now);
        groups.take(group, now);
        let kept = groups.warm_ups(now);
        assert_eq!(kept.first().map(|kept| kept.used), Some(1));
        groups = Groups::default();
        groups.restore(vec![WarmedUp {
            used: 5,
            ..kept[0].clone()
        }]);
        let group = groups.set(&share("w", Cap::WarmUp(curve)), now);
        assert!(!groups.has_room(group, now));
        assert!(groups.has_room(group, now + DAY));
    }
}
