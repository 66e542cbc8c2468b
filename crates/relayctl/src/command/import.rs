//! `relayctl queue import`: takes over what `queue export` has written, or what Postfix has in its queue.
//!
//! A line that is no message is told with its number, and the rest goes on; exit status 1 says that
//! there was one. What was taken over before is counted and left out.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use relay_admin::export::{End, FORMAT, Head, VERSION};
use relay_admin::import::Imported;
use relay_admin::line::{MessageLine, PIECE_BEGINS, PieceLine, WHOLE_BYTES_MAX};

use crate::client::{Client, Listens, Upload};
use crate::command::act::Progress;
use crate::command::postfix;
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{self, Format};

/// Bytes of lines that go in one request, unless one message has more.
const BATCH_BYTES: usize = 2 << 20;
/// And lines: a second's work of the slowest disk.
const BATCH_LINES: usize = 500;
/// A longer line is made into pieces: from an older relayctl, or from Postfix.
const LINE_BYTES: usize = 1 << 20;
/// Of such a piece.
const PIECE_BYTES: usize = 64 << 10;

/// From a file, or standard input.
pub async fn file(client: &Client, path: &Path, format: Format) -> Outcome {
    let mut lines: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(BufReader::new(io::stdin())),
        false => {
            let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
            Box::new(BufReader::new(file))
        }
    };
    let mut import = Import::new(client);
    let (mut number, mut line, mut seen) = (0u64, Vec::new(), 0u64);
    let end = loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line);
        if read.map_err(|error| cannot_read(path, &error))? == 0 {
            break None;
        }
        number += 1;
        if number == 1 {
            check_head(path, &line)?;
        } else if let Ok(end) = serde_json::from_slice::<End>(&line) {
            break Some(end);
        } else if !line.trim_ascii().is_empty() {
            seen += u64::from(!line.starts_with(PIECE_BEGINS));
            import
                .add(format!("line {number}"), line.trim_ascii_end())
                .await?;
        }
    };
    import.send().await?;
    match end {
        Some(end) if end.messages == seen => {}
        Some(end) => import.complain(&format!(
            "the file says that it has {}, and has {seen}",
            text::count(end.messages, "message")
        )),
        None => import.complain("the file was cut off: its last line is missing"),
    }
    Ok(import.finish(format))
}

/// From a Postfix queue.
pub async fn postfix(client: &Client, paths: &[PathBuf], format: Format) -> Outcome {
    let mut import = Import::new(client);
    for path in postfix::queue_files(paths)? {
        let name = path.display().to_string();
        match postfix::read(&path) {
            Ok(Some(message)) => import.add_message(name, &message).await?,
            // All of its recipients are done.
            Ok(None) => {}
            Err(why) => import.complain(&format!("{name}: {why}")),
        }
    }
    import.send().await?;
    Ok(import.finish(format))
}

fn check_head(path: &Path, line: &[u8]) -> Result<(), Trouble> {
    let wrong = |what: &str| Err(Trouble::NotWell(format!("{}: {what}", path.display())));
    match serde_json::from_slice::<Head>(line) {
        Ok(head) if head.format != FORMAT => wrong("not an export of a relayd queue"),
        Ok(head) if head.version > VERSION => wrong(&format!(
            "version {} is newer than this relayctl, which reads up to {VERSION}",
            head.version
        )),
        Ok(_) => Ok(()),
        Err(_) => wrong("not an export of a relayd queue: its first line says nothing of that"),
    }
}

/// The request that is open, and what became of those before.
struct Import<'a> {
    client: &'a Client,
    request: Option<Upload>,
    /// Of the lines in it.
    bytes: usize,
    /// What each of them is called.
    names: Vec<String>,
    imported: u64,
    known: u64,
    refused: u64,
    progress: Progress,
}

