//! What a dispatch came to, written down by one settlement, and told only then.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;
use relay_observe::Event;
use relay_policy::{Context, Decision, Stimulus, decide};
use relay_queue::{Settled, Settlement, StoreError};
use relay_schedule::SiteNews;
use relay_schedule::{Report, SiteId};
use relay_smtp::{Failure, NextHop, Phase};
use relay_suppression::Entry;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::job::Job;
use crate::link::FromSession;
use crate::settle::{Input, Settling, Verdict, settle};
use crate::world::{Settings, World};

/// The verdicts of one dispatch.
pub(crate) struct Outcome {
    pub world: Arc<World>,
    pub settings: Arc<Settings>,
    pub job: Job,
    pub verdicts: Vec<Verdict>,
    pub news: SiteNews,
    /// Of the session; None: there was none.
    pub site: Option<SiteId>,
}

impl Outcome {
    /// Writes it beside its session, and reports to the dispatcher, whatever happens. `place` is given
    /// back at the end.
    pub async fn write_down(
        self,
        to_dispatcher: mpsc::Sender<FromSession>,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let mut last_word = LastWord::of(&self, &to_dispatcher);
        let hop = self.job.hop.clone();
        let report = self.write(&to_dispatcher).await;
        last_word.report = None;
        // The dispatcher has gone: what it would want to know is in the queue.
        let _ = to_dispatcher
            .send(FromSession::Settled { hop, report })
            .await;
        drop(place);
    }

    /// Makes the settlement, writes it, and only then tells of it.
    pub async fn write(self, to_dispatcher: &mpsc::Sender<FromSession>) -> Report {
        let world = Arc::clone(&self.world);
        let settings = Arc::clone(&self.settings);
        let now = world.clock.now();
        let Settling {
            settlement,
            mut report,
            events,
            suppress,
        } = self.settling(now).await;
        if settlement.changes.is_empty() {
            // Nobody was tried. Not at once again, or two parts of relayd would spin.
            let least = after(now, NOTHING_TRIED_PAUSE);
            report.due_again = report.due_again.map(|due| due.max(least));
            return report;
        }
        match persist(&world, settlement).await {
            Ok(Settled { message, dsns }) => {
                if message.finished() {
                    settings.signers.forget(message.id);
                }
                events
                    .into_iter()
                    .for_each(|event| world.events.emit(event));
                suppress_now(&world, suppress).await;
                for dsn in dsns {
                    // Should the dispatcher be gone: it finds the message in the queue when it
                    // starts again.
                    let _ = to_dispatcher.send(FromSession::Accepted(dsn)).await;
                }
            }
            // An operator deleted the message while it was under way.
            Err(StoreError::Unknown(_)) => report.due_again = None,
            Err(error) => {
                // What was delivered cannot be written down: it stays in the queue and will be
                // sent once more. That is the promise (at least once), and it must be seen.
                let id = report.id;
                world.events.emit(Event::OutcomeUnwritten {
                    id,
                    reason: error.to_string(),
                });
                if matches!(error, StoreError::Stopped(_)) {
                    let _ = to_dispatcher.send(FromSession::QueueStopped).await;
                }
                report.due_again = Some(after(now, UNWRITTEN_PAUSE));
            }
        }
        report
    }

    async fn settling(self, now: Timestamp) -> Settling {
        let start = self.job.start().await;
        let input = Input {
            message: &self.job.message,
            start: &start,
            hop: &self.job.hop,
            site: self.site.as_ref().map(|site| &*site.0),
            verdicts: self.verdicts,
            expired: expired(&self.settings, &self.job),
            config: &self.settings.config,
            now,
            news: self.news,
        };
        let mut rng = StdRng::seed_from_u64(rand::random());
        settle(&input, || self.world.store.next_id(), &mut rng)
    }
}

/// Reports for a task that panicked: else its job would count as under way for ever.
struct LastWord {
    to_dispatcher: mpsc::Sender<FromSession>,
    report: Option<(NextHop, Report)>,
}

impl LastWord {
    fn of(outcome: &Outcome, to_dispatcher: &mpsc::Sender<FromSession>) -> LastWord {
        let report = Report {
            id: outcome.job.message.id,
            due_again: Some(after(outcome.world.clock.now(), UNWRITTEN_PAUSE)),
            site: SiteNews::Neutral,
        };
        LastWord {
            to_dispatcher: to_dispatcher.clone(),
            report: Some((outcome.job.hop.clone(), report)),
        }
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        let Some((hop, report)) = self.report.take() else {
            return;
        };
        tracing::error!(id = %report.id, "writing an outcome down broke off; the message is tried again later");
        let to_dispatcher = self.to_dispatcher.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let settled = FromSession::Settled { hop, report };
                let _ = to_dispatcher.send(settled).await;
            });
        }
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
    WRITE_AGAIN_LAST,
];
const WRITE_AGAIN_LAST: Duration = Duration::from_secs(60);

/// With the DSNs that were accepted with it. While the disk is full it goes on trying: its session
/// then comes to a stand, and nothing is sent that cannot be written down.
async fn persist(world: &World, settlement: Settlement) -> Result<Settled, StoreError> {
    let id = settlement.id;
    let mut waits = WRITE_AGAIN.into_iter();
    loop {
        let error = match world.store.settle(settlement.clone()).await {
            Ok(settled) => return Ok(settled),
            Err(error) => error,
        };
        let wait = match (&error, waits.next()) {
            (StoreError::Busy | StoreError::Full(_) | StoreError::Disk(_), Some(wait)) => wait,
            (StoreError::Busy | StoreError::Full(_), None) => WRITE_AGAIN_LAST,
            (StoreError::Disk(_), None)
            | (StoreError::Stopped(_) | StoreError::Unknown(_) | StoreError::Taken(_), _) => {
                return Err(error);
            }
        };
        tracing::error!(%id, "the outcome is not written yet, trying again: {error}");
        tokio::time::sleep(wait).await;
    }
}

/// The bounces stand whatever comes of this: without its entry an address is only tried once more.
async fn suppress_now(world: &World, entries: Vec<Entry>) {
    if entries.is_empty() {
        return;
    }
    if let Err(error) = world.suppressions.add(entries).await {
        tracing::error!("addresses could not be put on the suppression list: {error}");
    }
}

/// What the policy says of a message that is too old.
pub(crate) fn expired(settings: &Settings, job: &Job) -> Decision {
    let domain = job.hop_domain();
    let context = Context {
        domain: domain.as_deref(),
        ..Context::of(Phase::Rcpt)
    };
    let stimulus = Stimulus::Failure(Failure::Expired);
    decide(&settings.table, stimulus, &context)
}

fn after(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}
