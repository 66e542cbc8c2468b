//! What is known of sites: what sessions tell of them, what operators say, what they have taught; and how that is
//! kept over a restart.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay_observe::Event as Told;
use relay_route::servers_of_site;
use relay_schedule::{Event, SiteId};

use super::super::SiteView;
use super::super::limits::Lesson;
use super::super::remember::Remembered;
use super::Dispatcher;
use crate::link::Flow;

impl Dispatcher {
    pub(super) fn flow(&mut self, site: SiteId, flow: Flow) {
        let now = self.world.clock.now();
        let name = site.0.to_string();
        match flow {
            Flow::Slow { rule, how_long } => {
                let until = after(now, how_long);
                self.world.events.emit(Told::SiteSlowed {
                    site: name,
                    rule: rule.clone(),
                    until,
                });
                let rule = Arc::from(rule);
                self.tell(Event::Slow { site, until, rule });
                self.save_soon();
            }
            Flow::SuspendSource {
                rule,
                how_long,
                source,
                provider,
            } => {
                let until = after(now, how_long);
                let rule: Arc<str> = Arc::from(rule);
                for site in self.pauses.suspend(site, provider, source, until, &rule) {
                    self.suspend_source(site, source, until, Arc::clone(&rule));
                }
            }
            Flow::SuspendDestination { rule, how_long } => {
                self.suspend(site, after(now, how_long), Arc::from(rule));
            }
            Flow::HostsFailAlike { rule } => {
                let rule = Arc::from(rule);
                self.tell(Event::HostsFailAlike { site, rule });
            }
            Flow::RecipientsPerTransaction(most) => {
                self.learn(site, Lesson::RecipientsPerTransaction(most));
            }
            Flow::MessagesPerConnection(most) => {
                self.learn(site, Lesson::MessagesPerConnection(most));
            }
            // Those that work show how many it takes. Without any the window alone has to find out.
            Flow::TooManyConnections => match self.scheduler.connected(&site) {
                0 => {}
                connected => self.learn(site, Lesson::Connections(connected)),
            },
        }
    }

    pub(super) fn suspend(&mut self, site: SiteId, until: Timestamp, rule: Arc<str>) {
        self.world.events.emit(Told::SiteSuspended {
            site: site.0.to_string(),
            rule: rule.to_string(),
            until,
        });
        self.tell(Event::Suspend { site, until, rule });
        self.save_soon();
    }

    pub(super) fn suspend_source(
        &mut self,
        site: SiteId,
        source: Option<IpAddr>,
        until: Timestamp,
        rule: Arc<str>,
    ) {
        let name = site.0.to_string();
        let others = self.world.settings.load();
        let others = others.config.delivery.source_addresses.len() > 1;
        let told = match source {
            Some(source) if others => Told::SourceSuspended {
                site: name,
                source,
                rule: rule.to_string(),
                until,
            },
            Some(_) | None => Told::SiteSuspended {
                site: name,
                rule: rule.to_string(),
                until,
            },
        };
        self.world.events.emit(told);
        self.tell(Event::SuspendSource {
            site,
            source,
            until,
            rule,
        });
        self.save_soon();
    }

    pub(super) fn resume(&mut self, site: SiteId) {
        self.world.events.emit(Told::SiteResumed {
            site: site.0.to_string(),
        });
        self.world.scope.believe(&site.0, self.world.clock.now());
        self.world.hosts.believe(&self.servers_of(&site));
        self.tell(Event::Resume { site });
        self.save_soon();
    }

    pub(super) fn learn(&mut self, site: SiteId, lesson: Lesson) {
        self.save_soon();
        let now = self.world.clock.now();
        if let Some(limits) = self.limits.learn(&site, lesson, now) {
            self.tell(Event::Limit { site, limits });
        }
    }

    pub(super) fn sites(&self) -> Vec<SiteView> {
        let now = self.world.clock.now();
        let sites = self.scheduler.sites(now).into_iter();
        sites
            .map(|state| {
                let learned = self.limits.in_words(&state.site, now);
                let lessons = self.limits.lessons(&state.site, now);
                let limits = self.rows.of(&state.site, &lessons, &state.shared);
                let servers = self.servers_of(&state.site);
                let hosts = self.world.hosts.troubles(&servers, now);
                SiteView {
                    learned,
                    hosts,
                    limits,
                    ..SiteView::from(state)
                }
            })
            .collect()
    }

    fn servers_of(&self, site: &SiteId) -> Vec<(String, u16)> {
        let port = self.world.settings.load().config.delivery.port;
        servers_of_site(&site.0, port)
    }

    /// Takes over what was learned before the last stop.
    pub(super) fn remember(&mut self) {
        let Some(path) = self.world.sites_file.clone() else {
            return;
        };
        let remembered = Remembered::read(&path);
        self.limits.restore(remembered.limits);
        self.world.homes.restore(remembered.homes);
        self.scheduler.restore_warm_ups(remembered.warm_ups);
        for kept in remembered.sites {
            self.tell(Event::Restore(kept));
        }
    }

    pub(super) fn learned_so_far(&self) -> Remembered {
        let now = self.world.clock.now();
        let sites = self.scheduler.kept(now);
        let warm_ups = self.scheduler.warm_ups(now);
        Remembered::new(
            sites,
            self.limits.learned(now),
            self.world.homes.all(),
            warm_ups,
        )
    }

    pub(super) fn save_soon(&mut self) {
        self.keeper.news();
    }

    pub(super) fn save(&mut self) {
        if let Some(path) = self.keeper.turn() {
            let learned = self.learned_so_far();
            self.keeper.write(learned, path);
        }
    }
}

fn after(now: Timestamp, how_long: Duration) -> Timestamp {
    now.saturating_add(how_long).unwrap_or(Timestamp::MAX)
}
