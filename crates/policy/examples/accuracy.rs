//! Measures the default table against a corpus: `cargo run -p relay-policy --example accuracy -- FILE.tsv`.
//!
//! The file has a header with at least the columns text, expected_category and expected_action;
//! provider and note (`phase=rcpt`) are used where present. Options: `--wrong` prints the rows that
//! differ, `--part N/M` takes only each row whose number modulo M is N, `--rest N/M` all others.
//! `--holdout FILE...` also says what is left when the table knows nothing of a third of the rows: for each third, by a hash of
//! its text, the texts of rules that are found in that third only, and in none of the other files' rows, are left out.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use regex::bytes::RegexBuilder;
use relay_policy::{Action, Context, Decision, Stimulus, Table, decide, parse_pasted};
use relay_smtp::Phase;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("accuracy: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<(), String> {
    let mut file = None;
    let (mut wrong, mut keep) = (Wrong::Counted, Keep::All);
    let mut others: Option<Vec<String>> = None;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--wrong" => wrong = Wrong::Shown,
            "--part" => keep = Keep::Part(fraction(args.next())?),
            "--rest" => keep = Keep::Rest(fraction(args.next())?),
            "--holdout" => others = Some(Vec::new()),
            _ => match &mut others {
                Some(others) => others.push(arg),
                None => file = Some(arg),
            },
        }
    }
    let file = file.ok_or(
        "name a file: accuracy [--wrong] [--part N/M | --rest N/M] FILE.tsv [--holdout FILE.tsv...]",
    )?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let rows = read(&text, keep)?;
    let table = Table::default_table();
    measure(&table, &rows, Providers::Given, wrong);
    measure(&table, &rows, Providers::Left, Wrong::Counted);
    time(&table, &rows);
    if let Some(others) = others {
        let mut known = String::new();
        for file in others {
            let text =
                std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
            known.push_str(&text);
        }
        hold_out(&rows, &known, wrong)?;
    }
    Ok(())
}

/// Thirds: each is measured with a table that has unlearned what only that third teaches.
const FOLDS: u64 = 3;

