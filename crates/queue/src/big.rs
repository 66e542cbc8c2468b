//! Large bodies: each in a file of its own, `big/<id>`, written piece by piece before its record is and
//! removed only when the index knows that its message has finished.
//!
//! A file without a record is a leftover of a stop and goes at the next start. A record without its file is
//! damage: the message stays, and an event says so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use relay_observe::crash::{self, CrashPoint};
use relay_observe::{Event, Events};
use relay_smtp::QueueId;

use crate::body::PIECE_BYTES;
use crate::device::{Device, remove_if_there, write_bytes};
use crate::record::{Place, Spot};

/// What a record has of a large body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct InFile {
    pub(crate) bytes: u32,
    /// crc32c of the file.
    pub(crate) crc: u32,
}

impl InFile {
    pub(crate) fn place(self, segment: u32) -> Place {
        Place {
            segment,
            spot: Spot::File,
            bytes: self.bytes,
            crc: self.crc,
        }
    }
}

/// The directory that they lie in.
#[derive(Clone, Debug)]
pub(crate) struct BigFiles {
    pub(crate) directory: PathBuf,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) events: Events,
}

impl BigFiles {
    fn path(&self, id: QueueId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Until it is whole and synced it has another name: what has the name is never half a body.
    fn path_while_written(&self, id: QueueId) -> PathBuf {
        self.directory.join(format!("{id}{UNFINISHED}"))
    }

    /// `AlreadyExists`: the id has a file, finished or being written.
    pub(crate) fn create(&self, id: QueueId) -> io::Result<BigWriter> {
        let path = self.path_while_written(id);
        let file = self.device.create(&path)?;
        let writer = BigWriter {
            files: self.clone(),
            id,
            file,
            written: InFile { bytes: 0, crc: 0 },
            leaves: Some(path),
        };
        // Only now: whoever was writing under this id has given the file its name before.
        match self.path(id).exists() {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => Ok(writer),
        }
    }

    /// For reading. None: there is no such file.
    pub(crate) fn open(&self, id: QueueId, in_file: InFile) -> io::Result<Option<BigFile>> {
        match File::open(self.path(id)) {
            Ok(file) => Ok(Some(BigFile {
                files: self.clone(),
                id,
                file,
                in_file,
                kept: AtomicBool::new(true),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn remove(&self, id: QueueId) -> io::Result<()> {
        remove_if_there(&*self.device, &self.path(id))
    }

    pub(crate) fn tell_unreadable(&self, id: QueueId, reason: &str) {
        self.events.emit(Event::BodyUnreadable {
            id,
            file: self.path(id).display().to_string(),
            reason: reason.to_owned(),
        });
    }

    /// At start: removes what no message refers to, and says what is missing or too short. What is
    /// inside is checked when it is read. `spare`: where leftovers go instead, since the journal was
    /// damaged and one of them may be all that is left of a message.
    pub(crate) fn sweep(
        &self,
        needed: &BTreeMap<QueueId, InFile>,
        spare: Option<&Path>,
    ) -> io::Result<()> {
        let mut missing = needed.clone();
        let mut changed = false;
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            // A name that we do not give is not ours to remove.
            let Some((id, finished)) = name.to_str().and_then(parse_name) else {
                continue;
            };
            match (finished, missing.remove(&id)) {
                (Finished::Yes, Some(in_file)) => {
                    let found = entry.metadata()?.len();
                    if found != u64::from(in_file.bytes) {
                        let wanted = in_file.bytes;
                        let reason = format!("it has {found} bytes, the journal says {wanted}");
                        self.tell_unreadable(id, &reason);
                    }
                    continue;
                }
                (Finished::No, Some(in_file)) => {
                    missing.insert(id, in_file);
                }
                (_, None) => {}
            }
            changed = true;
            match (spare, finished) {
                (Some(spare), Finished::Yes) => {
                    let to = spare.join(format!("big-{id}"));
                    self.device.rename(&entry.path(), &to)?;
                    let reason = "no record refers to it, and the journal was damaged";
                    self.tell_spared(&to, reason);
                }
                (None, _) | (Some(_), Finished::No) => self.device.remove(&entry.path())?,
            }
        }
        for id in missing.keys() {
            self.tell_unreadable(*id, "it is missing");
        }
        if changed {
            self.device.sync_directory(&self.directory)?;
            spare.map_or(Ok(()), |spare| self.device.sync_directory(spare))?;
        }
        Ok(())
    }

    fn tell_spared(&self, kept: &Path, reason: &str) {
        self.events.emit(Event::RecordQuarantined {
            file: kept.display().to_string(),
            offset: 0,
            reason: reason.to_owned(),
        });
    }
}

const UNFINISHED: &str = ".tmp";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finished {
    Yes,
    No,
}

fn parse_name(name: &str) -> Option<(QueueId, Finished)> {
    let (id, finished) = match name.strip_suffix(UNFINISHED) {
        Some(id) => (id, Finished::No),
        None => (name, Finished::Yes),
    };
    Some((id.parse().ok()?, finished))
}

/// A file that is being written. Dropped before [`BigWriter::finish`], it is gone. Every call blocks.
#[derive(Debug)]
pub(crate) struct BigWriter {
    files: BigFiles,
    id: QueueId,
    file: File,
    written: InFile,
    /// What has to be removed if nothing comes of it.
    leaves: Option<PathBuf>,
}

impl BigWriter {
    /// Adds to its end.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let more = u32::try_from(bytes.len()).ok();
        let Some(length) = more.and_then(|more| self.written.bytes.checked_add(more)) else {
            return Err(io::Error::other("a body may not have 4 GiB or more"));
        };
        let at = u64::from(self.written.bytes);
        write_bytes(&*self.files.device, &self.file, bytes, at)?;
        self.written = InFile {
            bytes: length,
            crc: crc32c::crc32c_append(self.written.crc, bytes),
        };
        crash::at(CrashPoint::HalfOfLargeBody);
        Ok(())
    }

    /// Ok means: content and name survive a power cut. First the content: a name must never stand for
    /// less than all of it.
    pub(crate) fn finish(mut self) -> io::Result<BigFile> {
        let device = self.files.device.clone();
        device.sync(&self.file)?;
        let path = self.files.path(self.id);
        device.rename(&self.files.path_while_written(self.id), &path)?;
        self.leaves = Some(path.clone());
        crash::at(CrashPoint::HalfOfLargeBody);
        device.sync_directory(&self.files.directory)?;
        let file = File::open(&path)?;
        self.leaves = None;
        Ok(BigFile {
            files: self.files.clone(),
            id: self.id,
            file,
            in_file: self.written,
            kept: AtomicBool::new(false),
        })
    }
}

impl Drop for BigWriter {
    fn drop(&mut self) {
        if let Some(path) = self.leaves.take() {
            // What cannot be removed now goes at the next start.
            let _ = self.files.device.remove(&path);
        }
    }
}

/// A whole file. One that was written and never accepted is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct BigFile {
    files: BigFiles,
    id: QueueId,
    file: File,
    in_file: InFile,
    kept: AtomicBool,
}

impl BigFile {
    pub(crate) fn in_file(&self) -> InFile {
        self.in_file
    }

    /// From now on the journal says what becomes of it.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Whether it was written here, for this message, which was not accepted yet.
    pub(crate) fn is_staged_for(&self, id: QueueId, files: &BigFiles) -> bool {
        let here = self.files.directory == files.directory;
        here && self.id == id && !self.kept.load(Ordering::Relaxed)
    }

    /// A piece of it. Blocks.
    fn read_at(&self, at: u64, bytes: usize) -> io::Result<Bytes> {
        let mut piece = vec![0; bytes];
        self.file.read_exact_at(&mut piece, at)?;
        Ok(Bytes::from(piece))
    }
}

impl Drop for BigFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            let _ = self.files.remove(self.id);
        }
    }
}

