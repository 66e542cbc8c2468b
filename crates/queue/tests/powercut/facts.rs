//! What was promised about each message, and since when; and the judge that holds a queue to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use relay_queue::{DiskStore, Message, Select, Store};
use relay_smtp::QueueId;

use crate::messages::now;

/// A position in a recording: so many actions were done.
pub type Position = usize;

/// All messages that anybody ever offered, and what became of them.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub stories: BTreeMap<QueueId, Story>,
    /// Settlements that came with DSNs.
    pub reports: Vec<Reported>,
    /// Names of messages that were noted as taken over, and since when that is promised.
    pub origins: Vec<(String, Position)>,
}

/// One message: its states in order. The first one: it does not exist.
#[derive(Clone, Debug)]
pub struct Story {
    pub body: Bytes,
    /// In an earlier recording.
    known_before: bool,
    pub states: Vec<Stated>,
}

/// A state that a message was to have. None: not in the queue.
#[derive(Clone, Debug)]
pub struct Stated {
    pub message: Option<Message>,
    /// Before anything was done for it.
    pub begun: Position,
    /// The promise. None: there was none, by a kill or an error; it may have come about or not.
    pub promised: Option<Position>,
}

/// A settlement and its DSNs: both are there or none.
#[derive(Clone, Debug)]
pub struct Reported {
    pub original: QueueId,
    pub after: Option<Message>,
    pub dsns: Vec<QueueId>,
    pub begun: Position,
    pub promised: Option<Position>,
}

impl Story {
    pub fn new(body: Bytes) -> Story {
        let nowhere = Stated {
            message: None,
            begun: 0,
            promised: Some(0),
        };
        Story {
            body,
            known_before: false,
            states: vec![nowhere],
        }
    }

    /// The states it may have after a cut: the last one promised, and what was under way.
    fn allowed(&self, cut: Position) -> Vec<&Option<Message>> {
        let promised = |stated: &Stated| stated.promised.is_some_and(|at| at <= cut);
        let last = self.states.iter().rposition(promised).unwrap_or(0);
        let later = self.states.iter().skip(last + 1);
        let under_way = later.filter(|stated| stated.begun <= cut);
        let states = self.states.get(last).into_iter().chain(under_way);
        states.map(|stated| &stated.message).collect()
    }
}

/// What a queue has: states and bodies.
pub type Seen = BTreeMap<QueueId, (Message, Result<Bytes, String>)>;

