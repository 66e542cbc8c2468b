//! The reply policy: from (phase, reply or failure, provider) to a decision with a name; the retry
//! times; the TLS requirement.
//!
//! Nothing here opens a file or a socket or reads a clock: tables come in as text, time as `now`,
//! randomness as an argument.

pub mod category;
pub mod decide;
pub mod retry;
pub mod table;
pub mod tls;

pub use category::Category;
pub use decide::{Action, Context, Decision, Rule, Stimulus};
pub use retry::{Next, Schedule};
pub use table::{Table, TableError};
pub use tls::TlsRequirement;
