//! Runs a simulation for many seeds on all processors, and says which seed failed.

use std::env;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// `SIM_SEED=n`: that one. Else `SIM_SEEDS` of them, from 1 on; without it `default`.
pub fn each(default: u64, run: impl Fn(u64) + Sync) {
    let number = |name: &str| {
        let text = env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a seed is a number"))
    };
    if let Some(seed) = number("SIM_SEED") {
        return run(seed);
    }
    let last = number("SIM_SEEDS").unwrap_or(default);
    let next = AtomicU64::new(1);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    let _name = Name(seed);
                    run(seed);
                }
            });
        }
    });
}

/// Says the seed when its run panics.
struct Name(u64);

impl Drop for Name {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was SIM_SEED={}", self.0);
        }
    }
}
