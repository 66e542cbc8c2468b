//! Large bodies in files of their own: durable before their record, there as long as their message is,
//! and never given out damaged.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use relay_observe::{Clock, Events};
use relay_queue::{
    BIG_BYTES, Body, Device, DiskStore, Message, NewMessage, Options, State, Store, StoreError,
    SystemDevice,
};
use relay_smtp::QueueId;

use crate::common::*;
use crate::reclaim::until;

/// Not the same in any two places, so that a piece in the wrong one is seen.
fn content(bytes: usize) -> Bytes {
    (0..bytes)
        .map(|n| (n % 251) as u8 ^ (n >> 16) as u8)
        .collect()
}

const BYTES: usize = 3 * BIG_BYTES + 17;

/// Written as a session does it, a chunk at a time.
async fn staged(store: &dyn Store, id: QueueId, content: &Bytes) -> Result<Body, StoreError> {
    let mut staging = store.stage(id).await?;
    for chunk in content.chunks(10_000) {
        staging.write(content.slice_ref(chunk)).await?;
    }
    staging.finish().await
}

async fn accept_big(store: &dyn Store) -> Arc<Message> {
    let id = store.next_id();
    let body = staged(store, id, &content(BYTES)).await.unwrap();
    let new = NewMessage {
        body,
        ..message_to(id, 1, "")
    };
    store.accept(new).await.unwrap()
}

fn open_with(directory: &Path, device: Arc<dyn Device>) -> (DiskStore, Events) {
    let events = Events::default();
    let options = Options {
        device,
        index_every: Duration::from_millis(1),
        ..options()
    };
    let clock = Clock::starting_at(now());
    let store = DiskStore::open(directory, clock, events.clone(), options).unwrap();
    (store, events)
}

fn unreadable(events: &Events) -> u64 {
    let counted = events.metrics().snapshot();
    let name = "relayd_bodies_unreadable_total";
    counted.iter().find(|(found, _)| *found == name).unwrap().1
}

fn big(directory: &Path) -> PathBuf {
    directory.join("big")
}

fn of(directory: &Path, message: &Message) -> PathBuf {
    big(directory).join(message.id.to_string())
}

#[tokio::test]
async fn a_large_body_survives_a_kill_a_restart_and_a_rebuild_and_goes_with_its_message() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let message = accept_big(&store).await;
    assert_eq!(message.size, BYTES as u64);
    assert_eq!(store.stats().bytes, BYTES as u64);
    let killed = copy(directory.path());
    store.close().await;
    let rebuilt = copy(directory.path());
    delete_index(rebuilt.path());
    for path in [killed.path(), directory.path(), rebuilt.path()] {
        let store = open(path);
        assert_eq!(store.message(message.id).await.unwrap().unwrap(), message);
        assert_eq!(body_of(&store, message.id).await.unwrap(), content(BYTES));
        assert_eq!(files(&big(path)), [of(path, &message)]);
        let read_on = store.body(message.id).await.unwrap().unwrap();
        let delivered = settle_all(&message, State::Delivered, "250 ok");
        store.settle(delivered).await.unwrap();
        assert!(store.body(message.id).await.unwrap().is_none());
        store.close().await;
        assert_eq!(files(&big(path)).len(), 0);
        assert_eq!(read_on.whole().await.unwrap(), content(BYTES));
        delete_index(path);
        assert_eq!(contents(&open(path)).await, []);
    }
}

#[tokio::test]
async fn one_that_comes_in_one_piece_lies_in_a_file_too_and_a_small_one_in_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for (bytes, in_files) in [(BIG_BYTES, 0), (BIG_BYTES + 1, 1)] {
        let mut new = message(&store, "");
        new.body = content(bytes).into();
        let message = store.accept(new).await.unwrap();
        assert_eq!(files(&big(directory.path())).len(), in_files);
        assert_eq!(body_of(&store, message.id).await.unwrap(), content(bytes));
    }
}

