//! The reply policy: from (phase, reply or failure, provider) to a decision with a name; the retry
//! times; the TLS requirement.
//!
//! Nothing here opens a file or a socket or reads a clock: tables come in as text, time as `now`,
//! randomness as an argument.

mod bits;
pub mod category;
pub mod code_range;
pub mod decide;
mod example;
mod guard;
pub mod hint;
mod index;
mod input;
pub mod lint;
mod literals;
mod load;
pub mod meaning;
mod memory;
mod names;
mod near;
mod nearest;
mod pattern;
#[cfg(test)]
mod plain;
mod provider;
pub mod retry;
pub mod scope;
mod status;
pub mod table;
mod texts;
pub mod tls;

pub use category::Category;
pub use code_range::CodeRange;
pub use decide::{
    Action, Context, Decision, Fate, OnFlow, Rule, Stimulus, TlsInUse, decide, guard,
};
pub use guard::Guard;
pub use input::{FoundAt, enhanced_at, enhanced_in, parse_pasted};
pub use lint::Finding;
pub use near::{Missed, Near, near};
pub use retry::{Next, Schedule};
pub use scope::{Asked, Heard, Scope};
pub use table::{RuleRow, Table, TableError};
pub use tls::TlsRequirement;
