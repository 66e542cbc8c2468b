//! Addresses that are not to be tried again: who put each there, why, and until when.
//!
//! It does not say which reply leads here (that is `policy`) nor what becomes of a message to such an
//! address (that is `submission` and `deliver`): they see the list through [`Suppressions`].

mod entry;
mod list;
mod log;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use relay_smtp::Mailbox;

pub use entry::{Entry, Filter, Source};
pub use list::List;
pub use log::Trouble;

/// Boxed, so that the list can stand behind `Arc<dyn Suppressions>`.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the others see of the list.
pub trait Suppressions: Send + Sync + 'static {
    /// The entry of this address that holds now.
    fn find(&self, mailbox: &Mailbox, now: Timestamp) -> Option<Arc<Entry>>;

    /// Durable when it returns: how many there are more than before. An entry takes the place of one
    /// with the same address; but what a reply says never takes the place of what a person said.
    fn add(&self, entries: Vec<Entry>) -> Later<'_, Result<u64, Trouble>>;

    /// Durable when it returns: how many were there.
    fn remove(&self, mailboxes: Vec<Mailbox>) -> Later<'_, Result<u64, Trouble>>;

    /// Entries that hold now, by domain and local part, after this address; at most `limit`.
    fn page(
        &self,
        filter: &Filter,
        after: Option<&Mailbox>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Arc<Entry>>;
}
