//! What RFC 5321 and its extensions say: the words on the wire and the two dialogues.
//!
//! Nothing here opens a socket, reads a clock or draws a random number. Bytes come in, bytes and
//! events go out; the crates `submission` and `deliver` carry them.

pub mod address;
pub mod chunk;
pub mod client;
pub mod command;
pub mod data;
pub mod envelope;
pub mod extension;
pub mod failure;
pub mod id;
pub mod line;
pub mod next_hop;
pub mod phase;
pub mod reply;
pub mod scram;
pub mod server;
pub mod status;
pub mod verp;

pub use address::{Domain, Host, Mailbox, ReversePath};
pub use envelope::{BodyType, Envelope, Recipient};
pub use failure::Failure;
pub use id::QueueId;
pub use next_hop::NextHop;
pub use phase::Phase;
pub use reply::Reply;
pub use status::{EnhancedStatus, StatusClass};
