//! Reading that lets others go first: the priority of a thread's reads and writes at the disk.

/// `ioprio_set(2)`: of one thread, and 0 is the one that asks.
const WHO_THREAD: libc::c_int = 1;
const SELF: libc::c_int = 0;
/// "Best effort", the last of its eight levels. Not "idle": on a disk that is never idle a verification would never
/// end, and no segment is deleted while one runs.
const LAST: libc::c_int = (2 << 13) | 7;

/// From now on this thread's reads go after those of the others, where the disk's scheduler knows of such a thing.
pub(crate) fn yield_the_disk() {
    // SAFETY: three numbers; the kernel refuses those that it does not know. A refusal changes nothing, and
    // the reader rests half of its time anyway.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_THREAD, SELF, LAST) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority() -> libc::c_long {
        // SAFETY: two numbers, as above.
        unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_THREAD, SELF) }
    }

    #[test]
    fn a_thread_yields_the_disk_and_others_are_as_before() {
        let before = priority();
        let yielded = std::thread::spawn(|| {
            yield_the_disk();
            priority()
        });
        assert_eq!(yielded.join().unwrap(), libc::c_long::from(LAST));
        assert_eq!(priority(), before);
    }
}
