//! A site that says 421 above five connections, and how much of the mail is deferred by it.

use jiff::SignedDuration;
use relay_schedule::Limits;

use crate::check;
use crate::mx::{Mx, Nature};
use crate::world::World;

const CONNECTIONS: u32 = 5;
const HOURS: i64 = 6;

/// What became of a steady stream of mail.
#[derive(Debug)]
pub struct QuarterDay {
    /// Dispatches that were refused with 421, of all.
    pub deferred: f64,
    /// Transactions, of those that five connections could have carried.
    pub used: f64,
    pub dispatches: u64,
    /// How often the site was taken for dead.
    pub suspended: u64,
}

/// A quarter of a day with as much mail as fills the site's connections `load` times over (a load of 1 would just
/// fill them), while we may open 20.
pub fn play(seed: u64, load: f64, says: &'static str) -> QuarterDay {
    let limits = Limits {
        connections: 20,
        rate: None,
        messages_per_connection: 100,
        recipients_per_transaction: 100,
    };
    let mut site = Mx::new(Nature::Busy(CONNECTIONS, says), limits);
    site.takes = (2.0, 8.0);
    let carries = f64::from(CONNECTIONS) / 5.0;
    let mut world = World::new(seed, 500, vec![site], vec![0]);
    world.checks = check::limits(500);
    let end = world.now + SignedDuration::from_hours(HOURS);
    let mut mailbox = 0;
    while world.now < end {
        // In bursts, as mail comes.
        for _ in 0..50 {
            mailbox += 1;
            world.submit(0, &[(0, mailbox)]);
        }
        let next = world.after(50.0 / (carries * load));
        world.advance(next);
    }
    let tally = world.tally;
    QuarterDay {
        deferred: tally.refused as f64 / tally.dispatches as f64,
        used: tally.delivered as f64 / (HOURS as f64 * 3600.0 * carries),
        dispatches: tally.dispatches,
        suspended: tally.suspended,
    }
}
