//! `relayctl policy`: what the reply policy makes of a reply, and which rules there are. Needs no daemon.

use std::fmt::Write as _;
use std::io::{BufRead, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use relay_policy::{
    Action, Context, Decision, Fate, Next, Schedule, Stimulus, Table, TlsInUse, decide,
    parse_pasted,
};
use relay_smtp::{EnhancedStatus, Phase, Reply};
use serde::{Deserialize, Serialize};

/// Exit status for a table that is refused (sysexits.h EX_CONFIG).
const EX_CONFIG: u8 = 78;

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// What a reply leads to: category, action, rule, why, fix, and when the next try comes
    Test(Test),
    /// What a basic or enhanced code means by itself
    Explain(Explain),
    /// All rules, in the order in which they are tried
    List(List),
}

#[derive(Debug, Args)]
pub struct Test {
    /// The reply as the server gave it, such as '550 5.1.1 No such user'; lines are split at line ends
    #[arg(required_unless_present = "batch")]
    reply: Option<String>,
    /// Where the reply came: connect, banner, ehlo, starttls, auth, mail, rcpt, data, body, quit
    #[arg(long, default_value = "rcpt", value_parser = parse_phase)]
    phase: Phase,
    /// The provider by its name in the table; one that the table does not know counts as none
    #[arg(long, conflicts_with_all = ["mx", "to"])]
    provider: Option<String>,
    /// The host that gave the reply
    #[arg(long)]
    mx: Option<String>,
    /// The recipient's domain
    #[arg(long, value_name = "DOMAIN")]
    to: Option<String>,
    /// How many recipients of the transaction were accepted before this reply
    #[arg(long, default_value_t = 0, value_name = "N")]
    accepted_before: u32,
    /// The session was encrypted
    #[arg(long)]
    tls: bool,
    /// Reads NDJSON from standard input, {"reply", "phase", "provider" | "mx" | "to"} a line, and writes a decision for each
    #[arg(long, conflicts_with = "reply")]
    batch: bool,
    /// One JSON object in place of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tables: Tables,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// A basic code such as 451, or an enhanced one such as 5.7.26
    code: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tables: Tables,
}

#[derive(Debug, Args)]
pub struct List {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tables: Tables,
}

#[derive(Debug, Args)]
struct Tables {
    /// Table files of your own, tried before the default table in the order given
    #[arg(long = "files", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
}

impl Policy {
    pub fn run(self) -> ExitCode {
        let done = match self {
            Policy::Test(test) if test.batch => run_batch(&test),
            Policy::Test(test) => run_test(&test),
            Policy::Explain(explain) => run_explain(&explain),
            Policy::List(list) => run_list(&list),
        };
        match done {
            Ok(code) => code,
            Err(Trouble { status, message }) => {
                eprintln!("relayctl: {message}");
                ExitCode::from(status)
            }
        }
    }
}

struct Trouble {
    status: u8,
    message: String,
}

