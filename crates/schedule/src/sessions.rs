//! What sessions say, and what becomes of their jobs.

use std::net::IpAddr;
use std::sync::Arc;

use relay_smtp::NextHop;

use crate::hop::State;
use crate::jobs::{HopRef, JobRef, Place, Urge};
use crate::pause;
use crate::scheduler::{
    AGAIN_PAUSE, Afterwards, BROKEN_OFF_PAUSE, Connection, Scheduler, Stage, addresses,
};
use crate::site::{LimitsAge, Queued, Site, SiteRef};
use crate::sources::{Outcome, Probed};
use crate::time::{self, Micros};
use crate::window::{Use, Window};
use crate::words::{Action, Limits, Report, SessionId, SiteId, SiteNews};

impl Scheduler {
    pub(crate) fn session_ready(&mut self, id: SessionId, now: Micros, actions: &mut Vec<Action>) {
        self.put_back_unreported(id, now);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(site) = self.sites.get_mut(&session.site) else {
            return;
        };
        match session.stage {
            Stage::Opening => site.opening -= 1,
            // Asked twice, or before it heard that it is to end.
            Stage::Idle { .. } | Stage::Quitting => return,
            Stage::Reported | Stage::Busy { .. } => {}
        }
        self.touched.insert(session.site);
        if session.messages >= site.limits.messages_per_connection.max(1) {
            session.stage = Stage::Quitting;
            site.quitting += 1;
            self.quitting += 1;
            actions.push(Action::Quit(id));
        } else {
            session.stage = Stage::Idle { since: now };
            site.idle.push(id);
            self.idle_sessions.insert((now, id));
        }
    }

