//! `relayctl policy list --hits`: how often which rule has decided, and which never did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use relay_admin::log::HitsRow;
use relay_policy::Table;
use serde::Serialize;

use crate::client::Client;
use crate::command::log::{earlier, with_offline};
use crate::outcome::{Done, Outcome, Trouble};
use crate::source::{Ask, Progress, Source};
use crate::text::{self, Format, Screen};

#[derive(Debug, Args)]
pub struct Hits {
    /// How often each rule has decided since relayd was started; asks the daemon
    #[arg(long)]
    pub hits: bool,
    /// Since so long ago, such as 2h or 14d, from the history
    #[arg(long, value_name = "TIME", requires = "hits", value_parser = text::parse_span)]
    since: Option<u64>,
    /// Read the history in this directory (log.history_dir, or state.dir), without the daemon
    #[arg(long = "dir", value_name = "DIR", requires = "since")]
    dir: Option<PathBuf>,
}

/// A rule with its counts, for scripts. The rules of the table that never decided are among them.
#[derive(Debug, Serialize)]
struct Row<'a> {
    rule: &'a str,
    /// None: no rule of this table; another file's, or `operator`.
    place: Option<&'a str>,
    category: &'a str,
    /// None: it never decided.
    action: Option<&'a str>,
    recipients: u64,
    sessions: u64,
    last: Option<Timestamp>,
}

impl Hits {
    pub async fn run(
        self,
        table: &Table,
        client: &Client,
        format: Format,
        screen: &Screen,
    ) -> Outcome {
        let counts = self.counts(client).await?;
        let rows = rows(table, &counts);
        match format {
            Format::Json => rows
                .iter()
                .for_each(|row| println!("{}", text::json_line(row))),
            Format::Text => println!("{}", render(&rows, Timestamp::now(), screen)),
        }
        Ok(Done::Well)
    }

    async fn counts(&self, client: &Client) -> Result<Vec<HitsRow>, Trouble> {
        let source = Source::of(client, self.dir.as_deref())?;
        let mut ask = Ask {
            since: self.since.map(|since| earlier(Timestamp::now(), since)),
            ..Ask::default()
        };
        let mut sum: BTreeMap<(String, String, String), HitsRow> = BTreeMap::new();
        let mut progress = Progress::new();
        loop {
            let page = source.hits(&ask).await.map_err(with_offline)?;
            for row in page.hits {
                let key = (row.rule.clone(), row.category.clone(), row.action.clone());
                match sum.get_mut(&key) {
                    Some(known) => {
                        known.recipients += row.recipients;
                        known.sessions += row.sessions;
                        known.last = known.last.max(row.last);
                    }
                    None => {
                        sum.insert(key, row);
                    }
                }
            }
            progress.left(page.left);
            match page.next {
                Some(next) => ask.place = Some(next),
                None => break,
            }
        }
        progress.done();
        Ok(sum.into_values().collect())
    }
}

/// Those that decided most often first, then those that never did, as the table has them.
fn rows<'a>(table: &'a Table, counts: &'a [HitsRow]) -> Vec<Row<'a>> {
    let places: BTreeMap<&str, &str> = table
        .rules()
        .map(|row| (row.rule.name.as_str(), row.rule.place.as_str()))
        .collect();
    let mut rows: Vec<Row<'_>> = counts
        .iter()
        .map(|row| Row {
            rule: &row.rule,
            place: places.get(row.rule.as_str()).copied(),
            category: &row.category,
            action: Some(&row.action),
            recipients: row.recipients,
            sessions: row.sessions,
            last: Some(row.last),
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.recipients + row.sessions));
    let used: BTreeSet<&str> = counts.iter().map(|row| row.rule.as_str()).collect();
    let never = table
        .rules()
        .filter(|row| !used.contains(row.rule.name.as_str()));
    rows.extend(never.map(|row| Row {
        rule: &row.rule.name,
        place: Some(&row.rule.place),
        category: row.category.word(),
        action: None,
        recipients: 0,
        sessions: 0,
        last: None,
    }));
    rows
}

fn render(rows: &[Row<'_>], now: Timestamp, screen: &Screen) -> String {
    let headers = [
        "RULE",
        "CATEGORY",
        "ACTION",
        "RECIPIENTS",
        "SESSIONS",
        "LAST",
        "PLACE",
    ];
    let shown = rows
        .iter()
        .filter_map(|row| {
            Some(vec![
                row.rule.to_owned(),
                row.category.to_owned(),
                row.action?.to_owned(),
                row.recipients.to_string(),
                row.sessions.to_string(),
                text::ago(row.last?, now),
                row.place.unwrap_or("-").to_owned(),
            ])
        })
        .collect();
    let never = rows.iter().filter(|row| row.last.is_none()).count() as u64;
    format!(
        "{}\n\n{} never decided; --json lists them, too",
        text::table(&headers, shown, screen),
        text::count(never, "rule")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_rules_come_first_and_unused_ones_are_counted() {
        let table = Table::default_table();
        let now: Timestamp = "2026-11-22T16:00:00Z".parse().unwrap();
        let row = |rule: &str, recipients, sessions| HitsRow {
            rule: rule.to_owned(),
            category: "c".to_owned(),
            action: "defer".to_owned(),
            recipients,
            sessions,
            last: now,
        };
        let counts = [row("mine", 1, 0), row("greylisted", 2, 5)];
        let rows = rows(&table, &counts);
        assert_eq!((rows[0].rule, rows[1].rule), ("greylisted", "mine"));
        assert!(rows[0].place.is_some() && rows[1].place.is_none());
        assert_eq!(rows.len(), table.rules().count() + 1);
        let text = render(&rows, now, &Screen::plain());
        let never = format!("{} rules never decided", table.rules().count() - 1);
        assert!(text.contains(&never), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}
