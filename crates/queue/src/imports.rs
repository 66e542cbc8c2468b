//! Which messages of other queues have been taken over, so that an import that broke off can be
//! repeated: a message that came with it may have been delivered meanwhile and left no other trace.
//!
//! A text file, a line each: the day (in days since 1970) and what names the message. Only ever
//! appended to; what is older than a month is left out when it is read for the first time.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;

use crate::device::{Device, write_bytes};

/// An import is repeated within days, if at all.
const KEPT_DAYS: i64 = 30;

/// See the module's first sentence.
#[derive(Debug)]
pub struct Imports {
    /// None: in memory only.
    file: Option<(PathBuf, Arc<dyn Device>)>,
    /// None: not read yet.
    known: Mutex<Option<HashSet<String>>>,
}

impl Imports {
    pub(crate) fn in_file(path: PathBuf, device: Arc<dyn Device>) -> Imports {
        Imports {
            file: Some((path, device)),
            known: Mutex::new(None),
        }
    }

    pub(crate) fn in_memory() -> Imports {
        Imports {
            file: None,
            known: Mutex::new(None),
        }
    }

    /// Whether this one has been taken over. Reads the file when it is asked for the first time.
    pub fn knows(&self, origin: &str, now: Timestamp) -> io::Result<bool> {
        self.with(now, |known| known.contains(origin))
    }

    /// They have been taken over: on disk when this returns. No name has a line end in it.
    pub fn remember(&self, origins: &[String], now: Timestamp) -> io::Result<()> {
        let today = day(now);
        let mut lines = String::new();
        for origin in origins.iter().filter(|origin| !origin.contains('\n')) {
            lines.push_str(&format!("{today} {origin}\n"));
        }
        let mut known = self.loaded(now)?;
        if let Some((path, device)) = &self.file {
            append(&**device, path, &lines)?;
        }
        if let Some(known) = known.as_mut() {
            known.extend(origins.iter().cloned());
        }
        Ok(())
    }

    fn with<T>(&self, now: Timestamp, look: impl FnOnce(&HashSet<String>) -> T) -> io::Result<T> {
        let known = self.loaded(now)?;
        Ok(look(known.as_ref().unwrap_or(&HashSet::new())))
    }

    fn loaded(&self, now: Timestamp) -> io::Result<MutexGuard<'_, Option<HashSet<String>>>> {
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        if known.is_none() {
            *known = Some(match &self.file {
                Some((path, device)) => load(&**device, path, day(now))?,
                None => HashSet::new(),
            });
        }
        Ok(known)
    }
}

fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

fn load(device: &dyn Device, path: &Path, today: i64) -> io::Result<HashSet<String>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let mut known = HashSet::new();
    // A last line without its end was torn by a power cut: nobody was told of it.
    let whole = bytes
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default());
    for line in text.lines() {
        if let Some((written, origin)) = line.split_once(' ')
            && written
                .parse()
                .is_ok_and(|written: i64| today - written <= KEPT_DAYS)
        {
            known.insert(origin.to_owned());
        }
    }
    // Nothing recent in it: it need not be kept.
    if known.is_empty() && whole > 0 {
        device.remove(path)?;
    }
    Ok(known)
}

/// A last line that a power cut tore is ended first, so that it spoils no other.
fn append(device: &dyn Device, path: &Path, lines: &str) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => device.create(path)?,
        there => there?,
    };
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    let lines = match last {
        [b'\n'] => lines.to_owned(),
        [_] => format!("\n{lines}"),
    };
    // What a full disk took the half of would be torn, too, and in the way of what comes next.
    let written = write_bytes(device, &file, lines.as_bytes(), length);
    written.inspect_err(|_| drop(device.truncate(&file, length)))?;
    device.sync(&file)?;
    // Each time: whoever made the file may not have come so far, on a full disk or before a kill.
    match path.parent() {
        Some(parent) => device.sync_directory(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Write};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::device::SystemDevice;

    /// Full at the first write; notes what is synced.
    #[derive(Debug, Default)]
    struct FullAtFirst {
        writes: AtomicU32,
        directories_synced: AtomicU32,
    }

    impl Device for FullAtFirst {
        fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
            match self.writes.fetch_add(1, Ordering::SeqCst) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                _ => SystemDevice.write(file, slices, at),
            }
        }

        fn sync_directory(&self, directory: &Path) -> io::Result<()> {
            self.directories_synced.fetch_add(1, Ordering::SeqCst);
            SystemDevice.sync_directory(directory)
        }
    }

    /// Found by power cuts: the file had been made by the attempt that failed, and nobody synced its name.
    #[test]
    fn the_name_of_the_file_lasts_also_where_a_full_disk_refused_the_first_note() {
        let directory = tempfile::tempdir().unwrap();
        let device = Arc::new(FullAtFirst::default());
        let imports = Imports::in_file(directory.path().join("imported"), device.clone());
        assert!(imports.remember(&["a".to_owned()], at_day(100)).is_err());
        assert!(!imports.knows("a", at_day(100)).unwrap());
        assert_eq!(device.directories_synced.load(Ordering::SeqCst), 0);
        imports.remember(&["b".to_owned()], at_day(100)).unwrap();
        assert_eq!(device.directories_synced.load(Ordering::SeqCst), 1);
        assert!(imports.knows("b", at_day(100)).unwrap());
    }

    fn at_day(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400 + 5).unwrap()
    }

    #[test]
    fn what_was_taken_over_is_known_after_a_restart_and_forgotten_after_a_month() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("imported");
        let imports = || Imports::in_file(path.clone(), Arc::new(SystemDevice));
        let first = imports();
        assert!(!first.knows("a", at_day(100)).unwrap());
        let names = ["a".to_owned(), "b/1".to_owned()];
        first.remember(&names, at_day(100)).unwrap();
        assert!(first.knows("a", at_day(100)).unwrap());
        assert!(imports().knows("b/1", at_day(130)).unwrap());
        assert!(!imports().knows("c", at_day(130)).unwrap());
        // Torn by a power cut: it is not known, and what comes after it is.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"101 tor").unwrap();
        assert!(!imports().knows("tor", at_day(101)).unwrap());
        imports().remember(&["d".to_owned()], at_day(101)).unwrap();
        assert!(imports().knows("d", at_day(101)).unwrap());
        assert!(!imports().knows("a", at_day(140)).unwrap());
        assert!(!path.exists());
    }
}
