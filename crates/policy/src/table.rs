//! The policy table: rules and providers read from TOML, checked, compiled once.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use relay_smtp::{EnhancedStatus, Failure, Phase};

use crate::category::Category;
use crate::decide::{Action, Context, Rule, TlsInUse};
use crate::guard::{CompiledGuard, Guard};
use crate::index::{Entry, Index, Question};
use crate::input::Input;
use crate::load::{Actions, Example, Loaded, LoadedRule, Regexes, load};
use crate::memory::Memory;
use crate::names::check_names;
use crate::pattern::{Codes, EnhancedPattern};
use crate::provider::Providers;
use crate::texts::{Candidates, Texts};

/// What messages call the default table: its place in the source tree and the package.
pub(crate) const DEFAULT_FILE: &str = "etc/policy.toml";
const DEFAULT_TEXT: &str = include_str!("../../../etc/policy.toml");

/// A checked, compiled table: the operator's files first, then the default table. Immutable;
/// a reload makes a new one. Cheap to share (`Arc<Table>`).
#[derive(Debug)]
pub struct Table {
    rules: Vec<CompiledRule>,
    guards: Vec<CompiledGuard>,
    providers: Providers,
    texts: Texts,
    index: Index,
    /// By first digit, 1 to 5: the rule that takes every reply of the class.
    reply_fallback: [usize; 5],
    /// In the order of `Failure::ALL`.
    failure_fallback: Vec<usize>,
}

/// One rule, ready to match.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub rule: Arc<Rule>,
    pub category: Category,
    pub actions: Actions,
    pub wait: Option<Duration>,
    /// Indexes into the table's providers; empty: any.
    providers: Vec<usize>,
    /// Bits in the order of `Phase::ALL`.
    phases: u16,
    /// Empty: the rule speaks of failures.
    codes: Codes,
    enhanced: Vec<EnhancedPattern>,
    /// Bits in the order of `Failure::ALL`.
    failures: u32,
    /// Indexes into the table's texts, of which one must match; empty: any text.
    texts: Range<usize>,
    accepted_before: u32,
    tls: Option<TlsInUse>,
    examples: Vec<Example>,
    file: String,
}

/// What takes a reply.
#[derive(Clone, Copy)]
pub(crate) struct Taken<'t> {
    pub rule: &'t CompiledRule,
    /// What keeps the address from being suppressed, where the rule would.
    pub guard: Option<&'t Guard>,
}

/// One row of `policy list`.
#[derive(Clone, Debug)]
pub struct RuleRow<'t> {
    pub rule: &'t Rule,
    pub category: Category,
    /// The action after a 4yz reply or a failure, and after a 5yz reply; None: not matched.
    pub actions: [Option<Action>; 2],
    /// Empty: any.
    pub providers: Vec<&'t str>,
}

/// One mistake in a table file. Display: `file:line: key = found: what is wrong; the fix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct TableError {
    pub file: String,
    pub line: usize,
    pub message: String,
}

impl Table {
    /// The default table that is compiled in (`etc/policy.toml`).
    pub fn default_table() -> Table {
        match Table::with_files(&[]) {
            Ok(table) => table,
            // The tests of this crate load the same text, so a program with a wrong one is never built.
            Err(errors) => unreachable!("the default table is wrong: {}", errors[0]),
        }
    }

    /// Operator files in the order in which they are tried, each as (path for messages, text),
    /// followed by the default table. Refused as a whole if one rule is wrong.
    pub fn with_files(files: &[(String, String)]) -> Result<Table, Vec<TableError>> {
        Table::of(files, DEFAULT_TEXT)
    }

    /// A table with another text in place of the default one, to measure what a change would do.
    /// Its examples are not tried.
    pub fn in_place_of_default(text: &str) -> Result<Table, Vec<TableError>> {
        Table::of(&[], text)
    }

    fn of(files: &[(String, String)], default: &str) -> Result<Table, Vec<TableError>> {
        let mut errors = Vec::new();
        let mut all = Loaded::default();
        let default = (DEFAULT_FILE.to_owned(), default.to_owned());
        for (file, text) in files.iter().chain([&default]) {
            let regexes = match file.as_str() {
                DEFAULT_FILE => Regexes::Parsed,
                _ => Regexes::Built,
            };
            let loaded = load(file, text, regexes, &mut errors);
            all.providers.extend(loaded.providers);
            all.rules.extend(loaded.rules);
            all.guards.extend(loaded.guards);
        }
        let table = compile(all, &mut errors);
        match table {
            Some(table) if errors.is_empty() => {
                // An operator's rule may well take a default rule's examples over; that is its purpose.
                let wrong = table.failed_examples(|file| file != DEFAULT_FILE);
                if wrong.is_empty() {
                    Ok(table)
                } else {
                    Err(wrong)
                }
            }
            Some(_) | None => Err(errors),
        }
    }

