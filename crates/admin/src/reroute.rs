//! Sending what is selected another way than the configuration says, and back.
//!
//! Due times stay as they are: a flush of the same selection tries it at once.

use std::sync::Arc;

use relay_config::{Config, Relay};
use relay_observe::Event;
use relay_queue::{Detour, Message, StoreError, Way};
use relay_smtp::QueueId;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::act::{Command, Walk};
use crate::choice::Choice;
use crate::error::ApiError;
use crate::view::Changed;
use crate::world::AdminWorld;

/// The body of `POST /v1/queue/reroute`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reroute {
    pub command: Command,
    pub way: WayTo,
}

/// Where the selected recipients go from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayTo {
    /// By way of this relay: `HOST[:PORT]`, or the name of a route.
    Via(String),
    /// To the hosts of their own domains, whatever routes there are.
    Mx,
    /// As configured.
    Default,
}

/// Messages being changed at once: the queue joins their writes.
const AT_ONCE: usize = 64;

/// Sends the unfinished recipients that are selected another way.
pub async fn reroute(world: &Arc<AdminWorld>, reroute: &Reroute) -> Result<Changed, ApiError> {
    let detour = detour(&reroute.way, &world.config.load())?;
    let mut walk = Walk::begin(world, &reroute.command)?;
    let mut changed = Changed::default();
    while let Some(page) = walk.page(world).await? {
        let mut at_work = JoinSet::new();
        let mut counts = Vec::with_capacity(page.len());
        for message in page {
            let ways = ways(&walk.choice, &message, detour.as_ref());
            if ways.is_empty() {
                continue;
            }
            at_work.spawn(change(Arc::clone(world), message.id, ways));
            if at_work.len() >= AT_ONCE {
                counts.extend(at_work.join_next().await);
            }
        }
        counts.extend(at_work.join_all().await.into_iter().map(Ok));
        for count in counts {
            let count = count.map_err(|error| {
                StoreError::Stopped(format!("rerouting a message panicked: {error}"))
            })??;
            changed.recipients += count;
            changed.messages += u64::from(count > 0);
        }
    }
    changed.next = walk.next();
    Ok(changed)
}

/// The relay as a route would name it, so that a configured relay keeps its login and TLS.
fn detour(way: &WayTo, config: &Config) -> Result<Option<Detour>, ApiError> {
    let text = match way {
        WayTo::Mx => return Ok(Some(Detour::Mx)),
        WayTo::Default => return Ok(None),
        WayTo::Via(text) => text,
    };
    if config.routes.iter().any(|route| *route.name == **text) {
        return Ok(Some(Detour::Relay(text.clone())));
    }
    let mut relays = config.routes.iter().flat_map(|route| &route.via);
    let configured = relays.find(|relay| relay.host.eq_ignore_ascii_case(text));
    let named = || match text.trim_matches(['[', ']']).parse() {
        // An address of either family, without a port.
        Ok(address) => Some(std::net::SocketAddr::new(address, config.delivery.port).to_string()),
        Err(_) => None,
    };
    let relay = configured
        .cloned()
        .or_else(|| Relay::parse(text))
        .or_else(|| Relay::parse(&named()?))
        .or_else(|| Relay::parse(&format!("{text}:{}", config.delivery.port)))
        .ok_or_else(|| {
            ApiError::Bad(format!(
                "via = {text}: not a relay; write HOST, HOST:PORT or [IPV6]:PORT"
            ))
        })?;
    Ok(Some(Detour::Relay(relay.to_string())))
}

/// What the command changes of a message.
fn ways(choice: &Choice, message: &Message, detour: Option<&Detour>) -> Vec<Way> {
    message
        .each()
        .filter(|one| choice.matches_recipient(message, *one))
        .filter(|(index, _, _)| message.detours.get(index) != detour)
        .map(|(index, _, _)| Way {
            index,
            detour: detour.cloned(),
        })
        .collect()
}

/// Returns how many recipients go another way now.
async fn change(world: Arc<AdminWorld>, id: QueueId, ways: Vec<Way>) -> Result<u64, StoreError> {
    let message = match world.store.reroute(id, ways.clone()).await {
        Ok(message) => message,
        // It was finished in the meantime.
        Err(StoreError::Unknown(_)) => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    for way in &ways {
        let place = usize::try_from(way.index).ok();
        let recipient = place.and_then(|place| message.envelope.recipients.get(place));
        // A recipient that was finished meanwhile goes nowhere.
        if let Some(recipient) = recipient
            && message.detours.get(&way.index) == way.detour.as_ref()
        {
            count += 1;
            world.events.emit(Event::RecipientRerouted {
                id,
                sender: message.envelope.reverse_path.to_string(),
                recipient: recipient.mailbox.to_string(),
                route: way.detour.as_ref().map(ToString::to_string),
            });
        }
    }
    world.dispatcher.rerouted(message).await;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Option<String> {
        let mut config = Config::default_for("relay.example.com");
        let relays = ["smtp.upstream.example:587", "192.0.2.1:465"];
        config.routes = vec![relay_config::Route {
            to: Vec::new(),
            name: relays.join(",").into(),
            via: relays.iter().filter_map(|r| Relay::parse(r)).collect(),
            balance: relay_config::Balance::InOrder,
            tls: relay_policy::TlsRequirement::Verify,
            login: None,
        }];
        let way = WayTo::Via(text.to_owned());
        detour(&way, &config).ok()?.map(|way| way.to_string())
    }

    #[test]
    fn a_relay_is_named_as_a_route_would_name_it() {
        for (text, relay) in [
            ("other.example", "other.example:25"),
            ("Other.Example:2525", "other.example:2525"),
            ("192.0.2.7", "192.0.2.7:25"),
            ("[2001:db8::1]", "[2001:db8::1]:25"),
            ("[2001:db8::1]:587", "[2001:db8::1]:587"),
            // A configured host keeps its port.
            ("smtp.upstream.example", "smtp.upstream.example:587"),
            ("192.0.2.1", "192.0.2.1:465"),
            (
                "smtp.upstream.example:587,192.0.2.1:465",
                "smtp.upstream.example:587,192.0.2.1:465",
            ),
        ] {
            assert_eq!(via(text).as_deref(), Some(relay), "{text}");
        }
        for text in ["", "two words", "host:0", "host:port", "a:25,b:25"] {
            assert_eq!(via(text), None, "{text}");
        }
    }
}
