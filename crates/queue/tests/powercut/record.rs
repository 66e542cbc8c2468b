//! The recorder: what was done to the files below one directory, in order, and where in that order a
//! promise was given.
//!
//! One call at a time: a lock is held over the call and its entry, so the order is the true one. A sync is
//! an instant here; a cut in the middle of one is a cut before it.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr, OsString, c_int};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use relay_queue::{Device, SystemDevice};
use rustix::fs::{FileType, Stat};

/// A file or directory, whatever its name is at the moment. 0 is the recorded directory itself.
pub type Node = usize;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub directory: Node,
    pub name: OsString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Cut off, or made longer.
    Exactly(u64),
    /// Space was taken.
    AtLeast(u64),
}

/// What was done, successfully.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Make(Name, Node),
    Remove(Name),
    Rename(Name, Name, Node),
    Write(Node, u64, Vec<u8>),
    Resize(Node, Size),
    Sync(Node),
}

/// A file or directory that was there before.
#[derive(Clone, Debug)]
pub struct Found {
    pub at: Name,
    pub node: Node,
    /// None: a directory.
    pub bytes: Option<Vec<u8>>,
}

/// All that has happened.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub root: PathBuf,
    pub found: Vec<Found>,
    pub actions: Vec<Action>,
    /// The first name of each node, below the root.
    pub names: Vec<PathBuf>,
    pub directories: HashSet<Node>,
}

impl Recording {
    /// How often something was done, by what is told of it and a part of the file's name.
    pub fn count(&self, what: What, name: &str) -> usize {
        let is = |action: &&Action| match (action, what) {
            (Action::Make(made, _), What::Made) => made.name.to_string_lossy().contains(name),
            (Action::Remove(gone), What::Removed) => gone.name.to_string_lossy().contains(name),
            (Action::Rename(_, new, _), What::Renamed) => new.name.to_string_lossy().contains(name),
            (_, What::Made | What::Removed | What::Renamed) => false,
        };
        self.actions.iter().filter(is).count()
    }

    /// Writes that end with the footer of a segment.
    pub fn footers(&self) -> usize {
        let is = |action: &&Action| match action {
            Action::Write(_, _, bytes) => bytes.ends_with(b"rlyF"),
            _ => false,
        };
        self.actions.iter().filter(is).count()
    }

    /// Writes that begin with a record of that kind.
    pub fn records(&self, kind: u8) -> usize {
        let is = |action: &&Action| match action {
            Action::Write(_, _, bytes) => bytes.starts_with(b"rlyJ") && bytes.get(5) == Some(&kind),
            _ => false,
        };
        self.actions.iter().filter(is).count()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Made,
    Removed,
    Renamed,
}

/// Records while it is kept. One at a time in a process: others wait.
pub struct Recorder {
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());
static ACTIVE: AtomicBool = AtomicBool::new(false);
static LOG: Mutex<Option<Log>> = Mutex::new(None);

impl Recorder {
    /// What is there now counts as synced.
    pub fn start(root: &std::path::Path) -> Recorder {
        let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let log = Log::start(root);
        *lock() = Some(log);
        ACTIVE.store(true, Ordering::SeqCst);
        Recorder { _alone: alone }
    }

