//! How fast the history takes events and finds them again: `history_rate [EVENTS]`, a million without.
//! Writes to a temporary directory, some 500 MB for each million.

use std::path::Path;
use std::time::{Duration, Instant};

use relay_observe::history::{Addresses, Filter, Limits, Options};
use relay_observe::metric::Metric;
use relay_observe::{Basis, Clock, Event, Events, Tried};
use relay_smtp::{Phase, QueueId, Reply};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events: u64 = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 1_000_000,
    };
    let dir = std::env::temp_dir().join(format!("history-rate-{}", std::process::id()));
    let measured = measure(&dir, events);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(dir: &Path, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    let now = jiff::Timestamp::now();
    let events = Events::with_history(
        Options {
            dir: dir.to_owned(),
            addresses: Addresses::Whole,
            max_age: Duration::from_secs(86_400),
            bytes_max: 1 << 40,
        },
        Clock::starting_at(now),
    )?;
    let first = QueueId::first_of(u64::try_from(now.as_millisecond())?, 0);
    let id = |number: u64| QueueId::from_u64(first.to_u64() + number);
    let begun = Instant::now();
    for number in 0..count {
        events.emit(delivered(id(number)));
    }
    let told = begun.elapsed();
    let Some(history) = events.history() else {
        return Err("there is no history".into());
    };
    history.close();
    let written = begun.elapsed();
    let lost = events.metrics().get(Metric::HistoryLost);
    println!("{count} events: told in {told:.2?}, written after {written:.2?}, {lost} lost");

    let reader = history.reader();
    let begun = Instant::now();
    let found = (0..100).filter(|part| {
        let story = reader.story(id(count / 100 * part), 10);
        story.is_ok_and(|story| !story.is_empty())
    });
    let found = found.count();
    println!(
        "{found} of 100 messages found by id, {:.2?} each",
        begun.elapsed() / 100
    );

    let begun = Instant::now();
    let filter = Filter {
        recipient: Some("nobody@rcpt.example".to_owned()),
        ..Filter::default()
    };
    let limits = Limits {
        entries_max: 1_000,
        bytes_max: u64::MAX,
    };
    let from = reader.since(jiff::Timestamp::UNIX_EPOCH)?;
    let step = reader.step(from, &filter, limits)?;
    println!(
        "read through to {} for a recipient in {:.2?}, {} found",
        step.place,
        begun.elapsed(),
        step.entries.len()
    );
    Ok(())
}

fn delivered(id: QueueId) -> Event {
    let reply = Reply::new(250, "2.0.0".parse().ok(), "Ok: queued as 4ZxKpQ1zJqz9sXv");
    Event::RecipientDelivered {
        id,
        recipient: format!("{id}@rcpt.example"),
        tried: Box::new(Tried {
            sender: "newsletter@sender.example".to_owned(),
            user: Some("billing".to_owned()),
            site: Some("mx1.rcpt.example,mx2.rcpt.example".to_owned()),
            host: Some("mx1.rcpt.example [192.0.2.7]".to_owned()),
            tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384".to_owned()),
            phase: Phase::Body,
            reply: reply.to_string(),
            basis: Basis::Reply(reply),
            accepted_before: 1,
            rule: "accepted".to_owned(),
            category: "success".to_owned(),
            action: "ok".to_owned(),
            provider: None,
        }),
        age: Duration::from_millis(1_250),
        attempts: 1,
    }
}
