//! How the rules of the default table are written: for kinds of replies, not for single ones.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::{BTreeMap, BTreeSet};

use relay_policy::{Action, Context, Stimulus, Table, decide, parse_pasted};
use relay_smtp::Phase;

const TABLE: &str = include_str!("../../../etc/policy.toml");
const FILES: [(&str, usize, usize); 6] = [
    (include_str!("data/replies.tsv"), 2, 5),
    (include_str!("data/wordings.tsv"), 2, 5),
    (include_str!("data/wordings-2.tsv"), 2, 5),
    (include_str!("data/wordings-3.tsv"), 2, 5),
    (include_str!("data/wordings-4.tsv"), 2, 5),
    (include_str!("data/codes.tsv"), 0, 4),
];

/// Phase and text of every reply in the test data.
fn replies() -> Vec<(Phase, String)> {
    let mut replies = Vec::new();
    for (file, phase_at, text_at) in FILES {
        for line in file.lines().filter(|line| !line.starts_with('#')) {
            let cells: Vec<&str> = line.split('\t').collect();
            let Ok(phase) = cells[phase_at].parse() else {
                continue;
            };
            replies.push((phase, cells[text_at].replace("\\n", "\n")));
        }
    }
    assert!(replies.len() > 2000);
    replies
}

fn rules() -> Vec<toml::Table> {
    let table: toml::Table = TABLE.parse().unwrap();
    let rules = table["rule"].as_array().unwrap().iter();
    rules.map(|rule| rule.as_table().unwrap().clone()).collect()
}

fn strings(value: Option<&toml::Value>) -> Vec<String> {
    match value {
        None => Vec::new(),
        Some(toml::Value::Array(list)) => list.iter().flat_map(|one| strings(Some(one))).collect(),
        Some(toml::Value::Table(table)) => strings(table.get("text")),
        Some(one) => vec![one.as_str().unwrap().to_owned()],
    }
}

/// In lower case, letters and digits only, one space between words.
fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Words that every reply of a kind has are no sentence: only longer ones could be one reply's own.
const SENTENCE_WORDS: usize = 6;

#[test]
fn no_text_holds_a_whole_reply() {
    let mut sentences = BTreeSet::new();
    let examples = rules()
        .into_iter()
        .flat_map(|rule| strings(rule.get("example")));
    for text in replies().into_iter().map(|(_, text)| text).chain(examples) {
        let all = words(&text);
        let spoken: Vec<String> = all
            .into_iter()
            .skip_while(|word| word.bytes().all(|b| b.is_ascii_digit()))
            .collect();
        if spoken.len() >= SENTENCE_WORDS {
            sentences.insert(spoken.join(" "));
        }
    }
    let mut wrong = Vec::new();
    for rule in rules() {
        for text in strings(rule.get("text")) {
            let text = words(&text.replace("\\b", " ").replace("\\.", " ")).join(" ");
            if let Some(whole) = sentences.iter().find(|sentence| text.contains(*sentence)) {
                wrong.push(format!("rule {}: {whole}", rule["name"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first word of a rule's name where its texts are a provider's or a program's own codes and terms.
const OWNERS: &[&str] = &[
    "google",
    "yahoo",
    "aol",
    "microsoft",
    "exchange",
    "netease",
    "qq",
    "godaddy",
    "orange",
    "comcast",
    "facebook",
    "mimecast",
    "messagelabs",
    "selectel",
    "att",
    "tonline",
    "rr",
    "spectrum",
    "docomo",
    "kddi",
    "gmx",
    "titan",
    "barracuda",
    "mcafee",
    "zoho",
    "courier",
    "postscreen",
    "smarthost",
    "made",
    "code",
];

#[test]
fn a_rule_with_a_text_decides_more_than_one_reply_or_reads_a_providers_own_code() {
    let table = Table::default_table();
    let mut decided: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (phase, text) in replies() {
        let reply = parse_pasted(&text).unwrap();
        let made = decide(&table, Stimulus::Reply(&reply), &Context::of(phase));
        let texts = decided.entry(made.rule.name.clone()).or_default();
        texts.insert(words(&text).join(" "));
    }
    let mut wrong = Vec::new();
    for rule in rules() {
        let name = rule["name"].as_str().unwrap();
        let owner = name.split('-').next().unwrap();
        if OWNERS.contains(&owner) || rule.get("text").is_none() {
            continue;
        }
        if let Some(examples) = rule.get("example") {
            let texts = decided.entry(name.to_owned()).or_default();
            texts.extend(
                strings(Some(examples))
                    .iter()
                    .map(|text| words(text).join(" ")),
            );
        }
        let count = decided.get(name).map_or(0, BTreeSet::len);
        if count < 2 {
            wrong.push(format!(
                "rule {name} decides {count} reply of the test data; widen it, or drop it"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is said to MAIL is about the sender, and before it nothing was said of a recipient at all (RFC 5321 section 3.3).
#[test]
fn nothing_said_before_rcpt_suppresses_an_address_unless_the_host_takes_no_mail() {
    let table = Table::default_table();
    for (_, text) in replies() {
        let reply = parse_pasted(&text).unwrap();
        for phase in [Phase::Mail, Phase::Auth, Phase::Starttls] {
            let made = decide(&table, Stimulus::Reply(&reply), &Context::of(phase));
            let about_host = ["domain-not-accepting", "suppressed"].contains(&made.category.word());
            assert!(
                made.action != Action::BounceSuppress || about_host,
                "{phase}: {text} by {}",
                made.rule.name
            );
        }
    }
}
