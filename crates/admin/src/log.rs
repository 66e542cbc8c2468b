//! What happened: the story of one message, or the history of a selection step by step, so that
//! neither an answer nor the memory for it grows with the history.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_observe::History;
use relay_observe::history::{Entry, Filter, Limits, Place, Reader, Step};
use relay_observe::hits::Tally;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::select::{ListQuery, Selection};
use crate::world::AdminWorld;

/// Entries of one answer where the query gives no limit, and at most.
const LIMIT: usize = 500;
const LIMIT_MAX: usize = 5_000;
/// Bytes of the history that are looked through for one answer.
const STEP_BYTES: u64 = 32 << 20;
/// The same where all that is read is in memory at once.
const HITS_STEP_BYTES: u64 = 4 << 20;
/// Entries of one message. A message with a thousand recipients that are tried for five days stays
/// below it.
const STORY_MAX: usize = 100_000;
/// How long an answer waits for something to happen, at most.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What is asked of `/v1/log`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    pub filter: Filter,
    /// None: from `since` on, or from the beginning.
    pub from: Option<From>,
    pub limit: Option<usize>,
    /// Wait so long for something to come.
    pub wait: Duration,
}

/// Where the reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Place(Place),
    /// Only what comes from now on.
    Now,
}

/// `GET /v1/log`: part of the history, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogPage {
    pub entries: Vec<Entry>,
    /// Give it as `place` to go on, also when this was all until now.
    pub next: String,
    /// Bytes that have not been looked at yet; 0: that was all until now.
    pub left: u64,
    /// Lines that could not be read.
    pub damaged: u64,
}

/// `GET /v1/policy/hits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HitsPage {
    pub hits: Vec<HitsRow>,
    /// There is more of the history: give it as `place`, and add the counts up. None: that was all.
    pub next: Option<String>,
    /// Bytes of the history that have not been looked at yet.
    pub left: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HitsRow {
    pub rule: String,
    pub category: String,
    pub action: String,
    /// Recipients that were settled or left waiting by it.
    pub recipients: u64,
    /// Sessions that it ended before they could be used.
    pub sessions: u64,
    pub last: Timestamp,
}

impl LogQuery {
    /// From a query's pairs; those of a selection are as everywhere.
    pub fn from_pairs(pairs: Vec<(String, String)>, now: Timestamp) -> Result<LogQuery, ApiError> {
        let mut query = LogQuery::default();
        let mut events = Vec::new();
        let mut rest = Vec::new();
        for (key, value) in pairs {
            match key.as_str() {
                "event" => events.push(value),
                "place" if value == "now" => query.from = Some(From::Now),
                "place" => query.from = Some(From::Place(value.parse().map_err(ApiError::Bad)?)),
                "wait" => {
                    let seconds: u64 = value.parse().map_err(|error| {
                        ApiError::Bad(format!("wait = {value}: {error}; write whole seconds"))
                    })?;
                    query.wait = Duration::from_secs(seconds).min(WAIT_MAX);
                }
                _ => rest.push((key, value)),
            }
        }
        let list = ListQuery::from_pairs(rest)?;
        query.limit = list.limit;
        query.filter = Filter {
            events,
            since: list.since,
            ..filter(&list.selection, now)?
        };
        Ok(query)
    }
}

/// A selection as the history understands it: `older_than` speaks of the entry, not of the message.
pub fn filter(selection: &Selection, now: Timestamp) -> Result<Filter, ApiError> {
    let Selection {
        id,
        to,
        recipient,
        sender,
        site,
        rule,
        category,
        older_than,
        user,
    } = selection;
    let before = older_than.map(|seconds| {
        let age = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        now.checked_sub(age).unwrap_or(Timestamp::MIN)
    });
    Ok(Filter {
        id: match id {
            Some(text) => Some(crate::queue::parse_id(text)?),
            None => None,
        },
        to: to.clone(),
        recipient: recipient.clone(),
        sender: sender.clone(),
        site: site.clone(),
        rule: rule.clone(),
        category: category.clone(),
        user: user.clone(),
        events: Vec::new(),
        since: None,
        before,
    })
}

/// The next part of what was asked for. A message's whole story comes at once.
pub async fn page(world: &AdminWorld, query: &LogQuery) -> Result<LogPage, ApiError> {
    let history = history(world)?;
    history.caught_up().await;
    let mut written = history.written();
    let until = tokio::time::Instant::now() + query.wait;
    let mut query = query.clone();
    loop {
        // Before it is read, so that nothing that comes meanwhile is slept through.
        written.mark_unchanged();
        let (reader, asked) = (history.reader(), query.clone());
        let page = off_the_async_threads(move || read(&reader, &asked)).await?;
        if !page.entries.is_empty() || page.left > 0 {
            return Ok(page);
        }
        let changed = tokio::time::timeout_at(until, written.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return Ok(page);
        }
        query.from = page.next.parse().ok().map(From::Place);
    }
}