/// Reads a file from its start to its end. The last piece is given out only if the checksum of all of it
/// is right, so whoever passes the pieces on never completes a message that was damaged here.
#[derive(Debug)]
pub(crate) struct BigReader {
    file: Arc<BigFile>,
    at: u64,
    crc: u32,
    broken: Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    No,
    /// An event has said so.
    Yes,
}

impl BigReader {
    pub(crate) fn new(file: Arc<BigFile>) -> BigReader {
        BigReader {
            file,
            at: 0,
            crc: 0,
            broken: Broken::No,
        }
    }

    /// None: that was all, or it has said already what is wrong. Blocks.
    pub(crate) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let all = self.file.in_file;
        let left = u64::from(all.bytes).saturating_sub(self.at);
        if left == 0 || self.broken == Broken::Yes {
            return Ok(None);
        }
        let wanted = left.min(PIECE_BYTES as u64);
        let read = self.file.read_at(self.at, wanted as usize);
        let read = read.and_then(|piece| {
            self.crc = crc32c::crc32c_append(self.crc, &piece);
            match left == wanted && self.crc != all.crc {
                true => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its checksum is wrong",
                )),
                false => Ok(piece),
            }
        });
        self.at += wanted;
        read.map(Some).map_err(|error| self.say(&error))
    }

    fn say(&mut self, error: &io::Error) -> io::Error {
        self.broken = Broken::Yes;
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is shorter than the journal says".to_owned(),
            _ => error.to_string(),
        };
        let BigFile { files, id, .. } = &*self.file;
        files.tell_unreadable(*id, &reason);
        let path = files.path(*id);
        io::Error::new(
            error.kind(),
            format!("the body in {}: {reason}", path.display()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::SystemDevice;

    fn files(directory: &Path) -> BigFiles {
        BigFiles {
            directory: directory.to_owned(),
            device: Arc::new(SystemDevice),
            events: Events::default(),
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Some message's.
    fn id(number: u64) -> QueueId {
        QueueId::from_u64(number << 24)
    }

    #[test]
    fn what_is_not_finished_or_not_accepted_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let mut writer = files.create(id(1)).unwrap();
        writer.write(b"half").unwrap();
        assert_eq!(names(directory.path()), [format!("{}.tmp", id(1))]);
        drop(writer);
        assert_eq!(names(directory.path()).len(), 0);

        let mut writer = files.create(id(1)).unwrap();
        writer.write(b"whole").unwrap();
        let whole = writer.finish().unwrap();
        assert_eq!(names(directory.path()), [id(1).to_string()]);
        drop(whole);
        assert_eq!(names(directory.path()).len(), 0);
    }

    #[test]
    fn the_pieces_make_the_whole_and_a_wrong_checksum_keeps_the_last_one_back() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let body: Vec<u8> = (0..3 * PIECE_BYTES + 5).map(|n| (n % 251) as u8).collect();
        let mut writer = files.create(id(1)).unwrap();
        body.chunks(1000)
            .for_each(|chunk| writer.write(chunk).unwrap());
        let file = writer.finish().unwrap();
        file.keep();
        let in_file = file.in_file();
        let read = |in_file| {
            let file = files.open(id(1), in_file).unwrap().unwrap();
            let mut reader = BigReader::new(Arc::new(file));
            let mut read = Vec::new();
            let end = loop {
                match reader.next() {
                    Ok(Some(piece)) => read.extend_from_slice(&piece),
                    end => break end,
                }
            };
            assert!(matches!(reader.next(), Ok(None)));
            (read, end.map_err(|error| error.to_string()))
        };
        assert_eq!(read(in_file), (body.clone(), Ok(None)));
        let crc = in_file.crc ^ 1;
        let (start, end) = read(InFile { crc, ..in_file });
        assert_eq!(start, body[..3 * PIECE_BYTES]);
        assert!(end.unwrap_err().contains("checksum"));
        let bytes = in_file.bytes + 1;
        let (_, end) = read(InFile { bytes, ..in_file });
        assert!(end.unwrap_err().contains("shorter"));
    }

    #[test]
    fn the_sweep_removes_leftovers_says_what_is_missing_and_leaves_other_names_alone() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let put = |name: String| std::fs::write(directory.path().join(name), "12345").unwrap();
        for name in [
            id(1).to_string(),
            id(2).to_string(),
            format!("{}.tmp", id(3)),
            id(4).to_string(),
            format!("{}.tmp", id(5)),
            "notes of an operator".to_owned(),
        ] {
            put(name);
        }
        let in_file = InFile { bytes: 5, crc: 0 };
        let long = InFile { bytes: 6, crc: 0 };
        let needed = BTreeMap::from([(id(1), in_file), (id(2), long), (id(3), in_file)]);
        files.sweep(&needed, None).unwrap();
        let left = [
            id(1).to_string(),
            id(2).to_string(),
            "notes of an operator".to_owned(),
        ];
        assert_eq!(names(directory.path()), left);
        let counted = files.events.metrics().snapshot();
        let unreadable = counted.iter().find(|(name, _)| name.contains("unreadable"));
        assert_eq!(unreadable.unwrap().1, 2);

        let spare = tempfile::tempdir().unwrap();
        files.sweep(&BTreeMap::new(), Some(spare.path())).unwrap();
        assert_eq!(names(directory.path()), ["notes of an operator"]);
        assert_eq!(names(spare.path()).len(), 2);
    }
}
