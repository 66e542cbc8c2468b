//! The guard of the suppression list: a site that suddenly knows none of its users is not believed.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use jiff::{SignedDuration, Timestamp};
use relay_smtp::Mailbox;

use super::{Asked, Heard};
use crate::decide::{Action, Decision, Fate};

/// The latest answers that are looked at: of fewer nothing can be said.
const ANSWERS: usize = 20;
/// So many of them say that the recipient does not exist: half.
const UNKNOWN: usize = 10;
/// They came within this time.
const WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// The usual share is known after so many earlier answers; these are halved beyond the second number, so
/// that what was usual last year does not count for ever.
const USUAL_LEAST: u32 = 50;
const USUAL_MOST: u32 = 1000;
/// It is far lower than half if it is below this, in percent. A site that gets an old list has more.
const USUAL_PERCENT: u32 = 25;
/// Or so many of the unknown ones took mail before: one or two may have closed their account today.
const TOOK_BEFORE: usize = 3;
/// Not believed for so long after the last such answer: longer than the first steps of the retry schedule.
const DOUBT: SignedDuration = SignedDuration::from_hours(4);
/// But for no longer than this: then it means what it says, and is believed for as long.
const DOUBT_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Sites remembered; beyond these the one that was silent longest is forgotten.
const SITES_MAX: usize = 5000;
/// Addresses that took mail, remembered by a number made of them; twice as many at most.
const TAKERS_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Unknown {
    sites: BTreeMap<String, Site>,
    takers: Takers,
}

#[derive(Debug)]
struct Site {
    latest: VecDeque<Answer>,
    /// Answers before the latest, and how many of them were "unknown".
    usual: (u32, u32),
    trust: Trust,
    last: Timestamp,
}

#[derive(Debug)]
struct Answer {
    at: Timestamp,
    said: Said,
}

#[derive(Debug)]
enum Said {
    Taken,
    Unknown { recipient: Mailbox, before: Before },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    TookMail,
    NotKnown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    AsUsual,
    Doubted {
        since: Timestamp,
        until: Timestamp,
    },
    /// By an operator, or since it kept saying so.
    Believed {
        until: Timestamp,
    },
}

impl Unknown {
    pub(super) fn hear(&mut self, asked: &Asked<'_>, decision: &Decision, now: Timestamp) -> Heard {
        let said = match (decision.fate, decision.action) {
            (Fate::Delivered, _) => {
                self.takers.add(asked.recipient);
                Said::Taken
            }
            (_, Action::BounceSuppress) => Said::Unknown {
                recipient: asked.recipient.clone(),
                before: self.takers.knows(asked.recipient),
            },
            (Fate::Deferred | Fate::AgainNow | Fate::Bounced | Fate::Held, _) => {
                return Heard::Nothing;
            }
        };
        let site = self.site(asked.site, now);
        site.last = now;
        site.pass_time(now);
        site.add(Answer { at: now, said });
        site.conclude(now)
    }

    /// Whether this is a refusal that is not believed.
    pub(super) fn doubts(&self, asked: &Asked<'_>, decision: &Decision, now: Timestamp) -> bool {
        decision.action == Action::BounceSuppress
            && self.sites.get(asked.site).is_some_and(
                |site| matches!(site.trust, Trust::Doubted { until, .. } if until > now),
            )
    }

    pub(super) fn believe(&mut self, site: &str, now: Timestamp) {
        if let Some(site) = self.sites.get_mut(site) {
            site.believe(now);
        }
    }

    fn site(&mut self, name: &str, now: Timestamp) -> &mut Site {
        if self.sites.len() >= SITES_MAX && !self.sites.contains_key(name) {
            let oldest = self.sites.iter().min_by_key(|(_, site)| site.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.sites.remove(&oldest);
            }
        }
        self.sites.entry(name.to_owned()).or_insert_with(|| Site {
            latest: VecDeque::new(),
            usual: (0, 0),
            trust: Trust::AsUsual,
            last: now,
        })
    }
}

