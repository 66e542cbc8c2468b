//! What TLS a next hop requires: a session may be stronger, never weaker.

/// From weakest to strongest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsRequirement {
    /// Never use TLS.
    None,
    /// Use it if offered, without checking names; fall back to clear text in a new connection.
    #[default]
    Opportunistic,
    /// Encrypted or not at all; the certificate is not checked.
    Require,
    /// Encrypted, with a certificate that is valid for the host's name.
    Verify,
}
