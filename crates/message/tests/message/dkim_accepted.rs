//! A second verifier, mail-auth's, on bodies that are easily signed wrong.

use std::borrow::Borrow;
use std::hash::Hash;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use jiff::Timestamp;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
};
use relay_message::dkim::{SignedFields, Signer};
use relay_smtp::Domain;

const KEYS: [&str; 2] = [
    include_str!("../../../../tests/golden/dkim/rsa.pem"),
    include_str!("../../../../tests/golden/dkim/ed25519.pem"),
];
const HEADER: &str = "From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nX-App: 7\r\n";

#[test]
fn odd_bodies_are_signed_so_that_a_second_verifier_accepts_them() {
    let long = "0123456789abcdef".repeat(1 << 16);
    let bodies: [&[u8]; 12] = [
        b"",
        b"\r\n",
        b"\r\n\r\n\r\n",
        b"text",
        b"text\r\n\r\n\r\n",
        b" \r\n\t\r\n",
        b".\r\n..\r\n",
        b"Gr\xfc\xdfe\r\n",
        "Gr\u{fc}\u{df}e \u{1f600}\r\n".as_bytes(),
        b"\0\x01\x7f",
        b"form\x0cfeed \t \r\n",
        long.as_bytes(),
    ];
    for pem in KEYS {
        let signer = signer(pem);
        for body in bodies {
            let message = [HEADER.as_bytes(), b"\r\n", body].concat();
            let shown = String::from_utf8_lossy(body.get(..20).unwrap_or(body)).into_owned();
            assert_eq!(
                verdict(&signer, &signed(&signer, &message)),
                "pass",
                "{shown:?}"
            );
        }
    }
}

#[test]
fn what_was_changed_after_signing_is_refused_by_it() {
    for pem in KEYS {
        let signer = signer(pem);
        let message = format!("{HEADER}\r\nhello\r\n");
        let sent = String::from_utf8(signed(&signer, message.as_bytes())).unwrap();
        assert_eq!(verdict(&signer, sent.as_bytes()), "pass");
        for (old, new) in [("hello", "jello"), ("bob@", "eve@")] {
            let changed = sent.replace(old, new);
            assert_ne!(verdict(&signer, changed.as_bytes()), "pass", "{new}");
        }
    }
}

#[test]
fn a_list_of_header_fields_of_ones_own_is_what_is_signed() {
    let signer = signer(KEYS[0]).with_fields(SignedFields::new(["From"], ["X-App"]));
    let message = format!("{HEADER}\r\nhello\r\n");
    let sent = String::from_utf8(signed(&signer, message.as_bytes())).unwrap();
    assert!(sent.contains(" h=From:From:X-App;"), "{sent}");
    assert_eq!(verdict(&signer, sent.as_bytes()), "pass");
    let other = sent.replace("bob@", "eve@");
    assert_eq!(verdict(&signer, other.as_bytes()), "pass");
    let other = sent.replace("X-App: 7", "X-App: 8");
    assert_ne!(verdict(&signer, other.as_bytes()), "pass");
}

fn signer(pem: &str) -> Signer {
    Signer::from_pem(Domain::parse("example.com").unwrap(), "s2026", pem).unwrap()
}

fn signed(signer: &Signer, message: &[u8]) -> Vec<u8> {
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    [signer.sign(message, now).unwrap(), message.to_vec()].concat()
}

fn verdict(signer: &Signer, message: &[u8]) -> &'static str {
    let record = DomainKey::parse(signer.public_record().as_bytes()).unwrap();
    let records = Records(record.into());
    // It has no server to ask: the only record is handed to it.
    let config = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    let verifier = MessageAuthenticator::new(config, ResolverOpts::default()).unwrap();
    let message = AuthenticatedMessage::parse(message).unwrap();
    let asked = Parameters {
        params: &message,
        cache_txt: Some(&records),
        cache_mx: None::<&Nothing>,
        cache_ptr: None::<&Nothing>,
        cache_ipv4: None::<&Nothing>,
        cache_ipv6: None::<&Nothing>,
    };
    let mut verifying = pin!(verifier.verify_dkim(asked));
    let Poll::Ready(outputs) = verifying
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("it waits for DNS");
    };
    match outputs.as_slice() {
        [one] if *one.result() == DkimResult::Pass => "pass",
        [_] => "fail",
        _ => "not one signature",
    }
}

/// Knows one record, under every name.
struct Records(Txt);

impl ResolverCache<Box<str>, Txt> for Records {
    fn get<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(self.0.clone())
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

/// Is never asked.
struct Nothing;

impl<K, V> ResolverCache<K, V> for Nothing {
    fn get<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn remove<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: K, _: V, _: Instant) {}
}
