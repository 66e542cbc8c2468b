//! What the tests share: messages, settlements, a queue in a temporary directory.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use relay_observe::{Clock, Events};
use relay_queue::{
    DiskStore, Limits, Message, NewMessage, OpenError, Options, Select, Settlement, State, Store,
};
use relay_smtp::QueueId;

pub use crate::messages::*;

/// Small segments, so that tests see several.
pub fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        index_cache_bytes: 1 << 20,
        limits: limits(),
        ..Options::default()
    }
}

/// The disk that the tests run on may be as full as it likes.
pub fn limits() -> Limits {
    Limits {
        ballast_bytes: 64 << 10,
        reserve_percent: 0,
        ..Limits::default()
    }
}

pub fn open(directory: &Path) -> DiskStore {
    try_open(directory).unwrap()
}

pub fn try_open(directory: &Path) -> Result<DiskStore, OpenError> {
    let clock = Clock::starting_at(now());
    DiskStore::open(directory, clock, Events::default(), options())
}

pub fn message(store: &dyn Store, body: &str) -> NewMessage {
    message_to(store.next_id(), 1, body)
}

/// Every recipient of the message to the same state.
pub fn settle_all(message: &Message, state: State, reply: &str) -> Settlement {
    let changes = message
        .each()
        .map(|(index, _, before)| change(before, index, state, reply))
        .collect();
    Settlement {
        id: message.id,
        changes,
        dsns: Vec::new(),
    }
}

/// None: not in the queue.
pub async fn body_of(store: &dyn Store, id: QueueId) -> Option<Bytes> {
    match store.body(id).await.unwrap() {
        Some(body) => Some(body.whole().await.unwrap()),
        None => None,
    }
}

/// Everything unfinished, with bodies.
pub async fn contents(store: &dyn Store) -> Vec<(Message, Bytes)> {
    let page = store.list(Select::default(), None, 100_000).await.unwrap();
    let mut contents = Vec::new();
    for message in page.messages {
        let body = body_of(store, message.id).await.unwrap();
        contents.push(((*message).clone(), body));
    }
    contents
}

/// The directory as a kill at this moment would leave it.
pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn segments(directory: &Path) -> Vec<PathBuf> {
    files(&directory.join("journal"))
}

/// Where `text` lies in a file.
pub fn find(path: &Path, text: &str) -> Option<usize> {
    let bytes = fs::read(path).unwrap();
    let mut windows = bytes.windows(text.len());
    windows.position(|window| window == text.as_bytes())
}

pub fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Where the footer of a segment begins, if it has one.
pub fn footer(segment: &Path) -> Option<usize> {
    let bytes = fs::read(segment).unwrap();
    let end = &bytes[bytes.len().checked_sub(24)?..];
    let begin = u32::from_le_bytes(end[4..8].try_into().unwrap());
    end.ends_with(b"rlyF").then_some(begin as usize)
}

/// As a journal was before there were footers.
pub fn without_footers(directory: &Path) {
    for segment in segments(directory) {
        if let Some(begin) = footer(&segment) {
            let file = fs::File::options().write(true).open(segment).unwrap();
            file.set_len(begin as u64).unwrap();
        }
    }
}

/// What the last write added to the only segment: its bytes then, and from where to where they differ.
pub fn last_write(before: &Path, after: &Path) -> (Vec<u8>, usize, usize) {
    let old = fs::read(&segments(before)[0]).unwrap();
    let new = fs::read(&segments(after)[0]).unwrap();
    let start = (0..new.len()).find(|&at| old[at] != new[at]).unwrap();
    let end = (0..new.len()).rfind(|&at| old[at] != new[at]).unwrap() + 1;
    (new, start, end)
}
