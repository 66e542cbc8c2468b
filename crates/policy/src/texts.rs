//! All text patterns of a table, searched in one pass: a literal search says which of the regular
//! expressions can match at all, and only those are tried. A pattern such as `user .{0,60}unknown`
//! is tried only on a text that has both words, and one that is nothing but words is not tried at all:
//! where its words were found, it matches.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use regex::bytes::Regex;
use regex_syntax::hir::literal::{Extractor, Literal};
use regex_syntax::hir::{Hir, HirKind};

use crate::bits::Bits;
use crate::literals::{BYTES_MIN, Literals};
use crate::load::rule_regex;

/// The patterns of all rules, by index.
#[derive(Debug)]
pub(crate) struct Texts {
    patterns: Vec<Pattern>,
    /// For each pattern the groups of literals of which every match contains at least one each, as bits, and `SURE`.
    /// Without any group it is always tried.
    needs: Vec<u8>,
    literals: Literals,
    /// For each literal where its owners stand.
    owned: Vec<Range<usize>>,
    owners: Vec<Owner>,
    /// The patterns that need no literal.
    always: Bits,
}

/// A pattern that a literal stands for.
#[derive(Clone, Copy, Debug)]
struct Owner {
    pattern: usize,
    /// The group it belongs to there, or `SURE`.
    bit: u8,
}

#[derive(Debug)]
struct Pattern {
    source: String,
    /// Built at first use: a table has hundreds, and most are never needed.
    regex: OnceLock<Option<Regex>>,
}

/// One pattern, parsed: what a rule's `text` comes to.
#[derive(Debug)]
pub(crate) struct Text {
    source: String,
    needed: Needed,
}

/// The patterns that may match one text.
pub(crate) struct Candidates<'t> {
    texts: &'t Texts,
    text: &'t [u8],
    marks: Marks,
}

/// What a search found. Made once and used for many texts.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// For each pattern the groups of which no literal was found yet, and `SURE`.
    lacks: Vec<u8>,
    /// The patterns of which all groups were found.
    ready: Bits,
}

/// A set of literals of which every match of a pattern contains at least one.
type Group = Vec<Vec<u8>>;

/// Beside the groups: a literal that is by itself a match of the pattern.
const SURE: u8 = 1 << 7;
/// Of a second and third group more is asked, since each literal costs time in every search.
const FURTHER_LITERAL_BYTES_MIN: usize = 4;
const FURTHER_LITERALS_MAX: usize = 40;
const GROUPS_MAX: usize = 3;

