//! What operators and the other parts order: more work, less of it, a reload, the end.

use std::sync::Arc;
use std::time::Duration;

use relay_observe::Event as Told;
use relay_queue::OPERATOR;
use relay_schedule::{Event, FlushSelection};
use relay_smtp::QueueId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::jobs::{route_settings, scheduler_settings};
use super::super::{Order, Routes};
use super::{Dispatcher, Stopping};

impl Dispatcher {
    pub(super) fn obey(&mut self, order: Order) {
        // A caller who has gone needs no answer, hence no look at what `send` says.
        match order {
            Order::Add(jobs) => {
                for job in jobs {
                    self.tell(Event::Add(job));
                }
            }
            Order::Replace(id, jobs) => {
                self.tell(Event::Remove(id));
                self.moving.insert(id, jobs);
                self.move_on();
            }
            Order::Flush(ids, answer) => {
                let _ = answer.send(self.flush(ids));
            }
            Order::Remove(id, answer) => {
                self.moving.remove(&id);
                self.tell(Event::Remove(id));
                let _ = answer.send(());
            }
            Order::Sites(answer) => {
                let _ = answer.send(self.sites());
            }
            Order::Suspend(site, until, answer) => {
                self.suspend(site, until, Arc::from(OPERATOR));
                let _ = answer.send(());
            }
            Order::Resume(site, answer) => {
                self.resume(site);
                let _ = answer.send(());
            }
            Order::BlockedBy(id, answer) => {
                let why = self.scheduler.why(id, self.world.clock.now());
                let _ = answer.send(why.iter().map(ToString::to_string).collect());
            }
            Order::OldestDue(answer) => {
                let _ = answer.send(self.scheduler.oldest_due());
            }
            Order::Reload(answer) => {
                let _ = answer.send(self.reload());
            }
            Order::Stop(within, answer) => self.stop(within, answer),
        }
    }

    fn flush(&mut self, ids: Option<Vec<QueueId>>) -> u64 {
        let (messages, selection) = match ids {
            None => (self.scheduler.messages(), FlushSelection::All),
            Some(mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                ids.retain(|&id| self.scheduler.knows(id));
                (ids.len() as u64, FlushSelection::Ids(ids))
            }
        };
        self.world.events.emit(Told::Flushed { messages });
        self.tell(Event::Flush(selection));
        messages
    }

    fn reload(&mut self) -> Routes {
        let config = Arc::clone(&self.world.settings.load().config);
        self.world.router.reload(route_settings(&config));
        self.scheduler
            .reset(&scheduler_settings(&config, self.seed));
        self.tell(Event::Refresh);
        let routes = routes_of(&config);
        if routes == self.routes {
            Routes::AsBefore
        } else {
            self.routes = routes;
            Routes::Changed
        }
    }

    fn stop(&mut self, within: Duration, answer: oneshot::Sender<()>) {
        let until = Instant::now() + within;
        if let Some(stopping) = &mut self.stopping {
            stopping.until = stopping.until.min(until);
            stopping.answers.push(answer);
            return;
        }
        self.stopping = Some(Stopping {
            until,
            answers: vec![answer],
        });
        self.resolving.abort();
        self.expiring.drop_backlog();
        self.end_sessions();
    }
}

/// What decides which recipients share a next hop.
pub(super) fn routes_of(config: &relay_config::Config) -> String {
    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| (&route.to, &route.name))
        .collect();
    format!("{routes:?}")
}
