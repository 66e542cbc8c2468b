//! Work for a queue whose files are recorded: several producers at once, in several lives that end by a
//! close, a kill or a failing disk.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_observe::{Clock, Events};
use relay_queue::{
    DiskStore, Limits, Message, NewMessage, OpenError, Options, RecipientState, Settlement, State,
    Store,
};
use relay_smtp::QueueId;

use crate::facts::{Facts, Reported, Stated, Story, look};
use crate::messages::{change, message_to, now};
use crate::record::{RecordedDevice, position};

const PRODUCERS: usize = 8;

/// Everything small, so that there is much of everything: segments, copies, compactions.
pub fn options(device: &Arc<RecordedDevice>) -> Options {
    Options {
        segment_bytes: 64 << 10,
        footer_parts: 1,
        body_cache_bytes: 32 << 10,
        index_every: Duration::from_millis(2),
        index_records: 20,
        big_bytes: 3 << 10,
        index_cache_bytes: 1 << 20,
        limits: Limits {
            ballast_bytes: 64 << 10,
            reserve_percent: 0,
            ..Limits::default()
        },
        compact_bytes: 540 << 10,
        carry_after: Duration::ZERO,
        device: device.clone(),
        ..Options::default()
    }
}

pub fn open(directory: &Path, device: &Arc<RecordedDevice>) -> Result<DiskStore, OpenError> {
    let clock = Clock::starting_at(now());
    DiskStore::open(directory, clock, Events::default(), options(device))
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    /// After nearly all has been delivered and the index been copied.
    Drained,
    /// In the middle of it all.
    Kill,
    /// A sync fails, then it is killed.
    Failure,
}

/// One life: opens the queue, judges what is there, works on it. Tells at which position it was open.
pub async fn life(
    directory: &Path,
    facts: &mut Facts,
    seed: u64,
    steps: usize,
    end: End,
) -> Result<usize, Vec<String>> {
    let device = Arc::new(RecordedDevice::default());
    let begun = position();
    let store =
        open(directory, &device).map_err(|error| vec![format!("does not open: {error}")])?;
    let store = Arc::new(store);
    let opened = position();
    let index = current(directory);
    let seen = look(&store).await;
    let mut wrong = facts.judge(begun, &seen, store.next_id());
    wrong.extend(facts.forgotten(begun, &store));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    facts.observe(begun, position(), &seen);

    let mut rng = StdRng::seed_from_u64(seed);
    let mut shares = vec![Vec::new(); PRODUCERS];
    for (message, _) in seen.into_values() {
        shares[rng.random_range(0..PRODUCERS)].push(message);
    }
    let shared = Arc::new(Mutex::new(std::mem::take(facts)));
    let producers: Vec<_> = (shares.into_iter())
        .map(|messages| {
            let producer = Producer {
                store: store.clone(),
                facts: shared.clone(),
                device: device.clone(),
                rng: StdRng::seed_from_u64(rng.random()),
                messages,
                end,
            };
            tokio::spawn(producer.work(steps))
        })
        .collect();
    match end {
        End::Close | End::Drained => {
            for producer in producers {
                producer.await.unwrap();
            }
            if end == End::Drained {
                // Or not: what a full disk has left behind may be too much for it.
                let started = Instant::now();
                while current(directory) == index && started.elapsed() < Duration::from_secs(1) {
                    tokio::task::yield_now().await;
                }
            }
            store.close().await;
        }
        End::Kill | End::Failure => {
            let working = || producers.iter().any(|producer| !producer.is_finished());
            let half = (steps * PRODUCERS / 2) as u64;
            while store.stats().records < half && working() {
                tokio::task::yield_now().await;
            }
            if end == End::Failure {
                device.sync_fails.store(true, Ordering::SeqCst);
                while store.condition().trouble.is_none() && working() {
                    tokio::task::yield_now().await;
                }
            }
            for producer in producers {
                producer.abort();
                let _ = producer.await;
            }
        }
    }
    drop(store);
    let shared = shared.lock();
    *facts = std::mem::take(&mut shared.unwrap());
    Ok(opened)
}

fn current(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("CURRENT")).unwrap_or_default()
}

struct Producer {
    store: Arc<DiskStore>,
    facts: Arc<Mutex<Facts>>,
    device: Arc<RecordedDevice>,
    rng: StdRng,
    /// Its own, as they stand.
    messages: Vec<Message>,
    end: End,
}

