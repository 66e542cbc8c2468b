//! All text patterns of a table, searched in one pass: a literal search says which of the regular
//! expressions can match at all, and only those are tried. A pattern such as `user .{0,60}unknown`
//! is tried only on a text that has both words.

use std::collections::HashMap;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::Regex;
use regex_syntax::hir::{Hir, HirKind};

use crate::load::{rule_hir, rule_regex};

/// The patterns of all rules, by index.
#[derive(Debug)]
pub(crate) struct Texts {
    patterns: Vec<Pattern>,
    literals: AhoCorasick,
    /// For each literal the patterns it stands for, with the group it belongs to there, as a bit.
    owners: Vec<Vec<(usize, u8)>>,
    /// The patterns that need no literal.
    always: Vec<usize>,
}

#[derive(Debug)]
struct Pattern {
    source: String,
    /// The groups of literals of which every match contains at least one each, as bits; 0: there
    /// are none, so it is always tried.
    needs: u8,
    /// Built at first use: a table has hundreds, and most are never needed.
    regex: OnceLock<Option<Regex>>,
}

/// The patterns that may match one text.
pub(crate) struct Candidates<'t> {
    texts: &'t Texts,
    text: &'t [u8],
    /// For each pattern the groups of which a literal was found.
    found: Vec<u8>,
    /// The patterns of which all groups were found.
    ready: Vec<usize>,
}

/// A set of literals of which every match of a pattern contains at least one.
type Group = Vec<Vec<u8>>;

/// A literal shorter than this stands in nearly every text and would sort nothing out.
const LITERAL_BYTES_MIN: usize = 3;
/// Of a second and third group more is asked, since each literal costs time in every search.
const FURTHER_LITERAL_BYTES_MIN: usize = 4;
const FURTHER_LITERALS_MAX: usize = 40;
const GROUPS_MAX: usize = 3;

impl Texts {
    /// Takes patterns that `rule_regex` has accepted.
    pub fn new(patterns: Vec<String>) -> Result<Texts, String> {
        let mut literals: Vec<Vec<u8>> = Vec::new();
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut owners: Vec<Vec<(usize, u8)>> = Vec::new();
        let mut compiled = Vec::with_capacity(patterns.len());
        for (at, source) in patterns.into_iter().enumerate() {
            let mut needs = 0;
            for (group, bit) in needed_literals(&source).into_iter().zip(0u8..) {
                needs |= 1 << bit;
                for literal in group {
                    let slot = *known.entry(literal.clone()).or_insert_with(|| {
                        literals.push(literal);
                        owners.push(Vec::new());
                        owners.len() - 1
                    });
                    owners[slot].push((at, 1 << bit));
                }
            }
            compiled.push(Pattern {
                source,
                needs,
                regex: OnceLock::new(),
            });
        }
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&literals)
            .map_err(|error| error.to_string())?;
        let needs_none = |(at, pattern): (usize, &Pattern)| (pattern.needs == 0).then_some(at);
        let always = compiled.iter().enumerate().filter_map(needs_none).collect();
        Ok(Texts {
            patterns: compiled,
            literals,
            owners,
            always,
        })
    }

    /// The pattern at this index, as it is written.
    pub fn source(&self, at: usize) -> &str {
        &self.patterns[at].source
    }

    pub fn candidates<'t>(&'t self, text: &'t str) -> Candidates<'t> {
        let mut found = vec![0; self.patterns.len()];
        let mut ready = Vec::with_capacity(64);
        ready.extend_from_slice(&self.always);
        for hit in self.literals.find_overlapping_iter(text) {
            for (at, bit) in &self.owners[hit.pattern().as_usize()] {
                let before = found[*at];
                found[*at] |= bit;
                if before != found[*at] && found[*at] == self.patterns[*at].needs {
                    ready.push(*at);
                }
            }
        }
        Candidates {
            texts: self,
            text: text.as_bytes(),
            found,
            ready,
        }
    }
}

impl Candidates<'_> {
    /// The patterns that may match, in no order: `matched` says which do.
    pub fn ready(&self) -> &[usize] {
        &self.ready
    }

    /// Whether the pattern at this index matches.
    pub fn matched(&self, at: usize) -> bool {
        let pattern = &self.texts.patterns[at];
        if self.found[at] != pattern.needs {
            return false;
        }
        pattern
            .regex
            .get_or_init(|| rule_regex(&pattern.source).ok())
            .as_ref()
            .is_some_and(|regex| regex.is_match(self.text))
    }
}

/// The groups of literals, in lower case, that sort out most; none if a match need contain nothing.
fn needed_literals(pattern: &str) -> Vec<Group> {
    let Ok(hir) = rule_hir(pattern) else {
        return Vec::new();
    };
    let mut groups = groups(&hir);
    groups.retain(|group| shortest(group) >= LITERAL_BYTES_MIN);
    groups.sort_by_key(|group| std::cmp::Reverse(worth(group)));
    let mut at = 0;
    groups.retain(|group| {
        at += 1;
        at == 1
            || (shortest(group) >= FURTHER_LITERAL_BYTES_MIN && group.len() <= FURTHER_LITERALS_MAX)
    });
    groups.truncate(GROUPS_MAX);
    groups
}

/// Every group of literals that a match must contain one of.
fn groups(hir: &Hir) -> Vec<Group> {
    match hir.kind() {
        HirKind::Literal(literal) => vec![vec![literal.0.to_ascii_lowercase()]],
        HirKind::Capture(capture) => groups(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => groups(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().flat_map(groups).collect(),
        HirKind::Alternation(branches) => {
            let best_of = |branch| groups(branch).into_iter().max_by_key(worth);
            let all: Option<Vec<Group>> = branches.iter().map(best_of).collect();
            all.map(|all| all.concat()).into_iter().collect()
        }
        HirKind::Repetition(_) | HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => {
            Vec::new()
        }
    }
}

/// Of several groups the better one has longer literals, and fewer.
fn worth(group: &Group) -> (usize, usize) {
    (shortest(group).min(6), usize::MAX - group.len())
}

fn shortest(literals: &Group) -> usize {
    literals.iter().map(Vec::len).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_as_its_regular_expression_alone_would_find_it() {
        let patterns = [
            r"user (is )?unknown",
            r"gr[ae]ylist",
            r"\b(spf|dkim)\b",
            r"\d\d:\d\d",
            r"a?b?",
            r"\b(user|mailbox)\b.{0,20}\b(unknown|not found)",
            r"(spam )+and (virus|worm)? here",
            r"(?i)no \D+ here",
            "Größe|größe",
        ];
        let texts = Texts::new(patterns.map(String::from).to_vec()).unwrap();
        for text in [
            "User unknown",
            "user is UNKNOWN",
            "Greylisted",
            "DKIM fails",
            "at 12:30",
            "",
            "Größe",
            "spfx",
            "No user HERE",
            "no 1 here",
            "mailbox x was not found",
            "user here",
            "not found: user",
            "spam spam and  here",
        ] {
            let candidates = texts.candidates(text);
            for (at, pattern) in patterns.iter().enumerate() {
                let alone = rule_regex(pattern).unwrap().is_match(text.as_bytes());
                assert_eq!(candidates.matched(at), alone, "{pattern} in {text}");
            }
        }
    }
}
