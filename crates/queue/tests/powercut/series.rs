//! A series: work is recorded and cut; after each cut the queue is opened again, sometimes works on, and is cut again.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_queue::Store;
use std::sync::Arc;

use crate::disk::{Disk, Fate, Forgotten, Mode, restore};
use crate::facts::{Facts, look};
use crate::messages::{delete_index, files};
use crate::record::{RecordedDevice, Recorder, Recording};
use crate::work::{self, End};

/// What came of some cuts.
#[derive(Debug, Default)]
pub struct Tally {
    pub cuts: usize,
    pub actions: usize,
    pub promises: usize,
    /// Indexes that were set aside.
    pub rebuilt: Vec<String>,
    /// Records that were set aside.
    pub quarantined: Vec<String>,
    pub wrong: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.cuts += other.cuts;
        self.actions += other.actions;
        self.promises += other.promises;
        self.rebuilt.extend(other.rebuilt.iter().cloned());
        self.quarantined.extend(other.quarantined.iter().cloned());
        self.wrong.extend(other.wrong.iter().cloned());
    }

    fn blame(&mut self, name: &str, wrong: Vec<String>) {
        let wrong = wrong.into_iter();
        self.wrong
            .extend(wrong.map(|wrong| format!("{name}: {wrong}")));
    }

    pub fn summary(&self) -> String {
        let Tally {
            cuts,
            actions,
            promises,
            rebuilt,
            quarantined,
            wrong,
        } = self;
        let (wrong, quarantined, rebuilt) = (wrong.len(), quarantined.len(), rebuilt.len());
        format!(
            "{cuts} cuts in {actions} recorded actions, {promises} promises judged: {wrong} broken; \
             {rebuilt} indexes rebuilt, {quarantined} records quarantined"
        )
    }
}

/// Work that was recorded.
pub struct Recorded {
    pub recording: Recording,
    pub facts: Facts,
    /// When the queue of the first life was open.
    pub opened: usize,
}

pub fn run(seed: u64, cuts: usize) -> Tally {
    runtime().block_on(series(seed, cuts))
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// A third of the cuts falls into recordings of what follows on a cut, many of these into its start.
async fn series(seed: u64, cuts: usize) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    let ends = [End::Kill, End::Drained, End::Failure, End::Close];
    let root = scratch();
    let recorded = record(root.path(), Facts::default(), rng.random(), 40, &ends).await;
    let mut first = match recorded {
        Ok(recorded) => Cuts::new(recorded, format!("CUT_SEED={seed}")),
        Err(wrong) => {
            tally.blame(&format!("CUT_SEED={seed}, without a cut"), wrong);
            return tally;
        }
    };
    while tally.cuts < cuts {
        let at = first.anywhere(&mut rng);
        if tally.cuts % CUTS_A_BRANCH != 0 {
            first.judge(at, &mut rng, &mut tally).await;
            continue;
        }
        let Some(mut second) = first.go_on_after(at, &mut rng, &mut tally).await else {
            continue;
        };
        for _ in 0..CUTS_A_BRANCH / 3 {
            let at = second.in_start(&mut rng);
            second.judge(at, &mut rng, &mut tally).await;
        }
    }
    tally.actions += first.recorded.recording.actions.len();
    tally
}

/// One cut in so many has its consequences recorded, and a third as many cuts in these.
const CUTS_A_BRANCH: usize = 12;

/// Cuts of one recording.
struct Cuts {
    recorded: Recorded,
    name: String,
}

impl Cuts {
    fn new(recorded: Recorded, name: String) -> Cuts {
        Cuts { recorded, name }
    }

    fn anywhere(&self, rng: &mut StdRng) -> usize {
        rng.random_range(0..=self.recorded.recording.actions.len())
    }

    /// While a queue was being opened; one time in four anywhere.
    fn in_start(&self, rng: &mut StdRng) -> usize {
        match rng.random_range(0..4) {
            0 => self.anywhere(rng),
            _ => rng.random_range(0..=self.recorded.opened),
        }
    }

    /// A directory as a power cut at that moment may leave it.
    fn cut(
        &self,
        at: usize,
        rng: &mut StdRng,
        forgotten: Forgotten,
    ) -> (tempfile::TempDir, String) {
        let recording = &self.recorded.recording;
        let mode = mode(rng);
        let mut disk = Disk::forgetting(recording, forgotten);
        disk.advance(at);
        let tree = disk.after_cut(&mut Fate::new(mode, rng.random()));
        let root = scratch();
        restore(&tree, root.path());
        (
            root,
            format!(
                "{}, cut {at} of {}, {mode:?}",
                self.name,
                recording.actions.len()
            ),
        )
    }

