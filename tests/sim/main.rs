//! A week, or a day, of the relay in memory, on a seeded virtual clock: the real scheduler, policy and
//! retry clock against models of the queue and of receiving sites.
//!
//! What goes wrong is found by the judges in [`check`]. `SIM_SEED=7` plays one seed, `SIM_SEEDS=1000` so
//! many.

#![allow(clippy::unwrap_used)]

mod bulk;
mod check;
mod day;
mod fact;
mod judge;
mod limiter;
mod mx;
mod seeds;
mod session;
mod store;
mod week;
mod world;

use jiff::SignedDuration;

#[test]
fn a_week_loses_nothing_keeps_all_limits_and_drains() {
    seeds::each(200, |seed| {
        let tally = week::play(seed);
        if std::env::var_os("SIM_SEED").is_some() {
            println!("{tally:#?}");
        }
        assert!(tally.delivered > 300, "too little happened: {tally:?}");
    });
}

#[test]
fn a_day_with_all_bad_habits_defers_little_loses_nothing_and_keeps_all_limits() {
    seeds::each(2, |seed| {
        let day = day::play(seed);
        let (_, busy) = day.deferred[day::BUSY];
        println!("seed {seed}: {:.2?}", day.deferred);
        assert!(busy < 0.10, "{busy}: {day:?}");
        for (site, delivered) in day.delivered.iter().enumerate() {
            match day.deferred[site].0 {
                mx::Nature::Dead => assert!(*delivered < 0.01, "{site}: {day:?}"),
                _ => assert!(*delivered > 0.9, "{site}: {day:?}"),
            }
        }
    });
}

#[test]
fn a_mailing_of_50_000_to_a_slow_site_delays_nobody_else() {
    let waits = bulk::play(1);
    println!("{waits:?}");
    let second = SignedDuration::from_secs(1);
    assert!(waits.to_the_well_site <= second, "{waits:?}");
    // The first of five sessions that is free takes it, or the second: each is busy for a minute at most.
    let minute = SignedDuration::from_secs(60);
    assert!(waits.to_the_slow_site <= minute, "{waits:?}");
    assert!(waits.overtaken_by <= 5, "{waits:?}");
    assert!(waits.of_the_same_sender <= minute, "{waits:?}");
}

#[test]
fn a_site_that_refuses_more_than_five_connections_defers_less_than_a_hundredth() {
    for says in [mx::TOO_MANY, mx::NOT_NOW] {
        for load in [0.5, 0.9, 1.5] {
            let quarter = limiter::play(1, load, says);
            println!("{says:?} at load {load}: {quarter:?}");
            assert!(quarter.dispatches > 5_000, "{quarter:?}");
            assert!(quarter.deferred < 0.01, "{quarter:?}");
            assert!(quarter.used > 0.7 * load.min(1.0), "{quarter:?}");
            assert_eq!(quarter.suspended, 0, "{quarter:?}");
        }
    }
}
