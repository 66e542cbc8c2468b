//! The list: all entries in memory, each change on disk before it counts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use relay_observe::{Event, Events};
use relay_smtp::Mailbox;

use crate::entry::{Entry, Filter, Key, Source};
use crate::log::{Log, Record, Trouble};
use crate::{Later, Suppressions};

/// The file is written anew when it has this many more records than there are entries twice over: a
/// small list is not worth it, and a large one is then written once for each of its own lengths.
const OVERTAKEN_SPARE: usize = 1000;

/// The suppression list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct List(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entries: RwLock<BTreeMap<Key, Arc<Entry>>>,
    /// Held while something is changed. None: nothing outlives the process.
    log: Mutex<Option<Log>>,
    events: Events,
}

impl List {
    /// Opens the list in `state_dir/suppression`, or makes an empty one. Blocks.
    pub fn open(state_dir: &Path, events: Events, now: Timestamp) -> Result<List, Trouble> {
        let opened = Log::open(&state_dir.join("suppression"), &events)?;
        let mut entries = BTreeMap::new();
        for record in opened.records {
            match record {
                Record::Add(entry) => {
                    entries.insert(Key::of(&entry.address), Arc::new(entry));
                }
                Record::Remove(address) => {
                    if let Ok(mailbox) = Mailbox::parse(&address) {
                        entries.remove(&Key::of(&mailbox));
                    }
                }
            }
        }
        entries.retain(|_, entry| entry.holds(now));
        let mut log = opened.log;
        if opened.damaged > 0 || is_worth_it(&log, entries.len()) {
            log.rewrite(entries.values().map(Arc::as_ref))?;
        }
        Ok(List::with(entries, Some(log), events))
    }

    /// For tests and simulations: nothing is written.
    pub fn in_memory(events: Events) -> List {
        List::with(BTreeMap::new(), None, events)
    }

    fn with(entries: BTreeMap<Key, Arc<Entry>>, log: Option<Log>, events: Events) -> List {
        List(Arc::new(Inner {
            entries: RwLock::new(entries),
            log: Mutex::new(log),
            events,
        }))
    }

    /// Carries a change out off the async threads: it waits for the disk.
    fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Inner) -> Result<T, Trouble> + Send + 'static,
    ) -> Later<'_, Result<T, Trouble>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || change(&inner)).await;
            done.unwrap_or_else(|error| Err(Trouble::BrokenOff(error.to_string())))
        })
    }
}

impl Suppressions for List {
    fn find(&self, mailbox: &Mailbox, now: Timestamp) -> Option<Arc<Entry>> {
        let entries = self.0.entries.read();
        let entries = entries.unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&Key::of(mailbox))?;
        entry.holds(now).then(|| Arc::clone(entry))
    }

    fn add(&self, entries: Vec<Entry>) -> Later<'_, Result<u64, Trouble>> {
        self.change(move |inner| inner.add(entries))
    }

    fn remove(&self, mailboxes: Vec<Mailbox>) -> Later<'_, Result<u64, Trouble>> {
        self.change(move |inner| inner.remove(&mailboxes))
    }

    fn page(
        &self,
        filter: &Filter,
        after: Option<&Mailbox>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Arc<Entry>> {
        let domain = filter.domain_key();
        let start = match (after.map(Key::of), &domain) {
            (Some(key), _) => Bound::Excluded(key),
            (None, Some(domain)) => Bound::Included(Key::first_of(domain)),
            (None, None) => Bound::Unbounded,
        };
        let entries = self.0.entries.read();
        let entries = entries.unwrap_or_else(PoisonError::into_inner);
        entries
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| domain.as_ref().is_none_or(|domain| key.is_of(domain)))
            .filter(|(key, entry)| entry.holds(now) && filter.takes(key, entry, now))
            .take(limit)
            .map(|(_, entry)| Arc::clone(entry))
            .collect()
    }
}

