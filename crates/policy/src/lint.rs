//! What is allowed in a table and still deserves a second look: shadowed rules, catch-all texts, rules without an example.

use std::fmt;
use std::sync::Arc;

use regex_syntax::hir::HirKind;

use crate::decide::Rule;
use crate::retry::Schedule;
use crate::table::{CompiledRule, Table};
use crate::texts::rule_hir;
use crate::texts::{Candidates, Texts};

/// One thing to look at. Display: `file:line: rule NAME: what is odd; the fix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: Arc<Rule>,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: rule {}: {}",
            self.rule.place, self.rule.name, self.message
        )
    }
}

/// A text without a word in it. A pattern that is found here is found nearly everywhere.
const NO_WORDS: &str = "~";

impl Table {
    /// Looks at every rule. Mistakes that make a table refused are not among these: such a table
    /// does not come to exist.
    pub fn lint(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let no_words = self.texts().candidates(NO_WORDS);
        for (at, compiled) in self.compiled().iter().enumerate() {
            let mut note = |message: String| {
                findings.push(Finding {
                    rule: Arc::clone(&compiled.rule),
                    message,
                });
            };
            for text in compiled.texts().filter(|text| no_words.matched(*text)) {
                let text = self.texts().source(text);
                note(format!(
                    "text = '{text}' is found in every reply; leave `text` out, or name words of the reply"
                ));
            }
            if let Some(first) = self.covering(at, compiled) {
                note(format!(
                    "never reached: rule {} ({}) takes all that this one asks for; move this one before it, or remove it",
                    first.rule.name, first.rule.place
                ));
            }
            if let Some(name) = compiled
                .rule
                .retry
                .as_deref()
                .filter(|name| !is_built_in(name))
            {
                note(format!(
                    "retry = {name:?} is not built in; make sure that relayd.toml has [retry.{name}], or write one of {}",
                    built_in_names()
                ));
            }
            if !compiled.has_example() && compiled.speaks_of_replies() {
                note("has no example; add a reply that it is meant for, so that a later change cannot take it away unseen".to_owned());
            }
        }
        findings
    }

    /// The first earlier rule that takes every reply or failure this one asks for.
    fn covering(&self, at: usize, later: &CompiledRule) -> Option<&CompiledRule> {
        let words: Vec<Option<String>> = later
            .texts()
            .map(|at| plain_words(self.texts().source(at)))
            .collect();
        let asked: Vec<Asked<'_>> = later
            .texts()
            .zip(&words)
            .map(|(at, words)| Asked {
                source: self.texts().source(at),
                found: words.as_deref().map(|words| self.texts().candidates(words)),
            })
            .collect();
        let covers = |first: &&CompiledRule| {
            let all = || {
                asked
                    .iter()
                    .all(|text| text.is_covered_by(first, self.texts()))
            };
            first.texts().is_empty() || (!asked.is_empty() && all())
        };
        let earlier = self.compiled().iter().take(at);
        // An operator's rule may well leave nothing for a default one; that is its purpose.
        earlier
            .filter(|first| first.is_default() || !later.is_default())
            .filter(|first| first.asks_less_than(later))
            .find(covers)
    }
}

fn is_built_in(retry: &str) -> bool {
    Schedule::built_in().iter().any(|(name, _)| *name == retry)
}

fn built_in_names() -> String {
    Schedule::built_in().map(|(name, _)| name).join(", ")
}

/// One text of a rule, as another rule's texts see it.
struct Asked<'t> {
    source: &'t str,
    /// What is found in it, if it is nothing but words.
    found: Option<Candidates<'t>>,
}

impl Asked<'_> {
    /// Whether one of the earlier rule's texts is found wherever this one is.
    fn is_covered_by(&self, earlier: &CompiledRule, texts: &Texts) -> bool {
        earlier.texts().any(|at| {
            texts.source(at) == self.source
                || self.found.as_ref().is_some_and(|found| found.matched(at))
        })
    }
}

