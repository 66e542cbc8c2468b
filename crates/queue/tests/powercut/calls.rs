//! The C library's calls that change files, defined here in its place: the linker gives these to the
//! standard library and to sled. Each does what the real one does and tells the recorder.
//!
//! `sync_file_range` is not among them: the queue defines that one itself, as `fdatasync`, and so ends here.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use crate::record::{Path, Size, around};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `RTLD_NEXT`: behind this program, so in the C library.
const NEXT: *mut c_void = -1isize as *mut c_void;
const AT_FDCWD: c_int = -100;
const O_ACCMODE: c_int = 3;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;

/// Defines one call: its signature, and what the recorder hears when it is done.
macro_rules! call {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty, |$log:ident, $done:ident| $tell:expr) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            type Real = unsafe extern "C" fn($($type),*) -> $result;
            static REAL: OnceLock<usize> = OnceLock::new();
            let address = *REAL.get_or_init(|| real(concat!(stringify!($name), "\0")));
            // SAFETY: the C library's function of this name has this type.
            let real = unsafe { std::mem::transmute::<usize, Real>(address) };
            // SAFETY: the caller's arguments, as they came.
            let call = || unsafe { real($($argument),*) };
            around(call, |$log, $done| if *$done >= 0 { $tell })
        }
    };
}

/// The same for those that open: C calls them with or without a mode, and both come in the same registers.
macro_rules! open {
    ($name:ident($($before:ident: $type:ty),*), $directory:expr) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($before: $type,)* path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
            type Real = unsafe extern "C" fn($($type,)* *const c_char, c_int, ...) -> c_int;
            static REAL: OnceLock<usize> = OnceLock::new();
            let address = *REAL.get_or_init(|| real(concat!(stringify!($name), "\0")));
            // SAFETY: the C library's function of this name has this type.
            let real = unsafe { std::mem::transmute::<usize, Real>(address) };
            // SAFETY: the caller's arguments, as they came.
            let call = || unsafe { real($($before,)* path, flags, mode) };
            around(call, |log, &fd| {
                if fd >= 0 && flags & O_CREAT != 0 {
                    log.opened(fd, &named($directory, path));
                }
                if fd >= 0 && flags & O_TRUNC != 0 && flags & O_ACCMODE != 0 {
                    log.sized(fd, Size::Exactly(0));
                }
            })
        }
    };
}

open!(open(), AT_FDCWD);
open!(open64(), AT_FDCWD);
open!(openat(directory: c_int), directory);
open!(openat64(directory: c_int), directory);

call!(write(fd: c_int, from: *const c_void, bytes: usize) -> isize, |log, done| {
    log.wrote_on(fd, read(from, *done))
});
call!(writev(fd: c_int, slices: *const Slice, count: c_int) -> isize, |log, done| {
    log.wrote_on(fd, &gather(slices, count, *done))
});
call!(pwrite(fd: c_int, from: *const c_void, bytes: usize, at: i64) -> isize, |log, done| {
    log.wrote(fd, at as u64, read(from, *done))
});
call!(pwrite64(fd: c_int, from: *const c_void, bytes: usize, at: i64) -> isize, |log, done| {
    log.wrote(fd, at as u64, read(from, *done))
});
call!(pwritev64(fd: c_int, slices: *const Slice, count: c_int, at: i64) -> isize, |log, done| {
    log.wrote(fd, at as u64, &gather(slices, count, *done))
});
call!(ftruncate(fd: c_int, bytes: i64) -> c_int, |log, _done| {
    log.sized(fd, Size::Exactly(bytes as u64))
});
call!(ftruncate64(fd: c_int, bytes: i64) -> c_int, |log, _done| {
    log.sized(fd, Size::Exactly(bytes as u64))
});
call!(fallocate64(fd: c_int, _mode: c_int, at: i64, bytes: i64) -> c_int, |log, _done| {
    log.sized(fd, Size::AtLeast((at + bytes) as u64))
});
call!(fsync(fd: c_int) -> c_int, |log, _done| log.synced(fd));
call!(fdatasync(fd: c_int) -> c_int, |log, _done| log.synced(fd));
call!(mkdir(path: *const c_char, mode: c_uint) -> c_int, |log, _done| {
    log.made_directory(&named(AT_FDCWD, path))
});
call!(rename(from: *const c_char, to: *const c_char) -> c_int, |log, _done| {
    log.renamed(&named(AT_FDCWD, from), &named(AT_FDCWD, to))
});
call!(unlink(path: *const c_char) -> c_int, |log, _done| {
    log.removed(&named(AT_FDCWD, path))
});
call!(rmdir(path: *const c_char) -> c_int, |log, _done| {
    log.removed(&named(AT_FDCWD, path))
});
call!(unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int, |log, _done| {
    log.removed(&named(directory, path))
});

/// `struct iovec`.
#[repr(C)]
struct Slice {
    from: *const c_void,
    bytes: usize,
}

fn real(name: &'static str) -> usize {
    // SAFETY: the name ends with a zero byte.
    let address = unsafe { dlsym(NEXT, name.as_ptr().cast()) };
    assert!(!address.is_null(), "the C library has no {name}");
    address as usize
}

fn named(directory: c_int, path: *const c_char) -> Path {
    // SAFETY: a call that was successful had a path that ends with a zero byte.
    let path = unsafe { CStr::from_ptr(path) };
    Path::new(Some(directory).filter(|fd| *fd != AT_FDCWD), path)
}

/// What was written: `done` says how much of it.
fn read<'a>(from: *const c_void, done: isize) -> &'a [u8] {
    match usize::try_from(done) {
        Ok(0) | Err(_) => &[],
        // SAFETY: the real call has read so many bytes from there.
        Ok(bytes) => unsafe { std::slice::from_raw_parts(from.cast(), bytes) },
    }
}

fn gather(slices: *const Slice, count: c_int, done: isize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for place in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the real call has read `count` slices from there.
        let slice = unsafe { &*slices.add(place) };
        let left = usize::try_from(done).unwrap_or(0) - bytes.len();
        bytes.extend_from_slice(read(slice.from, slice.bytes.min(left) as isize));
    }
    bytes
}
