//! What a row of the table of options is made of, and how one is found.

use crate::kind::Kind;
use crate::options::OPTIONS;

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `table.key`; `table[].key` for each table of an array, `table.*.key` for each named table.
    pub key: &'static str,
    pub kind: Kind,
    pub default: Default,
    /// A value as one would write it, in TOML.
    pub example: &'static str,
    /// Plain words, with the source of a rule where there is one.
    pub doc: &'static str,
    pub status: Status,
}

/// What holds where the option is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// This value, in TOML.
    Is(&'static str),
    /// Found out at start, or nothing at all; in words.
    Otherwise(&'static str),
    /// It must be given.
    Required,
}

/// Whether this version knows what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Built,
    /// Refused by name; the text says what it waits for.
    NotYet(&'static str),
}

/// One table of the file, in the order in which the sample shows them.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// As in [`Row::key`]: `state`, `listener[]`, `retry.*`. Empty: the keys above all tables.
    pub name: &'static str,
    pub doc: &'static str,
}

/// The row of a key, in the form of [`Row::key`].
pub fn find(key: &str) -> Option<&'static Row> {
    OPTIONS.iter().find(|row| row.key == key)
}

impl Row {
    /// The table that the option stands in, and its own name: `("retry.*", "steps")`.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.key.rsplit_once('.').unwrap_or(("", self.key))
    }
}

pub(crate) const fn built(
    key: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default,
        example,
        doc,
        status: Status::Built,
    }
}

pub(crate) const fn not_yet(
    key: &'static str,
    kind: Kind,
    example: &'static str,
    waits_for: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default: Default::Otherwise("off"),
        example,
        doc: "",
        status: Status::NotYet(waits_for),
    }
}
