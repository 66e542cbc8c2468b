//! What a table file may hold, and what its author is told when it is wrong.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use relay_policy::{Action, Context, Stimulus, Table, TableError, decide, parse_pasted};
use relay_smtp::{Failure, Phase};

fn with(text: &str) -> Result<Table, Vec<TableError>> {
    Table::with_files(&[("my.toml".to_owned(), text.to_owned())])
}

fn taken_by(table: &Table, phase: Phase, reply: &str) -> (String, Action) {
    let reply = parse_pasted(reply).unwrap();
    let made = decide(table, Stimulus::Reply(&reply), &Context::of(phase));
    (made.rule.name.clone(), made.action)
}

const RULE: &str = "[[rule]]\nname = \"mine\"\ncategory = \"ip-blocked\"\naction = \"hold\"\n";

#[test]
fn an_operators_rule_is_tried_before_the_default_table() {
    let table = with(&format!("{RULE}text = 'user unknown'\n")).unwrap();
    assert_eq!(
        taken_by(&table, Phase::Rcpt, "550 5.1.1 User unknown"),
        ("mine".into(), Action::Hold)
    );
    let (other, _) = taken_by(&table, Phase::Rcpt, "552 5.2.2 over quota");
    assert_ne!(other, "mine");
}

#[test]
fn a_rule_without_code_never_takes_an_acceptance() {
    let table = with(&format!("{RULE}text = 'quota'\n")).unwrap();
    assert_eq!(
        taken_by(&table, Phase::Body, "250 ok, quota left").1,
        Action::Ok
    );
}

#[test]
fn an_action_by_class_confines_the_rule_to_the_classes_it_names() {
    let rule = RULE.replace("\"hold\"", "{ 4xx = \"hold\" }");
    let table = with(&format!("{rule}text = 'user unknown'\n")).unwrap();
    assert_eq!(taken_by(&table, Phase::Rcpt, "450 user unknown").0, "mine");
    assert_ne!(taken_by(&table, Phase::Rcpt, "550 user unknown").0, "mine");
}

#[test]
fn a_rule_may_ask_for_phase_provider_and_accepted_recipients() {
    let rule = format!("{RULE}phase = [\"data\"]\nprovider = [\"google\"]\naccepted_before = 2\n");
    let table = with(&rule).unwrap();
    let reply = parse_pasted("550 no").unwrap();
    let ask = |phase, mx, accepted_before| {
        let context = Context {
            mx,
            accepted_before,
            ..Context::of(phase)
        };
        decide(&table, Stimulus::Reply(&reply), &context).rule.name == "mine"
    };
    let google = Some("alt1.aspmx.l.google.com");
    assert!(ask(Phase::Data, google, 2));
    assert!(!ask(Phase::Rcpt, google, 2));
    assert!(!ask(Phase::Data, Some("mx.example.com"), 2));
    assert!(!ask(Phase::Data, google, 1));
}

#[test]
fn a_failure_is_decided_by_rules_that_name_it() {
    let table = with(&format!("{RULE}failure = [\"refused\"]\n")).unwrap();
    let name = |failure| {
        decide(
            &table,
            Stimulus::Failure(failure),
            &Context::of(Phase::Connect),
        )
        .rule
        .name
        .clone()
    };
    assert_eq!(name(Failure::Refused), "mine");
    assert_ne!(name(Failure::TimedOut), "mine");
}

