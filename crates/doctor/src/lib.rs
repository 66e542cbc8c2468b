//! Looks at what others see of us, and at what we see of them: DNS, MX hosts, keys. It says what was found
//! and what to do about it.
//!
//! It sends no mail and changes nothing. DNS and connections come in as they do for delivery, so that it
//! sees what mail would meet.

mod blocklist;
pub mod dkim;
mod domain;
pub mod examine;
pub mod finding;
mod probe;
mod sender;
pub mod spf;
mod us;
#[cfg(test)]
mod zone;

pub use examine::{Blocklists, Doctor, Internet, Question};
pub use finding::{Finding, State};
