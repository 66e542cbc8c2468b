//! `relayctl policy`: what the reply policy makes of a reply, and which rules there are. Needs no daemon,
//! but for what has happened.

mod answer;
mod compare;
mod explain;
mod hits;
mod replay;

use std::io::{BufRead, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use relay_policy::{Action, Category, RuleRow, Table};
use relay_smtp::Phase;
use serde::Serialize;

use crate::client::Client;
use crate::online;
use crate::outcome::exit;
use crate::text::{Format, Screen};

use answer::{Question, Refused, answer_line, parse_phase, tell};

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
    /// What another table would have made of the replies that came; exit status 1 if more would be
    /// bounced or suppressed
    Replay(replay::Replay),
    /// What is allowed and deserves a second look: rules that are never reached, texts found in every reply, rules without an example
    Lint(Lint),
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
    /// A basic code such as 451, an enhanced one such as 5.7.26 or x.7.26, or a group such as x.7.x
    code: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tables: Tables,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    hits: hits::Hits,
    /// Only rules of this category
    #[arg(long, value_parser = word_of_category, conflicts_with = "hits")]
    category: Option<Category>,
    /// Only rules that can lead to this action
    #[arg(long, value_parser = word_of_action, conflicts_with = "hits")]
    action: Option<Action>,
    /// Only rules for this provider
    #[arg(long, value_name = "NAME", conflicts_with = "hits")]
    provider: Option<String>,
    /// Only rules with this in their name
    #[arg(long, value_name = "PART", conflicts_with = "hits")]
    rule: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tables: Tables,
}

#[derive(Debug, Args)]
pub struct Lint {
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

impl List {
    fn shows(&self, row: &RuleRow<'_>) -> bool {
        let has_provider = |name: &String| row.providers.contains(&name.as_str());
        self.category.is_none_or(|wanted| wanted == row.category)
            && self
                .action
                .is_none_or(|wanted| row.actions.contains(&Some(wanted)))
            && self.provider.as_ref().is_none_or(has_provider)
            && self
                .rule
                .as_ref()
                .is_none_or(|part| row.rule.name.contains(part.as_str()))
    }
}

fn word_of_category(word: &str) -> Result<Category, String> {
    one_of(word, &Category::ALL, Category::word)
}

fn word_of_action(word: &str) -> Result<Action, String> {
    one_of(word, &Action::ALL, Action::word)
}

fn one_of<T: Copy>(word: &str, all: &[T], word_of: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| word_of(*one) == word);
    found.ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|one| word_of(*one)).collect();
        format!("write one of {}", words.join(", "))
    })
}

impl Policy {
    pub fn run(self, client: &Client, screen: &Screen) -> ExitCode {
        let done = match self {
            Policy::Replay(replay) => return exit(online(replay.run(client, screen))),
            Policy::List(list) if list.hits.hits => run_hits(list, client, screen),
            Policy::Test(test) if test.batch => run_batch(&test),
            Policy::Test(test) => run_test(&test),
            Policy::Explain(explain) => explain::run(&explain),
            Policy::List(list) => run_list(&list),
            Policy::Lint(lint) => run_lint(&lint),
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
    let told = tell(&table, &question).map_err(Trouble::usage)?;
    if test.json {
        print_line(&told)?;
    } else {
        let text = told.for_people(Timestamp::now());
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

#[derive(Debug, Serialize)]
struct Row<'a> {
    rule: &'a str,
    place: &'a str,
    category: &'static str,
    action_4xx: Option<&'static str>,
    action_5xx: Option<&'static str>,
    /// Empty: any.
    providers: &'a [&'a str],
    explain: Option<&'a str>,
}

fn run_list(list: &List) -> Result<ExitCode, Trouble> {
    let table = load(&list.tables)?;
    let mut shown = comfy_table::Table::new();
    shown.load_style(comfy_table::presets::NOTHING);
    shown.set_header(["RULE", "CATEGORY", "4XX", "5XX", "PLACE"]);
    for row in table.rules().filter(|row| list.shows(row)) {
        let [transient, permanent] = row.actions.map(|action| action.map(Action::word));
        let line = Row {
            rule: &row.rule.name,
            place: &row.rule.place,
            category: row.category.word(),
            action_4xx: transient,
            action_5xx: permanent,
            providers: &row.providers,
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

fn run_hits(list: List, client: &Client, screen: &Screen) -> Result<ExitCode, Trouble> {
    let table = load(&list.tables)?;
    let format = match list.json {
        true => Format::Json,
        false => Format::Text,
    };
    let listed = list.hits.run(&table, client, format, screen);
    Ok(exit(online(listed)))
}

#[derive(Debug, Serialize)]
struct Odd<'a> {
    place: &'a str,
    rule: &'a str,
    message: &'a str,
}

/// Exit status 1 if there is something to look at, so that a script can ask before it installs a table.
fn run_lint(lint: &Lint) -> Result<ExitCode, Trouble> {
    let table = load(&lint.tables)?;
    let findings = table.lint();
    for finding in &findings {
        if lint.json {
            print_line(&Odd {
                place: &finding.rule.place,
                rule: &finding.rule.name,
                message: &finding.message,
            })?;
        } else {
            println!("{finding}");
        }
    }
    if findings.is_empty() {
        if !lint.json {
            println!("{} rules, nothing to say", table.rules().count());
        }
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(1))
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
