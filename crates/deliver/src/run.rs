//! The dispatcher: one task that owns the scheduler, starts sessions, and takes new jobs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay_config::Config;
use relay_queue::Message;
use relay_route::RouteSettings;
use relay_smtp::QueueId;

use crate::world::World;

/// The handle to the running dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Delivery {}

/// One row of `status` and `site list`.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteView {
    /// The sorted MX names joined by commas, `relay:NAME`, `[address]`, or `domain NAME` where no
    /// hosts could be found.
    pub site: String,
    /// Next hops that lead there, at most 20 of them, as they are shown.
    pub hops: Vec<String>,
    /// How many next hops lead there.
    pub hops_total: u64,
    /// Jobs (message and next hop) that are due and wait for a session.
    pub ready: u64,
    /// Jobs that wait for their time.
    pub waiting: u64,
    /// Jobs that a session carries out now.
    pub in_flight: u64,
    /// Sessions now.
    pub sessions: u32,
    /// Sessions that limits allow.
    pub connections: u32,
    /// Sessions that the feedback allows.
    pub window: u32,
    /// Messages per second now allowed; None: no limit.
    pub rate: Option<f64>,
    pub suspended_until: Option<Timestamp>,
    /// The rule behind the suspension or the slow-down.
    pub why: Option<String>,
}

impl Delivery {
    /// Starts the dispatcher. The task ends after [`Delivery::stop`].
    pub fn start(world: Arc<World>, seed: u64) -> (Delivery, tokio::task::JoinHandle<()>) {
        let _ = (world, seed);
        todo!()
    }
    /// Takes a message that the queue has accepted.
    pub async fn enqueue(&self, message: Arc<Message>) {
        let _ = message;
    }
    /// Takes over everything that is in the queue, at start. Returns the number of messages.
    pub async fn load(&self) -> u64 {
        todo!()
    }
    /// Makes messages due now; None: all. Returns how many.
    pub async fn flush(&self, ids: Option<Vec<QueueId>>) -> u64 {
        let _ = ids;
        todo!()
    }
    /// The message is no longer to be tried.
    pub async fn remove(&self, id: QueueId) {
        let _ = id;
    }
    /// Sites with work, sessions or something to tell.
    pub async fn sites(&self) -> Vec<SiteView> {
        todo!()
    }
    /// What each job of the message waits for, in words. Empty: nothing is to be done for it.
    pub async fn blocked_by(&self, id: QueueId) -> Vec<String> {
        let _ = id;
        todo!()
    }
    /// After `world.settings` was exchanged: limits and hops anew.
    pub async fn reload(&self) {}
    /// No new dispatches; sessions finish what they have within this time, then they are abandoned.
    pub async fn stop(&self, within: Duration) {
        let _ = within;
    }
}

/// What the router must know, taken from the configuration.
pub fn route_settings(config: &Config) -> RouteSettings {
    let _ = config;
    todo!()
}
