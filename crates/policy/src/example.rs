//! The examples of rules are tests: each is decided as a reply would be, and its own rule must take it.

use std::sync::Arc;

use relay_smtp::Reply;

use crate::decide::{Context, TlsInUse};
use crate::guard::Guard;
use crate::input::{Input, parse_pasted};
use crate::load::Example;
use crate::memory::Memory;
use crate::table::{CompiledRule, DEFAULT_FILE, Table, TableError};

impl Table {
    /// Examples of the default table that another rule takes: empty, or the table is wrong.
    pub fn check_default_examples(&self) -> Vec<TableError> {
        self.failed_examples(|file| file == DEFAULT_FILE)
    }

    /// Every example, decided as a reply would be: it must be taken by the rule it stands in.
    /// Those of a guard must not suppress an address.
    pub(crate) fn failed_examples(&self, of: impl Fn(&str) -> bool) -> Vec<TableError> {
        let mut wrong = Vec::new();
        for compiled in self.compiled().iter().filter(|rule| of(rule.file())) {
            for example in compiled.examples() {
                if let Err(message) = self.try_example(compiled, example) {
                    wrong.push(TableError {
                        file: compiled.file().to_owned(),
                        line: example.line,
                        message,
                    });
                }
            }
        }
        for compiled in self.guards().iter().filter(|guard| of(&guard.file)) {
            for example in &compiled.examples {
                if let Err(message) = self.try_guard(&compiled.guard, example) {
                    wrong.push(TableError {
                        file: compiled.file.clone(),
                        line: example.line,
                        message,
                    });
                }
            }
        }
        wrong
    }

    fn try_guard(&self, guard: &Guard, example: &Example) -> Result<(), String> {
        let reply = parse_pasted(&example.text).map_err(|reason| format!("example = {reason}"))?;
        if self.guards_of(&reply).any(|found| found == guard) {
            return Ok(());
        }
        Err(format!(
            "example = {:?} has nothing that guard {} asks for; change its text, or the example",
            example.text, guard.name
        ))
    }

    fn guards_of(&self, reply: &Reply) -> impl Iterator<Item = &Guard> {
        let input = Input::of(reply);
        let texts = self.texts().candidates(&input.text);
        let held = self.guards().iter().filter(|guard| guard.holds(&texts));
        let held: Vec<&Guard> = held.map(|guard| &guard.guard).collect();
        held.into_iter()
    }

    fn try_example(&self, compiled: &CompiledRule, example: &Example) -> Result<(), String> {
        let reply = parse_pasted(&example.text).map_err(|reason| format!("example = {reason}"))?;
        let phase = example.phase.unwrap_or_else(|| compiled.first_phase());
        let context = Context {
            mx: example.mx.as_deref(),
            accepted_before: example
                .accepted_before
                .unwrap_or(compiled.accepted_before()),
            tls: compiled.tls().unwrap_or(TlsInUse::No),
            ..Context::of(phase)
        };
        let provider = match (&example.provider, &example.mx) {
            (Some(name), _) => self.provider_in(&Context {
                provider: Some(name),
                ..context
            }),
            (None, Some(_)) => self.provider_in(&context),
            (None, None) => compiled.providers().first().copied(),
        };
        let taken = self
            .match_reply(
                &Input::of(&reply),
                &context,
                provider,
                &mut Memory::default(),
            )
            .rule;
        if Arc::ptr_eq(&taken.rule, &compiled.rule) {
            return Ok(());
        }
        Err(format!(
            "example = {:?} is taken by rule {} ({}), not by {}; change the matchers or the order, or move the example",
            example.text, taken.rule.name, taken.rule.place, compiled.rule.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_of_the_default_table_is_taken_by_its_rule() {
        let table = Table::with_files(&[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let wrong = table.check_default_examples();
        let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert!(wrong.is_empty(), "{}", lines.join("\n"));
    }
}
