//! One session's life: dispatch after dispatch over one connection, each settled by one write.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;
use relay_observe::Event;
use relay_policy::{Context, Decision, Stimulus, decide};
use relay_queue::{Message, Settlement, StoreError};
use relay_schedule::scheduler::SiteNews;
use relay_schedule::{Dispatch, Report};
use relay_smtp::{Failure, Phase};
use tokio::sync::mpsc;

use crate::carry::Carrier;
use crate::job::{Job, Which};
use crate::link::{FromSession, Link, ToSession};
use crate::settle::{Input, Said, Settling, Verdict, settle};
use crate::world::{Settings, World};

/// Runs one session from its first `Ready` to its QUIT. The caller's guard sends `Closed`.
pub async fn session(world: Arc<World>, mut link: Link) {
    let mut carrier = Carrier::new(world, link.site.clone(), link.to_dispatcher.clone());
    // A send that fails says that the dispatcher has gone: then there is nothing more to do.
    let ready = FromSession::Ready(link.session);
    if link.to_dispatcher.send(ready).await.is_err() {
        return;
    }
    loop {
        let order = tokio::select! {
            // First, so that a message that comes at the same moment is not sent into a closed session.
            biased;
            () = peer_closed(&mut carrier) => continue,
            order = link.from_dispatcher.recv() => order,
        };
        let dispatch = match order {
            Some(ToSession::Work(dispatch)) => dispatch,
            Some(ToSession::Quit) | None => break,
        };
        let report = carry_out(&mut carrier, &dispatch).await;
        let done = FromSession::Done {
            session: link.session,
            report,
        };
        for word in [done, FromSession::Ready(link.session)] {
            if link.to_dispatcher.send(word).await.is_err() {
                break;
            }
        }
    }
    if let Some(peer) = carrier.peer.take() {
        carrier.close(peer).await;
    }
}

/// Settles a job whose deadline has passed without a last try: its recipients expire, with the
/// last reply they had. The DSNs go to the dispatcher as `FromSession::Accepted`.
pub async fn expire(
    world: Arc<World>,
    dispatch: Dispatch,
    to_dispatcher: mpsc::Sender<FromSession>,
) -> Report {
    let settings = world.settings.load_full();
    let job = match Job::load(&world, &settings, &dispatch, Which::All).await {
        Ok(job) => job,
        Err(report) => return report,
    };
    let decision = expired(&settings, &job);
    let verdicts = job
        .due
        .iter()
        .map(|index| last_words(&job, *index, &decision))
        .collect();
    let writer = Writer {
        world: &world,
        settings: &settings,
        job: &job,
        to_dispatcher: &to_dispatcher,
    };
    let mut rng = StdRng::seed_from_u64(rand::random());
    writer.write(verdicts, SiteNews::Neutral, &mut rng).await
}

/// Resolves when an idle session has been closed by the peer; never where there is none.
async fn peer_closed(carrier: &mut Carrier) {
    match &mut carrier.peer {
        Some(peer) => peer.wire.closed_by_peer().await,
        None => pending().await,
    }
    if let Some(peer) = carrier.peer.take() {
        carrier.closed(&peer);
    }
}

async fn carry_out(carrier: &mut Carrier, dispatch: &Dispatch) -> Report {
    let world = carrier.world.clone();
    let settings = world.settings.load_full();
    let job = match Job::load(&world, &settings, dispatch, Which::Due).await {
        Ok(job) => job,
        Err(report) => return report,
    };
    let attempt = carrier.carry(&settings, &job).await;
    let writer = Writer {
        world: &world,
        settings: &settings,
        job: &job,
        to_dispatcher: &carrier.to_dispatcher,
    };
    writer
        .write(attempt.verdicts, attempt.news, &mut carrier.rng)
        .await
}

/// Writes down what a dispatch came to.
struct Writer<'a> {
    world: &'a World,
    settings: &'a Settings,
    job: &'a Job,
    to_dispatcher: &'a mpsc::Sender<FromSession>,
}

