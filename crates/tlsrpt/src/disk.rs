//! The days on disk: a file of sessions for each day (UTC), one JSON object a line, and a file that says which
//! reports about it have gone out. A line that a crash cut off is passed over.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use crate::session::{Row, Tally};

/// The folder, in the state directory.
#[derive(Clone, Debug)]
pub struct Days {
    dir: PathBuf,
}

/// The file of one day, open for more.
pub(crate) struct DayFile {
    file: File,
    pub bytes: u64,
}

/// A name, since a file of it is a day's.
const COUNTED: &str = "sessions";
const SENT: &str = "sent";

impl Days {
    pub fn open(dir: &Path) -> io::Result<Days> {
        fs::create_dir_all(dir)?;
        Ok(Days {
            dir: dir.to_owned(),
        })
    }

    /// Days of which anything is there, the oldest first.
    pub fn all(&self) -> io::Result<Vec<Date>> {
        let mut days = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let counted = path.extension().is_some_and(|ending| ending == COUNTED);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let day: Option<Date> = stem.and_then(|stem| stem.parse().ok());
            days.extend(day.filter(|_| counted));
        }
        days.sort();
        Ok(days)
    }

    /// What was counted, rows that are alike added up.
    pub fn rows(&self, day: Date) -> io::Result<Vec<Row>> {
        let mut tally = Tally::default();
        let file = match File::open(self.path(day, COUNTED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        for line in BufReader::new(file).split(b'\n') {
            if let Ok(row) = serde_json::from_slice::<Row>(&line?) {
                tally.add(row);
            }
        }
        Ok(tally.rows())
    }

    /// What has been sent, in the words of [`Days::mark`].
    pub fn sent(&self, day: Date) -> io::Result<HashSet<String>> {
        match fs::read_to_string(self.path(day, SENT)) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            Err(error) => Err(error),
        }
    }

    /// On disk when this returns.
    pub fn mark(&self, day: Date, what: &str) -> io::Result<()> {
        let mut file = append(&self.path(day, SENT))?;
        file.write_all(format!("{what}\n").as_bytes())?;
        file.sync_data()
    }

    /// Nothing more is to be told of it. The sessions go last: without them the day is not there.
    pub fn remove(&self, day: Date) -> io::Result<()> {
        for of in [SENT, COUNTED] {
            match fs::remove_file(self.path(day, of)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn file(&self, day: Date) -> io::Result<DayFile> {
        let mut file = append(&self.path(day, COUNTED))?;
        let mut bytes = file.metadata()?.len();
        // What a crash cut off must not make the next line unreadable, too.
        if bytes > 0 && last_byte(&mut file)? != b'\n' {
            file.write_all(b"\n")?;
            bytes += 1;
        }
        Ok(DayFile { file, bytes })
    }

    /// The day's file anew, with each row once.
    pub(crate) fn compact(&self, day: Date) -> io::Result<DayFile> {
        let mut text = Vec::new();
        for row in self.rows(day)? {
            text.extend(line(&row)?);
        }
        let path = self.path(day, COUNTED);
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&new, &path)?;
        self.file(day)
    }

    fn path(&self, day: Date, of: &str) -> PathBuf {
        self.dir.join(format!("{day}.{of}"))
    }
}

impl DayFile {
    /// In one piece: a kill of the process loses none of it.
    pub fn add(&mut self, row: &Row) -> io::Result<()> {
        let line = line(row)?;
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn line(row: &Row) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(row)?;
    line.push(b'\n');
    Ok(line)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last[0])
}
