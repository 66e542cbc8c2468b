//! The message's own bytes: read headers, add Received, sign with DKIM, compose a DSN.
//!
//! Nothing here opens a file or a socket or reads a clock. What is read may be any junk: it is
//! never an error, and bytes that need no change are not changed.

pub mod bounce;
pub mod date;
pub mod dkim;
pub mod dsn;
pub mod header;
pub mod received;
pub mod report;
pub mod seven_bit;
mod text;
