//! Selecting messages: the SELECT of relayctl, as a value.

use jiff::Timestamp;
use relay_smtp::QueueId;

use crate::message::Message;

/// All given parts must hold. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Select {
    pub id: Option<QueueId>,
    /// A recipient's domain, lower case.
    pub to: Option<String>,
    /// A recipient's address.
    pub recipient: Option<String>,
    /// The reverse-path; `<>` for the null one.
    pub sender: Option<String>,
    /// Rule or category of a recipient's last decision.
    pub rule: Option<String>,
    pub category: Option<String>,
    /// Arrived before.
    pub before: Option<Timestamp>,
    pub user: Option<String>,
}

impl Select {
    /// Whether the message is meant. Parts about recipients hold if one unfinished recipient has them all.
    pub fn matches(&self, message: &Message) -> bool {
        let _ = message;
        todo!()
    }
}
