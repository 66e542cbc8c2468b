//! What keeps an address from being suppressed: the guards, with the other rules and without them.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use relay_policy::{Action, Context, Stimulus, Table, decide, guard, parse_pasted};
use relay_smtp::Phase;

const TABLE: &str = include_str!("../../../etc/policy.toml");
const GUARDS: &str = include_str!("data/guards.tsv");
/// With the columns of phase, action and text.
const LABELLED: [(&str, usize, usize, usize); 6] = [
    (include_str!("data/replies.tsv"), 2, 4, 5),
    (include_str!("data/wordings.tsv"), 2, 4, 5),
    (include_str!("data/wordings-2.tsv"), 2, 4, 5),
    (include_str!("data/wordings-3.tsv"), 2, 4, 5),
    (include_str!("data/wordings-4.tsv"), 2, 4, 5),
    (include_str!("data/codes.tsv"), 0, 3, 4),
];

fn suppresses(table: &Table, phase: Phase, text: &str) -> bool {
    let reply = parse_pasted(&text.replace("\\n", "\n")).unwrap();
    decide(table, Stimulus::Reply(&reply), &Context::of(phase)).action == Action::BounceSuppress
}

#[test]
fn a_word_of_the_sender_of_space_or_of_policy_keeps_the_address_and_a_plain_refusal_does_not() {
    let table = Table::default_table();
    for line in GUARDS.lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [wanted, phase, text] = cells[..] else {
            panic!("three cells: {line}");
        };
        let found = match suppresses(&table, phase.parse().unwrap(), text) {
            true => "suppress",
            false => "keep",
        };
        assert_eq!(found, wanted, "{text}");
    }
}

/// As if nobody had ever seen what these replies say: only the guards stand between them and the rules that suppress.
#[test]
fn without_any_text_rule_that_does_not_suppress_at_most_1_of_100_addresses_is_wrongly_suppressed() {
    let mut table: toml::Table = TABLE.parse().unwrap();
    for key in ["rule", "guard"] {
        let list = table.get_mut(key).unwrap().as_array_mut().unwrap();
        for entry in list.iter_mut() {
            entry.as_table_mut().unwrap().remove("example");
        }
        list.retain(|entry| {
            let suppresses = |action: &toml::Value| action.to_string().contains("bounce_suppress");
            key == "guard"
                || entry.get("text").is_none()
                || entry.get("action").is_some_and(suppresses)
        });
    }
    let bare = Table::in_place_of_default(&toml::to_string(&table).unwrap()).unwrap();
    let (mut rows, mut wrong) = (0, Vec::new());
    for (file, phase_at, action_at, text_at) in LABELLED {
        for line in file.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            let phase = cells.get(phase_at).and_then(|word| word.parse().ok());
            let Some(phase) = phase.filter(|_| cells[action_at] != "bounce_suppress") else {
                continue;
            };
            rows += 1;
            if suppresses(&bare, phase, cells[text_at]) {
                wrong.push(cells[text_at]);
            }
        }
    }
    assert!(rows > 2000, "{rows}");
    assert!(
        wrong.len() * 100 <= rows,
        "{} of {rows}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn what_was_kept_and_by_which_guard_can_be_asked() {
    let table = Table::default_table();
    let reply = parse_pasted("550 directory harvest attack: user unknown").unwrap();
    let context = Context::of(Phase::Rcpt);
    let made = decide(&table, Stimulus::Reply(&reply), &context);
    assert_eq!(made.action, Action::Bounce);
    let found = guard(&table, &reply, &context).unwrap();
    assert_eq!(found.name, "filter-or-policy");
    assert!(found.place.starts_with("etc/policy.toml:"));
    let plain = parse_pasted("550 5.1.1 User unknown").unwrap();
    assert_eq!(guard(&table, &plain, &context), None);
}

#[test]
fn an_operators_rule_is_not_guarded_and_an_operators_guard_holds() {
    let own = |text: &str| Table::with_files(&[("my.toml".to_owned(), text.to_owned())]).unwrap();
    let rule = r#"
[[rule]]
name = "mine"
text = 'quota of the dead'
category = "invalid-recipient"
action = "bounce_suppress"
"#;
    assert!(suppresses(&own(rule), Phase::Rcpt, "550 quota of the dead"));
    let guard = r#"
[[guard]]
name = "no-tuesdays"
text = 'on tuesdays'
example = ["550 No such user on Tuesdays"]
"#;
    let text = "550 5.1.1 No such user on Tuesdays";
    assert!(suppresses(&Table::default_table(), Phase::Rcpt, text));
    assert!(!suppresses(&own(guard), Phase::Rcpt, text));
}

#[test]
fn a_guard_with_a_mistake_is_refused_with_line_and_fix() {
    let refused = |text: &str| {
        let file = ("my.toml".to_owned(), text.to_owned());
        let errors = Table::with_files(&[file]).unwrap_err();
        errors[0].to_string()
    };
    let cases = [
        (
            "[[guard]]\ntext = 'x'",
            "my.toml:1: this [[guard]] has no name",
        ),
        (
            "[[guard]]\nname = \"g\"",
            "my.toml:1: this [[guard]] has no text",
        ),
        (
            "[[guard]]\nname = \"g\"\ntext = 'x'\ncode = \"550\"",
            "my.toml:4: code: unknown key in [[guard]]",
        ),
        (
            "[[guard]]\nname = \"g\"\ntext = 'xyz'\nexample = \"550 abc\"",
            "my.toml:4: example = \"550 abc\" has nothing that guard g asks for",
        ),
    ];
    for (text, message) in cases {
        let found = refused(text);
        assert!(found.starts_with(message), "{found}");
    }
}
