//! The scheduler's behaviour as scripts: a line is an event or a step in time, the lines with `=`
//! after it are all the actions it leads to, in order.
//!
//! `add 1 d.test due=+60 deadline=+600 from=a`, `site d.test S connections=2 rate=5 messages=3`,
//! `ready s1`, `done s1 1 again=+60 good`, `closed s1`, `remove 1`, `flush all`, `suspend S +60 rule`,
//! `resume S`, `slow S +60 rule`, `limit S connections=1`, `expired d.test 1`, `refresh`, `T +60`;
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
fn check(sessions_max: u32, script: &str) {
    let mut play = Play {
        scheduler: Scheduler::new(Settings {
            idle: Duration::from_secs(3),
            sessions_max,
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
            "add" => Event::Add(Job {
                id: id(rest[0]),
                hop: hop(rest[1]),
                due: option(rest, "due").map_or(self.now, |due| self.at(due)),
                deadline: self.at(option(rest, "deadline").unwrap_or(&(5.0 * DAY).to_string())),
                sender: Arc::from(option(rest, "from").unwrap_or("a")),
            }),
            "site" => Event::Resolved {
                hop: hop(rest[0]),
                site: site(rest[1]),
                limits: limits(rest),
            },
            "ready" => Event::Ready(session(rest[0])),
            "done" => Event::Done {
                session: session(rest[0]),
                report: self.report(&rest[1..]),
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
            "expired" => Event::Expired {
                hop: hop(rest[0]),
                report: self.report(&rest[1..]),
            },
            "refresh" => Event::Refresh,
            other => panic!("{other}"),
        };
        self.tell(event);
    }
}

#[test]
fn a_message_goes_its_way_and_an_idle_session_ends() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        ? 1 d.test: waits for DNS
        site d.test S
        = open s1 S by d.test
        ? 1 site S: a session is about to take it
        ready s1
        = assign s1 1
        ? 1 d.test: is being tried now
        done s1 1 good
        ready s1
        T +2.9
        T +0.2
        = quit s1
        closed s1
        T +600",
    );
}

#[test]
fn a_deferred_job_is_due_again_at_its_time_and_not_before() {
    check(
        100,
        "
        add 1 d.test due=+60
        T +59.999
        ? 1 d.test: waits for its next attempt at 2026-01-01T00:01:00Z
        T +0.001
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 again=+300 good
        closed s1
        T +299.999
        T +0.001
        = resolve d.test
        = open s2 S by d.test",
    );
}

#[test]
fn one_session_carries_many_messages_and_ends_at_its_limit() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S connections=1 messages=2
        = open s1 S by d.test
        ? 3 site S: waits for its one connection
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        = assign s1 2
        done s1 2 good
        ready s1
        = quit s1
        closed s1
        = open s2 S by d.test
        ready s2
        = assign s2 3",
    );
}

#[test]
fn domains_of_one_site_share_its_sessions() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 e.test
        = resolve e.test
        site d.test S connections=1
        = open s1 S by d.test
        site e.test S connections=5
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        = assign s1 2",
    );
}

#[test]
fn senders_take_turns_so_a_mailing_does_not_delay_another() {
    check(
        100,
        "
        add 1 d.test from=bulk
        = resolve d.test
        add 2 d.test from=bulk
        add 3 d.test from=bulk
        add 4 d.test from=reset
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        = assign s1 4
        done s1 4 good
        ready s1
        = assign s1 2",
    );
}

#[test]
fn a_rate_paces_the_dispatches_of_all_sessions_together() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S rate=2
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        ? 2 site S: rate 2/s reached
        T +0.4
        T +0.05
        = assign s1 2
        done s1 2 good
        ready s1
        T +0.45
        T +0.05
        = assign s1 3",
    );
}

#[test]
fn the_window_limits_a_new_site_below_its_connections() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        add 4 d.test
        add 5 d.test
        add 6 d.test
        site d.test S connections=20
        = open s1 S by d.test
        = open s2 S by d.test
        = open s3 S by d.test
        = open s4 S by d.test
        = open s5 S by d.test
        ready s1
        = assign s1 1
        ? 6 site S: waits for one of 5 connections",
    );
}

