//! Reads a table file: TOML to checked rules and providers, with file, line, key and fix for each mistake.

use std::ops::Range;
use std::time::Duration;

use regex::bytes::RegexBuilder;
use relay_smtp::{Failure, Phase};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::category::Category;
use crate::decide::{Action, TlsInUse};
use crate::guard::LoadedGuard;
use crate::nearest::one_of;
use crate::pattern::{Codes, EnhancedPattern, duration};
use crate::provider::{Provider, host_name};
use crate::table::TableError;
use crate::texts::Text;

/// What one file holds.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub providers: Vec<Provider>,
    pub rules: Vec<LoadedRule>,
    pub guards: Vec<LoadedGuard>,
}

/// One `[[rule]]`, checked as far as it can be by itself.
#[derive(Debug)]
pub(crate) struct LoadedRule {
    pub file: String,
    pub line: usize,
    pub name: String,
    pub providers: Vec<(String, usize)>,
    pub phases: Vec<Phase>,
    pub codes: Option<Codes>,
    pub enhanced: Vec<EnhancedPattern>,
    pub failures: Vec<Failure>,
    /// One of these must match; empty: any text.
    pub texts: Vec<Text>,
    pub accepted_before: u32,
    pub tls: Option<TlsInUse>,
    pub category: Category,
    pub actions: Actions,
    pub wait: Option<Duration>,
    pub retry: Option<String>,
    pub give_up_after: Option<Duration>,
    pub explain: Option<String>,
    pub fix: Option<String>,
    pub examples: Vec<Example>,
}

/// `action = "defer"`, or `action = { 4xx = "defer", 5xx = "bounce" }`, which also confines the
/// rule to the classes it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actions {
    Always(Action),
    ByDigit {
        transient: Option<Action>,
        permanent: Option<Action>,
    },
}

/// A reply that must match its rule in the finished table.
#[derive(Debug)]
pub(crate) struct Example {
    pub line: usize,
    pub text: String,
    pub phase: Option<Phase>,
    pub provider: Option<String>,
    pub mx: Option<String>,
    pub accepted_before: Option<u32>,
}

/// Reads one file. Mistakes go to `errors`; what is right beside them is still returned, so that
/// one reading names all of them.
pub(crate) fn load(
    file: &str,
    text: &str,
    regexes: Regexes,
    errors: &mut Vec<TableError>,
) -> Loaded {
    let mut reader = Reader {
        file,
        line_starts: line_starts(text),
        regexes,
        errors,
    };
    let mut loaded = Loaded::default();
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let at = error.span().unwrap_or(0..0);
            reader.refuse(&at, format!("not TOML: {}", error.message()));
            return loaded;
        }
    };
    for (key, value) in root.get_ref() {
        match key.get_ref().as_ref() {
            "provider" => {
                for table in reader.tables("provider", value) {
                    loaded.providers.extend(reader.provider(table));
                }
            }
            "rule" => {
                for table in reader.tables("rule", value) {
                    loaded.rules.extend(reader.rule(table));
                }
            }
            "guard" => {
                for table in reader.tables("guard", value) {
                    loaded.guards.extend(reader.guard(table));
                }
            }
            other => reader.refuse(
                &key.span(),
                format!(
                    "{other}: unknown key; a table file holds [[rule]], [[provider]] and [[guard]]"
                ),
            ),
        }
    }
    loaded
}

const RULE_KEYS: &str = "name, provider, phase, code, enhanced, failure, text, accepted_before, tls, category, action, for, retry, give_up_after, explain, fix, example";

pub(crate) type Value<'t> = Spanned<DeValue<'t>>;
pub(crate) type TableAt<'t> = (Range<usize>, &'t DeTable<'t>);

/// How far the texts of a file are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Regexes {
    /// Parsed: enough for the default table, all of whose texts are built by a test.
    Parsed,
    /// Built as for matching, so that none can turn out too large later.
    Built,
}

pub(crate) struct Reader<'a> {
    file: &'a str,
    /// Where each line begins.
    line_starts: Vec<usize>,
    regexes: Regexes,
    errors: &'a mut Vec<TableError>,
}

