//! Messages as lines of JSON, to move them to another machine: everything that the queue knows of an
//! unfinished message, and its bytes.
//!
//! The stream begins with a [`Head`] and ends with an [`End`], so that one that was cut off is noticed;
//! in between each line is a [`MessageLine`]. What a version changes must stay readable by later ones.

use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use jiff::Timestamp;
use relay_queue::{
    Arrival, Attempt, Detour, Message, QueueStates, RecipientState, State, Store, StoreError,
};
use relay_smtp::envelope::{Notify, Ret, Utf8, Wanted};
use relay_smtp::{BodyType, Envelope, Mailbox, Phase, QueueId, Recipient, ReversePath};
use serde::{Deserialize, Serialize};
