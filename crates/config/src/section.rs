//! One table of the merged configuration, read key by key: what is not set comes from the table of
//! options, what is wrong is noted with its place.

use std::cell::RefCell;

use config::{Value, ValueKind};

use crate::kind::Kind;
use crate::layer::{Tree, own_value};
use crate::parse::Mistake;
use crate::row::{self, Default, Row};
use crate::value::{Read, Wrong};

/// What is wrong so far, and what is only odd.
#[derive(Debug, std::default::Default)]
pub(crate) struct Mistakes {
    found: RefCell<Vec<Found>>,
    warnings: RefCell<Vec<String>>,
}

#[derive(Debug)]
struct Found {
    place: Option<String>,
    text: String,
}

impl Mistakes {
    pub(crate) fn add(&self, place: Option<&str>, text: &str) {
        let place = place.filter(|place| !place.is_empty()).map(str::to_owned);
        let text = text.to_owned();
        self.found.borrow_mut().push(Found { place, text });
    }

    pub(crate) fn warn(&self, place: Option<&str>, text: &str) {
        self.warnings.borrow_mut().push(placed(place, text));
    }

    /// In the order of the files and lines, as a person goes through them.
    pub(crate) fn into_parts(self, files: &[&str]) -> (Vec<Mistake>, Vec<String>) {
        let mut found = self.found.into_inner();
        found.sort_by_key(|found| order(found.place.as_deref(), files));
        let mut mistakes: Vec<Mistake> = found
            .iter()
            .map(|found| Mistake(placed(found.place.as_deref(), &found.text)))
            .collect();
        mistakes.dedup();
        (mistakes, self.warnings.into_inner())
    }
}

fn placed(place: Option<&str>, text: &str) -> String {
    match place {
        Some(place) => format!("{place}: {text}"),
        None => text.to_owned(),
    }
}

fn order(place: Option<&str>, files: &[&str]) -> (usize, usize) {
    let file_and_line = place.and_then(|place| place.rsplit_once(':'));
    match file_and_line {
        Some((file, line)) => (
            files
                .iter()
                .position(|name| *name == file)
                .unwrap_or(files.len()),
            line.parse().unwrap_or(0),
        ),
        None => (files.len(), 0),
    }
}

/// A table, or the place where one could be.
#[derive(Clone, Debug)]
pub(crate) struct Section<'t> {
    /// For messages: `listener`, `retry.default`.
    shown: String,
    /// As rows name it: `listener[]`, `retry.*`.
    row: String,
    table: Option<&'t Tree>,
    /// For what is missing: where the table stands.
    place: Option<&'t str>,
    mistakes: &'t Mistakes,
}

