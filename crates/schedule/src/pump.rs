//! Who is served now: jobs to sessions, new sessions, sessions that end.

use jiff::Timestamp;

use crate::jobs::{JobRef, Place, Urge};
use crate::scheduler::{Afterwards, Connection, Scheduler, Session, Stage};
use crate::site::{Connected, Gate, Queued, SiteRef};
use crate::sources::SourceChoice;
use crate::time::{self, Micros};
use crate::words::{Action, Dispatch, Reach, SessionId};

/// A site's only session gives its place to a site that has none after so many messages.
const TURN_MESSAGES: u32 = 10;

impl Scheduler {
    /// Brings one site up to date.
    pub(crate) fn pump(&mut self, site: SiteRef, now: Micros, actions: &mut Vec<Action>) {
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        entry.pass_time(now);
        self.expire_overdue(site, now, actions);
        self.assign(site, now, actions);
        self.open(site, now, actions);
        let idle_until = self.let_go(site, now, actions);
        self.set_timer(site, now, idle_until);
    }

    /// Places that have become free go first to sites that have none, then to those that want more.
    pub(crate) fn serve_waiting_sites(&mut self, now: Micros, actions: &mut Vec<Action>) {
        // Each turn opens a session or shortens a queue, so this ends.
        while self.sessions.len() < self.sessions_max {
            let first = self
                .starving
                .pop_first()
                .or_else(|| self.wanting.pop_first());
            let Some((_, site)) = first else {
                return;
            };
            if let Some(entry) = self.sites.get_mut(&site) {
                entry.queued = Queued::No;
            }
            self.pump(site, now, actions);
        }
    }

    /// Sites that have waited for room in a cap that they share with others.
    pub(crate) fn serve_blocked_sites(&mut self, now: Micros, actions: &mut Vec<Action>) {
        // Each turn ends one site's waiting; it waits again only where there is no room.
        while let Some(site) = self.groups.next_to_serve(now) {
            self.pump(site, now, actions);
        }
    }

    /// While a site is suspended its jobs still come to their end in time.
    fn expire_overdue(&mut self, site: SiteRef, now: Micros, actions: &mut Vec<Action>) {
        while let Some(entry) = self.sites.get(&site)
            && entry.gate(now) == Gate::FlushedOnly
            && let Some(&(deadline, job)) = entry.deadlines.first()
            && deadline <= now
        {
            self.take_out_of_site(job, site);
            self.jobs.put(job, Place::InFlight);
            self.settling.insert(job, Afterwards::AsReported);
            let sources = SourceChoice::default();
            let dispatch = self.dispatch(job, Timestamp::MAX, sources);
            actions.extend(dispatch.map(Action::Expire));
        }
    }

    fn assign(&mut self, site: SiteRef, now: Micros, actions: &mut Vec<Action>) {
        while let Some(entry) = self.sites.get_mut(&site) {
            if entry.offered(now) == 0
                || entry.in_flight >= entry.sessions_allowed(now)
                || entry.rate.next() > now
            {
                return;
            }
            let gate = entry.gate(now);
            let sessions = &self.sessions;
            let Some(id) = entry.pick_idle(|id| match sessions.get(&id) {
                Some(session) if session.messages > 0 => Connected::Yes,
                Some(_) | None => Connected::No,
            }) else {
                return;
            };
            let Some(session) = self.sessions.get(&id) else {
                continue;
            };
            let messages = session.messages;
            let held = session.held.groups();
            if !self.may_send(site, id, now) {
                if let Some(entry) = self.sites.get_mut(&site) {
                    entry.idle.push(id);
                }
                return;
            }
            let wanted = self.groups.wanted_by_others(&held, site);
            let Some(entry) = self.sites.get_mut(&site) else {
                return;
            };
            let Some(session) = self.sessions.get(&id) else {
                continue;
            };
            if let Stage::Idle { since } = session.stage {
                self.idle_sessions.remove(&(since, id));
            }
            if !self.starving.is_empty() && (entry.working() > 1 || messages >= TURN_MESSAGES) {
                self.quit(id, actions);
                continue;
            }
            if wanted && messages >= TURN_MESSAGES {
                self.quit(id, actions);
                continue;
            }
            let Some(entry) = self.sites.get_mut(&site) else {
                return;
            };
            let job = match gate {
                Gate::All => entry.flushed.pop().or_else(|| entry.ready.pop()),
                Gate::FlushedOnly => entry.flushed.pop(),
            }
            .expect("offered() has counted the same lists");
            entry.rate.take(now);
            entry.in_flight += 1;
            entry.count_dispatch(now);
            self.hand_over(site, id, job, now, actions);
        }
    }