    pub fn finish(self) -> Recording {
        let log = lock().take();
        log.expect("taken here only").recording
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        ACTIVE.store(false, Ordering::SeqCst);
        *lock() = None;
    }
}

/// So many actions are recorded by now.
pub fn position() -> usize {
    lock().as_ref().map_or(0, |log| log.recording.actions.len())
}

/// Does a call, and tells the recorder if there is one.
pub fn around<T>(call: impl FnOnce() -> T, tell: impl FnOnce(&mut Log, &T)) -> T {
    // A call that is made while one is recorded (a panic's message, say) would wait for itself.
    if !ACTIVE.load(Ordering::Relaxed) || INSIDE.replace(true) {
        return call();
    }
    let mut log = lock();
    let done = call();
    if let Some(log) = log.as_mut() {
        tell(log, &done);
    }
    drop(log);
    INSIDE.set(false);
    done
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn lock() -> MutexGuard<'static, Option<Log>> {
    LOG.lock().unwrap_or_else(|e| e.into_inner())
}

/// A path as a call was given it.
pub struct Path(PathBuf);

impl Path {
    /// `directory`: what a path that is not absolute begins from; None: the working directory.
    pub fn new(directory: Option<c_int>, path: &CStr) -> Path {
        let path = std::path::Path::new(OsStr::from_bytes(path.to_bytes()));
        let from = match directory {
            Some(fd) if path.is_relative() => path_of(fd),
            Some(_) | None => None,
        };
        Path(from.unwrap_or_default().join(path))
    }
}

fn path_of(fd: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// A recording that goes on.
pub struct Log {
    recording: Recording,
    /// What each name below the root stands for now.
    live: HashMap<PathBuf, Node>,
    /// By inode number: it tells the file behind a descriptor, whatever its name.
    inodes: HashMap<u64, Node>,
}

impl Log {
    fn start(root: &std::path::Path) -> Log {
        let mut log = Log {
            recording: Recording {
                root: root.to_owned(),
                ..Recording::default()
            },
            live: HashMap::new(),
            inodes: HashMap::new(),
        };
        log.add(PathBuf::new(), inode_of(root));
        log.find(root);
        log
    }

    fn find(&mut self, directory: &std::path::Path) {
        let mut entries: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = self.inside(&path).expect("below the root");
            let at = self.name(&name).expect("its directory was found before it");
            let node = self.add(name, inode_of(&path));
            let bytes = path.is_file().then(|| std::fs::read(&path).unwrap());
            self.recording.found.push(Found { at, node, bytes });
            if path.is_dir() {
                self.find(&path);
            }
        }
    }

    /// A new file or directory.
    fn add(&mut self, name: PathBuf, inode: Option<Inode>) -> Node {
        let node = self.recording.names.len();
        self.recording.names.push(name.clone());
        self.live.insert(name, node);
        if let Some(inode) = inode {
            self.inodes.insert(inode.number, node);
            if inode.kind == FileType::Directory {
                self.recording.directories.insert(node);
            }
        }
        node
    }

    /// A path below the root.
    fn inside(&self, path: &std::path::Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.recording.root).ok()?;
        Some(below.to_owned())
    }

    fn name(&self, below: &std::path::Path) -> Option<Name> {
        let directory = *self.live.get(below.parent()?)?;
        let name = below.file_name()?.to_owned();
        Some(Name { directory, name })
    }

    /// The file behind a descriptor, if it is one of ours.
    fn node(&self, fd: c_int) -> Option<Node> {
        // An inode number alone could be that of a file elsewhere, given again.
        self.inside(&path_of(fd)?)?;
        self.inodes.get(&inode(fd)?.number).copied()
    }

    fn push(&mut self, action: Action) {
        self.recording.actions.push(action);
    }

    pub fn opened(&mut self, fd: c_int, path: &Path) {
        self.made(path, inode(fd));
    }

    pub fn made_directory(&mut self, path: &Path) {
        self.made(path, inode_of(&path.0));
    }

    fn made(&mut self, path: &Path, inode: Option<Inode>) {
        let Some(below) = self.inside(&path.0) else {
            return;
        };
        if self.live.contains_key(&below) {
            return;
        }
        if let Some(name) = self.name(&below) {
            let node = self.add(below, inode);
            self.push(Action::Make(name, node));
        }
    }

    /// Written where the descriptor stood.
    pub fn wrote_on(&mut self, fd: c_int, bytes: &[u8]) {
        if self.node(fd).is_some()
            && let Some(file) = borrow(fd)
            && let Ok(behind) = rustix::fs::tell(file)
        {
            self.wrote(fd, behind - bytes.len() as u64, bytes);
        }
    }

