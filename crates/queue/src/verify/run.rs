//! Verifying a directory that relayd has left, and the queue of a running one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;

use relay_smtp::QueueId;
use tokio::sync::oneshot;

use super::{Pace, Progress, Report, Rows, Verifier};
use crate::device::{Device, SystemDevice};
use crate::files::{Layout, OLDER_VERSIONS, VERSION};
use crate::follow::Job;
use crate::index::{Index, Position, Row, wait_for_previous};
use crate::recover::OpenError;
use crate::shared::Shared;

/// Memory for the pages of an index that is only read through once.
const INDEX_CACHE_BYTES: u64 = 8 << 20;

/// Verifies the queue in `directory`, where no relayd is running: it is locked meanwhile, and not
/// changed. The index is read from a copy in the system's temporary directory, since opening one changes it.
pub fn verify(directory: &Path, progress: &Progress) -> Result<Report, OpenError> {
    let device: Arc<dyn Device> = Arc::new(SystemDevice);
    let layout = Layout::new(directory, &device);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    match layout.version().map_err(at(directory))? {
        Some(found) if found == VERSION || OLDER_VERSIONS.contains(&&*found) => {}
        Some(found) => {
            return Err(OpenError::Version {
                path: directory.join("VERSION"),
                found,
            });
        }
        None => return Err(OpenError::NoVersion(directory.to_owned())),
    }
    let locked = layout.lock_if_there().map_err(at(directory))?;
    let _lock = locked.ok_or_else(|| OpenError::Locked(directory.to_owned()))?;
    let verifier = Verifier::new(&layout, progress, Pace::Full);
    let mut copy = Copy::of(&layout);
    let index = copy.as_mut().map_err(|problem| problem.clone());
    let report = verifier.at_rest(index.map(|copy| copy as &mut dyn Rows));
    report.map_err(at(&layout.journal()))
}

/// In this process, for their names.
static COPIES: AtomicU32 = AtomicU32::new(0);

/// A copy of the current index, removed when it is dropped.
struct Copy {
    /// None: it is being removed.
    index: Option<Index>,
    position: Position,
    directory: PathBuf,
}

impl Copy {
    fn of(layout: &Layout) -> Result<Copy, String> {
        let current = layout.current().ok_or("CURRENT names no index")?;
        let number = COPIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("relayd-verify-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let mut copy = Copy {
            index: None,
            position: Position {
                segment: 0,
                offset: 0,
            },
            directory,
        };
        let original = layout.index(current);
        let copied =
            wait_for_previous(&original).and_then(|()| copy_directory(&original, &copy.directory));
        copied.map_err(|error| {
            let to = copy.directory.display();
            format!("index-{current} could not be copied to {to} (set TMPDIR): {error}")
        })?;
        let index = Index::open(&SystemDevice, &copy.directory, INDEX_CACHE_BYTES)
            .map_err(|error| error.to_string())?;
        let applied = index.applied().map_err(|error| error.to_string())?;
        copy.position = applied.ok_or("it has no position")?.position;
        copy.index = Some(index);
        Ok(copy)
    }
}

impl Rows for Copy {
    fn rows(
        &mut self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<(Vec<Row>, Position), String> {
        let index = self.index.as_ref().ok_or("it is closed")?;
        let rows = index
            .rows(after, limit)
            .map_err(|error| error.to_string())?;
        Ok((rows, self.position))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.index = None;
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // Refuses one that is there already; nobody else may look in.
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_directory(&entry.path(), &target)?,
            false => {
                fs::copy(entry.path(), target)?;
            }
        }
    }
    Ok(())
}

/// Verifies a queue in use, as gently as it can; no segment is deleted meanwhile. Blocks.
pub(crate) fn beside_work(
    shared: &Shared,
    jobs: Sender<Job>,
    progress: &Progress,
) -> io::Result<Report> {
    let _kept = shared.keep_segments();
    // So that nearly all of the journal is held against it. A closed queue says so at the next question.
    let _ = jobs.send(Job::Apply);
    let verifier = Verifier::new(&shared.layout, progress, Pace::Half);
    verifier.beside_work(&mut Asked { jobs })
}

/// The index thread.
struct Asked {
    jobs: Sender<Job>,
}

impl Rows for Asked {
    fn rows(
        &mut self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<(Vec<Row>, Position), String> {
        let (reply, answer) = oneshot::channel();
        let closed = |_| "the queue is closed".to_owned();
        let job = Job::Rows {
            after,
            limit,
            reply,
        };
        self.jobs.send(job).map_err(|_| "the queue is closed")?;
        let answer = answer.blocking_recv().map_err(closed)?;
        answer.map_err(|error| error.to_string())
    }
}