fn hold_out(rows: &[Row<'_>], known: &str, wrong: Wrong) -> Result<(), String> {
    let mut seen = Vec::new();
    for fold in 0..FOLDS {
        let (held, kept): (Vec<&Row<'_>>, Vec<&Row<'_>>) =
            rows.iter().partition(|row| hash(row.text) % FOLDS == fold);
        let known: Vec<&str> = kept
            .iter()
            .map(|row| row.text)
            .chain(known.lines())
            .collect();
        let (text, left_out) = unlearned(&held, &known)?;
        let table = Table::in_place_of_default(&text)
            .map_err(|errors| format!("third {fold}: {}", errors[0]))?;
        println!(
            "third {fold}: {} rows held out, {left_out} texts left out",
            held.len()
        );
        for row in held.iter().filter(|_| matches!(wrong, Wrong::Shown)) {
            if let Some(made) = decision(&table, row) {
                let found = (made.category.word(), made.action.word());
                if found != (row.category, row.action) {
                    let (category, action) = found;
                    println!(
                        "{} {}/{} not {category}/{action} by {}\n    {}",
                        row.id, row.category, row.action, made.rule.name, row.text
                    );
                }
            }
        }
        let count = |right: fn(&Row<'_>, &Decision) -> bool| {
            let rows = held
                .iter()
                .filter_map(|row| Some((row, decision(&table, row)?)));
            rows.filter(|(row, made)| right(row, made)).count()
        };
        seen.push((
            held.len(),
            count(|row, made| made.category.word() == row.category),
            count(|row, made| made.action.word() == row.action),
            count(is_harmful),
        ));
    }
    let sum = |of: fn(&(usize, usize, usize, usize)) -> usize| seen.iter().map(of).sum::<usize>();
    let percent = |right: usize| 100.0 * right as f64 / sum(|fold| fold.0).max(1) as f64;
    println!(
        "held out: category {:.1} %, action {:.1} %, {} suppressed where they should not be",
        percent(sum(|fold| fold.1)),
        percent(sum(|fold| fold.2)),
        sum(|fold| fold.3)
    );
    Ok(())
}

/// The default table without the texts that are found in held rows only; how many those are.
fn unlearned(held: &[&Row<'_>], known: &[&str]) -> Result<(String, usize), String> {
    let mut table: toml::Table = include_str!("../../../etc/policy.toml")
        .parse()
        .map_err(|error| format!("{error}"))?;
    let mut left_out = 0;
    let lists =
        ["rule", "guard"].map(|key| table.remove(key).unwrap_or(toml::Value::Array(vec![])));
    let [mut rules, mut guards] = lists;
    let both = [&mut rules, &mut guards]
        .into_iter()
        .filter_map(toml::Value::as_array_mut)
        .flatten();
    for rule in both.filter_map(toml::Value::as_table_mut) {
        rule.remove("example");
        let Some(texts) = rule.get("text").cloned() else {
            continue;
        };
        let texts = match texts {
            toml::Value::Array(texts) => texts,
            one => vec![one],
        };
        let before = texts.len();
        let learned = |text: &toml::Value| {
            let pattern = RegexBuilder::new(text.as_str().unwrap_or_default())
                .case_insensitive(true)
                .unicode(false)
                .build();
            pattern.is_ok_and(|pattern| {
                let found = |text: &str| pattern.is_match(text.as_bytes());
                !held.iter().any(|row| found(row.text)) || known.iter().any(|text| found(text))
            })
        };
        let texts: Vec<toml::Value> = texts.into_iter().filter(learned).collect();
        left_out += before - texts.len();
        // A rule without any text would take everything: it gets one that is never found.
        let texts = if texts.is_empty() {
            vec![toml::Value::String("\\x00unlearned".to_owned())]
        } else {
            texts
        };
        rule.insert("text".to_owned(), toml::Value::Array(texts));
    }
    table.insert("rule".to_owned(), rules);
    table.insert("guard".to_owned(), guards);
    let text = toml::to_string(&table).map_err(|error| error.to_string())?;
    Ok((text, left_out))
}

/// FNV-1a: the same on every machine.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn decision(table: &Table, row: &Row<'_>) -> Option<Decision> {
    let reply = parse_pasted(&row.text.replace("\\n", "\n")).ok()?;
    let context = Context {
        provider: Some(row.provider).filter(|name| table.knows_provider(name)),
        ..Context::of(row.phase)
    };
    Some(decide(table, Stimulus::Reply(&reply), &context))
}

fn is_harmful(row: &Row<'_>, made: &Decision) -> bool {
    made.action == Action::BounceSuppress && row.action != "bounce_suppress"
}

#[derive(Clone, Copy)]
enum Wrong {
    Counted,
    Shown,
}

#[derive(Clone, Copy)]
enum Providers {
    Given,
    Left,
}

#[derive(Clone, Copy)]
enum Keep {
    All,
    Part((usize, usize)),
    Rest((usize, usize)),
}

struct Row<'a> {
    id: &'a str,
    text: &'a str,
    provider: &'a str,
    phase: Phase,
    category: &'a str,
    action: &'a str,
}

fn fraction(text: Option<String>) -> Result<(usize, usize), String> {
    text.as_deref()
        .and_then(|text| text.split_once('/'))
        .and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok().filter(|m| *m > 0)?)))
        .ok_or_else(|| "write a fraction such as 0/3".to_owned())
}

