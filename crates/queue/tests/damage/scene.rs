//! Work on a queue, the directory that it leaves, and what is true of each message.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_observe::{Clock, Events};
use relay_queue::{DiskStore, Limits, Message, OpenError, Options, Settlement, State, Store};
use relay_smtp::QueueId;

use crate::messages::{change, message_to, now};

/// When the directory was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// As a kill would leave it, with an index that lacks what the journal's latest segments have.
    Working,
    AtRest,
}

/// A directory and the truth about it.
pub struct Scene {
    pub moment: Moment,
    pub directory: tempfile::TempDir,
    pub stories: BTreeMap<QueueId, Story>,
    /// Reports that came with a settlement of the first.
    pub reports: BTreeMap<QueueId, QueueId>,
}

/// One message: its body, and its states in order; None: it has left.
#[derive(Clone)]
pub struct Story {
    pub body: String,
    pub states: Vec<Option<Message>>,
}

impl Story {
    pub fn last(&self) -> &Option<Message> {
        self.states.last().unwrap()
    }
}

/// Everything small, so that there is some of everything.
fn options(index_every: Duration) -> Options {
    Options {
        segment_bytes: 64 << 10,
        body_cache_bytes: 0,
        index_every,
        big_bytes: 6 << 10,
        index_cache_bytes: 1 << 20,
        limits: Limits {
            ballast_bytes: 64 << 10,
            reserve_percent: 0,
            ..Limits::default()
        },
        carry_after: Duration::ZERO,
        ..Options::default()
    }
}

pub fn open(directory: &Path, events: &Events) -> Result<DiskStore, OpenError> {
    open_with(directory, events, Duration::from_secs(1))
}

fn open_with(directory: &Path, events: &Events, every: Duration) -> Result<DiskStore, OpenError> {
    let clock = Clock::starting_at(now());
    DiskStore::open(directory, clock, events.clone(), options(every))
}

/// Three lives on one directory.
pub async fn play(seed: u64) -> Vec<Scene> {
    let root = scratch();
    let mut work = Work {
        rng: StdRng::seed_from_u64(seed),
        stories: BTreeMap::new(),
        reports: BTreeMap::new(),
    };
    for _ in 0..2 {
        let every = Duration::from_millis(5);
        let store = open_with(root.path(), &Events::default(), every).unwrap();
        work.steps(&store, 90).await;
        store.close().await;
    }
    // From here on the index stays behind.
    let store = open_with(root.path(), &Events::default(), Duration::from_secs(3600)).unwrap();
    work.steps(&store, 120).await;
    let working = work.scene(root.path(), Moment::Working);
    store.close().await;
    vec![working, work.scene(root.path(), Moment::AtRest)]
}

struct Work {
    rng: StdRng,
    stories: BTreeMap<QueueId, Story>,
    reports: BTreeMap<QueueId, QueueId>,
}

impl Work {
    async fn steps(&mut self, store: &DiskStore, steps: usize) {
        for _ in 0..steps {
            match self.rng.random_range(0..5) {
                0..3 => self.accept(store).await,
                _ => self.settle(store).await,
            }
        }
    }

    fn body(&mut self) -> String {
        let lines = match self.rng.random_range(0..12) {
            0 => 300,
            1..6 => 100,
            _ => self.rng.random_range(0..20),
        };
        let number = self.rng.random::<u64>();
        (0..=lines)
            .map(|line| format!("line {line} of {lines} of {number}, and so on\r\n"))
            .collect()
    }

    async fn accept(&mut self, store: &DiskStore) {
        let body = self.body();
        let recipients = self.rng.random_range(1..4);
        let new = message_to(store.next_id(), recipients, &body);
        let accepted = store.accept(new).await.unwrap();
        let states = vec![Some((*accepted).clone())];
        self.stories.insert(accepted.id, Story { body, states });
    }

    async fn settle(&mut self, store: &DiskStore) {
        let open: Vec<_> = (self.stories.values())
            .filter_map(|story| story.last().clone())
            .collect();
        if open.is_empty() {
            return;
        }
        let before = &open[self.rng.random_range(0..open.len())];
        let (state, reply) = match self.rng.random_range(0..6) {
            0 => (State::Bounced, "550 no"),
            1 | 2 => (State::Deferred, "451 later"),
            _ => (State::Delivered, "250 ok"),
        };
        let still = |recipient: &relay_queue::RecipientState| !recipient.state.is_final();
        let changes = (before.each())
            .filter(|(_, _, recipient)| still(recipient))
            .map(|(index, _, recipient)| change(recipient, index, state, reply))
            .collect();
        let mut dsns = Vec::new();
        let mut bodies = Vec::new();
        if state == State::Bounced {
            let body = self.body();
            dsns.push(message_to(store.next_id(), 1, &body));
            bodies.push((dsns[0].id, body));
        }
        let id = before.id;
        let settlement = Settlement { id, changes, dsns };
        let settled = store.settle(settlement).await.unwrap();
        let after = Some((*settled.message).clone()).filter(|after| !after.finished());
        self.stories.get_mut(&id).unwrap().states.push(after);
        for (dsn, body) in bodies {
            let message = store.message(dsn).await.unwrap().unwrap();
            let states = vec![Some((*message).clone())];
            self.stories.insert(dsn, Story { body, states });
            self.reports.insert(dsn, id);
        }
    }

    fn scene(&self, directory: &Path, moment: Moment) -> Scene {
        Scene {
            moment,
            directory: copy(directory),
            stories: self.stories.clone(),
            reports: self.reports.clone(),
        }
    }
}

pub fn copy(from: &Path) -> tempfile::TempDir {
    let to = scratch();
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

/// In memory where that can be had: nothing here has to last.
fn scratch() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}
