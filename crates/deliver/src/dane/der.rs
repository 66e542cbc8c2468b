//! The public key of a certificate, read out of its DER. The library that checks certificates takes no
//! X.509 v1, which mail servers have; for DANE the key is all that matters.

/// SubjectPublicKeyInfo (RFC 5280 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey<'a> {
    /// With its tag and length: what TLSA selector 1 is about.
    pub whole: &'a [u8],
    /// What stands in the AlgorithmIdentifier.
    pub algorithm: &'a [u8],
    /// The key's own bits.
    pub bits: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// `[0] EXPLICIT Version`, which X.509 v1 does not have.
const VERSION: u8 = 0xa0;
/// In TBSCertificate before the key: serial number, algorithm, issuer, dates, subject.
const FIELDS_BEFORE: usize = 5;

/// None: it is no certificate.
pub(super) fn public_key_of(certificate: &[u8]) -> Option<PublicKey<'_>> {
    let (certificate, _) = Value::read(certificate)?;
    let (signed, _) = Value::read(certificate.inside(SEQUENCE)?)?;
    let mut rest = signed.inside(SEQUENCE)?;
    let (first, behind) = Value::read(rest)?;
    if first.tag == VERSION {
        rest = behind;
    }
    for _ in 0..FIELDS_BEFORE {
        rest = Value::read(rest)?.1;
    }
    let (key, _) = Value::read(rest)?;
    let (algorithm, behind) = Value::read(key.inside(SEQUENCE)?)?;
    let (bits, _) = Value::read(behind)?;
    match bits.inside(BIT_STRING)? {
        // No key has bits left over.
        [0, bits @ ..] => Some(PublicKey {
            whole: key.whole,
            algorithm: algorithm.inside(SEQUENCE)?,
            bits,
        }),
        _ => None,
    }
}

/// One value: tag, length, content.
struct Value<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
}

impl<'a> Value<'a> {
    /// The first value, and what stands behind it.
    fn read(bytes: &'a [u8]) -> Option<(Value<'a>, &'a [u8])> {
        let (&tag, rest) = bytes.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(first), rest),
            // So many bytes of length; no certificate needs more than three.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let add = |sum, byte: &u8| (sum << 8) | usize::from(*byte);
                (bytes.iter().fold(0, add), rest)
            }
            0x80 | 0x84.. => return None,
        };
        let (content, behind) = rest.split_at_checked(length)?;
        let whole = bytes.get(..bytes.len() - behind.len())?;
        let value = Value {
            tag,
            whole,
            content,
        };
        Some((value, behind))
    }

    fn inside(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    use super::*;

    fn made() -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["mx.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (
            certificate.der().to_vec(),
            key.subject_public_key_info().to_vec(),
        )
    }

    #[test]
    fn the_key_of_a_certificate_is_the_one_that_was_put_in() {
        let (certificate, key) = made();
        let found = public_key_of(&certificate).unwrap();
        assert_eq!(found.whole, key);
        assert!(found.whole.ends_with(found.bits));
    }

    #[test]
    fn the_key_of_an_old_certificate_without_version_is_found_too() {
        let (certificate, key) = made();
        // Takes `a0 03 02 01 02` out and makes the lengths of both sequences smaller by 5.
        let version = [0xa0, 3, 2, 1, 2];
        let at = certificate.windows(5).position(|w| w == version).unwrap();
        let mut old = certificate;
        old.drain(at..at + 5);
        for head in [0, 4] {
            assert_eq!(old[head..head + 2], [SEQUENCE, 0x82]);
            let length = u16::from_be_bytes([old[head + 2], old[head + 3]]) - 5;
            old[head + 2..head + 4].copy_from_slice(&length.to_be_bytes());
        }
        assert_eq!(public_key_of(&old).unwrap().whole, key);
    }

    #[test]
    fn what_is_cut_short_or_changed_is_no_panic() {
        let (certificate, _) = made();
        for end in 0..certificate.len() {
            public_key_of(&certificate[..end]);
        }
        for at in 0..certificate.len() {
            for bit in 0..8 {
                let mut changed = certificate.clone();
                changed[at] ^= 1 << bit;
                public_key_of(&changed);
            }
        }
    }
}
