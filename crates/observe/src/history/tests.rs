//! The history as a whole: written by its thread, read back, bounded, mended after a kill.

use std::fs;
use std::io::Write;

use jiff::Timestamp;
use relay_smtp::{QueueId, Reply};

use super::*;
use crate::event::tests::tried;
use crate::event::{Basis, Events, Tried};
use crate::metric::Metric;

const START: &str = "2026-11-22T16:00:00Z";
const ALL: Limits = Limits {
    entries_max: 1_000_000,
    bytes_max: u64::MAX,
};

fn start() -> Timestamp {
    START.parse().unwrap()
}

fn id(number: u64) -> QueueId {
    let made = u64::try_from(start().as_millisecond()).unwrap();
    QueueId::from_u64(QueueId::first_of(made, 0).to_u64() + number)
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        addresses: Addresses::Whole,
        max_age: Duration::from_secs(14 * 86_400),
        bytes_max: 1 << 30,
    }
}

fn open(options: Options) -> Events {
    Events::with_history(options, Clock::starting_at(start())).unwrap()
}

fn delivered(number: u64) -> Event {
    let reply = Reply::new(250, None, format!("taken as {number}"));
    Event::RecipientDelivered {
        id: id(number),
        recipient: format!("r{number}@rcpt.example"),
        tried: Box::new(Tried {
            reply: reply.to_string(),
            basis: Basis::Reply(reply),
            ..*tried("250 ok")
        }),
        age: Duration::from_secs(1),
        attempts: 1,
    }
}

fn close(events: &Events) {
    events.history().unwrap().close();
}

fn read(dir: &Path) -> Vec<Entry> {
    let reader = Reader::new(dir);
    let from = reader.since(Timestamp::UNIX_EPOCH).unwrap();
    let step = reader.step(from, &Filter::default(), ALL).unwrap();
    assert_eq!((step.left, step.damaged), (0, 0));
    step.entries
}

fn bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn what_was_told_can_be_read_once_it_is_caught_up_and_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let events = open(options(dir.path()));
    for number in 0..100 {
        events.emit(delivered(number));
    }
    let history = events.history().unwrap();
    history.caught_up().await;
    assert_eq!(read(dir.path()).len(), 100);
    let story = history.reader().story(id(42), 10).unwrap();
    assert_eq!(story.len(), 1);
    assert_eq!(story[0].recipient.as_deref(), Some("r42@rcpt.example"));
    close(&events);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_the_next_life_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let events = open(options(dir.path()));
    events.emit(delivered(1));
    close(&events);
    let segment = segment::Segment::all(dir.path()).unwrap().remove(0);
    let mut file = fs::File::options()
        .append(true)
        .open(&segment.path)
        .unwrap();
    file.write_all(br#"{"at":"2026-11-22T16:00:00.000Z","event":"recip"#)
        .unwrap();
    assert_eq!(read(dir.path()).len(), 1, "a reader passes over it");

    let events = open(options(dir.path()));
    events.emit(delivered(2));
    close(&events);
    let found: Vec<_> = read(dir.path()).iter().map(|entry| entry.id).collect();
    assert_eq!(found, [Some(id(1)), Some(id(2))]);
    assert_eq!(segment::Segment::all(dir.path()).unwrap().len(), 1);
}

#[tokio::test]
async fn the_files_together_never_grow_beyond_their_bound_and_the_newest_stay() {
    let dir = tempfile::tempdir().unwrap();
    let events = open(Options {
        bytes_max: 1 << 20,
        ..options(dir.path())
    });
    for number in 0..10_000 {
        events.emit(delivered(number));
        if number % 500 == 0 {
            events.history().unwrap().caught_up().await;
            assert!(bytes(dir.path()) <= 1 << 20, "{} bytes", bytes(dir.path()));
        }
    }
    close(&events);
    assert!(bytes(dir.path()) <= 1 << 20);
    assert!(bytes(dir.path()) > 1 << 19, "{} bytes", bytes(dir.path()));
    assert_eq!(events.metrics().get(Metric::HistoryLost), 0);
    let entries = read(dir.path());
    assert_eq!(entries.last().unwrap().id, Some(id(9_999)));
    let reader = Reader::new(dir.path());
    // In a full segment by its list, in the open one by its lines.
    for entry in [
        &entries[0],
        &entries[entries.len() / 2],
        &entries[entries.len() - 1],
    ] {
        let story = reader.story(entry.id.unwrap(), 10).unwrap();
        assert_eq!(story, std::slice::from_ref(entry));
    }
    assert_eq!(reader.story(id(0), 10).unwrap(), [], "it has gone");
}

