//! TLS towards next hops: the handshake, without and with a check of the certificate, and the
//! memory of hosts whose TLS does not work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::{SignedDuration, Timestamp};
use relay_smtp::Failure;
use relay_tlsrpt::ResultType;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use crate::dane::{Dane, DaneVerifier};
use crate::dial::Stream;
use crate::tls_report::Fault;

/// Made once; holds the configurations and what was learned about hosts.
pub struct TlsClient {
    unchecked: TlsConnector,
    checked: TlsConnector,
    /// Of `checked`.
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    plain: Mutex<PlainHosts>,
}

/// What the certificate has to prove.
#[derive(Clone, Debug)]
pub enum Check {
    /// Encryption only: opportunistic and required TLS deliver to self-signed hosts, too.
    Nothing,
    /// A chain to a trusted root, for this host's name.
    Name,
    /// The same, asked for by the MTA-STS policy of the domain.
    Sts,
    /// What the host's TLSA records name (RFC 7672).
    Dane(Arc<Dane>),
    /// As `Nothing`; what `Sts` would have said is noted, for a policy in testing.
    Observed,
}

/// A handshake that did.
pub struct Agreed {
    /// For people: `TLSv1.3 TLS13_AES_256_GCM_SHA384, DANE 3 1 1`.
    pub words: String,
    /// What was wrong with the certificate, where it was only observed.
    pub(crate) observed: Option<Fault>,
}

/// A failed handshake, with words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    pub failure: Failure,
    pub words: String,
    /// The same for reports.
    pub result: ResultType,
}

/// The system's trusted roots, and those of this PEM.
pub fn roots(extra: &str) -> RootCertStore {
    let mut roots = system_roots();
    add_pem(&mut roots, extra);
    roots
}

/// The system's trusted roots. Reads a hundred files and more.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Roots that cannot be read are left out: a broken file among a hundred is the system's matter.
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    roots
}

/// What of it cannot be read is left out.
pub fn add_pem(roots: &mut RootCertStore, pem: &str) {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes());
    roots.add_parsable_certificates(found.filter_map(Result::ok));
}

impl TlsClient {
    /// With exactly these roots. Without any `Check::Name` always fails; the other checks need none.
    pub fn with_roots(roots: RootCertStore) -> Result<TlsClient, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unchecked: Arc<dyn ServerCertVerifier> = Arc::new(AnyCertificate(provider.clone()));
        let checked: Arc<dyn ServerCertVerifier> = if roots.is_empty() {
            Arc::new(NoCertificate(provider.clone()))
        } else {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| error.to_string())?
        };
        Ok(TlsClient {
            unchecked: connector(&provider, unchecked)?,
            checked: connector(&provider, Arc::clone(&checked))?,
            verifier: checked,
            provider,
            plain: Mutex::new(PlainHosts::default()),
        })
    }

    /// The handshake. The time-out is the caller's.
    pub async fn handshake(
        &self,
        stream: Box<dyn Stream>,
        name: ServerName<'static>,
        check: &Check,
    ) -> Result<(Box<dyn Stream>, Agreed), TlsError> {
        let observer = Arc::new(Observer::new(&self.verifier, &self.provider));
        let (connector, verifier) = match check {
            Check::Nothing => (self.unchecked.clone(), None),
            Check::Name | Check::Sts => (self.checked.clone(), None),
            Check::Observed => {
                let connector = connector(&self.provider, observer.clone());
                (connector.map_err(handshake_failed)?, None)
            }
            Check::Dane(dane) => {
                // A configuration of its own, so that no session of another check is ever resumed.
                let verifier = Arc::new(DaneVerifier::new(Arc::clone(dane), &self.provider));
                let connector = connector(&self.provider, verifier.clone());
                (connector.map_err(handshake_failed)?, Some(verifier))
            }
        };
        let encrypted = match connector.connect(name, stream).await {
            Ok(encrypted) => encrypted,
            Err(error) => return Err(in_words(&error, check)),
        };
        let agreed = describe(encrypted.get_ref().1);
        let record = verifier.as_ref().and_then(|verifier| verifier.matched());
        let words = match (check, record) {
            (Check::Nothing | Check::Observed, _) | (Check::Dane(_), None) => agreed,
            (Check::Name, _) => format!("{agreed}, verified"),
            (Check::Sts, _) => format!("{agreed}, MTA-STS"),
            (Check::Dane(_), Some(record)) => format!("{agreed}, DANE {record}"),
        };
        let observed = observer.fault();
        Ok((Box::new(encrypted), Agreed { words, observed }))
    }

    /// Whether the host's TLS failed within the last hour: then opportunistic sessions do without.
    pub fn is_plain(&self, host: &str, now: Timestamp) -> bool {
        let plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.until.get(host).is_some_and(|until| now < *until)
    }

    /// Remembers that the host's TLS does not work.
    pub fn remember_plain(&self, host: &str, now: Timestamp) {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.remember(host, now);
    }

    /// Forgets it: the policy asks for another try with TLS.
    pub fn forget_plain(&self, host: &str) {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.until.remove(host);
    }
}

