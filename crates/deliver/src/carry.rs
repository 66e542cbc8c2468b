//! Carries out one dispatch: transactions until every due recipient has a verdict, or this attempt
//! may try no more. What a reply means is `judge`'s part, writing it down is `settle`'s.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;
use relay_message::seven_bit::CannotConvert;
use relay_observe::Event;
use relay_observe::crash::{self, CrashPoint};
use relay_policy::{Action, Category, Decision, Fate};
use relay_queue::StoreError;
use relay_route::Candidate;
use relay_schedule::scheduler::SiteNews;
use relay_schedule::{SessionId, SiteId, SourceChoice};
use relay_smtp::client::Outcome;
use relay_smtp::{Failure, Phase};
use tokio::sync::mpsc;

use crate::guard::{Guard, Wants};
use crate::hosts::{Hosts, NoHost};
use crate::job::Job;
use crate::judge::{Judged, alike, flow, judge, judge_refusal, news_of};
use crate::link::{Flow, FromSession, Link};
use crate::open::{AllSuspended, Peer, Refusal, Target, source_for};
use crate::outgoing::Outgoing;
use crate::prepared::{Forms, Prepared};
use crate::scope::{Place, unsuppress};
use crate::settle::{Reports, Said, Verdict};
use crate::world::{Settings, World};

/// How long a session goes on by what was published when it was opened. Plans of hosts are kept as long.
const PUBLISHED_KEPT: SignedDuration = SignedDuration::from_secs(60);

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

/// One attempt, as far as it has come.
pub(crate) struct Try {
    /// Still to be tried in this attempt.
    pending: VecDeque<u32>,
    pub verdicts: Vec<Verdict>,
    /// What stands if there is no further host or transaction for them.
    fallback: BTreeMap<u32, Verdict>,
    hosts: Hosts,
    /// Rules that the dispatcher and the operator have been told of.
    told: Vec<String>,
    pub news: SiteNews,
    /// A session that turned out to be dead was replaced.
    replaced: Once,
    /// TLS was switched on or off by the policy.
    switched: Once,
    /// Which local addresses it may go from. One that is suspended meanwhile is avoided from then on.
    sources: SourceChoice,
}