    fn hand_over(
        &mut self,
        site: SiteRef,
        id: SessionId,
        job: JobRef,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        self.take_out_of_site(job, site);
        self.jobs.put(job, Place::InFlight);
        let slot = self.jobs.slot(job);
        // At the deadline everybody is due: there is no later attempt.
        let as_of = match slot.urge {
            Urge::Normal if slot.deadline > now => time::timestamp(now),
            Urge::Normal | Urge::Flushed | Urge::WasFlushed => Timestamp::MAX,
        };
        let sources = self.choose_sources(site, id, now);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.stage = Stage::Busy {
                job,
                since: now,
                afterwards: Afterwards::AsReported,
                probe: sources.prefer,
            };
        }
        if let Some(dispatch) = self.dispatch(job, as_of, sources) {
            actions.push(Action::Assign {
                session: id,
                dispatch,
            });
        }
    }

    fn dispatch(&self, job: JobRef, as_of: Timestamp, sources: SourceChoice) -> Option<Dispatch> {
        let slot = self.jobs.slot(job);
        let hop = self.hops.get(slot.hop)?;
        let site = hop.site.and_then(|site| self.sites.get(&site));
        let probe = site.is_some_and(|site| site.health.is_probing());
        Some(Dispatch {
            id: slot.id,
            hop: hop.name.clone(),
            as_of,
            recipients_max: site.map_or(1, |site| site.limits.recipients_per_transaction.max(1)),
            messages_max: site.map_or(1, |site| site.limits.messages_per_connection.max(1)),
            sources,
            reach: match as_of == Timestamp::MAX || probe {
                true => Reach::All,
                false => Reach::Living,
            },
        })
    }

    /// Opens sessions while there is more work than sessions that wait for some.
    fn open(&mut self, site: SiteRef, now: Micros, actions: &mut Vec<Action>) {
        while let Some(entry) = self.sites.get_mut(&site) {
            // More than one would only wait for the rate, and end of it.
            let paced = entry.rate.per_second().is_some() || entry.shares.are_paced();
            let wanted = match paced {
                true => entry.offered(now).min(1),
                false => entry.offered(now),
            };
            if wanted <= entry.idle.len() + entry.opening as usize
                || entry.sessions.len() as u32 >= entry.sessions_allowed(now)
                || entry.rate.next() > now
                || entry.open_after > now
            {
                return;
            }
            if self.sessions.len() >= self.sessions_max {
                self.queue_up(site);
                // One that has no work makes room, unless enough are about to end.
                if self.quitting < self.starving.len() + self.wanting.len()
                    && let Some(&(_, idle)) = self.idle_sessions.first()
                {
                    self.quit(idle, actions);
                }
                return;
            }
            let Some(hop) = self.hop_for_session(site, now) else {
                return;
            };
            if !self.may_open(site, now) {
                return;
            }
            self.open_one(site, hop, now, actions);
            // With others waiting, one at a time.
            if !(self.starving.is_empty() && self.wanting.is_empty()) {
                self.queue_behind(site, now);
                return;
            }
        }
    }

    fn queue_behind(&mut self, site: SiteRef, now: Micros) {
        if let Some(entry) = self.sites.get(&site)
            && entry.offered(now) > entry.idle.len() + entry.opening as usize
        {
            self.queue_up(site);
        }
    }

    /// The site waits for a place among all sessions.
    fn queue_up(&mut self, site: SiteRef) {
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        if entry.queued != Queued::No {
            return;
        }
        let asking = self.next_asking;
        self.next_asking += 1;
        if entry.sessions.is_empty() {
            entry.queued = Queued::Starving(asking);
            self.starving.insert((asking, site));
        } else {
            entry.queued = Queued::Wanting(asking);
            self.wanting.insert((asking, site));
        }
    }

    fn open_one(
        &mut self,
        site: SiteRef,
        hop: relay_smtp::NextHop,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        let held = self.hold_session(site, now);
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        let id = SessionId(self.next_session);
        self.next_session += 1;
        entry.sessions.insert(id);
        entry.opening += 1;
        actions.push(Action::Open {
            session: id,
            site: entry.id.clone(),
            hop,
        });
        self.sessions.insert(
            id,
            Session {
                site,
                messages: 0,
                connection: Connection::None,
                stage: Stage::Opening,
                held,
            },
        );
    }

    /// The next hop by way of which a session finds the site's hosts: one that has work.
    fn hop_for_session(&self, site: SiteRef, now: Micros) -> Option<relay_smtp::NextHop> {
        let entry = self.sites.get(&site)?;
        let job = match entry.gate(now) {
            Gate::All => entry.flushed.first().or_else(|| entry.ready.first()),
            Gate::FlushedOnly => entry.flushed.first(),
        }?;
        let hop = self.hops.get(self.jobs.slot(job).hop)?;
        Some(hop.name.clone())
    }

    /// Ends sessions that are idle for too long, too many, or in the way of a site that has work.
    /// Returns when the next idle one has been idle for too long.
    fn let_go(&mut self, site: SiteRef, now: Micros, actions: &mut Vec<Action>) -> Option<Micros> {
        let entry = self.sites.get(&site)?;
        let mut surplus = entry.working().saturating_sub(entry.sessions_allowed(now));
        let mut next: Option<Micros> = None;
        for id in entry.idle.clone() {
            let Some(Stage::Idle { since }) = self.sessions.get(&id).map(|session| session.stage)
            else {
                continue;
            };
            let ends = since + self.idle;
            let held = self.sessions.get(&id).map(|one| one.held.groups());
            let wanted_elsewhere = self.quitting < self.starving.len() + self.wanting.len()
                || held.is_some_and(|held| self.groups.wanted_by_others(&held, site));
            if surplus > 0 || ends <= now || wanted_elsewhere {
                surplus = surplus.saturating_sub(1);
                self.quit(id, actions);
            } else {
                next = Some(next.map_or(ends, |next| next.min(ends)));
            }
        }
        next
    }

    fn quit(&mut self, id: SessionId, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Stage::Idle { since } = session.stage {
            self.idle_sessions.remove(&(since, id));
        }
        session.stage = Stage::Quitting;
        self.quitting += 1;
        if let Some(entry) = self.sites.get_mut(&session.site) {
            entry.idle.retain(|&idle| idle != id);
            entry.quitting += 1;
        }
        actions.push(Action::Quit(id));
    }

    fn set_timer(&mut self, site: SiteRef, now: Micros, idle_until: Option<Micros>) {
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        if let Some(before) = entry.timer.take() {
            self.timers.remove(&(before, site));
        }
        if entry.is_blank() {
            match entry.queued {
                Queued::No => {}
                Queued::Starving(asking) => drop(self.starving.remove(&(asking, site))),
                Queued::Wanting(asking) => drop(self.wanting.remove(&(asking, site))),
            }
            self.site_numbers.remove(&entry.id);
            self.sites.remove(&site);
            return;
        }
        entry.timer = entry.next_change(now, idle_until);
        if let Some(at) = entry.timer {
            self.timers.insert((at, site));
        }
    }
}