    /// The name of the provider that a host or domain belongs to. The host decides where it is
    /// known, since it is the host whose words are read.
    pub fn provider_of(&self, mx: Option<&str>, domain: Option<&str>) -> Option<&Arc<str>> {
        self.providers.name(self.providers.find(mx, domain)?)
    }

    /// Whether the table has a provider of this name.
    pub fn knows_provider(&self, name: &str) -> bool {
        self.providers.named(name).is_some()
    }

    /// The first rule of this name.
    pub fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        let named = |compiled: &&CompiledRule| compiled.rule.name == name;
        self.rules
            .iter()
            .find(named)
            .map(|compiled| Arc::clone(&compiled.rule))
    }

    pub(crate) fn guards(&self) -> &[CompiledGuard] {
        &self.guards
    }

    pub(crate) fn compiled(&self) -> &[CompiledRule] {
        &self.rules
    }

    pub(crate) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Every rule, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = RuleRow<'_>> {
        self.rules.iter().map(|compiled| RuleRow {
            rule: &compiled.rule,
            category: compiled.category,
            actions: [compiled.actions.of_failure(), compiled.actions.of_digit(5)],
            providers: compiled
                .providers
                .iter()
                .filter_map(|at| self.providers.name(*at))
                .map(AsRef::as_ref)
                .collect(),
        })
    }

    pub(crate) fn provider_in(&self, context: &Context<'_>) -> Option<usize> {
        match context.provider {
            Some(name) => self.providers.named(name),
            None => self.providers.find(context.mx, context.domain),
        }
    }

    pub(crate) fn provider_name(&self, at: usize) -> Option<Arc<str>> {
        self.providers.name(at).cloned()
    }

    /// The first rule that matches a reply, and the guard that keeps it from suppressing.
    pub(crate) fn match_reply(
        &self,
        input: &Input,
        context: &Context<'_>,
        provider: Option<usize>,
        memory: &mut Memory,
    ) -> Taken<'_> {
        let marks = std::mem::take(&mut memory.marks);
        let texts = self.texts.candidates_in(&input.text, marks);
        let question = Question {
            code: input.code,
            phase: context.phase,
            enhanced: input.enhanced,
            texts: texts.ready(),
        };
        let rule = self
            .index
            .candidates(&question, &mut memory.rules)
            .map(|at| &self.rules[at])
            .find(|rule| {
                rule.allows_enhanced(input.enhanced)
                    && rule.allows_provider(provider)
                    && rule.allows_session(context)
                    && rule.allows_text(&texts)
            })
            .unwrap_or(&self.rules[self.reply_fallback[usize::from(input.digit()) - 1]]);
        let action = rule.actions.of_digit(input.digit());
        // What an operator's own rule says is meant; and a relay that says it suppresses the address speaks of our account.
        let guarded = action == Some(Action::BounceSuppress)
            && rule.is_default()
            && rule.category != Category::Suppressed;
        let guard = guarded.then(|| self.guards.iter().find(|guard| guard.holds(&texts)));
        memory.marks = texts.marks();
        Taken {
            rule,
            guard: guard.flatten().map(|guard| &guard.guard),
        }
    }

    /// The first rule that matches a failure.
    pub(crate) fn match_failure(
        &self,
        failure: Failure,
        context: &Context<'_>,
        provider: Option<usize>,
    ) -> &CompiledRule {
        let (bit, phase) = (failure_bit(failure), phase_bit(context.phase));
        self.rules
            .iter()
            .find(|rule| {
                rule.failures & bit != 0
                    && rule.phases & phase != 0
                    && rule.allows_provider(provider)
                    && rule.allows_session(context)
            })
            .unwrap_or(&self.rules[self.failure_fallback[failure_index(failure)]])
    }
}

impl CompiledRule {
    pub(crate) fn allows_text(&self, matched: &Candidates<'_>) -> bool {
        self.texts.is_empty() || matched.any_of(self.texts.clone())
    }

    pub(crate) fn allows_enhanced(&self, enhanced: Option<EnhancedStatus>) -> bool {
        self.enhanced.is_empty()
            || enhanced
                .is_some_and(|code| self.enhanced.iter().any(|pattern| pattern.matches(code)))
    }

