//! Disks that are full, fail, are slow or have little space: what the queue says, and what it keeps.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use relay_observe::{Clock, Events};
use relay_queue::{
    Device, DiskStore, Limits, Options, Sender, Space, State, Store, StoreError, SystemDevice,
};

use crate::common::*;
use crate::reclaim::until;

/// A disk with switches.
#[derive(Debug, Default)]
struct Switched {
    write_full: AtomicBool,
    preallocate_full: AtomicBool,
    sync_fails: AtomicBool,
    /// 0: what there is.
    free_bytes: AtomicU64,
    held: Mutex<Held>,
    let_go: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    No,
    Wanted,
    InSync,
}

impl Device for Switched {
    fn preallocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match self.preallocate_full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => SystemDevice.preallocate(file, bytes),
        }
    }

    /// On a full disk half of it goes in.
    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        if !self.write_full.load(Ordering::SeqCst) {
            return SystemDevice.write(file, slices, at);
        }
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        match bytes.len() / 2 {
            0..=100 => Err(io::ErrorKind::StorageFull.into()),
            half => SystemDevice.write(file, &[IoSlice::new(&bytes[..half])], at),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut held = self.held.lock().unwrap();
        if *held == Held::Wanted {
            *held = Held::InSync;
        }
        let held = self.let_go.wait_while(held, |held| *held == Held::InSync);
        drop(held.unwrap());
        match self.sync_fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is gone")),
            false => SystemDevice.sync(file),
        }
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        match self.free_bytes.load(Ordering::SeqCst) {
            0 => SystemDevice.space(directory),
            free_bytes => Ok(Space {
                total_bytes: 100 << 30,
                free_bytes,
            }),
        }
    }
}

impl Switched {
    fn hold(&self, held: Held) {
        *self.held.lock().unwrap() = held;
        self.let_go.notify_all();
    }
}

fn may_accept(store: &dyn Store) -> Result<(), StoreError> {
    store.admit(&Sender::Ours, 0).map(drop)
}

fn switched(directory: &Path) -> (Arc<Switched>, DiskStore) {
    switched_with(directory, options())
}

fn switched_with(directory: &Path, options: Options) -> (Arc<Switched>, DiskStore) {
    let device = Arc::new(Switched::default());
    let options = Options {
        device: device.clone(),
        ..options
    };
    let clock = Clock::starting_at(now());
    let store = DiskStore::open(directory, clock, Events::default(), options).unwrap();
    (device, store)
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_promised_until_a_restart_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (device, store) = switched(directory.path());
    let first = store.accept(message(&store, "first")).await.unwrap();
    device.sync_fails.store(true, Ordering::SeqCst);
    assert_eq!(store.condition().trouble, None);
    let failed = store.accept(message(&store, "second")).await;
    assert!(matches!(failed, Err(StoreError::Stopped(_))), "{failed:?}");
    // Whoever runs the queue hears of it: relayd ends, so that it is started again.
    let reason = store.stopped().await;
    assert!(reason.contains("the disk is gone"), "{reason}");
    let trouble = store.condition().trouble.unwrap();
    assert!(trouble.contains("the disk is gone"), "{trouble}");
    device.sync_fails.store(false, Ordering::SeqCst);
    let refused = store.accept(message(&store, "third")).await;
    assert!(matches!(refused, Err(StoreError::Stopped(_))));
    let refused = store
        .settle(settle_all(&first, State::Delivered, "250"))
        .await;
    assert!(matches!(refused, Err(StoreError::Stopped(_))));
    assert!(matches!(may_accept(&store), Err(StoreError::Stopped(_))));
    drop(store);

    let store = open(directory.path());
    let bodies: Vec<_> = contents(&store).await.into_iter().map(|c| c.1).collect();
    // The second may be there: nobody was told that it is, nor that it is not.
    assert_eq!(bodies[0], "first");
    assert!(bodies.len() <= 2 && bodies.iter().all(|body| body != "third"));
}

#[tokio::test]
async fn a_full_disk_refuses_new_mail_and_takes_it_again_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let (device, store) = switched(directory.path());
    store.accept(message(&store, "before")).await.unwrap();
    device.write_full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = store.accept(message(&store, "refused")).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }
    device.write_full.store(false, Ordering::SeqCst);
    until("it has looked at the disk again", || {
        may_accept(&store).is_ok()
    })
    .await;
    store.accept(message(&store, "after")).await.unwrap();
    let before = contents(&store).await;
    assert_eq!(before.len(), 2);
    drop(store);
    delete_index(directory.path());
    let store = open(directory.path());
    assert_eq!(contents(&store).await, before);
    assert_eq!(files(&directory.path().join("quarantine")).len(), 0);
}

