//! What was learned of sites, kept over a restart: one small file, whole or not at all.
//!
//! It is no promise: without it relayd learns again, so nobody waits for it to be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relay_schedule::{Kept, WarmedUp};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::limits::LearnedSite;

const VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Remembered {
    version: u32,
    /// Pauses and slow-downs.
    pub(super) sites: Vec<Kept>,
    pub(super) limits: Vec<LearnedSite>,
    /// Messages that were greylisted, and where they went from.
    pub(super) homes: Vec<(String, IpAddr)>,
    /// Messages that sources in their warm-up have sent today.
    #[serde(default)]
    pub(super) warm_ups: Vec<WarmedUp>,
}

impl Remembered {
    pub(super) fn new(
        sites: Vec<Kept>,
        limits: Vec<LearnedSite>,
        homes: Vec<(String, IpAddr)>,
        warm_ups: Vec<WarmedUp>,
    ) -> Remembered {
        Remembered {
            version: VERSION,
            sites,
            limits,
            homes,
            warm_ups,
        }
    }

    /// What cannot be read is put aside, and everything is learned anew.
    pub(super) fn read(path: &Path) -> Remembered {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Remembered::default(),
            Err(error) => {
                tracing::warn!("{}: {error}; sites are learned anew", path.display());
                return Remembered::default();
            }
        };
        match serde_json::from_str::<Remembered>(&text) {
            Ok(remembered) if remembered.version == VERSION => remembered,
            Ok(Remembered { version, .. }) => {
                tracing::warn!(
                    "{}: version {version} is not known; sites are learned anew",
                    path.display()
                );
                Remembered::default()
            }
            Err(error) => {
                let aside = path.with_extension("damaged");
                let moved = fs::rename(path, &aside);
                tracing::warn!(
                    "{}: {error}; put aside as {} ({moved:?}), sites are learned anew",
                    path.display(),
                    aside.display()
                );
                Remembered::default()
            }
        }
    }

    /// Blocks.
    pub(super) fn write(&self, path: &Path) {
        if let Err(error) = self.try_write(path) {
            tracing::warn!(
                "{}: {error}; what was learned of sites would be lost by a restart",
                path.display()
            );
        }
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent()
            .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

/// When it is written: some time after the first news, so that several lessons in a row are written together, and one
/// write at a time, since two would share the file that is renamed at the end.
#[derive(Default)]
pub(super) struct Keeper {
    /// None: nothing is kept.
    path: Option<PathBuf>,
    /// None: nothing new.
    at: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

const SAVE_AFTER: Duration = Duration::from_secs(2);

impl Keeper {
    pub(super) fn new(path: Option<PathBuf>) -> Keeper {
        Keeper {
            path,
            ..Keeper::default()
        }
    }

    pub(super) fn news(&mut self) {
        if self.path.is_some() {
            self.at.get_or_insert(Instant::now() + SAVE_AFTER);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.at
    }

    /// Where to write now. None: the last write goes on, and this one comes later.
    pub(super) fn turn(&mut self) -> Option<PathBuf> {
        let writes = self.writing.as_ref();
        if writes.is_some_and(|writing| !writing.is_finished()) {
            self.at = Some(Instant::now() + SAVE_AFTER);
            return None;
        }
        self.at = None;
        self.path.clone()
    }

    pub(super) fn write(&mut self, remembered: Remembered, path: PathBuf) {
        let write = move || remembered.write(&path);
        self.writing = Some(tokio::task::spawn_blocking(write));
    }

    /// At the end: where to write what is still new.
    pub(super) async fn last_turn(&mut self) -> Option<PathBuf> {
        if let Some(writing) = self.writing.take() {
            // It can only have panicked; then there is the more to write.
            let _ = writing.await;
        }
        self.at.take()?;
        self.path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_put_aside_and_a_missing_one_is_no_trouble() {
        let directory = std::env::temp_dir().join(format!("remember-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("sites.json");
        assert!(Remembered::read(&path).homes.is_empty());
        let home = ("1agf7aan0000".to_owned(), IpAddr::from([192, 0, 2, 1]));
        Remembered::new(Vec::new(), Vec::new(), vec![home.clone()], Vec::new()).write(&path);
        assert_eq!(Remembered::read(&path).homes, [home]);
        fs::write(&path, "{\"version\":1,").unwrap();
        assert!(Remembered::read(&path).homes.is_empty());
        assert!(directory.join("sites.damaged").exists() && !path.exists());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_write_at_a_time_and_what_came_meanwhile_is_written_after_it() {
        let mut keeper = Keeper::new(Some(PathBuf::from("sites.json")));
        keeper.news();
        assert!(keeper.due().is_some());
        assert!(keeper.turn().is_some());
        assert_eq!(keeper.due(), None);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        keeper.writing = Some(tokio::task::spawn_blocking(move || {
            let _ = ended.recv();
        }));
        keeper.news();
        assert_eq!(keeper.turn(), None, "the last write goes on");
        assert!(keeper.due().is_some(), "it comes later");
        drop(end);
        assert!(keeper.last_turn().await.is_some());
        assert!(keeper.last_turn().await.is_none(), "nothing is new");
        let mut nothing = Keeper::new(None);
        nothing.news();
        assert_eq!(nothing.due(), None);
    }
}