    pub(crate) fn allows_provider(&self, provider: Option<usize>) -> bool {
        self.providers.is_empty() || provider.is_some_and(|at| self.providers.contains(&at))
    }

    pub(crate) fn allows_session(&self, context: &Context<'_>) -> bool {
        context.accepted_before >= self.accepted_before
            && self.tls.is_none_or(|wanted| wanted == context.tls)
    }

    /// Whether all matchers of this rule but `text` hold wherever those of the other one do.
    pub(crate) fn asks_less_than(&self, other: &CompiledRule) -> bool {
        self.codes.and(other.codes) == other.codes
            && self.failures & other.failures == other.failures
            && self.phases & other.phases == other.phases
            && is_within(&other.providers, &self.providers)
            && is_within(&other.enhanced, &self.enhanced)
            && self.accepted_before <= other.accepted_before
            && (self.tls.is_none() || self.tls == other.tls)
    }

    pub(crate) fn takes_code(&self, code: u16) -> bool {
        self.codes.contains(code)
    }

    /// The codes, as they could be written in a rule.
    pub(crate) fn codes_asked(&self) -> String {
        self.codes.to_string()
    }

    pub(crate) fn takes_phase(&self, phase: Phase) -> bool {
        self.phases & phase_bit(phase) != 0
    }

    pub(crate) fn enhanced(&self) -> &[EnhancedPattern] {
        &self.enhanced
    }

    pub(crate) fn providers(&self) -> &[usize] {
        &self.providers
    }

    pub(crate) fn accepted_before(&self) -> u32 {
        self.accepted_before
    }

    pub(crate) fn tls(&self) -> Option<TlsInUse> {
        self.tls
    }

    /// Indexes into the table's texts.
    pub(crate) fn texts(&self) -> Range<usize> {
        self.texts.clone()
    }

    pub(crate) fn is_default(&self) -> bool {
        self.file == DEFAULT_FILE
    }

    pub(crate) fn speaks_of_replies(&self) -> bool {
        self.failures == 0
    }

    pub(crate) fn examples(&self) -> &[Example] {
        &self.examples
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn has_example(&self) -> bool {
        !self.examples.is_empty()
    }

    /// The phase an example is tried in if it names none: rcpt where the rule allows it.
    pub(crate) fn first_phase(&self) -> Phase {
        if self.phases & phase_bit(Phase::Rcpt) != 0 {
            return Phase::Rcpt;
        }
        Phase::ALL
            .into_iter()
            .find(|phase| self.phases & phase_bit(*phase) != 0)
            .unwrap_or(Phase::Rcpt)
    }

    /// Whether nothing but code or failure is asked for.
    fn is_plain(&self) -> bool {
        self.providers.is_empty()
            && self.phases == ALL_PHASES
            && self.enhanced.is_empty()
            && self.texts.is_empty()
            && self.accepted_before == 0
            && self.tls.is_none()
    }
}

/// Whether what a rule asks for is within what another one asks for; an empty list asks for nothing.
fn is_within<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|one| outer.contains(one)))
}

const ALL_PHASES: u16 = (1 << Phase::ALL.len()) - 1;

fn compile(all: Loaded, errors: &mut Vec<TableError>) -> Option<Table> {
    check_names(&all, errors);
    check_codes(&all, errors);
    let providers = Providers::new(all.providers);
    let mut patterns = Vec::new();
    let mut rules = Vec::with_capacity(all.rules.len());
    for mut loaded in all.rules {
        let first = patterns.len();
        patterns.append(&mut loaded.texts);
        let texts = first..patterns.len();
        rules.push(compile_rule(loaded, texts, &providers, errors));
    }
    let guards = all.guards.into_iter();
    let guards = guards
        .map(|loaded| CompiledGuard::of(loaded, &mut patterns))
        .collect();
    let texts = Texts::new(patterns);
    if !errors.is_empty() {
        return None;
    }
    let (reply_fallback, failure_fallback) = fallbacks(&rules, errors)?;
    let mut index = Index::new(rules.len());
    for (at, rule) in rules.iter().enumerate() {
        let entry = Entry {
            takes_code: &|code| rule.takes_code(code),
            takes_phase: &|phase| rule.takes_phase(phase),
            enhanced: &rule.enhanced,
            texts: rule.texts.len(),
        };
        index.put(at, &entry);
    }
    Some(Table {
        index,
        rules,
        guards,
        providers,
        texts,
        reply_fallback,
        failure_fallback,
    })
}

