//! The scheduler's behaviour as scripts: a line is an event or a step in time, the lines with `=`
//! after it are all the actions it leads to, in order.
//!
//! `add 1 d.test due=+60 deadline=+600 from=a`, `site d.test S connections=2 rate=5 messages=3`,
//! `ready s1`, `done s1 1 again=+60 good`, `closed s1`, `remove 1`, `flush all`, `suspend S +60 rule`,
//! `resume S`, `slow S +60 rule`, `limit S connections=1`, `settled d.test 1`, `carried s1 good`, `refresh`, `T +60`;
//! `? 1 words` asks what message 1 waits for.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_smtp::{Domain, NextHop, QueueId};

use crate::*;

const DAY: f64 = 86_400.0;

struct Play {
    scheduler: Scheduler,
    now: Timestamp,
    actions: Vec<Action>,
}

/// Plays a script; panics at the first line that is not as it says.
pub(super) fn check(sessions_max: u32, script: &str) {
    let mut play = Play {
        scheduler: Scheduler::new(Settings {
            idle: Duration::from_secs(3),
            sessions_max,
            sources: Vec::new(),
            seed: 7,
        }),
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        actions: Vec::new(),
    };
    let lines = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        play.step(line);
        let mut expected = Vec::new();
        while let Some(action) = lines.next_if(|next| next.starts_with("= ")) {
            expected.push(action.trim_start_matches("= ").to_owned());
        }
        let found: Vec<String> = play.actions.drain(..).map(|a| say(&a)).collect();
        assert_eq!(found, expected, "after `{line}` in\n{script}");
    }
}

fn say(action: &Action) -> String {
    match action {
        Action::Resolve(hop) => format!("resolve {hop}"),
        Action::Open { session, site, hop } => format!("open s{} {} by {hop}", session.0, site.0),
        Action::Assign { session, dispatch } => {
            let all = if dispatch.as_of == Timestamp::MAX {
                " all"
            } else {
                ""
            };
            format!("assign s{} {}{all}", session.0, dispatch.id.to_u64())
        }
        Action::Quit(session) => format!("quit s{}", session.0),
        Action::Expire(dispatch) => format!("expire {}", dispatch.id.to_u64()),
        Action::Suspended { site, .. } => format!("suspended {}", site.0),
        Action::SourceResumed { site, source } => format!("resumed {} from {source}", site.0),
        Action::Resumed { site } => format!("resumed {}", site.0),
    }
}

fn hop(name: &str) -> NextHop {
    NextHop::Domain(Domain::parse(name).unwrap())
}

fn site(name: &str) -> SiteId {
    SiteId(Arc::from(name))
}

fn session(word: &str) -> SessionId {
    SessionId(word.trim_start_matches('s').parse().unwrap())
}

fn id(word: &str) -> QueueId {
    QueueId::from_u64(word.parse().unwrap())
}

fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn limits(words: &[&str]) -> Limits {
    let number = |key, default| option(words, key).map_or(default, |n| n.parse().unwrap());
    Limits {
        connections: number("connections", 20),
        rate: option(words, "rate").map(|rate| rate.parse().unwrap()),
        messages_per_connection: number("messages", 100),
        recipients_per_transaction: 100,
    }
}

impl Play {
    fn at(&self, word: &str) -> Timestamp {
        let seconds: f64 = word.trim_start_matches('+').parse().unwrap();
        self.now + SignedDuration::from_secs_f64(seconds)
    }

    fn tell(&mut self, event: Event) {
        self.scheduler.handle(event, self.now, &mut self.actions);
    }

    /// Goes from wake-up to wake-up, as the driver does.
    fn advance(&mut self, to: Timestamp) {
        for _ in 0..100_000 {
            match self.scheduler.wake_at().filter(|&at| at <= to) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.tell(Event::Tick);
                }
                None => {
                    self.now = to;
                    return self.tell(Event::Tick);
                }
            }
        }
        panic!("it wakes up for ever");
    }

    fn report(&self, words: &[&str]) -> Report {
        let site = match words.last() {
            Some(&"good") => SiteNews::Good,
            Some(&"unreachable") => SiteNews::Unreachable,
            _ => SiteNews::Neutral,
        };
        Report {
            id: id(words[0]),
            due_again: option(words, "again").map(|again| self.at(again)),
            site,
        }
    }

    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let rest = &words[1..];
        let rule = || Arc::from(rest[2]);
        let event = match words[0] {
            "T" => return self.advance(self.at(words[1])),
            "?" => {
                let why = self.scheduler.why(id(rest[0]), self.now);
                let why: Vec<String> = why.iter().map(ToString::to_string).collect();
                return assert_eq!(why.join("; "), rest[1..].join(" "), "{line}");
            }
            "due" => {
                let since = self.scheduler.oldest_due();
                let since = since.map_or("none".to_owned(), |since| since.to_string());
                return assert_eq!(since, rest.join(" "), "{line}");
            }
            "add" => Event::Add(Job {
                id: id(rest[0]),
                hop: hop(rest[1]),
                due: option(rest, "due").map_or(self.now, |due| self.at(due)),
                deadline: self.at(option(rest, "deadline").unwrap_or(&(5.0 * DAY).to_string())),
                sender: Arc::from(option(rest, "from").unwrap_or("a")),
                stream: Arc::from(""),
                bytes: 1000,
                priority: Default::default(),
            }),
            "site" => Event::Resolved {
                hop: hop(rest[0]),
                site: site(rest[1]),
                limits: limits(rest),
                shares: Vec::new(),
            },
            "ready" => Event::Ready(session(rest[0])),
            "done" => Event::Done {
                session: session(rest[0]),
                report: self.report(&rest[1..]),
            },
            "carried" => Event::Carried {
                session: session(rest[0]),
                news: SiteNews::Good,
            },
            "closed" => Event::Closed(session(rest[0])),
            "remove" => Event::Remove(id(rest[0])),
            "flush" if rest[0] == "all" => Event::Flush(FlushSelection::All),
            "flush" => Event::Flush(FlushSelection::Ids(rest.iter().map(|w| id(w)).collect())),
            "suspend" => Event::Suspend {
                site: site(rest[0]),
                until: self.at(rest[1]),
                rule: rule(),
            },
            "alike" => Event::HostsFailAlike {
                site: site(rest[0]),
                rule: rule(),
            },
            "slow" => Event::Slow {
                site: site(rest[0]),
                until: self.at(rest[1]),
                rule: rule(),
            },
            "resume" => Event::Resume {
                site: site(rest[0]),
            },
            "limit" => Event::Limit {
                site: site(rest[0]),
                limits: limits(rest),
            },
            "settled" => Event::Settled {
                hop: hop(rest[0]),
                report: self.report(&rest[1..]),
            },
            "refresh" => Event::Refresh,
            other => panic!("{other}"),
        };
        self.tell(event);
    }
}
