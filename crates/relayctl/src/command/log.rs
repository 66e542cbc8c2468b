//! `relayctl log`: what happened to a message, also after it has gone; or the history of a selection.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use relay_observe::history::Entry;

use crate::Output;
use crate::client::Client;
use crate::command::select::Select;
use crate::command::story;
use crate::outcome::{Done, Outcome, Trouble};
use crate::source::{Ask, Progress, Source};
use crate::text::{self, Format, Screen};

/// What is looked at where neither a message nor a time is given.
const SINCE_DEFAULT: u64 = 86_400;
/// One answer waits so long for something to come.
const WAIT: u64 = 25;

#[derive(clap::Args)]
pub struct Log {
    /// One message: everything that happened to it
    #[arg(value_name = "ID", conflicts_with = "id")]
    message: Option<String>,
    #[command(flatten)]
    select: Select,
    /// Not before so long ago, such as 2h or 14d [default: 24h; with an ID, everything]
    #[arg(long, value_name = "TIME", value_parser = text::parse_span)]
    since: Option<u64>,
    /// Go on and show what comes, until Ctrl-C; without --since, only what comes from now on
    #[arg(long)]
    follow: bool,
    /// Read the files in this directory (log.history_dir, or state.dir), without the daemon
    #[arg(long, value_name = "DIR", conflicts_with = "follow")]
    offline: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Log {
    pub async fn run(self, client: &Client, screen: &Screen) -> Outcome {
        let source = Source::of(client, self.offline.as_deref())?;
        let mut ask = self.ask(Timestamp::now())?;
        let teller = Teller {
            format: self.output.format(),
            screen: *screen,
            one: ask.selection.id.is_some(),
        };
        let mut told = 0_u64;
        let mut damaged = 0;
        let mut progress = Progress::new();
        loop {
            let page = source.page(&ask).await.map_err(with_offline)?;
            if !page.entries.is_empty() {
                progress.done();
            }
            page.entries.iter().for_each(|entry| teller.tell(entry));
            told += page.entries.len() as u64;
            damaged += page.damaged;
            ask.place = Some(page.next);
            if page.left > 0 {
                progress.left(page.left);
            } else if self.follow {
                progress.done();
                ask.wait = WAIT;
            } else {
                break;
            }
        }
        progress.done();
        if damaged > 0 {
            let lines = text::count(damaged, "damaged line");
            eprintln!("relayctl: {lines} of the history could not be read");
        }
        match (told, &ask.selection.id) {
            (0, Some(id)) => Err(Trouble::NotWell(format!(
                "nothing is known of message {id}: it never was, or it is older than the history (log.history_max_age, log.history_bytes_max)"
            ))),
            (0, None) => Err(Trouble::NotWell(
                "nothing happened that is meant by this; look further back with --since".to_owned(),
            )),
            (_, _) => Ok(Done::Well),
        }
    }

    fn ask(&self, now: Timestamp) -> Result<Ask, Trouble> {
        let mut selection = self.select.selection();
        selection.id = self.message.clone().or(selection.id);
        if let Some(id) = &selection.id
            && let Err(error) = id.parse::<relay_smtp::QueueId>()
        {
            return Err(Trouble::Usage(error.to_string()));
        }
        let everything = selection.id.is_some();
        let since = match self.since {
            Some(seconds) => Some(seconds),
            None if everything || self.follow => None,
            None => Some(SINCE_DEFAULT),
        };
        let place = (self.follow && since.is_none() && !everything).then(|| "now".to_owned());
        Ok(Ask {
            selection,
            since: since.map(|seconds| earlier(now, seconds)),
            place,
            ..Ask::default()
        })
    }
}

/// So many seconds before; the beginning of time where that is too much.
pub fn earlier(now: Timestamp, seconds: u64) -> Timestamp {
    let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// Where the daemon is not there the files still are.
pub fn with_offline(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Unreachable(words) => Trouble::Unreachable(format!(
            "{words}\nWhat it has written can be read without it: --offline /var/lib/relayd"
        )),
        other => other,
    }
}

struct Teller {
    format: Format,
    screen: Screen,
    /// Of one message only.
    one: bool,
}

impl Teller {
    fn tell(&self, entry: &Entry) {
        match (self.format, self.one) {
            (Format::Json, _) => println!("{}", text::json_line(entry)),
            (Format::Text, true) => println!("{}", story::part(entry, &self.screen)),
            (Format::Text, false) => println!("{}", story::line(entry, &self.screen)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        log: Log,
    }

    fn ask(line: &str) -> Result<Ask, Trouble> {
        let now: Timestamp = "2026-11-22T16:00:00Z".parse().unwrap();
        let words = std::iter::once("log").chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap().log.ask(now)
    }

    #[test]
    fn a_day_is_looked_at_unless_a_message_or_a_time_is_given() {
        let since = |line: &str| ask(line).unwrap().since.map(|at| at.to_string());
        assert_eq!(since("").as_deref(), Some("2026-11-21T16:00:00Z"));
        let hours = since("--to example.com --since 2h");
        assert_eq!(hours.as_deref(), Some("2026-11-22T14:00:00Z"));
        assert_eq!(since("3f7k9q2mxt4p"), None);
        assert_eq!(ask("--follow").unwrap().place.as_deref(), Some("now"));
        assert_eq!(ask("--follow --since 1h").unwrap().place, None);
        assert_eq!(ask("nonsense").unwrap_err().status(), 2);
    }
}
