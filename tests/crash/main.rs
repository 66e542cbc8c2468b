//! A real relayd under load, killed again and again, restarted, and judged at the end: every 250 that it
//! gave is delivered, reported or still queued, and nobody gets a message twice without need.
//!
//! CRASH_SEED names the first series, CRASH_ROUNDS how many kills there are in all (default 30).

// A test ends by panicking.
#![allow(clippy::unwrap_used)]

mod history;
mod judge;
mod judge_is_awake;
mod load;
mod series;

/// A series has this many kills on one state directory before it drains and is judged.
const KILLS_PER_SERIES: u64 = 10;

#[test]
fn what_was_promised_survives_every_kill() {
    let seed = number("CRASH_SEED").unwrap_or_else(rand::random);
    let rounds = number("CRASH_ROUNDS").unwrap_or(30).max(1);
    let mut reached = Vec::new();
    for (series, first) in (0..rounds).step_by(KILLS_PER_SERIES as usize).enumerate() {
        let kills = KILLS_PER_SERIES.min(rounds - first);
        let seed = seed.wrapping_add(series as u64);
        println!("CRASH_SEED={seed} CRASH_ROUNDS={kills} replays this series");
        let history = series::run(seed, kills);
        println!("  {}", history.summary());
        assert!(
            kills < KILLS_PER_SERIES || history.promised() >= kills as usize,
            "hardly a message was taken: this proves nothing"
        );
        let complaints = judge::judge(&history);
        assert!(
            complaints.is_empty(),
            "CRASH_SEED={seed} CRASH_ROUNDS={kills}\n{}",
            complaints.join("\n")
        );
        reached.extend(history.reached);
    }
    if rounds >= 30 && cfg!(debug_assertions) {
        for point in relay_observe::CrashPoint::ALL {
            assert!(reached.contains(&point), "{point:?} was never reached");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")),
    )
}