    pub fn wrote(&mut self, fd: c_int, at: u64, bytes: &[u8]) {
        if let Some(node) = self.node(fd) {
            self.push(Action::Write(node, at, bytes.to_vec()));
        }
    }

    pub fn sized(&mut self, fd: c_int, size: Size) {
        if let Some(node) = self.node(fd) {
            self.push(Action::Resize(node, size));
        }
    }

    pub fn synced(&mut self, fd: c_int) {
        if let Some(node) = self.node(fd) {
            self.push(Action::Sync(node));
        }
    }

    pub fn removed(&mut self, path: &Path) {
        if let Some(below) = self.inside(&path.0)
            && let Some(name) = self.name(&below)
        {
            self.live.remove(&below);
            self.push(Action::Remove(name));
        }
    }

    pub fn renamed(&mut self, from: &Path, to: &Path) {
        let (Some(from), Some(to)) = (self.inside(&from.0), self.inside(&to.0)) else {
            return;
        };
        let (Some(old), Some(new)) = (self.name(&from), self.name(&to)) else {
            return;
        };
        let Some(&node) = self.live.get(&from) else {
            return;
        };
        let moved = self.live.keys().filter_map(|path| {
            let rest = path.strip_prefix(&from).ok()?;
            // Joined with nothing, a path gets a slash at its end.
            let new = match rest.as_os_str().is_empty() {
                true => to.clone(),
                false => to.join(rest),
            };
            Some((path.clone(), new))
        });
        for (old, new) in moved.collect::<Vec<_>>() {
            let node = self.live.remove(&old).expect("it was just found");
            self.live.insert(new, node);
        }
        self.push(Action::Rename(old, new, node));
    }
}

fn borrow<'a>(fd: c_int) -> Option<BorrowedFd<'a>> {
    // SAFETY: a call with it was successful just now, and it is used at once.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// What a file system knows a file by.
struct Inode {
    number: u64,
    kind: FileType,
}

impl From<Stat> for Inode {
    fn from(found: Stat) -> Inode {
        let kind = FileType::from_raw_mode(found.st_mode);
        let number = found.st_ino;
        Inode { number, kind }
    }
}

// By raw calls: the recorder must not record itself.
fn inode(fd: c_int) -> Option<Inode> {
    rustix::fs::fstat(borrow(fd)?).ok().map(Inode::from)
}

fn inode_of(path: &std::path::Path) -> Option<Inode> {
    rustix::fs::stat(path).ok().map(Inode::from)
}

/// The disk of a recorded queue. What the queue does by raw system calls (rustix) is recorded here, and
/// two things can be made to go wrong.
#[derive(Debug, Default)]
pub struct RecordedDevice {
    /// Until the ballast is thrown.
    pub full: AtomicBool,
    /// Until the next start.
    pub sync_fails: AtomicBool,
}

impl Device for RecordedDevice {
    fn preallocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        around(
            || SystemDevice.preallocate(file, bytes),
            |log, done| {
                if done.is_ok() {
                    log.sized(file.as_raw_fd(), Size::AtLeast(bytes));
                }
            },
        )
    }

    /// On a full disk half of it goes in.
    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        if self.full.load(Ordering::SeqCst) {
            match bytes.len() / 2 {
                0..=100 => return Err(io::ErrorKind::StorageFull.into()),
                half => bytes.truncate(half),
            }
        }
        around(
            || SystemDevice.write(file, &[IoSlice::new(&bytes)], at),
            |log, done| {
                if let Ok(done) = done {
                    log.wrote(file.as_raw_fd(), at, bytes.get(..*done).unwrap_or_default());
                }
            },
        )
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        around(
            || SystemDevice.sync(file),
            |log, done| {
                if done.is_ok() {
                    log.synced(file.as_raw_fd());
                }
            },
        )
    }

    fn remove(&self, file: &std::path::Path) -> io::Result<()> {
        let removed = SystemDevice.remove(file);
        if file.ends_with("ballast") && removed.is_ok() {
            self.full.store(false, Ordering::SeqCst);
        }
        removed
    }
}
