//! DKIM signing: which keys sign a message; the signing itself goes off the async threads.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use relay_message::dkim::{HashedBody, Signer};
use relay_message::header;
use relay_smtp::Domain;

/// All keys of the configuration.
#[derive(Default)]
pub struct Signers {
    signers: Vec<Arc<Signer>>,
}

impl Signers {
    pub fn new(signers: Vec<Signer>) -> Signers {
        Signers {
            signers: signers.into_iter().map(Arc::new).collect(),
        }
    }

    /// Nothing is signed.
    pub fn none() -> Signers {
        Signers::default()
    }

    /// The keys that sign a message with this header; none where no key fits the author.
    pub(crate) fn keys(&self, head: &[u8]) -> Vec<Arc<Signer>> {
        if self.signers.is_empty() {
            return Vec::new();
        }
        let author = header::author_domains(head).into_iter().next();
        author.map_or_else(Vec::new, |author| self.keys_for(&author))
    }

    /// The keys of the author's domain; where it has none, those of the nearest domain above it.
    fn keys_for(&self, author: &Domain) -> Vec<Arc<Signer>> {
        let covering = self.signers.iter().filter(|key| key.covers(author));
        let nearest = covering
            .clone()
            .map(|key| key.domain().as_str().len())
            .max();
        covering
            .filter(|key| Some(key.domain().as_str().len()) == nearest)
            .cloned()
            .collect()
    }
}

/// The DKIM-Signature fields of a message, each with its line end: to be put before it.
pub(crate) async fn sign(
    keys: Vec<Arc<Signer>>,
    head: Bytes,
    body_hash: HashedBody,
    now: Timestamp,
) -> Vec<u8> {
    // An RSA-2048 signature takes about half a millisecond: too long for a thread that other
    // sessions wait for.
    let signing = move || sign_with(&keys, &head, &body_hash, now);
    let signed = tokio::task::spawn_blocking(signing).await;
    signed.unwrap_or_else(|error| {
        tracing::error!("signing failed, the message goes unsigned: {error}");
        Vec::new()
    })
}

fn sign_with(keys: &[Arc<Signer>], head: &[u8], body_hash: &HashedBody, now: Timestamp) -> Vec<u8> {
    let mut fields = Vec::new();
    for key in keys {
        match key.sign_head(head, body_hash, now) {
            Ok(field) => fields.extend_from_slice(&field),
            // Unsigned mail may still arrive; mail kept back for our own mistake surely does not.
            Err(error) => tracing::error!(
                "signing with {}._domainkey.{} failed, the message goes without: {error}",
                key.selector(),
                key.domain()
            ),
        }
    }
    fields
}
