//! Taking messages over from another queue, line by line while they come: each is durable here before it is
//! counted, and one that was taken over before is left out. A large one goes into a file piece by piece.

mod pieces;

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body as HttpBody;
use http_body_util::BodyExt;
use relay_observe::Event;
use relay_queue::{Body, Message, RecipientState, StoreError};
use relay_smtp::QueueId;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use crate::error::ApiError;
use crate::line::{MessageLine, PIECE_BEGINS};
use crate::world::AdminWorld;
use pieces::Coming;

/// Messages being written at once: the queue joins their writes.
const AT_ONCE: usize = 64;
/// Bytes of their lines.
const AT_ONCE_BYTES: usize = 8 << 20;
/// Of one line. relayctl makes pieces of what is longer.
pub const LINE_BYTES_MAX: usize = 4 << 20;
/// So many imports are read at a time, others wait: with the line that comes, those being written, and each of these
/// once more as a message, they hold less than 64 MiB together.
const IMPORTS_AT_ONCE: usize = 2;

/// Who may import now.
pub(crate) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(IMPORTS_AT_ONCE))
}

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

/// Takes over what the lines say, while they come.
pub async fn import(world: &Arc<AdminWorld>, mut lines: HttpBody) -> Result<Imported, ApiError> {
    let mut import = Import::new(world);
    let mut rest = Vec::new();
    let mut broken_off = None;
    while let Some(frame) = lines.frame().await {
        let Ok(frame) = frame else {
            broken_off = Some("the lines were not sent to their end".to_owned());
            break;
        };
        let data = frame.into_data().unwrap_or_default();
        let mut data = &data[..];
        while let Some(end) = data.iter().position(|&b| b == b'\n') {
            let (head, tail) = data.split_at(end);
            rest.extend_from_slice(head);
            import.line(&rest).await;
            rest.clear();
            data = tail.get(1..).unwrap_or_default();
        }
        rest.extend_from_slice(data);
        if rest.len() > LINE_BYTES_MAX {
            let mib = LINE_BYTES_MAX >> 20;
            broken_off = Some(format!("a line has more than {mib} MiB; make pieces of it"));
        }
        if broken_off.is_some() || import.failed.is_some() {
            break;
        }
    }
    if broken_off.is_none() {
        import.line(&rest).await;
    }
    let imported = import.end().await?;
    match broken_off {
        Some(why) => Err(ApiError::TooLarge(why)),
        None => Ok(imported),
    }
}

/// One request.
struct Import<'a> {
    world: &'a Arc<AdminWorld>,
    /// Of the next line.
    number: u64,
    result: Imported,
    /// Durable, and not tried yet.
    taken: Vec<(Arc<Message>, String)>,
    at_work: JoinSet<Done>,
    at_work_bytes: usize,
    failed: Option<StoreError>,
    seen: HashSet<(String, u64)>,
    /// The message whose pieces come.
    coming: Option<Coming>,
}

/// One message has come to its end.
struct Done {
    number: u64,
    /// Of its line.
    bytes: usize,
    became: Result<Became, Trouble>,
}

enum Became {
    Imported(Arc<Message>, String),
    Known,
}

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

impl<'a> Import<'a> {
    fn new(world: &'a Arc<AdminWorld>) -> Import<'a> {
        Import {
            world,
            number: 0,
            result: Imported::default(),
            taken: Vec::new(),
            at_work: JoinSet::new(),
            at_work_bytes: 0,
            failed: None,
            seen: HashSet::new(),
            coming: None,
        }
    }

    async fn line(&mut self, line: &[u8]) {
        let number = self.number;
        self.number += 1;
        if line.trim_ascii().is_empty() || self.failed.is_some() {
            return;
        }
        if line.starts_with(PIECE_BEGINS) {
            return self.piece(number, line).await;
        }
        self.no_more_pieces();
        let parsed = serde_json::from_slice::<MessageLine>(line).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|message| Ok((message.checksum()?, message)));
        // Two of the same at once would both be new.
        let is_new = |seen: &mut HashSet<_>, m: &MessageLine| seen.insert((m.id.clone(), m.size));
        match parsed {
            Err(why) => self.refuse(number, why),
            Ok((checksum, message)) if !is_new(&mut self.seen, &message) => {
                self.result.known += 1;
                // Its pieces come all the same.
                self.coming = checksum.map(|_| Coming::unwanted(number));
            }
            Ok((Some(checksum), message)) => self.begin_pieces(number, message, checksum).await,
            Ok((None, message)) => self.whole(number, message, line.len()).await,
        }
    }

