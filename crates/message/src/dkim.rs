//! Signs messages (RFC 6376, RFC 8463). Which key signs which message is left to `deliver`.
//!
//! Keys and their arithmetic are mail-auth's. The canonical forms are made here: mail-auth's own
//! signer reads the clock itself, and time is an argument in this crate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use mail_auth::common::crypto::{
    Algorithm, DkimKey, Ed25519Key, HashContext, HashImpl, HashOutput, RsaKey, Sha256, SigningKey,
};
use mail_auth::common::headers::Writer;
use relay_smtp::Domain;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::dkim::fields::relaxed;
use crate::header::{self, Field};
use crate::text::fold;

pub mod fields;
pub mod record;

pub use fields::SignedFields;

/// RSA keys below this are refused (RFC 8301 section 3.2 asks for 1024 and advises 2048).
const RSA_BITS_MIN: usize = 2048;

/// A key with the domain and selector under which its public half is published.
pub struct Signer {
    domain: Domain,
    selector: String,
    key: DkimKey,
    fields: SignedFields,
    strangers: Strangers,
}

/// Whether a key also signs for authors whose domain has no key. Such a signature vouches for the mail by
/// the relay's own name; it is not aligned, so DMARC does not count it (RFC 7489 section 3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    Unsigned,
    Signed,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.record_name())
    }
}

/// The key cannot be used. Display names the fix; the caller adds the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "{0:?} is no selector: write letters, digits and hyphens, in parts joined by dots, such as s2026"
    )]
    Selector(String),
    #[error("no private key in PEM form was found; it begins with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    #[error(
        "the private key is protected by a passphrase; remove it with: openssl pkcs8 -topk8 -nocrypt"
    )]
    Encrypted,
    #[error("the key is neither RSA nor Ed25519, and DKIM has no other; make a new one")]
    Kind,
    #[error("the RSA key is shorter than 2048 bits; make a new one")]
    Short,
    #[error("the private key is damaged: {0}")]
    Damaged(String),
}

/// The library refused to sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DKIM signing failed: {0}")]
pub struct SignError(pub String);

impl Signer {
    /// Reads an RSA (2048 bits or more) or Ed25519 key from PEM: PKCS#8, or PKCS#1 for RSA.
    pub fn from_pem(domain: Domain, selector: &str, pem: &str) -> Result<Signer, KeyError> {
        let is_label = |label: &str| {
            let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(valid)
        };
        if !selector.split('.').all(is_label) {
            return Err(KeyError::Selector(selector.to_owned()));
        }
        Ok(Signer {
            domain,
            selector: selector.to_owned(),
            key: read_key(pem)?,
            fields: SignedFields::default(),
            strangers: Strangers::Unsigned,
        })
    }

    pub fn with_fields(mut self, fields: SignedFields) -> Signer {
        self.fields = fields;
        self
    }

    pub fn with_strangers(mut self, strangers: Strangers) -> Signer {
        self.strangers = strangers;
        self
    }

    pub fn strangers(&self) -> Strangers {
        self.strangers
    }

    pub fn domain(&self) -> &Domain {
        &self.domain
    }
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// Whether a message with this author may be signed: the key's domain itself or one below it,
    /// which is what DMARC calls aligned (RFC 7489 section 3.1.1).
    pub fn covers(&self, author: &Domain) -> bool {
        author
            .to_ascii()
            .strip_suffix(&self.domain.to_ascii())
            .is_some_and(|below| below.is_empty() || below.ends_with('.'))
    }

    /// The whole DKIM-Signature field with its line end, to be put before the message. The message
    /// has CRLF line ends. Costs about half a millisecond with RSA: not for async threads.
    pub fn sign(&self, message: &[u8], now: Timestamp) -> Result<Vec<u8>, SignError> {
        let (head, body) = message.split_at(header::end(message).body);
        let mut hash = BodyHash::default();
        hash.feed(body);
        self.sign_head(head, &hash.end(), now)
    }

