//! Models of receiving sites: how they answer, how long they take, when they are not there.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rand::rngs::StdRng;
use relay_schedule::Limits;
use relay_smtp::{Failure, Phase};

/// What kind of site it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nature {
    /// Quick; one recipient in fifty is unknown.
    Good,
    /// Takes everything, a transaction in half a minute.
    Slow,
    /// Refuses a sender and mailbox that it does not know, and says for how long (seconds).
    Greylisting(u32),
    /// Has room for so many connections, and says this to the others.
    Busy(u32, &'static str),
    /// Loses a part of the connections during the body; sometimes it has the message all the same.
    Drops,
    /// Dies now and then for an hour.
    Mortal,
    /// Takes so many recipients in one transaction.
    FewRecipients(usize),
    /// Defers one recipient in three without a reason.
    Moody,
    /// Tells us to slow down when it had more than so many transactions in a minute.
    Touchy(usize),
    /// Was never there.
    Dead,
}

/// Says why: the policy slows the site down.
pub const TOO_MANY: &str = "421 4.3.2 Too many concurrent SMTP connections";
/// Does not: only the window can tell.
pub const NOT_NOW: &str = "421 4.3.0 Service not available, closing transmission channel";

/// One site.
#[derive(Debug)]
pub struct Mx {
    pub nature: Nature,
    pub limits: Limits,
    /// Connections that it sees.
    pub open: u32,
    /// How long a transaction takes, from and to, in seconds.
    pub takes: (f64, f64),
    /// When it is not there.
    pub away: Vec<(Timestamp, Timestamp)>,
    known: BTreeMap<(usize, usize, u32), Timestamp>,
    lately: Vec<Timestamp>,
}

/// A reply or a failure, as pasted into `policy test`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    Reply(String),
    Failure(Failure),
}

/// What came of a connection, and after how many seconds.
pub enum Connected {
    Yes,
    No {
        phase: Phase,
        said: Said,
        seconds: f64,
    },
}

/// What a transaction came to.
pub struct Answer {
    /// One for each recipient.
    pub outcomes: Vec<Outcome>,
    pub session: Session,
}

pub struct Outcome {
    pub phase: Phase,
    pub said: Said,
    pub accepted_before: u32,
    /// Whether the peer has the message for this recipient, whatever it said.
    pub has_it: HasIt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HasIt {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    Open,
    Over,
}

/// Who is named in one RCPT.
#[derive(Clone, Copy)]
pub struct Rcpt {
    pub hop: usize,
    pub mailbox: u32,
}

impl Mx {
    pub fn new(nature: Nature, limits: Limits) -> Mx {
        Mx {
            nature,
            limits,
            open: 0,
            takes: match nature {
                Nature::Slow => (10.0, 60.0),
                Nature::Good => (0.02, 0.2),
                Nature::Greylisting(_)
                | Nature::Busy(..)
                | Nature::Drops
                | Nature::Mortal
                | Nature::FewRecipients(_)
                | Nature::Moody
                | Nature::Touchy(_)
                | Nature::Dead => (0.05, 2.0),
            },
            away: Vec::new(),
            known: BTreeMap::new(),
            lately: Vec::new(),
        }
    }

    /// From now on all is well here.
    pub fn heal(&mut self) {
        self.nature = Nature::Good;
        self.takes = (0.02, 0.2);
        self.away.clear();
    }

    pub fn is_away(&self, now: Timestamp) -> bool {
        let away = |&(from, to): &(Timestamp, Timestamp)| from <= now && now < to;
        self.nature == Nature::Dead || self.away.iter().any(away)
    }

    /// Seconds.
    pub fn transaction_takes(&self, rng: &mut StdRng) -> f64 {
        rng.random_range(self.takes.0..self.takes.1)
    }

    pub fn connect(&mut self, now: Timestamp, rng: &mut StdRng) -> Connected {
        if self.is_away(now) {
            let (failure, seconds) = match rng.random_bool(0.5) {
                true => (Failure::Refused, 0.02),
                false => (Failure::TimedOut, 30.0),
            };
            return Connected::No {
                phase: Phase::Connect,
                said: Said::Failure(failure),
                seconds,
            };
        }
        if let Nature::Busy(most, words) = self.nature
            && self.open >= most
        {
            return Connected::No {
                phase: Phase::Banner,
                said: Said::Reply(words.to_owned()),
                seconds: 0.05,
            };
        }
        self.open += 1;
        Connected::Yes
    }