    /// Its bytes stand in its line.
    async fn whole(&mut self, number: u64, message: MessageLine, bytes: usize) {
        let world = Arc::clone(self.world);
        // Here, not in the task: messages keep the order that they had.
        let id = world.store.next_id();
        self.at_work_bytes += bytes;
        self.at_work.spawn(async move {
            let became = whole(&world, &message, id).await;
            Done {
                number,
                bytes,
                became,
            }
        });
        while (self.at_work.len() >= AT_ONCE || self.at_work_bytes > AT_ONCE_BYTES)
            && let Some(done) = self.at_work.join_next().await
        {
            self.note(done);
        }
    }

    async fn begin_pieces(&mut self, number: u64, message: MessageLine, checksum: u32) {
        let coming = match Coming::begin(self.world, number, message, checksum).await {
            Ok(Some(coming)) => coming,
            Ok(None) => {
                self.result.known += 1;
                Coming::unwanted(number)
            }
            Err(Trouble::Line(why)) => {
                self.refuse(number, why);
                Coming::unwanted(number)
            }
            Err(Trouble::Store(error)) => return self.failed = Some(error),
        };
        self.coming = Some(coming);
    }

    async fn piece(&mut self, number: u64, line: &[u8]) {
        let Some(coming) = &mut self.coming else {
            let why = "a piece without the message that it belongs to";
            return self.refuse(number, why.to_owned());
        };
        let number = coming.number;
        let bytes = 0;
        match coming.take(self.world, line).await {
            Ok(None) => {}
            Ok(Some(became)) => self.note(Ok(Done {
                number,
                bytes,
                became: Ok(became),
            })),
            Err(trouble) => {
                *coming = Coming::unwanted(number);
                self.note(Ok(Done {
                    number,
                    bytes,
                    became: Err(trouble),
                }));
            }
        }
    }

    /// Another line than a piece, or the end.
    fn no_more_pieces(&mut self) {
        if let Some(coming) = self.coming.take()
            && let Some(missing) = coming.missing()
        {
            let why = format!("{missing} bytes of its pieces are missing");
            self.refuse(coming.number, why);
        }
    }

    fn refuse(&mut self, number: u64, why: String) {
        self.result.refused.push((number, why));
    }

    fn note(&mut self, done: Result<Done, JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                let why = format!("importing panicked: {error}");
                self.failed = Some(StoreError::Stopped(why));
                return;
            }
        };
        self.at_work_bytes = self.at_work_bytes.saturating_sub(done.bytes);
        match done.became {
            Ok(Became::Imported(message, origin)) => {
                self.result.imported += 1;
                self.taken.push((message, origin));
            }
            Ok(Became::Known) => self.result.known += 1,
            Err(Trouble::Line(why)) => self.refuse(done.number, why),
            Err(Trouble::Store(error)) => self.failed = Some(error),
        }
    }

    /// What was taken over is remembered and tried, also where something broke off.
    async fn end(mut self) -> Result<Imported, StoreError> {
        self.no_more_pieces();
        while let Some(done) = self.at_work.join_next().await {
            self.note(done);
        }
        finish(self.world, self.taken).await?;
        self.result.refused.sort_unstable();
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.result),
        }
    }
}

/// One whose bytes stand in its line.
async fn whole(world: &AdminWorld, line: &MessageLine, id: QueueId) -> Result<Became, Trouble> {
    let body = line.body().map_err(Trouble::Line)?;
    let origin = line.origin(relay_queue::checksum(&body));
    if is_known(world, line, &origin).await? {
        return Ok(Became::Known);
    }
    take_over(world, line, id, body.into(), origin).await
}

/// Whether it was taken over before, or never left this queue.
async fn is_known(world: &AdminWorld, line: &MessageLine, origin: &str) -> Result<bool, Trouble> {
    let imports = world.store.imports();
    let known = imports.knows(origin, world.clock.now());
    if known.map_err(|error| StoreError::Disk(error.to_string()))? {
        return Ok(true);
    }
    let Ok(id) = line.id.parse() else {
        return Ok(false);
    };
    let here = world.store.message(id).await?;
    Ok(here.is_some_and(|here| (here.size, here.arrival.at) == (line.size, line.arrived)))
}

/// Under a new id.
async fn take_over(
    world: &AdminWorld,
    line: &MessageLine,
    id: QueueId,
    body: Body,
    origin: String,
) -> Result<Became, Trouble> {
    let mut message = line.message(id).map_err(Trouble::Line)?;
    for state in &mut message.recipients {
        remember_origin(state, line, world.clock.now());
    }
    let message = world.store.import(message, body).await?;
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
