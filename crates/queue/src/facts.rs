//! What stays in memory of every unfinished message: enough to select, to count and to tell what is due
//! without reading any. 40 bytes each, so that a million stay cheap; what is said in words here is kept
//! as a number or as a hash.
//!
//! A hash may take a message for one that is meant: whoever selects reads the candidates, which
//! are few, and holds the selection against them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use relay_smtp::{Host, Mailbox, QueueId, ReversePath};

use crate::brief::{Address, At, Brief, Open, Ways, unix_s};
use crate::message::State;
use crate::select::Select;
use crate::store::Waiting;
use crate::words::{Words, WordsRef};

/// Messages of one run; a change in the middle moves half as many.
const RUN: usize = 256;
/// Messages looked at in one step, so that nobody waits long for the lock.
const LOOKED_AT: usize = 20_000;
/// Messages found in one step.
const FOUND: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// In id order; the key is not above any id of its run. Nearly all come in at the end, so runs are
    /// full, where a map of single ones would be half empty.
    runs: BTreeMap<QueueId, Vec<Fact>>,
    /// The open recipients of those that are not [`Recipients::One`].
    many: HashMap<QueueId, Box<[To]>>,
    domains: Words,
    decisions: Decisions,
}

#[derive(Clone, Copy, Debug)]
struct Fact {
    id: QueueId,
    segment: u32,
    arrived_unix_s: u32,
    /// A hash.
    sender: u32,
    /// A hash; 0: nobody had logged in.
    user: u16,
    /// Its only open recipient; of several the first.
    to: To,
    recipients: Recipients,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recipients {
    One,
    Many,
    /// One or more, and an operator has sent some of the message's another way.
    Elsewhere,
}

/// An open recipient.
#[derive(Clone, Copy, Debug)]
struct To {
    /// A hash of its address.
    address: u32,
    domain: WordsRef,
    due_unix_s: u32,
    decision: u16,
    state: State,
}

/// Rules with their categories, as numbers. There are a few hundred; none is ever forgotten.
#[derive(Debug, Default)]
struct Decisions {
    /// By rule, then by category.
    numbers: HashMap<Arc<str>, HashMap<Arc<str>, u16>>,
    names: Vec<(Arc<str>, Arc<str>)>,
}

/// Not decided about yet.
const NONE: u16 = 0;
/// There were more than can be told apart.
const SOME: u16 = u16::MAX;

/// A selection in numbers.
pub(crate) struct Sieve {
    id: Option<QueueId>,
    domains: Option<HashSet<WordsRef>>,
    ways: Option<HashSet<WordsRef>>,
    address: Option<u32>,
    sender: Option<u32>,
    user: Option<u16>,
    decisions: Option<HashSet<u16>>,
    before_unix_s: Option<u32>,
    due_unix_s: Option<u32>,
}

/// Some of those that may match, in id order.
#[derive(Debug)]
pub(crate) struct Candidates {
    pub(crate) ids: Vec<QueueId>,
    /// Where to go on; None: that was all.
    pub(crate) upto: Option<QueueId>,
}

impl Facts {
    pub(crate) fn contains(&self, id: QueueId) -> bool {
        self.find(id).is_some()
    }

    /// All of them, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = QueueId> {
        self.ids_after(None)
    }

    /// Those after this one, in order.
    pub(crate) fn ids_after(&self, after: Option<QueueId>) -> impl Iterator<Item = QueueId> {
        self.after(after).map(|fact| fact.id)
    }

    /// When the message with the lowest id arrived.
    pub(crate) fn oldest_unix_s(&self) -> Option<u32> {
        self.after(None).next().map(|fact| fact.arrived_unix_s)
    }

    /// Messages whose body lies in the segment, the latest first. Looks at all there are.
    pub(crate) fn in_segment(&self, segment: u32) -> Vec<QueueId> {
        let facts = self.runs.values().flatten().rev();
        let there = facts.filter(|fact| fact.segment == segment);
        there.map(|fact| fact.id).collect()
    }