    /// The answers to a whole transaction, at its end.
    pub fn transact(
        &mut self,
        now: Timestamp,
        sender: usize,
        rcpts: &[Rcpt],
        rng: &mut StdRng,
    ) -> Answer {
        if self.is_away(now) {
            return lost(rcpts, Failure::Lost, HasIt::No);
        }
        if let Nature::Touchy(most) = self.nature {
            self.lately
                .retain(|&at| now.duration_since(at) < SignedDuration::from_secs(60));
            self.lately.push(now);
            if self.lately.len() > most {
                let words = "451 4.7.1 Rate limit exceeded, slow down";
                return all(rcpts, Phase::Mail, words);
            }
        }
        if self.nature == Nature::Drops && rng.random_bool(0.3) {
            return match rng.random_range(0..3) {
                0 => lost(rcpts, Failure::LostAfterBody, HasIt::Yes),
                1 => lost(rcpts, Failure::LostAfterBody, HasIt::No),
                _ => lost(rcpts, Failure::Lost, HasIt::No),
            };
        }
        let mut accepted = 0;
        let outcomes = rcpts
            .iter()
            .map(|&rcpt| {
                let refused = self.refuses(now, sender, rcpt, accepted as usize, rng);
                let outcome = match &refused {
                    Some(words) => said(Phase::Rcpt, words, accepted),
                    None => Outcome {
                        has_it: HasIt::Yes,
                        ..said(Phase::Body, "250 2.0.0 taken", accepted)
                    },
                };
                accepted += u32::from(refused.is_none());
                outcome
            })
            .collect();
        Answer {
            outcomes,
            session: Session::Open,
        }
    }

    fn refuses(
        &mut self,
        now: Timestamp,
        sender: usize,
        rcpt: Rcpt,
        accepted: usize,
        rng: &mut StdRng,
    ) -> Option<String> {
        let words = match self.nature {
            Nature::Good => rng.random_bool(0.02).then_some("550 5.1.1 User unknown")?,
            Nature::Moody => rng
                .random_bool(0.33)
                .then_some("451 4.3.0 Temporary failure")?,
            Nature::FewRecipients(most) => {
                (accepted >= most).then_some("452 4.5.3 Too many recipients")?
            }
            Nature::Greylisting(seconds) => {
                return self.greylists(now, (sender, rcpt.hop, rcpt.mailbox), seconds);
            }
            Nature::Slow
            | Nature::Busy(..)
            | Nature::Drops
            | Nature::Mortal
            | Nature::Touchy(_)
            | Nature::Dead => return None,
        };
        Some(words.to_owned())
    }

    fn greylists(
        &mut self,
        now: Timestamp,
        triple: (usize, usize, u32),
        seconds: u32,
    ) -> Option<String> {
        let first = *self.known.entry(triple).or_insert(now);
        let left = i64::from(seconds) - now.duration_since(first).as_secs();
        (left > 0).then(|| format!("451 4.7.1 Greylisted, please try again in {left} seconds"))
    }
}

fn said(phase: Phase, words: &str, accepted_before: u32) -> Outcome {
    Outcome {
        phase,
        said: Said::Reply(words.to_owned()),
        accepted_before,
        has_it: HasIt::No,
    }
}

/// The same words for everybody.
fn all(rcpts: &[Rcpt], phase: Phase, words: &str) -> Answer {
    Answer {
        outcomes: rcpts.iter().map(|_| said(phase, words, 0)).collect(),
        session: Session::Open,
    }
}

/// The connection is lost for everybody.
fn lost(rcpts: &[Rcpt], failure: Failure, has_it: HasIt) -> Answer {
    let outcome = |_| Outcome {
        phase: Phase::Body,
        said: Said::Failure(failure),
        accepted_before: 0,
        has_it,
    };
    Answer {
        outcomes: rcpts.iter().map(outcome).collect(),
        session: Session::Over,
    }
}
