//! Carries out one dispatch: transactions until every due recipient has a verdict, or this attempt
//! may try no more. What a reply means is `judge`'s part, writing it down is `settle`'s.

mod conclude;
mod known;
mod one_try;
mod portion;
mod ready;
mod tell;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use relay_message::seven_bit::CannotConvert;
use relay_observe::crash::{self, CrashPoint};
use relay_policy::{Action, Fate};
use relay_queue::StoreError;
use relay_schedule::SiteNews;
use relay_schedule::{SessionId, SiteId};
use relay_smtp::client::{Chunks, Outcome};
use relay_smtp::{Failure, Phase};
use tokio::sync::mpsc;

use self::one_try::Try;
use crate::guard::Wants;
use crate::job::Job;
use crate::judge::{Judged, judge, judge_refusal};
use crate::link::{FromSession, Link};
use crate::open::{Peer, Refusal};
use crate::outgoing::Outgoing;
use crate::prepared::{Forms, Prepared};
use crate::scope::{Place, unsuppress};
use crate::settle::Said;
use crate::trace::{Watched, decided};
use crate::verp;
use crate::world::{Settings, World};

/// What a session keeps between its dispatches.
pub(crate) struct Carrier {
    pub world: Arc<World>,
    pub session: SessionId,
    pub site: SiteId,
    pub to_dispatcher: mpsc::Sender<FromSession>,
    pub rng: StdRng,
    pub peer: Option<Peer>,
    /// What the open session was last found good enough for, and when.
    done: Option<(Wants, Timestamp)>,
    /// More recipients than this the site refused in one transaction.
    recipients_learned: Option<u32>,
}

/// Whether this attempt goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    Stop,
}

impl Carrier {
    pub fn new(world: Arc<World>, link: &Link) -> Carrier {
        Carrier {
            world,
            session: link.session,
            site: link.site.clone(),
            to_dispatcher: link.to_dispatcher.clone(),
            rng: StdRng::seed_from_u64(rand::random()),
            peer: None,
            done: None,
            recipients_learned: None,
        }
    }

    /// Tries all due recipients. Those without a verdict afterwards are due as before.
    /// Err: the queue does not give the message out.
    pub async fn carry(&mut self, settings: &Settings, job: &Job) -> Result<Try, StoreError> {
        let mut attempt = Try::new(job, job.sources.clone());
        if let Some(refusal) = loops(settings, job) {
            let decision = judge_refusal(settings, job, &refusal, None, self.world.clock.now());
            attempt.refuse_all(&refusal, &decision);
            return Ok(attempt);
        }
        let mut forms = Forms::new(job, settings, self.world.clock.now()).await?;
        // Each round settles a recipient, or uses up a host or a session; this bound is only a net.
        let rounds = 2 * job.due.len() + 20;
        for _ in 0..rounds {
            if attempt.pending.is_empty() {
                break;
            }
            let go = match self.ready_peer(settings, job, &mut attempt).await {
                Some(peer) => {
                    self.transact(settings, job, &mut forms, peer, &mut attempt)
                        .await
                }
                None => Go::Stop,
            };
            if go == Go::Stop {
                break;
            }
        }
        for index in std::mem::take(&mut attempt.pending) {
            let stands = attempt.fallback.remove(&index);
            attempt.verdicts.extend(stands);
        }
        Ok(attempt)
    }

