//! Which policy holds for a domain now: from memory, from disk, or read from the domain (RFC 8461
//! section 5.1). A policy that holds keeps holding when DNS or its host cannot be reached.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use relay_route::{Lookup, Resolver};

use crate::disk::{Disk, Kept};
use crate::fetch::Fetch;
use crate::policy::{Policy, id_of};
use crate::trouble::{Trouble, Why};

/// The policies of all domains.
pub struct Sts {
    resolver: Arc<dyn Resolver>,
    fetch: Arc<dyn Fetch>,
    /// None: in memory only.
    disk: Option<Disk>,
    known: Mutex<Known>,
    /// One reader for a domain at a time; others wait for what it finds.
    turns: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Known {
    policies: HashMap<String, Entry>,
    /// Domains whose policy could not be read, why, and when that is tried again.
    failed: HashMap<String, (Trouble, Timestamp)>,
}

/// What holds for a domain now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Policy(Arc<Policy>),
    /// It publishes none.
    Nothing,
    /// It says that it has one, which could not be had: it counts as none.
    Unreadable(Trouble),
}

#[derive(Clone, Debug)]
struct Entry {
    id: String,
    fetched: Timestamp,
    expires: Timestamp,
    policy: Arc<Policy>,
}

/// Bounds the memory: senders choose the domains.
const DOMAINS_MAX: usize = 50_000;
/// How long a policy host that could not be reached is left alone (RFC 8461 section 3.3 asks for at
/// least five minutes).
const FAILED_KEPT: SignedDuration = SignedDuration::from_mins(5);
/// An older policy is read again while it holds, so that it does not run out (section 3.3).
const FRESH: SignedDuration = SignedDuration::from_hours(24);
const TURNS: usize = 64;

