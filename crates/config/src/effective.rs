//! The effective values, each with the place it comes from: what `relayctl config show` prints.

use config::{Value, ValueKind};

use crate::kind::Kind;
use crate::layer::Tree;
use crate::options::OPTIONS;
use crate::parse::{Mistake, Source, merged};
use crate::row::{self, Default, Status};
use crate::section::Mistakes;

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// `listener[0].address`, `retry.default.max_age`.
    pub key: String,
    /// In TOML; `(not shown)` for a secret; words for a default that is found out at start.
    pub value: String,
    /// `relayd.toml:14`, `environment RELAYD__LOG__LEVEL`, `command line`, or `default`.
    pub from: String,
}

/// Every value in force, in the order of the table of options. What is wrong is [`crate::load`]'s
/// part: ask it first.
pub fn effective(
    sources: &[Source],
    environment: &[(String, String)],
    overrides: &[(String, String)],
) -> Result<Vec<Effective>, Vec<Mistake>> {
    let mistakes = Mistakes::default();
    let tree = merged(sources, environment, overrides, &mistakes)?;
    let mut given = Vec::new();
    flatten(&tree, "", "", &mut given);
    let mut all = Vec::new();
    for row in OPTIONS.iter().filter(|row| row.status == Status::Built) {
        let mut here: Vec<Effective> = given
            .iter()
            .filter(|(key, _)| key == row.key)
            .map(|(_, effective)| effective.clone())
            .collect();
        here.sort_by(|a, b| a.key.cmp(&b.key));
        let name = row.key.replace(".*.", ".default.");
        if !name.contains("[]") && !here.iter().any(|effective| effective.key == name) {
            here.insert(0, from_default(name, row.default));
        }
        all.append(&mut here);
    }
    Ok(all)
}

fn from_default(key: String, default: Default) -> Effective {
    let value = match default {
        Default::Is(text) => text.to_owned(),
        Default::Otherwise(words) => format!("({})", words.replace('`', "")),
        Default::Required => "(not given)".to_owned(),
    };
    Effective {
        key,
        value,
        from: "default".to_owned(),
    }
}

/// Pairs of row key and effective value.
fn flatten(tree: &Tree, row_table: &str, table: &str, into: &mut Vec<(String, Effective)>) {
    for (name, value) in tree {
        let row_key = join(row_table, name);
        let key = join(table, name);
        match (&value.kind, row::find(&row_key)) {
            (_, Some(row)) => into.push((
                row_key,
                Effective {
                    key,
                    value: match row.kind {
                        Kind::Secret => "(not shown)".to_owned(),
                        _ => toml_text(value),
                    },
                    from: value.origin().unwrap_or("default").to_owned(),
                },
            )),
            (ValueKind::Table(named), None) if name == "retry" && table.is_empty() => {
                for (name, inner) in named {
                    if let ValueKind::Table(inner) = &inner.kind {
                        flatten(inner, "retry.*", &format!("retry.{name}"), into);
                    }
                }
            }
            (ValueKind::Table(inner), None) => flatten(inner, &row_key, &key, into),
            (ValueKind::Array(items), None) => {
                for (at, item) in items.iter().enumerate() {
                    if let ValueKind::Table(inner) = &item.kind {
                        flatten(
                            inner,
                            &format!("{row_key}[]"),
                            &format!("{key}[{at}]"),
                            into,
                        );
                    }
                }
            }
            (_, None) => {}
        }
    }
}

fn toml_text(value: &Value) -> String {
    match &value.kind {
        ValueKind::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_text).collect();
            format!("[{}]", items.join(", "))
        }
        _ => crate::value::shown(value),
    }
}

fn join(table: &str, name: &str) -> String {
    match table {
        "" => name.to_owned(),
        table => format!("{table}.{name}"),
    }
}
