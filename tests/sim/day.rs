//! One virtual day of steady mail to sites that each have one bad habit, and how much of it each site
//! defers.

use jiff::SignedDuration;
use rand::RngExt;
use relay_schedule::{Cap, Limits, Share};

use crate::check::{self, Prompt, SharedKept};
use crate::mx::{self, Mx, Nature};
use crate::world::World;

/// Bursts of mail in the day.
const BURSTS: u32 = 24;
/// Messages of one burst to the site that says 421 above five connections, and to each other one.
const TO_BUSY: u32 = 250;
const TO_OTHERS: u32 = 40;
const WELL: usize = 0;
pub const BUSY: usize = 3;
const MORTAL: usize = 5;
/// Sites of one provider, which allows all of them together so many connections.
const PROVIDER: [usize; 3] = [7, 8, 9];
const PROVIDER_CONNECTIONS: u32 = 4;

#[derive(Debug)]
pub struct Day {
    /// By site: attempts that were deferred, of all.
    pub deferred: Vec<(Nature, f64)>,
    /// By site: messages delivered by the end of the day, of all.
    pub delivered: Vec<f64>,
}

pub fn play(seed: u64) -> Day {
    let natures = [
        Nature::Good,
        Nature::Slow,
        Nature::Greylisting(300),
        Nature::Busy(5, mx::NOT_NOW),
        Nature::Drops,
        Nature::Mortal,
        Nature::Dead,
        Nature::Good,
        Nature::Good,
        Nature::Good,
    ];
    let limits = Limits {
        connections: 20,
        rate: None,
        messages_per_connection: 100,
        recipients_per_transaction: 100,
    };
    let sites: Vec<Mx> = natures.map(|nature| Mx::new(nature, limits.clone())).into();
    let hops: Vec<usize> = (0..sites.len()).collect();
    let mut world = World::new(seed, 200, sites, hops);
    world.checks = check::all(&world.hops, 200);
    world
        .checks
        .push(Box::new(Prompt::new(&world.hops, &[WELL])));
    let together = SharedKept::new(&PROVIDER, PROVIDER_CONNECTIONS);
    world.checks.push(Box::new(together));
    for site in PROVIDER {
        let share = Share {
            name: "connections to provider p".into(),
            cap: Cap::Connections(PROVIDER_CONNECTIONS),
            source: None,
        };
        world.shares.insert(site, vec![share]);
    }
    let start = world.now;
    let dies = start + SignedDuration::from_mins(world.rng.random_range(60..22 * 60));
    world.sites[MORTAL].away = vec![(dies, dies + SignedDuration::from_hours(1))];
    let end = start + SignedDuration::from_hours(24);
    let mut mailbox = 0;
    for burst in 1..=BURSTS {
        for site in 0..natures.len() {
            let count = if site == BUSY { TO_BUSY } else { TO_OTHERS };
            for _ in 0..count {
                mailbox += 1;
                world.submit((mailbox % 3) as usize, &[(site, mailbox)]);
            }
            // Not all in one moment.
            let soon = world.after(20.0);
            world.advance(soon);
        }
        let next = start
            + SignedDuration::from_hours(24) * i32::try_from(burst).unwrap()
                / i32::try_from(BURSTS).unwrap();
        world.advance(next.min(end));
    }
    let deferred = by_site(&world, &natures, |attempts, delivered| {
        (
            f64::from(attempts.saturating_sub(delivered)),
            f64::from(attempts),
        )
    });
    let delivered = by_site(&world, &natures, |_, delivered| (f64::from(delivered), 1.0));
    world.drain();
    Day {
        deferred: natures.into_iter().zip(deferred).collect(),
        delivered,
    }
}

/// A part of a whole for each site, summed over its recipients: attempts, and 1 for a recipient that has
/// its end.
fn by_site(world: &World, natures: &[Nature], of: impl Fn(u32, u32) -> (f64, f64)) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); natures.len()];
    let mails = world.store.mails.values();
    for recipient in mails.flat_map(|mail| &mail.recipients) {
        let ended = u32::from(recipient.end.is_final());
        let (part, whole) = of(recipient.attempts, ended);
        sums[recipient.hop].0 += part;
        sums[recipient.hop].1 += whole;
    }
    sums.into_iter().map(|(part, whole)| part / whole).collect()
}
