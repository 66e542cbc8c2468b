//! A disk that looks full: every call that would take a new block says ENOSPC, those of sled too, which go
//! through the C library's `pwrite64` and end up here.

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use relay_queue::{Device, Space, SystemDevice};
use tokio::sync::Mutex;

use crate::{Disk, play};

static FULL: AtomicBool = AtomicBool::new(false);
/// What the ballast has given back.
static SPARE: AtomicU64 = AtomicU64::new(0);

struct LooksFull;

impl Disk for LooksFull {
    fn device(&self) -> Arc<dyn Device> {
        Arc::new(Full)
    }
    fn fill(&self) {
        FULL.store(true, Ordering::SeqCst);
    }
    fn free(&self) {
        FULL.store(false, Ordering::SeqCst);
        SPARE.store(0, Ordering::SeqCst);
    }
}

/// As a file system does it: what has its blocks already can be written.
#[derive(Debug)]
struct Full;

impl Device for Full {
    fn preallocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let taken = SPARE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |spare| {
            spare.checked_sub(bytes)
        });
        if taken.is_err() {
            needs(file, bytes)?;
        }
        SystemDevice.preallocate(file, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
        SystemDevice.remove(path)?;
        if path.ends_with("ballast") && FULL.load(Ordering::SeqCst) {
            SPARE.store(bytes, Ordering::SeqCst);
        }
        Ok(())
    }

    fn write(&self, file: &File, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        needs(file, at + bytes as u64)?;
        SystemDevice.write(file, slices, at)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let space = SystemDevice.space(directory)?;
        match FULL.load(Ordering::SeqCst) {
            true => Ok(Space {
                free_bytes: 0,
                ..space
            }),
            false => Ok(space),
        }
    }
}

fn needs(file: &File, bytes: u64) -> io::Result<()> {
    match FULL.load(Ordering::SeqCst) && bytes > file.metadata()?.len() {
        true => Err(rustix::io::Errno::NOSPC.into()),
        false => Ok(()),
    }
}

/// In the place of the C library's: sled writes with it, and nothing else of the queue does.
///
/// # Safety
/// As pwrite(2): `bytes` points to `count` of them.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: i32, bytes: *const c_void, count: usize, at: i64) -> isize {
    // SAFETY: the caller's descriptor, which stays his: the file is never dropped.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    if needs(&file, at as u64 + count as u64).is_err() {
        set_errno(28); // ENOSPC
        return -1;
    }
    // SAFETY: the caller says so.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) };
    // SAFETY: open as long as the call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    match rustix::io::pwrite(fd, bytes, at as u64) {
        Ok(written) => written as isize,
        Err(error) => {
            set_errno(error.raw_os_error());
            -1
        }
    }
}

fn set_errno(number: i32) {
    unsafe extern "C" {
        fn __errno_location() -> *mut i32;
    }
    // SAFETY: the C library's own place for it, one for each thread.
    unsafe { *__errno_location() = number };
}

/// The disk is full for one test at a time.
static PLAYING: Mutex<()> = Mutex::const_new(());

/// Why an index that could not be written is not asked any more.
#[tokio::test]
async fn sled_fails_reads_too_once_a_write_found_the_disk_full() {
    let _playing = PLAYING.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let config = sled::Config::new()
        .path(directory.path())
        .cache_capacity(1 << 20)
        .flush_every_ms(None);
    let index = config.open().unwrap();
    let value = vec![b'x'; 2000];
    // In no order, so that at any moment some pages are to be split by whoever comes by next.
    let mut keys = (1..=100_000_u32).map(|number| (number * 7919 % 100_003).to_be_bytes());
    for key in keys.by_ref().take(4000) {
        index.insert(key, value.as_slice()).unwrap();
    }
    index.flush().unwrap();
    LooksFull.fill();
    let written = keys.find_map(|key| index.insert(key, value.as_slice()).err());
    let written = written.expect("the file has to grow");
    let read = (0..100_003_u32).find_map(|key| index.get(key.to_be_bytes()).err());
    LooksFull.free();
    let full = |error: sled::Error| match error {
        sled::Error::Io(error) => error.kind() == io::ErrorKind::StorageFull,
        other => panic!("{other}"),
    };
    assert!(full(written));
    assert!(read.is_some_and(full), "then they need not be avoided");
}

#[tokio::test]
async fn a_disk_that_looks_full_to_sled_too_loses_nothing_and_is_left_behind() {
    let _playing = PLAYING.lock().await;
    let directory = tempfile::tempdir().unwrap();
    play(directory.path(), &LooksFull).await;
}
