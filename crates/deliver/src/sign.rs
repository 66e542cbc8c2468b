//! DKIM signing: which keys sign a message, off the async threads.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use relay_message::dkim::Signer;
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

    /// The DKIM-Signature fields of a message, each with its line end: to be put before it. Empty
    /// where no key fits the author.
    pub async fn sign(&self, message: &Bytes, now: Timestamp) -> Vec<u8> {
        if self.signers.is_empty() {
            return Vec::new();
        }
        let Some(author) = header::author_domains(message).into_iter().next() else {
            return Vec::new();
        };
        let keys = self.keys_for(&author);
        if keys.is_empty() {
            return Vec::new();
        }
        let message = message.clone();
        // An RSA-2048 signature takes about half a millisecond: too long for a thread that other
        // sessions wait for.
        let signed = tokio::task::spawn_blocking(move || sign_with(&keys, &message, now)).await;
        signed.unwrap_or_else(|error| {
            tracing::error!("signing for {author} failed, the message goes unsigned: {error}");
            Vec::new()
        })
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

fn sign_with(keys: &[Arc<Signer>], message: &[u8], now: Timestamp) -> Vec<u8> {
    let mut fields = Vec::new();
    for key in keys {
        match key.sign(message, now) {
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
