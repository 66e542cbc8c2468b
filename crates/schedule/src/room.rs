//! Whether there is room in the caps that a site shares with others, from which source addresses its
//! next dispatch may go, and what each session holds of these caps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use rand::RngExt;

use crate::groups::{GroupRef, Share};
use crate::scheduler::{Connection, Scheduler, Stage};
use crate::site::{Site, SiteRef};
use crate::sources::{Probed, SourceChoice};
use crate::time::{self, Micros};
use crate::words::{SessionId, SiteNews, Source};

/// The shared caps that hold for one site. Those with an address hold for what goes from there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    connections: Vec<(Option<IpAddr>, GroupRef)>,
    /// Rates, and the volumes of sources that are warmed up.
    messages: Vec<(Option<IpAddr>, GroupRef)>,
}

/// What a session holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Connections, wherever it goes from.
    site: Vec<GroupRef>,
    /// Connections from these addresses: of each family one, until it is known from which it goes.
    sources: BTreeMap<IpAddr, Vec<GroupRef>>,
    /// What the dispatch on its way counts as, until then.
    counted: Vec<(IpAddr, GroupRef)>,
}

impl Shares {
    pub(crate) fn add(&mut self, share: &Share, group: GroupRef) {
        let list = match share.cap {
            crate::Cap::Connections(_) => &mut self.connections,
            crate::Cap::Rate(_) | crate::Cap::WarmUp(_) => &mut self.messages,
        };
        if !list.contains(&(share.source, group)) {
            list.push((share.source, group));
        }
    }

    fn connections_of(&self, source: Option<IpAddr>) -> impl Iterator<Item = GroupRef> + '_ {
        of(&self.connections, source)
    }

    fn messages_of(&self, source: Option<IpAddr>) -> impl Iterator<Item = GroupRef> + '_ {
        of(&self.messages, source)
    }

    /// Messages go one by one: more sessions at once would only wait.
    pub(crate) fn are_paced(&self) -> bool {
        !self.messages.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Option<IpAddr>, GroupRef)> + '_ {
        self.connections.iter().chain(&self.messages).copied()
    }
}

fn of(
    list: &[(Option<IpAddr>, GroupRef)],
    source: Option<IpAddr>,
) -> impl Iterator<Item = GroupRef> + '_ {
    let fitting = list.iter().filter(move |(of, _)| *of == source);
    fitting.map(|&(_, group)| group)
}

impl Held {
    /// Connections that others may wait for.
    pub(crate) fn groups(&self) -> Vec<GroupRef> {
        let sources = self.sources.values().flatten();
        self.site.iter().chain(sources).copied().collect()
    }

    fn holds(&self, source: IpAddr, group: GroupRef) -> bool {
        let groups = self.sources.get(&source);
        groups.is_some_and(|groups| groups.contains(&group))
    }
}

impl Scheduler {
    /// Whether the site may have one more session. If not, it is woken when there is room.
    pub(crate) fn may_open(&mut self, site: SiteRef, now: Micros) -> bool {
        let Some(entry) = self.sites.get(&site) else {
            return false;
        };
        let full = |group: &GroupRef| !self.groups.has_room(*group, now);
        let connections = entry.shares.connections_of(None);
        let missing: Vec<GroupRef> = connections
            .chain(entry.shares.messages_of(None))
            .filter(full)
            .collect();
        self.wait_for(site, missing) && self.has_source(site, &Held::default(), now)
    }

    /// Whether the session may have a dispatch now.
    pub(crate) fn may_send(&mut self, site: SiteRef, id: SessionId, now: Micros) -> bool {
        let Some(entry) = self.sites.get(&site) else {
            return false;
        };
        let full = |group: &GroupRef| !self.groups.has_room(*group, now);
        let missing: Vec<GroupRef> = entry.shares.messages_of(None).filter(full).collect();
        let held = match self.sessions.get(&id) {
            Some(session) => session.held.clone(),
            None => Held::default(),
        };
        self.wait_for(site, missing) && self.has_source(site, &held, now)
    }

    /// True: there is nothing to wait for.
    fn wait_for(&mut self, site: SiteRef, missing: Vec<GroupRef>) -> bool {
        let Some(entry) = self.sites.get_mut(&site) else {
            return false;
        };
        entry.blocked_by = missing.first().copied();
        for group in &missing {
            self.groups.block(*group, site);
        }
        missing.is_empty()
    }