impl Reader<'_> {
    fn provider(&mut self, (at, table): TableAt<'_>) -> Option<Provider> {
        let (mut name, mut mx, mut domain) = (None, Vec::new(), Vec::new());
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => name = self.string("name", value),
                "mx" => mx = self.strings("mx", value),
                "domain" => domain = self.strings("domain", value),
                other => self.refuse(
                    &key.span(),
                    format!("{other}: unknown key in [[provider]]; it has name, mx, domain"),
                ),
            }
        }
        let Some(name) = name else {
            self.refuse(
                &at,
                "this [[provider]] has no name; add name = \"...\"".into(),
            );
            return None;
        };
        let patterns = |list: Vec<(String, Range<usize>)>| {
            list.iter()
                .map(|(pattern, _)| host_name(pattern).into_owned())
                .collect()
        };
        Some(Provider {
            name: name.into(),
            mx: patterns(mx),
            domain: patterns(domain),
        })
    }

    fn rule(&mut self, (at, table): TableAt<'_>) -> Option<LoadedRule> {
        let mistakes = self.errors.len();
        let mut draft = Draft::default();
        for (key, value) in table {
            self.rule_key(&mut draft, key, value);
        }
        let name = draft.name.take();
        if name.is_none() {
            self.refuse(&at, "this [[rule]] has no name; add name = \"...\", it is shown wherever the rule decides".into());
        }
        if draft.category.is_none() && mistakes == self.errors.len() {
            self.refuse(
                &at,
                "this [[rule]] has no category; add category = \"...\"".into(),
            );
        }
        if draft.actions.is_none() && mistakes == self.errors.len() {
            self.refuse(
                &at,
                "this [[rule]] has no action; add action = \"...\"".into(),
            );
        }
        self.check_together(&at, &draft);
        if self.errors.len() > mistakes {
            return None;
        }
        Some(LoadedRule {
            file: self.file.to_owned(),
            line: self.line(&at),
            name: name?,
            providers: draft.providers,
            phases: draft.phases,
            codes: draft.codes,
            enhanced: draft.enhanced,
            failures: draft.failures,
            texts: draft.texts,
            accepted_before: draft.accepted_before,
            tls: draft.tls,
            category: draft.category?,
            actions: draft.actions?,
            wait: draft.wait,
            retry: draft.retry,
            give_up_after: draft.give_up_after,
            explain: draft.explain,
            fix: draft.fix,
            examples: draft.examples,
        })
    }

    fn rule_key(&mut self, draft: &mut Draft, key: &Spanned<DeString<'_>>, value: &Value<'_>) {
        match key.get_ref().as_ref() {
            "name" => draft.name = self.string("name", value),
            "provider" => {
                for (name, at) in self.strings("provider", value) {
                    let line = self.line(&at);
                    draft.providers.push((name, line));
                }
            }
            "phase" => draft.phases = self.words("phase", value, |word| word.parse()),
            "code" => {
                let mut codes = Codes::default();
                self.words("code", value, |word| codes.add(word));
                draft.codes = Some(codes);
            }
            "enhanced" => draft.enhanced = self.words("enhanced", value, EnhancedPattern::parse),
            "failure" => {
                draft.failures = self.words("failure", value, |word| {
                    one_of("failure", word, &Failure::ALL, |failure| failure.word())
                });
            }
            "text" => draft.texts = self.regex_texts(value),
            "accepted_before" => draft.accepted_before = self.number("accepted_before", value),
            "tls" => {
                draft.tls = self.word("tls", value, |word| {
                    one_of("tls", word, &[TlsInUse::Yes, TlsInUse::No], TlsInUse::word)
                });
            }
            "category" => {
                draft.category = self.word("category", value, |word| {
                    one_of("category", word, &Category::ALL, Category::word)
                });
            }
            "action" => draft.actions = self.actions(value),
            "for" => draft.wait = self.word("for", value, duration),
            "retry" => draft.retry = self.string("retry", value),
            "give_up_after" => draft.give_up_after = self.word("give_up_after", value, duration),
            "explain" => draft.explain = self.string("explain", value),
            "fix" => draft.fix = self.string("fix", value),
            "example" => draft.examples = self.examples(value),
            other => self.refuse(
                &key.span(),
                format!("{other}: unknown key in [[rule]]; it has {RULE_KEYS}"),
            ),
        }
    }

    /// Mistakes that only show when the keys of a rule are seen together.
    fn check_together(&mut self, at: &Range<usize>, draft: &Draft) {
        let of_replies =
            draft.codes.is_some() || !draft.enhanced.is_empty() || !draft.texts.is_empty();
        if !draft.failures.is_empty() && of_replies {
            self.refuse(at, "failure stands beside code, enhanced or text, but a failure has none of them; make two rules".into());
        }
        if !draft.failures.is_empty() && !draft.examples.is_empty() {
            self.refuse(at, "example: an example is a reply, and a rule with failure never matches a reply; remove it".into());
        }
        let Some(actions) = draft.actions else { return };
        let timed = actions
            .words()
            .into_iter()
            .flatten()
            .find(|action| action.needs_time());
        // How long the address stays suppressed; without it the configuration says.
        let may_have_time = actions
            .words()
            .into_iter()
            .flatten()
            .any(|action| action == Action::BounceSuppress);
        match (timed, draft.wait) {
            (Some(action), None) => self.refuse(
                at,
                format!("action = {:?} needs a time; add for = \"15m\"", action.word()),
            ),
            (None, Some(_)) if !may_have_time => self.refuse(
                at,
                "for: only slow, suspend_source, suspend_destination and bounce_suppress have a time; remove it, or use give_up_after or retry".into(),
            ),
            (Some(_) | None, Some(_)) | (None, None) => {}
        }
    }

    fn actions(&mut self, value: &Value<'_>) -> Option<Actions> {
        let action = |word: &str| one_of("action", word, &Action::ALL, Action::word);
        let DeValue::Table(table) = value.get_ref() else {
            return self.word("action", value, action).map(Actions::Always);
        };
        let (mut transient, mut permanent) = (None, None);
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "4xx" => transient = self.word("action.4xx", value, action),
                "5xx" => permanent = self.word("action.5xx", value, action),
                other => self.refuse(
                    &key.span(),
                    format!("action.{other}: unknown key; write action = {{ 4xx = \"...\", 5xx = \"...\" }}"),
                ),
            }
        }
        if transient.is_none() && permanent.is_none() {
            self.refuse(
                &value.span(),
                "action names no class; write action = { 4xx = \"...\", 5xx = \"...\" }".into(),
            );
            return None;
        }
        Some(Actions::ByDigit {
            transient,
            permanent,
        })
    }

    pub(crate) fn regex_texts(&mut self, value: &Value<'_>) -> Vec<Text> {
        let regexes = self.regexes;
        self.words("text", value, |text| regex_text(text, regexes))
    }

    pub(crate) fn file(&self) -> &str {
        self.file
    }

    pub(crate) fn examples(&mut self, value: &Value<'_>) -> Vec<Example> {
        let mut examples = Vec::new();
        for item in list(value) {
            let line = self.line(&item.span());
            let mut example = Example {
                line,
                text: String::new(),
                phase: None,
                provider: None,
                mx: None,
                accepted_before: None,
            };
            match item.get_ref() {
                DeValue::Table(table) => {
                    for (key, value) in table {
                        match key.get_ref().as_ref() {
                            "text" => example.text = self.string("text", value).unwrap_or_default(),
                            "phase" => example.phase = self.word("phase", value, |word| word.parse()),
                            "provider" => example.provider = self.string("provider", value),
                            "mx" => example.mx = self.string("mx", value),
                            "accepted_before" => {
                                example.accepted_before = Some(self.number("accepted_before", value));
                            }
                            other => self.refuse(
                                &key.span(),
                                format!("{other}: unknown key in an example; it has text, phase, provider, mx, accepted_before"),
                            ),
                        }
                    }
                }
                _ => example.text = self.string("example", item).unwrap_or_default(),
            }
            examples.push(example);
        }
        examples
    }

    fn number(&mut self, key: &str, value: &Value<'_>) -> u32 {
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| number.as_str().parse().ok());
        if number.is_none() {
            self.refuse(
                &value.span(),
                format!("{key}: not a number; write a whole number such as 1"),
            );
        }
        number.unwrap_or(0)
    }

    /// One word, given to a parser whose error says what was found and the fix.
    fn word<T>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let word = self.string(key, value)?;
        match parse(&word) {
            Ok(parsed) => Some(parsed),
            Err(reason) => {
                self.refuse(&value.span(), format!("{key} = {reason}"));
                None
            }
        }
    }

    fn words<T>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for (word, at) in self.strings(key, value) {
            match parse(&word) {
                Ok(one) => parsed.push(one),
                Err(reason) => self.refuse(&at, format!("{key} = {reason}")),
            }
        }
        parsed
    }

    /// A list of strings; one string stands for a list of one.
    fn strings(&mut self, key: &str, value: &Value<'_>) -> Vec<(String, Range<usize>)> {
        let items = list(value);
        if items.is_empty() {
            self.refuse(&value.span(), format!("{key} is empty, so the rule could never match; remove the key or name something"));
        }
        items
            .iter()
            .filter_map(|item| Some((self.string(key, item)?, item.span())))
            .collect()
    }

    pub(crate) fn string(&mut self, key: &str, value: &Value<'_>) -> Option<String> {
        match value.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                let found = value.get_ref().type_str();
                self.refuse(
                    &value.span(),
                    format!("{key}: found a value of type {found}; write a text in quotes"),
                );
                None
            }
        }
    }

    fn tables<'t>(&mut self, key: &str, value: &'t Value<'t>) -> Vec<TableAt<'t>> {
        let mut tables = Vec::new();
        for item in list(value) {
            match item.get_ref().as_table() {
                Some(table) => tables.push((item.span(), table)),
                None => self.refuse(&item.span(), format!("{key}: not a table; write [[{key}]]")),
            }
        }
        tables
    }

    pub(crate) fn refuse(&mut self, at: &Range<usize>, message: String) {
        self.errors.push(TableError {
            file: self.file.to_owned(),
            line: self.line(at),
            message,
        });
    }

    pub(crate) fn line(&self, at: &Range<usize>) -> usize {
        self.line_starts.partition_point(|start| *start <= at.start)
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_breaks).collect()
}