fn compile_rule(
    loaded: LoadedRule,
    texts: Range<usize>,
    known: &Providers,
    errors: &mut Vec<TableError>,
) -> CompiledRule {
    let mut providers = Vec::new();
    for (name, line) in &loaded.providers {
        match known.named(name) {
            Some(at) => providers.push(at),
            None => errors.push(TableError {
                file: loaded.file.clone(),
                line: *line,
                message: format!("provider = {name:?}: unknown provider; add a [[provider]] of this name, or correct it"),
            }),
        }
    }
    let codes = rule_codes(&loaded);
    CompiledRule {
        rule: Arc::new(Rule {
            name: loaded.name,
            place: format!("{}:{}", loaded.file, loaded.line),
            explain: loaded.explain,
            fix: loaded.fix,
            retry: loaded.retry,
            give_up_after: loaded.give_up_after,
        }),
        category: loaded.category,
        actions: loaded.actions,
        wait: loaded.wait,
        providers,
        phases: match loaded.phases.as_slice() {
            [] => ALL_PHASES,
            some => some.iter().fold(0, |bits, phase| bits | phase_bit(*phase)),
        },
        codes,
        enhanced: loaded.enhanced,
        failures: loaded
            .failures
            .iter()
            .fold(0, |bits, failure| bits | failure_bit(*failure)),
        texts,
        accepted_before: loaded.accepted_before,
        tls: loaded.tls,
        examples: loaded.examples,
        file: loaded.file,
    }
}

/// The codes a rule speaks of: those it names, else every refusal. A rule never takes a 2yz or 3yz
/// reply unless it names the code: an acceptance whose text speaks of quotas is an acceptance.
fn rule_codes(loaded: &LoadedRule) -> Codes {
    if !loaded.failures.is_empty() {
        return Codes::default();
    }
    let named = loaded
        .codes
        .unwrap_or_else(|| Codes::of_digit(4).or(Codes::of_digit(5)));
    match loaded.actions {
        Actions::Always(_) => named,
        Actions::ByDigit {
            transient,
            permanent,
        } => {
            let mut spoken_of = Codes::default();
            if transient.is_some() {
                spoken_of = spoken_of.or(Codes::of_digit(4));
            }
            if permanent.is_some() {
                spoken_of = spoken_of.or(Codes::of_digit(5));
            }
            named.and(spoken_of)
        }
    }
}

/// A rule whose action and codes leave nothing over.
fn check_codes(all: &Loaded, errors: &mut Vec<TableError>) {
    for rule in &all.rules {
        if rule.codes.is_some() && rule_codes(rule).is_empty() {
            errors.push(TableError {
                file: rule.file.clone(),
                line: rule.line,
                message: format!("rule {} can never match: its action names no class of its codes; correct one of them", rule.name),
            });
        }
    }
}

/// For each class and each failure the rule that takes all of it: the proof that the table is total.
fn fallbacks(
    rules: &[CompiledRule],
    errors: &mut Vec<TableError>,
) -> Option<([usize; 5], Vec<usize>)> {
    let mut replies = [0; 5];
    for (slot, digit) in replies.iter_mut().zip(1u8..) {
        let class = Codes::of_digit(digit);
        match rules.iter().position(|rule| rule.is_plain() && rule.codes.and(class) == class) {
            Some(at) => *slot = at,
            None => errors.push(whole(format!("no rule takes every {digit}xx reply; add one with code = [\"{digit}xx\"] and no other matcher"))),
        }
    }
    let mut failures = Vec::new();
    for failure in Failure::ALL {
        match rules.iter().position(|rule| rule.is_plain() && rule.failures & failure_bit(failure) != 0) {
            Some(at) => failures.push(at),
            None => errors.push(whole(format!("no rule takes every failure {failure}; add one with failure = [\"{failure}\"] and no other matcher"))),
        }
    }
    errors.is_empty().then_some((replies, failures))
}

/// A mistake that belongs to no line of its own: it is the default table's.
fn whole(message: String) -> TableError {
    TableError {
        file: DEFAULT_FILE.to_owned(),
        line: 1,
        message,
    }
}

fn phase_bit(phase: Phase) -> u16 {
    1 << (phase as u16)
}

fn failure_bit(failure: Failure) -> u32 {
    1 << failure_index(failure)
}

fn failure_index(failure: Failure) -> usize {
    failure as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_of_the_default_table_can_be_built() {
        let mut errors = Vec::new();
        load(DEFAULT_FILE, DEFAULT_TEXT, Regexes::Built, &mut errors);
        assert_eq!(errors, []);
    }
}