impl Inner {
    fn add(&self, entries: Vec<Entry>) -> Result<u64, Trouble> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<Entry> = entries
            .into_iter()
            .filter(|entry| !self.a_person_said_otherwise(entry))
            .collect();
        if wanted.is_empty() {
            return Ok(0);
        }
        if let Some(log) = log.as_mut() {
            let records: Vec<Record> = wanted.iter().cloned().map(Record::Add).collect();
            log.append(&records)?;
        }
        let mut added = 0;
        {
            let mut known = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            for entry in wanted {
                self.events.emit(Event::SuppressionAdded {
                    recipient: entry.address.to_string(),
                    source: entry.source.word(),
                    rule: entry.rule.clone(),
                    category: entry.category.clone(),
                    expires: entry.expires,
                });
                let before = known.insert(Key::of(&entry.address), Arc::new(entry));
                added += u64::from(before.is_none());
            }
        }
        self.shorten(log.as_mut());
        Ok(added)
    }

    /// What a reply says neither shortens nor lengthens what an operator has decided.
    fn a_person_said_otherwise(&self, entry: &Entry) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let known = entries.get(&Key::of(&entry.address));
        match (entry.source, known.map(|known| known.source)) {
            (Source::Policy | Source::Report, Some(Source::Operator | Source::Import)) => {
                known.is_some_and(|known| known.holds(entry.added))
            }
            // A complaint is a person's word, too: a later refusal does not shorten it.
            (Source::Policy, Some(Source::Report)) => {
                known.is_some_and(|known| known.holds(entry.added))
            }
            (Source::Policy, Some(Source::Policy) | None)
            | (Source::Report, Some(Source::Policy | Source::Report) | None)
            | (Source::Operator | Source::Import, _) => false,
        }
    }

    fn remove(&self, mailboxes: &[Mailbox]) -> Result<u64, Trouble> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<&Mailbox> = {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            let is_there = |mailbox: &&Mailbox| entries.contains_key(&Key::of(mailbox));
            mailboxes.iter().filter(is_there).collect()
        };
        if known.is_empty() {
            return Ok(0);
        }
        if let Some(log) = log.as_mut() {
            let records: Vec<Record> = known.iter().map(|known| Record::removal(known)).collect();
            log.append(&records)?;
        }
        {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            for mailbox in &known {
                entries.remove(&Key::of(mailbox));
                self.events.emit(Event::SuppressionRemoved {
                    recipient: mailbox.to_string(),
                });
            }
        }
        self.shorten(log.as_mut());
        Ok(known.len() as u64)
    }

    /// A file that cannot be made shorter now is still right: it is tried again at the next change.
    fn shorten(&self, log: Option<&mut Log>) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = log
            && is_worth_it(log, entries.len())
        {
            let _ = log.rewrite(entries.values().map(Arc::as_ref));
        }
    }
}

fn is_worth_it(log: &Log, entries: usize) -> bool {
    log.records > 2 * entries + OVERTAKEN_SPARE
}

#[cfg(test)]
mod tests {
    use std::fs;

    use relay_observe::metric::Metric;

    use super::*;
    use crate::entry::tests::{at, entry};

    const NOW: &str = "2026-11-22T13:00:00Z";

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn open(dir: &Path) -> List {
        List::open(dir, Events::default(), at(NOW)).unwrap()
    }

    fn addresses(list: &List, filter: &Filter) -> Vec<String> {
        let page = list.page(filter, None, 100, at(NOW));
        page.iter().map(|entry| entry.address.to_string()).collect()
    }