    /// The same for a message whose body is not at hand: `head` reaches to where the body begins.
    pub fn sign_head(
        &self,
        head: &[u8],
        body_hash: &HashedBody,
        now: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let fields: Vec<Field<'_>> = header::fields(head).collect();
        let (names, mut signed) = self.fields.of(&fields);
        let unsigned = self.unsigned_field(now, &names, body_hash.0.as_ref());
        // The field's own canonical form has an empty b= and no line end (RFC 6376 section 3.7).
        for field in header::fields(unsigned.as_bytes()) {
            relaxed(&field, &mut signed);
        }
        signed.truncate(signed.trim_ascii_end().len());
        let signature = self
            .key
            .sign(signed.as_slice())
            .map_err(|error| SignError(error.to_string()))?;
        let mut field = unsigned.trim_ascii_end().as_bytes().to_vec();
        for (place, line) in BASE64.encode(signature).as_bytes().chunks(68).enumerate() {
            if place > 0 {
                field.extend_from_slice(b"\r\n ");
            }
            field.extend_from_slice(line);
        }
        field.extend_from_slice(b"\r\n");
        Ok(field)
    }

    /// DKIM-Signature up to and with `b=`.
    fn unsigned_field(&self, now: Timestamp, names: &[&str], body_hash: &[u8]) -> String {
        let mut words = vec![
            "v=1;".to_owned(),
            format!("a={};", self.key.algorithm().name()),
            "c=relaxed/simple;".to_owned(),
            format!("d={};", self.domain.to_ascii()),
            format!("s={};", self.selector),
            format!("t={};", now.as_second().max(0)),
        ];
        words.extend(header_list(names));
        words.push(format!("bh={};", BASE64.encode(body_hash)));
        let folded = fold("DKIM-Signature:", words.iter().map(String::as_str));
        format!("{}\r\n b=", folded.trim_ascii_end())
    }

    /// The name of the DNS record: `selector._domainkey.domain`.
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain.to_ascii())
    }

    /// The text of the TXT record to publish, in one piece (a zone file wants it cut into strings of
    /// at most 255 octets).
    pub fn public_record(&self) -> String {
        format!("v=DKIM1; k={}; p={}", self.kind(), self.public_key())
    }

    /// As in k=: `rsa` or `ed25519`.
    pub fn kind(&self) -> &'static str {
        match self.key.algorithm() {
            Algorithm::RsaSha1 | Algorithm::RsaSha256 => "rsa",
            Algorithm::Ed25519Sha256 => "ed25519",
        }
    }

    /// As in p=.
    pub fn public_key(&self) -> String {
        BASE64.encode(match &self.key {
            DkimKey::Rsa(key) => subject_public_key_info(&key.public_key()),
            DkimKey::Ed25519(key) => key.public_key(),
        })
    }
}

/// `h=A:B:C;` in parts that each fit a line: a fold may stand behind a colon.
fn header_list(names: &[&str]) -> Vec<String> {
    const PART_MAX: usize = 64;
    let mut parts = vec!["h=".to_owned()];
    for (place, name) in names.iter().enumerate() {
        let end = if place + 1 == names.len() { ";" } else { ":" };
        match parts.last_mut() {
            Some(part) if part.len() + name.len() < PART_MAX => {
                part.push_str(name);
                part.push_str(end);
            }
            Some(_) | None => parts.push(format!("{name}{end}")),
        }
    }
    parts
}

