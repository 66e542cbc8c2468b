//! A server's certificate for tests, and the TLSA records that name it.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A key, its certificate, and who vouches for it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub config: Arc<ServerConfig>,
    own: Shown,
    /// The same as `own` where it vouches for itself.
    authority: Shown,
}

/// One certificate of the chain.
#[derive(Clone, Debug)]
struct Shown {
    certificate: CertificateDer<'static>,
    pem: String,
    /// SubjectPublicKeyInfo.
    key: Vec<u8>,
}

impl Identity {
    pub fn self_signed(name: &str) -> Identity {
        let key = new_key();
        let certificate = params(name).self_signed(&key);
        let own = Shown::of(&certificate.expect("a certificate can be made"), &key);
        Identity {
            config: server(vec![own.certificate.clone()], &key),
            authority: own.clone(),
            own,
        }
    }

    /// Its own authority vouches for it, and is shown with it.
    pub fn issued(name: &str) -> Identity {
        Identity::issued_as(params(name))
    }

    /// The same, long out of date.
    pub fn expired(name: &str) -> Identity {
        let mut params = params(name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
        Identity::issued_as(params)
    }

    fn issued_as(leaf: CertificateParams) -> Identity {
        let mut root = CertificateParams::default();
        root.distinguished_name
            .push(DnType::CommonName, "Authority of a test");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = new_key();
        let authority = root
            .self_signed(&root_key)
            .expect("a certificate can be made");
        let authority = Shown::of(&authority, &root_key);
        let issuer = Issuer::new(root, root_key);
        let key = new_key();
        let leaf = leaf.signed_by(&key, &issuer);
        let own = Shown::of(&leaf.expect("a certificate can be signed"), &key);
        let chain = vec![own.certificate.clone(), authority.certificate.clone()];
        Identity {
            config: server(chain, &key),
            own,
            authority,
        }
    }

    /// The authority, in PEM: for those who are to trust it.
    pub fn authority_pem(&self) -> String {
        self.authority.pem.clone()
    }

    /// The data of a TLSA record, as in a zone file: `3 1 1 0123abcd...`. Usages 0 and 2 are about the
    /// authority, 1 and 3 about the certificate itself.
    pub fn tlsa(&self, usage: u8, selector: u8, matching: u8) -> String {
        let shown = match usage {
            0 | 2 => &self.authority,
            _ => &self.own,
        };
        let selected: &[u8] = match selector {
            0 => &shown.certificate,
            _ => &shown.key,
        };
        let data = match matching {
            0 => selected.to_vec(),
            1 => digest(&SHA256, selected).as_ref().to_vec(),
            _ => digest(&SHA512, selected).as_ref().to_vec(),
        };
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{usage} {selector} {matching} {hex}")
    }
}

impl Shown {
    fn of(certificate: &Certificate, key: &KeyPair) -> Shown {
        Shown {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key: key.subject_public_key_info(),
        }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("a name for a certificate")
}

fn server(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .expect("the key fits its certificate");
    Arc::new(config)
}