/// What an attempt does only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Once {
    NotYet,
    Done,
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
        let mut attempt = Try::new(job, self.sources_for(job));
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

    /// The open session if it will do, else a new one. None: there is none to be had; who is still
    /// to be tried has a verdict, where there was anything to base it on.
    async fn ready_peer(
        &mut self,
        settings: &Settings,
        job: &Job,
        attempt: &mut Try,
    ) -> Option<Peer> {
        if let Some(peer) = self.peer.take() {
            let wants = job.wants(settings, &peer.host);
            if attempt.may_use(peer.source) && self.does(wants, &peer.guard, &peer.candidate).await
            {
                return Some(peer);
            }
            self.close(peer).await;
        }
        let mut last: Option<(Refusal, Decision)> = None;
        let mut failed = Vec::new();
        loop {
            let (candidate, address) = match attempt.hosts.next(&self.world.router).await {
                Ok(host) => host,
                Err(NoHost::Refused(refusal)) => {
                    let host = refusal.host.clone();
                    let decision = judge_refusal(
                        settings,
                        job,
                        &refusal,
                        host.as_deref(),
                        self.world.clock.now(),
                    );
                    self.tell(attempt, &decision, &refusal.said, None).await;
                    attempt.refuse_all(&refusal, &decision);
                    return None;
                }
                Err(NoHost::TriedEnough) => {
                    if let Some((refusal, decision)) = last {
                        if alike(&failed) {
                            let rule = decision.rule.name.clone();
                            self.send_flow(Flow::HostsFailAlike { rule }).await;
                        }
                        attempt.refuse_all(&refusal, &decision);
                    }
                    return None;
                }
            };
            let all = &settings.config.delivery.source_addresses;
            let source = source_for(all, &attempt.sources, address.ip(), &mut self.rng);
            let wants = job.wants(settings, &candidate.host);
            let guard = Guard::of(&self.world, &candidate, &wants).await;
            let opened = match guard {
                Err(refusal) => Err(refusal),
                Ok(guard) => {
                    let target = Target {
                        world: &self.world,
                        config: &settings.config,
                        hop: &job.hop,
                        candidate: &candidate,
                        address,
                        guard,
                        source: source.unwrap_or_default(),
                    };
                    match source {
                        Ok(_) => target.open().await,
                        Err(AllSuspended) => Err(no_source(&target)),
                    }
                }
            };
            let refusal = match opened {
                Ok(peer) => {
                    attempt.hosts.opened();
                    attempt.news = SiteNews::Good;
                    self.done = Some((wants, self.world.clock.now()));
                    self.emit_opened(&peer);
                    let (session, source) = (self.session, peer.source);
                    let opened = FromSession::Opened { session, source };
                    // The dispatcher has gone: relayd stops, and this session hears of it next.
                    let _ = self.to_dispatcher.send(opened).await;
                    return Some(peer);
                }
                Err(refusal) => refusal,
            };
            let decision = judge_refusal(
                settings,
                job,
                &refusal,
                Some(&candidate.host),
                self.world.clock.now(),
            );
            self.emit_failed(&candidate.host, &refusal, &decision);
            self.tell(attempt, &decision, &refusal.said, refusal.source)
                .await;
            let news = news_of(&refusal, &decision);
            failed.push((candidate.host.clone(), decision.category, news));
            if news == SiteNews::Crowded {
                self.send_flow(Flow::TooManyConnections).await;
            }
            attempt.news = match attempt.news {
                SiteNews::Good => SiteNews::Good,
                SiteNews::Neutral | SiteNews::Crowded | SiteNews::Unreachable => news,
            };
            if self.after_refusal(attempt, &candidate.host, &refusal, &decision) == Go::Stop {
                attempt.refuse_all(&refusal, &decision);
                return None;
            }
            last = Some((refusal, decision));
        }
    }

    /// Whether the open session is good enough for a job. What is published is not asked for anew for each
    /// of many messages with the same wants: some questions to DNS each would cost more than sending it.
    async fn does(&mut self, wants: Wants, has: &Guard, candidate: &Candidate) -> bool {
        let now = self.world.clock.now();
        let fresh = |since: Timestamp| now.duration_since(since) < PUBLISHED_KEPT;
        if let Some((done, since)) = &self.done
            && *done == wants
            && fresh(*since)
        {
            return true;
        }
        match Guard::of(&self.world, candidate, &wants).await {
            Ok(wanted) if has.covers(&wanted) => {
                self.done = Some((wants, now));
                true
            }
            // Where this host must not be used for the job, the next connection is told why.
            Ok(_) | Err(_) => false,
        }
    }

    /// Whether another address or host is to be tried after this one refused.
    fn after_refusal(
        &mut self,
        attempt: &mut Try,
        host: &str,
        refusal: &Refusal,
        decision: &Decision,
    ) -> Go {
        match decision.action {
            Action::NextMx | Action::NewTransaction if refusal.phase == Phase::Connect => {
                attempt.hosts.address_failed();
                Go::On
            }
            // What DNS says speaks against the host, which was not connected to.
            Action::NextMx | Action::NewTransaction if refusal.phase == Phase::Dns => {
                attempt.hosts.not_dialled();
                attempt.hosts.leave(host);
                Go::On
            }
            Action::NextMx | Action::NewTransaction => {
                attempt.hosts.opened();
                attempt.hosts.leave(host);
                Go::On
            }
            Action::RetryPlain | Action::RetryTls => {
                self.switch_tls(attempt, host, decision.action)
            }
            Action::Ok
            | Action::Defer
            | Action::WaitHint
            | Action::Slow
            | Action::SuspendSource
            | Action::SuspendDestination
            | Action::Bounce
            | Action::BounceSuppress
            | Action::Alert
            | Action::Hold => Go::Stop,
        }
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
        let count = self.recipients_max(settings, job, &peer);
        let count = count.min(attempt.pending.len());
        let chunk: Vec<u32> = attempt.pending.drain(..count).collect();
        let form = forms.fitting(job, settings, &peer.wire.session).await;
        let outcomes = match form {
            Ok(Ok(prepared)) => speak(job, prepared, &mut peer, &chunk).await,
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

    /// How many recipients the next transaction may have.
    fn recipients_max(&self, settings: &Settings, job: &Job, peer: &Peer) -> usize {
        let configured = job.limits(settings, &peer.host).recipients_per_transaction;
        let offered = peer.wire.session.extensions().limits.rcpt_max;
        let max = configured
            .min(job.recipients_max)
            .min(self.recipients_learned.unwrap_or(u32::MAX))
            .min(offered.unwrap_or(u32::MAX))
            .max(1);
        usize::try_from(max).unwrap_or(usize::MAX)
    }

    /// Puts final verdicts aside, tells of what concerns more than the recipient, and returns those
    /// that are to be tried again at once.
    async fn sort(
        &mut self,
        judged: Vec<Judged>,
        attempt: &mut Try,
        source: Option<IpAddr>,
    ) -> Rest {
        let mut rest = Rest::default();
        for Judged {
            verdict,
            accepted_before,
        } in judged
        {
            let decision = &verdict.decision;
            self.tell(attempt, decision, &verdict.said, source).await;
            match (decision.fate, decision.action) {
                (Fate::AgainNow, Action::NextMx) => rest.elsewhere.push(verdict),
                (Fate::AgainNow, Action::RetryTls | Action::RetryPlain) => {
                    rest.switch.push(verdict);
                }
                (Fate::AgainNow, _) => {
                    rest.accepted_before.get_or_insert(accepted_before);
                    rest.again.push(verdict);
                }
                (Fate::Delivered | Fate::Deferred | Fate::Bounced | Fate::Held, _) => {
                    if flow(decision, source).is_some() {
                        rest.stop = Some(Go::Stop);
                    }
                    attempt.verdicts.push(verdict);
                }
            }
        }
        rest
    }

    /// Draws the conclusions for this attempt: the second level of a decision.
    async fn go_on(&mut self, rest: Rest, peer: Peer, attempt: &mut Try) -> Go {
        // LIMITS MAILMAX (RFC 9422 section 4.1): one more would be refused.
        let mail_max = peer.wire.session.extensions().limits.mail_max;
        let mut keep = match mail_max {
            Some(max) if peer.messages >= max => Keep::Close,
            Some(_) | None => Keep::Open,
        };
        if let Some(verdict) = rest.switch.first() {
            keep = Keep::Close;
            match self.switch_tls(attempt, &peer.host, verdict.decision.action) {
                Go::On => attempt.retry(rest.switch),
                Go::Stop => attempt.verdicts.extend(rest.switch),
            }
        }
        if !rest.elsewhere.is_empty() {
            keep = Keep::Close;
            attempt.hosts.leave(&peer.host);
            attempt.retry(rest.elsewhere);
        }
        if let Some(first) = rest.again.first() {
            match split(first, rest.accepted_before.unwrap_or(0)) {
                Split::Smaller(recipients) => {
                    self.recipients_learned = Some(recipients);
                    self.send_flow(Flow::RecipientsPerTransaction(recipients))
                        .await;
                    attempt.retry(rest.again);
                }
                Split::NewSession if peer.messages > 1 => {
                    self.send_flow(Flow::MessagesPerConnection(peer.messages - 1))
                        .await;
                    keep = Keep::Close;
                    attempt.retry(rest.again);
                }
                // Not even the first message of a session was taken: another would fare no better.
                Split::NewSession => attempt.verdicts.extend(rest.again),
            }
        }
        match (peer.wire.session.end(), keep) {
            (Some(_), _) => self.closed(&peer),
            (None, Keep::Close) => self.close(peer).await,
            (None, Keep::Open) => self.peer = Some(peer),
        }
        rest.stop.unwrap_or(Go::On)
    }

    /// `retry_plain` and `retry_tls`. What the configuration requires is seen to when the next
    /// session opens: this only changes what opportunistic sessions do.
    fn switch_tls(&mut self, attempt: &mut Try, host: &str, action: Action) -> Go {
        if attempt.switched == Once::Done {
            return Go::Stop;
        }
        attempt.switched = Once::Done;
        if action == Action::RetryPlain {
            let now = self.world.clock.now();
            self.world.tls.remember_plain(host, now);
        } else {
            self.world.tls.forget_plain(host);
        }
        Go::On
    }

    /// Tells the dispatcher of the flow, and the operator of alerts: once for each rule.
    async fn tell(
        &mut self,
        attempt: &mut Try,
        decision: &Decision,
        said: &Said,
        source: Option<IpAddr>,
    ) {
        let alert = matches!(decision.action, Action::Alert | Action::Hold)
            || relay_policy::scope::rule(&decision.rule.name).is_some();
        let flow = flow(decision, source);
        if (flow.is_none() && !alert) || attempt.told.contains(&decision.rule.name) {
            return;
        }
        attempt.told.push(decision.rule.name.clone());
        if alert {
            self.world.events.emit(Event::Alert {
                site: self.site.0.to_string(),
                rule: decision.rule.name.clone(),
                category: decision.category.to_string(),
                reply: said.text(),
                fix: decision.rule.fix.clone().unwrap_or_default(),
            });
        }
        if let Some(flow) = flow {
            self.send_flow(flow).await;
        }
    }

    /// The scheduler's choice, and the address that a greylisting server has seen this message come from.
    fn sources_for(&self, job: &Job) -> SourceChoice {
        let mut sources = job.sources.clone();
        if sources.prefer.is_none() {
            let home = self.world.homes.get(job.message.id);
            sources.prefer = home.filter(|home| !sources.avoid.contains(home));
        }
        sources
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

    async fn send_flow(&mut self, flow: Flow) {
        let site = self.site.clone();
        let flow = FromSession::Flow { site, flow };
        // The dispatcher has gone: relayd stops, and what was learned is of no more use.
        let _ = self.to_dispatcher.send(flow).await;
    }

    /// Says QUIT and closes.
    pub async fn close(&mut self, peer: Peer) {
        self.closed(&peer);
        peer.wire.quit().await;
    }

    /// The session is over, by whomever.
    pub fn closed(&self, peer: &Peer) {
        self.world.events.emit(Event::SessionClosed {
            site: self.site.0.to_string(),
            host: peer.host.clone(),
            messages: peer.messages,
        });
    }

    fn emit_opened(&self, peer: &Peer) {
        self.world.events.emit(Event::SessionOpened {
            site: self.site.0.to_string(),
            host: peer.host.clone(),
            address: peer.address,
            tls: peer.tls.clone(),
        });
    }

    fn emit_failed(&self, host: &str, refusal: &Refusal, decision: &Decision) {
        self.world.events.emit(Event::SessionFailed {
            site: self.site.0.to_string(),
            host: refusal.host.clone().unwrap_or_else(|| host.to_owned()),
            phase: refusal.phase,
            what: refusal.said.text(),
            rule: decision.rule.name.clone(),
            category: decision.category.to_string(),
            action: decision.action.to_string(),
        });
    }
}

impl Try {
    fn new(job: &Job, sources: SourceChoice) -> Try {
        Try {
            pending: job.due.iter().copied().collect(),
            verdicts: Vec::new(),
            fallback: BTreeMap::new(),
            hosts: Hosts::new(job.hop.clone()),
            told: Vec::new(),
            news: SiteNews::Neutral,
            replaced: Once::NotYet,
            switched: Once::NotYet,
            sources,
        }
    }

    /// Whether an open session comes from an address that will do.
    fn may_use(&self, source: Option<IpAddr>) -> bool {
        match (source, self.sources.prefer) {
            (None, _) => true,
            (Some(source), Some(wanted)) => source == wanted,
            (Some(source), None) => !self.sources.avoid.contains(&source),
        }
    }

    /// Whether a session that had lain idle was gone before its MAIL was answered. Servers close
    /// idle sessions without a word, so the message gets a new session, once.
    fn died_idle(&mut self, peer: &Peer, outcomes: &[Outcome]) -> bool {
        let lost_at_mail = |outcome: &Outcome| {
            matches!(
                outcome,
                Outcome::Failed {
                    phase: Phase::Mail,
                    failure: Failure::Lost,
                    ..
                }
            )
        };
        let died =
            peer.messages > 0 && self.replaced == Once::NotYet && outcomes.iter().all(lost_at_mail);
        if died {
            self.replaced = Once::Done;
        }
        died
    }

    fn put_back(&mut self, chunk: &[u32]) {
        for index in chunk.iter().rev() {
            self.pending.push_front(*index);
        }
    }

    /// They are tried again in this attempt; the verdict stands if that is not to be had.
    fn retry(&mut self, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            self.pending.push_back(verdict.index);
            self.fallback.insert(verdict.index, verdict);
        }
    }

    /// Nobody can be tried any more: the last failure decides.
    fn refuse_all(&mut self, refusal: &Refusal, decision: &Decision) {
        for index in std::mem::take(&mut self.pending) {
            self.verdicts.push(Verdict {
                index,
                phase: refusal.phase,
                said: refusal.said.clone(),
                host: refusal.host.clone(),
                tls: refusal.tls.clone(),
                accepted_before: 0,
                reports: Reports::Ours,
                decision: decision.clone(),
            });
        }
    }
}

/// One transaction. None: the session was over before it began.
async fn speak(
    job: &Job,
    prepared: &Prepared,
    peer: &mut Peer,
    chunk: &[u32],
) -> Option<Vec<Outcome>> {
    peer.wire.hear().await;
    peer.wire.session.begin(job.transaction(prepared, chunk));
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

/// Who is to be tried again at once, and how.
#[derive(Default)]
struct Rest {
    /// In a new transaction.
    again: Vec<Verdict>,
    /// RCPTs accepted before the first of them was refused.
    accepted_before: Option<u32>,
    /// On another host.
    elsewhere: Vec<Verdict>,
    /// With, or without, TLS.
    switch: Vec<Verdict>,
    stop: Option<Go>,
}

enum Split {
    /// At most so many recipients at a time.
    Smaller(u32),
    NewSession,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Open,
    Close,
}

/// `new_transaction`: fewer recipients at a time, or a session of its own.
fn split(verdict: &Verdict, accepted: u32) -> Split {
    let recipients = match verdict.phase {
        // As many as were taken before the first refusal.
        Phase::Rcpt => accepted,
        // The whole transaction was refused for its size: half of it.
        Phase::Data | Phase::Body if verdict.decision.category == Category::TooManyRecipients => {
            accepted / 2
        }
        Phase::Dns
        | Phase::Connect
        | Phase::Banner
        | Phase::Ehlo
        | Phase::Starttls
        | Phase::Auth
        | Phase::Mail
        | Phase::Data
        | Phase::Body
        | Phase::Quit => 0,
    };
    match recipients {
        0 => Split::NewSession,
        _ => Split::Smaller(recipients),
    }
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

fn no_source(target: &Target<'_>) -> Refusal {
    let words = "every local address that could reach the host is suspended there".to_owned();
    target.refusal(Phase::Connect, Failure::SourceSuspended, words)
}