impl Producer {
    async fn work(mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.random_range(0..100) {
                0..36 => self.accept().await,
                36..40 => self.take_over().await,
                40..98 => self.settle().await,
                // A disk that is full until the ballast is thrown.
                98 if self.end != End::Drained => self.device.full.store(true, Ordering::SeqCst),
                _ => self.device.full.store(false, Ordering::SeqCst),
            }
        }
        self.device.full.store(false, Ordering::SeqCst);
        while self.end == End::Drained && self.messages.len() > 1 {
            self.settle().await;
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    fn body(&mut self, about: &str) -> String {
        let lines = match self.rng.random_range(0..40) {
            0 => 700,
            1..6 => 100,
            _ => self.rng.random_range(0..20),
        };
        let mut body = format!("{about} {}\r\n", self.rng.random::<u64>());
        for line in 0..lines {
            body.push_str(&format!("line {line} of {lines} of {about}\r\n"));
        }
        body
    }

    fn new_message(&mut self, about: &str) -> (NewMessage, Message) {
        let recipients = match self.rng.random_range(0..20) {
            // Spread over several values of the index.
            0 => 60,
            _ => self.rng.random_range(1..4),
        };
        let body = self.body(about);
        let new = message_to(self.store.next_id(), recipients, &body);
        let message = Message {
            id: new.id,
            envelope: new.envelope.clone(),
            arrival: new.arrival.clone(),
            size: body.len() as u64,
            recipients: vec![RecipientState::new(new.arrival.at); recipients],
            detours: Default::default(),
        };
        (new, message)
    }

    async fn accept(&mut self) {
        let (new, message) = self.new_message("message");
        let at = self.offer(&new, &message, position());
        let id = new.id;
        if let Ok(accepted) = self.store.accept(new).await {
            assert_eq!(*accepted, message);
            self.promise(id, at, position());
            self.messages.push(message);
        }
    }

    /// A message of another queue, and the note that it was taken over.
    async fn take_over(&mut self) {
        let (new, message) = self.new_message("imported");
        let at = self.offer(&new, &message, position());
        let taken = self.store.import(message.clone(), new.body).await;
        if taken.is_err() {
            return;
        }
        self.promise(message.id, at, position());
        let name = format!("{}/elsewhere", message.id);
        self.messages.push(message);
        let noted = (self.store.imports()).remember(std::slice::from_ref(&name), now());
        if noted.is_ok() {
            let at = position();
            self.facts().origins.push((name, at));
        }
    }

    /// Notes a state that a message is about to have; tells which one it is.
    fn begin(&self, id: QueueId, message: Option<Message>, begun: usize) -> usize {
        let mut facts = self.facts();
        let story = facts.stories.get_mut(&id).expect("it was offered before");
        story.states.push(Stated {
            message,
            begun,
            promised: None,
        });
        story.states.len() - 1
    }

    fn offer(&self, new: &NewMessage, message: &Message, begun: usize) -> usize {
        let body = new.body.in_memory().expect("it was made here");
        let story = Story::new(body.clone());
        self.facts().stories.insert(message.id, story);
        self.begin(message.id, Some(message.clone()), begun)
    }

    fn promise(&self, id: QueueId, state: usize, at: usize) {
        let mut facts = self.facts();
        let story = facts.stories.get_mut(&id).expect("it was offered before");
        story.states[state].promised = Some(at);
    }

    async fn settle(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let place = self.rng.random_range(0..self.messages.len());
        let before = self.messages.swap_remove(place);
        if self.rng.random_range(0..8) == 0 {
            let body = self.store.body(before.id).await;
            let body = body.unwrap().expect("nobody else ends it");
            let body = body.whole().await.unwrap();
            assert_eq!(body, self.facts().stories[&before.id].body);
        }
        let (after, settlement) = self.settlement(&before);
        let id = before.id;
        let begun = position();
        let offered: Vec<_> = settlement
            .dsns
            .iter()
            .map(|(new, message)| (message.clone(), self.offer(new, message, begun)))
            .collect();
        let kept = Some(after.clone()).filter(|after| !after.finished());
        let state = self.begin(id, kept.clone(), begun);
        let report = self.report(id, kept.clone(), &offered, begun);
        let settlement = Settlement {
            id,
            changes: settlement.changes,
            dsns: settlement.dsns.into_iter().map(|(new, _)| new).collect(),
        };
        // After an error, whatever it is, nobody touches the message again until a restart has shown how it stands.
        let Ok(settled) = self.store.settle(settlement).await else {
            return;
        };
        assert_eq!(*settled.message, after);
        let at = position();
        self.promise(id, state, at);
        if let Some(report) = report {
            self.facts().reports[report].promised = Some(at);
        }
        for (dsn, state) in offered {
            self.promise(dsn.id, state, at);
            self.messages.push(dsn);
        }
        self.messages.extend(kept);
    }

    fn report(
        &self,
        original: QueueId,
        after: Option<Message>,
        dsns: &[(Message, usize)],
        begun: usize,
    ) -> Option<usize> {
        if dsns.is_empty() {
            return None;
        }
        let mut facts = self.facts();
        facts.reports.push(Reported {
            original,
            after,
            dsns: dsns.iter().map(|(dsn, _)| dsn.id).collect(),
            begun,
            promised: None,
        });
        Some(facts.reports.len() - 1)
    }

    /// What an attempt or an operator does to some recipients.
    fn settlement(&mut self, before: &Message) -> (Message, Planned) {
        let mut after = before.clone();
        let mut planned = Planned::default();
        let everybody = self.rng.random_range(0..3) > 0;
        let what = self.rng.random_range(0..10);
        let open = before
            .each()
            .filter(|(_, _, recipient)| !recipient.state.is_final());
        for (index, _, recipient) in open {
            if !everybody && self.rng.random() {
                continue;
            }
            let mut state = recipient.clone();
            match (what, recipient.state) {
                (0, State::Held) | (1, State::Held) => state.release(now()),
                (0, _) => state.hold(now()),
                // An attempt does not end what is held.
                (_, State::Held) => continue,
                (1..4, _) => state = change(recipient, index, State::Deferred, "451 later").state,
                (4, _) => state = change(recipient, index, State::Bounced, "550 no").state,
                (_, _) => state = change(recipient, index, State::Delivered, "250 ok").state,
            }
            after.recipients[index as usize] = state.clone();
            planned
                .changes
                .push(relay_queue::RecipientChange { index, state });
        }
        if what == 4 && !planned.changes.is_empty() {
            let dsns = self.rng.random_range(1..3);
            planned.dsns = (0..dsns).map(|_| self.new_message("report")).collect();
        }
        (after, planned)
    }
}

#[derive(Default)]
struct Planned {
    changes: Vec<relay_queue::RecipientChange>,
    dsns: Vec<(NewMessage, Message)>,
}
