//! The decision found in the plainest way, rule after rule with all its matchers: the one that is found through the literal search
//! and the sets of bits must be the same, over the corpus and over texts made up of its words.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use regex::bytes::Regex;
use relay_smtp::{EnhancedStatus, Phase, Reply};

use crate::category::Category;
use crate::decide::{Action, Context, TlsInUse};
use crate::input::{Input, parse_pasted};
use crate::load::rule_regex;
use crate::memory::Memory;
use crate::table::Table;

struct Plain {
    table: Table,
    /// Of all texts of the table.
    regexes: Vec<Regex>,
}

impl Plain {
    fn new(table: Table) -> Plain {
        let sources = (0..table.texts().len()).map(|at| table.texts().source(at));
        let regexes = sources.map(|one| rule_regex(one).unwrap()).collect();
        Plain { table, regexes }
    }

    fn one_matches(&self, texts: Range<usize>, text: &str) -> bool {
        let mut regexes = self.regexes[texts].iter();
        regexes.any(|regex| regex.is_match(text.as_bytes()))
    }

    /// The rule and the guard by name.
    fn match_reply(&self, reply: &Reply, context: &Context<'_>) -> (&str, Option<&str>) {
        let input = Input::of(reply);
        let provider = self.table.provider_in(context);
        let holds = |rule: &&crate::table::CompiledRule| {
            rule.takes_code(input.code)
                && rule.takes_phase(context.phase)
                && rule.allows_enhanced(input.enhanced)
                && rule.allows_provider(provider)
                && rule.allows_session(context)
                && (rule.texts().is_empty() || self.one_matches(rule.texts(), &input.text))
        };
        let rule = self.table.compiled().iter().find(holds).unwrap();
        let guarded = rule.actions.of_digit(input.digit()) == Some(Action::BounceSuppress)
            && rule.is_default()
            && rule.category != Category::Suppressed;
        let mut guards = self.table.guards().iter().filter(|_| guarded);
        let guard = guards.find(|guard| self.one_matches(guard.texts(), &input.text));
        let guard = guard.map(|guard| guard.guard.name.as_str());
        (&rule.rule.name, guard)
    }

    fn check(&self, reply: &Reply, context: &Context<'_>) {
        let provider = self.table.provider_in(context);
        let mut memory = Memory::take();
        let input = Input::of(reply);
        let taken = self
            .table
            .match_reply(&input, context, provider, &mut memory);
        memory.keep();
        let guard = taken.guard.map(|guard| guard.name.as_str());
        let found = (taken.rule.rule.name.as_str(), guard);
        assert_eq!(
            found,
            self.match_reply(reply, context),
            "{reply} in {context:?}"
        );
    }
}

/// Reply and phase of each line of the test data.
fn wordings() -> impl Iterator<Item = (Reply, Phase)> {
    let lines = include_str!("../tests/data/wordings.tsv").lines().skip(1);
    lines.map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [_, _, phase, _, _, text] = cells[..] else {
            panic!("{line} has not six cells");
        };
        let reply = parse_pasted(&text.replace("\\n", "\n")).unwrap();
        (reply, phase.parse().unwrap())
    })
}

/// Words of the test data, of the patterns and of nobody, put together at random.
fn made_up(rng: &mut StdRng, words: &[String]) -> Reply {
    let some = |rng: &mut StdRng, most: usize| -> String {
        let count = rng.random_range(0..=most);
        let chosen = (0..count).filter_map(|_| words.choose(rng));
        let chosen: Vec<&str> = chosen.map(String::as_str).collect();
        chosen.join([" ", " ", " ", "", ", ", " / "].choose(rng).unwrap_or(&" "))
    };
    let code = rng.random_range(400..600);
    let lines = (0..rng.random_range(1..=2))
        .map(|_| some(rng, 12))
        .collect();
    let codes = [
        "1.1", "2.2", "7.1", "7.26", "4.2", "7.606", "3.4", "0.0", "9.99",
    ];
    let enhanced = codes.choose(rng).filter(|_| code % 3 != 0).map(|rest| {
        let code: EnhancedStatus = format!("{}.{rest}", code / 100).parse().unwrap();
        code
    });
    Reply {
        code,
        enhanced,
        lines,
    }
}

#[test]
fn the_quick_way_to_a_rule_leads_to_the_same_rule_as_the_plain_one() {
    let plain = Plain::new(Table::default_table());
    let mut words: Vec<String> = Vec::new();
    for (reply, phase) in wordings() {
        plain.check(&reply, &Context::of(phase));
        words.extend(reply.text().split(' ').map(str::to_owned));
    }
    for source in (0..plain.table.texts().len()).map(|at| plain.table.texts().source(at)) {
        let letters = source.split(|c: char| !c.is_alphanumeric() && c != ' ' && c != '-');
        words.extend(letters.map(str::to_owned));
    }
    let mut rng = StdRng::seed_from_u64(4);
    let phases = Phase::ALL;
    let providers = [
        None,
        Some("google"),
        Some("microsoft"),
        Some("gmx"),
        Some("qq"),
    ];
    for _ in 0..1500 {
        let reply = made_up(&mut rng, &words);
        let context = Context {
            provider: providers.choose(&mut rng).copied().flatten(),
            accepted_before: rng.random_range(0..3),
            tls: match rng.random_range(0..2) {
                0 => TlsInUse::No,
                _ => TlsInUse::Yes,
            },
            ..Context::of(*phases.choose(&mut rng).unwrap_or(&Phase::Rcpt))
        };
        plain.check(&reply, &context);
    }
}