#[tokio::test]
async fn what_was_staged_and_not_accepted_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut half = store.stage(store.next_id()).await.unwrap();
    half.write(content(1000)).await.unwrap();
    let id = store.next_id();
    let whole = staged(&store, id, &content(1000)).await.unwrap();
    assert_eq!(files(&big(directory.path())).len(), 2);
    // Somebody who uses an id twice does no harm to the first.
    assert!(matches!(store.stage(id).await, Err(StoreError::Taken(_))));
    let killed = copy(directory.path());
    drop((half, whole));
    assert_eq!(files(&big(directory.path())).len(), 0);
    let kept = accept_big(&store).await;
    let again = NewMessage {
        body: content(BYTES).into(),
        ..message_to(kept.id, 1, "")
    };
    let refused = store.accept(again).await;
    assert!(matches!(refused, Err(StoreError::Taken(_))), "{refused:?}");
    assert_eq!(body_of(&store, kept.id).await.unwrap(), content(BYTES));
    // After a kill the next start removes it.
    drop(open(killed.path()));
    assert_eq!(files(&big(killed.path())).len(), 0);
}

/// Writes down what is done to the disk, in words.
#[derive(Debug, Default)]
struct Logging(Mutex<Vec<String>>);

impl Logging {
    fn note(&self, what: &str, path: &Path) {
        let parts: Vec<_> = path
            .iter()
            .rev()
            .take(2)
            .map(|part| part.to_string_lossy())
            .collect();
        let name = match &*parts[0] {
            "big" => "big",
            name if name.starts_with("seg-") => "journal",
            name if name.ends_with(".tmp") => "tmp",
            _ if parts[1] == "big" => "body",
            _ => return,
        };
        self.0.lock().unwrap().push(format!("{what} {name}"));
    }

    fn note_file(&self, what: &str, file: &File) {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.note(what, &std::fs::read_link(link).unwrap());
    }

    /// What was done since the last time; the same thing several times in a row is one.
    fn take(&self) -> Vec<String> {
        let mut notes = std::mem::take(&mut *self.0.lock().unwrap());
        notes.dedup();
        notes
    }
}