/// Each wrong file with its line and a word that the message must hold.
#[test]
fn mistakes_are_told_with_file_line_and_fix() {
    let good = "name = \"a\"\ncategory = \"virus\"\naction = \"bounce\"\n";
    let cases = [
        ("[[rule]]\nname = ", 2, "TOML"),
        ("[[rules]]\nname = \"a\"\n", 1, "[[rule]]"),
        (
            "[[rule]]\nname = \"a\"\ncategory = \"lunch\"\naction = \"bounce\"\n",
            3,
            "invalid-recipient",
        ),
        (
            "[[rule]]\nname = \"a\"\ncategory = \"virus\"\naction = \"burn\"\n",
            4,
            "bounce_suppress",
        ),
        (
            "[[rule]]\nname = \"a\"\ncategory = \"virus\"\naction = \"slow\"\n",
            1,
            "for = ",
        ),
        (
            "[[rule]]\nname = \"a\"\naction = \"bounce\"\n",
            1,
            "category",
        ),
        (
            "[[rule]]\ncategory = \"virus\"\naction = \"bounce\"\n",
            1,
            "name",
        ),
        (
            &format!("[[rule]]\n{good}phase = [\"lunch\"]\n"),
            5,
            "starttls",
        ),
        (
            &format!("[[rule]]\n{good}failure = [\"tired\"]\n"),
            5,
            "refused",
        ),
        (&format!("[[rule]]\n{good}code = [\"6xx\"]\n"), 5, "45x"),
        (
            &format!("[[rule]]\n{good}enhanced = [\"5.1\"]\n"),
            5,
            "class.subject.detail",
        ),
        (
            &format!("[[rule]]\n{good}text = '(unclosed'\n"),
            5,
            "backslash",
        ),
        (
            &format!("[[rule]]\n{good}give_up_after = \"4 hours\"\n"),
            5,
            "15m",
        ),
        (
            &format!("[[rule]]\n{good}provider = [\"nobody\"]\n"),
            5,
            "[[provider]]",
        ),
        (
            &format!("[[rule]]\n{good}colour = \"red\"\n"),
            5,
            "unknown key",
        ),
        (&format!("[[rule]]\n{good}for = \"15m\"\n"), 1, "remove it"),
        (
            &format!("[[rule]]\n{good}\n[[rule]]\n{good}"),
            6,
            "my.toml:1 has this name",
        ),
        (
            &format!("[[rule]]\n{good}text = 'worm'\nexample = [\"550 no\"]\n"),
            6,
            "is taken by rule",
        ),
        (
            &format!("[[rule]]\n{good}code = [\"4xx\"]\n")
                .replace("\"bounce\"", "{ 5xx = \"bounce\" }"),
            1,
            "never match",
        ),
    ];
    for (text, line, word) in cases {
        let errors = with(text).unwrap_err();
        let error = &errors[0];
        assert_eq!(
            (error.file.as_str(), error.line),
            ("my.toml", line),
            "{text}\n{error}"
        );
        assert!(error.to_string().contains(word), "{text}\n{error}");
    }
}

#[test]
fn a_name_of_the_default_table_cannot_be_taken_and_the_mistake_is_said_to_be_in_ones_own_file() {
    let place = Table::default_table().rule("greylisted").unwrap();
    let rule = RULE.replace("mine", "greylisted");
    let errors = with(&format!("# one's own\n{rule}text = 'zebra'\n")).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        errors[0].to_string(),
        format!(
            "my.toml:2: name = \"greylisted\": a rule of the default table has this name ({}); choose another, since one does not replace the other: yours is tried first, and the default one after it",
            place.place
        )
    );
    let guard = "[[guard]]\nname = \"about-the-sender\"\ntext = 'zebra'\nexample = \"550 zebra\"\n";
    let errors = with(guard).unwrap_err();
    assert!(
        errors[0].to_string().starts_with(
            "my.toml:1: name = \"about-the-sender\": a guard of the default table has this name"
        ),
        "{errors:?}"
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let errors = with("[[rule]]\nname = \"a\"\ncategory = \"x\"\naction = \"y\"\nphase = \"z\"\n")
        .unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
}

/// Pages that show where a rule stands. `UPDATE_EXPECT=1` writes the lines anew.
const PAGES: [&str; 2] = ["README.md", "docs/policy.md"];

#[test]
fn the_documentation_shows_rules_where_they_stand() {
    let table = Table::default_table();
    for page in PAGES {
        let path = format!("{}/../../{page}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let line = |line: &str| {
            let Some((name, _)) = line
                .strip_prefix("rule ")
                .and_then(|rest| rest.trim_start().split_once(" (etc/policy.toml:"))
            else {
                return line.to_owned();
            };
            let rule = table
                .rule(name)
                .unwrap_or_else(|| panic!("{page}: there is no rule {name}"));
            format!("rule      {name} ({})", rule.place)
        };
        let right: Vec<String> = text.lines().map(line).collect();
        let right = right.join("\n") + "\n";
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &right).unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap();
        assert!(now.contains("(etc/policy.toml:"), "{page} shows a rule");
        assert_eq!(now, right, "{page}");
    }
}