impl Trouble {
    fn usage(message: impl Into<String>) -> Trouble {
        Trouble {
            status: 2,
            message: message.into(),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble {
            status: 1,
            message: error.to_string(),
        }
    }
}

fn run_test(test: &Test) -> Result<ExitCode, Trouble> {
    let table = load(&test.tables)?;
    let pasted = test.reply.as_deref().unwrap_or_default();
    let question = Question {
        reply: pasted.to_owned(),
        phase: Some(test.phase.word().to_owned()),
        provider: test.provider.clone(),
        mx: test.mx.clone(),
        to: test.to.clone(),
        accepted_before: test.accepted_before,
        tls: test.tls,
    };
    let (answer, decision) = answer(&table, &question).map_err(Trouble::usage)?;
    if test.json {
        print_line(&answer)?;
    } else {
        let text = for_people(&answer, &decision, Timestamp::now());
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line that cannot be read gives an object with `error` in its place, so that answers stay in
/// step with questions, and exit status 1 at the end.
fn run_batch(test: &Test) -> Result<ExitCode, Trouble> {
    let table = load(&test.tables)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut status = ExitCode::SUCCESS;
    for (number, line) in std::io::stdin().lock().split(b'\n').enumerate() {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        match answer_line(&table, &line) {
            Ok(answer) => serde_json::to_writer(&mut out, &answer).map_err(std::io::Error::from)?,
            Err(error) => {
                let refused = Refused {
                    error,
                    line: number + 1,
                };
                serde_json::to_writer(&mut out, &refused).map_err(std::io::Error::from)?;
                status = ExitCode::from(1);
            }
        }
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(status)
}

fn answer_line(table: &Table, line: &str) -> Result<Answer, String> {
    let question: Question = serde_json::from_str(line)
        .map_err(|error| format!("{error}; write an object such as {{\"reply\": \"550 5.1.1 No such user\", \"phase\": \"rcpt\"}}"))?;
    answer(table, &question).map(|(answer, _)| answer)
}

/// One line of a batch.
#[derive(Debug, Deserialize)]
struct Question {
    reply: String,
    phase: Option<String>,
    provider: Option<String>,
    mx: Option<String>,
    to: Option<String>,
    #[serde(default)]
    accepted_before: u32,
    #[serde(default)]
    tls: bool,
}

/// One line of output. Keys stay as they are: scripts rely on them.
#[derive(Debug, Serialize)]
struct Answer {
    category: &'static str,
    action: &'static str,
    rule: String,
    place: String,
    /// Seconds until the next try, without jitter; 0: at once; null: there is none.
    retry_after: Option<u64>,
    explain: Option<String>,
    fix: Option<String>,
    code: u16,
    enhanced: Option<String>,
    provider: Option<String>,
    /// Whether the address is not tried again for later messages either.
    suppress: bool,
    phase: &'static str,
    fate: &'static str,
    /// What a DSN would say.
    status: String,
    schedule: String,
}

#[derive(Debug, Serialize)]
struct Refused {
    error: String,
    line: usize,
}

fn answer(table: &Table, question: &Question) -> Result<(Answer, Decision), String> {
    let reply = parse_pasted(&question.reply)?;
    // A missing phase counts as rcpt, where most replies that anyone asks about were given.
    let phase = match question.phase.as_deref() {
        None | Some("") => Phase::Rcpt,
        Some(word) => parse_phase(word)?,
    };
    let context = Context {
        provider: question
            .provider
            .as_deref()
            .filter(|name| table.knows_provider(name)),
        mx: question.mx.as_deref(),
        domain: question.to.as_deref(),
        accepted_before: question.accepted_before,
        tls: if question.tls {
            TlsInUse::Yes
        } else {
            TlsInUse::No
        },
        ..Context::of(phase)
    };
    let decision = decide(table, Stimulus::Reply(&reply), &context);
    Ok((describe(&reply, phase, &decision), decision))
}

fn describe(reply: &Reply, phase: Phase, decision: &Decision) -> Answer {
    let rule = &decision.rule;
    Answer {
        category: decision.category.word(),
        action: decision.action.word(),
        rule: rule.name.clone(),
        place: rule.place.clone(),
        retry_after: retry_after(decision),
        explain: rule.explain.clone(),
        fix: rule.fix.clone(),
        code: reply.code,
        enhanced: relay_policy::enhanced_in(reply).map(|code| code.to_string()),
        provider: decision.provider.as_deref().map(str::to_owned),
        suppress: decision.action == Action::BounceSuppress,
        phase: phase.word(),
        fate: fate_word(decision.fate),
        status: decision.status.to_string(),
        schedule: schedule_name(decision).to_owned(),
    }
}

fn retry_after(decision: &Decision) -> Option<u64> {
    match decision.fate {
        Fate::Delivered | Fate::Bounced | Fate::Held => None,
        Fate::AgainNow => Some(0),
        Fate::Deferred => {
            let first = || {
                schedule(decision)
                    .steps
                    .first()
                    .copied()
                    .unwrap_or_default()
            };
            Some(decision.wait.unwrap_or_else(first).as_secs())
        }
    }
}

fn fate_word(fate: Fate) -> &'static str {
    match fate {
        Fate::Delivered => "delivered",
        Fate::Deferred => "deferred",
        Fate::AgainNow => "again-now",
        Fate::Bounced => "bounced",
        Fate::Held => "held",
    }
}

/// The built-in schedule of the rule's name; a configured one is known to the daemon only.
fn schedule(decision: &Decision) -> Schedule {
    let name = schedule_name(decision);
    Schedule::built_in()
        .into_iter()
        .find(|(built_in, _)| *built_in == name)
        .map_or_else(Schedule::standard, |(_, schedule)| schedule)
}

fn schedule_name(decision: &Decision) -> &str {
    decision.rule.retry.as_deref().unwrap_or("default")
}

fn for_people(answer: &Answer, decision: &Decision, now: Timestamp) -> String {
    let mut text = String::new();
    let enhanced = match &answer.enhanced {
        Some(code) => format!("enhanced code {code}"),
        None => "no enhanced code".to_owned(),
    };
    let rows = [
        ("category", answer.category.to_owned()),
        (
            "action",
            format!("{}: {}", answer.action, meaning(decision)),
        ),
        ("rule", format!("{} ({})", answer.rule, answer.place)),
        ("reply", format!("{}, {enhanced}", answer.code)),
        ("phase", answer.phase.to_owned()),
        (
            "provider",
            answer
                .provider
                .clone()
                .unwrap_or_else(|| "none known".to_owned()),
        ),
    ];
    let optional = [("why", &answer.explain), ("fix", &answer.fix)];
    let optional = optional
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)));
    let next = [("next", next_steps(answer, decision, now))];
    for (key, value) in rows.into_iter().chain(optional).chain(next) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key:9} {value}");
    }
    text
}

