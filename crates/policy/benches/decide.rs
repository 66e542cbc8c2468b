//! How long one decision takes on the default table: `cargo bench -p relay-policy`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use relay_policy::{Context, Stimulus, Table, decide, parse_pasted};
use relay_smtp::{Phase, Reply};

const WORDINGS: &str = include_str!("../tests/data/wordings.tsv");
const ROUNDS: usize = 50;

fn main() {
    let start = Instant::now();
    let table = Table::default_table();
    println!("the default table is read in {:?}", start.elapsed());
    let replies: Vec<(Reply, Phase)> = WORDINGS.lines().skip(1).filter_map(reply_of).collect();
    let mut times = Vec::with_capacity(replies.len() * ROUNDS);
    // The first round builds the regular expressions that are needed; it is not counted.
    for round in 0..=ROUNDS {
        for (reply, phase) in &replies {
            let start = Instant::now();
            black_box(decide(
                &table,
                Stimulus::Reply(black_box(reply)),
                &Context::of(*phase),
            ));
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{} replies, {ROUNDS} rounds: median {:?}, mean {:?}, 90 % under {:?}, 99 % under {:?}",
        replies.len(),
        at(50),
        total / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX),
        at(90),
        at(99)
    );
}

/// The reply and the phase of one line of the test data.
fn reply_of(line: &str) -> Option<(Reply, Phase)> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [_, _, phase, _, _, text] = cells[..] else {
        return None;
    };
    let reply = parse_pasted(&text.replace("\\n", "\n")).ok()?;
    Some((reply, phase.parse().ok()?))
}