    /// Takes in a message, or what has become of one.
    pub(crate) fn put(&mut self, message: &Brief<'_>, segment: u32) {
        self.remove(message.id);
        let Some((first, others)) = message.open.split_first() else {
            return;
        };
        let to = self.to(first);
        let fact = Fact {
            id: message.id,
            segment,
            arrived_unix_s: message.arrived_unix_s,
            sender: message.sender.as_ref().map_or(0, address_hash),
            user: message.user.map_or(0, user_hash),
            to,
            recipients: match (message.ways, others) {
                (Ways::OfTheirDomains, []) => Recipients::One,
                (Ways::OfTheirDomains, [..]) => Recipients::Many,
                (Ways::Chosen, _) => Recipients::Elsewhere,
            },
        };
        if fact.recipients != Recipients::One {
            let others = others.iter().map(|open| self.to(open));
            let open = std::iter::once(to).chain(others).collect();
            self.many.insert(fact.id, open);
        }
        self.insert(fact);
    }

    fn to(&mut self, open: &Open<'_>) -> To {
        To {
            address: address_hash(&open.to),
            domain: match open.to.host {
                At::Domain(domain) => self.domains.take(domain),
                At::Address(address) => {
                    let text = Host::Address(address).to_string();
                    self.domains.take(&text.to_ascii_lowercase())
                }
            },
            due_unix_s: open.due_unix_s,
            decision: self.decisions.number(open.last),
            state: open.state,
        }
    }

    /// Tells the segment of its body. None: it was not there.
    pub(crate) fn remove(&mut self, id: QueueId) -> Option<u32> {
        let (&first, run) = self.runs.range_mut(..=id).next_back()?;
        let place = run.binary_search_by_key(&id, |fact| fact.id).ok()?;
        let fact = run.remove(place);
        if run.is_empty() {
            self.runs.remove(&first);
        }
        match self.many.remove(&id) {
            Some(open) => open.iter().for_each(|to| self.domains.give_back(to.domain)),
            None => self.domains.give_back(fact.to.domain),
        }
        Some(fact.segment)
    }

    /// What may match after `after`, in id order: some of it.
    pub(crate) fn candidates(&self, sieve: &Sieve, after: Option<QueueId>) -> Candidates {
        if let Some(id) = sieve.id {
            let meant = after.is_none_or(|after| id > after) && self.contains(id);
            let ids = meant.then_some(id).into_iter().collect();
            return Candidates { ids, upto: None };
        }
        let mut ids = Vec::new();
        for (count, fact) in self.after(after).enumerate() {
            if sieve.lets_through(fact, self.open(fact)) {
                ids.push(fact.id);
            }
            if ids.len() >= FOUND || count + 1 >= LOOKED_AT {
                let upto = Some(fact.id);
                return Candidates { ids, upto };
            }
        }
        Candidates { ids, upto: None }
    }

