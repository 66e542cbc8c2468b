//! One session's life: dispatch after dispatch over one connection, each settled by one write.

use std::future::pending;
use std::sync::Arc;

use relay_policy::Decision;
use relay_schedule::SiteNews;
use relay_schedule::{Dispatch, Report};
use relay_smtp::{Failure, Phase};
use tokio::sync::{Semaphore, mpsc};

use crate::carry::Carrier;
use crate::job::{Job, Which, unreadable};
use crate::link::{FromSession, Link, ToSession};
use crate::outcome::{Outcome, expired};
use crate::settle::{Reports, Said, Verdict};
use crate::suppress::set_aside;
use crate::world::World;

/// Outcomes of one session that are being written down while it goes on: the wire need not wait for the
/// disk, and a crash repeats no more messages than these.
const SETTLING_MAX: u32 = 8;

/// Runs one session from its first `Ready` to its QUIT. The caller's guard sends `Closed`.
pub async fn session(world: Arc<World>, mut link: Link) {
    let mut carrier = Carrier::new(world, &link);
    let settling = Arc::new(Semaphore::new(SETTLING_MAX as usize));
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
        // Should the dispatcher have gone, `recv` says so next.
        let session = link.session;
        match carry_out(&mut carrier, &dispatch).await {
            Err(report) => {
                let done = FromSession::Done { session, report };
                let _ = link.to_dispatcher.send(done).await;
            }
            Ok(outcome) => {
                // Never closed, so this only waits for a place.
                let place = Arc::clone(&settling).acquire_owned().await.ok();
                let news = outcome.news;
                // Before the task starts, whose word must come after this one.
                let carried = FromSession::Carried { session, news };
                let _ = link.to_dispatcher.send(carried).await;
                tokio::spawn(outcome.write_down(link.to_dispatcher.clone(), place));
            }
        }
        let _ = link.to_dispatcher.send(FromSession::Ready(session)).await;
    }
    if let Some(peer) = carrier.peer.take() {
        carrier.close(peer).await;
    }
    // Only then is the session over: an orderly stop waits for what is being written.
    let _ = settling.acquire_many(SETTLING_MAX).await;
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
    let outcome = Outcome {
        settings,
        job,
        verdicts,
        news: SiteNews::Neutral,
        site: None,
        world,
    };
    outcome.write(&to_dispatcher).await
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

/// Err: there was nothing to carry out.
async fn carry_out(carrier: &mut Carrier, dispatch: &Dispatch) -> Result<Outcome, Report> {
    let world = Arc::clone(&carrier.world);
    let settings = world.settings.load_full();
    let mut job = Job::load(&world, &settings, dispatch, Which::Due).await?;
    let mut verdicts = set_aside(&world, &settings, &mut job);
    let mut news = SiteNews::Neutral;
    if !job.due.is_empty() {
        match carrier.carry(&settings, &job).await {
            Ok(attempt) => {
                verdicts.extend(attempt.verdicts);
                news = attempt.news;
            }
            Err(error) if verdicts.is_empty() => {
                return Err(unreadable(&world, job.message.id, &error.to_string()));
            }
            // First what is settled already; the others come again at once, and then alone.
            Err(_) => {}
        }
    }
    Ok(Outcome {
        world,
        settings,
        job,
        verdicts,
        news,
        site: Some(carrier.site.clone()),
    })
}

/// The verdict on a recipient that expired without a last try: what it heard last.
fn last_words(job: &Job, index: u32, decision: &Decision) -> Verdict {
    let place = usize::try_from(index).ok();
    let state = place.and_then(|place| job.message.recipients.get(place));
    let last = state.and_then(|state| state.last_attempt());
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
        accepted_before: 0,
        reports: Reports::Ours,
        decision: decision.clone(),
    }
}

#[cfg(test)]
mod tests;