impl Texts {
    pub fn new(patterns: Vec<Text>) -> Texts {
        let mut literals = Collected::default();
        let mut compiled = Vec::with_capacity(patterns.len());
        let mut all_needs = Vec::with_capacity(patterns.len());
        let mut always = Bits::none(patterns.len());
        for (at, Text { source, needed }) in patterns.into_iter().enumerate() {
            let mut needs = SURE;
            for (group, bit) in needed.groups.into_iter().zip(0u8..) {
                needs |= 1 << bit;
                literals.put(group, at, 1 << bit);
            }
            // Where nothing is needed the pattern is tried on every text, so nothing is won by more literals.
            match needs {
                SURE => always.put(at),
                _ => literals.put(needed.sure, at, SURE),
            }
            all_needs.push(needs);
            compiled.push(Pattern {
                source,
                regex: OnceLock::new(),
            });
        }
        let all = Literals::new(literals.all.iter().map(Vec::as_slice));
        let (owned, owners) = literals.flat();
        Texts {
            patterns: compiled,
            needs: all_needs,
            literals: all,
            owned,
            owners,
            always,
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// The pattern at this index, as it is written.
    pub fn source(&self, at: usize) -> &str {
        &self.patterns[at].source
    }

    pub fn candidates<'t>(&'t self, text: &'t str) -> Candidates<'t> {
        self.candidates_in(text, Marks::default())
    }

    /// The same, in memory that `Candidates::marks` gave back.
    pub fn candidates_in<'t>(&'t self, text: &'t str, mut marks: Marks) -> Candidates<'t> {
        let Marks { lacks, ready } = &mut marks;
        lacks.clone_from(&self.needs);
        ready.become_like(&self.always);
        self.literals.each_in(text.as_bytes(), |literal| {
            for owner in &self.owners[self.owned[literal].clone()] {
                let lacks = &mut lacks[owner.pattern];
                *lacks &= !owner.bit;
                if *lacks & !SURE == 0 {
                    ready.put(owner.pattern);
                }
            }
        });
        Candidates {
            texts: self,
            text: text.as_bytes(),
            marks,
        }
    }
}

impl Text {
    /// An error is the parser's, for people. What is too large to be built is not noticed here.
    pub fn of(source: &str) -> Result<Text, String> {
        let needed = Needed::of(&rule_hir(source)?);
        Ok(Text {
            source: source.to_owned(),
            needed,
        })
    }
}

impl Candidates<'_> {
    /// The patterns that may match: `matched` says which do.
    pub fn ready(&self) -> &Bits {
        &self.marks.ready
    }

    /// Whether one of these patterns matches.
    pub fn any_of(&self, patterns: Range<usize>) -> bool {
        let mut ready = self.marks.ready.ones_within(patterns);
        ready.any(|at| self.matched(at))
    }

    /// Whether the pattern at this index matches.
    pub fn matched(&self, at: usize) -> bool {
        let pattern = &self.texts.patterns[at];
        let lacks = self.marks.lacks[at];
        if lacks & SURE == 0 {
            return true;
        }
        if lacks != SURE {
            return false;
        }
        pattern
            .regex
            .get_or_init(|| rule_regex(&pattern.source).ok())
            .as_ref()
            .is_some_and(|regex| regex.is_match(self.text))
    }

    /// Its memory, for the next text.
    pub fn marks(self) -> Marks {
        self.marks
    }
}

/// The literals of all patterns, each once.
#[derive(Default)]
struct Collected {
    all: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, usize>,
    owners: Vec<Vec<Owner>>,
}

impl Collected {
    fn put(&mut self, group: Group, pattern: usize, bit: u8) {
        for literal in group {
            let slot = *self.known.entry(literal.clone()).or_insert_with(|| {
                self.all.push(literal);
                self.owners.push(Vec::new());
                self.owners.len() - 1
            });
            let owners = &mut self.owners[slot];
            match owners.iter_mut().find(|owner| owner.pattern == pattern) {
                Some(owner) => owner.bit |= bit,
                None => owners.push(Owner { pattern, bit }),
            }
        }
    }