    /// Looks at the open recipients of some messages after `after`; tells where to go on.
    pub(crate) fn survey(
        &self,
        after: Option<QueueId>,
        look: &mut dyn FnMut(&Waiting<'_>),
    ) -> Option<QueueId> {
        for (count, fact) in self.after(after).enumerate() {
            for to in self.open(fact) {
                let (rule, category) = self.decisions.names(to.decision).unzip();
                look(&Waiting {
                    domain: self.domains.name(to.domain),
                    state: to.state,
                    arrived: Timestamp::from_second(fact.arrived_unix_s.into())
                        .unwrap_or(Timestamp::MAX),
                    rule,
                    category,
                });
            }
            if count + 1 >= LOOKED_AT {
                return Some(fact.id);
            }
        }
        None
    }

    /// The selection as it is to be held against these facts.
    pub(crate) fn sieve(&self, select: &Select) -> Sieve {
        let domain = |name: &str| self.domains.find(&name.to_ascii_lowercase());
        let named = (&select.rule, &select.category);
        Sieve {
            id: select.id,
            domains: (select.to.as_ref()).map(|to| domain(to).into_iter().collect()),
            ways: (select.ways.as_ref())
                .map(|domains| domains.iter().filter_map(|to| domain(to)).collect()),
            // What is no address is left to whoever reads the candidates.
            address: parsed(&select.recipient, Mailbox::parse)
                .map(|m| address_hash(&Address::of(&m))),
            sender: parsed(&select.sender, ReversePath::parse).map(|p| sender_hash(&p)),
            user: select.user.as_deref().map(user_hash),
            decisions: (named != (&None, &None)).then(|| self.decisions.which(named.0, named.1)),
            before_unix_s: select.before.map(unix_s),
            due_unix_s: select.due.map(unix_s),
        }
    }

    fn open<'a>(&'a self, fact: &'a Fact) -> &'a [To] {
        let many = match fact.recipients {
            Recipients::One => None,
            Recipients::Many | Recipients::Elsewhere => self.many.get(&fact.id),
        };
        many.map_or(std::slice::from_ref(&fact.to), |open| open)
    }

    fn find(&self, id: QueueId) -> Option<&Fact> {
        let (_, run) = self.runs.range(..=id).next_back()?;
        let place = run.binary_search_by_key(&id, |fact| fact.id).ok()?;
        run.get(place)
    }

    fn after(&self, after: Option<QueueId>) -> impl Iterator<Item = &Fact> {
        let first = after.and_then(|id| self.runs.range(..=id).next_back());
        let from = first.map_or(Bound::Unbounded, |(&key, _)| Bound::Included(key));
        let runs = self.runs.range((from, Bound::Unbounded));
        let facts = runs.flat_map(|(_, run)| run);
        facts.skip_while(move |fact| after.is_some_and(|after| fact.id <= after))
    }

    fn insert(&mut self, fact: Fact) {
        let Some((_, run)) = self.runs.range_mut(..=fact.id).next_back() else {
            self.runs.insert(fact.id, vec![fact]);
            return;
        };
        let place = run.partition_point(|other| other.id < fact.id);
        if run.len() < RUN {
            run.insert(place, fact);
            return;
        }
        // At the end, the usual case, the full run stays full.
        let mut behind = run.split_off(if place == RUN { RUN } else { RUN / 2 });
        match place.checked_sub(run.len()) {
            Some(place) => behind.insert(place, fact),
            None => run.insert(place, fact),
        }
        run.shrink_to_fit();
        if let Some(first) = behind.first() {
            self.runs.insert(first.id, behind);
        }
    }
}

impl Sieve {
    /// Parts about recipients must hold for one of them together, as in [`Select::matches`].
    fn lets_through(&self, fact: &Fact, open: &[To]) -> bool {
        self.sender.is_none_or(|sender| sender == fact.sender)
            && self.user.is_none_or(|user| user == fact.user)
            && self
                .before_unix_s
                .is_none_or(|at| fact.arrived_unix_s <= at)
            && (self.ways.as_ref()).is_none_or(|domains| {
                fact.recipients == Recipients::Elsewhere
                    || open.iter().any(|to| domains.contains(&to.domain))
            })
            && open.iter().any(|to| self.lets_recipient_through(to))
    }

    fn lets_recipient_through(&self, to: &To) -> bool {
        let domain = |domains: &HashSet<_>| domains.contains(&to.domain);
        let decision = |meant: &HashSet<u16>| meant.contains(&to.decision);
        self.domains.as_ref().is_none_or(domain)
            && self.address.is_none_or(|address| address == to.address)
            && self.decisions.as_ref().is_none_or(decision)
            && self
                .due_unix_s
                .is_none_or(|at| to.due_unix_s <= at && to.state != State::Held)
    }
}

impl Decisions {
    fn number(&mut self, last: Option<(&str, &str)>) -> u16 {
        let Some((rule, category)) = last else {
            return NONE;
        };
        let known = self.numbers.get(rule).and_then(|of| of.get(category));
        if let Some(&number) = known {
            return number;
        }
        let next = u16::try_from(self.names.len() + 1).unwrap_or(SOME);
        if next != SOME {
            let (rule, category): (Arc<str>, Arc<str>) = (rule.into(), category.into());
            let of_rule = self.numbers.entry(rule.clone()).or_default();
            of_rule.insert(category.clone(), next);
            self.names.push((rule, category));
        }
        next
    }

    fn names(&self, number: u16) -> Option<(&str, &str)> {
        let place = usize::from(number).checked_sub(1)?;
        self.names
            .get(place)
            .map(|(rule, category)| (&**rule, &**category))
    }

    /// The numbers of all that may have been decided by this rule, in this category.
    fn which(&self, rule: &Option<String>, category: &Option<String>) -> HashSet<u16> {
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|w| w == name);
        let numbered = (1..).zip(&self.names);
        let meant = numbered.filter(|(_, (r, c))| is(rule, r) && is(category, c));
        meant.map(|(number, _)| number).chain([SOME]).collect()
    }
}