    /// Whether one of the source addresses has room. One family is enough: which one a host has is found
    /// out only later.
    fn has_source(&mut self, site: SiteRef, held: &Held, now: Micros) -> bool {
        let Some(entry) = self.sites.get(&site) else {
            return false;
        };
        let usable = self.sources.iter().filter(|one| one.weight > 0);
        let usable = usable.filter(|one| !entry.sources.is_suspended(one.address, now));
        let mut missing = Vec::new();
        let mut any = false;
        for source in usable {
            any = true;
            let full = self.full_for(entry, source.address, held, now);
            if full.is_empty() {
                return true;
            }
            missing.extend(full);
        }
        // Where all are suspended the gate is shut, and what was flushed goes all the same.
        !any || self.wait_for(site, missing)
    }

    /// The caps in which one more message from this address has no room.
    fn full_for(&self, site: &Site, source: IpAddr, held: &Held, now: Micros) -> Vec<GroupRef> {
        let connections = site.shares.connections_of(Some(source));
        let connections = connections.filter(|group| !held.holds(source, *group));
        connections
            .chain(site.shares.messages_of(Some(source)))
            .filter(|group| !self.groups.has_room(*group, now))
            .collect()
    }

    /// A session is opened for the site.
    pub(crate) fn hold_session(&mut self, site: SiteRef, now: Micros) -> Held {
        let groups: Vec<GroupRef> = match self.sites.get(&site) {
            Some(entry) => entry.shares.connections_of(None).collect(),
            None => Vec::new(),
        };
        for group in &groups {
            self.groups.take(*group, now);
        }
        Held {
            site: groups,
            ..Held::default()
        }
    }

    /// From where the session's next dispatch goes: of each family one address, by weight; the one that it
    /// is connected from rather than another.
    pub(crate) fn choose_sources(
        &mut self,
        site: SiteRef,
        id: SessionId,
        now: Micros,
    ) -> SourceChoice {
        let (Some(entry), Some(session)) = (self.sites.get_mut(&site), self.sessions.get(&id))
        else {
            return SourceChoice::default();
        };
        entry.blocked_by = None;
        let mut choice = entry.sources.choose(&entry.all_sources, now);
        let shared: Vec<GroupRef> = entry.shares.messages_of(None).collect();
        let (connection, held) = (session.connection, session.held.clone());
        for group in shared {
            self.groups.take(group, now);
        }
        if self.sources.is_empty() {
            return choice;
        }
        let connected = match connection {
            Connection::From(source) => source,
            Connection::None => None,
        };
        let mut chosen = Vec::new();
        for v4 in [true, false] {
            let Some(entry) = self.sites.get(&site) else {
                return choice;
            };
            let fitting = self
                .sources
                .iter()
                .filter(|one| one.address.is_ipv4() == v4);
            let usable: Vec<Source> = fitting
                .filter(|one| !choice.avoid.contains(&one.address))
                .filter(|one| self.full_for(entry, one.address, &held, now).is_empty())
                .copied()
                .collect();
            let among = |wanted: &IpAddr| usable.iter().any(|one| one.address == *wanted);
            let kept = choice.prefer.filter(among).or(connected.filter(among));
            chosen.extend(kept.or_else(|| weighted(&usable, &mut self.rng)));
        }
        if let Some(probe) = choice.prefer
            && !chosen.contains(&probe)
        {
            choice.prefer = None;
            if let Some(entry) = self.sites.get_mut(&site) {
                entry.sources.probed(probe, Probed::Nothing, now);
            }
        }
        self.go_from(site, id, &chosen, connected, now);
        choice.avoid = self.all_but(&chosen);
        choice
    }

    fn all_but(&self, chosen: &[IpAddr]) -> Vec<IpAddr> {
        let addresses = self.sources.iter().map(|one| one.address);
        addresses.filter(|one| !chosen.contains(one)).collect()
    }

    /// The dispatch counts for these addresses from now on, and the session holds a connection from each.
    fn go_from(
        &mut self,
        site: SiteRef,
        id: SessionId,
        chosen: &[IpAddr],
        connected: Option<IpAddr>,
        now: Micros,
    ) {
        let used: Vec<IpAddr> = match connected {
            Some(source) if chosen.contains(&source) => vec![source],
            Some(_) | None => chosen.to_vec(),
        };
        self.let_go_of_sources(id, |source| used.contains(&source), now);
        for source in used {
            self.take_source(site, id, source, now);
        }
    }