    pub(crate) fn session_opened(&mut self, id: SessionId, source: Option<IpAddr>, now: Micros) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.connection = Connection::From(source);
        }
        self.connected_from(id, source, now);
    }

    pub(crate) fn session_done(
        &mut self,
        id: SessionId,
        report: &Report,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        if self
            .job_of(id)
            .is_none_or(|job| self.jobs.slot(job).id != report.id)
        {
            return;
        }
        if let Some((job, afterwards)) = self.take_from_session(id, report.site, now, actions) {
            let due_again = report.due_again.map(time::due);
            self.finish(job, due_again, afterwards, now);
        }
    }

    pub(crate) fn session_carried(
        &mut self,
        id: SessionId,
        news: SiteNews,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        if let Some((job, afterwards)) = self.take_from_session(id, news, now, actions) {
            self.settling.insert(job, afterwards);
        }
    }

    fn job_of(&self, id: SessionId) -> Option<JobRef> {
        match self.sessions.get(&id)?.stage {
            Stage::Busy { job, .. } => Some(job),
            Stage::Opening | Stage::Idle { .. } | Stage::Reported | Stage::Quitting => None,
        }
    }

    /// The session has nothing to do any more with the job that it had.
    fn take_from_session(
        &mut self,
        id: SessionId,
        news: SiteNews,
        now: Micros,
        actions: &mut Vec<Action>,
    ) -> Option<(JobRef, Afterwards)> {
        let session = self.sessions.get_mut(&id)?;
        let Stage::Busy {
            job,
            since,
            afterwards,
            probe,
        } = session.stage
        else {
            return None;
        };
        session.stage = Stage::Reported;
        session.messages += 1;
        let (site, connection) = (session.site, session.connection);
        match news {
            SiteNews::Good | SiteNews::Neutral => {}
            SiteNews::Crowded | SiteNews::Unreachable => session.connection = Connection::None,
        }
        self.touched.insert(site);
        self.sent(id, news, now);
        self.news(site, news, since, now, actions);
        // A host of the other address family is reached from another address: that is no probe of this one.
        let probe = probe.map(|wanted| (wanted, Probed::of(wanted, connection, news)));
        self.probed(site, probe, now, actions);
        if let Some(entry) = self.sites.get_mut(&site) {
            entry.in_flight -= 1;
        }
        Some((job, afterwards))
    }

    pub(crate) fn session_closed(&mut self, id: SessionId, now: Micros) {
        self.put_back_unreported(id, now);
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.give_back(session.held, now);
        self.touched.insert(session.site);
        let Some(site) = self.sites.get_mut(&session.site) else {
            return;
        };
        site.sessions.remove(&id);
        match session.stage {
            Stage::Opening => site.opening -= 1,
            Stage::Idle { since } => {
                site.idle.retain(|&idle| idle != id);
                self.idle_sessions.remove(&(since, id));
            }
            Stage::Quitting => {
                site.quitting -= 1;
                self.quitting -= 1;
            }
            Stage::Reported | Stage::Busy { .. } => {}
        }
        if site.sessions.is_empty()
            && let Queued::Wanting(asking) = site.queued
        {
            self.wanting.remove(&(asking, session.site));
            self.starving.insert((asking, session.site));
            site.queued = Queued::Starving(asking);
        }
        let idle_end = session.stage == Stage::Quitting;
        if session.messages == 0 && !idle_end {
            site.open_after = now + BROKEN_OFF_PAUSE;
        }
    }

    /// A session that ends, or asks for more, without a report on what it had.
    fn put_back_unreported(&mut self, id: SessionId, now: Micros) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Stage::Busy {
            job,
            afterwards,
            probe,
            ..
        } = session.stage
        else {
            return;
        };
        session.stage = Stage::Reported;
        if let Some(site) = self.sites.get_mut(&session.site) {
            if let Some(source) = probe {
                site.sources.probed(source, Probed::Nothing, now);
            }
            site.in_flight -= 1;
            site.open_after = now + BROKEN_OFF_PAUSE;
        }
        let urge = self.jobs.slot(job).urge;
        self.finish(job, Some(now + BROKEN_OFF_PAUSE), afterwards, now);
        self.keep_flushed(job, urge);
    }

    /// A flush is the operator's word: it holds until the job has really been carried out once, so
    /// that recipients whose own time is hours away are still meant after a session that broke off.
    fn keep_flushed(&mut self, job: JobRef, before: Urge) {
        let slot = self.jobs.slot_mut(job);
        match (slot.place, before) {
            (Place::Waiting, Urge::Flushed | Urge::WasFlushed) => slot.urge = Urge::WasFlushed,
            (_, Urge::Normal | Urge::Flushed | Urge::WasFlushed) => {}
        }
    }

    pub(crate) fn settled(&mut self, hop: &NextHop, report: &Report, now: Micros) {
        let job = self
            .hops
            .find(hop)
            .and_then(|hop| self.jobs.find(report.id, hop));
        if let Some(job) = job
            && let Some(afterwards) = self.settling.remove(&job)
        {
            // What could not be settled is tried again, but not in a loop.
            let due_again = report
                .due_again
                .map(|due| time::due(due).max(now + BROKEN_OFF_PAUSE));
            self.finish(job, due_again, afterwards, now);
        }
    }

    /// A job comes back from its session, or from being settled.
    fn finish(
        &mut self,
        job: JobRef,
        due_again: Option<Micros>,
        afterwards: Afterwards,
        now: Micros,
    ) {
        let due = match afterwards {
            Afterwards::AsReported => due_again,
            Afterwards::AlsoDue(added) => Some(due_again.map_or(added, |due| due.min(added))),
            Afterwards::Gone => None,
            Afterwards::OnlyDue(added) => Some(added),
        };
        match due {
            None => self.forget(job, now),
            Some(due) => {
                let deadline = self.jobs.slot(job).deadline;
                let due = if deadline > now {
                    due.min(deadline)
                } else {
                    due
                };
                self.jobs.wait(job, due.max(now + AGAIN_PAUSE));
                self.count_waiting(self.jobs.slot(job).hop);
            }
        }
    }

    fn news(
        &mut self,
        site: SiteRef,
        news: SiteNews,
        assigned: Micros,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        let before = entry.health.state(now);
        match (news, &mut entry.pause) {
            (SiteNews::Good, Some(pause)) if pause.stage() == pause::Stage::Probing => {
                pause.went_well(now);
                entry.window = Window::new();
                entry.set_rate(now);
                let site = entry.id.clone();
                actions.push(Action::Resumed { site });
            }
            (
                SiteNews::Good | SiteNews::Neutral | SiteNews::Crowded | SiteNews::Unreachable,
                Some(_) | None,
            ) => {}
        }
        match (news, before) {
            (SiteNews::Neutral, State::Well | State::Suspended(_) | State::Probing) => {}
            // It speaks: the host is not dead.
            (SiteNews::Crowded, State::Well | State::Suspended(_) | State::Probing) => {
                entry.window.failure();
                entry.health.good();
            }
            (SiteNews::Good, State::Well) => {
                // A slow-down leaves a part of the window unused.
                let most = entry.limits.connections.min(entry.window.size());
                let used = if entry.in_flight >= most {
                    Use::Full
                } else {
                    Use::Partial
                };
                entry.window.success(used, entry.limits.connections);
                entry.health.good();
            }
            (SiteNews::Good, State::Suspended(_) | State::Probing) => {
                entry.window = Window::new();
                entry.health.good();
                let site = entry.id.clone();
                actions.push(Action::Resumed { site });
            }
            (SiteNews::Unreachable, State::Well | State::Suspended(_) | State::Probing) => {
                entry.window.failure();
                entry.health.failed(assigned, now, &mut self.rng);
                self.tell_suspended(site, before, now, actions);
            }
        }
    }

    pub(crate) fn hosts_fail_alike(
        &mut self,
        site: SiteId,
        rule: Arc<str>,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        let Some(&site) = self.site_numbers.get(&site) else {
            return;
        };
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        let before = entry.health.state(now);
        entry.health.all_failed(rule, now, &mut self.rng);
        self.touched.insert(site);
        self.tell_suspended(site, before, now, actions);
    }

    /// Says so where the site's health has just become such that nothing goes there.
    fn tell_suspended(
        &mut self,
        site: SiteRef,
        before: State,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.sites.get(&site) else {
            return;
        };
        let after = entry.health.state(now);
        if let State::Suspended(until) = after
            && after != before
        {
            actions.push(Action::Suspended {
                site: entry.id.clone(),
                until: time::timestamp(until),
                why: entry.health.words(),
            });
            self.probe_failed(site);
        }
    }

    /// The dispatch may have been the one that tries a source address after its suspension.
    fn probed(
        &mut self,
        site: SiteRef,
        probe: Option<(IpAddr, Probed)>,
        now: Micros,
        actions: &mut Vec<Action>,
    ) {
        let (Some(entry), Some((source, found))) = (self.sites.get_mut(&site), probe) else {
            return;
        };
        if entry.sources.probed(source, found, now) == Outcome::TakenUp {
            let site = entry.id.clone();
            actions.push(Action::SourceResumed { site, source });
        }
    }

    /// The flushed jobs have had their probe: they wait like the others, but are due at once when
    /// the site comes back.
    fn probe_failed(&mut self, site: SiteRef) {
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        let flushed: Vec<JobRef> = entry.flushed.iter().collect();
        for job in flushed {
            self.take_out_of_site(job, site);
            self.jobs.slot_mut(job).urge = Urge::WasFlushed;
            self.put_in_site(job, site);
        }
    }

    // Where jobs are.

    /// A due job goes to its site, or waits for its site to be known.
    pub(crate) fn make_ready(&mut self, job: JobRef, now: Micros, actions: &mut Vec<Action>) {
        let hop = self.jobs.slot(job).hop;
        actions.extend(self.hops.ask(hop, now).map(Action::Resolve));
        let Some(entry) = self.hops.get_mut(hop) else {
            return;
        };
        match entry.site_in_force() {
            Some(site) => self.put_in_site(job, site),
            None => {
                entry.unresolved.insert(job);
                self.jobs.put(job, Place::Unresolved);
            }
        }
    }

    pub(crate) fn put_in_site(&mut self, job: JobRef, site: SiteRef) {
        let Some(entry) = self.sites.get_mut(&site) else {
            return;
        };
        self.jobs.put(job, Place::Ready);
        let (slot, lane) = (self.jobs.slot(job), self.jobs.lane(job));
        match slot.urge {
            Urge::Normal | Urge::WasFlushed => {
                entry.ready.push(lane, job);
                entry.deadlines.insert((slot.deadline, job));
            }
            Urge::Flushed => entry.flushed.push(lane, job),
        }
        self.touched.insert(site);
    }

    pub(crate) fn take_out_of_site(&mut self, job: JobRef, site: SiteRef) {
        let (slot, lane) = (self.jobs.slot(job), self.jobs.lane(job));
        if let Some(entry) = self.sites.get_mut(&site) {
            entry.ready.remove(lane, job);
            entry.flushed.remove(lane, job);
            entry.deadlines.remove(&(slot.deadline, job));
        }
    }

    /// Out of wherever it waits; its place is the caller's to set.
    pub(crate) fn take_out(&mut self, job: JobRef) {
        let slot = self.jobs.slot(job);
        let hop = slot.hop;
        match slot.place {
            Place::Waiting => {
                self.jobs.stop_waiting(job);
                self.leave_waiting(job);
            }
            Place::Unresolved => {
                if let Some(entry) = self.hops.get_mut(hop) {
                    entry.unresolved.remove(&job);
                }
            }
            Place::Ready => {
                if let Some(site) = self.hops.get(hop).and_then(|entry| entry.site) {
                    self.take_out_of_site(job, site);
                }
            }
            Place::InFlight | Place::Free => {}
        }
    }

    pub(crate) fn forget(&mut self, job: JobRef, now: Micros) {
        let hop = self.jobs.slot(job).hop;
        self.jobs.remove(job);
        self.hops.job_removed(hop, now);
    }

    pub(crate) fn count_waiting(&mut self, hop: HopRef) {
        if let Some(entry) = self.hops.get_mut(hop) {
            entry.waiting += 1;
        }
    }

    /// The job is off the clock.
    pub(crate) fn leave_waiting(&mut self, job: JobRef) {
        if let Some(entry) = self.hops.get_mut(self.jobs.slot(job).hop) {
            entry.waiting -= 1;
        }
    }

    /// The site of that name; touched. One that is not known yet has wide limits until a next hop
    /// leads there.
    pub(crate) fn site_named(&mut self, site: SiteId) -> &mut Site {
        let wide = Limits {
            connections: u32::MAX,
            rate: None,
            messages_per_connection: u32::MAX,
            recipients_per_transaction: u32::MAX,
        };
        let number = self.site_number(site.clone(), &wide);
        self.touched.insert(number);
        let sources = addresses(&self.sources);
        self.sites
            .entry(number)
            .or_insert_with(|| Site::new(site, wide, LimitsAge::Old, sources))
    }

    pub(crate) fn site_number(&mut self, site: SiteId, limits: &Limits) -> SiteRef {
        if let Some(&number) = self.site_numbers.get(&site) {
            return number;
        }
        while self.sites.contains_key(&self.next_site) {
            self.next_site = self.next_site.wrapping_add(1);
        }
        let number = self.next_site;
        self.next_site = self.next_site.wrapping_add(1);
        self.site_numbers.insert(site.clone(), number);
        let sources = addresses(&self.sources);
        let entry = Site::new(site, limits.clone(), LimitsAge::Old, sources);
        self.sites.insert(number, entry);
        number
    }
}
