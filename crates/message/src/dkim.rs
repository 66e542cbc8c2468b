//! Signs messages (RFC 6376, RFC 8463). Which key signs which message is left to `deliver`.

use jiff::Timestamp;
use relay_smtp::Domain;

/// A key with the domain and selector under which its public half is published.
pub struct Signer {
    domain: Domain,
    selector: String,
}

/// The key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("{0}")]
    Unusable(String),
}

/// The library refused to sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DKIM signing failed: {0}")]
pub struct SignError(pub String);

impl Signer {
    /// Reads an RSA (2048 bits or more) or Ed25519 key from PEM: PKCS#8, or PKCS#1 for RSA.
    pub fn from_pem(domain: Domain, selector: &str, pem: &str) -> Result<Signer, KeyError> {
        let _ = (domain, selector, pem);
        todo!()
    }
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
    pub fn selector(&self) -> &str {
        &self.selector
    }
    /// Whether a message with this author may be signed: the key's domain itself or one below it.
    pub fn covers(&self, author: &Domain) -> bool {
        let _ = author;
        todo!()
    }
    /// The whole DKIM-Signature field with its line end, to be put before the message.
    pub fn sign(&self, message: &[u8], now: Timestamp) -> Result<Vec<u8>, SignError> {
        let _ = (message, now);
        todo!()
    }
    /// The name of the DNS record: `selector._domainkey.domain`.
    pub fn record_name(&self) -> String {
        todo!()
    }
    /// The text of the TXT record to publish.
    pub fn public_record(&self) -> String {
        todo!()
    }
}