    fn take_source(&mut self, site: SiteRef, id: SessionId, source: IpAddr, now: Micros) {
        let (Some(entry), Some(session)) = (self.sites.get(&site), self.sessions.get_mut(&id))
        else {
            return;
        };
        let held = session.held.sources.entry(source).or_default();
        for group in entry.shares.connections_of(Some(source)) {
            if !held.contains(&group) {
                self.groups.take(group, now);
                held.push(group);
            }
        }
        for group in entry.shares.messages_of(Some(source)) {
            self.groups.take(group, now);
            session.held.counted.push((source, group));
        }
    }

    fn let_go_of_sources(&mut self, id: SessionId, keep: impl Fn(IpAddr) -> bool, now: Micros) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let groups = &mut self.groups;
        session.held.sources.retain(|source, held| {
            let kept = keep(*source);
            if !kept {
                held.iter().for_each(|group| groups.give_back(*group, now));
            }
            kept
        });
        session.held.counted.retain(|(source, group)| {
            let kept = keep(*source);
            if !kept {
                groups.give_back(*group, now);
            }
            kept
        });
    }

    /// The session is connected: what it held for the other family is free.
    pub(crate) fn connected_from(&mut self, id: SessionId, source: Option<IpAddr>, now: Micros) {
        self.let_go_of_sources(id, |one| Some(one) == source, now);
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let site = session.site;
        let busy = matches!(session.stage, Stage::Busy { .. });
        let known = |source: &IpAddr| session.held.sources.contains_key(source);
        if let Some(source) = source.filter(|source| busy && !known(source)) {
            self.take_source(site, id, source, now);
        }
    }

    /// The dispatch is over. Without a connection nothing went from anywhere.
    pub(crate) fn sent(&mut self, id: SessionId, news: SiteNews, now: Micros) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let reached = match news {
            SiteNews::Good | SiteNews::Neutral => session.connection != Connection::None,
            SiteNews::Crowded | SiteNews::Unreachable => false,
        };
        if reached {
            session.held.counted.clear();
        } else {
            self.let_go_of_sources(id, |_| false, now);
        }
    }

    /// The session has ended.
    pub(crate) fn give_back(&mut self, held: Held, now: Micros) {
        for group in held.groups() {
            self.groups.give_back(group, now);
        }
    }

    /// A message that a greylisting server has seen come from `home` goes from there again, if it may.
    /// Called for a dispatch that was assigned just now; returns what holds for it.
    pub fn from_home(
        &mut self,
        id: SessionId,
        choice: SourceChoice,
        home: IpAddr,
        now: Timestamp,
    ) -> SourceChoice {
        let now = time::clock(now);
        let Some(session) = self.sessions.get(&id) else {
            return choice;
        };
        let site = session.site;
        let Some(entry) = self.sites.get(&site) else {
            return choice;
        };
        let known = self.sources.iter().any(|one| one.address == home);
        let counted = session.held.counted.iter().any(|(one, _)| *one == home);
        let fits = counted || self.full_for(entry, home, &session.held, now).is_empty();
        let paused = entry.sources.is_paused(home);
        if choice.prefer.is_some() || !known || !fits || paused {
            return choice;
        }
        let addresses = self.sources.iter().map(|one| one.address);
        let others = addresses.filter(|one| one.is_ipv4() != home.is_ipv4());
        let mut chosen: Vec<IpAddr> = others.filter(|one| !choice.avoid.contains(one)).collect();
        chosen.push(home);
        let stays = |source: IpAddr| chosen.contains(&source);
        let held = session.held.sources.contains_key(&home);
        self.let_go_of_sources(id, stays, now);
        if !held {
            self.take_source(site, id, home, now);
        }
        SourceChoice {
            avoid: self.all_but(&chosen),
            prefer: Some(home),
        }
    }
}

/// One of them, by weight.
fn weighted(usable: &[Source], rng: &mut impl rand::Rng) -> Option<IpAddr> {
    let usable: Vec<&Source> = usable.iter().filter(|one| one.weight > 0).collect();
    let sum: u32 = usable.iter().map(|one| one.weight).sum();
    if sum == 0 {
        return None;
    }
    let mut place = rng.random_range(0..sum);
    for one in &usable {
        if place < one.weight {
            return Some(one.address);
        }
        place -= one.weight;
    }
    None
}
