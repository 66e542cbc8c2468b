//! The read-only views of the queue: lists, one message, how far a flush has come.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_deliver::next_hop;
use relay_queue::{Attempt, Detour, Message, RecipientState, State};
use relay_smtp::envelope::RequireTls;
use relay_smtp::{NextHop, QueueId, Recipient};

use crate::choice::{Choice, PAGE};
use crate::error::ApiError;
use crate::past;
use crate::select::ListQuery;
use crate::view::{
    AttemptView, MessageDetail, MessageView, PageView, RecipientView, SiteStatus, Untried,
};
use crate::world::AdminWorld;

/// Messages of one answer where the query gives no limit, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Finished messages that are searched: all that the store remembers.
const FINISHED_MAX: usize = 1_000;
/// Recipients of a message whose sites are looked at.
const SITES_ASKED: usize = 100;
/// Shown of a header block.
const HEADERS_MAX: usize = 64 * 1024;

/// Messages that are read for one answer at most, where a site leaves few of them over: the asker
/// goes on with `next`.
const READ_MAX: usize = 20 * PAGE;

/// Unfinished messages, oldest first.
pub async fn list(world: &AdminWorld, query: ListQuery) -> Result<PageView, ApiError> {
    let mut choice = Choice::of(world, &query.selection)?;
    let mut after = match &query.after {
        Some(text) => Some(parse_id(text)?),
        None => None,
    };
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    // Without a site what is read is what matches.
    let step = match query.selection.site {
        Some(_) => PAGE,
        None => limit,
    };
    let mut messages = Vec::new();
    for _ in 0..READ_MAX / step {
        let page = choice.page(world, after, step).await?;
        after = page.next;
        messages.extend(page.messages);
        if after.is_none() || messages.len() >= limit {
            break;
        }
    }
    if messages.len() > limit {
        messages.truncate(limit);
        after = messages.last().map(|message| message.id);
    }
    let max_age = max_age(world);
    Ok(PageView {
        messages: messages
            .iter()
            .map(|message| row(message, max_age))
            .collect(),
        next: after.map(|id| id.to_string()),
    })
}

/// Messages that have left the queue lately, newest first.
pub async fn finished(world: &AdminWorld, query: &ListQuery) -> Result<PageView, ApiError> {
    let mut choice = Choice::of(world, &query.selection)?;
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let max_age = max_age(world);
    let recent = world.store.recent(FINISHED_MAX);
    Ok(PageView {
        messages: choice
            .among_finished(world, recent)
            .await
            .iter()
            .take(limit)
            .map(|message| row(message, max_age))
            .collect(),
        next: None,
    })
}

/// One message in full; one that has gone as the history has it.
pub async fn show(world: &AdminWorld, id: &str) -> Result<MessageDetail, ApiError> {
    let id = parse_id(id)?;
    let Some(message) = world.store.message(id).await? else {
        return gone(world, id).await;
    };
    let start = match world.store.body(id).await? {
        Some(body) => Some(body.start(HEADERS_MAX).await?),
        None => None,
    };
    let mut view = row(&message, max_age(world));
    for (recipient, state) in view.recipients.iter_mut().zip(&message.recipients) {
        recipient.history = state.history.iter().map(attempt).collect();
        let rule = recipient.rule.as_ref();
        let advice = rule.and_then(|rule| world.dispatcher.advice(rule));
        recipient.advice = advice.filter(|_| state.state != State::Delivered);
    }
    let blocked_by = if message.finished() {
        Vec::new()
    } else {
        blocked_by(world, &message).await
    };
    Ok(MessageDetail {
        message: view,
        client: message.arrival.client.map(|address| address.to_string()),
        dsn_of: message.arrival.dsn_of.map(|id| id.to_string()),
        requiretls: message.envelope.require_tls == RequireTls::Yes,
        headers: start.map(|start| header_block(&start)),
        blocked_by,
    })
}

async fn gone(world: &AdminWorld, id: QueueId) -> Result<MessageDetail, ApiError> {
    let story = match world.events.history() {
        Some(_) => crate::log::story(world, id).await?,
        None => Vec::new(),
    };
    let mut detail = past::detail(id, &story).ok_or_else(|| {
        ApiError::NotFound(format!(
            "no message {id} in the queue, nor in the history of those that have gone"
        ))
    })?;
    for recipient in &mut detail.message.recipients {
        let rule = recipient.rule.as_ref();
        let advice = rule.and_then(|rule| world.dispatcher.advice(rule));
        recipient.advice = advice.filter(|_| recipient.state != State::Delivered.word());
    }
    Ok(detail)
}