    /// All owners in one piece, since most hits are of literals with few.
    fn flat(self) -> (Vec<Range<usize>>, Vec<Owner>) {
        let mut all = Vec::new();
        let ranges = self.owners.into_iter().map(|owners| {
            let first = all.len();
            all.extend(owners);
            first..all.len()
        });
        (ranges.collect(), all)
    }
}

/// What a literal search can say of a pattern.
#[derive(Debug)]
struct Needed {
    /// The groups of literals, in lower case, that sort out most; none if a match need contain nothing.
    groups: Vec<Group>,
    /// The literals that are a match by themselves.
    sure: Group,
}

impl Needed {
    fn of(hir: &Hir) -> Needed {
        let branches = match hir.kind() {
            HirKind::Alternation(branches) => branches.as_slice(),
            HirKind::Empty
            | HirKind::Literal(_)
            | HirKind::Class(_)
            | HirKind::Look(_)
            | HirKind::Repetition(_)
            | HirKind::Capture(_)
            | HirKind::Concat(_) => std::slice::from_ref(hir),
        };
        let alone: Vec<Group> = branches.iter().filter_map(whole_words).collect();
        let nothing_else = alone.len() == branches.len();
        let sure = alone.concat();
        if nothing_else {
            return Needed {
                groups: vec![sure.clone()],
                sure,
            };
        }
        Needed {
            groups: needed_literals(hir),
            sure,
        }
    }
}

/// The parsed form of a rule's `text`, with its case as written.
pub(crate) fn rule_hir(text: &str) -> Result<Hir, String> {
    regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        // Case is ignored anyway, and `(?i)` would hide the letters.
        .parse(text.trim_start_matches("(?i)"))
        .map_err(|error| error.to_string())
}

/// Every text a pattern can match, in lower case, if it is nothing but a few words.
fn whole_words(hir: &Hir) -> Option<Group> {
    // The extractor sees `\b` as nothing.
    if !hir.properties().look_set().is_empty() {
        return None;
    }
    let extracted = Extractor::new().extract(hir);
    if !extracted.is_exact() {
        return None;
    }
    let words = in_lower_case(extracted.literals()?);
    (!words.is_empty() && shortest(&words) >= BYTES_MIN).then_some(words)
}

fn needed_literals(hir: &Hir) -> Vec<Group> {
    let mut groups = groups(hir);
    groups.retain(|group| shortest(group) >= BYTES_MIN);
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
        HirKind::Concat(parts) => groups_of_runs(parts),
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

/// Parts that follow one another say more together: `(CON|RCP)-T\d` needs one of twenty words of six letters, not "con" or "rcp".
fn groups_of_runs(parts: &[Hir]) -> Vec<Group> {
    let mut all = Vec::new();
    let mut rest = parts;
    while let Some((first, after)) = rest.split_first() {
        let runs = (1..=rest.len()).map_while(|parts| Some((parts, few_words(&rest[..parts])?)));
        let (longest, best) = runs.fold((0, None), |(_, best), (parts, words)| {
            (parts, best.into_iter().chain([words]).max_by_key(worth))
        });
        match best {
            Some(words) => {
                all.push(words);
                rest = &rest[longest..];
            }
            None => {
                all.extend(groups(first));
                rest = after;
            }
        }
    }
    all
}

/// Every text that these parts can match, one after the other, in lower case, if they are few words.
fn few_words(parts: &[Hir]) -> Option<Group> {
    let extracted = Extractor::new().extract(&Hir::concat(parts.to_vec()));
    let words = extracted.literals().filter(|_| extracted.is_exact())?;
    (words.len() <= FURTHER_LITERALS_MAX).then(|| in_lower_case(words))
}

fn in_lower_case(words: &[Literal]) -> Group {
    let words = words
        .iter()
        .map(|word| word.as_bytes().to_ascii_lowercase());
    let mut words: Group = words.collect();
    words.sort_unstable();
    words.dedup();
    words
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
            r"over ?quota",
            r"(mail|in)box (full|closed)",
            r"greylist|try again .{0,9}later|5\.7\.1",
            r"no|not here|\bgone\b",
            r"",
        ];
        let texts = Texts::new(patterns.map(|one| Text::of(one).unwrap()).into());
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
            "OverQuota",
            "over quota inbox CLOSED",
            "mailbox closing",
            "try again much later",
            "try again much, much later",
            "bygone 5.7.1",
            "gone",
            "not here",
        ] {
            let candidates = texts.candidates(text);
            for (at, pattern) in patterns.iter().enumerate() {
                let alone = rule_regex(pattern).unwrap().is_match(text.as_bytes());
                assert_eq!(candidates.matched(at), alone, "{pattern} in {text}");
                let ready = candidates.ready().has(at);
                assert!(ready || !alone, "{pattern} in {text}");
            }
        }
    }

    #[test]
    fn so_it_is_with_all_patterns_of_the_default_table() {
        let table = crate::Table::default_table();
        let texts = table.texts();
        let sources = || texts.patterns.iter().map(|pattern| &pattern.source);
        let alone: Vec<Regex> = sources().map(|one| rule_regex(one).unwrap()).collect();
        let replies = include_str!("../tests/data/wordings.tsv")
            .lines()
            .step_by(7);
        for reply in replies.chain(sources().step_by(4).map(String::as_str)) {
            let candidates = texts.candidates(reply);
            for (at, regex) in alone.iter().enumerate() {
                let alone = regex.is_match(reply.as_bytes());
                let pattern = texts.source(at);
                assert_eq!(candidates.matched(at), alone, "{pattern} in {reply}");
            }
        }
    }

    #[test]
    fn words_alone_need_no_regular_expression() {
        let patterns = ["gr[ae]ylist(ed|ing)", r"user\b"];
        let texts = Texts::new(patterns.map(|one| Text::of(one).unwrap()).into());
        let candidates = texts.candidates("User greylisted");
        assert!(candidates.matched(0) && candidates.matched(1));
        let built = texts.patterns.iter().map(|one| one.regex.get().is_some());
        assert_eq!(built.collect::<Vec<_>>(), [false, true]);
    }
}
