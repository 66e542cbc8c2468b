//! All text patterns of a table, searched in one pass: a literal search says which of the regular
//! expressions can match at all, and only those are tried.

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
    /// For each literal the patterns it stands for.
    owners: Vec<Vec<usize>>,
    /// Patterns without a literal that every match must contain: always tried.
    always: Vec<usize>,
}

#[derive(Debug)]
struct Pattern {
    source: String,
    /// Built at first use: a table has hundreds, and most are never needed.
    regex: OnceLock<Option<Regex>>,
}

/// The patterns that may match one text.
pub(crate) struct Candidates<'t> {
    texts: &'t Texts,
    text: &'t [u8],
    bits: Vec<u64>,
}

/// A literal shorter than this stands in nearly every text and would sort nothing out.
const LITERAL_BYTES_MIN: usize = 3;

impl Texts {
    /// Takes patterns that `rule_regex` has accepted.
    pub fn new(patterns: Vec<String>) -> Result<Texts, String> {
        let mut literals: Vec<Vec<u8>> = Vec::new();
        let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut owners: Vec<Vec<usize>> = Vec::new();
        let mut always = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            let Some(needed) = needed_literals(pattern) else {
                always.push(at);
                continue;
            };
            for literal in needed {
                let slot = *known.entry(literal.clone()).or_insert_with(|| {
                    literals.push(literal);
                    owners.push(Vec::new());
                    owners.len() - 1
                });
                owners[slot].push(at);
            }
        }
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&literals)
            .map_err(|error| error.to_string())?;
        let patterns = patterns
            .into_iter()
            .map(|source| Pattern {
                source,
                regex: OnceLock::new(),
            })
            .collect();
        Ok(Texts {
            patterns,
            literals,
            owners,
            always,
        })
    }

    pub fn candidates<'t>(&'t self, text: &'t str) -> Candidates<'t> {
        let mut candidates = Candidates {
            texts: self,
            text: text.as_bytes(),
            bits: vec![0; self.patterns.len().div_ceil(64)],
        };
        for at in &self.always {
            candidates.put(*at);
        }
        for found in self.literals.find_overlapping_iter(text) {
            for at in &self.owners[found.pattern().as_usize()] {
                candidates.put(*at);
            }
        }
        candidates
    }
}

impl Candidates<'_> {
    /// Whether the pattern at this index matches.
    pub fn matched(&self, at: usize) -> bool {
        if self.bits[at / 64] & (1 << (at % 64)) == 0 {
            return false;
        }
        let pattern = &self.texts.patterns[at];
        pattern
            .regex
            .get_or_init(|| rule_regex(&pattern.source).ok())
            .as_ref()
            .is_some_and(|regex| regex.is_match(self.text))
    }

    fn put(&mut self, at: usize) {
        self.bits[at / 64] |= 1 << (at % 64);
    }
}

/// Literals, in lower case, of which every match contains at least one; None: there are none.
fn needed_literals(pattern: &str) -> Option<Vec<Vec<u8>>> {
    let hir = rule_hir(pattern).ok()?;
    needed(&hir).filter(|literals| shortest(literals) >= LITERAL_BYTES_MIN)
}

fn needed(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(vec![literal.0.to_ascii_lowercase()]),
        HirKind::Capture(capture) => needed(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => needed(&repetition.sub),
        // Of several parts that must all match, the one whose literals sort out most.
        HirKind::Concat(parts) => parts
            .iter()
            .filter_map(needed)
            .max_by_key(|literals| (shortest(literals).min(6), usize::MAX - literals.len())),
        HirKind::Alternation(branches) => {
            let all: Option<Vec<_>> = branches.iter().map(needed).collect();
            all.map(|all| all.concat())
        }
        HirKind::Repetition(_) | HirKind::Empty | HirKind::Class(_) | HirKind::Look(_) => None,
    }
}

fn shortest(literals: &[Vec<u8>]) -> usize {
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
        ] {
            let candidates = texts.candidates(text);
            for (at, pattern) in patterns.iter().enumerate() {
                let alone = rule_regex(pattern).unwrap().is_match(text.as_bytes());
                assert_eq!(candidates.matched(at), alone, "{pattern} in {text}");
            }
        }
    }
}