#[test]
fn three_failures_suspend_a_site_and_one_probe_reopens_it() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        add 4 d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 again=+900 unreachable
        closed s1
        = open s2 S by d.test
        ready s2
        = assign s2 2
        done s2 2 again=+900 unreachable
        closed s2
        = open s3 S by d.test
        ready s3
        = assign s3 3
        done s3 3 again=+900 unreachable
        = suspended S
        closed s3
        add 5 d.test
        T +59
        T +7.1
        = open s4 S by d.test
        ? 5 site S could not be reached; waits for the probe that finds out whether it can now
        ready s4
        = assign s4 4
        done s4 4 good
        = resumed S
        ready s4
        = assign s4 5",
    );
}

#[test]
fn a_failed_probe_leaves_the_site_suspended_for_longer() {
    let dead = "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        add 4 d.test
        site d.test S
        = open s1 S by d.test
        = open s2 S by d.test
        = open s3 S by d.test
        = open s4 S by d.test
        ready s1
        = assign s1 1
        ready s2
        = assign s2 2
        ready s3
        = assign s3 3
        done s1 1 again=+9000 unreachable
        closed s1
        done s2 2 again=+9000 unreachable
        closed s2
        done s3 3 again=+9000 unreachable
        = suspended S
        = quit s4
        closed s3
        closed s4
        T +67
        = open s5 S by d.test
        ready s5
        = assign s5 4
        done s5 4 again=+1 unreachable
        = suspended S
        closed s5
        T +119
        T +14
        = open s6 S by d.test";
    // The fourth session is idle when the site is suspended, once it has said so.
    check(
        100,
        &dead
            .replace(
                "done s1 1",
                "ready s4\n= assign s4 4\ndone s4 4 again=+0 good\ndone s1 1",
            )
            .replace(
                "= quit s4\n        closed s3\n        closed s4",
                "closed s3\n        closed s4",
            ),
    );
}

#[test]
fn a_rule_suspends_a_site_until_its_time_or_a_resume() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        suspend S +60 listed
        site d.test S
        ? 1 site S suspended until 2026-01-01T00:01:00Z by listed
        T +60
        = open s1 S by d.test
        ready s1
        = assign s1 1
        suspend S +60 listed
        done s1 1 again=+10 neutral
        ready s1
        T +10
        = quit s1
        closed s1
        resume S
        = open s2 S by d.test",
    );
}

#[test]
fn a_flush_sets_aside_due_time_and_suspension_but_not_the_rate() {
    check(
        100,
        "
        suspend S +600 listed
        add 1 d.test due=+60
        add 2 d.test due=+60
        add 3 d.test due=+60
        flush 1 2
        = resolve d.test
        site d.test S rate=1
        = open s1 S by d.test
        ready s1
        = assign s1 1 all
        done s1 1 good
        ready s1
        ? 2 site S suspended until 2026-01-01T00:10:00Z by listed
        T +0.9
        T +0.1
        = assign s1 2 all
        done s1 2 good
        ready s1
        T +100
        = quit s1
        ? 3 site S suspended until 2026-01-01T00:10:00Z by listed",
    );
}

#[test]
fn a_flush_of_a_dead_site_is_one_probe() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 again=+1 unreachable
        closed s1
        = open s2 S by d.test
        ready s2
        = assign s2 2
        done s2 2 again=+1 unreachable
        closed s2
        = open s3 S by d.test
        ready s3
        = assign s3 3
        done s3 3 again=+1 unreachable
        = suspended S
        closed s3
        T +2
        flush all
        = open s4 S by d.test
        ready s4
        = assign s4 1 all
        done s4 1 again=+900 unreachable
        = suspended S
        closed s4
        T +3
        flush all
        = open s5 S by d.test
        ready s5
        = assign s5 1 all
        done s5 1 good
        = resumed S
        ready s5
        = assign s5 2 all",
    );
}

#[test]
fn a_job_whose_deadline_comes_in_a_suspension_expires() {
    check(
        100,
        "
        suspend S +600 listed
        add 1 d.test deadline=+60
        = resolve d.test
        site d.test S
        T +59.9
        T +0.1
        = expire 1
        expired d.test 1
        ? 1 
        add 2 d.test deadline=+60
        T +60
        = expire 2
        expired d.test 2 again=+0
        T +0.9
        T +0.1
        = expire 2",
    );
}

#[test]
fn the_last_dispatch_is_at_the_deadline_for_all_recipients() {
    check(
        100,
        "
        add 1 d.test due=+900 deadline=+60
        T +59.9
        T +0.1
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1 all",
    );
}

