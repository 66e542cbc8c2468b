//! A session that is ready for a message: the open one if it will do, else a new one with the first host
//! that takes us.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use relay_policy::{Action, Decision};
use relay_route::Candidate;
use relay_schedule::SiteNews;
use relay_smtp::extension::Offered;
use relay_smtp::{Failure, Phase};

use super::known::open_remembered;
use super::one_try::Try;
use super::{Carrier, Go};
use crate::guard::{Guard, Guarded, Wants, Wish};
use crate::host_memory::Place;
use crate::hosts::NoHost;
use crate::job::Job;
use crate::judge::{FailedHost, alike, judge_refusal, news_of, news_without_host};
use crate::link::{Flow, FromSession};
use crate::open::{AllSuspended, Peer, Refusal, Target, source_for};
use crate::settle::Said;
use crate::tls_report::Measured;
use crate::trace::{Watched, decided};
use crate::world::Settings;

/// How long a session goes on by what was published when it was opened. Plans of hosts are kept as long.
const PUBLISHED_KEPT: SignedDuration = SignedDuration::from_secs(60);

/// The hosts that would not have us in this search.
#[derive(Default)]
struct Failed {
    hosts: Vec<FailedHost>,
    last: Option<(Refusal, Decision)>,
}

impl Carrier {
    /// The open session if it will do, else a new one. None: there is none to be had; who is still
    /// to be tried has a verdict, where there was anything to base it on.
    pub(super) async fn ready_peer(
        &mut self,
        settings: &Settings,
        job: &Job,
        attempt: &mut Try,
    ) -> Option<Peer> {
        if let Some(peer) = self.open_peer(settings, job, attempt).await {
            return Some(peer);
        }
        let mut failed = Failed::default();
        loop {
            let (candidate, address) = match self.next_host(attempt).await {
                Ok(host) => host,
                Err(no_host) => {
                    self.no_host(settings, job, attempt, no_host, failed).await;
                    return None;
                }
            };
            attempt.tap = self.world.watchers.tap(&job.hop, &candidate.host);
            match self.open(settings, job, attempt, &candidate, address).await {
                Ok(peer) => return Some(peer),
                Err(refusal) => {
                    let host = &candidate.host;
                    let decision = self
                        .host_refused(settings, job, attempt, host, &refusal)
                        .await;
                    let place = Place::new(host, address);
                    self.remember_sent_away(place, &refusal, &decision);
                    failed.hosts.push(FailedHost {
                        server: (host.clone(), candidate.port),
                        category: decision.category,
                        news: news_of(&refusal, &decision),
                    });
                    if self.after_refusal(attempt, &candidate, &refusal, &decision) == Go::Stop {
                        attempt.refuse_all(&refusal, &decision);
                        return None;
                    }
                    // Where another host may come round, its refusal is the one that stands.
                    if !refuses_require_tls(&refusal) || failed.last.is_none() {
                        failed.last = Some((refusal, decision));
                    }
                }
            }
        }
    }

    /// The session that is open, if it may be used for this job. Else it is closed.
    async fn open_peer(
        &mut self,
        settings: &Settings,
        job: &Job,
        attempt: &mut Try,
    ) -> Option<Peer> {
        let peer = self.peer.take()?;
        // LIMITS MAILMAX (RFC 9422 section 4.1): one more would be refused.
        let offered = peer.wire.session.extensions().limits.mail_max;
        if peer.messages >= job.messages_max.min(offered.unwrap_or(u32::MAX)) {
            attempt.hosts.used_up();
            self.close(peer).await;
            return None;
        }
        let wants = job.wants(settings, &peer.host);
        let offers = peer.wire.session.extensions().require_tls == Offered::Yes;
        if attempt.may_use(peer.source)
            && (offers || wants.wish != Wish::Required)
            && self.does(wants, &peer.guard, &peer.candidate).await
        {
            return Some(peer);
        }
        self.close(peer).await;
        None
    }

