//! Keys that nobody knows, keys of a later version, and tables in the wrong shape: named, and taken
//! out of the layer, so that what is merged has the shape of the table of options.

use config::{Value, ValueKind};
// Letters changed, added, removed or swapped with their neighbour.
use strsim::osa_distance as distance;

use crate::layer::{Layer, Tree};
use crate::options::OPTIONS;
use crate::row::{self, Status};
use crate::section::Mistakes;

/// Checks the keys of one layer.
pub(crate) fn keep_known(layer: &mut Layer, mistakes: &Mistakes) {
    let place = Place {
        row: String::new(),
        shown: String::new(),
    };
    keep_known_in(&mut layer.0, &place, mistakes);
}

/// A table: as rows name it, and as people do.
struct Place {
    row: String,
    shown: String,
}

impl Place {
    fn below(&self, name: &str, suffix: &str, shown: &str) -> Place {
        Place {
            row: format!("{}{suffix}", join(&self.row, name)),
            shown: join(&self.shown, shown),
        }
    }
}

/// What the rows say about a name.
enum Shape {
    Option,
    NotYet(&'static str),
    Table,
    ArrayOfTables,
    NamedTables,
    Unknown,
}

fn keep_known_in(tree: &mut Tree, place: &Place, mistakes: &Mistakes) {
    tree.retain(|name, value| keep(name, value, place, mistakes));
}

fn keep(name: &str, value: &mut Value, place: &Place, mistakes: &Mistakes) -> bool {
    let origin = value.origin().map(str::to_owned);
    let refuse = |what: &str| {
        let key = join(&place.shown, name);
        mistakes.add(origin.as_deref(), &format!("{key}: {what}"));
        false
    };
    match (shape(&join(&place.row, name)), &mut value.kind) {
        (Shape::Option, _) => true,
        (Shape::NotYet(what), _) => refuse(&format!(
            "not built yet in this version ({what}); remove it"
        )),
        (Shape::Table, ValueKind::Table(inner)) => {
            keep_known_in(inner, &place.below(name, "", name), mistakes);
            true
        }
        (Shape::ArrayOfTables, ValueKind::Array(items)) => {
            let below = place.below(name, "[]", name);
            items.retain_mut(|item| match &mut item.kind {
                ValueKind::Table(inner) => {
                    keep_known_in(inner, &below, mistakes);
                    true
                }
                _ => refuse(&format!("not a table; write [[{name}]] and its keys below")),
            });
            true
        }
        (Shape::NamedTables, ValueKind::Table(tables)) => {
            keep_named(tables, name, place, mistakes);
            true
        }
        (Shape::Table, _) => refuse(&format!("not a table; write [{name}] and its keys below")),
        (Shape::ArrayOfTables, _) => refuse(&format!(
            "not a list of tables; write [[{name}]] and its keys below"
        )),
        (Shape::NamedTables, _) => refuse(&format!(
            "not tables with names; write [{name}.default] and its keys below"
        )),
        (Shape::Unknown, _) => refuse(&format!("unknown key; {}", suggestion(name, place))),
    }
}

/// `[retry.NAME]`: the name is the operator's.
fn keep_named(tables: &mut Tree, parent: &str, place: &Place, mistakes: &Mistakes) {
    tables.retain(|name, value| {
        let good = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let origin = value.origin().map(str::to_owned);
        let below = place.below(parent, ".*", &format!("{parent}.{name}"));
        let what = match &mut value.kind {
            ValueKind::Table(inner) if good => {
                keep_known_in(inner, &below, mistakes);
                return true;
            }
            ValueKind::Table(_) => "not a name; use letters, digits, - and _".to_owned(),
            _ => format!("not a table; write [{parent}.default] and its keys below"),
        };
        mistakes.add(origin.as_deref(), &format!("{}: {what}", below.shown));
        false
    });
}

fn shape(key: &str) -> Shape {
    if let Some(row) = row::find(key) {
        return match row.status {
            Status::Built => Shape::Option,
            Status::NotYet(what) => Shape::NotYet(what),
        };
    }
    let begins_with = |suffix: &str| {
        let start = format!("{key}{suffix}");
        OPTIONS.iter().any(|row| row.key.starts_with(&start))
    };
    if begins_with("[].") {
        Shape::ArrayOfTables
    } else if begins_with(".*.") {
        Shape::NamedTables
    } else if begins_with(".") {
        Shape::Table
    } else {
        Shape::Unknown
    }
}

/// The nearest name in the same table, else the same name in another table, else all names here.
fn suggestion(name: &str, place: &Place) -> String {
    let here = names_in(&place.row);
    let near = here
        .iter()
        .map(|known| (distance(name, known), *known))
        .filter(|(distance, known)| *distance <= known.len().max(name.len()) / 3)
        .min();
    if let Some((_, known)) = near {
        return format!("did you mean {}?", join(&place.shown, known));
    }
    let elsewhere = OPTIONS.iter().find(|row| row.split().1 == name);
    if let Some(row) = elsewhere {
        let (table, key) = row.split();
        let header = match table.strip_suffix("[]") {
            Some(array) => format!("[[{array}]]"),
            None if table.is_empty() => "the top of the file".to_owned(),
            None => format!("[{}]", table.replace('*', "default")),
        };
        return format!("did you mean {key} in {header}?");
    }
    match place.shown.as_str() {
        "" => format!("known are {}", here.join(", ")),
        table => format!("[{table}] has {}", here.join(", ")),
    }
}

/// The names that may stand in a table, in the order of the rows.
fn names_in(table: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for row in OPTIONS {
        let rest = match table {
            "" => Some(row.key),
            table => row
                .key
                .strip_prefix(table)
                .and_then(|rest| rest.strip_prefix('.')),
        };
        let Some(rest) = rest else { continue };
        let first = rest.split('.').next().unwrap_or(rest);
        let first = first.strip_suffix("[]").unwrap_or(first);
        if !names.contains(&first) {
            names.push(first);
        }
    }
    names
}

fn join(table: &str, name: &str) -> String {
    match table {
        "" => name.to_owned(),
        table => format!("{table}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn swapped_neighbours_are_one_step_away() {
        assert_eq!(distance("lsitener", "listener"), 1);
        assert_eq!(distance("listner", "listener"), 1);
        assert_eq!(distance("tls", "dns"), 2);
        assert_eq!(distance("", "abc"), 3);
    }
}