impl Device for Logging {
    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.note_file("write", file);
        SystemDevice.write(file, slices, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.note_file("sync", file);
        SystemDevice.sync(file)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.note("sync", directory);
        SystemDevice.sync_directory(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", from);
        SystemDevice.rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.note("remove", file);
        SystemDevice.remove(file)
    }
}

#[tokio::test]
async fn a_file_is_durable_before_its_record_and_goes_only_after_the_end_is() {
    let directory = tempfile::tempdir().unwrap();
    let device = Arc::new(Logging::default());
    let (store, _) = open_with(directory.path(), device.clone());
    device.take();
    let message = accept_big(&store).await;
    let order = [
        "write tmp",
        "sync tmp",
        "rename tmp",
        "sync big",
        "write journal",
        "sync journal",
    ];
    assert_eq!(device.take(), order);
    let delivered = settle_all(&message, State::Delivered, "250 ok");
    store.settle(delivered).await.unwrap();
    store.close().await;
    let order = ["write journal", "sync journal", "remove body"];
    assert_eq!(device.take(), order);
}

/// A disk that is full once so many bytes of bodies have been written, or whose syncs of them fail.
#[derive(Debug)]
struct Small {
    left: Mutex<usize>,
    syncs: Syncs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syncs {
    Work,
    Fail,
}

fn is_body(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(link)
        .unwrap()
        .extension()
        .is_some_and(|e| e == "tmp")
}

impl Device for Small {
    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        if is_body(file) {
            let mut left = self.left.lock().unwrap();
            let bytes = slices.iter().map(|slice| slice.len()).sum();
            *left = left.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        }
        SystemDevice.write(file, slices, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        match self.syncs {
            Syncs::Fail if is_body(file) => Err(io::Error::other("the disk is gone")),
            Syncs::Fail | Syncs::Work => SystemDevice.sync(file),
        }
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_half_way_refuses_the_message_and_gets_its_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let device = Small {
        left: Mutex::new(BYTES + BYTES / 2),
        syncs: Syncs::Work,
    };
    let (store, _) = open_with(directory.path(), Arc::new(device));
    let kept = accept_big(&store).await;
    let id = store.next_id();
    let mut staging = store.stage(id).await.unwrap();
    let refused = loop {
        if let Err(error) = staging.write(content(50_000)).await {
            break error;
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    assert_eq!(files(&big(directory.path())), [of(directory.path(), &kept)]);
    assert!(staging.finish().await.is_err());
    store.accept(message(&store, "a small one")).await.unwrap();
}

#[tokio::test]
async fn a_file_whose_sync_fails_is_not_taken_and_the_queue_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let device = Small {
        left: Mutex::new(usize::MAX),
        syncs: Syncs::Fail,
    };
    let (store, _) = open_with(directory.path(), Arc::new(device));
    let refused = staged(&store, store.next_id(), &content(BYTES)).await;
    assert!(matches!(refused, Err(StoreError::Disk(_))), "{refused:?}");
    assert_eq!(files(&big(directory.path())).len(), 0);
    store.accept(message(&store, "a small one")).await.unwrap();
}

/// One large message, its store closed.
async fn one(directory: &Path) -> Arc<Message> {
    let store = open(directory);
    let message = accept_big(&store).await;
    store.close().await;
    message
}

#[tokio::test]
async fn a_damaged_file_is_never_given_out_whole_and_its_message_stays_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let message = one(directory.path()).await;
    for at in [0, BYTES / 2, BYTES - 1] {
        let damaged = copy(directory.path());
        flip(&of(damaged.path(), &message), at);
        let (store, events) = open_with(damaged.path(), Arc::new(SystemDevice));
        assert_eq!(unreadable(&events), 0, "that would take reading it");
        let body = store.body(message.id).await.unwrap().unwrap();
        let (mut pieces, mut read) = (body.pieces(), 0);
        let error = loop {
            match pieces.next().await {
                Ok(piece) => read += piece.expect("the end must not come without a word").len(),
                Err(error) => break error,
            }
        };
        assert!(
            read < BYTES && error.to_string().contains("checksum"),
            "{error}"
        );
        assert_eq!(unreadable(&events), 1);
        assert_eq!(store.message(message.id).await.unwrap().unwrap(), message);
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_or_missing_is_said_at_the_start_and_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let message = one(directory.path()).await;
    for bytes in [Some(0), Some(BYTES - 1), None] {
        let damaged = copy(directory.path());
        let path = of(damaged.path(), &message);
        match bytes {
            Some(bytes) => std::fs::write(&path, content(bytes)).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let (store, events) = open_with(damaged.path(), Arc::new(SystemDevice));
        assert_eq!(unreadable(&events), 1);
        let read = match store.body(message.id).await {
            Ok(body) => body.unwrap().whole().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(matches!(read, Err(StoreError::Disk(_))), "{read:?}");
        assert_eq!(unreadable(&events), 2);
        assert_eq!(store.message(message.id).await.unwrap().unwrap(), message);
        // An operator can give it up.
        let discarded = settle_all(&message, State::Discarded, "deleted");
        store.settle(discarded).await.unwrap();
        store.close().await;
        assert_eq!(files(&big(damaged.path())).len(), 0);
    }
}

#[tokio::test]
async fn a_body_whose_record_was_damaged_is_set_aside_and_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let message = one(directory.path()).await;
    let store = open(directory.path());
    let other = store
        .accept(crate::common::message(&store, "x"))
        .await
        .unwrap();
    store.close().await;
    // Not in the last write of all, where it would count as torn.
    let segment = &segments(directory.path())[0];
    flip(segment, find(segment, "from.example").unwrap());
    delete_index(directory.path());
    let store = open(directory.path());
    assert_eq!(contents(&store).await.len(), 1);
    assert_eq!(store.message(other.id).await.unwrap().unwrap(), other);
    assert_eq!(files(&big(directory.path())).len(), 0);
    let quarantine = directory.path().join("quarantine");
    let kept = quarantine.join(format!("big-{}", message.id));
    assert_eq!(std::fs::read(kept).unwrap(), content(BYTES));
}

#[tokio::test]
async fn a_large_message_is_copied_forward_without_its_body() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let message = accept_big(&store).await;
    for _ in 0..60 {
        let new = crate::common::message(&store, &"x".repeat(4000));
        let other = store.accept(new).await.unwrap();
        let delivered = settle_all(&other, State::Delivered, "250 ok");
        store.settle(delivered).await.unwrap();
    }
    store.close().await;
    let first = segments(directory.path())[0].clone();
    let clock = Clock::starting_at(now());
    let options = Options {
        carry_after: Duration::ZERO,
        index_every: Duration::from_millis(1),
        ..options()
    };
    let store = DiskStore::open(directory.path(), clock, Events::default(), options).unwrap();
    until("its segment is gone", || !first.exists()).await;
    store.close().await;
    assert!(segments(directory.path()).len() <= 2);
    delete_index(directory.path());
    let store = open(directory.path());
    assert_eq!(store.message(message.id).await.unwrap().unwrap(), message);
    assert_eq!(body_of(&store, message.id).await.unwrap(), content(BYTES));
}