/// What the action means for the recipient and for others, in one line.
fn meaning(decision: &Decision) -> &'static str {
    match (decision.action, decision.fate) {
        (Action::Ok, _) => "accepted",
        (Action::Defer, _) => "tried again on the schedule",
        (Action::WaitHint, _) if decision.wait.is_some() => {
            "tried again at the time the reply names, from the same address"
        }
        (Action::WaitHint, _) => "tried again on the schedule, from the same address",
        (Action::NextMx, _) => "the next host is tried at once; if there is none, on the schedule",
        (Action::NewTransaction, _) => {
            "tried again at once in a new transaction; the limit is learned"
        }
        (Action::RetryTls, _) => "tried again at once with TLS",
        (Action::RetryPlain, _) => {
            "tried again at once without TLS, if the TLS requirement allows it"
        }
        (Action::Slow, _) => {
            "tried again later; the site gets half the rate and connections for a while"
        }
        (Action::SuspendSource, _) => "tried again later; this source address pauses for this site",
        (Action::SuspendDestination, _) => "tried again later; the site pauses",
        (Action::Bounce, _) => "bounced; the sender gets a report",
        (Action::BounceSuppress, _) => {
            "bounced; the sender gets a report, and the address is not tried again"
        }
        (Action::Alert, Fate::Bounced) => {
            "bounced, and the operator is alerted; the address is not at fault"
        }
        (Action::Alert, _) => "tried again on the schedule, and the operator is alerted",
        (Action::Hold, _) => "kept until an operator releases it",
    }
}

fn next_steps(answer: &Answer, decision: &Decision, now: Timestamp) -> String {
    match decision.fate {
        Fate::Delivered => "nothing; the recipient is done".to_owned(),
        Fate::Held => "nothing until it is released".to_owned(),
        Fate::Bounced => format!(
            "a report with status {} goes to the sender now",
            answer.status
        ),
        Fate::AgainNow => format!("at once; if that does not help: {}", tries(decision, now)),
        Fate::Deferred => tries(decision, now),
    }
}

