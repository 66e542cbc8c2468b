//! `relayctl queue flush`: messages are due now; with `--wait`, until they have been tried.

use std::time::Duration;

use relay_admin::act::Command;
use relay_admin::select::Selection;
use relay_admin::view::{Flushed, Untried};

use crate::client::Client;
use crate::command::act::{PAGE, Progress};
use crate::command::wait::{Ended, Look, until_finished};
use crate::outcome::{Done, Outcome};
use crate::text::{self, Format};

/// `most`: how long to wait until they have been tried; None: not at all.
pub async fn flush(
    client: &Client,
    selection: Selection,
    most: Option<Duration>,
    format: Format,
) -> Outcome {
    let narrowed = !selection.is_everything();
    let mut command = Command {
        select: selection.clone(),
        all: !narrowed,
        limit: Some(PAGE),
        next: None,
    };
    let progress = Progress::new("made due");
    let mut flushed: Flushed = client.post("/v1/queue/flush", &command).await?;
    while flushed.next.is_some() {
        progress.show(flushed.messages);
        command.next = flushed.next.take();
        let more: Flushed = client.post("/v1/queue/flush", &command).await?;
        flushed.messages += more.messages;
        flushed.next = more.next;
    }
    progress.end();
    match format {
        Format::Json => println!("{}", text::json_line(&flushed)),
        Format::Text => {
            let messages = text::count(flushed.messages, "message");
            println!("{messages} made due");
        }
    }
    if flushed.messages == 0 {
        return Ok(if narrowed { Done::NotWell } else { Done::Well });
    }
    match most {
        Some(most) => wait_for_flushed(client, &selection, &flushed, most).await,
        None => Ok(Done::Well),
    }
}

async fn wait_for_flushed(
    client: &Client,
    selection: &Selection,
    flushed: &Flushed,
    most: Duration,
) -> Outcome {
    let mut pairs = selection.to_pairs();
    pairs.push(("since", flushed.at.to_string()));
    let ended = until_finished(flushed.messages, most, || async {
        let look: Untried = client.get("/v1/queue/untried", &pairs).await?;
        Ok(match look.untried {
            0 => Look::Finished,
            untried => Look::Waiting(untried),
        })
    });
    match ended.await? {
        Ended::Finished => {
            eprintln!("all have been tried");
            Ok(Done::Well)
        }
        Ended::TimeIsOver(untried) => {
            let messages = text::count(untried, "message");
            eprintln!("the time is over and {messages} not tried yet; see relayctl queue list");
            Ok(Done::NotWell)
        }
    }
}
