//! Stands in for the internet in the sandbox: any domain resolves here, and the recipient's local
//! part says what happens.
//!
//! Nothing here opens a socket: a connection is a pipe within the process. It knows nothing of
//! queue, policy or retries; to the rest of relayd it is DNS and a network.

pub mod kept;
pub mod net;
pub mod server;
pub mod wish;

pub use kept::Kept;
pub use net::SimulatedNet;