impl Writer<'_> {
    /// Makes the settlement, writes it, and only then tells of it.
    async fn write(self, verdicts: Vec<Verdict>, news: SiteNews, rng: &mut StdRng) -> Report {
        let world = self.world;
        let now = world.clock.now();
        let input = Input {
            message: &self.job.message,
            body: &self.job.body,
            hop: &self.job.hop,
            verdicts,
            expired: expired(self.settings, self.job),
            config: &self.settings.config,
            now,
            news,
        };
        let Settling {
            settlement,
            mut report,
            events,
        } = settle(&input, || world.store.next_id(), rng);
        if settlement.changes.is_empty() {
            // Nobody was tried. Not at once again, or two parts of relayd would spin.
            let least = after(now, NOTHING_TRIED_PAUSE);
            report.due_again = report.due_again.map(|due| due.max(least));
            return report;
        }
        match persist(world, settlement).await {
            Ok(dsns) => {
                events
                    .into_iter()
                    .for_each(|event| world.events.emit(event));
                for dsn in dsns {
                    // Should the dispatcher be gone: it finds the message in the queue when it
                    // starts again.
                    let _ = self.to_dispatcher.send(FromSession::Accepted(dsn)).await;
                }
            }
            // An operator deleted the message while it was under way.
            Err(StoreError::Unknown(_)) => report.due_again = None,
            Err(error) => {
                // What was delivered cannot be written down: it stays in the queue and will be
                // sent once more. That is the promise (at least once), and it must be seen.
                let id = self.job.message.id;
                world.events.emit(Event::QueueStopped {
                    reason: format!("the outcome of {id} could not be written: {error}"),
                });
                report.due_again = Some(after(now, UNWRITTEN_PAUSE));
            }
        }
        report
    }
}

const NOTHING_TRIED_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// A disk that does not take settlements should not make us send the same mail over and over.
const UNWRITTEN_PAUSE: SignedDuration = SignedDuration::from_mins(30);
/// Before each further try to write a settlement.
const WRITE_AGAIN: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Returns the DSNs that were accepted with it.
async fn persist(world: &World, settlement: Settlement) -> Result<Vec<Arc<Message>>, StoreError> {
    let id = settlement.id;
    for wait in WRITE_AGAIN {
        match world.store.settle(settlement.clone()).await {
            Ok(settled) => return Ok(settled.dsns),
            Err(error @ (StoreError::Busy | StoreError::Full(_) | StoreError::Disk(_))) => {
                tracing::error!(%id, "the outcome is not written yet, trying again: {error}");
                tokio::time::sleep(wait).await;
            }
            Err(
                error @ (StoreError::Stopped(_) | StoreError::Unknown(_) | StoreError::Taken(_)),
            ) => return Err(error),
        }
    }
    let settled = world.store.settle(settlement).await?;
    Ok(settled.dsns)
}

/// What the policy says of a message that is too old.
fn expired(settings: &Settings, job: &Job) -> Decision {
    let domain = job.hop_domain();
    let context = Context {
        domain: domain.as_deref(),
        ..Context::of(Phase::Rcpt)
    };
    let stimulus = Stimulus::Failure(Failure::Expired);
    decide(&settings.table, stimulus, &context)
}

/// The verdict on a recipient that expired without a last try: what it heard last.
fn last_words(job: &Job, index: u32, decision: &Decision) -> Verdict {
    let place = usize::try_from(index).ok();
    let state = place.and_then(|place| job.message.recipients.get(place));
    let last = state.and_then(|state| state.last());
    let words = last.map_or("never tried: the site was not to be reached", |last| {
        &last.reply
    });
    Verdict {
        index,
        phase: last.map_or(Phase::Dns, |last| last.phase),
        said: Said::Failure {
            failure: Failure::Expired,
            words: words.to_owned(),
        },
        host: last.and_then(|last| last.host.clone()),
        tls: None,
        decision: decision.clone(),
    }
}

fn after(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
