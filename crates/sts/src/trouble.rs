//! Why a domain that says it has a policy has none that can be used: for the log, and for the reports that
//! it may have asked for (RFC 8460 section 4.3.2.2).

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub why: Why,
    /// For the operator.
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The policy host could not be reached, or gave no policy.
    Fetch,
    /// Its certificate does not do.
    Certificate,
    /// What it gave is no policy.
    Invalid,
}
