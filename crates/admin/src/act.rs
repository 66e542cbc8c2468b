//! What operators do to messages: flush, hold, release, bounce, delete. All of a selection in one
//! answer, or page by page where the asker gives a limit.
//!
//! A recipient is changed by a settlement of the queue, durable before it is answered; the
//! dispatcher hears of it afterwards. An attempt that is under way at that moment goes on to its end:
//! what it finds settled stays settled, and what it finds held stays held.

use std::sync::Arc;

use relay_deliver::operator::{GivenUp, by_operator, give_up};
use relay_observe::Event;
use relay_queue::{Message, RecipientChange, RecipientState, Settlement, State, StoreError};
use relay_smtp::QueueId;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::choice::{Choice, PAGE};
use crate::error::ApiError;
use crate::queue::parse_id;
use crate::select::Selection;
use crate::view::{Changed, Flushed, Next};
use crate::world::AdminWorld;

/// The body of a command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    #[serde(default)]
    pub select: Selection,
    /// Says that an empty selection is meant.
    #[serde(default)]
    pub all: bool,
    /// Messages of one answer, at most 1000; None: everything in one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// What the answer before this one gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// What is done to the unfinished recipients that are selected. A selection that speaks of
/// recipients leaves the other recipients of the same messages alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Keep until released; those that are held already keep their reason.
    Hold,
    /// Held ones are due now.
    Release,
    /// Give up, with a DSN to the sender.
    Bounce,
    /// Give up without a word.
    Delete,
}

/// Makes what is selected due now; nothing given: everything.
pub async fn flush(world: &AdminWorld, command: &Command) -> Result<Flushed, ApiError> {
    let at = world.clock.now();
    if command.select.is_everything() {
        let messages = world.dispatcher.flush(None).await;
        return Ok(Flushed {
            messages,
            at,
            next: None,
        });
    }
    let mut walk = Walk::begin(world, command)?;
    let mut messages = 0;
    while let Some(page) = walk.page(world).await? {
        let ids: Vec<QueueId> = page.iter().map(|message| message.id).collect();
        if !ids.is_empty() {
            messages += world.dispatcher.flush(Some(ids)).await;
        }
    }
    Ok(Flushed {
        messages,
        at,
        next: walk.next(),
    })
}

/// Does it to the unfinished recipients that are selected.
pub async fn act(
    world: &Arc<AdminWorld>,
    act: Act,
    command: &Command,
) -> Result<Changed, ApiError> {
    let mut walk = Walk::begin(world, command)?;
    let mut changed = Changed::default();
    while let Some(page) = walk.page(world).await? {
        let mut at_work = JoinSet::new();
        let mut counts = Vec::with_capacity(page.len());
        for message in page {
            let meant = act.concerned(&walk.choice, &message);
            if meant.is_empty() {
                continue;
            }
            at_work.spawn(change(Arc::clone(world), act, message.id, meant));
            if at_work.len() >= act.at_once() {
                counts.extend(at_work.join_next().await);
            }
        }
        counts.extend(at_work.join_all().await.into_iter().map(Ok));
        for count in counts {
            let count = count.map_err(|error| {
                StoreError::Stopped(format!("changing a message panicked: {error}"))
            })??;
            changed.recipients += count;
            changed.messages += u64::from(count > 0);
        }
    }
    changed.next = walk.next();
    Ok(changed)
}

/// A way through the queue, as it was when the command came first.
pub(crate) struct Walk {
    pub(crate) choice: Choice,
    after: Option<QueueId>,
    pub(crate) until: QueueId,
    /// Messages of a page.
    step: usize,
    pages: Pages,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pages {
    All,
    One,
    /// No more in this answer; the queue goes on behind `after`.
    Enough,
    /// The queue is through.
    Through,
}

impl Walk {
    pub(crate) fn begin(world: &AdminWorld, command: &Command) -> Result<Walk, ApiError> {
        let (after, until) = match &command.next {
            Some(next) => (Some(parse_id(&next.after)?), parse_id(&next.until)?),
            // What comes later is not meant: a DSN above all that this command itself leads to.
            None => (None, world.store.next_id()),
        };
        Ok(Walk {
            choice: Choice::of(world, &command.select)?,
            after,
            until,
            step: command.limit.unwrap_or(PAGE).clamp(1, PAGE),
            pages: match command.limit {
                Some(_) => Pages::One,
                None => Pages::All,
            },
        })
    }

    /// None: that was all of this answer.
    pub(crate) async fn page(
        &mut self,
        world: &AdminWorld,
    ) -> Result<Option<Vec<Arc<Message>>>, StoreError> {
        match self.pages {
            Pages::All | Pages::One => {}
            Pages::Enough | Pages::Through => return Ok(None),
        }
        let mut page = self.choice.page(world, self.after, self.step).await?;
        page.messages.retain(|message| message.id < self.until);
        self.pages = match (page.next, self.pages) {
            (Some(next), pages) if next < self.until => {
                self.after = Some(next);
                match pages {
                    Pages::One => Pages::Enough,
                    Pages::All | Pages::Enough | Pages::Through => pages,
                }
            }
            (Some(_) | None, _) => Pages::Through,
        };
        Ok(Some(page.messages))
    }

