//! `relayctl policy replay`: what another table would have made of the replies that came. Nothing is
//! changed and nobody is asked but the history.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use relay_admin::files::{self, DiskFiles};
use relay_config::Files as _;
use relay_observe::history::Entry;
use relay_policy::Table;
use serde::Serialize;

use super::compare::{Change, Comparison, Found, Harm, Side};
use crate::client::Client;
use crate::command::log::{earlier, with_offline};
use crate::outcome::{Done, Outcome, Trouble};
use crate::source::{Ask, Progress, Source};
use crate::text::{self, Screen, Tone};

/// The entries that a rule stands behind.
const DECISIONS: [&str; 4] = [
    "recipient_delivered",
    "recipient_deferred",
    "recipient_bounced",
    "recipient_held",
];

#[derive(Debug, Args)]
pub struct Replay {
    /// The candidate: these files in place of your own, before the default table; none: the default
    /// table alone
    #[arg(long, value_name = "FILE", num_args = 1..)]
    with: Vec<PathBuf>,
    /// Also keep your own files, after the candidate
    #[arg(long)]
    and_own: bool,
    /// How far back, such as 2h or 14d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = text::parse_span)]
    since: u64,
    /// Where your own files are named [default: /etc/relayd/relayd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the history in this directory (log.history_dir, or state.dir), without the daemon
    #[arg(long = "dir", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON object for each change, and one for the whole
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub async fn run(self, client: &Client, screen: &Screen) -> Outcome {
        let candidate = self.candidate()?;
        let source = Source::of(client, self.dir.as_deref())?;
        let mut ask = Ask {
            events: DECISIONS.to_vec(),
            since: Some(earlier(Timestamp::now(), self.since)),
            ..Ask::default()
        };
        let mut comparison = Comparison::default();
        let mut damaged = 0;
        let mut progress = Progress::new();
        loop {
            let page = source.page(&ask).await.map_err(with_offline)?;
            for entry in &page.entries {
                comparison.add(entry, &candidate);
            }
            damaged += page.damaged;
            progress.left(page.left);
            ask.place = Some(page.next);
            if page.left == 0 {
                break;
            }
        }
        progress.done();
        let whole = Whole::of(&comparison, damaged);
        if self.json {
            for (change, found) in comparison.changes() {
                println!("{}", text::json_line(&Row::of(change, found)));
            }
            println!("{}", text::json_line(&whole));
        } else {
            println!("{}", render(&comparison, &whole, screen));
        }
        Ok(match comparison.is_harmful() {
            true => Done::NotWell,
            false => Done::Well,
        })
    }

    fn candidate(&self) -> Result<Table, Trouble> {
        let mut names: Vec<String> = self
            .with
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        if self.and_own {
            let (config, _) =
                files::load_from_disk(self.config.as_deref(), &[]).map_err(|mistakes| {
                    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                    Trouble::Configuration(lines.join("\n"))
                })?;
            names.extend(
                config
                    .policy
                    .files
                    .iter()
                    .flat_map(|pattern| DiskFiles.expand(pattern)),
            );
        }
        let mut texts = Vec::new();
        for name in names {
            match DiskFiles.read(name.as_ref()) {
                Ok(text) => texts.push((name, text)),
                Err(error) => return Err(Trouble::Configuration(format!("{name}: {error}"))),
            }
        }
        Table::with_files(&texts).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Trouble::Configuration(format!("the candidate is refused:\n{}", lines.join("\n")))
        })
    }
}

/// One change, for scripts.
#[derive(Debug, Serialize)]
struct Row<'a> {
    kind: &'static str,
    /// `suppressed`, `bounced`, or null.
    newly: Option<&'static str>,
    replies: u64,
    messages: u64,
    rule_before: &'a str,
    category_before: &'a str,
    action_before: &'a str,
    rule_after: &'a str,
    category_after: &'a str,
    action_after: &'a str,
    examples: &'a [Entry],
}

