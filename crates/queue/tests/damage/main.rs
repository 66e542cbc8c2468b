//! Damage: every file of a state directory is flipped, overwritten, cut off or taken away, and the queue opened on it.
//!
//! DAMAGE_SEED names the work and the damages, DAMAGES how many there are (default 200).

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions only, not in their helpers"
)]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

mod harm;
mod judge;
#[path = "../store/messages.rs"]
mod messages;
mod scene;

/// So many damages are done to one work.
const DAMAGES_PER_WORK: usize = 100;

#[test]
fn damage_costs_what_was_damaged_and_nothing_else() {
    let seed = number("DAMAGE_SEED").unwrap_or_else(rand::random);
    let damages = number("DAMAGES").unwrap_or(200).max(1) as usize;
    let mut total = judge::Tally::default();
    for (number, first) in (0..damages).step_by(DAMAGES_PER_WORK).enumerate() {
        let seed = seed.wrapping_add(number as u64);
        let damages = DAMAGES_PER_WORK.min(damages - first);
        println!("DAMAGE_SEED={seed} DAMAGES={damages} cargo test -p relay-queue --test damage");
        run(seed, damages, &mut total);
    }
    println!("{}", total.summary());
    assert_eq!(total.wrong, [""; 0]);
}

/// One work, damaged at two moments: while it goes on, with an index that is behind, and at rest.
fn run(seed: u64, damages: usize, total: &mut judge::Tally) {
    let mut rng = StdRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let scenes = runtime.block_on(scene::play(rng.random()));
    for turn in 0..damages {
        let scene = &scenes[turn % scenes.len()];
        let (damaged, harm) = harm::some(scene, turn / scenes.len(), &mut rng);
        let name = format!("DAMAGE_SEED={seed}, {turn}: {harm}, {:?}", scene.moment);
        runtime.block_on(judge::judge(scene, damaged, &harm, &name, total));
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
    )
}