pub async fn look(store: &DiskStore) -> Seen {
    let page = store
        .list(Select::default(), None, usize::MAX - 1)
        .await
        .unwrap();
    let mut seen = Seen::new();
    for message in page.messages {
        let body = match store.body(message.id).await {
            Ok(Some(body)) => body.whole().await.map_err(|error| error.to_string()),
            Ok(None) => Err("there is none".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        seen.insert(message.id, ((*message).clone(), body));
    }
    seen
}

impl Facts {
    /// Everything that is wrong with what is there after a cut.
    pub fn judge(&self, cut: Position, seen: &Seen, next_id: QueueId) -> Vec<String> {
        let mut wrong = Vec::new();
        for id in seen.keys().filter(|id| !self.stories.contains_key(id)) {
            wrong.push(format!("{id} was never offered"));
        }
        for (id, story) in &self.stories {
            let found = seen.get(id);
            wrong.extend(story.judge(cut, found).map(|what| format!("{id} {what}")));
            if *id >= next_id && story.known(cut) {
                wrong.push(format!("{id} would be given again: the next is {next_id}"));
            }
        }
        for report in &self.reports {
            wrong.extend(report.judge(cut, seen));
        }
        wrong
    }

    /// The origins that the queue should know after a cut and does not.
    pub fn forgotten(&self, cut: Position, store: &DiskStore) -> Vec<String> {
        let imports = store.imports();
        let promised = self.origins.iter().filter(|(_, at)| *at <= cut);
        let unknown = promised.filter(|(name, _)| !matches!(imports.knows(name, now()), Ok(true)));
        unknown
            .map(|(name, _)| format!("{name} was taken over, and is not known as that any more"))
            .collect()
    }

    /// From here on, what is there is what was promised: somebody has seen it.
    pub fn observe(&mut self, begun: Position, now: Position, seen: &Seen) {
        for (id, story) in &mut self.stories {
            story.states.push(Stated {
                message: seen.get(id).map(|(message, _)| message.clone()),
                begun,
                promised: Some(now),
            });
        }
        for report in &mut self.reports {
            report.promised.get_or_insert(now);
        }
    }

    /// The same at the beginning of another recording, made of what a cut has left.
    pub fn after_cut(&self, cut: Position) -> Facts {
        let stories = self.stories.iter().map(|(id, story)| {
            let allowed = story.allowed(cut).into_iter().cloned().enumerate();
            let states = allowed.map(|(place, message)| Stated {
                message,
                begun: 0,
                promised: (place == 0).then_some(0),
            });
            let story = Story {
                body: story.body.clone(),
                known_before: story.known(cut),
                states: states.collect(),
            };
            (*id, story)
        });
        let under_way = |report: &&Reported| report.is_under_way(cut);
        let reports = self
            .reports
            .iter()
            .filter(under_way)
            .map(|report| Reported {
                begun: 0,
                promised: None,
                ..report.clone()
            });
        let known = self.origins.iter().filter(|(_, at)| *at <= cut);
        Facts {
            stories: stories.collect(),
            reports: reports.collect(),
            origins: known.map(|(name, _)| (name.clone(), 0)).collect(),
        }
    }
}

impl Story {
    /// Whether anybody was told of it, or has seen it.
    fn known(&self, cut: Position) -> bool {
        let told = |stated: &Stated| {
            stated.message.is_some() && stated.promised.is_some_and(|at| at <= cut)
        };
        self.known_before || self.states.iter().any(told)
    }

    fn judge(
        &self,
        cut: Position,
        found: Option<&(Message, Result<Bytes, String>)>,
    ) -> Option<String> {
        let allowed = self.allowed(cut);
        let message = found.map(|(message, _)| message);
        if !allowed.iter().any(|allowed| allowed.as_ref() == message) {
            return Some(match message {
                None => format!("is lost; it should be {}", states(&allowed)),
                Some(message) => format!(
                    "is {}; it should be {}",
                    state(Some(message)),
                    states(&allowed)
                ),
            });
        }
        match found {
            Some((_, Err(error))) => Some(format!("has no body: {error}")),
            Some((_, Ok(body))) if *body != self.body => Some("has another body".to_owned()),
            Some((_, Ok(_))) | None => None,
        }
    }
}

impl Reported {
    fn is_under_way(&self, cut: Position) -> bool {
        self.begun <= cut && self.promised.is_none_or(|at| at > cut)
    }

    fn judge(&self, cut: Position, seen: &Seen) -> Option<String> {
        if !self.is_under_way(cut) {
            return None;
        }
        let settled = seen.get(&self.original).map(|(message, _)| message) == self.after.as_ref();
        let there = self
            .dsns
            .iter()
            .filter(|dsn| seen.contains_key(dsn))
            .count();
        let whole = match settled {
            true => there == self.dsns.len(),
            false => there == 0,
        };
        (!whole).then(|| {
            let (all, id) = (self.dsns.len(), self.original);
            format!("{id} settled: {settled}, but {there} of its {all} DSNs are there")
        })
    }
}

fn states(allowed: &[&Option<Message>]) -> String {
    let each: Vec<_> = allowed
        .iter()
        .map(|message| state(message.as_ref()))
        .collect();
    each.join(" or ")
}

fn state(message: Option<&Message>) -> String {
    let Some(message) = message else {
        return "gone".to_owned();
    };
    let recipients = message.recipients.iter();
    let each: Vec<_> = recipients
        .map(|recipient| format!("{}*{}", recipient.state.word(), recipient.history.len()))
        .collect();
    each.join(",")
}
