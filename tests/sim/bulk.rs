//! A mailing of 50,000 to a slow site, and what becomes of the mail of others meanwhile.

use jiff::{SignedDuration, Timestamp};
use relay_schedule::Limits;
use relay_smtp::QueueId;

use crate::check;
use crate::mx::{Mx, Nature};
use crate::store::End;
use crate::world::World;

pub const MESSAGES: u32 = 50_000;
const SLOW: usize = 0;
const WELL: usize = 1;
/// Next hops whose sites are not there at all.
const DEAD: std::ops::Range<usize> = 2..12;
const BULK: usize = 0;
const OTHER: usize = 1;
/// The mailing is the bulk sender's stream 0.
const RECEIPTS: usize = 1;

/// How long single messages took, with the mailing in the queue.
#[derive(Debug)]
pub struct Waits {
    pub to_the_well_site: SignedDuration,
    pub to_the_slow_site: SignedDuration,
    /// Messages of the mailing that went to the slow site while that one waited.
    pub overtaken_by: usize,
    /// One that the sender of the mailing sends from another address, which is large, too.
    pub of_the_same_sender: SignedDuration,
}

pub fn play(seed: u64) -> Waits {
    let limits = Limits {
        connections: 5,
        rate: None,
        messages_per_connection: 100,
        recipients_per_transaction: 100,
    };
    let natures = [Nature::Slow, Nature::Good].into_iter();
    let sites: Vec<Mx> = natures
        .chain(DEAD.map(|_| Nature::Dead))
        .map(|nature| Mx::new(nature, limits.clone()))
        .collect();
    let hops = (0..sites.len()).collect();
    let mut world = World::new(seed, 500, sites, hops);
    world.checks = check::all(&world.hops, 500);
    for mailbox in 0..MESSAGES {
        world.submit(BULK, &[(SLOW, mailbox)]);
    }
    for hop in DEAD {
        for mailbox in 0..20 {
            world.submit(BULK, &[(hop, mailbox)]);
        }
    }
    // Long enough for all of them to be due, and the sessions to be busy.
    world.advance(world.now + SignedDuration::from_mins(10));
    let before = finished(&world);
    let start = world.now;
    let well = world.submit(OTHER, &[(WELL, 1)]);
    let to_the_well_site = until_tried(&mut world, well, start);
    let slow = world.submit(OTHER, &[(SLOW, 1)]);
    let to_the_slow_site = until_tried(&mut world, slow, start);
    let overtaken_by = finished(&world) - before;
    let same = world.submit_in(BULK, RECEIPTS, 1 << 20, &[(SLOW, MESSAGES)]);
    let of_the_same_sender = until_tried(&mut world, same, start);
    Waits {
        to_the_well_site,
        to_the_slow_site,
        overtaken_by,
        of_the_same_sender,
    }
}

fn finished(world: &World) -> usize {
    let mails = world.store.mails.values();
    mails
        .filter(|mail| mail.recipients[0].end.is_final())
        .count()
}

/// Goes on until the message has been tried; less what the transaction itself takes.
fn until_tried(world: &mut World, id: QueueId, start: Timestamp) -> SignedDuration {
    let from = world.now.max(start);
    while !world.is_with_a_session(id) && world.store.recipient(id, 0).end == End::Due(from) {
        assert!(
            world.now.duration_since(from).as_hours() < 24,
            "never tried"
        );
        let soon = world.after(0.01);
        world.advance(soon);
    }
    world.now.duration_since(from)
}
