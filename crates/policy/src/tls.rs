//! What TLS a next hop requires: a session may be stronger, never weaker.

use std::fmt;
use std::str::FromStr;

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
    /// Encrypted, with a certificate that the host's TLSA records name (RFC 7672); without such records
    /// nothing is sent.
    Dane,
    /// Encrypted, with a certificate that is valid for the host's name.
    Verify,
}

impl TlsRequirement {
    /// From weakest to strongest.
    pub const ALL: [TlsRequirement; 5] = [
        TlsRequirement::None,
        TlsRequirement::Opportunistic,
        TlsRequirement::Require,
        TlsRequirement::Dane,
        TlsRequirement::Verify,
    ];

    /// The word in the configuration, logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            TlsRequirement::None => "none",
            TlsRequirement::Opportunistic => "opportunistic",
            TlsRequirement::Require => "require",
            TlsRequirement::Dane => "dane",
            TlsRequirement::Verify => "verify",
        }
    }
}

impl fmt::Display for TlsRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for TlsRequirement {
    type Err = String;

    fn from_str(text: &str) -> Result<TlsRequirement, String> {
        TlsRequirement::ALL
            .into_iter()
            .find(|requirement| requirement.word() == text)
            .ok_or_else(|| {
                let words = TlsRequirement::ALL.map(TlsRequirement::word);
                format!(
                    "{text:?} is no TLS requirement; write one of {}",
                    words.join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_and_others_are_refused_with_the_choice() {
        for requirement in TlsRequirement::ALL {
            assert_eq!(requirement.word().parse(), Ok(requirement));
        }
        let refused = "maybe".parse::<TlsRequirement>().unwrap_err();
        assert!(refused.contains("opportunistic"), "{refused}");
        assert!(TlsRequirement::Verify > TlsRequirement::Opportunistic);
    }
}
