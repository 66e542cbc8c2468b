//! From which local address a message was greylisted: it goes from the same one when it is tried again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use relay_smtp::QueueId;

/// Messages remembered. Beyond these the oldest is forgotten: it may be greylisted once more.
const MESSAGES_MAX: usize = 50_000;

/// Ids are in the order of arrival, so the first one is the oldest.
#[derive(Debug, Default)]
pub struct Homes(Mutex<BTreeMap<QueueId, IpAddr>>);

impl Homes {
    pub(crate) fn get(&self, id: QueueId) -> Option<IpAddr> {
        self.lock().get(&id).copied()
    }

    pub(crate) fn remember(&self, id: QueueId, source: IpAddr) {
        let mut homes = self.lock();
        homes.insert(id, source);
        if homes.len() > MESSAGES_MAX {
            homes.pop_first();
        }
    }

    pub(crate) fn forget(&self, id: QueueId) {
        self.lock().remove(&id);
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
        self.lock().extend(ids);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueId, IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
