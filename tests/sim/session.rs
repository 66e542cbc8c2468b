//! The model of one session of `deliver`: connects for its first dispatch, tries the due recipients,
//! asks the policy, writes down, reports, asks for more.

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use relay_policy::{Action, Category, Fate};
use relay_schedule::{Event, Report, SessionId, SiteNews};
use relay_smtp::Phase;

use crate::fact::{Fact, Key, Reached};
use crate::judge::{Flow, flow};
use crate::mx::{self, Connected, HasIt, Outcome, Rcpt};
use crate::store::End;
use crate::world::{Coming, World, hop_named, site_named};

#[derive(Debug)]
pub struct Session {
    site: usize,
    link: Link,
    work: Option<Work>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    None,
    Up,
}

#[derive(Debug)]
struct Work {
    key: Key,
    /// Recipients still to be tried.
    pending: Vec<u32>,
    ends: Vec<(u32, End)>,
    news: SiteNews,
    /// Why there is no connection.
    refused: Option<(Phase, mx::Said)>,
}

/// What a dispatch came to.
#[derive(Debug)]
pub struct Writing {
    ends: Vec<(u32, End)>,
    news: SiteNews,
}

impl Session {
    pub fn new(site: usize) -> Session {
        Session {
            site,
            link: Link::None,
            work: None,
        }
    }

    pub fn job(&self) -> Option<Key> {
        self.work.as_ref().map(|work| work.key)
    }
}

impl World {
    pub fn assigned(&mut self, id: SessionId, key: Key, as_of: Timestamp) {
        let due = self.store.due(key, as_of);
        let site = self.sessions[&id].site;
        self.fact(&Fact::Assigned {
            session: id,
            site,
            key,
            due: &due,
        });
        let now = self.now;
        let session = self.sessions.get_mut(&id).unwrap();
        let nobody = due.is_empty();
        let work = session.work.insert(Work {
            key,
            pending: due,
            ends: Vec::new(),
            news: SiteNews::Neutral,
            refused: None,
        });
        if nobody {
            return self.nothing_to_do(id, key);
        }
        let mx = &mut self.sites[site];
        if session.link == Link::None {
            match mx.connect(now, &mut self.rng) {
                Connected::Yes => session.link = Link::Up,
                Connected::No {
                    phase,
                    said,
                    seconds,
                } => {
                    work.refused = Some((phase, said));
                    return self.come(seconds, Coming::NoConnection(id));
                }
            }
        }
        let takes = mx.transaction_takes(&mut self.rng);
        self.come(takes, Coming::Transacted(id));
    }

    /// The host refused: that is the answer for all recipients.
    pub fn no_connection(&mut self, id: SessionId) {
        self.tally.refused += 1;
        let session = self.sessions.get_mut(&id).unwrap();
        let work = session.work.as_mut().unwrap();
        work.news = SiteNews::Unreachable;
        let (phase, said) = work.refused.take().unwrap();
        let pending = std::mem::take(&mut work.pending);
        let outcomes = pending.iter().map(|_| Outcome {
            phase,
            said: said.clone(),
            accepted_before: 0,
            has_it: HasIt::No,
        });
        let outcomes = outcomes.collect();
        self.sort(id, &pending, outcomes);
        self.write_soon(id);
    }

    /// A transaction for the next recipients is over.
    pub fn transacted(&mut self, id: SessionId) {
        if self.dies(id) == Go::Stop {
            return;
        }
        let session = self.sessions.get_mut(&id).unwrap();
        let site = session.site;
        let work = session.work.as_mut().unwrap();
        work.news = SiteNews::Good;
        let most = self.sites[site].limits.recipients_per_transaction;
        let most = most.min(self.learned.get(&site).copied().unwrap_or(u32::MAX));
        let count = work.pending.len().min(most as usize);
        let chunk: Vec<u32> = work.pending.drain(..count).collect();
        let mail = self.store.mail(work.key.0);
        let rcpts: Vec<Rcpt> = chunk
            .iter()
            .map(|&index| &mail.recipients[index as usize])
            .map(|recipient| Rcpt {
                hop: recipient.hop,
                mailbox: recipient.mailbox,
            })
            .collect();
        let answer = self.sites[site].transact(self.now, mail.sender, &rcpts, &mut self.rng);
        if answer.session == mx::Session::Over {
            session.link = Link::None;
            let open = &mut self.sites[site].open;
            *open = open.saturating_sub(1);
        }
        let go_on = self.sort(id, &chunk, answer.outcomes);
        let session = &self.sessions[&id];
        let more = session.work.as_ref().is_some_and(|w| !w.pending.is_empty());
        if more && go_on == Go::On && session.link == Link::Up {
            let takes = self.sites[site].transaction_takes(&mut self.rng);
            return self.come(takes, Coming::Transacted(id));
        }
        self.write_soon(id);
    }

