//! A real file system that is full: a tmpfs of 64 MiB in a mount namespace of a child's own.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use relay_queue::{Device, SystemDevice};

use crate::{Disk, play};

/// Where the tmpfs is, in the child that plays on it.
const VARIABLE: &str = "RELAY_FULL_DISK";
const TEST: &str = "tmpfs::a_full_tmpfs_loses_nothing_and_is_left_behind";

struct Tmpfs {
    filler: PathBuf,
}

impl Disk for Tmpfs {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(SystemDevice)
    }

    fn fill(&self) {
        let mut file = File::create(&self.filler).unwrap();
        for size in [1 << 16, 1 << 12] {
            let zeros = vec![0; size];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(&self.filler).unwrap();
    }
}

#[tokio::test]
async fn a_full_tmpfs_loses_nothing_and_is_left_behind() {
    if let Some(mounted) = std::env::var_os(VARIABLE) {
        let root = Path::new(&mounted);
        let disk = Tmpfs {
            filler: root.join("filler"),
        };
        return play(&root.join("state"), &disk).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=64m,mode=700 tmpfs \"$1\" || exit 77; shift; exec \"$@\"";
    let played = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(VARIABLE, directory.path())
        .output();
    match played {
        Ok(played) if played.status.success() => eprintln!("played on a tmpfs of 64 MiB"),
        // unshare says 1 where it may not, our script 77; a test that fails says 101.
        Ok(played) if played.status.code() != Some(101) => eprintln!(
            "not played on a tmpfs, only on a disk that looks full: no namespace is allowed here ({})",
            String::from_utf8_lossy(&played.stderr).trim()
        ),
        Ok(played) => panic!(
            "{}{}",
            String::from_utf8_lossy(&played.stdout),
            String::from_utf8_lossy(&played.stderr)
        ),
        Err(error) => eprintln!("not played on a tmpfs: unshare: {error}"),
    }
}