/// What its jobs wait for, and what its sites suffer from: a message whose time has not come would
/// not go then either while its site is suspended.
async fn blocked_by(world: &AdminWorld, message: &Message) -> Vec<String> {
    let mut words = world.dispatcher.blocked_by(message.id).await;
    let sites = world.dispatcher.sites().await;
    let suffering = |site: &SiteStatus| site.suspended_until.is_some() || site.slow_until.is_some();
    if !sites.iter().any(suffering) {
        return words;
    }
    let config = world.config.load_full();
    let hops: BTreeSet<NextHop> = message
        .each()
        .filter(|(_, _, state)| is_open(state.state))
        .map(|(index, recipient, _)| next_hop(&config, message, index, recipient))
        .take(SITES_ASKED)
        .collect();
    let mut names = BTreeSet::new();
    for hop in &hops {
        names.insert(world.dispatcher.site_of(hop).await);
    }
    for site in sites.iter().filter(|site| names.contains(&site.site)) {
        let why = site.why.as_deref().unwrap_or("the scheduler");
        let (what, until) = match (site.suspended_until, site.slow_until) {
            (Some(until), _) => ("suspended", until),
            (None, Some(until)) => ("slowed down", until),
            (None, None) => continue,
        };
        let begin = format!("site {} {what} ", site.site);
        if !words.iter().any(|said| said.starts_with(&begin)) {
            let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
            words.push(format!("{begin}until {until} by {why}"));
        }
    }
    words
}

/// Counts the messages, here already at `since`, of which a recipient is open and has not been
/// tried from then on.
pub async fn untried(world: &AdminWorld, query: ListQuery) -> Result<Untried, ApiError> {
    let mut choice = Choice::of(world, &query.selection)?;
    let since = query
        .since
        .ok_or_else(|| ApiError::Bad("since: missing; give the time of the flush".to_owned()))?;
    // The queue keeps times to the millisecond: what was tried within the same one counts as tried.
    let since = Timestamp::from_millisecond(since.as_millisecond()).unwrap_or(since);
    let mut untried = 0;
    let count = |choice: &Choice, message: &Message| {
        let waits = message.each().any(|one @ (_, _, state)| {
            is_open(state.state)
                && last_at(state) < Some(since)
                && choice.matches_recipient(message, one)
        });
        if message.arrival.at <= since && waits {
            untried += 1;
        }
    };
    choice.for_each(world, count).await?;
    Ok(Untried { untried })
}

/// Whether the schedule will try it.
fn is_open(state: State) -> bool {
    match state {
        State::Queued | State::Deferred => true,
        State::Held | State::Delivered | State::Bounced | State::Discarded => false,
    }
}

fn last_at(recipient: &RecipientState) -> Option<Timestamp> {
    recipient.last_attempt().map(|attempt| attempt.at)
}

pub fn parse_id(text: &str) -> Result<QueueId, ApiError> {
    text.parse()
        .map_err(|error: relay_smtp::id::NotAnId| ApiError::Bad(error.to_string()))
}

/// What the default schedule gives a message before it expires. A rule may name another schedule;
/// the queue does not keep which.
fn max_age(world: &AdminWorld) -> Duration {
    world.config.load().schedule(None).max_age
}

/// One row of a list.
pub fn row(message: &Message, max_age: Duration) -> MessageView {
    let expires = SignedDuration::try_from(max_age)
        .ok()
        .and_then(|age| message.arrival.at.checked_add(age).ok());
    MessageView {
        id: message.id.to_string(),
        sender: message.envelope.reverse_path.to_string(),
        size: message.size,
        arrived: message.arrival.at,
        user: message.arrival.user.clone(),
        priority: message.envelope.priority.level(),
        recipients: message
            .each()
            .map(|(index, recipient, state)| {
                let detour = message.detours.get(&index);
                recipient_row(recipient, state, detour, expires)
            })
            .collect(),
    }
}

fn recipient_row(
    recipient: &Recipient,
    state: &RecipientState,
    detour: Option<&Detour>,
    expires: Option<Timestamp>,
) -> RecipientView {
    let last = state.last();
    RecipientView {
        address: recipient.mailbox.to_string(),
        state: state.state.word().to_owned(),
        attempts: state.attempts,
        next_attempt: is_open(state.state).then_some(state.next_attempt),
        expires: expires.filter(|_| is_open(state.state)),
        last_attempt: last.map(|attempt| attempt.at),
        last_reply: last.map(|attempt| attempt.reply.clone()),
        rule: last.map(|attempt| attempt.rule.clone()),
        category: last.map(|attempt| attempt.category.clone()),
        host: last.and_then(|attempt| attempt.host.clone()),
        route: detour.map(ToString::to_string),
        history: Vec::new(),
        advice: None,
    }
}

fn attempt(attempt: &Attempt) -> AttemptView {
    AttemptView {
        at: attempt.at,
        host: attempt.host.clone(),
        tls: attempt.tls.clone(),
        phase: attempt.phase.word().to_owned(),
        reply: attempt.reply.clone(),
        category: attempt.category.clone(),
        action: attempt.action.clone(),
        rule: attempt.rule.clone(),
    }
}

/// Everything before the first empty line.
fn header_block(body: &[u8]) -> String {
    let shown = body.get(..HEADERS_MAX).unwrap_or(body);
    let end = shown
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(shown.len(), |place| place + 2);
    String::from_utf8_lossy(shown.get(..end).unwrap_or(shown)).replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_block_ends_at_the_empty_line() {
        assert_eq!(
            header_block(b"A: 1\r\nB: 2\r\n\r\nbody\r\n"),
            "A: 1\nB: 2\n"
        );
        assert_eq!(header_block(b"A: 1"), "A: 1");
        assert_eq!(header_block(b""), "");
    }
}
