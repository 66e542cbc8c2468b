//! Decides recorded replies again with another table and counts what would be different. Reads no
//! file and asks nobody.

use std::collections::{BTreeMap, HashSet};

use relay_observe::history::Entry;
use relay_policy::{Action, Context, Decision, Fate, Stimulus, Table, TlsInUse, decide};
use relay_smtp::{Domain, Failure, Phase, QueueId};

/// Examples of each change.
const EXAMPLES: usize = 3;

/// What a candidate would change, as far as the history has been read.
#[derive(Debug, Default)]
pub struct Comparison {
    changes: BTreeMap<Change, Found>,
    /// Decisions of the policy.
    pub looked_at: u64,
    /// Those that hold too little to be decided again.
    pub undecidable: u64,
}

/// One way in which decisions differ. Harm sorts first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub harm: Harm,
    pub before: Side,
    pub after: Side,
}

/// What a decision says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    pub rule: String,
    pub category: String,
    pub action: String,
}

/// Whether a recipient loses by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Its address would be suppressed and was not.
    Suppressed,
    /// It would be bounced and was not.
    Bounced,
    None,
}

/// How often, of which messages, and some of them.
#[derive(Debug, Default)]
pub struct Found {
    pub replies: u64,
    pub messages: HashSet<QueueId>,
    pub examples: Vec<Entry>,
}

impl Comparison {
    /// Adds an entry; what is no decision of the policy is passed over.
    pub fn add(&mut self, entry: &Entry, candidate: &Table) {
        // An operator's act is no rule's, and what many replies led to is not in one of them.
        let of_no_table = entry
            .rule
            .as_deref()
            .is_some_and(|rule| rule == "operator" || relay_policy::scope::rule(rule).is_some());
        if !entry.is_decision() || of_no_table {
            return;
        }
        self.looked_at += 1;
        let (Some(before), Some(decision)) = (recorded(entry), decide_again(entry, candidate))
        else {
            self.undecidable += 1;
            return;
        };
        let after = Side {
            rule: decision.rule.name.clone(),
            category: decision.category.to_string(),
            action: decision.action.to_string(),
        };
        if before == after {
            return;
        }
        let change = Change {
            harm: harm(entry, &before, &decision),
            before,
            after,
        };
        let found = self.changes.entry(change).or_default();
        found.replies += 1;
        found.messages.extend(entry.id);
        if found.examples.len() < EXAMPLES {
            found.examples.push(entry.clone());
        }
    }

    /// The harmful ones first, then those that concern most.
    pub fn changes(&self) -> Vec<(&Change, &Found)> {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by_key(|(change, found)| (change.harm, std::cmp::Reverse(found.replies)));
        changes
    }

    /// Decisions that would differ.
    pub fn changed(&self) -> u64 {
        self.changes.values().map(|found| found.replies).sum()
    }

    pub fn is_harmful(&self) -> bool {
        self.changes.keys().any(|change| change.harm != Harm::None)
    }
}

fn recorded(entry: &Entry) -> Option<Side> {
    Some(Side {
        rule: entry.rule.clone()?,
        category: entry.category.clone()?,
        action: entry.action.clone()?,
    })
}

/// With what was said then, in the place where it was said.
fn decide_again(entry: &Entry, table: &Table) -> Option<Decision> {
    let phase = entry.phase?;
    let mx = entry.host.as_deref();
    let mx = mx.map(|host| host.split(" [").next().unwrap_or(host));
    let domain = Domain::parse(entry.domain()?).ok();
    let domain = domain.map(|domain| domain.to_ascii());
    // A relay refused before it heard of the recipient: the domain had no part in it.
    let to_relay = entry
        .site
        .as_deref()
        .is_some_and(|site| site.starts_with("relay:"));
    let domain = domain.filter(|_| !to_relay || phase >= Phase::Mail);
    let context = Context {
        mx,
        domain: domain.as_deref(),
        accepted_before: entry.accepted_before,
        tls: match entry.tls {
            Some(_) => TlsInUse::Yes,
            None => TlsInUse::No,
        },
        // What a text says of a point in time was said then.
        now: Some(entry.at),
        ..Context::of(phase)
    };
    if let Some(failure) = entry.failure {
        // A message's age has no phase of its own; it is decided as relayd does.
        let of_age = Context {
            domain: domain.as_deref(),
            ..Context::of(Phase::Rcpt)
        };
        let context = match failure == Failure::Expired {
            true => of_age,
            false => context,
        };
        return Some(decide(table, Stimulus::Failure(failure), &context));
    }
    Some(decide(table, Stimulus::Reply(&entry.said()?), &context))
}