#[tokio::test]
async fn without_space_for_the_next_segment_it_is_full_and_goes_on_later() {
    let directory = tempfile::tempdir().unwrap();
    let (device, store) = switched(directory.path());
    device.preallocate_full.store(true, Ordering::SeqCst);
    let body = "x".repeat(8000);
    let mut accepted = 0;
    let refused = loop {
        match store.accept(message(&store, &body)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    assert!((1..9).contains(&accepted), "{accepted}");
    device.preallocate_full.store(false, Ordering::SeqCst);
    until("it has looked at the disk again", || {
        may_accept(&store).is_ok()
    })
    .await;
    store.accept(message(&store, &body)).await.unwrap();
    drop(store);
    assert_eq!(contents(&open(directory.path())).await.len(), accepted + 1);
}

/// Full as long as the ballast is there.
#[derive(Debug)]
struct Ballasted(std::path::PathBuf);

impl Device for Ballasted {
    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        match self.0.exists() {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => SystemDevice.write(file, slices, at),
        }
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space {
            total_bytes: 100 << 30,
            free_bytes: 0,
        })
    }
}

#[tokio::test]
async fn on_a_full_disk_the_ballast_goes_so_that_outcomes_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let delivered = store.accept(message(&store, "delivered")).await.unwrap();
    let bounced = store.accept(message(&store, "bounced")).await.unwrap();
    store.close().await;
    let ballast = directory.path().join("ballast");
    assert_eq!(std::fs::metadata(&ballast).unwrap().len(), 64 << 10);
    let kept = std::fs::read(&ballast).unwrap();

    let options = Options {
        device: Arc::new(Ballasted(ballast.clone())),
        ..options()
    };
    let clock = Clock::starting_at(now());
    let store = DiskStore::open(directory.path(), clock, Events::default(), options).unwrap();
    assert!(!ballast.exists(), "a start on a full disk takes it");
    std::fs::write(&ballast, kept).unwrap();
    let refused = store.accept(message(&store, "refused")).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert!(!ballast.exists());
    std::fs::write(&ballast, "").unwrap();
    let settlement = settle_all(&delivered, State::Delivered, "250 ok");
    store.settle(settlement).await.unwrap();
    assert!(!ballast.exists());
    let mut settlement = settle_all(&bounced, State::Bounced, "550 no");
    settlement.dsns = vec![message(&store, "the report")];
    store.settle(settlement).await.unwrap();
    drop(store);
    let found = contents(&open(directory.path())).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, "the report");
}

/// A tenth of the disk is kept, and it is looked at all the time.
fn with_a_reserve() -> Options {
    Options {
        limits: Limits {
            reserve_percent: 10,
            ..limits()
        },
        index_every: Duration::from_millis(1),
        ..options()
    }
}

#[tokio::test]
async fn with_little_space_mail_is_refused_deliveries_go_on_and_it_recovers_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (device, store) = switched_with(directory.path(), with_a_reserve());
    device.free_bytes.store(50 << 30, Ordering::SeqCst);
    until("there is space", || may_accept(&store).is_ok()).await;
    let message_before = store.accept(message(&store, "before")).await.unwrap();
    device.free_bytes.store(3 << 30, Ordering::SeqCst);
    until("space is short", || may_accept(&store).is_err()).await;
    let refused = store.accept(message(&store, "refused")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)));
    assert!(refused.to_string().contains("3072 MiB free"), "{refused}");
    let delivered = settle_all(&message_before, State::Delivered, "250 ok");
    store.settle(delivered).await.unwrap();
    assert!(store.may_connect().is_ok());
    device.free_bytes.store(100 << 20, Ordering::SeqCst);
    until("sessions are turned away", || store.may_connect().is_err()).await;
    assert!(store.condition().refusing.unwrap().contains("100 MiB free"));
    device.free_bytes.store(50 << 30, Ordering::SeqCst);
    until("there is space again", || may_accept(&store).is_ok()).await;
    store.accept(message(&store, "after")).await.unwrap();
}

