//! One table of options: text to a checked [`Config`]; the sample file and the reference are
//! rendered from the same table.
//!
//! Nothing here opens a file: texts come in with their names, and [`check::Files`] answers what
//! must be known about files that keys point at.

pub mod check;
pub mod lookup;
pub mod options;
pub mod parse;
pub mod render;
pub mod settings;

pub use parse::{Source, load};
pub use settings::*;
