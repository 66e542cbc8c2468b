//! sled 0.34 writes its file back with `sync_file_range`, which flushes no disk cache and no file
//! size. This defines that function for the whole program as `fdatasync`, and counts its calls so
//! that opening the queue can check that the linker took ours.

use std::ffi::{c_int, c_uint};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn fdatasync(fd: c_int) -> c_int;
}

/// In place of libc's. Stronger than what is asked for: all of the file, with its size, reaches the disk.
///
/// # Safety
/// Takes any descriptor; a bad one leads to EBADF, as with libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(
    fd: c_int,
    _offset: i64,
    _bytes: i64,
    _flags: c_uint,
) -> c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: fdatasync takes any number; one that is no descriptor gives EBADF.
    unsafe { fdatasync(fd) }
}

/// How often sled has synced through us. Also keeps the function in the program.
pub(crate) fn calls() -> u64 {
    black_box(sync_file_range as unsafe extern "C" fn(c_int, i64, i64, c_uint) -> c_int);
    CALLS.load(Ordering::Relaxed)
}
