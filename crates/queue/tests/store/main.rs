//! The queue through its seam: what it keeps over restarts, kills, damage and concurrent use.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions only, not in their helpers"
)]

mod big;
mod common;
mod compacting;
mod concurrent;
mod damage;
mod durable;
mod failing;
mod footers;
mod messages;
mod reclaim;
mod twin;
mod verify;
