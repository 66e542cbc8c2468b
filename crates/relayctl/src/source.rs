//! Where the history is read: asked of relayd step by step, or from the files where relayd does not run.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use relay_admin::log::{self, HitsPage, LogPage, LogQuery};
use relay_admin::select::Selection;
use relay_observe::history::Reader;

use crate::client::{Client, Pairs};
use crate::outcome::Trouble;

/// Entries of one step.
const STEP: usize = 1_000;

pub enum Source<'c> {
    Online(&'c Client),
    Offline(Reader),
}

/// What of the history is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub selection: Selection,
    /// Of these kinds; empty: of any.
    pub events: Vec<&'static str>,
    pub since: Option<Timestamp>,
    /// Where the step before ended, or `now`.
    pub place: Option<String>,
    /// Seconds to wait for something to come.
    pub wait: u64,
}

impl<'c> Source<'c> {
    /// `offline`: the history's directory, or the state directory that it stands in.
    pub fn of(client: &'c Client, offline: Option<&Path>) -> Result<Source<'c>, Trouble> {
        let Some(dir) = offline else {
            return Ok(Source::Online(client));
        };
        let below = dir.join("log");
        let dir: PathBuf = if below.is_dir() {
            below
        } else {
            dir.to_owned()
        };
        if !dir.is_dir() {
            return Err(Trouble::NotWell(format!(
                "{}: no such directory; name log.history_dir, or state.dir",
                dir.display()
            )));
        }
        Ok(Source::Offline(Reader::new(&dir)))
    }

    /// The next step.
    pub async fn page(&self, ask: &Ask) -> Result<LogPage, Trouble> {
        match self {
            Source::Online(client) => client.get("/v1/log", &ask.pairs()).await,
            Source::Offline(reader) => log::read(reader, &ask.query()?).map_err(unreadable),
        }
    }

    pub async fn hits(&self, ask: &Ask) -> Result<HitsPage, Trouble> {
        match self {
            Source::Online(client) => client.get("/v1/policy/hits", &ask.pairs()).await,
            Source::Offline(reader) => log::read_hits(reader, &ask.query()?).map_err(unreadable),
        }
    }
}

impl Ask {
    fn pairs(&self) -> Pairs {
        let mut pairs = self.selection.to_pairs();
        pairs.extend(
            self.events
                .iter()
                .map(|event| ("event", (*event).to_owned())),
        );
        pairs.extend(self.since.map(|since| ("since", since.to_string())));
        pairs.extend(self.place.clone().map(|place| ("place", place)));
        if self.wait > 0 {
            pairs.push(("wait", self.wait.to_string()));
        }
        pairs.push(("limit", STEP.to_string()));
        pairs
    }

    fn query(&self) -> Result<LogQuery, Trouble> {
        let pairs = self.pairs().into_iter();
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value)).collect();
        LogQuery::from_pairs(pairs, Timestamp::now()).map_err(|error| Trouble::Usage(error.words()))
    }
}

fn unreadable(error: std::io::Error) -> Trouble {
    Trouble::NotWell(format!("the history cannot be read: {error}"))
}

/// How far the reading has come, on a terminal's standard error only.
pub struct Progress {
    bar: ProgressBar,
    most: u64,
}

impl Progress {
    pub fn new() -> Progress {
        let style = ProgressStyle::with_template(
            "{wide_bar} {bytes}/{total_bytes} of the history  {elapsed}",
        );
        Progress {
            bar: ProgressBar::new(0)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            most: 0,
        }
    }

    /// So many bytes are left.
    pub fn left(&mut self, bytes: u64) {
        self.most = self.most.max(bytes);
        self.bar.set_length(self.most);
        self.bar.set_position(self.most - bytes);
    }

    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}
