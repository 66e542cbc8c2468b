//! The store on disk and the one in memory give the same answers, over restarts too.

use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use proptest::prelude::*;
use relay_observe::{Clock, Events};
use relay_queue::{
    Detour, DiskStore, MemoryStore, Options, RecipientChange, RecipientState, Select, Settlement,
    State, Store, Way,
};
use relay_smtp::QueueId;

use crate::common::*;

/// Numbers of messages are cut down to what there is.
#[derive(Clone, Debug)]
enum Step {
    Accept(usize, String),
    Settle(usize, Vec<(u32, State)>, usize),
    Reroute(usize, Vec<(u32, Option<Detour>)>),
    /// Another queue's message, as it stood after this change.
    Import(usize, u32, State),
    List(usize, usize, Select),
    Look(usize),
    Restart,
    Kill,
}

fn states() -> impl Strategy<Value = State> {
    prop::sample::select(vec![
        State::Queued,
        State::Deferred,
        State::Held,
        State::Delivered,
        State::Bounced,
        State::Discarded,
    ])
}

fn detours() -> impl Strategy<Value = Option<Detour>> {
    let relay = Detour::Relay("up.example:587".to_owned());
    prop::sample::select(vec![None, Some(Detour::Mx), Some(relay)])
}

fn selects() -> impl Strategy<Value = Select> {
    let part = |texts: [&'static str; 2]| {
        prop::option::weighted(0.2, prop::sample::select(texts.map(String::from).to_vec()))
    };
    (
        part(["to.example", "other.example"]),
        part(["r0@to.example", "r2@TO.example"]),
        part(["sender@from.example", "<>"]),
        part(["rule-deferred", "rule-held"]),
        part(["category", "none"]),
        part(["billing", "nobody"]),
        prop::option::weighted(0.2, prop::sample::select(vec![0, 15])),
        part(["to.example", "nowhere.example"]),
    )
        .prop_map(
            |(to, recipient, sender, rule, category, user, due, way)| Select {
                due: due.map(|minutes| now() + SignedDuration::from_mins(minutes)),
                to,
                recipient,
                sender,
                rule,
                category,
                user,
                ways: way.map(|domain| Arc::new([domain].into())),
                ..Select::default()
            },
        )
}