/// The hash of a body that comes in pieces, in its simple form: one CRLF at its end, however many there
/// were (RFC 6376 section 3.4.3). All signatures of a message share it: both algorithms hash by SHA-256.
pub struct BodyHash {
    hasher: <Sha256 as HashImpl>::Context,
    /// CRLFs that are not hashed yet: there may be nothing behind them.
    line_ends: u64,
    /// A CR behind those, whose LF may come with the next piece.
    cr: Cr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cr {
    None,
    Waits,
}

/// What [`BodyHash`] comes to.
#[derive(Clone)]
pub struct HashedBody(HashOutput);

impl Default for BodyHash {
    fn default() -> BodyHash {
        BodyHash {
            hasher: Sha256::hasher(),
            line_ends: 0,
            cr: Cr::None,
        }
    }
}

impl BodyHash {
    pub fn feed(&mut self, piece: &[u8]) {
        let mut text = piece;
        if self.cr == Cr::Waits
            && let [first, rest @ ..] = text
        {
            self.cr = Cr::None;
            if *first == b'\n' {
                self.line_ends += 1;
                text = rest;
            } else {
                self.write(b"\r");
            }
        }
        if let Some(before) = text.strip_suffix(b"\r") {
            self.cr = Cr::Waits;
            text = before;
        }
        let mut line_ends = 0;
        while let Some(shorter) = text.strip_suffix(b"\r\n") {
            line_ends += 1;
            text = shorter;
        }
        if !text.is_empty() {
            self.write(text);
        }
        self.line_ends += line_ends;
    }

    pub fn end(mut self) -> HashedBody {
        if self.cr == Cr::Waits {
            self.write(b"\r");
        }
        self.hasher.write(b"\r\n");
        HashedBody(self.hasher.complete())
    }

    /// Something behind the line ends that wait.
    fn write(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.hasher.write(b"\r\n");
        }
        self.hasher.write(text);
    }
}

fn read_key(pem: &str) -> Result<DkimKey, KeyError> {
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => KeyError::NoKey,
        other => KeyError::Damaged(other.to_string()),
    })?;
    let damaged = |error: mail_auth::Error| KeyError::Damaged(error.to_string());
    match kind_of(&der).ok_or(KeyError::Kind)? {
        Kind::Ed25519 => Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_der())
            .map(DkimKey::Ed25519)
            .map_err(damaged),
        Kind::Rsa => {
            let key = RsaKey::<Sha256>::from_key_der(der).map_err(|error| {
                // aws-lc knows the size before we do, and refuses by this word.
                match error.to_string() {
                    text if text.contains("TooSmall") => KeyError::Short,
                    text => KeyError::Damaged(text),
                }
            })?;
            // An RSAPublicKey holds little more than the modulus; a shorter one cannot be 2048 bits.
            match key.public_key().len() < RSA_BITS_MIN / 8 {
                true => Err(KeyError::Short),
                false => Ok(DkimKey::Rsa(key)),
            }
        }
    }
}

enum Kind {
    Rsa,
    Ed25519,
}

/// By the algorithm's object identifier, near the start of a PKCS#8 key (RFC 5958 section 2).
fn kind_of(der: &PrivateKeyDer<'_>) -> Option<Kind> {
    const RSA: &[u8] = &[
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    ];
    const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
    match der {
        PrivateKeyDer::Pkcs1(_) => Some(Kind::Rsa),
        PrivateKeyDer::Pkcs8(key) => {
            let bytes = key.secret_pkcs8_der();
            let start = bytes.get(..32).unwrap_or(bytes);
            let has = |oid: &[u8]| start.windows(oid.len()).any(|window| window == oid);
            if has(RSA) {
                return Some(Kind::Rsa);
            }
            has(ED25519).then_some(Kind::Ed25519)
        }
        // SEC1 is an elliptic curve that DKIM does not know; the enum may grow.
        _ => None,
    }
}

