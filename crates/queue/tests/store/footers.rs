//! Footers of sealed segments: what they save, and that nothing depends on them.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use relay_observe::{Clock, Events};
use relay_queue::{Device, DiskStore, Options, State, Store, SystemDevice};

use crate::common::*;

fn large(n: usize) -> String {
    format!("<body {n}>{}", "x".repeat(4000))
}

/// Several sealed segments, with messages in several states.
async fn filled(directory: &Path) -> Vec<(relay_queue::Message, bytes::Bytes)> {
    let store = open(directory);
    for n in 0..50 {
        let message = store.accept(message(&store, &large(n))).await.unwrap();
        let state = match n % 10 {
            3 => State::Deferred,
            5 => State::Delivered,
            7 => State::Bounced,
            _ => continue,
        };
        let mut settlement = settle_all(&message, state, "a reply");
        if state == State::Bounced {
            settlement.dsns = vec![crate::common::message(&store, &format!("report {n}"))];
        }
        store.settle(settlement).await.unwrap();
    }
    let before = contents(&store).await;
    store.close().await;
    let all = segments(directory);
    assert!(all.len() > 3, "{all:?}");
    let (_, sealed) = all.split_last().unwrap();
    assert!(sealed.iter().all(|segment| footer(segment).is_some()));
    before
}

/// Opens it without its index; nothing may be told as damaged.
async fn rebuilt(directory: &Path) -> Vec<(relay_queue::Message, bytes::Bytes)> {
    delete_index(directory);
    let store = open(directory);
    let contents = contents(&store).await;
    store.close().await;
    assert_eq!(files(&directory.join("quarantine")).len(), 0);
    contents
}

#[tokio::test]
async fn with_and_without_footers_a_rebuild_comes_to_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let before = filled(directory.path()).await;
    let other = copy(directory.path());
    without_footers(other.path());
    assert_eq!(rebuilt(directory.path()).await, before);
    assert_eq!(rebuilt(other.path()).await, before);
}

#[tokio::test]
async fn a_rebuild_with_footers_reads_no_bodies_and_a_damaged_one_is_noticed_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let before = filled(directory.path()).await;
    let segment = &segments(directory.path())[1];
    flip(segment, find(segment, "<body 20>").unwrap() + 2);
    delete_index(directory.path());
    let store = open(directory.path());
    assert_eq!(store.stats().messages, before.len() as u64);
    for (message, body) in &before {
        match store.body(message.id).await {
            Ok(found) => assert_eq!(found.unwrap().whole().await.unwrap(), body),
            Err(error) => {
                assert!(body.starts_with(b"<body 20>"), "{error}");
                assert!(error.to_string().contains("checksum"), "{error}");
            }
        }
    }
    assert_eq!(files(&directory.path().join("quarantine")).len(), 0);
    store.close().await;
}

#[tokio::test]
async fn a_record_whose_head_is_damaged_is_still_known_from_the_footer() {
    let directory = tempfile::tempdir().unwrap();
    let before = filled(directory.path()).await;
    let segment = &segments(directory.path())[1];
    flip(segment, find(segment, "<body 20>").unwrap() - 3);
    assert_eq!(rebuilt(directory.path()).await, before);
}

/// How a power cut may leave a file that was not synced.
fn torn(bytes: &[u8], begin: usize, cut: usize) -> [Vec<u8>; 5] {
    let mut later_pages_missing = bytes.to_vec();
    later_pages_missing[cut..].fill(0);
    let mut first_pages_missing = bytes.to_vec();
    first_pages_missing[begin..cut].fill(0);
    let mut only_the_middle = first_pages_missing.clone();
    let last = bytes.len() - 24;
    only_the_middle[last..].fill(0);
    let mut flipped = bytes.to_vec();
    flipped[cut] ^= 1;
    let not_cut_off = [&first_pages_missing[..], &[0; 9000][..]].concat();
    [
        later_pages_missing,
        only_the_middle,
        flipped,
        not_cut_off,
        bytes[..cut].to_vec(),
    ]
}

