//! The policy table: rules and providers read from TOML, checked, compiled once.

/// A checked, compiled table: the operator's files first, then the default table. Immutable;
/// a reload makes a new one. Cheap to share (`Arc<Table>`).
#[derive(Debug)]
pub struct Table {}

impl Table {
    /// The default table that is compiled in (`etc/policy.toml`).
    pub fn default_table() -> Table {
        todo!()
    }
    /// Operator files in the order in which they are tried, each as (path for messages, text),
    /// followed by the default table. Refused as a whole if one rule is wrong.
    pub fn with_files(files: &[(String, String)]) -> Result<Table, Vec<TableError>> {
        let _ = files;
        todo!()
    }
    /// The name of the provider that a host or domain belongs to.
    pub fn provider_of(&self, mx: Option<&str>, domain: Option<&str>) -> Option<&str> {
        let _ = (mx, domain);
        todo!()
    }
}

/// One mistake in a table file. Display: `file:line: key = found: what is wrong; the fix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct TableError {
    pub file: String,
    pub line: usize,
    pub message: String,
}