    /// A new session with this host.
    async fn open(
        &mut self,
        settings: &Settings,
        job: &Job,
        attempt: &mut Try,
        candidate: &Candidate,
        address: SocketAddr,
    ) -> Result<Peer, Refusal> {
        let all = &settings.config.delivery.source_addresses;
        let source = source_for(all, &attempt.sources, address.ip(), &mut self.rng);
        let wants = job.wants(settings, &candidate.host);
        let Guarded { applied, guard } = Guarded::of(&self.world, candidate, &wants).await;
        let guard = guard.inspect_err(|refusal| {
            let measured = Measured {
                world: &self.world,
                hop: &job.hop,
                applied: &applied,
                host: &candidate.host,
                address: None,
                source: None,
            };
            measured.note_refusal(refusal);
        })?;
        let target = Target {
            world: &self.world,
            config: &settings.config,
            hop: &job.hop,
            candidate,
            address,
            guard,
            applied,
            source: source.unwrap_or_default(),
            tap: attempt.tap.clone(),
        };
        let peer = match source {
            Ok(_) => open_remembered(&target, &mut self.rng).await?,
            Err(AllSuspended) => return Err(no_source(&target)),
        };
        let offered = peer.wire.session.extensions().require_tls;
        if wants.wish == Wish::Required && offered == Offered::No {
            peer.wire.quit().await;
            return Err(no_require_tls(&target));
        }
        attempt.tap = None;
        attempt.hosts.opened();
        attempt.news = SiteNews::Good;
        self.done = Some((wants, self.world.clock.now()));
        self.emit_opened(&peer);
        let (session, source) = (self.session, peer.source);
        let opened = FromSession::Opened { session, source };
        // The dispatcher has gone: relayd stops, and this session hears of it next.
        let _ = self.to_dispatcher.send(opened).await;
        Ok(peer)
    }

    /// All hosts have been tried, or DNS names none.
    async fn no_host(
        &mut self,
        settings: &Settings,
        job: &Job,
        attempt: &mut Try,
        no_host: NoHost,
        failed: Failed,
    ) {
        match no_host {
            NoHost::Refused(refusal) | NoHost::Dead(refusal) => {
                attempt.news = news_without_host(&refusal, attempt.news);
                let now = self.world.clock.now();
                let host = refusal.host.as_deref();
                let decision = judge_refusal(settings, job, &refusal, host, now);
                self.tell(attempt, &decision, &refusal.said, None).await;
                attempt.refuse_all(&refusal, &decision);
            }
            NoHost::TriedEnough => {
                let Some((refusal, decision)) = failed.last else {
                    return;
                };
                if alike(&failed.hosts) {
                    let rule = decision.rule.name.clone();
                    self.send_flow(Flow::HostsFailAlike { rule }).await;
                }
                attempt.refuse_all(&refusal, &decision);
            }
        }
    }

    /// Tells everyone of a host that would not have us. Returns what it means.
    async fn host_refused(
        &mut self,
        settings: &Settings,
        job: &Job,
        attempt: &mut Try,
        host: &str,
        refusal: &Refusal,
    ) -> Decision {
        let now = self.world.clock.now();
        let decision = judge_refusal(settings, job, refusal, Some(host), now);
        let tap = attempt.tap.take();
        tap.tell(|tap| tap.decision(decided(&refusal.said.text(), &decision)));
        self.emit_failed(host, refusal, &decision);
        self.tell(attempt, &decision, &refusal.said, refusal.source)
            .await;
        let news = news_of(refusal, &decision);
        if news == SiteNews::Crowded {
            self.send_flow(Flow::TooManyConnections).await;
        }
        attempt.news = match attempt.news {
            SiteNews::Good => SiteNews::Good,
            SiteNews::Neutral | SiteNews::Crowded | SiteNews::Unreachable => news,
        };
        decision
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
        match Guarded::of(&self.world, candidate, &wants).await.guard {
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
        host: &Candidate,
        refusal: &Refusal,
        decision: &Decision,
    ) -> Go {
        if let Said::Failure { failure, .. } = refusal.said
            && failure == Failure::SourceSuspended
        {
            // No source for this address; another family's may do.
            attempt.hosts.not_dialled();
            attempt.hosts.address_failed();
            return Go::On;
        }
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
            // Another relay of the route may know the account still.
            Action::Alert if refusal.phase == Phase::Auth => {
                attempt.hosts.opened();
                attempt.hosts.leave(host);
                Go::On
            }
            // Another host may offer what this one does not (RFC 8689 section 4.2.1). If none does, the
            // bounce stands.
            Action::Bounce if refuses_require_tls(refusal) => {
                if refusal.phase == Phase::Dns {
                    attempt.hosts.not_dialled();
                } else {
                    attempt.hosts.opened();
                }
                attempt.hosts.leave(host);
                Go::On
            }
            Action::RetryPlain | Action::RetryTls => {
                self.switch_tls(attempt, &host.host, decision.action)
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
}

fn no_source(target: &Target<'_>) -> Refusal {
    let words = "no local address that could reach the host may be used: each is suspended there, or its limit is reached".to_owned();
    target.refusal(Phase::Connect, Failure::SourceSuspended, words)
}

fn no_require_tls(target: &Target<'_>) -> Refusal {
    let words = "the message needs REQUIRETLS and the host does not offer it".to_owned();
    target.refusal(Phase::Ehlo, Failure::RequireTls, words)
}

fn refuses_require_tls(refusal: &Refusal) -> bool {
    let Said::Failure { failure, .. } = &refusal.said else {
        return false;
    };
    *failure == Failure::RequireTls
}