/// All that is known of one message.
pub async fn story(world: &AdminWorld, id: relay_smtp::QueueId) -> Result<Vec<Entry>, ApiError> {
    let query = LogQuery {
        filter: Filter {
            id: Some(id),
            ..Filter::default()
        },
        ..LogQuery::default()
    };
    Ok(page(world, &query).await?.entries)
}

/// Without the daemon: what `relayctl --offline` reads, too.
pub fn read(reader: &Reader, query: &LogQuery) -> std::io::Result<LogPage> {
    let filter = &query.filter;
    if let (Some(id), None) = (filter.id, query.from) {
        // First, so that a follower sees what comes while the story is put together.
        let next = reader.end()?;
        let mut entries = reader.story(id, STORY_MAX)?;
        entries.retain(|entry| filter.matches(entry));
        return Ok(LogPage {
            entries,
            next: next.to_string(),
            left: 0,
            damaged: 0,
        });
    }
    let limits = Limits {
        entries_max: query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX),
        bytes_max: STEP_BYTES,
    };
    let Step {
        entries,
        place,
        left,
        damaged,
    } = reader.step(begin(reader, query)?, filter, limits)?;
    Ok(LogPage {
        entries,
        next: place.to_string(),
        left,
        damaged,
    })
}

fn begin(reader: &Reader, query: &LogQuery) -> std::io::Result<Place> {
    match query.from {
        Some(From::Place(place)) => Ok(place),
        Some(From::Now) => reader.end(),
        None => reader.since(query.filter.since.unwrap_or(Timestamp::MIN)),
    }
}

/// Since the start of the daemon; with `since`, or a place, over the history from there on.
pub async fn hits(world: &AdminWorld, query: &LogQuery) -> Result<HitsPage, ApiError> {
    if query.filter.since.is_none() && query.from.is_none() {
        return Ok(HitsPage {
            hits: rows(&world.events.hits().tally()),
            next: None,
            left: 0,
        });
    }
    let history = history(world)?;
    history.caught_up().await;
    let (reader, query) = (history.reader(), query.clone());
    off_the_async_threads(move || read_hits(&reader, &query)).await
}

/// One step of the tally.
pub fn read_hits(reader: &Reader, query: &LogQuery) -> std::io::Result<HitsPage> {
    let limits = Limits {
        entries_max: usize::MAX,
        bytes_max: HITS_STEP_BYTES,
    };
    let step = reader.step(begin(reader, query)?, &query.filter, limits)?;
    let mut tally = Tally::default();
    step.entries.iter().for_each(|entry| tally.add(entry));
    Ok(HitsPage {
        hits: rows(&tally),
        next: (step.left > 0).then(|| step.place.to_string()),
        left: step.left,
    })
}

fn rows(tally: &Tally) -> Vec<HitsRow> {
    tally
        .rows()
        .map(|(decided, hits)| HitsRow {
            rule: decided.rule.clone(),
            category: decided.category.clone(),
            action: decided.action.clone(),
            recipients: hits.recipients,
            sessions: hits.sessions,
            last: hits.last,
        })
        .collect()
}

fn history(world: &AdminWorld) -> Result<&History, ApiError> {
    world.events.history().ok_or_else(|| {
        ApiError::NotFound(
            "no history of messages is kept; set log.history to \"full\" and restart relayd, or see its log for why it could not be opened"
                .to_owned(),
        )
    })
}

/// Reading takes its time.
async fn off_the_async_threads<T: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(ApiError::Unreadable(format!(
            "the history of messages cannot be read: {error}"
        ))),
        Err(error) => Err(ApiError::Unreadable(format!(
            "reading the history broke off: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Result<LogQuery, ApiError> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        LogQuery::from_pairs(
            pairs.iter().map(own).collect(),
            Timestamp::from_second(10_000).unwrap(),
        )
    }

    #[test]
    fn a_query_is_read_and_a_misspelt_key_is_refused() {
        let read = query(&[
            ("to", "example.com"),
            ("event", "alert"),
            ("older_than", "3600"),
            ("place", "3:17"),
            ("wait", "999"),
        ])
        .unwrap();
        assert_eq!(read.filter.to.as_deref(), Some("example.com"));
        assert_eq!(read.filter.events, ["alert"]);
        assert_eq!(read.filter.before, Timestamp::from_second(6_400).ok());
        assert_eq!(read.from, Some(From::Place("3:17".parse().unwrap())));
        assert_eq!(read.wait, WAIT_MAX);
        for wrong in [
            ("plaice", "1:1"),
            ("place", "here"),
            ("id", "nonsense"),
            ("wait", "long"),
        ] {
            assert!(query(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
