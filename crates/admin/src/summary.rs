//! Who is stuck, since when: the whole queue counted by recipient domain and age.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use relay_queue::{Message, State, StoreError, Waiting};

use crate::choice::Choice;
use crate::error::ApiError;
use crate::select::Selection;
use crate::view::{AgeBucket, SummaryRow, SummaryView};
use crate::world::AdminWorld;

/// Upper bounds of the age buckets, in seconds: 5 and 20 minutes, 1, 4 and 12 hours, 1 and 2 days.
pub const AGES: [u64; 7] = [300, 1_200, 3_600, 14_400, 43_200, 86_400, 172_800];

/// Counts the queue. `limit`: domains listed; the total counts all.
pub async fn summary(
    world: &AdminWorld,
    selection: &Selection,
    limit: usize,
) -> Result<SummaryView, ApiError> {
    let mut count = Count::at(world.clock.now());
    if selection.is_everything() {
        survey(world, &mut count).await?;
    } else {
        let mut choice = Choice::of(world, selection)?;
        let look = |choice: &Choice, message: &Message| count.message(message, choice);
        choice.for_each(world, look).await?;
    }
    Ok(count.into_view(limit))
}

/// The whole queue, from memory.
async fn survey(world: &AdminWorld, count: &mut Count) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        after = world
            .store
            .survey(after, &mut |waiting| count.add(waiting))?;
        if after.is_none() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

struct Count {
    now: Timestamp,
    tallies: HashMap<String, Tally>,
    total: Tally,
}

impl Count {
    fn at(now: Timestamp) -> Count {
        Count {
            now,
            tallies: HashMap::new(),
            total: Tally::default(),
        }
    }

    fn message(&mut self, message: &Message, choice: &Choice) {
        for one @ (_, recipient, state) in message.each() {
            if choice.matches_recipient(message, one) {
                let last = state.last();
                self.add(&Waiting {
                    domain: &recipient.mailbox.host().to_string(),
                    state: state.state,
                    arrived: message.arrival.at,
                    rule: last.map(|attempt| attempt.rule.as_str()),
                    category: last.map(|attempt| attempt.category.as_str()),
                });
            }
        }
    }

    fn add(&mut self, waiting: &Waiting<'_>) {
        let age = self.now.duration_since(waiting.arrived).as_secs();
        let age = u64::try_from(age).unwrap_or(0);
        if !self.tallies.contains_key(waiting.domain) {
            let domain = waiting.domain.to_owned();
            self.tallies.insert(domain, Tally::default());
        }
        if let Some(tally) = self.tallies.get_mut(waiting.domain) {
            tally.add(waiting.state, age, waiting.rule);
        }
        self.total.add(waiting.state, age, waiting.rule);
    }

    fn into_view(self, limit: usize) -> SummaryView {
        let mut domains: Vec<SummaryRow> = self
            .tallies
            .into_iter()
            .map(|(domain, tally)| tally.into_row(domain))
            .collect();
        domains.sort_by(|a, b| (b.recipients, &a.domain).cmp(&(a.recipients, &b.domain)));
        domains.truncate(limit);
        SummaryView {
            domains,
            total: self.total.into_row("*".to_owned()),
        }
    }
}

#[derive(Default)]
struct Tally {
    recipients: u64,
    deferred: u64,
    held: u64,
    oldest: u64,
    ages: [u64; AGES.len() + 1],
    /// Few per domain: the table has some hundred rules at most.
    rules: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, state: State, age: u64, rule: Option<&str>) {
        self.recipients += 1;
        match state {
            State::Deferred => self.deferred += 1,
            State::Held => self.held += 1,
            State::Queued | State::Delivered | State::Bounced | State::Discarded => {}
        }
        self.oldest = self.oldest.max(age);
        let bucket = AGES.iter().position(|&bound| age < bound);
        if let Some(count) = self.ages.get_mut(bucket.unwrap_or(AGES.len())) {
            *count += 1;
        }
        if let Some(rule) = rule {
            match self.rules.get_mut(rule) {
                Some(count) => *count += 1,
                None => {
                    self.rules.insert(rule.to_owned(), 1);
                }
            }
        }
    }

    fn into_row(self, domain: String) -> SummaryRow {
        let bounds = AGES.into_iter().map(Some).chain([None]);
        SummaryRow {
            domain,
            recipients: self.recipients,
            deferred: self.deferred,
            held: self.held,
            oldest: self.oldest,
            ages: bounds
                .zip(self.ages)
                .map(|(younger_than, recipients)| AgeBucket {
                    younger_than,
                    recipients,
                })
                .collect(),
            rule: self
                .rules
                .into_iter()
                .max_by_key(|(_, count)| *count)
                .map(|(rule, _)| rule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_age_falls_into_one_bucket_and_the_commonest_rule_is_named() {
        let mut tally = Tally::default();
        for (age, rule) in [
            (0, Some("a")),
            (299, Some("b")),
            (300, Some("b")),
            (172_800, None),
        ] {
            tally.add(State::Deferred, age, rule);
        }
        let row = tally.into_row("example.com".to_owned());
        let counts: Vec<u64> = row.ages.iter().map(|bucket| bucket.recipients).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(row.ages[0].younger_than, Some(300));
        assert_eq!(row.ages[7].younger_than, None);
        assert_eq!(row.rule.as_deref(), Some("b"));
        assert_eq!((row.recipients, row.deferred, row.oldest), (4, 4, 172_800));
    }
}
