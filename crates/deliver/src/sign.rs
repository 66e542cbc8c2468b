//! DKIM signing off the async threads.

pub struct Signers {}