    async fn judge(&mut self, at: usize, rng: &mut StdRng, tally: &mut Tally) {
        let (root, mut name) = self.cut(at, rng, |_| false);
        if rng.random_range(0..5) == 0 {
            // The index can be rebuilt at any time.
            let state = root.path().join("state");
            if state.exists() {
                delete_index(&state);
            }
            name.push_str(", without index");
        }
        judge(root.path(), &self.recorded.facts, at, &name, tally).await;
    }

    /// Works on after a cut. None: something is wrong after it.
    async fn go_on_after(&self, at: usize, rng: &mut StdRng, tally: &mut Tally) -> Option<Cuts> {
        let (root, name) = self.cut(at, rng, |_| false);
        let facts = self.recorded.facts.after_cut(at);
        tally.cuts += 1;
        tally.promises += facts.stories.len();
        let end = match rng.random() {
            true => End::Close,
            false => End::Kill,
        };
        match record(root.path(), facts, rng.random(), 5, &[end]).await {
            Ok(recorded) => {
                tally.actions += recorded.recording.actions.len();
                Some(Cuts::new(recorded, name))
            }
            Err(wrong) => {
                tally.blame(&name, wrong);
                None
            }
        }
    }
}

fn mode(rng: &mut StdRng) -> Mode {
    match rng.random_range(0..10) {
        0..3 => Mode::Nothing,
        3 => Mode::Names,
        4 => Mode::Bytes,
        _ => Mode::Half,
    }
}

/// Several lives on one state directory, recorded.
async fn record(
    root: &Path,
    facts: Facts,
    seed: u64,
    steps: usize,
    ends: &[End],
) -> Result<Recorded, Vec<String>> {
    let recorder = Recorder::start(root);
    let (mut facts, mut opened) = (facts, None);
    for (life, end) in ends.iter().enumerate() {
        let seed = seed.wrapping_add(life as u64);
        let at = work::life(&root.join("state"), &mut facts, seed, steps, *end).await?;
        opened.get_or_insert(at);
    }
    Ok(Recorded {
        recording: recorder.finish(),
        facts,
        opened: opened.unwrap_or(0),
    })
}

async fn judge(root: &Path, facts: &Facts, cut: usize, name: &str, tally: &mut Tally) {
    tally.cuts += 1;
    tally.promises += facts.stories.len();
    let device = Arc::new(RecordedDevice::default());
    let store = match work::open(&root.join("state"), &device) {
        Ok(store) => store,
        Err(error) => return tally.blame(name, vec![format!("does not open: {error}")]),
    };
    let seen = look(&store).await;
    tally.blame(name, facts.judge(cut, &seen, store.next_id()));
    tally.blame(name, facts.forgotten(cut, &store));
    store.close().await;
    for path in files(&root.join("state/quarantine")) {
        let file = path.file_name().unwrap().to_string_lossy();
        if file.ends_with(".reason") {
            let reason = std::fs::read_to_string(&path).unwrap();
            let list = match file.starts_with("index-") {
                true => &mut tally.rebuilt,
                false => &mut tally.quarantined,
            };
            list.push(format!("{name}: {file}: {reason}"));
        }
    }
}

/// A directory for files that a test reads soon and nobody else ever: in memory where that can be had, since
/// what would be lost in a power cut is for the model to say.
pub fn scratch() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Work of some lives, and where it was done.
pub fn recorded(seed: u64) -> (tempfile::TempDir, Recorded) {
    let root = scratch();
    let ends = [End::Kill, End::Drained, End::Failure];
    let recorded = record(root.path(), Facts::default(), seed, 40, &ends);
    let recorded = runtime().block_on(recorded);
    (
        root,
        recorded.unwrap_or_else(|wrong| panic!("without a cut: {wrong:?}")),
    )
}

/// Cuts of a disk that leaves some syncs out, until it has cost something or there were enough.
pub fn forgetful(
    recorded: Recorded,
    seed: u64,
    cuts: usize,
    forgotten: Forgotten,
) -> (Recorded, Tally) {
    let mut tally = Tally::default();
    let mut rng = StdRng::seed_from_u64(seed);
    let all = Cuts::new(recorded, "forgetful".to_owned());
    runtime().block_on(async {
        while tally.cuts < cuts && tally.wrong.is_empty() && tally.rebuilt.is_empty() {
            let at = all.anywhere(&mut rng);
            let (root, name) = all.cut(at, &mut rng, forgotten);
            judge(root.path(), &all.recorded.facts, at, &name, &mut tally).await;
        }
    });
    (all.recorded, tally)
}
