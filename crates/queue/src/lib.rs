//! The durable truth: every message and its recipients' states. The journal is the truth, sled is
//! its index; this is the only crate that names sled.
//!
//! It never decides when or whether something is tried, and never speaks to a peer.

mod ids;
pub mod memory;
pub mod message;
pub mod select;
mod settle;
pub mod store;

pub use memory::MemoryStore;
pub use message::{
    Arrival, Attempt, Message, NewMessage, RecipientChange, RecipientState, Settlement, State,
};
pub use select::Select;
pub use store::{Later, Page, Settled, Stats, Store, StoreError};
