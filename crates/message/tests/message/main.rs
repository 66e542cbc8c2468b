//! What others make of our bytes: an independent verifier of DKIM, and DSNs compared octet by octet.

// A failed unwrap is a failed test, also in the helpers, which clippy does not count as tests.
#![allow(clippy::unwrap_used)]

mod dkim_accepted;
mod dkim_verified;
mod dsn_golden;