/// The coming tries for a message that arrived just now, as the built-in schedule has them, without jitter.
fn tries(decision: &Decision, now: Timestamp) -> String {
    let schedule = Schedule {
        jitter: 0.0,
        ..schedule(decision)
    };
    let give_up = decision.rule.give_up_after;
    let mut text = String::new();
    let (mut at, mut hint) = (now, decision.wait);
    for attempt in 1..=3 {
        match schedule.next(now, at, attempt, hint.take(), give_up, &mut rand::rng()) {
            Next::At(due) => {
                let after = Duration::try_from(due.duration_since(now)).unwrap_or_default();
                let _ = write!(text, "{} ({due:.0}), ", short(after));
                at = due;
            }
            Next::LastAt(_) | Next::Expired => break,
        }
    }
    let last = give_up.map_or(schedule.max_age, |cap| cap.min(schedule.max_age));
    let _ = write!(text, "... last try after {}, then it bounces", short(last));
    text
}

/// `90m` as `1h30m`.
fn short(wait: Duration) -> String {
    let seconds = wait.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds % 86_400 / 3600, "h"),
        (seconds % 3600 / 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Decides the code alone, as it would be at each class it can have.
fn run_explain(explain: &Explain) -> Result<ExitCode, Trouble> {
    let table = load(&explain.tables)?;
    let replies = code_alone(&explain.code).ok_or_else(|| {
        Trouble::usage(format!(
            "{:?} is no reply code; write a basic code such as 451 or an enhanced one such as 5.7.26",
            explain.code
        ))
    })?;
    for (number, reply) in replies.iter().enumerate() {
        let decision = decide(&table, Stimulus::Reply(reply), &Context::of(Phase::Rcpt));
        let answer = describe(reply, Phase::Rcpt, &decision);
        if explain.json {
            print_line(&answer)?;
        } else {
            if number > 0 {
                println!();
            }
            print!("{}", for_people(&answer, &decision, Timestamp::now()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `451` as it is; `5.7.26` with a basic code of its class, `x.7.26` with both.
fn code_alone(code: &str) -> Option<Vec<Reply>> {
    let basic: Option<u16> = code.parse().ok().filter(|code| (100..600).contains(code));
    if let Some(basic) = basic {
        return Some(vec![Reply::new(basic, None, "")]);
    }
    let with = |basic: u16, text: &str| {
        let enhanced: EnhancedStatus = text.parse().ok()?;
        Some(Reply::new(basic, Some(enhanced), ""))
    };
    match code.split_at_checked(1)? {
        ("2", _) => Some(vec![with(250, code)?]),
        ("4", _) => Some(vec![with(450, code)?]),
        ("5", _) => Some(vec![with(550, code)?]),
        ("x" | "X", rest) => Some(vec![
            with(450, &format!("4{rest}"))?,
            with(550, &format!("5{rest}"))?,
        ]),
        _ => None,
    }
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    rule: &'a str,
    place: &'a str,
    category: &'static str,
    action_4xx: Option<&'static str>,
    action_5xx: Option<&'static str>,
    explain: Option<&'a str>,
}

fn run_list(list: &List) -> Result<ExitCode, Trouble> {
    let table = load(&list.tables)?;
    let mut shown = comfy_table::Table::new();
    shown.load_style(comfy_table::presets::NOTHING);
    shown.set_header(["RULE", "CATEGORY", "4XX", "5XX", "PLACE"]);
    for row in table.rules() {
        let [transient, permanent] = row.actions.map(|action| action.map(Action::word));
        let line = Row {
            rule: &row.rule.name,
            place: &row.rule.place,
            category: row.category.word(),
            action_4xx: transient,
            action_5xx: permanent,
            explain: row.rule.explain.as_deref(),
        };
        if list.json {
            print_line(&line)?;
        } else {
            shown.add_row([
                line.rule,
                line.category,
                transient.unwrap_or("-"),
                permanent.unwrap_or("-"),
                line.place,
            ]);
        }
    }
    if !list.json {
        println!("{shown}");
    }
    Ok(ExitCode::SUCCESS)
}

fn load(tables: &Tables) -> Result<Table, Trouble> {
    let mut files = Vec::new();
    for path in &tables.files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Trouble {
            status: EX_CONFIG,
            message: format!("{name}: {error}"),
        })?;
        files.push((name, text));
    }
    Table::with_files(&files).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Trouble {
            status: EX_CONFIG,
            message: format!("the table is refused:\n{}", lines.join("\n")),
        }
    })
}

fn print_line(object: &impl Serialize) -> Result<(), Trouble> {
    let mut line = serde_json::to_vec(object).map_err(std::io::Error::from)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)?;
    Ok(())
}

/// The phase's word, or one that other programs use for it.
fn parse_phase(word: &str) -> Result<Phase, String> {
    // Of `starttls/auth` the first is taken.
    let word = word.split('/').next().unwrap_or(word);
    match word {
        "helo" | "help" => Ok(Phase::Ehlo),
        "data-end" | "data_end" | "end-of-data" | "eod" | "dot" => Ok(Phase::Body),
        "vrfy" | "expn" => Ok(Phase::Rcpt),
        "rset" => Ok(Phase::Quit),
        word => word.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> Result<Answer, String> {
        answer_line(&Table::default_table(), line)
    }

    #[test]
    fn a_batch_line_gets_category_action_rule_place_and_retry_time() {
        let answer =
            ask(r#"{"reply": "451 4.7.1 Greylisted, try again in 300 seconds", "phase": "rcpt"}"#)
                .unwrap();
        assert_eq!(
            (answer.category, answer.action),
            ("greylisted", "wait_hint")
        );
        assert_eq!(answer.retry_after, Some(300));
        assert!(
            answer.place.starts_with("etc/policy.toml:"),
            "{}",
            answer.place
        );
        assert!(!answer.suppress);
    }

    #[test]
    fn an_unknown_provider_counts_as_none_and_a_missing_phase_as_rcpt() {
        let answer =
            ask(r#"{"reply": "550 5.1.1 User unknown", "provider": "no-such-provider"}"#).unwrap();
        assert_eq!((answer.phase, answer.provider.as_deref()), ("rcpt", None));
        assert!(answer.suppress);
        let answer =
            ask(r#"{"reply": "250 ok", "provider": "google", "phase": "data-end"}"#).unwrap();
        assert_eq!(
            (answer.phase, answer.provider.as_deref()),
            ("body", Some("google"))
        );
    }

    #[test]
    fn the_provider_is_found_from_host_or_domain() {
        let answer = ask(r#"{"reply": "550 no", "mx": "aspmx.l.google.com."}"#).unwrap();
        assert_eq!(answer.provider.as_deref(), Some("google"));
        let answer = ask(r#"{"reply": "550 no", "to": "GMAIL.com"}"#).unwrap();
        assert_eq!(answer.provider.as_deref(), Some("google"));
    }

    #[test]
    fn a_bad_line_is_answered_with_what_is_wrong() {
        assert!(ask("not json").unwrap_err().contains("write an object"));
        assert!(
            ask(r#"{"reply": "hello"}"#)
                .unwrap_err()
                .contains("reply code")
        );
        assert!(
            ask(r#"{"reply": "550 no", "phase": "lunch"}"#)
                .unwrap_err()
                .contains("lunch")
        );
    }

    #[test]
    fn the_text_for_people_says_why_and_what_comes_next() {
        let table = Table::default_table();
        let question: Question =
            serde_json::from_str(r#"{"reply": "450 4.2.0 Greylisted for 300 seconds"}"#).unwrap();
        let (answer, decision) = answer(&table, &question).unwrap();
        let text = for_people(&answer, &decision, Timestamp::UNIX_EPOCH);
        assert!(
            text.contains("wait_hint") && text.contains("1970-01-01T00:05:00Z"),
            "{text}"
        );
        assert!(text.contains("last try after 5d"), "{text}");
    }

    #[test]
    fn codes_are_explained_alone() {
        assert_eq!(code_alone("x.7.26").unwrap().len(), 2);
        assert_eq!(code_alone("451").unwrap().len(), 1);
        for junk in ["", "9", "5.7", "600", "é"] {
            assert!(code_alone(junk).is_none(), "{junk}");
        }
    }
}
