//! The durable truth: every message and its recipients' states. The journal is the truth, sled is
//! its index; this is the only crate that names sled.
//!
//! It never decides when or whether something is tried, and never speaks to a peer.

pub mod admit;
mod afresh;
mod big;
pub mod body;
mod brief;
mod commit;
mod compact;
mod condition;
mod crc;
pub mod device;
pub mod disk;
mod facts;
pub mod fair;
mod files;
mod follow;
mod footer;
mod frozen;
mod gather;
mod gentle;
mod ids;
mod imports;
mod index;
mod journal;
mod ledger;
pub mod memory;
pub mod message;
mod reclaim;
mod record;
mod recover;
mod room;
mod segment;
pub mod select;
mod settle;
mod shared;
mod sparse;
mod staging;
pub mod store;
mod sync_hook;
pub mod verify;
mod words;

pub use admit::{Admission, Limits};
pub use body::{BIG_BYTES, Body, Pieces, Staging};
pub use device::{Device, Space, SystemDevice};
pub use disk::{DiskStore, OpenError, Options};
pub use fair::Sender;
pub use imports::Imports;
pub use memory::MemoryStore;
pub use message::{
    Arrival, Attempt, Detour, Detours, Message, NewMessage, OPERATOR, RecipientChange,
    RecipientState, Settlement, State, Way,
};
pub use select::Select;
pub use store::{
    Condition, FilesNow, Later, Page, Settled, SpaceNow, Stats, Store, StoreError, Waiting,
};
pub use verify::run::verify;

/// The checksum that the queue keeps of a body.
pub fn checksum(body: &[u8]) -> u32 {
    crc32c::crc32c(body)
}

/// The same of bytes that follow others; 0 is the checksum of none.
pub fn checksum_after(before: u32, more: &[u8]) -> u32 {
    crc32c::crc32c_append(before, more)
}
