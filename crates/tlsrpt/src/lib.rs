//! TLS reports (RFC 8460): what the TLS of each session came to, told daily to the domains that ask for it.
//!
//! Which session counts, and as what, is `deliver`'s part; a report by mail goes through the queue like any
//! other message. Only `disk`, `recorder` and `reporter` touch files, network and timers.

mod daily;
mod disk;
pub mod letter;
mod overview;
mod post;
pub mod record;
mod recorder;
pub mod report;
pub mod session;

pub use daily::{Outbox, Reporter, Settings};
pub use disk::Days;
pub use letter::Letter;
pub use overview::{Overview, Overviews, Planned};
pub use post::{HttpsPost, Post, Posting};
pub use recorder::Recorder;
pub use session::{Failure, Policy, PolicyKind, ResultType, Row, Session};