    pub(crate) fn next(&self) -> Option<Next> {
        match self.pages {
            Pages::Enough => self.after.map(|after| Next {
                after: after.to_string(),
                until: self.until.to_string(),
            }),
            Pages::All | Pages::One | Pages::Through => None,
        }
    }
}

impl Act {
    /// Messages being changed at once: the queue joins their writes. A bounce has the start of the body in memory.
    fn at_once(self) -> usize {
        match self {
            Act::Hold | Act::Release | Act::Delete => 64,
            Act::Bounce => 4,
        }
    }

    /// The places of the recipients that it changes.
    fn concerned(self, choice: &Choice, message: &Message) -> Vec<u32> {
        message
            .each()
            .filter(|(_, _, state)| self.concerns(state.state))
            .filter(|one| choice.matches_recipient(message, *one))
            .map(|(place, _, _)| place)
            .collect()
    }

    fn concerns(self, state: State) -> bool {
        match self {
            Act::Hold => matches!(state, State::Queued | State::Deferred),
            Act::Release => state == State::Held,
            Act::Bounce | Act::Delete => !state.is_final(),
        }
    }

    /// What the queue writes, and what is told then.
    fn settlement(
        self,
        world: &AdminWorld,
        message: &Message,
        start: &[u8],
        places: &[u32],
    ) -> (Settlement, Vec<Event>) {
        let now = world.clock.now();
        let id = message.id;
        let sender = || message.envelope.reverse_path.to_string();
        let each = |change: &dyn Fn(&mut RecipientState, String) -> Event| {
            self.change_each(message, places, change)
        };
        match self {
            Act::Hold => each(&|state, recipient| {
                state.hold(now);
                let held = state.last().map_or("", |last| &last.reply).to_owned();
                Event::RecipientHeld {
                    id,
                    recipient,
                    tried: by_operator(message, &held, "hold"),
                }
            }),
            Act::Release => each(&|state, recipient| {
                state.release(now);
                let sender = sender();
                Event::RecipientReleased {
                    id,
                    sender,
                    recipient,
                }
            }),
            Act::Delete => each(&|state, recipient| {
                state.state = State::Discarded;
                let sender = sender();
                Event::RecipientDiscarded {
                    id,
                    sender,
                    recipient,
                }
            }),
            Act::Bounce => {
                let given_up = GivenUp {
                    message,
                    start,
                    places,
                    config: &world.config.load(),
                    now,
                };
                give_up(&given_up, || world.store.next_id())
            }
        }
    }

    /// Changes those of the recipients that it still concerns.
    fn change_each(
        self,
        message: &Message,
        places: &[u32],
        change: &dyn Fn(&mut RecipientState, String) -> Event,
    ) -> (Settlement, Vec<Event>) {
        let mut changes = Vec::with_capacity(places.len());
        let mut events = Vec::with_capacity(places.len());
        for (index, recipient, state) in message.each() {
            // The places are in order.
            if places.binary_search(&index).is_ok() && self.concerns(state.state) {
                let mut state = state.clone();
                events.push(change(&mut state, recipient.mailbox.to_string()));
                changes.push(RecipientChange { index, state });
            }
        }
        let settlement = Settlement {
            id: message.id,
            changes,
            dsns: Vec::new(),
        };
        (settlement, events)
    }
}

/// Changes recipients of one message. Returns how many.
async fn change(
    world: Arc<AdminWorld>,
    act: Act,
    id: QueueId,
    places: Vec<u32>,
) -> Result<u64, StoreError> {
    // Anew: much may have happened since the page was read.
    let Some(message) = world.store.message(id).await? else {
        return Ok(0);
    };
    let start = match act {
        Act::Bounce => match world.store.body(id).await? {
            Some(body) => body.start(relay_message::dsn::ORIGINAL_BYTES_MAX).await?,
            None => bytes::Bytes::new(),
        },
        Act::Hold | Act::Release | Act::Delete => bytes::Bytes::new(),
    };
    let (settlement, events) = act.settlement(&world, &message, &start, &places);
    let count = settlement.changes.len() as u64;
    if count == 0 {
        return Ok(0);
    }
    let settled = match world.store.settle(settlement).await {
        Ok(settled) => settled,
        // It was finished in the meantime: nothing left to change.
        Err(StoreError::Unknown(_)) => return Ok(0),
        Err(error) => return Err(error),
    };
    world.dispatcher.remove(id).await;
    if !settled.message.finished() {
        world.dispatcher.enqueue(settled.message).await;
    }
    for dsn in settled.dsns {
        world.dispatcher.enqueue(dsn).await;
    }
    for event in events {
        world.events.emit(event);
    }
    Ok(count)
}
