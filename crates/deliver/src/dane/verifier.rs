//! The check of a server's certificate by TLSA records, as rustls asks for it.

use std::sync::{Arc, OnceLock};

use relay_route::TlsaRecord;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};

use super::{DANE_EE, DANE_TA, Dane, EXACT, WHOLE_CERTIFICATE, der, in_short, names};

/// For one handshake.
#[derive(Debug)]
pub struct DaneVerifier {
    dane: Arc<Dane>,
    provider: Arc<CryptoProvider>,
    /// The record that named the certificate.
    matched: OnceLock<String>,
}

impl DaneVerifier {
    pub fn new(dane: Arc<Dane>, provider: &Arc<CryptoProvider>) -> DaneVerifier {
        DaneVerifier {
            dane,
            provider: Arc::clone(provider),
            matched: OnceLock::new(),
        }
    }

    /// The numbers of the record that named the certificate: `3 1 1`.
    pub fn matched(&self) -> Option<&str> {
        self.matched.get().map(String::as_str)
    }

    fn accept(&self, record: &TlsaRecord) -> ServerCertVerified {
        // Asked once for each handshake.
        let _ = self.matched.set(in_short(record));
        ServerCertVerified::assertion()
    }

    /// A certificate that a trust anchor of the records vouches for, for one of the names and for now.
    fn vouched_for(&self, shown: &Shown<'_>) -> Result<ServerCertVerified, Error> {
        let mut last = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for record in self.dane.with_usage(DANE_TA) {
            for anchor in shown.anchors(record) {
                for name in &self.dane.names {
                    match shown.under(anchor.clone(), name, &self.provider) {
                        Ok(_) => return Ok(self.accept(record)),
                        Err(error) => last = error,
                    }
                }
            }
        }
        Err(last)
    }
}

/// What the server has shown.
struct Shown<'a> {
    own: &'a CertificateDer<'a>,
    others: &'a [CertificateDer<'a>],
    now: UnixTime,
}

impl Shown<'_> {
    /// Which certificates a record makes trust anchors: those shown, except the server's own, and the one
    /// that the record holds itself.
    fn anchors(&self, record: &TlsaRecord) -> Vec<CertificateDer<'static>> {
        let shown = self.others.iter().filter(|other| names(record, other));
        let mut anchors: Vec<_> = shown.map(|other| other.clone().into_owned()).collect();
        if (record.selector, record.matching) == (WHOLE_CERTIFICATE, EXACT) {
            anchors.push(CertificateDer::from(record.data.clone()));
        }
        anchors
    }

    fn under(
        &self,
        anchor: CertificateDer<'static>,
        name: &ServerName<'_>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerCertVerified, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(anchor)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(self.own, self.others, name, &[], self.now)
    }
}

impl ServerCertVerifier for DaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let own = self.dane.with_usage(DANE_EE);
        if let Some(record) = own.into_iter().find(|record| names(record, end_entity)) {
            return Ok(self.accept(record));
        }
        self.vouched_for(&Shown {
            own: end_entity,
            others: intermediates,
            now,
        })
    }

    // A certificate is no secret: that the server has its key is proved by the signatures, and they are
    // checked against the key as it stands in the certificate, of whatever version that is.

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = der::public_key_of(certificate).ok_or(BAD_ENCODING)?;
        let known = self.provider.signature_verification_algorithms.mapping;
        let of_scheme = known.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, algorithms) = of_scheme.ok_or(BAD_SIGNATURE)?;
        let good = algorithms.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key.algorithm
                && algorithm
                    .verify_signature(key.bits, message, signed.signature())
                    .is_ok()
        });
        match good {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(BAD_SIGNATURE),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = der::public_key_of(certificate).ok_or(BAD_ENCODING)?;
        let key = SubjectPublicKeyInfoDer::from(key.whole);
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

const BAD_ENCODING: Error = Error::InvalidCertificate(CertificateError::BadEncoding);
const BAD_SIGNATURE: Error = Error::InvalidCertificate(CertificateError::BadSignature);

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Shows this certificate, whosever key it signs with.
    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);

    impl ResolvesServerCert for Shows {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    /// A handshake with a server that shows the certificate of `shown` and has the key `has`; the record
    /// names `shown`.
    async fn handshake(
        version: &'static SupportedProtocolVersion,
        shown: &KeyPair,
        has: &KeyPair,
    ) -> std::io::Result<()> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let params = CertificateParams::new(vec!["mx.test".to_owned()]).unwrap();
        let certificate = params.self_signed(shown).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(has.serialize_der()));
        let key = provider.key_provider.load_private_key(key).unwrap();
        let shows = Shows(Arc::new(CertifiedKey::new(vec![certificate], key)));
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shows));
        let key = shown.subject_public_key_info();
        let record = TlsaRecord {
            usage: DANE_EE,
            selector: 1,
            matching: 1,
            data: digest(&SHA256, &key).as_ref().to_vec(),
        };
        let dane = Dane::of("mx.test", 25, vec![record], None).unwrap();
        let verifier = DaneVerifier::new(Arc::new(dane), &provider);
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let accept = TlsAcceptor::from(Arc::new(server)).accept(theirs);
        let name = ServerName::try_from("mx.test").unwrap();
        let connect = TlsConnector::from(Arc::new(client)).connect(name, ours);
        let (connected, _) = tokio::join!(connect, accept);
        connected.map(drop)
    }

    #[tokio::test]
    async fn a_certificate_without_its_key_proves_nothing_in_either_version_of_tls() {
        let (key, thiefs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            handshake(version, &key, &key).await.unwrap();
            let error = handshake(version, &key, &thiefs).await.unwrap_err();
            assert!(error.to_string().contains("BadSignature"), "{error}");
        }
    }
}
