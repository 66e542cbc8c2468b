//! DANE for SMTP (RFC 7672): whether a certificate is one that the host's TLSA records name.
//!
//! Which records hold for a host is `route`'s part; what follows from a certificate that none of them
//! names is the policy's.

mod der;
mod verifier;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use relay_route::TlsaRecord;
use rustls_pki_types::ServerName;

pub use verifier::DaneVerifier;

/// What the records of one host ask for. Made only of such as can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dane {
    base: String,
    port: u16,
    records: Vec<TlsaRecord>,
    /// Any of these may stand in a certificate that a trust anchor of the records vouches for.
    names: Vec<ServerName<'static>>,
}

/// The host's own key or certificate: its names and dates do not matter (RFC 7672 section 3.1.1).
const DANE_EE: u8 = 3;
/// Somebody who vouches for it (section 3.1.2). 0 and 1 ask for public authorities as well, and are not
/// used in SMTP (section 3.1.3).
const DANE_TA: u8 = 2;

const WHOLE_CERTIFICATE: u8 = 0;
const PUBLIC_KEY: u8 = 1;

const EXACT: u8 = 0;
const BY_SHA256: u8 = 1;
const BY_SHA512: u8 = 2;

impl Dane {
    /// `base`: whose records these are; it is also the name said in the handshake (RFC 7672 section 8.1).
    /// `domain`: of the next hop, which may stand in a certificate, too (section 3.2.2). None: none of the
    /// records can be used; then TLS is required, and any certificate will do (section 2.2).
    pub fn of(
        base: &str,
        port: u16,
        records: Vec<TlsaRecord>,
        domain: Option<&str>,
    ) -> Option<Dane> {
        let mut usable: Vec<TlsaRecord> = records.into_iter().filter(is_usable).collect();
        usable.sort();
        usable.dedup();
        let strongest = usable.clone();
        // Digests are as strong as the strongest one published for a kind of record (RFC 7671 section 9).
        usable.retain(|record| {
            let stronger = |other: &TlsaRecord| {
                (other.usage, other.selector) == (record.usage, record.selector)
                    && other.matching == BY_SHA512
            };
            record.matching != BY_SHA256 || !strongest.iter().any(stronger)
        });
        let names = [Some(base), domain];
        let names = names.into_iter().flatten();
        let names = names.filter_map(|name| ServerName::try_from(name.to_owned()).ok());
        (!usable.is_empty()).then(|| Dane {
            base: base.to_owned(),
            port,
            records: usable,
            names: names.collect(),
        })
    }

    /// The name to say in the handshake.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where the records stand: `_25._tcp.mx.example.net`.
    pub fn owner(&self) -> String {
        format!("_{}._tcp.{}", self.port, self.base)
    }

    /// The records as text, for reports: `3 1 1 0a1b...`.
    pub fn in_words(&self) -> Vec<String> {
        self.records.iter().map(in_words).collect()
    }

    fn with_usage(&self, usage: u8) -> impl Iterator<Item = &TlsaRecord> {
        self.records
            .iter()
            .filter(move |record| record.usage == usage)
    }
}

fn is_usable(record: &TlsaRecord) -> bool {
    let length = match record.matching {
        EXACT => !record.data.is_empty(),
        BY_SHA256 => record.data.len() == SHA256.output_len(),
        BY_SHA512 => record.data.len() == SHA512.output_len(),
        _ => false,
    };
    let usage = matches!(record.usage, DANE_EE | DANE_TA);
    let selector = matches!(record.selector, WHOLE_CERTIFICATE | PUBLIC_KEY);
    usage && selector && length
}

/// Whether the record names this certificate.
fn names(record: &TlsaRecord, certificate: &[u8]) -> bool {
    let selected = match record.selector {
        WHOLE_CERTIFICATE => Some(certificate),
        _ => der::public_key_of(certificate).map(|key| key.whole),
    };
    let Some(selected) = selected else {
        return false;
    };
    match record.matching {
        EXACT => record.data == selected,
        BY_SHA256 => record.data == digest(&SHA256, selected).as_ref(),
        _ => record.data == digest(&SHA512, selected).as_ref(),
    }
}

/// One record as DNS tools show it.
pub fn in_words(record: &TlsaRecord) -> String {
    let data: String = record
        .data
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} {data}", in_short(record))
}

/// `3 1 1`
fn in_short(record: &TlsaRecord) -> String {
    format!("{} {} {}", record.usage, record.selector, record.matching)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, length: usize) -> TlsaRecord {
        TlsaRecord {
            usage,
            selector,
            matching,
            data: vec![7; length],
        }
    }

    fn used(records: &[TlsaRecord]) -> Vec<String> {
        let dane = Dane::of("mx.test", 25, records.to_vec(), None);
        dane.map_or_else(Vec::new, |dane| dane.records.iter().map(in_short).collect())
    }

    #[test]
    fn only_usages_2_and_3_with_known_numbers_and_whole_digests_are_used() {
        for good in [(2, 0, 0, 9), (3, 1, 1, 32), (3, 0, 2, 64)] {
            let (usage, selector, matching, length) = good;
            assert_eq!(used(&[record(usage, selector, matching, length)]).len(), 1);
        }
        for bad in [
            (0, 1, 1, 32),
            (1, 1, 1, 32),
            (4, 1, 1, 32),
            (3, 2, 1, 32),
            (3, 1, 3, 48),
            (3, 1, 1, 31),
            (3, 1, 2, 32),
            (3, 1, 0, 0),
            (255, 255, 255, 9),
        ] {
            let (usage, selector, matching, length) = bad;
            let unusable = record(usage, selector, matching, length);
            assert_eq!(used(&[unusable]), Vec::<String>::new(), "{bad:?}");
        }
    }

    #[test]
    fn a_weaker_digest_beside_a_stronger_one_of_its_kind_does_not_count() {
        let all = [
            record(3, 1, 1, 32),
            record(3, 1, 2, 64),
            record(3, 0, 1, 32),
            record(2, 1, 1, 32),
            record(2, 1, 1, 32),
        ];
        assert_eq!(used(&all), ["2 1 1", "3 0 1", "3 1 2"]);
    }
}
