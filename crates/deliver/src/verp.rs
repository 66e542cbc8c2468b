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
        Some(made) => transaction.reverse_path = ReversePath::Mailbox(made),
        None => tracing::debug!(%id, "the recipient's address does not fit into a sender (verp)"),
    }
}
