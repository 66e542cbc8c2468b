//! The queue through its seam: what it keeps over restarts, kills, damage and concurrent use.

mod common;
mod concurrent;
mod damage;
mod durable;
mod twin;
