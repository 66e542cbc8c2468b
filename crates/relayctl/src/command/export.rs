//! `relayctl queue export`: messages as lines of JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use relay_admin::act::Command;
use relay_admin::export::{End, FORMAT, Head, PartEnd, Said, VERSION, line_of};
use relay_admin::line::PIECE_BEGINS;
use relay_admin::select::Selection;
use relay_observe::{Clock, Events};
use relay_queue::{DiskStore, Message, Options, Store, StoreError};
use serde::Deserialize;

use crate::client::Client;
use crate::command::act::Progress;
use crate::outcome::{Done, Outcome, Trouble};
use crate::text;

/// Messages of one step offline.
const STEP: usize = 200;

/// Writes what is selected to a file, or to standard output. Exit status 1: some could not be read, or
/// there was nothing.
pub async fn export(
    client: &Client,
    file: &Path,
    selection: Selection,
    offline: Option<PathBuf>,
) -> Outcome {
    let mut output = Output::create(file)?;
    output.write(&line_of(&Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        exported: Timestamp::now(),
    }))?;
    let progress = Progress::new("exported");
    match offline {
        None => online(client, selection, &mut output, &progress).await?,
        Some(directory) => stopped(&directory, &selection, &mut output, &progress).await?,
    }
    progress.end();
    let messages = output.messages;
    output.write(&line_of(&End {
        end: true,
        messages,
    }))?;
    let unreadable = output.finish()?;
    eprintln!("{} exported", text::count(messages, "message"));
    Ok(match (messages, unreadable) {
        (0, _) => Done::NotWell,
        (_, 0) => Done::Well,
        (_, _) => Done::NotWell,
    })
}

async fn online(
    client: &Client,
    selection: Selection,
    output: &mut Output,
    progress: &Progress,
) -> Result<(), Trouble> {
    let mut command = Command {
        all: selection.is_everything(),
        select: selection,
        ..Command::default()
    };
    loop {
        let mut lines = client.lines("/v1/queue/export", &command).await?;
        let end = loop {
            let Some(line) = lines.next().await? else {
                return Err(Trouble::NotWell("relayd broke off its answer".to_owned()));
            };
            if let Some(end) = output.take(&line)? {
                break end;
            }
            progress.show(output.messages);
        };
        match (end.error, end.next) {
            (Some(error), _) => return Err(Trouble::NotWell(error)),
            (None, Some(next)) => command.next = Some(next),
            (None, None) => return Ok(()),
        }
    }
}

/// What a line of an answer tells beside what goes into the file.
#[derive(Deserialize)]
struct Told {
    unreadable: Option<String>,
    reason: Option<String>,
    #[serde(flatten)]
    end: Option<PartEnd>,
}

async fn stopped(
    directory: &Path,
    selection: &Selection,
    output: &mut Output,
    progress: &Progress,
) -> Result<(), Trouble> {
    is_ours(directory)?;
    if selection.site.is_some() {
        return Err(Trouble::Usage(
            "--site needs a running relayd, which knows where mail goes".to_owned(),
        ));
    }
    let now = Timestamp::now();
    let select = selection.to_select(now);
    let select = select.map_err(|error| Trouble::Usage(error.words()))?;
    let clock = Clock::starting_at(now);
    let store = DiskStore::open(directory, clock, Events::default(), Options::default())
        .map_err(|error| Trouble::NotWell(error.to_string()))?;
    let not_well = |error: relay_queue::StoreError| Trouble::NotWell(error.to_string());
    let mut after = None;
    loop {
        let page = store
            .list(select.clone(), after, STEP)
            .await
            .map_err(not_well)?;
        for message in &page.messages {
            offline_one(&store, message, output).await?;
        }
        progress.show(output.messages);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    store.close().await;
    Ok(())
}

async fn offline_one(
    store: &DiskStore,
    message: &Message,
    output: &mut Output,
) -> Result<(), Trouble> {
    let not_well = |error: StoreError| Trouble::NotWell(error.to_string());
    let mut said = match Said::begin(store, message).await {
        Ok(Some(said)) => said,
        Ok(None) => return Ok(()),
        Err(StoreError::Disk(why)) => {
            output.unreadable(&message.id.to_string(), &why);
            return Ok(());
        }
        Err(error) => return Err(not_well(error)),
    };
    while let Some(line) = said.next().await.map_err(not_well)? {
        output.write(&line)?;
    }
    output.messages += 1;
    Ok(())
}

/// What another user writes there, relayd could not open any more.
fn is_ours(directory: &Path) -> Result<(), Trouble> {
    let version = directory.join("VERSION");
    let found = std::fs::metadata(&version).map_err(|error| {
        Trouble::NotWell(format!(
            "{}: {error}; not a state directory",
            version.display()
        ))
    })?;
    let us = rustix::process::geteuid().as_raw();
    match found.uid() == us {
        true => Ok(()),
        false => Err(Trouble::NotWell(format!(
            "{} belongs to user {}: run this as that user (runuser -u relayd -- relayctl ...), or relayd could not open it afterwards",
            directory.display(),
            found.uid()
        ))),
    }
}

/// Where lines go.
struct Output {
    to: BufWriter<Box<dyn Write>>,
    /// To be synced at the end; None: standard output.
    file: Option<(File, PathBuf)>,
    messages: u64,
    unreadable: u64,
}

impl Output {
    fn create(path: &Path) -> Result<Output, Trouble> {
        let (to, file): (Box<dyn Write>, _) = match path == Path::new("-") {
            true => (Box::new(io::stdout()), None),
            false => {
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600).open(path);
                let file = file.map_err(|error| cannot_write(path, &error))?;
                let copy = file
                    .try_clone()
                    .map_err(|error| cannot_write(path, &error))?;
                (Box::new(file), Some((copy, path.to_owned())))
            }
        };
        Ok(Output {
            to: BufWriter::with_capacity(1 << 16, to),
            file,
            messages: 0,
            unreadable: 0,
        })
    }

    /// A line of relayd's. Some: it was the last one of this answer.
    fn take(&mut self, line: &[u8]) -> Result<Option<PartEnd>, Trouble> {
        if !line.starts_with(PIECE_BEGINS) {
            let told: Told = serde_json::from_slice(line)
                .map_err(|error| Trouble::NotWell(format!("relayd's answer: {error}")))?;
            if let Some(id) = told.unreadable {
                self.unreadable(&id, &told.reason.unwrap_or_default());
                return Ok(None);
            }
            if told.end.is_some() {
                return Ok(told.end);
            }
            self.messages += 1;
        }
        self.write(line)?;
        self.write(b"\n")?;
        Ok(None)
    }

    fn unreadable(&mut self, id: &str, why: &str) {
        eprintln!("relayctl: message {id} cannot be exported: {why}");
        self.unreadable += 1;
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let written = self.to.write_all(bytes);
        written.map_err(|error| self.failed(&error))
    }

    /// On disk. Returns how many messages could not be read.
    fn finish(mut self) -> Result<u64, Trouble> {
        let synced = self.to.flush().and_then(|()| match &self.file {
            Some((file, _)) => file.sync_all(),
            None => Ok(()),
        });
        synced.map_err(|error| self.failed(&error))?;
        Ok(self.unreadable)
    }

    fn failed(&self, error: &io::Error) -> Trouble {
        match &self.file {
            Some((_, path)) => cannot_write(path, error),
            None => Trouble::NotWell(format!("standard output: {error}")),
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Trouble {
    Trouble::NotWell(format!("{}: {error}", path.display()))
}
