//! The listeners' TLS: certificate and key as PEM texts to a rustls configuration.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Certificate or key cannot be used. Who loads the files adds their names.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "no certificate found: PEM with at least one BEGIN CERTIFICATE block is wanted, the server's own first, then the chain"
    )]
    NoCertificate,
    #[error("the certificate cannot be read: {0}")]
    Certificate(rustls_pki_types::pem::Error),
    #[error("the key cannot be read: {0}; PEM with one PRIVATE KEY block (PKCS#8) is wanted")]
    Key(rustls_pki_types::pem::Error),
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// What a listener needs: no client certificates, TLS 1.2 and 1.3.
pub fn server_config(
    certificate_pem: &[u8],
    key_pem: &[u8],
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(TlsError::Key)?;
    // The provider is named: a process default may not be installed yet, and a panic at the first
    // handshake would be the worst way to find out.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map(Arc::new)
        .map_err(TlsError::Pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_certificate_or_key_is_said() {
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let (certificate, key) = made("relay.example");
        let (_, other_key) = made("other.example");
        for (certificate, key, words) in [
            ("", key.as_str(), "no certificate found"),
            (&certificate, "", "the key cannot be read"),
            (&certificate, &other_key, "cannot be used together"),
        ] {
            let error = server_config(certificate.as_bytes(), key.as_bytes()).map(drop);
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(server_config(certificate.as_bytes(), key.as_bytes()).is_ok());
    }
}
