//! Where a recipient's mail goes: the way that an operator has chosen for it, else the configured one.

use std::sync::Arc;

use relay_config::Config;
use relay_queue::{Detour, Message};
use relay_smtp::{Host, NextHop, Recipient};

/// The next hop of one recipient of a message.
pub fn next_hop(config: &Config, message: &Message, index: u32, recipient: &Recipient) -> NextHop {
    let host = recipient.mailbox.host();
    match (message.detours.get(&index), host) {
        (None, _) => config.next_hop(host),
        // By the name that a route with this relay alone has: then that route's login and TLS are
        // used, and mail of both ways shares sessions.
        (Some(Detour::Relay(relay)), _) => NextHop::Relay(Arc::from(relay.as_str())),
        (Some(Detour::Mx), Host::Domain(domain)) => NextHop::Domain(domain.clone()),
        (Some(Detour::Mx), Host::Address(address)) => NextHop::Address(*address),
    }
}
