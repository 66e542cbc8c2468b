//! One week, made from a seed: which sites there are, what mail comes, what an operator does, when
//! the relay is killed.

use jiff::SignedDuration;
use rand::RngExt;
use rand::rngs::StdRng;
use relay_schedule::{Event, Limits};

use crate::check::{self, Prompt};
use crate::mx::{self, Mx, Nature};
use crate::world::{Tally, World, site_named};

const DAYS: i64 = 7;
/// Single messages in the week, in the mean.
const SINGLE: u64 = 500;
/// Mailings in the week, each to so many.
const MAILINGS: u64 = 5;
const MAILING: u64 = 80;
const SENDERS: usize = 6;
/// Greylists meet the same recipients again.
const MAILBOXES: u32 = 40;
/// The site that gets the most of the mailings, and one that is always well.
const SLOW_SITE: usize = 1;
const WELL_SITES: [usize; 1] = [0];

/// Plays the week, then heals all peers and waits for the queue to be empty.
pub fn play(seed: u64) -> Tally {
    let mut chance: StdRng = rand::SeedableRng::seed_from_u64(seed ^ 0x5eed);
    let sites = sites(&mut chance);
    // Two domains at the first sites, one at the others.
    let hops: Vec<usize> = (0..sites.len() + 4).map(|hop| hop % sites.len()).collect();
    // Enough for all, or scarce.
    let sessions_max = if chance.random_bool(0.7) { 200 } else { 12 };
    let mut world = World::new(seed, sessions_max, sites, hops);
    world.checks = check::all(&world.hops, sessions_max);
    if sessions_max == 200 {
        let prompt = Prompt::new(&world.hops, &WELL_SITES);
        world.checks.push(Box::new(prompt));
    }
    away(&mut world, &mut chance);
    let end = world.now + SignedDuration::from_hours(24 * DAYS);
    let things = SINGLE + MAILINGS + 40;
    let pause = DAYS as f64 * 86_400.0 / things as f64;
    while world.now < end {
        let next = world.after(chance.random_range(0.0..2.0 * pause));
        world.advance(next.min(end));
        one_thing(&mut world, &mut chance, things);
    }
    world.drain();
    world.tally
}

fn sites(chance: &mut StdRng) -> Vec<Mx> {
    let natures = [
        Nature::Good,
        Nature::Slow,
        Nature::Greylisting(chance.random_range(60..1200)),
        Nature::Busy(chance.random_range(1..6), mx::TOO_MANY),
        Nature::Busy(chance.random_range(1..6), mx::NOT_NOW),
        Nature::Drops,
        Nature::Mortal,
        Nature::Mortal,
        Nature::FewRecipients(3),
        Nature::Moody,
        Nature::Touchy(chance.random_range(2..30)),
        Nature::Dead,
        Nature::Dead,
        Nature::Good,
        Nature::Good,
    ];
    let mut sites: Vec<Mx> = natures
        .into_iter()
        .map(|nature| {
            let limits = limits(chance);
            Mx::new(nature, limits)
        })
        .collect();
    for site in WELL_SITES {
        sites[site].limits.rate = None;
        sites[site].limits.connections = 10;
    }
    sites
}

fn limits(chance: &mut StdRng) -> Limits {
    Limits {
        connections: chance.random_range(1..12),
        rate: chance
            .random_bool(0.3)
            .then(|| chance.random_range(0.2..20.0)),
        messages_per_connection: chance.random_range(1..100),
        recipients_per_transaction: 100,
    }
}

/// Some sites die for an hour, a few times.
fn away(world: &mut World, chance: &mut StdRng) {
    let start = world.now;
    for site in &mut world.sites {
        if site.nature == Nature::Mortal {
            for _ in 0..6 {
                let from =
                    start + SignedDuration::from_mins(chance.random_range(0..60 * 24 * DAYS));
                site.away.push((from, from + SignedDuration::from_hours(1)));
            }
        }
    }
}

fn one_thing(world: &mut World, chance: &mut StdRng, things: u64) {
    let site = chance.random_range(0..world.sites.len());
    // What an operator does to sites leaves those out that are to be well.
    let other = site.max(WELL_SITES.len());
    match chance.random_range(0..things) {
        0..=4 => mailing(world, chance),
        5..=14 => {
            if chance.random_bool(0.5) {
                // Right in the middle of a burst.
                mailing(world, chance);
                let soon = world.after(chance.random_range(0.0..30.0));
                world.advance(soon);
            }
            world.restart();
        }
        15..=18 => world.flush(None),
        19..=24 => {
            let ids = world.store.unfinished().into_iter().step_by(3).collect();
            world.flush(Some(ids));
        }
        25..=30 => world.suspend(other, chance.random_range(60.0..7200.0)),
        31..=32 => world.resume(other),
        33..=36 => {
            let unfinished = world.store.unfinished();
            if let Some(&id) = unfinished.get(unfinished.len() / 2) {
                world.discard(id);
            }
        }
        37..=40 => {
            world.sites[other].limits = limits(chance);
            world.tell(Event::Refresh);
        }
        41..=44 => {
            let until = world.after(600.0);
            let (site, rule) = (site_named(other), "operator".into());
            world.tell(Event::Slow { site, until, rule });
        }
        _ => single(world, chance),
    }
}

fn single(world: &mut World, chance: &mut StdRng) {
    let count = if chance.random_bool(0.8) { 1 } else { 8 };
    let hop = chance.random_range(0..world.hops.len());
    let recipients: Vec<(usize, u32)> = (0..count)
        .map(|_| {
            let elsewhere = chance.random_bool(0.2);
            let hop = if elsewhere {
                chance.random_range(0..world.hops.len())
            } else {
                hop
            };
            (hop, chance.random_range(0..MAILBOXES))
        })
        .collect();
    world.submit(chance.random_range(0..SENDERS), &recipients);
}

/// Many messages of one sender at once, half of them to the slow site.
fn mailing(world: &mut World, chance: &mut StdRng) {
    let sender = chance.random_range(0..SENDERS);
    for _ in 0..MAILING {
        let hop = if chance.random_bool(0.5) {
            SLOW_SITE
        } else {
            chance.random_range(0..world.hops.len())
        };
        world.submit(sender, &[(hop, chance.random_range(0..MAILBOXES))]);
    }
}
