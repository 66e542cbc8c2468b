//! `relayctl queue hold`, `release`, `bounce`, `delete`, `reroute`: the same way through the queue, page by page.

use indicatif::{ProgressBar, ProgressStyle};
use relay_admin::act::Command;
use relay_admin::reroute::{Reroute, WayTo};
use relay_admin::select::Selection;
use relay_admin::view::{Changed, SummaryView};

use crate::client::Client;
use crate::command::select::Select;
use crate::outcome::{Done, Outcome, Trouble};
use crate::prompt::{self, Answer};
use crate::text::{self, Format};

/// Messages of one request: a second's work of the slowest disk.
pub const PAGE: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Hold,
    Release,
    Bounce(Ask),
    Delete(Ask),
    /// Can be undone, so nobody is asked.
    Reroute(WayTo),
}

/// Whether a person is asked first. What cannot be undone is, unless `--yes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    First,
    Nobody,
}

/// From `--yes`.
impl From<bool> for Ask {
    fn from(yes: bool) -> Ask {
        if yes { Ask::Nobody } else { Ask::First }
    }
}

/// Changes what is selected. Nothing matched: exit status 1.
pub async fn act(client: &Client, act: Act, select: &Select, format: Format) -> Outcome {
    let selection = select.deliberate()?;
    match act {
        Act::Bounce(Ask::First) => {
            let question = "with a report to each sender?";
            confirm(client, &selection, "Give up", question).await?;
        }
        Act::Delete(Ask::First) => {
            confirm(client, &selection, "Discard", "without a report?").await?;
        }
        Act::Hold
        | Act::Release
        | Act::Reroute(_)
        | Act::Bounce(Ask::Nobody)
        | Act::Delete(Ask::Nobody) => {}
    }
    let changed = every_page(client, &act, selection).await?;
    match format {
        Format::Text if changed.recipients == 0 => println!("{}", act.nothing()),
        Format::Json => println!("{}", text::json_line(&changed)),
        Format::Text => println!(
            "{} of {} {}",
            text::count(changed.recipients, "recipient"),
            text::count(changed.messages, "message"),
            act.done()
        ),
    }
    Ok(match changed.recipients {
        0 => Done::NotWell,
        _ => Done::Well,
    })
}

async fn every_page(client: &Client, act: &Act, selection: Selection) -> Result<Changed, Trouble> {
    let progress = Progress::new(act.done());
    let mut command = Command {
        all: selection.is_everything(),
        select: selection,
        limit: Some(PAGE),
        next: None,
    };
    let mut all = Changed::default();
    loop {
        let page: Changed = match act {
            Act::Reroute(way) => {
                let (command, way) = (command.clone(), way.clone());
                client.post(act.path(), &Reroute { command, way }).await?
            }
            Act::Hold | Act::Release | Act::Bounce(_) | Act::Delete(_) => {
                client.post(act.path(), &command).await?
            }
        };
        all.messages += page.messages;
        all.recipients += page.recipients;
        progress.show(all.messages);
        match page.next {
            Some(next) => command.next = Some(next),
            None => break,
        }
    }
    progress.end();
    Ok(all)
}

/// Asks at a terminal; elsewhere `--yes` is needed.
async fn confirm(
    client: &Client,
    selection: &Selection,
    what: &str,
    how: &str,
) -> Result<(), Trouble> {
    if !prompt::is_interactive() {
        return Err(Trouble::Usage(
            "this cannot be undone: say --yes, since there is no terminal to ask at".to_owned(),
        ));
    }
    let mut pairs = selection.to_pairs();
    pairs.push(("limit", "1".to_owned()));
    let summary: SummaryView = client.get("/v1/queue/summary", &pairs).await?;
    if summary.total.recipients == 0 {
        return Err(Trouble::NotWell("nothing in the queue matches".to_owned()));
    }
    let recipients = text::count(summary.total.recipients, "recipient");
    let answer = prompt::confirm(&format!("{what} {recipients}, {how}"))
        .map_err(|error| Trouble::NotWell(format!("no answer: {error}")))?;
    match answer {
        Answer::Yes => Ok(()),
        Answer::No => Err(Trouble::NotWell("nothing was changed".to_owned())),
    }
}

impl Act {
    fn path(&self) -> &'static str {
        match self {
            Act::Hold => "/v1/queue/hold",
            Act::Release => "/v1/queue/release",
            Act::Bounce(_) => "/v1/queue/bounce",
            Act::Delete(_) => "/v1/queue/delete",
            Act::Reroute(_) => "/v1/queue/reroute",
        }
    }

    fn nothing(&self) -> &'static str {
        match self {
            Act::Hold => "nothing that is not held matches",
            Act::Release => "nothing that is held matches",
            Act::Bounce(_) | Act::Delete(_) => "nothing in the queue matches",
            Act::Reroute(_) => "nothing that does not go that way already matches",
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Act::Hold => "held",
            Act::Release => "released",
            Act::Bounce(_) => "given up",
            Act::Delete(_) => "discarded",
            Act::Reroute(_) => "rerouted",
        }
    }
}

/// How far a long command is, on a terminal's standard error only.
pub struct Progress(ProgressBar);

impl Progress {
    /// `done`: what has happened to the messages, such as `held`.
    pub fn new(done: &'static str) -> Progress {
        let style = ProgressStyle::with_template("{spinner} {pos} messages {msg}  {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Progress(
            ProgressBar::no_length()
                .with_style(style)
                .with_message(done),
        )
    }

    pub fn show(&self, messages: u64) {
        self.0.set_position(messages);
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