#[derive(Default)]
struct Draft {
    name: Option<String>,
    providers: Vec<(String, usize)>,
    phases: Vec<Phase>,
    codes: Option<Codes>,
    enhanced: Vec<EnhancedPattern>,
    failures: Vec<Failure>,
    texts: Vec<Text>,
    accepted_before: u32,
    tls: Option<TlsInUse>,
    category: Option<Category>,
    actions: Option<Actions>,
    wait: Option<Duration>,
    retry: Option<String>,
    give_up_after: Option<Duration>,
    explain: Option<String>,
    fix: Option<String>,
    examples: Vec<Example>,
}

impl Actions {
    /// The action for a reply of this first digit; None: the rule does not speak of it.
    pub fn of_digit(self, digit: u8) -> Option<Action> {
        match self {
            Actions::Always(action) => Some(action),
            Actions::ByDigit {
                transient,
                permanent,
            } => match digit {
                4 => transient,
                5 => permanent,
                _ => None,
            },
        }
    }

    /// The action after a failure, which is nobody's refusal and so counts as transient.
    pub fn of_failure(self) -> Option<Action> {
        match self {
            Actions::Always(action) => Some(action),
            Actions::ByDigit { transient, .. } => transient,
        }
    }

    fn words(self) -> [Option<Action>; 2] {
        match self {
            Actions::Always(action) => [Some(action), None],
            Actions::ByDigit {
                transient,
                permanent,
            } => [transient, permanent],
        }
    }
}

/// How the `text` of a rule is compiled: case is ignored for ASCII letters; `\d`, `\w` and `\b`
/// are ASCII, which keeps the matcher small and fast.
pub(crate) fn rule_regex(text: &str) -> Result<regex::bytes::Regex, regex::Error> {
    RegexBuilder::new(text)
        .case_insensitive(true)
        .unicode(false)
        .size_limit(1 << 20)
        .build()
}

fn regex_text(text: &str, regexes: Regexes) -> Result<Text, String> {
    let refused = |reason: String| {
        let reason = reason.lines().last().unwrap_or_default();
        let reason = reason.trim_start_matches("error: ");
        format!(
            "'{text}': not a regular expression this table takes: {reason}; write a backslash before a character that is meant as itself, no look-around, and letters beyond ASCII as (a|b), not as [ab]"
        )
    };
    let parsed = Text::of(text).map_err(refused)?;
    if regexes == Regexes::Built {
        rule_regex(text).map_err(|error| refused(error.to_string()))?;
    }
    Ok(parsed)
}

fn list<'t>(value: &'t Value<'t>) -> &'t [Value<'t>] {
    match value.get_ref().as_array() {
        Some(array) => array,
        None => std::slice::from_ref(value),
    }
}