fn read(text: &str, keep: Keep) -> Result<Vec<Row<'_>>, String> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let must = |name: &str| column(name).ok_or_else(|| format!("no column {name} in the header"));
    let (at_text, at_category, at_action) = (
        must("text")?,
        must("expected_category")?,
        must("expected_action")?,
    );
    let rows = lines.enumerate().filter(|(number, _)| match keep {
        Keep::All => true,
        Keep::Part((n, m)) => number % m == n,
        Keep::Rest((n, m)) => number % m != n,
    });
    Ok(rows
        .map(|(_, line)| {
            let cells: Vec<&str> = line.split('\t').collect();
            let cell = |at: Option<usize>| at.and_then(|at| cells.get(at)).copied().unwrap_or("");
            Row {
                id: cell(Some(0)),
                text: cell(Some(at_text)),
                provider: cell(column("provider")),
                phase: phase(cell(column("phase")), cell(column("note"))),
                category: cell(Some(at_category)),
                action: cell(Some(at_action)),
            }
        })
        .collect())
}

/// The phase of a row: its own column, else a note such as `phase=data-end`, else rcpt.
fn phase(own: &str, note: &str) -> Phase {
    let noted = note.split_once("phase=").map_or("", |(_, rest)| rest);
    let noted = noted.split([';', ' ']).next().unwrap_or("");
    let word = if own.is_empty() { noted } else { own };
    match word {
        "data-end" => Phase::Body,
        word => word.parse().unwrap_or(Phase::Rcpt),
    }
}

fn measure(table: &Table, rows: &[Row<'_>], providers: Providers, wrong: Wrong) {
    let (mut category, mut action, mut harmful) = (0, 0, 0);
    let mut confusion: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for row in rows {
        let Ok(reply) = parse_pasted(&row.text.replace("\\n", "\n")) else {
            println!("{}\tno reply: {}", row.id, row.text);
            continue;
        };
        let provider = match providers {
            Providers::Given => Some(row.provider).filter(|name| table.knows_provider(name)),
            Providers::Left => None,
        };
        let context = Context {
            provider,
            ..Context::of(row.phase)
        };
        let made = decide(table, Stimulus::Reply(&reply), &context);
        let (found, word) = (made.category.word(), made.action.word());
        category += usize::from(found == row.category);
        action += usize::from(word == row.action);
        harmful += usize::from(is_harmful(row, &made));
        *confusion
            .entry(row.category)
            .or_default()
            .entry(found)
            .or_default() += 1;
        if matches!(wrong, Wrong::Shown) && (found != row.category || word != row.action) {
            println!(
                "{} [{} {}] {}/{} not {found}/{word} by {}\n    {}",
                row.id, row.provider, row.phase, row.category, row.action, made.rule.name, row.text
            );
        }
    }
    let percent = |right: usize| 100.0 * right as f64 / rows.len().max(1) as f64;
    let named = match providers {
        Providers::Given => "with provider",
        Providers::Left => "without provider",
    };
    println!(
        "{named}: {} rows, category {:.1} %, action {:.1} %, {harmful} suppressed where they should not be",
        rows.len(),
        percent(category),
        percent(action)
    );
    if matches!(providers, Providers::Given) {
        for (expected, found) in confusion {
            let total: usize = found.values().sum();
            let right = found.get(expected).copied().unwrap_or(0);
            let others: Vec<String> = found
                .iter()
                .filter(|(name, _)| **name != expected)
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            println!(
                "  {expected:24} {right:3} of {total:3}  {}",
                others.join(", ")
            );
        }
    }
}

/// The median time of one decision over all rows, after one warm round.
fn time(table: &Table, rows: &[Row<'_>]) {
    let replies: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            Some((
                parse_pasted(&row.text.replace("\\n", "\n")).ok()?,
                row.phase,
            ))
        })
        .collect();
    let mut times = Vec::new();
    for round in 0..20 {
        for (reply, phase) in &replies {
            let start = Instant::now();
            std::hint::black_box(decide(table, Stimulus::Reply(reply), &Context::of(*phase)));
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    times.sort();
    if let (Some(median), Some(high)) = (
        times.get(times.len() / 2),
        times.get(times.len() * 99 / 100),
    ) {
        println!("one decision: median {median:?}, 99 % under {high:?}");
    }
}