/// An RSAPublicKey in the wrapping that verifiers expect in p= (RFC 6376 erratum 3017; RFC 3279
/// section 2.3.1).
fn subject_public_key_info(rsa_public_key: &[u8]) -> Vec<u8> {
    const ALGORITHM: &[u8] = &[
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let bits = der_element(0x03, &[&[0], rsa_public_key].concat());
    der_element(0x30, &[ALGORITHM, &bits].concat())
}

/// Tag, length, content (X.690 section 8.1).
fn der_element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|&byte| byte == 0).collect();
    let mut element = vec![tag];
    match length.as_slice() {
        [] => element.push(0),
        [short @ 0..0x80] => element.push(*short),
        long => {
            element.push(0x80 | long.len() as u8);
            element.extend_from_slice(long);
        }
    }
    element.extend_from_slice(content);
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../../tests/golden/dkim/rsa.pem");
    const ED25519: &str = include_str!("../../../tests/golden/dkim/ed25519.pem");

    fn signer(pem: &str) -> Result<Signer, KeyError> {
        Signer::from_pem(Domain::parse("example.com").unwrap(), "s2026", pem)
    }

    #[test]
    fn keys_that_cannot_sign_are_refused_in_plain_words() {
        let golden = |name| match name {
            "ec" => include_str!("../../../tests/golden/dkim/ec.pem"),
            "short" => include_str!("../../../tests/golden/dkim/rsa-1024.pem"),
            other => unreachable!("no key {other}"),
        };
        let encrypted = include_str!("../../../tests/golden/dkim/encrypted.pem");
        let cut: String = RSA.lines().take(5).collect::<Vec<_>>().join("\n");
        let damaged = format!("{cut}\n-----END PRIVATE KEY-----\n");
        assert_eq!(signer("").unwrap_err(), KeyError::NoKey);
        assert_eq!(signer("hello").unwrap_err(), KeyError::NoKey);
        assert_eq!(signer(encrypted).unwrap_err(), KeyError::Encrypted);
        assert_eq!(signer(golden("ec")).unwrap_err(), KeyError::Kind);
        assert_eq!(signer(golden("short")).unwrap_err(), KeyError::Short);
        assert!(matches!(
            signer(&damaged).unwrap_err(),
            KeyError::Damaged(_)
        ));
        assert!(matches!(signer(&cut).unwrap_err(), KeyError::Damaged(_)));
        for selector in ["", "a b", "a..b", "a;"] {
            let domain = Domain::parse("example.com").unwrap();
            let error = Signer::from_pem(domain, selector, RSA).unwrap_err();
            assert_eq!(error, KeyError::Selector(selector.to_owned()));
        }
    }

    #[test]
    fn a_key_covers_its_domain_and_those_below() {
        let signer = signer(ED25519).unwrap();
        for (author, covered) in [
            ("example.com", true),
            ("mail.example.com", true),
            ("badexample.com", false),
            ("com", false),
            ("example.com.evil.test", false),
        ] {
            assert_eq!(
                signer.covers(&Domain::parse(author).unwrap()),
                covered,
                "{author}"
            );
        }
    }

    #[test]
    fn the_field_is_folded_and_lists_absent_fields() {
        for pem in [RSA, ED25519] {
            let message = b"From: a@example.com\r\nTo: b@c\r\nTo: d@e\r\n\r\nx";
            let now = Timestamp::from_second(1_795_000_000).unwrap();
            let field =
                String::from_utf8(signer(pem).unwrap().sign(message, now).unwrap()).unwrap();
            assert!(field.lines().all(|line| line.len() <= 78), "{field}");
            let flat = field.replace("\r\n", "");
            assert!(flat.contains("c=relaxed/simple; d=example.com; s=s2026; t=1795000000;"));
            assert!(flat.contains("h=From:From:Subject:To:To:To:Cc:Date:Reply-To:Message-ID;"));
        }
    }

    #[test]
    fn the_record_is_what_openssl_says_the_public_key_is() {
        // openssl pkey -in rsa.pem -pubout, the last 32 octets for Ed25519.
        let rsa = include_str!("../../../tests/golden/dkim/rsa.pub.pem");
        let rsa: String = rsa.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(
            signer(RSA).unwrap().public_record(),
            format!("v=DKIM1; k=rsa; p={rsa}")
        );
        let ed25519 = include_str!("../../../tests/golden/dkim/ed25519.pub.pem");
        let der: String = ed25519
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let der = BASE64.decode(der).unwrap();
        let key = BASE64.encode(&der[der.len() - 32..]);
        let signer = signer(ED25519).unwrap();
        assert_eq!(
            signer.public_record(),
            format!("v=DKIM1; k=ed25519; p={key}")
        );
        assert_eq!(signer.record_name(), "s2026._domainkey.example.com");
    }
}