impl<'t> Section<'t> {
    pub(crate) fn root(table: &'t Tree, mistakes: &'t Mistakes) -> Section<'t> {
        Section {
            shown: String::new(),
            row: String::new(),
            table: Some(table),
            place: None,
            mistakes,
        }
    }

    /// `[name]`, given or not.
    pub(crate) fn section(&self, name: &str) -> Section<'t> {
        let value = self.raw(name);
        self.at(value, self.join(name), join(&self.row, name))
    }

    /// Each `[[name]]`.
    pub(crate) fn each(&self, name: &str) -> Vec<Section<'t>> {
        let items = match self.raw(name).map(|value| &value.kind) {
            Some(ValueKind::Array(items)) => items.as_slice(),
            _ => &[],
        };
        let row = format!("{}[]", join(&self.row, name));
        items
            .iter()
            .map(|item| self.at(Some(item), self.join(name), row.clone()))
            .collect()
    }

    /// Each `[name.NAME]`, sorted by NAME.
    pub(crate) fn named(&self, name: &str) -> Vec<(&'t str, Section<'t>)> {
        let Some(ValueKind::Table(tables)) = self.raw(name).map(|value| &value.kind) else {
            return Vec::new();
        };
        let row = format!("{}.*", join(&self.row, name));
        let mut sections: Vec<_> = tables
            .iter()
            .map(|(key, value)| {
                let shown = format!("{}.{key}", self.join(name));
                (key.as_str(), self.at(Some(value), shown, row.clone()))
            })
            .collect();
        sections.sort_by_key(|(key, _)| *key);
        sections
    }

    /// A table that is not there, whose keys all have their defaults.
    pub(crate) fn absent(&self, shown: &str, row: &str) -> Section<'t> {
        self.at(None, shown.to_owned(), row.to_owned())
    }

    fn at(&self, value: Option<&'t Value>, shown: String, row: String) -> Section<'t> {
        let table = match value.map(|value| &value.kind) {
            Some(ValueKind::Table(table)) => Some(table),
            _ => None,
        };
        // Merged tables have lost their own place; that of their first key is near enough.
        let first_key = || {
            let keys = table.into_iter().flat_map(Tree::values);
            keys.filter_map(Value::origin)
                .min_by_key(|place| order(Some(*place), &[]))
        };
        Section {
            shown,
            row,
            table,
            place: value.and_then(Value::origin).or_else(first_key),
            mistakes: self.mistakes,
        }
    }

    /// Where the table stands, for people: `relayd.toml:14`.
    pub(crate) fn place_shown(&self) -> &str {
        self.place.unwrap_or("configuration")
    }

    /// Whether the key is given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    /// Whether the table itself is given.
    pub(crate) fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// The value, or the default of the row. After a mistake: the default, so that reading goes on
    /// and finds the other mistakes.
    pub(crate) fn value<T>(&self, key: &str, read: impl Fn(&Value, &Kind) -> Read<T>) -> T {
        self.optional(key, &read).unwrap_or_else(|| {
            let row = self.row_of(key);
            let Default::Is(text) = row.default else {
                unreachable!("{} is read as an option with a default", row.key);
            };
            match read(&own_value(text), &row.kind) {
                Ok(value) => value,
                Err(_) => unreachable!("the default of {} is right, a test says so", row.key),
            }
        })
    }

    /// The value, or None where it is not given or wrong.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        read: impl Fn(&Value, &Kind) -> Read<T>,
    ) -> Option<T> {
        let row = self.row_of(key);
        match read(self.raw(key)?, &row.kind) {
            Ok(value) => Some(value),
            Err(wrongs) => {
                for wrong in wrongs {
                    self.note(key, &wrong);
                }
                None
            }
        }
    }

    /// The value; that it is missing is a mistake.
    pub(crate) fn required<T>(
        &self,
        key: &str,
        read: impl Fn(&Value, &Kind) -> Read<T>,
    ) -> Option<T> {
        if !self.has(key) {
            let example = self.row_of(key).example;
            self.refuse_table(&format!("{key} is missing; add {key} = {example}"));
        }
        self.optional(key, read)
    }

    /// Notes that the value of a key is wrong together with something else.
    pub(crate) fn refuse(&self, key: &str, what: &str) {
        match self.raw(key) {
            Some(value) => self.note(key, &Wrong::of(value, what)),
            None => self.refuse_table(&format!("{key}: {what}")),
        }
    }

    /// Notes what is wrong with the table as a whole.
    pub(crate) fn refuse_table(&self, what: &str) {
        let text = match self.shown.as_str() {
            "" => what.to_owned(),
            shown => format!("{shown}: {what}"),
        };
        self.mistakes.add(self.place, &text);
    }

    /// Notes a mistake in another file, which has found its own words.
    pub(crate) fn refuse_elsewhere(&self, place: &str, what: &str) {
        self.mistakes.add(Some(place), what);
    }

    /// Notes what is allowed but probably not meant.
    pub(crate) fn warn(&self, key: &str, what: &str) {
        let place = self.raw(key).and_then(Value::origin).or(self.place);
        let text = format!("{}: {what}", self.join(key));
        self.mistakes.warn(place, &text);
    }

    fn note(&self, key: &str, wrong: &Wrong) {
        let found = match self.row_of(key).kind {
            Kind::Secret => "(not shown)",
            _ => wrong.found.as_str(),
        };
        let text = format!("{} = {found}: {}", self.join(key), wrong.what);
        self.mistakes.add(wrong.place.as_deref(), &text);
    }

    fn raw(&self, key: &str) -> Option<&'t Value> {
        self.table?.get(key)
    }

    fn row_of(&self, key: &str) -> &'static Row {
        let key = join(&self.row, key);
        match row::find(&key) {
            Some(row) => row,
            None => unreachable!("{key} is read, so it has a row; a test reads all"),
        }
    }

    fn join(&self, key: &str) -> String {
        join(&self.shown, key)
    }
}

fn join(table: &str, key: &str) -> String {
    match table {
        "" => key.to_owned(),
        table => format!("{table}.{key}"),
    }
}
