//! The rules that nearly took a reply, and what each of them missed: the first question of whoever wonders why a rule did not.

use std::fmt;
use std::sync::Arc;

use relay_smtp::{EnhancedStatus, Phase, Reply};

use crate::category::Category;
use crate::decide::{Context, Rule, TlsInUse};
use crate::input::Input;
use crate::memory::Memory;
use crate::table::{CompiledRule, Table};
use crate::texts::Candidates;

/// A rule that one thing kept from deciding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    pub rule: Arc<Rule>,
    pub category: Category,
    pub missed: Missed,
}

/// What kept it. Display: in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// All of it holds, and an earlier rule decided.
    Place,
    /// The codes it asks for.
    Code(String),
    Enhanced(String),
    Phase(String),
    Provider(String),
    Text,
    AcceptedBefore(u32),
    Tls(TlsInUse),
}

impl Missed {
    /// The matcher's key in a rule; `place` for its place in the table.
    pub fn word(&self) -> &'static str {
        match self {
            Missed::Place => "place",
            Missed::Code(_) => "code",
            Missed::Enhanced(_) => "enhanced",
            Missed::Phase(_) => "phase",
            Missed::Provider(_) => "provider",
            Missed::Text => "text",
            Missed::AcceptedBefore(_) => "accepted_before",
            Missed::Tls(_) => "tls",
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Place => f.write_str("holds, too, but comes later"),
            Missed::Code(asked) => write!(f, "asks for code {asked}"),
            Missed::Enhanced(asked) => write!(f, "asks for enhanced code {asked}"),
            Missed::Phase(asked) => write!(f, "asks for phase {asked}"),
            Missed::Provider(asked) => write!(f, "asks for provider {asked}"),
            Missed::Text => f.write_str("asks for another text"),
            Missed::AcceptedBefore(asked) => {
                write!(f, "asks for {asked} recipients accepted before")
            }
            Missed::Tls(asked) => write!(f, "asks for tls = {:?}", asked.word()),
        }
    }
}

/// The first so many rules that name something this reply has, a text or an enhanced code, and that at
/// most one other matcher kept from deciding; those whose text is found come first.
pub fn near(table: &Table, reply: &Reply, context: &Context<'_>, most: usize) -> Vec<Near> {
    let input = Input::of(reply);
    let provider = table.provider_in(context);
    let taken = table
        .match_reply(&input, context, provider, &mut Memory::default())
        .rule;
    let seen = Seen {
        texts: table.texts().candidates(&input.text),
        enhanced: input.enhanced,
        code: input.code,
        context,
        provider,
    };
    let mut found: Vec<(Telling, Near)> = table
        .compiled()
        .iter()
        .filter(|rule| rule.speaks_of_replies() && !Arc::ptr_eq(&rule.rule, &taken.rule))
        .filter_map(|rule| {
            let (telling, missed) = seen.judge(table, rule)?;
            let near = Near {
                rule: Arc::clone(&rule.rule),
                category: rule.category,
                missed,
            };
            Some((telling, near))
        })
        .collect();
    found.sort_by_key(|(telling, _)| *telling);
    found.truncate(most);
    found.into_iter().map(|(_, near)| near).collect()
}

/// What of a rule makes it worth showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    Text,
    Enhanced,
}

struct Seen<'a> {
    texts: Candidates<'a>,
    enhanced: Option<EnhancedStatus>,
    code: u16,
    context: &'a Context<'a>,
    provider: Option<usize>,
}

impl Seen<'_> {
    fn judge(&self, table: &Table, rule: &CompiledRule) -> Option<(Telling, Missed)> {
        let text = rule.allows_text(&self.texts);
        let enhanced = rule.allows_enhanced(self.enhanced);
        let telling = if text && !rule.texts().is_empty() {
            Telling::Text
        } else if enhanced && !rule.enhanced().is_empty() {
            Telling::Enhanced
        } else {
            return None;
        };
        let session = self.context;
        let too_few = session.accepted_before < rule.accepted_before();
        let misses = [
            (!rule.takes_code(self.code)).then(|| Missed::Code(rule.codes_asked())),
            (!rule.takes_phase(session.phase)).then(|| Missed::Phase(phases(rule))),
            (!enhanced).then(|| Missed::Enhanced(joined(rule.enhanced().iter()))),
            (!rule.allows_provider(self.provider))
                .then(|| Missed::Provider(providers(table, rule))),
            too_few.then(|| Missed::AcceptedBefore(rule.accepted_before())),
            rule.tls()
                .filter(|asked| *asked != session.tls)
                .map(Missed::Tls),
            (!text).then_some(Missed::Text),
        ];
        let mut misses = misses.into_iter().flatten();
        match (misses.next(), misses.next()) {
            (None, _) => Some((telling, Missed::Place)),
            (Some(missed), None) => Some((telling, missed)),
            (Some(_), Some(_)) => None,
        }
    }
}

fn phases(rule: &CompiledRule) -> String {
    joined(
        Phase::ALL
            .into_iter()
            .filter(|phase| rule.takes_phase(*phase)),
    )
}

fn providers(table: &Table, rule: &CompiledRule) -> String {
    let names = rule.providers().iter();
    joined(names.filter_map(|at| table.provider_name(*at)))
}

fn joined(words: impl Iterator<Item = impl fmt::Display>) -> String {
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::parse_pasted;

    fn near_misses(rules: &str, reply: &str, phase: Phase) -> Vec<String> {
        let table = Table::with_files(&[("my.toml".into(), rules.into())]).unwrap();
        let reply = parse_pasted(reply).unwrap();
        near(&table, &reply, &Context::of(phase), 99)
            .into_iter()
            .filter(|near| near.rule.place.starts_with("my.toml"))
            .map(|near| format!("{} {}", near.rule.name, near.missed))
            .collect()
    }

    #[test]
    fn each_rule_that_one_matcher_kept_from_deciding_is_named_with_that_matcher() {
        let rule = |name: &str, matchers: &str| {
            format!(
                "[[rule]]\nname = \"{name}\"\ncategory = \"virus\"\naction = \"hold\"\n{matchers}\n"
            )
        };
        let rules = [
            rule(
                "by-phase",
                "text = 'gnu'\nphase = [\"data\", \"body\"]\ncode = [\"5xx\"]",
            ),
            rule("by-code", "text = 'gnu'\ncode = [\"45x\", \"421\"]"),
            rule("by-enhanced", "text = 'gnu'\nenhanced = [\"5.7.6xx\"]"),
            rule("by-provider", "text = 'gnu'\nprovider = [\"google\"]"),
            rule(
                "by-text",
                "text = 'gnat'\nenhanced = [\"x.1.99\"]\ncode = [\"550\"]",
            ),
            rule("by-count", "text = 'gnu'\naccepted_before = 2"),
            rule("by-tls", "text = 'gnu'\ntls = \"yes\""),
            rule("by-two", "text = 'gnu'\ntls = \"yes\"\ncode = [\"421\"]"),
            rule("taken", "text = 'gnu'"),
            rule("later", "text = 'a gnu'"),
            rule("other", "text = 'gnat'"),
        ];
        assert_eq!(
            near_misses(&rules.concat(), "550 5.1.99 a gnu", Phase::Rcpt),
            [
                "by-phase asks for phase data, body",
                "by-code asks for code 421, 45x",
                "by-enhanced asks for enhanced code 5.7.6xx",
                "by-provider asks for provider google",
                "by-count asks for 2 recipients accepted before",
                "by-tls asks for tls = \"yes\"",
                "later holds, too, but comes later",
                "by-text asks for another text",
            ]
        );
    }
}