/// Hosts whose TLS failed, each with the time at which it gets another chance.
#[derive(Default)]
struct PlainHosts {
    until: HashMap<String, Timestamp>,
}

impl PlainHosts {
    /// Bounds the memory: peers choose the names.
    const HOSTS_MAX: usize = 10_000;
    const KEPT: SignedDuration = SignedDuration::from_hours(1);

    fn remember(&mut self, host: &str, now: Timestamp) {
        if self.until.len() >= PlainHosts::HOSTS_MAX {
            self.until.retain(|_, until| now < *until);
        }
        // Still full of fresh ones: a further host costs one more failed handshake a session, no mail.
        if self.until.len() < PlainHosts::HOSTS_MAX {
            let until = now.saturating_add(PlainHosts::KEPT).unwrap_or(now);
            self.until.insert(host.to_owned(), until);
        }
    }
}

fn connector(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn describe(connection: &rustls::ClientConnection) -> String {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(other) => format!("{other:?}"),
        None => "TLS".to_owned(),
    };
    match connection.negotiated_cipher_suite() {
        Some(suite) => format!("{version} {:?}", suite.suite()),
        None => version,
    }
}

fn handshake_failed(words: String) -> TlsError {
    TlsError {
        failure: Failure::TlsHandshake,
        words,
        result: ResultType::ValidationFailure,
    }
}

fn in_words(error: &std::io::Error, check: &Check) -> TlsError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let words = format!("TLS handshake: {error}");
    let Some(rustls::Error::InvalidCertificate(wrong)) = tls else {
        return handshake_failed(words);
    };
    match check {
        Check::Dane(dane) => TlsError {
            failure: Failure::TlsaMismatch,
            words: format!(
                "the certificate is none that {} names ({error})",
                dane.owner()
            ),
            result: ResultType::TlsaInvalid,
        },
        Check::Sts => TlsError {
            failure: Failure::StsCertificate,
            words,
            result: result_of(wrong),
        },
        Check::Nothing | Check::Name | Check::Observed => TlsError {
            failure: Failure::TlsCertificate,
            words,
            result: result_of(wrong),
        },
    }
}

/// What a report calls it (RFC 8460 section 4.3.1).
fn result_of(wrong: &CertificateError) -> ResultType {
    match wrong {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => ResultType::CertificateExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ResultType::CertificateHostMismatch
        }
        // Unknown authorities, and whatever else is wrong with the chain.
        _ => ResultType::CertificateNotTrusted,
    }
}

/// Takes every certificate, and every signature with it: what is not checked proves nothing anyway.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // webpki reads no X.509 v1 certificates and mail servers have them: with nothing to be
        // proved, a certificate that it cannot read must not end the handshake.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes every certificate, and remembers what another would have said of it.
#[derive(Debug)]
struct Observer {
    other: Arc<dyn ServerCertVerifier>,
    anything: AnyCertificate,
    said: OnceLock<rustls::Error>,
}

impl Observer {
    fn new(other: &Arc<dyn ServerCertVerifier>, provider: &Arc<CryptoProvider>) -> Observer {
        Observer {
            other: Arc::clone(other),
            anything: AnyCertificate(Arc::clone(provider)),
            said: OnceLock::new(),
        }
    }

    fn fault(&self) -> Option<Fault> {
        let error = self.said.get()?;
        Some(Fault {
            result: match error {
                rustls::Error::InvalidCertificate(wrong) => result_of(wrong),
                _ => ResultType::ValidationFailure,
            },
            words: error.to_string(),
        })
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.other.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        if let Err(error) = verified {
            // Asked once for each handshake.
            let _ = self.said.set(error);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.anything
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.anything
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.anything.supported_verify_schemes()
    }
}

/// Takes no certificate: this system trusts no root.
#[derive(Debug)]
struct NoCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for NoCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::UnknownIssuer,
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_whose_tls_failed_gets_another_chance_after_an_hour() {
        let tls = TlsClient::with_roots(RootCertStore::empty()).unwrap();
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        assert!(!tls.is_plain("mx.example", now));
        tls.remember_plain("mx.example", now);
        assert!(tls.is_plain("mx.example", now + SignedDuration::from_mins(59)));
        assert!(!tls.is_plain("mx.example", now + SignedDuration::from_mins(60)));
        tls.forget_plain("mx.example");
        assert!(!tls.is_plain("mx.example", now));
    }

    #[test]
    fn the_memory_of_hosts_is_bounded() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut plain = PlainHosts::default();
        for host in 0..PlainHosts::HOSTS_MAX + 10 {
            plain.remember(&format!("mx{host}.example"), now);
        }
        assert_eq!(plain.until.len(), PlainHosts::HOSTS_MAX);
        plain.remember("late.example", now + SignedDuration::from_hours(2));
        assert_eq!(plain.until.len(), 1);
    }
}