fn parsed<T, E>(text: &Option<String>, parse: fn(&str) -> Result<T, E>) -> Option<T> {
    text.as_deref().and_then(|text| parse(text).ok())
}

/// Domains are kept in lower case.
fn address_hash(address: &Address<'_>) -> u32 {
    hash(address)
}

fn sender_hash(path: &ReversePath) -> u32 {
    let address = path.mailbox().map(Address::of);
    address.as_ref().map_or(0, address_hash)
}

fn user_hash(user: &str) -> u16 {
    // 0 is nobody.
    (hash(&user) as u16).max(1)
}

fn hash(of: &impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relay_smtp::{BodyType, Domain, Envelope, Recipient};

    use super::*;
    use crate::message::{Arrival, Message};
    use crate::settle::fresh;

    fn message(number: u64, domain: &str) -> Message {
        let host = Host::Domain(Domain::parse(domain).unwrap());
        let to = Mailbox::new(format!("r{number}"), host);
        let envelope = Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![Recipient::plain(to)],
            body_type: BodyType::SevenBit,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        };
        let arrival = Arrival {
            at: Timestamp::from_second(number as i64).unwrap(),
            client: None,
            user: None,
            dsn_of: None,
        };
        fresh(QueueId::from_u64(number), envelope, arrival, 1)
    }

    fn put(facts: &mut Facts, message: &Message, segment: u32) {
        facts.put(&Brief::of(message), segment);
    }

    fn found(facts: &Facts, select: &Select) -> Vec<u64> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let Candidates { ids, upto } = facts.candidates(&facts.sieve(select), after);
            found.extend(ids.into_iter().map(QueueId::to_u64));
            match upto {
                Some(upto) => after = Some(upto),
                None => return found,
            }
        }
    }

    #[test]
    fn a_message_with_one_recipient_takes_40_bytes() {
        assert_eq!(size_of::<Fact>(), 40);
    }

    #[test]
    fn messages_that_come_in_order_leave_no_room_between_them() {
        let mut facts = Facts::default();
        (0..1000).for_each(|n| put(&mut facts, &message(n, "a.test"), 1));
        let lengths: Vec<usize> = facts.runs.values().map(Vec::len).collect();
        assert_eq!(lengths, [RUN, RUN, RUN, 1000 - 3 * RUN]);
    }

    #[test]
    fn a_domain_that_nobody_is_in_any_more_selects_nothing() {
        let mut facts = Facts::default();
        put(&mut facts, &message(1, "a.test"), 1);
        put(&mut facts, &message(2, "b.test"), 1);
        let to = |domain: &str| Select {
            to: Some(domain.to_owned()),
            ..Select::default()
        };
        assert_eq!(found(&facts, &to("A.test")), [1]);
        assert_eq!(facts.remove(QueueId::from_u64(1)), Some(1));
        // Its number goes to the next one.
        put(&mut facts, &message(3, "c.test"), 1);
        assert_eq!(found(&facts, &to("a.test")), [] as [u64; 0]);
        assert_eq!(found(&facts, &to("c.test")), [3]);
    }

    proptest! {
        #[test]
        fn what_was_put_in_and_not_taken_out_is_found_in_order(
            steps in prop::collection::vec((any::<bool>(), 0..2000u64), 0..2000),
            from in 0..2000u64,
        ) {
            let mut facts = Facts::default();
            let mut model = std::collections::BTreeSet::new();
            // Full runs, so that they are split.
            for n in (0..2000).step_by(3) {
                put(&mut facts, &message(n, "a.test"), 1);
                model.insert(n);
            }
            for (add, n) in steps {
                if add {
                    put(&mut facts, &message(n, "a.test"), 1);
                    model.insert(n);
                } else {
                    let id = QueueId::from_u64(n);
                    prop_assert_eq!(facts.remove(id).is_some(), model.remove(&n));
                }
                prop_assert_eq!(facts.contains(QueueId::from_u64(n)), add);
            }
            let behind = facts.after(Some(QueueId::from_u64(from))).map(|fact| fact.id.to_u64());
            prop_assert!(behind.eq(model.range(from + 1..).copied()));
            let all = found(&facts, &Select::default());
            prop_assert!(all.into_iter().eq(model.iter().copied()));
        }
    }
}