impl Sts {
    /// `dir`: where policies are kept; None: nowhere. A folder that cannot be used is said, and done
    /// without.
    pub fn open(
        dir: Option<&Path>,
        resolver: Arc<dyn Resolver>,
        fetch: Arc<dyn Fetch>,
        now: Timestamp,
    ) -> Sts {
        let mut known = Known::default();
        let disk = dir.and_then(|dir| match open_disk(dir, now) {
            Ok((disk, kept)) => {
                known.policies.extend(kept.into_iter().filter_map(entry));
                Some(disk)
            }
            Err(error) => {
                let dir = dir.display();
                tracing::error!("{dir}: {error}; MTA-STS policies are kept in memory only");
                None
            }
        });
        Sts {
            resolver,
            fetch,
            disk,
            known: Mutex::new(known),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The policy of a domain.
    pub async fn policy(self: &Arc<Sts>, domain: &str, now: Timestamp) -> Found {
        let domain = domain.to_ascii_lowercase();
        let id = match self.resolver.txt(&format!("_mta-sts.{domain}")).await {
            Lookup::Found(records) => id_of(&records),
            Lookup::NoRecords | Lookup::NoSuchName | Lookup::Trouble(_) => None,
        };
        let cached = self.cached(&domain, now);
        match (cached, id) {
            (None, None) => Found::Nothing,
            // Without the record, or with one that cannot be read, what holds still holds.
            (Some(entry), None) => Found::Policy(entry.policy),
            (Some(entry), Some(id)) if entry.id == id => {
                if now.duration_since(entry.fetched) > FRESH {
                    self.read_again(domain, id, now);
                }
                Found::Policy(entry.policy)
            }
            (cached, Some(id)) => match (self.read(&domain, &id, now).await, cached) {
                (Ok(policy), _) => Found::Policy(policy),
                (Err(_), Some(entry)) => Found::Policy(entry.policy),
                (Err(trouble), None) => Found::Unreadable(trouble),
            },
        }
    }

    fn read_again(self: &Arc<Sts>, domain: String, id: String, now: Timestamp) {
        let sts = Arc::clone(self);
        tokio::spawn(async move {
            // What is wrong with it is in the log.
            let _ = sts.read(&domain, &id, now).await;
        });
    }

    /// Reads the policy of this id, unless another has done so meanwhile.
    async fn read(&self, domain: &str, id: &str, now: Timestamp) -> Result<Arc<Policy>, Trouble> {
        let hash = self.hasher.hash_one(domain);
        let place = usize::try_from(hash % TURNS as u64).unwrap_or_default();
        let turn = self.turns.get(place).expect("a remainder is a place");
        let _turn = turn.lock().await;
        if let Some(entry) = self.cached(domain, now)
            && entry.id == id
            && now.duration_since(entry.fetched) <= FRESH
        {
            return Ok(entry.policy);
        }
        if let Some(trouble) = self.has_failed(domain, now) {
            return Err(trouble);
        }
        let read = self.fetch.fetch(domain).await;
        let policy = read.and_then(|text| match Policy::parse(&text) {
            Ok(policy) => Ok((text, policy)),
            Err(words) => Err(Trouble {
                why: Why::Invalid,
                words,
            }),
        });
        match policy {
            Ok((text, policy)) => Ok(self.keep(domain, id, text, policy, now)),
            Err(trouble) => {
                let words = &trouble.words;
                tracing::warn!(domain, "the MTA-STS policy cannot be read: {words}");
                self.note_failed(domain, trouble.clone(), now);
                Err(trouble)
            }
        }
    }

    fn keep(
        &self,
        domain: &str,
        id: &str,
        text: String,
        policy: Policy,
        now: Timestamp,
    ) -> Arc<Policy> {
        let max_age = SignedDuration::try_from(policy.max_age).unwrap_or_default();
        let policy = Arc::new(policy);
        let entry = Entry {
            id: id.to_owned(),
            fetched: now,
            expires: now.saturating_add(max_age).unwrap_or(Timestamp::MAX),
            policy: Arc::clone(&policy),
        };
        let kept = Kept {
            domain: domain.to_owned(),
            id: entry.id.clone(),
            fetched: entry.fetched,
            expires: entry.expires,
            text,
        };
        let mut known = self.lock();
        known.failed.remove(domain);
        for forgotten in known.put(domain, entry, now) {
            self.disk.iter().for_each(|disk| disk.remove(&forgotten));
        }
        drop(known);
        if let Some(disk) = &self.disk
            && let Err(error) = disk.put(&kept)
        {
            tracing::warn!(domain, "the MTA-STS policy is kept in memory only: {error}");
        }
        policy
    }

    fn cached(&self, domain: &str, now: Timestamp) -> Option<Entry> {
        let known = self.lock();
        let entry = known.policies.get(domain);
        entry.filter(|entry| now < entry.expires).cloned()
    }

    fn has_failed(&self, domain: &str, now: Timestamp) -> Option<Trouble> {
        let known = self.lock();
        let (trouble, until) = known.failed.get(domain)?;
        (now < *until).then(|| trouble.clone())
    }

    fn note_failed(&self, domain: &str, trouble: Trouble, now: Timestamp) {
        let mut known = self.lock();
        if known.failed.len() >= DOMAINS_MAX {
            known.failed.retain(|_, (_, until)| now < *until);
        }
        if known.failed.len() < DOMAINS_MAX {
            let until = now.saturating_add(FAILED_KEPT).unwrap_or(Timestamp::MAX);
            known.failed.insert(domain.to_owned(), (trouble, until));
        }
    }

    /// What stands in it is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Returns the domains that made room.
    fn put(&mut self, domain: &str, entry: Entry, now: Timestamp) -> Vec<String> {
        let mut gone = Vec::new();
        if self.policies.len() >= DOMAINS_MAX && !self.policies.contains_key(domain) {
            let expired = self
                .policies
                .iter()
                .filter(|(_, entry)| entry.expires <= now);
            gone.extend(expired.map(|(domain, _)| domain.clone()));
            if gone.is_empty() {
                let oldest = self.policies.iter().min_by_key(|(_, entry)| entry.fetched);
                gone.extend(oldest.map(|(domain, _)| domain.clone()));
            }
            for domain in &gone {
                self.policies.remove(domain);
            }
        }
        self.policies.insert(domain.to_owned(), entry);
        gone
    }
}

fn open_disk(dir: &Path, now: Timestamp) -> std::io::Result<(Disk, Vec<Kept>)> {
    let disk = Disk::open(dir)?;
    let kept = disk.load(now)?;
    Ok((disk, kept))
}

fn entry(kept: Kept) -> Option<(String, Entry)> {
    let policy = Policy::parse(&kept.text).ok()?;
    let entry = Entry {
        id: kept.id,
        fetched: kept.fetched,
        expires: kept.expires,
        policy: Arc::new(policy),
    };
    Some((kept.domain, entry))
}

#[cfg(test)]
mod tests;