fn steps() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec((0..5u32, states()), 0..4);
    prop_oneof![
        4 => (1..4usize, "[a-z]{0,40}").prop_map(|(count, body)| Step::Accept(count, body)),
        6 => (any::<usize>(), changes, 0..3usize)
            .prop_map(|(message, changes, dsns)| Step::Settle(message, changes, dsns)),
        2 => (any::<usize>(), prop::collection::vec((0..5u32, detours()), 0..4))
            .prop_map(|(message, ways)| Step::Reroute(message, ways)),
        1 => (2..4usize, 0..2u32, states())
            .prop_map(|(count, index, state)| Step::Import(count, index, state)),
        2 => (any::<usize>(), 0..5usize, selects())
            .prop_map(|(after, limit, select)| Step::List(after, limit, select)),
        2 => any::<usize>().prop_map(Step::Look),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

/// With some bodies in files of their own.
fn open_twin(directory: &Path) -> DiskStore {
    let options = Options {
        big_bytes: 30,
        ..options()
    };
    let clock = Clock::starting_at(now());
    DiskStore::open(directory, clock, Events::default(), options).unwrap()
}

/// The two, and the ids given so far.
struct Twins {
    directory: tempfile::TempDir,
    disk: Option<DiskStore>,
    memory: MemoryStore,
    ids: Vec<QueueId>,
    restarts: u32,
}

impl Twins {
    fn new() -> Twins {
        let directory = tempfile::tempdir().unwrap();
        Twins {
            disk: Some(open_twin(directory.path())),
            directory,
            memory: MemoryStore::new(Clock::starting_at(now())),
            ids: Vec::new(),
            restarts: 0,
        }
    }

    fn disk(&self) -> &DiskStore {
        self.disk.as_ref().expect("set but while restarting")
    }

    fn next_id(&mut self) -> QueueId {
        let id = self.disk().next_id();
        self.ids.push(id);
        id
    }

    /// An id that was given, or one that never is.
    fn pick(&self, number: usize) -> QueueId {
        let given = self.ids.get(number % (self.ids.len() + 1));
        given.copied().unwrap_or(QueueId::from_u64(u64::MAX >> 4))
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Accept(recipients, body) => {
                let new = message_to(self.next_id(), recipients, &body);
                let disk = self.disk().accept(new.clone()).await;
                let memory = self.memory.accept(new).await;
                assert_eq!(format!("{disk:?}"), format!("{memory:?}"));
            }
            Step::Settle(message, changes, dsns) => {
                let id = self.pick(message);
                let settlement = self.settlement(id, &changes, dsns).await;
                let disk = self.disk().settle(settlement.clone()).await;
                let memory = self.memory.settle(settlement).await;
                assert_eq!(format!("{disk:?}"), format!("{memory:?}"));
            }
            Step::Reroute(message, ways) => {
                let id = self.pick(message);
                let ways: Vec<Way> = ways
                    .into_iter()
                    .map(|(index, detour)| Way { index, detour })
                    .collect();
                let disk = self.disk().reroute(id, ways.clone()).await;
                let memory = self.memory.reroute(id, ways).await;
                assert_eq!(format!("{disk:?}"), format!("{memory:?}"));
            }
            Step::Import(recipients, index, state) => {
                let elsewhere = MemoryStore::new(Clock::starting_at(now()));
                let new = message_to(self.next_id(), recipients, "imported");
                let body = new.body.clone();
                let mut message = (*elsewhere.accept(new).await.unwrap()).clone();
                let before = message.recipients[index as usize].clone();
                message.recipients[index as usize] =
                    change(&before, index, state, state.word()).state;
                message.detours.insert(index, Detour::Mx);
                let disk = self.disk().import(message.clone(), body.clone()).await;
                let memory = self.memory.import(message, body).await;
                assert_eq!(format!("{disk:?}"), format!("{memory:?}"));
            }
            Step::List(after, limit, select) => {
                let after = Some(self.pick(after)).filter(|_| after % 3 != 0);
                let disk = self.disk().list(select.clone(), after, limit).await;
                let memory = self.memory.list(select, after, limit).await;
                assert_eq!(format!("{disk:?}"), format!("{memory:?}"));
            }
            Step::Look(message) => self.look(self.pick(message)).await,
            Step::Restart => {
                self.disk().close().await;
                self.reopen();
            }
            Step::Kill => self.reopen(),
        }
    }

    async fn look(&self, id: QueueId) {
        let body = body_of(self.disk(), id).await;
        assert_eq!(body, body_of(&self.memory, id).await);
        // Finished ones are remembered until a restart only.
        let remembered = |finished: bool| self.restarts == 0 || !finished;
        let memory = self.memory.message(id).await.unwrap();
        let disk = self.disk().message(id).await.unwrap();
        assert_eq!(
            disk.filter(|m| remembered(m.finished())),
            memory.filter(|m| remembered(m.finished()))
        );
    }

    fn reopen(&mut self) {
        self.disk = None;
        self.disk = Some(open_twin(self.directory.path()));
        self.restarts += 1;
    }

    async fn settlement(
        &mut self,
        id: QueueId,
        changes: &[(u32, State)],
        dsns: usize,
    ) -> Settlement {
        let message = self.memory.message(id).await.unwrap();
        let before = message.map(|m| m.recipients.clone()).unwrap_or_default();
        let first = RecipientState::new(now());
        let changes: Vec<RecipientChange> = changes
            .iter()
            .map(|(index, state)| {
                let before = before.get(*index as usize).unwrap_or(&first);
                change(before, *index, *state, state.word())
            })
            .collect();
        let dsns = (0..dsns)
            .map(|n| message_to(self.next_id(), 1, &format!("dsn {n} of {id}")))
            .collect();
        Settlement { id, changes, dsns }
    }

    async fn compare(&self) {
        assert_eq!(contents(self.disk()).await, contents(&self.memory).await);
        let (mut disk, mut memory) = (self.disk().stats(), self.memory.stats());
        for stats in [&mut disk, &mut memory] {
            (stats.commits, stats.records) = (0, 0);
        }
        assert_eq!(disk, memory);
        assert_eq!(survey(self.disk()), survey(&self.memory));
        if self.restarts == 0 {
            assert_eq!(self.disk().recent(99), self.memory.recent(99));
        }
    }
}

/// Everything that is counted, in words.
fn survey(store: &dyn Store) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        after = store
            .survey(after, &mut |waiting| found.push(format!("{waiting:?}")))
            .unwrap();
        if after.is_none() {
            return found;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn disk_and_memory_give_the_same_answers(steps in prop::collection::vec(steps(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut twins = Twins::new();
            for step in steps {
                twins.step(step).await;
            }
            twins.compare().await;
            twins.reopen();
            twins.compare().await;
            twins.disk = None;
            delete_index(twins.directory.path());
            twins.reopen();
            twins.compare().await;
        });
    }
}