    /// One transaction for the next recipients.
    async fn transact(
        &mut self,
        settings: &Settings,
        job: &Job,
        forms: &mut Forms,
        mut peer: Peer,
        attempt: &mut Try,
    ) -> Go {
        let Some(chunk) = self.portion(settings, job, &mut peer, &mut attempt.pending) else {
            self.close(peer).await;
            return Go::On;
        };
        let form = forms.fitting(job, settings, &peer.wire.session).await;
        let outcomes = match form {
            Ok(Ok(prepared)) => speak(settings, job, prepared, &mut peer, &chunk).await,
            Ok(Err(cannot)) => Some(unfit(cannot, chunk.len())),
            // What others of this attempt have been told stands; these come again later.
            Err(error) => {
                let id = job.message.id;
                tracing::error!(%id, "the queue does not give the message out: {error}");
                attempt.put_back(&chunk);
                self.peer = Some(peer);
                return Go::Stop;
            }
        };
        if peer.wire.session.chunks() == Chunks::Refused {
            // Nobody has got anything: the same once more, by DATA.
            let now = self.world.clock.now();
            self.world.hosts.refused_chunks(&peer.host, now);
            attempt.put_back(&chunk);
            self.closed(&peer);
            return Go::On;
        }
        let outcomes = match outcomes {
            Some(outcomes) if !attempt.died_idle(&peer, &outcomes) => outcomes,
            // The peer had closed the session while it was idle: that says nothing of the message.
            Some(_) | None => {
                attempt.put_back(&chunk);
                self.closed(&peer);
                return Go::On;
            }
        };
        peer.messages += 1;
        attempt.news = SiteNews::Good;
        let now = self.world.clock.now();
        let mut judged: Vec<Judged> = chunk
            .into_iter()
            .zip(outcomes)
            .map(|(index, outcome)| judge(settings, job, &peer, index, outcome, now))
            .collect();
        peer.wire.tap.tell(|tap| {
            for Judged { verdict, .. } in &judged {
                let recipient = job.recipient(verdict.index);
                let recipient = recipient.map(|one| one.mailbox.to_string());
                tap.decision(decided(&recipient.unwrap_or_default(), &verdict.decision));
            }
        });
        if judged
            .iter()
            .any(|one| one.verdict.decision.fate == Fate::Delivered)
        {
            crash::at(CrashPoint::PeerSaid250);
        }
        self.raise(job, &mut judged, peer.source).await;
        self.remember_source(job, &judged, peer.source);
        let rest = self.sort(judged, attempt, peer.source).await;
        self.go_on(rest, peer, attempt).await
    }

    /// What others were told may make more of it than this recipient's end.
    async fn raise(&mut self, job: &Job, judged: &mut [Judged], source: Option<IpAddr>) {
        let now = self.world.clock.now();
        let place = Place {
            site: &self.site.0,
            source,
            now,
        };
        let unbelieved = self.world.scope.raise(&place, job, judged);
        if !unbelieved.is_empty() {
            unsuppress(&*self.world.suppressions, unbelieved, now).await;
        }
    }

    /// A server that asks to come back later wants to see the same address again.
    fn remember_source(&self, job: &Job, judged: &[Judged], source: Option<IpAddr>) {
        let waits = |one: &Judged| one.verdict.decision.action == Action::WaitHint;
        match source {
            Some(source) if judged.iter().any(waits) => {
                self.world.homes.remember(job.message.id, source);
            }
            Some(_) | None => self.world.homes.forget(job.message.id),
        }
    }
}

/// One transaction. None: the session was over before it began.
async fn speak(
    settings: &Settings,
    job: &Job,
    prepared: &Prepared,
    peer: &mut Peer,
    chunk: &[u32],
) -> Option<Vec<Outcome>> {
    peer.wire.hear().await;
    let mut transaction = job.transaction(prepared, chunk);
    verp::apply(&settings.config, job.message.id, &mut transaction);
    peer.wire.session.begin(transaction);
    peer.wire.send(Outgoing::new(prepared, &job.body)).await;
    peer.wire.session.take_outcomes()
}

/// The host takes no 8-bit message, and this one cannot be made another.
fn unfit(cannot: CannotConvert, count: usize) -> Vec<Outcome> {
    let outcome = Outcome::Failed {
        phase: Phase::Mail,
        failure: Failure::CannotConvert,
        words: format!("the host does not offer 8BITMIME, and {cannot}"),
    };
    vec![outcome; count]
}

/// A message that has passed too many hosts goes round in a circle (RFC 5321 section 6.3).
fn loops(settings: &Settings, job: &Job) -> Option<Refusal> {
    // One more than what is accepted: ours is on top by now.
    let hops_max = u64::from(settings.config.submission.received_headers_max) + 1;
    let hops = relay_message::header::received_count(&job.head) as u64;
    (hops > hops_max).then(|| Refusal {
        phase: Phase::Mail,
        said: Said::Failure {
            failure: Failure::TooManyHops,
            words: format!("the message has {hops} Received fields; {hops_max} are allowed"),
        },
        host: None,
        source: None,
        tls: None,
    })
}
