//! From which local address a message was greylisted: it goes from the same one when it is tried again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use relay_smtp::QueueId;

/// Messages remembered. Beyond these the oldest is forgotten: it may be greylisted once more.
const MESSAGES_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub struct Homes {
    /// Ids are in the order of arrival, so the first one is the oldest.
    all: Mutex<BTreeMap<QueueId, IpAddr>>,
    /// How many there are: every transaction asks, mostly where nothing is remembered, and must not wait for the others then.
    count: AtomicUsize,
}

impl Homes {
    pub(crate) fn get(&self, id: QueueId) -> Option<IpAddr> {
        if self.is_empty() {
            return None;
        }
        self.lock().get(&id).copied()
    }

    pub(crate) fn remember(&self, id: QueueId, source: IpAddr) {
        let mut homes = self.lock();
        homes.insert(id, source);
        if homes.len() > MESSAGES_MAX {
            homes.pop_first();
        }
        self.count.store(homes.len(), Ordering::Release);
    }

    pub(crate) fn forget(&self, id: QueueId) {
        if self.is_empty() {
            return;
        }
        let mut homes = self.lock();
        homes.remove(&id);
        self.count.store(homes.len(), Ordering::Release);
    }

    /// To be kept over a restart.
    pub(crate) fn all(&self) -> Vec<(String, IpAddr)> {
        let homes = self.lock();
        homes.iter().map(|(id, at)| (id.to_string(), *at)).collect()
    }

    /// What was kept.
    pub(crate) fn restore(&self, kept: Vec<(String, IpAddr)>) {
        let ids = kept
            .into_iter()
            .filter_map(|(id, source)| Some((id.parse::<QueueId>().ok()?, source)));
        let mut homes = self.lock();
        homes.extend(ids);
        self.count.store(homes.len(), Ordering::Release);
    }

    /// What a message's own session has remembered is seen here: one session has a message at a time, and the next one
    /// gets it through the dispatcher.
    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueId, IpAddr>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_until_it_is_forgotten_also_after_a_restart() {
        let source = IpAddr::from([192, 0, 2, 1]);
        let (first, second) = (QueueId::from_u64(1), QueueId::from_u64(2));
        let homes = Homes::default();
        assert_eq!(homes.get(first), None);
        homes.remember(first, source);
        homes.forget(second);
        assert_eq!((homes.get(first), homes.get(second)), (Some(source), None));
        let restarted = Homes::default();
        restarted.restore(homes.all());
        assert_eq!(restarted.get(first), Some(source));
        restarted.forget(first);
        assert_eq!((restarted.get(first), restarted.all().len()), (None, 0));
    }
}