impl Site {
    /// Doubts and beliefs end; what is no longer of the latest becomes usual.
    fn pass_time(&mut self, now: Timestamp) {
        match self.trust {
            Trust::Doubted { since, until } if until <= now => {
                if now.duration_since(since) >= DOUBT_MAX {
                    self.believe(now);
                } else {
                    self.trust = Trust::AsUsual;
                }
            }
            Trust::Believed { until } if until <= now => self.trust = Trust::AsUsual,
            Trust::AsUsual | Trust::Doubted { .. } | Trust::Believed { .. } => {}
        }
        while let Some(answer) = self.latest.front()
            && now.duration_since(answer.at) >= WITHIN
        {
            self.pop();
        }
    }

    fn add(&mut self, answer: Answer) {
        if self.latest.len() >= ANSWERS {
            self.pop();
        }
        self.latest.push_back(answer);
    }

    fn pop(&mut self) {
        let Some(answer) = self.latest.pop_front() else {
            return;
        };
        match self.trust {
            // What a broken directory says is not what is usual.
            Trust::Doubted { .. } => return,
            Trust::AsUsual | Trust::Believed { .. } => {}
        }
        let (all, unknown) = &mut self.usual;
        *all += 1;
        *unknown += match answer.said {
            Said::Taken => 0,
            Said::Unknown { .. } => 1,
        };
        if *all >= USUAL_MOST {
            *all /= 2;
            *unknown /= 2;
        }
    }

    fn conclude(&mut self, now: Timestamp) -> Heard {
        let unknown: Vec<(&Mailbox, Before)> =
            self.latest.iter().filter_map(unknown_said).collect();
        let just_now = self.latest.back().and_then(unknown_said).is_some();
        match self.trust {
            Trust::Believed { .. } => Heard::Nothing,
            Trust::AsUsual => {
                let (all, usually) = self.usual;
                let far_lower = all >= USUAL_LEAST && usually * 100 < USUAL_PERCENT * all;
                let before = |(_, before): &&(&Mailbox, Before)| *before == Before::TookMail;
                let took_before = unknown.iter().filter(before).count() >= TOOK_BEFORE;
                let many = self.latest.len() >= ANSWERS && unknown.len() >= UNKNOWN;
                if !many || !(far_lower || took_before) {
                    return Heard::Nothing;
                }
                let recipients = unknown.iter().map(|(one, _)| (*one).clone()).collect();
                self.trust = Trust::Doubted {
                    since: now,
                    until: after(now, DOUBT),
                };
                self.latest.clear();
                Heard::Unbelieved(recipients)
            }
            Trust::Doubted { since, .. } if just_now => {
                let until = after(now, DOUBT).min(after(since, DOUBT_MAX));
                self.trust = Trust::Doubted { since, until };
                Heard::Nothing
            }
            // It works again: what it says now counts.
            Trust::Doubted { .. }
                if self.latest.len() >= ANSWERS && unknown.len() * 4 < ANSWERS =>
            {
                self.trust = Trust::AsUsual;
                Heard::Nothing
            }
            Trust::Doubted { .. } => Heard::Nothing,
        }
    }

    fn believe(&mut self, now: Timestamp) {
        self.trust = Trust::Believed {
            until: after(now, DOUBT_MAX),
        };
        self.latest.clear();
        self.usual = (0, 0);
    }
}

fn unknown_said(answer: &Answer) -> Option<(&Mailbox, Before)> {
    match &answer.said {
        Said::Taken => None,
        Said::Unknown { recipient, before } => Some((recipient, *before)),
    }
}

/// Two generations: when the young one is full the old one goes.
#[derive(Debug, Default)]
struct Takers {
    young: BTreeSet<u64>,
    old: BTreeSet<u64>,
}

impl Takers {
    fn add(&mut self, recipient: &Mailbox) {
        self.young.insert(number(recipient));
        if self.young.len() >= TAKERS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn knows(&self, recipient: &Mailbox) -> Before {
        let number = number(recipient);
        if self.young.contains(&number) || self.old.contains(&number) {
            Before::TookMail
        } else {
            Before::NotKnown
        }
    }
}

fn number(recipient: &Mailbox) -> u64 {
    let mut hasher = DefaultHasher::new();
    recipient.hash(&mut hasher);
    hasher.finish()
}

fn after(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}
