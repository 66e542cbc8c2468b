//! Opens the queue on a damaged directory and holds it to what is still readable.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use relay_observe::Events;
use relay_queue::{Message, Select, Store};
use relay_smtp::QueueId;

use crate::harm::{Harm, Part};
use crate::messages::{delete_index, files, message_to};
use crate::scene::{self, Moment, Scene, Story};

#[derive(Debug, Default)]
pub struct Tally {
    damages: usize,
    refused: usize,
    /// Damages that an event told of.
    told: usize,
    rebuilt: usize,
    /// Messages that were not as before any more.
    lost: usize,
    older: usize,
    without_body: usize,
    pub wrong: Vec<String>,
}

impl Tally {
    pub fn summary(&self) -> String {
        format!(
            "{} damages: {} starts refused, {} told of, {} indexes rebuilt; messages: {} lost, {} in an earlier \
             state, {} without their body; {} wrong",
            self.damages,
            self.refused,
            self.told,
            self.rebuilt,
            self.lost,
            self.older,
            self.without_body,
            self.wrong.len()
        )
    }
}

pub async fn judge(
    scene: &Scene,
    damaged: tempfile::TempDir,
    harm: &Harm,
    name: &str,
    tally: &mut Tally,
) {
    tally.damages += 1;
    let before = tree(damaged.path());
    let events = Events::default();
    let store = match scene::open(damaged.path(), &events) {
        Ok(store) => store,
        Err(error) => {
            tally.refused += 1;
            let right = harm.part == Part::Version && error.exit_status() == 78;
            if !right || tree(damaged.path()) != before {
                tally.wrong.push(format!("{name}: refused: {error}"));
            }
            return;
        }
    };
    let mut costs = Costs::default();
    let seen = look(&store).await;
    for (id, story) in &scene.stories {
        let wrong = costs.judge(scene, harm, *id, story, seen.get(id));
        tally
            .wrong
            .extend(wrong.map(|wrong| format!("{name}: {id} {wrong}")));
    }
    for id in seen.keys().filter(|id| !scene.stories.contains_key(id)) {
        tally.wrong.push(format!("{name}: {id} was never there"));
    }
    let told = told(&events);
    if costs.any() && told == 0 && !harm.like_a_torn_write {
        tally
            .wrong
            .push(format!("{name}: nobody was told of {costs:?}"));
    }
    if let Err(wrong) = goes_on(scene, harm, damaged.path(), store).await {
        tally.wrong.push(format!("{name}: {wrong}"));
    }
    tally.told += usize::from(told > 0);
    tally.rebuilt += usize::from(counted(&events, "rebuilt") > 0);
    tally.lost += costs.lost;
    tally.older += costs.older;
    tally.without_body += costs.without_body;
}

/// What a damage has cost.
#[derive(Debug, Default)]
struct Costs {
    lost: usize,
    older: usize,
    without_body: usize,
}

type Seen = BTreeMap<QueueId, (Message, Result<String, String>)>;

impl Costs {
    fn any(&self) -> bool {
        self.lost + self.older + self.without_body > 0
    }

    /// Tells what is wrong; what the damage may cost is counted.
    fn judge(
        &mut self,
        scene: &Scene,
        harm: &Harm,
        id: QueueId,
        story: &Story,
        seen: Option<&(Message, Result<String, String>)>,
    ) -> Option<String> {
        let message = seen.map(|(message, _)| message);
        let touched = harm.touched.contains(&id);
        // An index that is whole and up to date knows everything but bodies.
        let journal_matters = scene.moment == Moment::Working;
        if message != story.last().as_ref() {
            if !touched || !journal_matters {
                return Some(format!("is {message:?}, it should be {:?}", story.last()));
            }
            let known = |state: &Option<Message>| state.as_ref() == message;
            match message {
                None => self.lost += 1,
                Some(_) if story.states.iter().any(known) => self.older += 1,
                Some(_) => return Some(format!("is {message:?}, which it never was")),
            }
        }
        match seen {
            Some((_, Ok(body))) if *body != story.body => Some("has another body".to_owned()),
            Some((_, Err(error))) if !touched => Some(format!("has no body: {error}")),
            Some((_, Err(_))) => {
                self.without_body += 1;
                None
            }
            Some((_, Ok(_))) | None => None,
        }
    }
}

async fn look(store: &dyn Store) -> Seen {
    let page = store.list(Select::default(), None, 100_000).await;
    let mut seen = Seen::new();
    for message in page.unwrap().messages {
        let body = match store.body(message.id).await {
            Ok(Some(body)) => body.whole().await.map_err(|error| error.to_string()),
            Ok(None) => Err("there is none".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let body = body.map(|body| String::from_utf8_lossy(&body).into_owned());
        seen.insert(message.id, ((*message).clone(), body));
    }
    seen
}

/// New ids are new, what is accepted now is there after the next start, and that finds all else as this one did.
async fn goes_on(
    scene: &Scene,
    harm: &Harm,
    directory: &Path,
    store: relay_queue::DiskStore,
) -> Result<(), String> {
    let next = store.next_id();
    let last = scene.stories.keys().next_back();
    // A record that is gone for all who are left cannot tell its id; the clock does, unless it was set back.
    let known = last.is_some_and(|last| next > *last) || harm.like_a_torn_write;
    if !known && !last.is_some_and(|last| harm.touched.contains(last)) {
        return Err(format!("{next} is given a second time: {last:?} was"));
    }
    let new = message_to(next, 1, "one more");
    let accepted = store.accept(new).await.map_err(|e| e.to_string())?;
    let before = look(&store).await;
    store.close().await;
    match harm.part {
        // The journal is whole: without any index it gives the same.
        Part::Index | Part::Current => delete_index(directory),
        Part::Segment | Part::NewestSegment | Part::Big | Part::Version | Part::Rest => {}
    }
    let store = scene::open(directory, &Events::default()).map_err(|e| e.to_string())?;
    let after = look(&store).await;
    store.close().await;
    match (after == before, after.contains_key(&accepted.id)) {
        (true, true) => Ok(()),
        (same, there) => Err(format!(
            "after another start: the new message is there: {there}, all is the same: {same}"
        )),
    }
}

/// Events that raise an alarm.
fn told(events: &Events) -> u64 {
    ["quarantined", "unreadable", "rebuilt"]
        .into_iter()
        .map(|what| counted(events, what))
        .sum()
}

fn counted(events: &Events, what: &str) -> u64 {
    let snapshot = events.metrics().snapshot();
    let found = snapshot.iter().filter(|(name, _)| name.contains(what));
    found.map(|(_, count)| *count).sum()
}

fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tree = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        match path.is_dir() {
            true => waiting.extend(files(&path)),
            false => {
                let bytes = fs::read(&path).unwrap();
                tree.insert(path, bytes);
            }
        }
    }
    tree
}
