//! MTA-STS (RFC 8461): the policies that domains publish over HTTPS, kept on disk.
//!
//! What a policy means for a connection is `deliver`'s part; nothing here speaks SMTP.

mod disk;
pub mod fetch;
pub mod policy;
mod store;
mod trouble;

pub use fetch::{Fetch, HttpsFetch};
pub use policy::{Mode, Policy};
pub use store::{Found, Sts};
pub use trouble::{Trouble, Why};
