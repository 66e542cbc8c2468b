//! What keeps an address from being suppressed whatever rule decides: a word in the reply that speaks of something else than the address.
//!
//! Rules are written for what servers are known to say, and a new wording may well meet a rule that suppresses: "our account is
//! disabled" looks like "the account is disabled". A suppressed address is lost silently, and a bounced one is not, so what is
//! in doubt is only bounced.

use std::ops::Range;

use crate::load::{Example, Reader, TableAt};
use crate::texts::{Candidates, Text};

/// One `[[guard]]` as it is written.
#[derive(Debug)]
pub(crate) struct LoadedGuard {
    pub file: String,
    pub line: usize,
    pub name: String,
    pub texts: Vec<Text>,
    pub explain: Option<String>,
    pub examples: Vec<Example>,
}

/// A guard of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Guard {
    pub name: String,
    /// `etc/policy.toml:123`, for people.
    pub place: String,
    pub explain: Option<String>,
}

/// One guard, ready to match.
#[derive(Debug)]
pub(crate) struct CompiledGuard {
    pub guard: Guard,
    pub file: String,
    pub examples: Vec<Example>,
    /// Indexes into the table's texts, of which one must match.
    texts: Range<usize>,
}

const KEYS: &str = "name, text, explain, example";

impl Reader<'_> {
    pub(crate) fn guard(&mut self, (at, table): TableAt<'_>) -> Option<LoadedGuard> {
        let (mut name, mut texts, mut explain, mut examples) = (None, Vec::new(), None, Vec::new());
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => name = self.string("name", value),
                "text" => texts = self.regex_texts(value),
                "explain" => explain = self.string("explain", value),
                "example" => examples = self.examples(value),
                other => self.refuse(
                    &key.span(),
                    format!("{other}: unknown key in [[guard]]; it has {KEYS}"),
                ),
            }
        }
        let Some(name) = name else {
            self.refuse(&at, "this [[guard]] has no name; add name = \"...\"".into());
            return None;
        };
        if texts.is_empty() {
            self.refuse(
                &at,
                "this [[guard]] has no text; add text = '...': what a reply says that must not suppress an address".into(),
            );
            return None;
        }
        Some(LoadedGuard {
            file: self.file().to_owned(),
            line: self.line(&at),
            name,
            texts,
            explain,
            examples,
        })
    }
}

impl CompiledGuard {
    /// The guard, with its texts at the end of the others.
    pub fn of(loaded: LoadedGuard, patterns: &mut Vec<Text>) -> CompiledGuard {
        let first = patterns.len();
        patterns.extend(loaded.texts);
        CompiledGuard {
            guard: Guard {
                name: loaded.name,
                place: format!("{}:{}", loaded.file, loaded.line),
                explain: loaded.explain,
            },
            file: loaded.file,
            examples: loaded.examples,
            texts: first..patterns.len(),
        }
    }

    /// Indexes into the table's texts.
    #[cfg(test)]
    pub fn texts(&self) -> Range<usize> {
        self.texts.clone()
    }

    pub fn holds(&self, matched: &Candidates<'_>) -> bool {
        matched.any_of(self.texts.clone())
    }
}