/// The words of a pattern that is nothing but words.
fn plain_words(text: &str) -> Option<String> {
    match rule_hir(text).ok()?.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).ok(),
        HirKind::Empty
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Capture(_)
        | HirKind::Concat(_)
        | HirKind::Alternation(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(rules: &str) -> Vec<String> {
        let files = [("my.toml".to_owned(), rules.to_owned())];
        let table = Table::with_files(&files).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let lines = table.lint().into_iter().map(|finding| finding.to_string());
        lines.filter(|line| line.starts_with("my.toml")).collect()
    }

    const ONE: &str = "[[rule]]\nname = \"one\"\ncategory = \"ip-blocked\"\naction = \"hold\"\n";
    const TWO: &str = "[[rule]]\nname = \"two\"\ncategory = \"spam-content\"\naction = \"hold\"\n";

    #[test]
    fn a_rule_that_an_earlier_one_takes_everything_from_is_found() {
        let rules = format!(
            "{ONE}code = [\"55x\"]\ntext = 'blocked|refused'\nexample = \"550 blocked\"\n\n{TWO}code = [\"550\"]\nphase = [\"rcpt\"]\ntext = 'is blocked'\n"
        );
        assert_eq!(
            findings(&rules),
            [
                "my.toml:9: rule two: never reached: rule one (my.toml:1) takes all that this one asks for; move this one before it, or remove it",
                "my.toml:9: rule two: has no example; add a reply that it is meant for, so that a later change cannot take it away unseen",
            ]
        );
    }

    #[test]
    fn a_rule_that_asks_for_less_than_the_earlier_one_is_not_shadowed() {
        for (first, second) in [
            ("code = [\"550\"]", "code = [\"55x\"]"),
            ("phase = [\"mail\"]", "phase = [\"rcpt\"]"),
            ("provider = [\"google\"]", ""),
            ("text = 'mail is blocked'", "text = 'blocked'"),
            ("enhanced = [\"5.7.1\"]", "enhanced = [\"5.7.2\"]"),
            ("accepted_before = 2", "accepted_before = 1"),
            ("tls = \"yes\"", ""),
        ] {
            let rules = format!("{ONE}{first}\n\n{TWO}{second}\n");
            let found = findings(&rules);
            let shadowed = found.iter().any(|line| line.contains("never reached"));
            assert!(!shadowed, "{first} / {second}");
        }
    }

    #[test]
    fn a_text_that_is_found_in_every_reply_is_found() {
        for text in [".", ".*", "x?", "\\W"] {
            let rules =
                format!("{ONE}code = [\"499\"]\ntext = '{text}'\nexample = \"499 any thing\"\n");
            assert_eq!(
                findings(&rules),
                [format!(
                    "my.toml:1: rule one: text = '{text}' is found in every reply; leave `text` out, or name words of the reply"
                )]
            );
        }
    }

    #[test]
    fn a_retry_schedule_that_only_the_configuration_could_have_is_found() {
        let rules = format!(
            "{ONE}code = [\"499\"]\nretry = \"graylist\"\nexample = \"499 no\"\n\n{TWO}code = [\"498\"]\nretry = \"greylist\"\nexample = \"498 no\"\n"
        );
        assert_eq!(
            findings(&rules),
            [
                "my.toml:1: rule one: retry = \"graylist\" is not built in; make sure that relayd.toml has [retry.graylist], or write one of default, greylist"
            ]
        );
    }

    #[test]
    fn an_operators_rule_may_leave_nothing_for_a_default_one() {
        let files = [("my.toml".to_owned(), format!("{ONE}example = \"550 no\"\n"))];
        let table = Table::with_files(&files).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(table.lint(), []);
    }

    #[test]
    fn the_default_table_gives_no_finding() {
        let lines: Vec<String> = Table::default_table()
            .lint()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
