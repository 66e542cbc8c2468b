//! One table of options: text to a checked [`Config`]; the sample file and the reference are
//! rendered from the same table.
//!
//! Nothing here opens a file: texts come in with their names, and [`check::Files`] answers what
//! must be known about files that keys point at.

mod assemble;
pub mod check;
pub mod effective;
mod endpoint;
#[cfg(test)]
mod from_text;
pub mod kind;
mod known;
mod layer;
pub mod limits;
mod login;
pub mod lookup;
pub mod options;
pub mod parse;
pub mod render;
pub mod row;
mod section;
pub mod settings;
mod value;

pub use check::{Files, NoFiles};
pub use endpoint::{Endpoint, OauthClient, Scheme};
pub use limits::{Aim, Amount, InForce, SharedCap};
pub use login::{Login, LoginSecret, Mechanisms};
pub use parse::{Mistake, Source, load};
pub use settings::*;
