//! One layer of the configuration as a tree in which every value knows the place it comes from:
//! `relayd.toml:14`, `environment RELAYD__DELIVERY__PORT` or `command line`.

use std::collections::{BTreeMap, BTreeSet};

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::options::OPTIONS;
use crate::parse::{Mistake, Source};
use crate::row;

/// A table of the merged configuration.
pub(crate) type Tree = Map<String, Value>;

/// One layer, ready to be laid over the ones before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer(pub(crate) Tree);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Tree, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Lays the layers over each other, the last on top. Tables are merged key by key; the values in
/// them, lists included, are replaced. Arrays of tables are the exception: those of the files are
/// put one after the other, so that a file of conf.d can add a `[[dkim]]`; the environment and the
/// command line replace them.
pub(crate) fn merge(mut files: Vec<Layer>, above: Vec<Layer>) -> Result<Tree, Mistake> {
    let arrays: BTreeSet<&str> = OPTIONS
        .iter()
        .filter_map(|row| row.key.split_once("[]"))
        .map(|(name, _)| name)
        .collect();
    for name in arrays {
        let mut so_far: Vec<Value> = Vec::new();
        for Layer(tree) in &mut files {
            if let Some(ValueKind::Array(items)) = tree.get_mut(name).map(|v| &mut v.kind) {
                so_far.append(items);
                items.clone_from(&so_far);
            }
        }
    }
    // Merged tables lose their place; what is missing in them is told at the first one's.
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    let mut builder = config::Config::builder();
    for layer in files.into_iter().chain(above) {
        for (name, value) in &layer.0 {
            if let Some(place) = value.origin() {
                places
                    .entry(name.clone())
                    .or_insert_with(|| place.to_owned());
            }
        }
        builder = builder.add_source(layer);
    }
    let mut merged = builder
        .build()
        .and_then(|merged| config::Source::collect(&merged))
        .map_err(|error| Mistake(format!("the configuration cannot be merged: {error}")))?;
    for (name, value) in &mut merged {
        if value.origin().is_none() {
            *value = Value::new(places.get(name), std::mem::take(&mut value.kind));
        }
    }
    Ok(merged)
}

/// Reads one file.
pub(crate) fn from_file(source: &Source) -> Result<Layer, Mistake> {
    let lines = Lines::of(&source.text);
    let place = |start: usize| format!("{}:{}", source.name, lines.at(start));
    match DeTable::parse(&source.text) {
        Ok(table) => Ok(Layer(tree(table.get_ref(), &place))),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            Err(Mistake(format!(
                "{}: not TOML: {}",
                place(start),
                error.message().trim()
            )))
        }
    }
}

/// Reads pairs such as `RELAYD__DELIVERY__PORT=26`: one layer for each.
pub(crate) fn from_environment(name: &str, text: &str) -> Option<Layer> {
    let path = name.strip_prefix("RELAYD__")?.to_ascii_lowercase();
    let steps: Vec<&str> = path.split("__").collect();
    Some(one_value(&steps, text, &format!("environment {name}")))
}

/// Reads one key of the command line: `state.dir` and a TOML value, or plain text where text is
/// wanted.
pub(crate) fn from_override(key: &str, text: &str) -> Layer {
    let steps: Vec<&str> = key.split('.').collect();
    one_value(&steps, text, "command line")
}

fn one_value(steps: &[&str], text: &str, place: &str) -> Layer {
    let mut kind = loose_value(&row_key(steps), text, place);
    let origin = place.to_owned();
    let Some((first, rest)) = steps.split_first() else {
        return Layer::default();
    };
    for step in rest.iter().rev() {
        let inner = Value::new(Some(&origin), kind);
        kind = ValueKind::Table(Tree::from_iter([((*step).to_owned(), inner)]));
    }
    let value = Value::new(Some(&origin), kind);
    Layer(Tree::from_iter([((*first).to_owned(), value)]))
}

/// A shell takes quotes away, so a text may come without them.
fn loose_value(key: &str, text: &str, place: &str) -> ValueKind {
    let quoted = text.starts_with(['"', '\'']);
    let is_text = row::find(key).is_some_and(|row| row.kind.is_text());
    if is_text && !quoted {
        return ValueKind::String(text.to_owned());
    }
    match DeValue::parse(text) {
        Ok(value) => kind(value.get_ref(), &|_| place.to_owned()),
        Err(_) => ValueKind::String(text.to_owned()),
    }
}

/// `retry.greylist.max_age` is described by the row `retry.*.max_age`.
fn row_key(steps: &[&str]) -> String {
    match steps {
        ["retry", _, rest @ ..] => format!("retry.*.{}", rest.join(".")),
        steps => steps.join("."),
    }
}

/// The value of a TOML text that is our own: a default or an example of the table of options.
pub(crate) fn own_value(text: &str) -> Value {
    let value = DeValue::parse(text).expect("the table of options is TOML, and a test says so");
    Value::new(None, kind(value.get_ref(), &|_| String::new()))
}

fn tree(table: &DeTable<'_>, place: &dyn Fn(usize) -> String) -> Tree {
    table
        .iter()
        .map(|(key, value)| {
            let origin = place(key.span().start);
            let value = Value::new(Some(&origin), kind(value.get_ref(), place));
            (key.get_ref().to_string(), value)
        })
        .collect()
}

fn kind(value: &DeValue<'_>, place: &dyn Fn(usize) -> String) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        // What does not fit is kept as text, and refused by whoever wants a number.
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| ValueKind::String(integer.to_string()), ValueKind::I64),
        DeValue::Float(float) => float
            .as_str()
            .parse()
            .map_or_else(|_| ValueKind::String(float.to_string()), ValueKind::Float),
        DeValue::Boolean(boolean) => ValueKind::Boolean(*boolean),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(items) => ValueKind::Array(
            items
                .iter()
                .map(|item: &Spanned<DeValue<'_>>| {
                    let origin = place(item.span().start);
                    Value::new(Some(&origin), kind(item.get_ref(), place))
                })
                .collect(),
        ),
        DeValue::Table(table) => ValueKind::Table(tree(table, place)),
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of an offset, counted from 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