#[tokio::test(start_paused = true)]
async fn the_list_of_a_full_segment_has_the_ids_of_every_life_that_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3 {
        let events = open(options(dir.path()));
        events.emit(delivered(number));
        close(&events);
    }
    let events = open(options(dir.path()));
    events.emit(delivered(3));
    events.history().unwrap().caught_up().await;
    tokio::time::advance(Duration::from_secs(86_400)).await;
    events.emit(delivered(4));
    close(&events);
    let full = segment::Segment::all(dir.path()).unwrap().remove(0);
    let lines = fs::read(&full.path).unwrap();
    for number in 0..4 {
        let offsets = full.offsets(id(number)).unwrap().expect("a list");
        let [offset] = offsets[..] else {
            panic!("{number}: {offsets:?}")
        };
        let line = lines[offset as usize..].split(|byte| *byte == b'\n').next();
        let entry: Entry = serde_json::from_slice(line.unwrap()).unwrap();
        assert_eq!(entry.id, Some(id(number)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_has_a_segment_of_its_own_and_goes_when_it_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(86_400);
    let events = open(Options {
        max_age: day * 2,
        ..options(dir.path())
    });
    for number in 0..6 {
        events.emit(delivered(number));
        tokio::time::advance(day).await;
    }
    close(&events);
    let found: Vec<_> = read(dir.path())
        .iter()
        .filter_map(|entry| entry.id)
        .collect();
    // The third day's segment ended with the beginning of the fourth, two days before the last.
    assert_eq!(found, [id(2), id(3), id(4), id(5)]);
}

#[tokio::test]
async fn steps_go_through_all_of_it_and_a_full_disk_is_counted_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let events = open(options(dir.path()));
    for number in 0..1_000 {
        events.emit(delivered(number));
    }
    events.history().unwrap().caught_up().await;
    let reader = Reader::new(dir.path());
    let limits = Limits {
        entries_max: 7,
        bytes_max: u64::MAX,
    };
    let (mut place, mut found) = (reader.since(start()).unwrap(), Vec::new());
    loop {
        let step = reader.step(place, &Filter::default(), limits).unwrap();
        assert!(step.entries.len() <= 7);
        found.extend(step.entries.iter().filter_map(|entry| entry.id));
        assert_eq!(step.place.to_string().parse(), Ok(step.place));
        place = step.place;
        if step.left == 0 {
            break;
        }
    }
    assert_eq!(found, (0..1_000).map(id).collect::<Vec<_>>());
    assert_eq!(reader.end().unwrap(), place);

    // A directory that is gone stands for a disk that takes nothing.
    close(&events);
    let events = open(options(&dir.path().join("new")));
    fs::remove_dir_all(dir.path().join("new")).unwrap();
    events.emit(delivered(1));
    events.history().unwrap().caught_up().await;
    assert_eq!(events.metrics().get(Metric::HistoryLost), 1);
    fs::create_dir(dir.path().join("new")).unwrap();
    events.emit(delivered(2));
    close(&events);
    assert_eq!(events.metrics().get(Metric::HistoryLost), 1);
    let kinds: Vec<_> = read(&dir.path().join("new"))
        .into_iter()
        .map(|entry| entry.event)
        .collect();
    assert_eq!(kinds, ["recipient_delivered", "history_lost"]);
}

#[tokio::test]
async fn two_relays_do_not_write_into_one_history() {
    let dir = tempfile::tempdir().unwrap();
    let events = open(options(dir.path()));
    let second = Events::with_history(options(dir.path()), Clock::starting_at(start()));
    assert!(second.unwrap_err().to_string().contains("another relayd"));
    close(&events);
    close(&open(options(dir.path())));
}

#[tokio::test]
async fn a_damaged_line_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let events = open(options(dir.path()));
    (0..3).for_each(|number| events.emit(delivered(number)));
    close(&events);
    let segment = segment::Segment::all(dir.path()).unwrap().remove(0);
    let text = fs::read_to_string(&segment.path).unwrap();
    fs::write(&segment.path, text.replacen("\"event\"", "\u{0}", 1)).unwrap();
    let reader = Reader::new(dir.path());
    let from = reader.since(start()).unwrap();
    let step = reader.step(from, &Filter::default(), ALL).unwrap();
    assert_eq!((step.entries.len(), step.damaged), (2, 1));
    assert_eq!(reader.story(id(2), 10).unwrap().len(), 1);
}
