//! The list's file: a line for each change, made durable before it counts, made short by a rename.
//!
//! A line is a checksum and a record in JSON. What cannot be read is put aside, told, and never stops
//! the rest from being read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use relay_observe::{Event, Events};
use relay_smtp::Mailbox;
use serde::{Deserialize, Serialize};

use crate::entry::Entry;

/// The first line of the file: what it is, and the version of its records.
const HEADER: &str = "relayd-suppression 1\n";

/// Why the list cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{file}: {error}; see to the disk and its permissions")]
    File { file: String, error: io::Error },
    #[error("{file} was written by a later version of relayd ({found}); use that version")]
    Later { file: String, found: String },
    #[error("the suppression list could not be changed: {0}")]
    BrokenOff(String),
}

/// One change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Record {
    Add(Entry),
    /// The address.
    Remove(String),
}

/// The open file. Whoever has it is the only one who writes.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    file: File,
    /// Bytes that are durable; what stands behind them is half a write.
    length: u64,
    /// Records in the file, of which some have been overtaken.
    pub(crate) records: usize,
}

/// What was read at the opening.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) records: Vec<Record>,
    /// Lines were damaged or cut off: the file should be written anew.
    pub(crate) damaged: usize,
}

impl Log {
    /// Opens the list below `dir`, or makes an empty one.
    pub(crate) fn open(dir: &Path, events: &Events) -> Result<Opened, Trouble> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| trouble(dir, error))?;
        let path = dir.join("list");
        match fs::exists(&path) {
            Ok(true) => {}
            Ok(false) => write_new(dir, std::iter::empty())?,
            Err(error) => return Err(trouble(&path, error)),
        }
        let (records, damaged) = read(dir, &path, events)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|error| trouble(&path, error))?;
        let length = file
            .metadata()
            .map_err(|error| trouble(&path, error))?
            .len();
        let log = Log {
            dir: dir.to_owned(),
            file,
            length,
            records: records.len(),
        };
        Ok(Opened {
            log,
            records,
            damaged,
        })
    }

    /// Durable when it returns.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), Trouble> {
        let mut lines = Vec::new();
        for record in records {
            lines.extend_from_slice(&line(record));
        }
        let written = self
            .file
            .write_all(&lines)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(self.length);
            return Err(trouble(&self.dir.join("list"), error));
        }
        self.length += lines.len() as u64;
        self.records += records.len();
        Ok(())
    }

    /// Writes the file anew with these entries only.
    pub(crate) fn rewrite<'e>(
        &mut self,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> Result<(), Trouble> {
        let mut records = 0;
        let counted = entries.inspect(|_| records += 1);
        write_new(&self.dir, counted)?;
        let path = self.dir.join("list");
        let opened = OpenOptions::new().append(true).open(&path);
        self.file = opened.map_err(|error| trouble(&path, error))?;
        let metadata = self.file.metadata();
        self.length = metadata.map_err(|error| trouble(&path, error))?.len();
        self.records = records;
        Ok(())
    }
}

/// The file is there whole or not at all.
fn write_new<'e>(dir: &Path, entries: impl Iterator<Item = &'e Entry>) -> Result<(), Trouble> {
    let (new, list) = (dir.join("list.new"), dir.join("list"));
    let write = || -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        let mut file = BufWriter::new(file);
        file.write_all(HEADER.as_bytes())?;
        for entry in entries {
            file.write_all(&line(&Record::Add(entry.clone())))?;
        }
        file.into_inner()?.sync_all()?;
        fs::rename(&new, &list)?;
        sync_directory(dir)?;
        // The directory may be new, too.
        dir.parent().map_or(Ok(()), sync_directory)
    };
    write().map_err(|error| trouble(&list, error))
}

fn line(record: &Record) -> Vec<u8> {
    let json = serde_json::to_string(record).expect("a record has text keys only");
    format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes()
}

/// All records that can be read, and how many lines could not.
fn read(dir: &Path, path: &Path, events: &Events) -> Result<(Vec<Record>, usize), Trouble> {
    let failed = |error| trouble(path, error);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut records, mut damaged, mut offset) = (Vec::new(), 0, 0u64);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let count = file.read_until(b'\n', &mut bytes).map_err(failed)?;
        if count == 0 {
            return Ok((records, damaged));
        }
        match parse(&bytes) {
            Ok(Line::Header) => {}
            Ok(Line::Later(found)) => {
                let file = path.display().to_string();
                return Err(Trouble::Later { file, found });
            }
            Ok(Line::Record(record)) => records.push(*record),
            Err(reason) => {
                damaged += 1;
                put_aside(dir, &bytes)?;
                events.emit(Event::RecordQuarantined {
                    file: path.display().to_string(),
                    offset,
                    reason,
                });
            }
        }
        offset += count as u64;
    }
}

enum Line {
    Header,
    /// Of another version.
    Later(String),
    Record(Box<Record>),
}

fn parse(bytes: &[u8]) -> Result<Line, String> {
    if bytes == HEADER.as_bytes() {
        return Ok(Line::Header);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
    let text = text
        .strip_suffix('\n')
        .ok_or("the line is cut off: relayd ended while it was written")?;
    if text.starts_with("relayd-suppression ") {
        return Ok(Line::Later(text.to_owned()));
    }
    let (sum, json) = text.split_once(' ').ok_or("no checksum")?;
    let sum = u32::from_str_radix(sum, 16).map_err(|_| "no checksum")?;
    if sum != crc32c::crc32c(json.as_bytes()) {
        return Err("the checksum is wrong".to_owned());
    }
    let record: Record = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(Line::Record(Box::new(record)))
}

/// For whoever wants to know what was lost.
fn put_aside(dir: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let path = dir.join("damaged");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(bytes)?;
        if !bytes.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        file.sync_all()
    };
    write().map_err(|error| trouble(&path, error))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn trouble(path: &Path, error: io::Error) -> Trouble {
    Trouble::File {
        file: path.display().to_string(),
        error,
    }
}

impl Record {
    pub(crate) fn removal(mailbox: &Mailbox) -> Record {
        Record::Remove(mailbox.to_string())
    }
}