fn harm(entry: &Entry, before: &Side, after: &Decision) -> Harm {
    let suppresses = Action::BounceSuppress;
    if after.action == suppresses && before.action != suppresses.word() {
        return Harm::Suppressed;
    }
    if after.fate == Fate::Bounced && entry.event != "recipient_bounced" {
        return Harm::Bounced;
    }
    Harm::None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "
[[rule]]
name = \"my-greylisting\"
text = 'Greylisted'
category = \"greylisted\"
action = \"defer\"
example = [\"450 4.7.1 Greylisted, come back\"]

[[rule]]
name = \"strict-full\"
text = 'mailbox is full'
category = \"mailbox-full\"
action = \"bounce_suppress\"
example = [\"452 4.2.2 mailbox is full\"]
";

    /// A decision as the default table makes it, written down and read back.
    fn entry(event: &str, id: u64, text: &str) -> Entry {
        let reply = relay_policy::parse_pasted(text).unwrap();
        let table = Table::default_table();
        let decision = decide(
            &table,
            Stimulus::Reply(&reply),
            &Context {
                domain: Some("rcpt.example"),
                mx: Some("mx.rcpt.example"),
                ..Context::of(Phase::Rcpt)
            },
        );
        Entry {
            event: event.to_owned(),
            id: Some(QueueId::from_u64(id)),
            recipient: Some("a@rcpt.example".to_owned()),
            host: Some("mx.rcpt.example [192.0.2.7]".to_owned()),
            phase: Some(Phase::Rcpt),
            code: Some(reply.code),
            enhanced: reply.enhanced.map(|enhanced| enhanced.to_string()),
            reply: Some(reply.to_string()),
            rule: Some(decision.rule.name.clone()),
            category: Some(decision.category.to_string()),
            action: Some(decision.action.to_string()),
            ..Entry::default()
        }
    }

    fn compare(entries: &[Entry], candidate: &Table) -> Comparison {
        let mut comparison = Comparison::default();
        entries
            .iter()
            .for_each(|entry| comparison.add(entry, candidate));
        comparison
    }

    #[test]
    fn the_same_table_changes_nothing() {
        let entries = [
            entry(
                "recipient_deferred",
                1,
                "450 4.7.1 Greylisted, come back in 30 seconds",
            ),
            entry("recipient_delivered", 2, "250 2.0.0 ok"),
            entry("recipient_bounced", 3, "550 5.1.1 no such user"),
        ];
        let same = compare(&entries, &Table::default_table());
        assert_eq!(
            (same.looked_at, same.changed(), same.undecidable),
            (3, 0, 0)
        );
        assert!(!same.is_harmful());
    }

    #[test]
    fn what_would_be_decided_otherwise_is_counted_by_rule_and_harm_comes_first() {
        let files = [("new.toml".to_owned(), NEW.to_owned())];
        let candidate = Table::with_files(&files).unwrap();
        let greylisted = "450 4.7.1 Greylisted, come back in 30 seconds";
        let mut operator = entry("recipient_bounced", 5, greylisted);
        operator.rule = Some("operator".to_owned());
        let mut without = entry("recipient_deferred", 6, greylisted);
        without.code = None;
        let found = compare(
            &[
                entry("recipient_deferred", 1, greylisted),
                entry("recipient_deferred", 1, greylisted),
                entry("recipient_deferred", 2, greylisted),
                entry("recipient_deferred", 3, "452 4.2.2 mailbox is full"),
                entry("recipient_delivered", 4, "250 2.0.0 ok"),
                operator,
                without,
            ],
            &candidate,
        );
        assert_eq!(
            (found.looked_at, found.changed(), found.undecidable),
            (6, 4, 1)
        );
        let changes = found.changes();
        let [(suppressed, _), (greylisting, counts)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!(suppressed.harm, Harm::Suppressed);
        assert_eq!(suppressed.after.rule, "strict-full");
        assert_eq!(greylisting.harm, Harm::None);
        assert_eq!(greylisting.before.action, "wait_hint");
        assert_eq!(greylisting.after.rule, "my-greylisting");
        assert_eq!((counts.replies, counts.messages.len()), (3, 2));
        assert!(found.is_harmful());
    }

    #[test]
    fn failures_are_decided_again_too() {
        let mut refused = entry("recipient_deferred", 1, "450 x");
        let decision = decide(
            &Table::default_table(),
            Stimulus::Failure(Failure::Refused),
            &Context::of(Phase::Connect),
        );
        refused.phase = Some(Phase::Connect);
        refused.failure = Some(Failure::Refused);
        refused.rule = Some(decision.rule.name.clone());
        refused.category = Some(decision.category.to_string());
        refused.action = Some(decision.action.to_string());
        let found = compare(&[refused], &Table::default_table());
        assert_eq!(
            (found.looked_at, found.changed(), found.undecidable),
            (1, 0, 0)
        );
    }
}
