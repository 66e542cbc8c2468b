//! Looking at the suppression list and changing it.

use relay_smtp::Mailbox;
use relay_suppression::{Entry, Filter, Trouble};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::view::{Added, Removed, SuppressionPage};
use crate::world::AdminWorld;

/// Entries of one answer.
pub const LIMIT_MAX: usize = 1000;
const LIMIT: usize = 200;
/// Entries of one request: each has an address and a reply, all of bounded length.
pub const ENTRIES_MAX: usize = 500;
pub(crate) const ENTRIES_BYTES_MAX: usize = 2 << 20;

/// The query of a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppressionQuery {
    pub address: Option<String>,
    pub domain: Option<String>,
    pub source: Option<relay_suppression::Source>,
    pub rule: Option<String>,
    pub category: Option<String>,
    pub older_than: Option<u64>,
    pub after: Option<String>,
    pub limit: Option<usize>,
}

/// The body of `POST /v1/suppressions`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEntries {
    pub entries: Vec<Entry>,
}

/// The body of `POST /v1/suppressions/remove`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsuppress {
    pub filter: Filter,
    /// Says that an empty filter is meant.
    #[serde(default)]
    pub all: bool,
}

impl SuppressionQuery {
    pub fn filter(&self) -> Filter {
        Filter {
            address: self.address.clone(),
            domain: self.domain.clone(),
            source: self.source,
            rule: self.rule.clone(),
            category: self.category.clone(),
            older_than: self.older_than,
        }
    }
}

pub fn list(world: &AdminWorld, query: &SuppressionQuery) -> Result<SuppressionPage, ApiError> {
    let filter = query.filter();
    check(&filter)?;
    let after = query.after.as_deref().map(mailbox).transpose()?;
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let now = world.clock.now();
    let entries = world.suppressions.page(&filter, after.as_ref(), limit, now);
    let entries: Vec<Entry> = entries.iter().map(|entry| Entry::clone(entry)).collect();
    let next = match entries.last() {
        Some(last) if entries.len() == limit => Some(last.address.to_string()),
        Some(_) | None => None,
    };
    Ok(SuppressionPage { entries, next })
}

/// Durable when it returns.
pub async fn add(world: &AdminWorld, command: NewEntries) -> Result<Added, ApiError> {
    let count = command.entries.len();
    if count > ENTRIES_MAX {
        return Err(ApiError::Bad(format!(
            "entries: {count} of them; {ENTRIES_MAX} are allowed in one request"
        )));
    }
    let added = world.suppressions.add(command.entries).await?;
    Ok(Added {
        added,
        replaced: (count as u64).saturating_sub(added),
    })
}

/// Durable when it returns, page by page.
pub async fn remove(world: &AdminWorld, command: &Unsuppress) -> Result<Removed, ApiError> {
    let filter = &command.filter;
    check(filter)?;
    if filter.is_everything() && !command.all {
        return Err(ApiError::Bad(
            "nothing selected; if the whole list is meant say all".to_owned(),
        ));
    }
    let now = world.clock.now();
    let mut removed = 0;
    loop {
        let page = world.suppressions.page(filter, None, LIMIT_MAX, now);
        if page.is_empty() {
            return Ok(Removed { removed });
        }
        let addresses = page.iter().map(|entry| entry.address.clone()).collect();
        let gone = world.suppressions.remove(addresses).await?;
        removed += gone;
    }
}

/// A filter whose address is none would silently select nothing.
fn check(filter: &Filter) -> Result<(), ApiError> {
    if let Some(address) = &filter.address {
        mailbox(address)?;
    }
    if let Some(domain) = &filter.domain {
        relay_smtp::Host::parse(domain)
            .map_err(|error| ApiError::Bad(format!("domain {domain}: {error}")))?;
    }
    Ok(())
}

fn mailbox(text: &str) -> Result<Mailbox, ApiError> {
    Mailbox::parse(text).map_err(|error| ApiError::Bad(format!("{text}: {error}")))
}

impl From<Trouble> for ApiError {
    fn from(trouble: Trouble) -> ApiError {
        ApiError::Disk(trouble.to_string())
    }
}
