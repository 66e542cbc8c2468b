//! DKIM signing: which keys sign a message; the signing itself goes off the async threads, and once for
//! all attempts.

use std::sync::Arc;
use std::thread::available_parallelism;

use bytes::Bytes;
use jiff::Timestamp;
use relay_message::dkim::{HashedBody, Signer, Strangers};
use relay_message::header;
use relay_smtp::{Domain, QueueId};
use tokio::sync::Semaphore;

use crate::signed::{Form, Kept};

/// All keys of the configuration, and what they have signed lately.
pub struct Signers {
    signers: Vec<Arc<Signer>>,
    kept: Kept,
    /// Signing is arithmetic only: more threads than cores would make none of it faster, and the pool of
    /// blocking threads would grow by hundreds in a burst.
    at_once: Semaphore,
}

impl Signers {
    pub fn new(signers: Vec<Signer>) -> Signers {
        Signers {
            signers: signers.into_iter().map(Arc::new).collect(),
            kept: Kept::default(),
            at_once: Semaphore::new(available_parallelism().map_or(2, usize::from)),
        }
    }

    /// Nothing is signed.
    pub fn none() -> Signers {
        Signers::new(Vec::new())
    }

    /// The keys that sign a message with this header; none where no key fits the author.
    pub(crate) fn keys(&self, head: &[u8]) -> Vec<Arc<Signer>> {
        if self.signers.is_empty() {
            return Vec::new();
        }
        let author = header::author_domains(head).into_iter().next();
        author.map_or_else(Vec::new, |author| self.keys_for(&author))
    }

    /// The keys of the author's domain; where it has none, those of the nearest domain above it; where
    /// there is none either, those that sign for anybody.
    fn keys_for(&self, author: &Domain) -> Vec<Arc<Signer>> {
        let covering = self.signers.iter().filter(|key| key.covers(author));
        let nearest = covering
            .clone()
            .map(|key| key.domain().as_str().len())
            .max();
        if nearest.is_none() {
            let for_all = |key: &&Arc<Signer>| key.strangers() == Strangers::Signed;
            return self.signers.iter().filter(for_all).cloned().collect();
        }
        covering
            .filter(|key| Some(key.domain().as_str().len()) == nearest)
            .cloned()
            .collect()
    }

    /// What an attempt before this one signed, while it is fresh: then nothing need be hashed.
    pub(crate) fn known(&self, id: QueueId, form: Form, now: Timestamp) -> Option<Bytes> {
        match self.signers.is_empty() {
            true => None,
            false => self.kept.known(id, form, now),
        }
    }

    /// The DKIM-Signature fields of a message, each with its line end: to be put before it. Sessions that
    /// ask for the same at the same time wait for one signing.
    pub(crate) async fn sign(&self, asked: Asked, now: Timestamp) -> Bytes {
        if asked.keys.is_empty() {
            return Bytes::new();
        }
        let (id, form) = (asked.id, asked.form);
        let slot = self.kept.slot(id, form, now);
        let signatures = slot
            .get_or_init(|| async {
                // Never closed. Without its place the signing goes on, too: it is a limit, no lock.
                let _place = self.at_once.acquire().await.ok();
                // An RSA-2048 signature takes about half a millisecond: too long for a thread that
                // other sessions wait for.
                let signing = move || sign_with(&asked, now);
                let signed = tokio::task::spawn_blocking(signing).await;
                signed.unwrap_or_else(|error| {
                    tracing::error!("signing failed, the message goes unsigned: {error}");
                    Bytes::new()
                })
            })
            .await
            .clone();
        self.kept.drop_unfit(id, form, &signatures);
        signatures
    }

    /// Nobody will ask for this message again.
    pub(crate) fn forget(&self, id: QueueId) {
        if !self.signers.is_empty() {
            self.kept.forget(id);
        }
    }
}

/// What is to be signed.
pub(crate) struct Asked {
    pub id: QueueId,
    pub form: Form,
    pub keys: Vec<Arc<Signer>>,
    pub head: Bytes,
    pub body_hash: HashedBody,
}

fn sign_with(asked: &Asked, now: Timestamp) -> Bytes {
    let mut fields = Vec::new();
    for key in &asked.keys {
        match key.sign_head(&asked.head, &asked.body_hash, now) {
            Ok(field) => fields.extend_from_slice(&field),
            // Unsigned mail may still arrive; mail kept back for our own mistake surely does not.
            Err(error) => tracing::error!(
                "signing with {}._domainkey.{} failed, the message goes without: {error}",
                key.selector(),
                key.domain()
            ),
        }
    }
    fields.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = include_str!("../../../tests/golden/dkim/ed25519.pem");

    fn signer(domain: &str, selector: &str) -> Signer {
        Signer::from_pem(Domain::parse(domain).unwrap(), selector, ED25519).unwrap()
    }

    fn names(signers: &Signers, from: &str) -> Vec<String> {
        let head = format!("From: {from}\r\n\r\n");
        let keys = signers.keys(head.as_bytes());
        keys.iter().map(|key| key.record_name()).collect()
    }

    #[test]
    fn a_default_key_signs_for_those_who_have_none_and_only_for_them() {
        let signers = Signers::new(vec![
            signer("relay.example", "all").with_strangers(Strangers::Signed),
            signer("a.example", "one"),
            signer("a.example", "two"),
            signer("sub.a.example", "three"),
        ]);
        let all = ["all._domainkey.relay.example"];
        let a = ["one._domainkey.a.example", "two._domainkey.a.example"];
        for (from, wanted) in [
            ("x@other.example", &all[..]),
            ("x@relay.example", &all[..]),
            ("x@a.example", &a[..]),
            ("x@www.a.example", &a[..]),
            ("x@sub.a.example", &["three._domainkey.sub.a.example"][..]),
            ("nobody", &[][..]),
        ] {
            assert_eq!(names(&signers, from), wanted, "{from}");
        }
    }

    #[test]
    fn without_a_default_key_mail_of_others_goes_unsigned() {
        let signers = Signers::new(vec![signer("a.example", "one")]);
        assert!(names(&signers, "x@other.example").is_empty());
    }
}