    #[tokio::test]
    async fn what_was_added_and_removed_is_found_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let list = open(dir.path());
        let entries = vec![
            entry("a@x.example"),
            entry("B@X.example"),
            entry("c@y.example"),
        ];
        assert_eq!(list.add(entries).await.unwrap(), 3);
        assert_eq!(list.add(vec![entry("a@X.EXAMPLE")]).await.unwrap(), 0);
        let gone = vec![mailbox("c@Y.example"), mailbox("nobody@y.example")];
        assert_eq!(list.remove(gone).await.unwrap(), 1);
        drop(list);
        let list = open(dir.path());
        assert!(list.find(&mailbox("a@x.example"), at(NOW)).is_some());
        assert!(
            list.find(&mailbox("b@x.example"), at(NOW)).is_none(),
            "B is not b"
        );
        assert_eq!(
            addresses(&list, &Filter::default()),
            ["B@x.example", "a@x.example"]
        );
    }

    #[tokio::test]
    async fn an_entry_ends_with_its_time_and_a_file_of_overtaken_lines_is_made_short() {
        let dir = tempfile::tempdir().unwrap();
        let list = open(dir.path());
        list.add(vec![entry("a@x.example")]).await.unwrap();
        assert!(
            list.find(&mailbox("a@x.example"), at("2027-03-01T00:00:00Z"))
                .is_none()
        );
        for _ in 0..1100 {
            list.add(vec![entry("b@x.example")]).await.unwrap();
        }
        let lines = fs::read_to_string(dir.path().join("suppression/list")).unwrap();
        assert!(
            lines.lines().count() < 200,
            "{} lines",
            lines.lines().count()
        );
        drop(list);
        assert_eq!(addresses(&open(dir.path()), &Filter::default()).len(), 2);
    }

    #[tokio::test]
    async fn damaged_lines_are_set_aside_and_told_and_the_rest_holds() {
        let dir = tempfile::tempdir().unwrap();
        let list = open(dir.path());
        list.add(vec![
            entry("a@x.example"),
            entry("b@x.example"),
            entry("c@x.example"),
        ])
        .await
        .unwrap();
        drop(list);
        let path = dir.path().join("suppression/list");
        let text = fs::read_to_string(&path).unwrap();
        let cut = text.len() - 9;
        fs::write(&path, &text.replace("\"b@x", "\"q@x")[..cut]).unwrap();
        let events = Events::default();
        let list = List::open(dir.path(), events.clone(), at(NOW)).unwrap();
        assert_eq!(addresses(&list, &Filter::default()), ["a@x.example"]);
        assert_eq!(events.metrics().get(Metric::RecordsQuarantined), 2);
        let damaged = fs::read_to_string(dir.path().join("suppression/damaged")).unwrap();
        assert!(damaged.contains("q@x.example") && damaged.lines().count() == 2);
        list.add(vec![entry("d@x.example")]).await.unwrap();
        drop(list);
        let events = Events::default();
        let list = List::open(dir.path(), events.clone(), at(NOW)).unwrap();
        assert_eq!(addresses(&list, &Filter::default()).len(), 2);
        assert_eq!(
            events.metrics().get(Metric::RecordsQuarantined),
            0,
            "told once"
        );
    }

    #[tokio::test]
    async fn a_file_of_a_later_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let path = dir.path().join("suppression/list");
        fs::write(&path, "relayd-suppression 2\nwhatever\n").unwrap();
        let refused = List::open(dir.path(), Events::default(), at(NOW)).unwrap_err();
        assert!(refused.to_string().contains("later version"), "{refused}");
        assert!(fs::read_to_string(&path).unwrap().contains("whatever"));
    }

    #[tokio::test]
    async fn a_reply_does_not_change_what_an_operator_said() {
        let list = List::in_memory(Events::default());
        let by_operator = Entry {
            source: Source::Operator,
            expires: None,
            ..entry("a@x.example")
        };
        list.add(vec![by_operator.clone()]).await.unwrap();
        list.add(vec![entry("a@x.example")]).await.unwrap();
        let found = list.find(&mailbox("a@x.example"), at(NOW)).unwrap();
        assert_eq!(*found, by_operator);
    }

    #[tokio::test]
    async fn a_page_goes_on_after_an_address_and_keeps_to_its_domain() {
        let list = List::in_memory(Events::default());
        let entries = ["b@m.example", "a@m.example", "z@a.example", "c@z.example"].map(entry);
        list.add(entries.to_vec()).await.unwrap();
        let filter = Filter {
            domain: Some("m.example".to_owned()),
            ..Filter::default()
        };
        assert_eq!(addresses(&list, &filter), ["a@m.example", "b@m.example"]);
        let rest = list.page(&filter, Some(&mailbox("a@m.example")), 10, at(NOW));
        assert_eq!(rest.len(), 1);
        assert_eq!(list.page(&Filter::default(), None, 2, at(NOW)).len(), 2);
    }
}