    /// Decides for each recipient; tells of what concerns the site.
    fn sort(&mut self, id: SessionId, chunk: &[u32], outcomes: Vec<Outcome>) -> Go {
        let mut go = Go::On;
        let mut flows = Vec::new();
        let mut took = Vec::new();
        let session = self.sessions.get_mut(&id).unwrap();
        let (site, work) = (session.site, session.work.as_mut().unwrap());
        let key = work.key;
        for (&index, outcome) in chunk.iter().zip(outcomes) {
            let Outcome {
                phase,
                said,
                accepted_before,
                has_it,
            } = outcome;
            if has_it == HasIt::Yes {
                took.push(index);
            }
            let decision = self.judge.decide(phase, &said, accepted_before);
            let again =
                decision.fate == Fate::AgainNow && decision.action == Action::NewTransaction;
            if again && decision.category == Category::TooManyRecipients && accepted_before > 0 {
                self.learned.insert(site, accepted_before);
                work.pending.push(index);
                continue;
            }
            let rule = decision.rule.name.clone();
            if let Some(flow) = flow(&decision)
                && !flows.iter().any(|(told, _)| *told == rule)
            {
                flows.push((rule, flow));
                go = Go::Stop;
            }
            let mail = self.store.mail(key.0);
            let attempts = mail.recipients[index as usize].attempts + 1;
            let end = (self.judge).end(&decision, mail, attempts, self.now, &mut self.rng);
            work.ends.push((index, end));
        }
        for index in took {
            self.fact(&Fact::Took {
                id: key.0,
                recipient: index,
            });
        }
        for (rule, flow) in flows {
            self.flow(site, &rule, flow);
        }
        go
    }

    fn flow(&mut self, site: usize, rule: &str, flow: Flow) {
        let rule = rule.into();
        match flow {
            Flow::Slow(wait) => {
                let (site, until) = (site_named(site), self.after(wait.as_secs_f64()));
                self.tell(Event::Slow { site, until, rule });
            }
            Flow::Suspend(wait) => {
                let until = self.after(wait.as_secs_f64());
                self.fact(&Fact::Suspended { site, until });
                let site = site_named(site);
                self.tell(Event::Suspend { site, until, rule });
            }
        }
    }

    /// The message was discarded meanwhile.
    fn nothing_to_do(&mut self, id: SessionId, key: Key) {
        self.sessions.get_mut(&id).unwrap().work = None;
        self.fact(&Fact::Carried { session: id });
        self.fact(&Fact::Back { key });
        let least = self.now + SignedDuration::from_secs(30);
        let report = Report {
            id: key.0,
            due_again: self.store.due_again(key).map(|due| due.max(least)),
            site: SiteNews::Neutral,
        };
        let session = id;
        self.come(0.0, Coming::Event(Event::Done { session, report }));
        self.come(0.0, Coming::Event(Event::Ready(id)));
    }

    /// Between the peer's answer and the disk the relay may be killed. The session goes on meanwhile.
    fn write_soon(&mut self, id: SessionId) {
        let session = self.sessions.get_mut(&id).unwrap();
        let Work {
            key, ends, news, ..
        } = session.work.take().unwrap();
        self.writing.insert(key, Writing { ends, news });
        let seconds = self.rng.random_range(0.001..0.02);
        self.come(seconds, Coming::Write(key));
        self.fact(&Fact::Carried { session: id });
        self.tell(Event::Carried { session: id, news });
        if self.dies(id) == Go::On {
            self.tell(Event::Ready(id));
        }
    }

    pub fn write(&mut self, key: Key) {
        let Writing { ends, news } = self.writing.remove(&key).unwrap();
        for (_, end) in &ends {
            match end {
                End::Due(_) => self.tally.deferred += 1,
                End::Delivered => self.tally.delivered += 1,
                End::Bounced => self.tally.bounced += 1,
                End::Expired => self.tally.expired += 1,
                End::Discarded => {}
            }
        }
        let reached = match news {
            SiteNews::Good | SiteNews::Neutral | SiteNews::Crowded => Reached::Yes,
            SiteNews::Unreachable => Reached::No,
        };
        self.store.write(key.0, &ends);
        self.fact(&Fact::Written {
            key,
            ends: &ends,
            reached,
        });
        self.fact(&Fact::Back { key });
        let report = Report {
            id: key.0,
            due_again: self.store.due_again(key),
            site: news,
        };
        let hop = hop_named(key.1);
        self.tell(Event::Settled { hop, report });
    }

    /// Now and then a session dies of a fault of its own, with work or without.
    fn dies(&mut self, id: SessionId) -> Go {
        if self.rng.random_bool(0.003) {
            self.closed(id);
            return Go::Stop;
        }
        Go::On
    }

    pub fn closed(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        if session.link == Link::Up {
            let open = &mut self.sites[session.site].open;
            *open = open.saturating_sub(1);
        }
        if let Some(work) = session.work {
            self.fact(&Fact::Back { key: work.key });
        }
        self.fact(&Fact::Closed { session: id });
        self.tell(Event::Closed(id));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    Stop,
}