impl<'a> Row<'a> {
    fn of(change: &'a Change, found: &'a Found) -> Row<'a> {
        Row {
            kind: "change",
            newly: newly(change.harm),
            replies: found.replies,
            messages: found.messages.len() as u64,
            rule_before: &change.before.rule,
            category_before: &change.before.category,
            action_before: &change.before.action,
            rule_after: &change.after.rule,
            category_after: &change.after.category,
            action_after: &change.after.action,
            examples: &found.examples,
        }
    }
}

/// All of it, for scripts; the last line.
#[derive(Debug, Serialize)]
struct Whole {
    kind: &'static str,
    looked_at: u64,
    changed: u64,
    newly_bounced: u64,
    newly_suppressed: u64,
    /// Decisions that hold too little to be decided again.
    undecidable: u64,
    /// Lines of the history that could not be read.
    damaged: u64,
}

impl Whole {
    fn of(comparison: &Comparison, damaged: u64) -> Whole {
        let of = |harm: Harm| {
            let changes = comparison.changes().into_iter();
            let meant = changes.filter(|(change, _)| change.harm == harm);
            meant.map(|(_, found)| found.replies).sum()
        };
        Whole {
            kind: "whole",
            looked_at: comparison.looked_at,
            changed: comparison.changed(),
            newly_bounced: of(Harm::Bounced),
            newly_suppressed: of(Harm::Suppressed),
            undecidable: comparison.undecidable,
            damaged,
        }
    }
}

fn newly(harm: Harm) -> Option<&'static str> {
    match harm {
        Harm::Suppressed => Some("suppressed"),
        Harm::Bounced => Some("bounced"),
        Harm::None => None,
    }
}

fn render(comparison: &Comparison, whole: &Whole, screen: &Screen) -> String {
    let mut lines = Vec::new();
    let changes = comparison.changes();
    if !changes.is_empty() {
        let headers = ["REPLIES", "MESSAGES", "NEWLY", "BEFORE", "AFTER"];
        let side = |side: &Side| format!("{} ({}, {})", side.rule, side.category, side.action);
        let rows = changes
            .iter()
            .map(|(change, found)| {
                vec![
                    found.replies.to_string(),
                    found.messages.len().to_string(),
                    newly(change.harm).unwrap_or("-").to_owned(),
                    side(&change.before),
                    side(&change.after),
                ]
            })
            .collect();
        lines.push(text::table(&headers, rows, screen));
        for (change, found) in &changes {
            lines.push(String::new());
            lines.push(format!("{} -> {}", change.before.rule, change.after.rule));
            lines.extend(found.examples.iter().map(|entry| example(entry, screen)));
        }
        lines.push(String::new());
    }
    lines.push(format!(
        "{} looked at; {} would be decided otherwise",
        text::count(whole.looked_at, "decision"),
        whole.changed
    ));
    for (count, words) in [
        (whole.newly_suppressed, "would newly suppress an address"),
        (whole.newly_bounced, "would newly be bounced"),
    ] {
        if count > 0 {
            lines.push(screen.paint(&format!("{count} {words}"), Tone::Bad));
        }
    }
    for (count, words) in [
        (
            whole.undecidable,
            "could not be decided again: too little of the reply was kept",
        ),
        (
            whole.damaged,
            "damaged lines of the history could not be read",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{count} {words}"));
        }
    }
    lines.join("\n")
}

/// `3f7k9q2mxt4p  a@example.com  450 4.7.1 Greylisted`, indented.
fn example(entry: &Entry, screen: &Screen) -> String {
    let id = entry.id.map_or_else(String::new, |id| id.to_string());
    let recipient = entry.recipient.as_deref().unwrap_or_default();
    let reply = entry.reply.as_deref().unwrap_or_default();
    let line = format!("{id}  {recipient}  {reply}");
    format!(
        "  {}",
        text::shortened(&line, screen.width.saturating_sub(2))
    )
}
