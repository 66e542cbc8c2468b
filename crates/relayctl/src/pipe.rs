//! `relayctl queue list | head`: whoever reads may stop, and then we end as other commands do.

/// To be called before anything is written. Rust's own start ignores SIGPIPE; every `println!` would panic.
/// Sockets are not concerned: a peer that has gone is an error there, never a signal.
pub fn end_with_the_reader() {
    // SAFETY: the default action needs no handler, and no other thread is there yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