impl<'a> Import<'a> {
    fn new(client: &'a Client) -> Import<'a> {
        Import {
            client,
            request: None,
            bytes: 0,
            names: Vec::new(),
            imported: 0,
            known: 0,
            refused: 0,
            progress: Progress::new("imported"),
        }
    }

    async fn add_message(&mut self, name: String, message: &MessageLine) -> Result<(), Trouble> {
        self.add(name, text::json_line(message).as_bytes()).await
    }

    async fn add(&mut self, name: String, line: &[u8]) -> Result<(), Trouble> {
        // The pieces of a message come in the same request as its line.
        let may_wait = !line.starts_with(PIECE_BEGINS);
        let too_much = self.bytes + line.len() > BATCH_BYTES || self.names.len() >= BATCH_LINES;
        if may_wait && too_much {
            self.send().await?;
        }
        match line.len() > LINE_BYTES {
            false => self.put(name, line).await,
            true => self.put_in_pieces(name, line).await,
        }
    }

    async fn put_in_pieces(&mut self, name: String, line: &[u8]) -> Result<(), Trouble> {
        let parsed = serde_json::from_slice::<MessageLine>(line).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|message| Ok((message.body()?, message)));
        let (body, mut message) = match parsed {
            Ok((body, message)) if body.len() as u64 > WHOLE_BYTES_MAX => (body, message),
            // Relayd says what is wrong with so long an envelope.
            Ok(_) => return self.put(name, line).await,
            Err(why) => {
                self.complain(&format!("{name}: {why}"));
                return Ok(());
            }
        };
        (message.message, message.message_base64) = (None, None);
        let message = message.with_pieces(body.len() as u64, relay_queue::checksum(&body));
        let head = text::json_line(&message);
        self.put(name.clone(), head.as_bytes()).await?;
        for piece in body.chunks(PIECE_BYTES) {
            let line = text::json_line(&PieceLine::of(piece));
            self.put(name.clone(), line.as_bytes()).await?;
        }
        Ok(())
    }

    async fn put(&mut self, name: String, line: &[u8]) -> Result<(), Trouble> {
        let request = match &mut self.request {
            Some(request) => request,
            none => none.insert(self.client.upload("/v1/queue/import").await?),
        };
        let listens = request.line(line).await?;
        self.bytes += line.len();
        self.names.push(name);
        match listens {
            Listens::On => Ok(()),
            Listens::NoMore => {
                self.send().await?;
                Err(Trouble::NotWell("relayd stopped listening".to_owned()))
            }
        }
    }

    async fn send(&mut self) -> Result<(), Trouble> {
        let Some(request) = self.request.take() else {
            return Ok(());
        };
        let names = std::mem::take(&mut self.names);
        self.bytes = 0;
        let done: Imported = request.end().await.inspect_err(|_| {
            eprintln!(
                "relayctl: broken off after {}; repeat it once the cause is mended, what is there already is left out",
                text::count(self.imported, "imported message")
            );
        })?;
        self.imported += done.imported;
        self.known += done.known;
        for (line, why) in done.refused {
            let name = usize::try_from(line).ok().and_then(|line| names.get(line));
            let name = name.map_or("a line", String::as_str);
            self.complain(&format!("{name}: {why}"));
        }
        self.progress.show(self.imported + self.known);
        Ok(())
    }

    fn complain(&mut self, what: &str) {
        self.refused += 1;
        eprintln!("relayctl: {}", text::harmless(what));
    }

    fn finish(self, format: Format) -> Done {
        self.progress.end();
        match format {
            Format::Json => println!(
                "{}",
                serde_json::json!({
                    "imported": self.imported,
                    "known": self.known,
                    "refused": self.refused,
                })
            ),
            Format::Text => println!(
                "{} imported, {} known already, {} refused",
                text::count(self.imported, "message"),
                self.known,
                self.refused
            ),
        }
        match self.refused {
            0 => Done::Well,
            _ => Done::NotWell,
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Trouble {
    Trouble::NotWell(format!("{}: {error}", path.display()))
}