#[test]
fn a_session_that_breaks_off_gives_its_job_back_and_cannot_spin() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        closed s1
        T +0.9
        T +0.1
        = open s2 S by d.test
        closed s2
        T +0.9
        T +0.1
        = open s3 S by d.test
        ready s3
        = assign s3 1
        ready s3
        T +1
        = assign s3 1",
    );
}

#[test]
fn what_happens_to_a_job_in_flight_happens_after_it() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        add 1 d.test due=+60
        done s1 1 good
        ? 1 d.test: waits for its next attempt at 2026-01-01T00:01:00Z
        ready s1
        T +60
        = quit s1
        = open s2 S by d.test
        closed s1
        ready s2
        = assign s2 1
        remove 1
        done s2 1 again=+60 neutral
        ? 1 
        ready s2
        T +100
        = quit s2",
    );
}

#[test]
fn a_removed_job_is_not_tried_wherever_it_was() {
    check(
        100,
        "
        add 1 d.test due=+60
        remove 1
        add 2 d.test
        = resolve d.test
        remove 2
        add 3 d.test
        site d.test S connections=1
        = open s1 S by d.test
        add 4 d.test
        remove 3
        ready s1
        = assign s1 4
        T +100",
    );
}

#[test]
fn slow_halves_rate_and_connections_and_they_recover_step_by_step() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        site d.test S connections=4 rate=4
        = open s1 S by d.test
        slow S +60 too-fast
        slow S +60 too-fast
        ready s1
        = assign s1 1
        add 2 d.test
        done s1 1 good
        ready s1
        T +0.44
        T +0.01
        = assign s1 2
        done s1 2 good
        closed s1
        T +31
        slow S +60 too-fast
        add 3 d.test
        = open s2 S by d.test
        add 4 d.test
        ready s2
        = assign s2 3
        T +10
        ? 4 site S: waits for its one connection
        T +50
        = open s3 S by d.test",
    );
}

#[test]
fn limits_may_fall_while_sessions_run() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S connections=3
        = open s1 S by d.test
        = open s2 S by d.test
        = open s3 S by d.test
        ready s1
        = assign s1 1
        ready s2
        = assign s2 2
        limit S connections=1
        ready s3
        = quit s3
        done s2 2 good
        ready s2
        = quit s2
        closed s2
        closed s3
        done s1 1 good
        ready s1
        = assign s1 3",
    );
}

#[test]
fn a_next_hop_that_moves_takes_its_jobs_along() {
    check(
        100,
        "
        suspend S +3600 listed
        add 1 d.test
        = resolve d.test
        site d.test S
        add 2 d.test
        T +299
        add 3 d.test
        T +2
        add 4 d.test
        = resolve d.test
        site d.test R connections=1
        = open s1 R by d.test
        ready s1
        = assign s1 1",
    );
}

#[test]
fn a_refresh_asks_again_and_loosens_limits() {
    check(
        100,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        site d.test S connections=1
        = open s1 S by d.test
        ready s1
        = assign s1 1
        refresh
        = resolve d.test
        site d.test S connections=2
        = open s2 S by d.test",
    );
}

#[test]
fn a_site_without_any_session_gets_the_next_free_place() {
    check(
        2,
        "
        add 1 d.test
        = resolve d.test
        add 2 d.test
        add 3 d.test
        site d.test S
        = open s1 S by d.test
        = open s2 S by d.test
        add 9 e.test
        = resolve e.test
        ready s1
        = assign s1 1
        ready s2
        = assign s2 2
        site e.test R
        ? 9 waits for one of the 2 sessions of all sites together
        done s1 1 good
        ready s1
        = quit s1
        closed s1
        = open s3 R by e.test
        ready s3
        = assign s3 9
        done s2 2 good
        ready s2
        = assign s2 3",
    );
}

#[test]
fn an_idle_session_makes_room_at_once_for_a_site_that_has_none() {
    check(
        1,
        "
        add 1 d.test
        = resolve d.test
        site d.test S
        = open s1 S by d.test
        ready s1
        = assign s1 1
        done s1 1 good
        ready s1
        add 2 e.test
        = resolve e.test
        site e.test R
        = quit s1
        closed s1
        = open s2 R by e.test",
    );
}