#[tokio::test]
async fn a_footer_that_is_torn_or_damaged_anywhere_is_no_damage_and_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let before = filled(directory.path()).await;
    let segment = &segments(directory.path())[1];
    let (bytes, begin) = (fs::read(segment).unwrap(), footer(segment).unwrap());
    let last = bytes.len() - 1;
    let cuts = (begin..last - 24).step_by(400);
    for cut in cuts.chain((last - 24..=last).step_by(4)) {
        for bytes in torn(&bytes, begin, cut) {
            fs::write(segment, bytes).unwrap();
            assert_eq!(rebuilt(directory.path()).await, before, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_footer_of_the_newest_segment_is_taken_off_torn_or_not() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    for newer in &segments(directory.path())[2..] {
        fs::remove_file(newer).unwrap();
    }
    let expected = rebuilt(copy(directory.path()).path()).await;
    assert!(expected.len() > 20);
    let newest = &segments(directory.path())[1];
    let (bytes, begin) = (fs::read(newest).unwrap(), footer(newest).unwrap());
    for cut in [
        begin,
        begin + 30,
        begin + 500,
        bytes.len() - 10,
        bytes.len() - 1,
    ] {
        for bytes in torn(&bytes, begin, cut) {
            let copy = copy(directory.path());
            let newest = &segments(copy.path())[1];
            fs::write(newest, bytes).unwrap();
            assert_eq!(rebuilt(copy.path()).await, expected, "cut at {cut}");
            assert_eq!(fs::metadata(newest).unwrap().len(), begin as u64);
            let store = open(copy.path());
            store.accept(message(&store, "next")).await.unwrap();
            store.close().await;
            assert_eq!(rebuilt(copy.path()).await.len(), expected.len() + 1);
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_write_before_a_footer_is_damage_and_no_torn_write() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    for newer in &segments(directory.path())[2..] {
        fs::remove_file(newer).unwrap();
    }
    let newest = &segments(directory.path())[1];
    let begin = footer(newest).unwrap();
    flip(newest, begin - 2);
    delete_index(directory.path());
    open(directory.path()).close().await;
    assert_eq!(files(&directory.path().join("quarantine")).len(), 2);
}

#[tokio::test]
async fn verifying_takes_a_footer_whole_or_torn_for_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let verify = || relay_queue::verify(directory.path(), &Default::default()).unwrap();
    let whole = verify();
    assert!(whole.is_well(), "{whole:?}");
    let segment = &segments(directory.path())[1];
    let (bytes, begin) = (fs::read(segment).unwrap(), footer(segment).unwrap());
    for bytes in torn(&bytes, begin, begin + 200) {
        fs::write(segment, bytes).unwrap();
        assert_eq!(verify().records, whole.records);
        assert!(verify().is_well());
    }
}

#[tokio::test]
async fn where_bodies_are_small_there_is_no_footer() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for _ in 0..1500 {
        store.accept(message(&store, "short")).await.unwrap();
    }
    store.close().await;
    let all = segments(directory.path());
    assert!(all.len() > 1);
    assert!(all.iter().all(|segment| footer(segment).is_none()));
    assert_eq!(rebuilt(directory.path()).await.len(), 1500);
}

/// A disk that takes the half of each footer and then is full.
#[derive(Debug, Default)]
struct HalfFooters {
    /// The file that has such a half, cut off but not synced since.
    torn: Mutex<Option<u64>>,
    halves: AtomicU32,
    /// A record was written to another segment meanwhile.
    left_behind: AtomicBool,
}

impl Device for HalfFooters {
    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let inode = file.metadata()?.ino();
        if bytes.ends_with(b"rlyF") {
            SystemDevice.write(file, &[IoSlice::new(&bytes[..bytes.len() / 2])], at)?;
            *self.torn.lock().unwrap() = Some(inode);
            self.halves.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let torn = *self.torn.lock().unwrap();
        if at >= 4096 && torn.is_some_and(|torn| torn != inode) {
            self.left_behind.store(true, Ordering::SeqCst);
        }
        SystemDevice.write(file, slices, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        self.torn.lock().unwrap().take_if(|torn| *torn == inode);
        SystemDevice.sync(file)
    }
}

/// Found by power cuts: the half came back, and looked like damage in a sealed segment.
#[tokio::test]
async fn the_half_of_a_footer_that_a_full_disk_took_is_gone_for_good_before_the_next_segment_is_used()
 {
    let directory = tempfile::tempdir().unwrap();
    let device = Arc::new(HalfFooters::default());
    let options = Options {
        device: device.clone(),
        ..options()
    };
    let clock = Clock::starting_at(now());
    let store = DiskStore::open(directory.path(), clock, Events::default(), options).unwrap();
    for n in 0..50 {
        store.accept(message(&store, &large(n))).await.unwrap();
    }
    assert!(device.halves.load(Ordering::SeqCst) > 2);
    assert!(!device.left_behind.load(Ordering::SeqCst));
    let before = contents(&store).await;
    store.close().await;
    drop(store);
    assert_eq!(rebuilt(directory.path()).await, before);
}
