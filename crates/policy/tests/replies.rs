//! The default table held against replies that were collected from public sources: how many lead where they should.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::HashSet;

use relay_policy::{Action, Context, Decision, Stimulus, Table, decide, parse_pasted};

/// Columns: id, provider, phase, category, action, reply; lines of a reply are parted by ` / `. Collected from public lists of
/// SMTP replies, test data of bounce parsers, the rules of open mail servers and the help pages of providers; labelled by hand or by
/// their sources' own classes.
const REPLIES: &str = include_str!("data/replies.tsv");
/// Rows whose label contradicts another row or the text itself, with the reason. They count as wrong all the same where the
/// figures are taken over all rows.
const DISPUTED: &str = include_str!("data/disputed.tsv");

struct Row {
    id: &'static str,
    category: &'static str,
    action: &'static str,
    made: Decision,
}

impl Row {
    fn is_right(&self) -> (bool, bool) {
        (
            self.made.category.word() == self.category,
            self.made.action.word() == self.action,
        )
    }
}

#[derive(Clone, Copy)]
enum Providers {
    Given,
    Left,
}

fn rows(table: &Table, providers: Providers) -> Vec<Row> {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [id, provider, phase, category, action, text] = cells[..] else {
            panic!("six cells: {line}");
        };
        let context = Context {
            provider: match providers {
                Providers::Given => Some(provider).filter(|name| table.knows_provider(name)),
                Providers::Left => None,
            },
            ..Context::of(phase.parse().unwrap())
        };
        let reply = parse_pasted(text).unwrap();
        Row {
            id,
            category,
            action,
            made: decide(table, Stimulus::Reply(&reply), &context),
        }
    };
    REPLIES.lines().skip(1).map(row).collect()
}

/// Of a thousand, how many have the right category, and how many the right action.
fn right_of_1000(rows: &[&Row]) -> (usize, usize) {
    let category = rows.iter().filter(|row| row.is_right().0).count();
    let action = rows.iter().filter(|row| row.is_right().1).count();
    (category * 1000 / rows.len(), action * 1000 / rows.len())
}

#[test]
fn ninety_five_of_100_categories_and_96_of_100_actions_are_right_with_and_without_the_provider() {
    let table = Table::default_table();
    for providers in [Providers::Given, Providers::Left] {
        let rows = rows(&table, providers);
        let all: Vec<&Row> = rows.iter().collect();
        let (category, action) = right_of_1000(&all);
        assert!(category >= 950 && action >= 960, "{category} {action}");
    }
}

#[test]
fn no_address_is_suppressed_where_the_label_says_that_it_is_not_at_fault() {
    let table = Table::default_table();
    for providers in [Providers::Given, Providers::Left] {
        for row in rows(&table, providers) {
            if row.made.action == Action::BounceSuppress {
                assert_eq!(
                    row.action, "bounce_suppress",
                    "{} {}",
                    row.id, row.made.rule.name
                );
            }
        }
    }
}

#[test]
fn disputed_labels_are_few_and_each_is_one_the_table_does_not_follow() {
    let table = Table::default_table();
    let rows = rows(&table, Providers::Given);
    let disputed: HashSet<&str> = DISPUTED
        .lines()
        .skip(1)
        .map(|line| {
            let (id, reason) = line.split_once('\t').unwrap();
            assert!(reason.len() > 20, "{id} has no reason");
            id
        })
        .collect();
    assert!(disputed.len() * 100 <= rows.len() * 3);
    for id in &disputed {
        let row = rows.iter().find(|row| row.id == *id).unwrap();
        assert_ne!(
            row.is_right(),
            (true, true),
            "{id} is decided as its label says; take it off the list"
        );
    }
    let others: Vec<&Row> = rows
        .iter()
        .filter(|row| !disputed.contains(row.id))
        .collect();
    let (category, action) = right_of_1000(&others);
    assert!(category >= 975 && action >= 985, "{category} {action}");
}
