//! `[delivery] verp`: a sender of its own for each recipient. It is made on the wire only; reports of ours go
//! to the sender that the message came with.

use relay_config::Config;
use relay_smtp::client::Transaction;
use relay_smtp::{QueueId, ReversePath};

/// Whether each recipient gets a transaction of its own. A message without a sender stays without one.
pub(crate) fn wanted(config: &Config, sender: &ReversePath) -> bool {
    match (&config.delivery.verp, sender) {
        (Some(verp), ReversePath::Mailbox(sender)) => verp.is_for(sender),
        (None, _) | (_, ReversePath::Null) => false,
    }
}

/// Puts the recipient into the sender of its transaction.
pub(crate) fn apply(config: &Config, id: QueueId, transaction: &mut Transaction) {
    if !wanted(config, &transaction.reverse_path) {
        return;
    }
    let ([recipient], ReversePath::Mailbox(sender), Some(verp)) = (
        transaction.recipients.as_slice(),
        &transaction.reverse_path,
        &config.delivery.verp,
    ) else {
        return;
    };
    match verp.template.sender(id, sender, &recipient.mailbox) {
        Some(made) => {
            transaction.reverse_path = ReversePath::Mailbox(made);
            // Reports now come to us, so they may as well tell our id. RFC 3461 section 5.2.1 forbids to add
            // an ENVID to mail that is passed on as it came; its sender has been exchanged here.
            transaction.envid.get_or_insert_with(|| id.to_string());
        }
        None => tracing::debug!(%id, "the recipient's address does not fit into a sender (verp)"),
    }
}
