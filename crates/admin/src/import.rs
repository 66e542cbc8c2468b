//! Taking messages over from another queue, line by line: each is durable here before it is counted,
//! and one that was taken over before is left out.

use std::collections::HashSet;
use std::sync::Arc;

use relay_observe::Event;
use relay_queue::{Message, RecipientState, StoreError};
use relay_smtp::QueueId;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::error::ApiError;
use crate::export::MessageLine;
use crate::world::AdminWorld;

/// Messages being written at once: the queue joins their writes.
const AT_ONCE: usize = 64;

/// `POST /v1/queue/import`: what became of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Messages that are in this queue now.
    pub imported: u64,
    /// Taken over before, or never gone.
    pub known: u64,
    /// Lines that are no message, from 0 on, and why.
    pub refused: Vec<(u64, String)>,
}

/// What became of one message.
enum Became {
    Imported(Arc<Message>, String),
    Known,
}

/// Takes over what the lines say.
pub async fn import(world: &Arc<AdminWorld>, lines: &[u8]) -> Result<Imported, ApiError> {
    let mut result = Imported::default();
    let mut taken = Vec::new();
    let mut at_work = JoinSet::new();
    let mut failed = None;
    let mut seen = HashSet::new();
    for (number, line) in (0u64..).zip(lines.split(|&b| b == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line: MessageLine = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => {
                result.refused.push((number, error.to_string()));
                continue;
            }
        };
        // Two of the same at once would both be new.
        if !seen.insert((line.id.clone(), line.size)) {
            result.known += 1;
            continue;
        }
        let world = Arc::clone(world);
        // Here, not in the task: messages keep the order that they had.
        let id = world.store.next_id();
        at_work.spawn(async move { (number, one(&world, &line, id).await) });
        if at_work.len() >= AT_ONCE
            && let Some(done) = at_work.join_next().await
        {
            note(done, &mut result, &mut taken, &mut failed);
        }
        if failed.is_some() {
            break;
        }
    }
    while let Some(done) = at_work.join_next().await {
        note(done, &mut result, &mut taken, &mut failed);
    }
    finish(world, taken).await?;
    result.refused.sort_unstable();
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(result),
    }
}

type Done = Result<(u64, Result<Became, Trouble>), tokio::task::JoinError>;

/// Why a message was not taken over.
enum Trouble {
    /// The line's fault; the others go on.
    Line(String),
    /// The queue's: nothing goes on.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Store(error)
    }
}

fn note(
    done: Done,
    result: &mut Imported,
    taken: &mut Vec<(Arc<Message>, String)>,
    failed: &mut Option<StoreError>,
) {
    match done {
        Ok((_, Ok(Became::Imported(message, origin)))) => {
            result.imported += 1;
            taken.push((message, origin));
        }
        Ok((_, Ok(Became::Known))) => result.known += 1,
        Ok((number, Err(Trouble::Line(why)))) => result.refused.push((number, why)),
        Ok((_, Err(Trouble::Store(error)))) => *failed = Some(error),
        Err(error) => *failed = Some(StoreError::Stopped(format!("importing panicked: {error}"))),
    }
}

/// Takes one message over, under a new id.
async fn one(world: &AdminWorld, line: &MessageLine, id: QueueId) -> Result<Became, Trouble> {
    let body = line.body().map_err(Trouble::Line)?;
    let origin = line.origin(&body);
    let now = world.clock.now();
    let imports = world.store.imports();
    let known = imports.knows(&origin, now);
    if known.map_err(|error| StoreError::Disk(error.to_string()))? {
        return Ok(Became::Known);
    }
    // It never left this queue.
    if let Ok(id) = line.id.parse()
        && let Some(message) = world.store.message(id).await?
        && (message.size, message.arrival.at) == (line.size, line.arrived)
    {
        return Ok(Became::Known);
    }
    let mut message = line.message(id).map_err(Trouble::Line)?;
    for state in &mut message.recipients {
        remember_origin(state, line, now);
    }
    let message = world.store.import(message, body.into()).await?;
    Ok(Became::Imported(message, origin))
}

/// The first thing in its history from now on.
fn remember_origin(state: &mut RecipientState, line: &MessageLine, now: jiff::Timestamp) {
    if state.state.is_final() {
        return;
    }
    let words = format!(
        "imported; it was {} in the queue that it came from",
        line.id
    );
    state.begin_history(now, &words);
}

/// They are durable: their origins are remembered, and they are tried.
async fn finish(
    world: &Arc<AdminWorld>,
    taken: Vec<(Arc<Message>, String)>,
) -> Result<(), StoreError> {
    let origins: Vec<String> = taken.iter().map(|(_, origin)| origin.clone()).collect();
    let (imports, now) = (world.store.imports(), world.clock.now());
    let written = tokio::task::spawn_blocking(move || imports.remember(&origins, now)).await;
    for (message, _) in taken {
        let recipients = message.envelope.recipients.iter();
        world.events.emit(Event::MessageAccepted {
            id: message.id,
            client: None,
            user: message.arrival.user.clone(),
            sender: message.envelope.reverse_path.to_string(),
            recipients: recipients.map(|r| r.mailbox.to_string()).collect(),
            size: message.size,
        });
        world.dispatcher.enqueue(message).await;
    }
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StoreError::Disk(format!("imported: {error}"))),
        Err(error) => Err(StoreError::Stopped(error.to_string())),
    }
}