#[tokio::test]
async fn limits_by_messages_and_by_bytes_refuse_new_mail_only() {
    let by_messages = Options {
        limits: Limits {
            messages_max: 2,
            ..limits()
        },
        ..options()
    };
    let by_bytes = Options {
        limits: Limits {
            bytes_max: 100,
            ..limits()
        },
        ..options()
    };
    for (options, word) in [(by_messages, "messages"), (by_bytes, "MiB")] {
        let directory = tempfile::tempdir().unwrap();
        let (_, store) = switched_with(directory.path(), options);
        let body = "x".repeat(60);
        let first = store.accept(message(&store, &body)).await.unwrap();
        store.accept(message(&store, &body)).await.unwrap();
        let refused = store.accept(message(&store, &body)).await.unwrap_err();
        assert!(matches!(refused, StoreError::Full(_)), "{refused}");
        assert!(refused.to_string().contains(word), "{refused}");
        let delivered = settle_all(&first, State::Delivered, "250 ok");
        store.settle(delivered).await.unwrap();
        store.accept(message(&store, &body)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_makes_accepting_busy_and_nothing_is_lost_when_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        waiting_max: 2,
        ..options()
    };
    let (device, store) = switched_with(directory.path(), options);
    let store = Arc::new(store);
    device.hold(Held::Wanted);
    let mut waiting = Vec::new();
    for n in 0..2 {
        let (store, new) = (store.clone(), message(&*store, &format!("{n}")));
        waiting.push(tokio::spawn(async move { store.accept(new).await }));
    }
    tokio::task::yield_now().await;
    let refused = store.accept(message(&*store, "too many")).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    device.hold(Held::No);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.stats().messages, 2);
}

#[tokio::test]
async fn a_segment_that_has_vanished_is_said_to_be_missing() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        body_cache_bytes: 0,
        ..options()
    };
    let (_, store) = switched_with(directory.path(), options);
    let message = store.accept(message(&store, "body")).await.unwrap();
    for segment in segments(directory.path()) {
        std::fs::remove_file(segment).unwrap();
    }
    let error = store.body(message.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Disk(_)), "{error:?}");
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test]
async fn what_sessions_hold_is_not_given_to_others_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (device, store) = switched_with(directory.path(), with_a_reserve());
    // 4 GiB are kept, so one is left.
    device.free_bytes.store(5 << 30, Ordering::SeqCst);
    let app = Sender::of(Some("app"), None);
    until("it has looked at the disk", || {
        store.admit(&app, 2 << 30).is_err()
    })
    .await;
    let said = store.admit(&app, 600 << 20).unwrap();
    let mut growing = store.admit(&app, 0).unwrap();
    growing.hold(300 << 20).unwrap();
    growing.hold(200 << 20).unwrap();
    let refused = growing.hold(500 << 20).unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    assert_eq!(store.condition().space.unwrap().spoken_for_bytes, 900 << 20);
    drop(said);
    growing.hold(500 << 20).unwrap();
    drop(growing);
    assert_eq!(store.condition().space.unwrap().spoken_for_bytes, 0);
    store.admit(&app, 1000 << 20).unwrap();
}

#[tokio::test]
async fn shares_are_known_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let few = || Options {
        limits: Limits {
            messages_max: 10,
            ..limits()
        },
        ..options()
    };
    let (_, store) = switched_with(directory.path(), few());
    for _ in 0..9 {
        store.accept(message(&store, "body")).await.unwrap();
    }
    store.close().await;
    drop(store);
    let (_, store) = switched_with(directory.path(), few());
    let billing = Sender::of(Some("billing"), None);
    let refused = store.admit(&billing, 0).map(drop);
    assert!(refused.is_ok(), "nine of ten are his share");
    let to = relay_smtp::Host::Domain(relay_smtp::Domain::parse("to.example").unwrap());
    store.set_limits(Limits {
        share_percent: 80,
        ..few().limits
    });
    let refused = store.admit(&billing, 0).unwrap_err().to_string();
    assert!(
        refused.contains("user billing holds 9 messages"),
        "{refused}"
    );
    let refused = store.admit_to(&to).unwrap_err().to_string();
    assert!(
        refused.contains("mail for to.example holds 9 messages"),
        "{refused}"
    );
    store.admit(&Sender::of(Some("other"), None), 0).unwrap();
}
