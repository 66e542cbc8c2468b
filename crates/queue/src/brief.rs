//! A message as far as selecting and counting go: looked at in a [`Message`], or in the bytes that the
//! index has, of which nothing is copied. At a start every message is looked at and everybody waits: to
//! decode all of its strings would take several times as long.

use std::net::IpAddr;

use jiff::Timestamp;
use relay_smtp::envelope::{Notify, Ret};
use relay_smtp::{BodyType, Host, Mailbox, Phase, QueueId};
use serde::Deserialize;

use crate::message::{Message, OPERATOR, RecipientState, State};
use crate::record::Place;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Brief<'a> {
    pub(crate) id: QueueId,
    pub(crate) size: u64,
    pub(crate) arrived_unix_s: u32,
    pub(crate) client: Option<IpAddr>,
    pub(crate) user: Option<&'a str>,
    /// None: the null reverse-path.
    pub(crate) sender: Option<Address<'a>>,
    /// The recipients that are still to be done.
    pub(crate) open: Vec<Open<'a>>,
    pub(crate) ways: Ways,
}

/// [`Message::detours`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ways {
    OfTheirDomains,
    /// Some recipients have a detour.
    Chosen,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Open<'a> {
    pub(crate) to: Address<'a>,
    pub(crate) state: State,
    pub(crate) due_unix_s: u32,
    /// Rule and category of what was last decided.
    pub(crate) last: Option<(&'a str, &'a str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) struct Address<'a> {
    pub(crate) local_part: &'a str,
    pub(crate) host: At<'a>,
}

/// [`Host`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(crate) enum At<'a> {
    Domain(&'a str),
    Address(IpAddr),
}

impl<'a> Brief<'a> {
    pub(crate) fn of(message: &'a Message) -> Brief<'a> {
        let open = message.each().filter(|(_, _, now)| !now.state.is_final());
        Brief {
            id: message.id,
            size: message.size,
            arrived_unix_s: unix_s(message.arrival.at),
            client: message.arrival.client,
            user: message.arrival.user.as_deref(),
            sender: message.envelope.reverse_path.mailbox().map(Address::of),
            open: open
                .map(|(_, recipient, now)| Open {
                    to: Address::of(&recipient.mailbox),
                    state: now.state,
                    due_unix_s: unix_s(now.next_attempt),
                    last: last(now),
                })
                .collect(),
            ways: match message.detours.is_empty() {
                true => Ways::OfTheirDomains,
                false => Ways::Chosen,
            },
        }
    }

    /// From what the index has of it: the place of its body, the [`Message`], and perhaps more.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<(Place, Brief<'a>)> {
        let ((place, stored), detours) =
            postcard::take_from_bytes::<(Place, Stored)>(bytes).ok()?;
        let Stored {
            id,
            envelope,
            arrival,
            size,
            recipients,
        } = stored;
        let states = recipients.iter();
        let open = envelope.recipients.iter().zip(states);
        let open = open
            .filter(|(_, now)| !now.state.is_final())
            .map(|(recipient, now)| Open {
                to: recipient.mailbox,
                state: now.state,
                due_unix_s: unix_s_of_ms(now.next_attempt_ms),
                last: now.last(),
            })
            .collect();
        let brief = Brief {
            id,
            size,
            arrived_unix_s: unix_s_of_ms(arrival.at_ms),
            client: arrival.client,
            user: arrival.user,
            sender: match envelope.reverse_path {
                Path::Null => None,
                Path::Mailbox(address) => Some(address),
            },
            open,
            // A map begins with how many there are.
            ways: match detours.first() {
                None | Some(0) => Ways::OfTheirDomains,
                Some(_) => Ways::Chosen,
            },
        };
        Some((place, brief))
    }
}

impl<'a> Address<'a> {
    pub(crate) fn of(mailbox: &'a Mailbox) -> Address<'a> {
        Address {
            local_part: mailbox.local_part(),
            host: At::of(mailbox.host()),
        }
    }
}

impl<'a> At<'a> {
    pub(crate) fn of(host: &'a Host) -> At<'a> {
        match host {
            Host::Domain(domain) => At::Domain(domain.as_str()),
            Host::Address(address) => At::Address(*address),
        }
    }
}

fn last(now: &RecipientState) -> Option<(&str, &str)> {
    now.last().map(|l| (l.rule.as_str(), l.category.as_str()))
}

pub(crate) fn unix_s(at: Timestamp) -> u32 {
    u32::try_from(at.as_second().max(0)).unwrap_or(u32::MAX)
}

fn unix_s_of_ms(at_ms: i64) -> u32 {
    u32::try_from((at_ms / 1000).max(0)).unwrap_or(u32::MAX)
}

/// [`Message`], field for field: postcard goes by their order. What is not looked at has to be passed.
#[derive(Deserialize)]
struct Stored<'a> {
    id: QueueId,
    #[serde(borrow)]
    envelope: Envelope<'a>,
    arrival: Arrival<'a>,
    size: u64,
    recipients: Vec<Now<'a>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    reverse_path: Path<'a>,
    recipients: Vec<Recipient<'a>>,
    #[serde(rename = "body_type")]
    _body_type: BodyType,
    #[serde(rename = "flags")]
    _flags: u32,
    #[serde(rename = "ret")]
    _ret: Option<Ret>,
    #[serde(rename = "envid")]
    _envid: Option<&'a str>,
}

#[derive(Deserialize)]
enum Path<'a> {
    Null,
    #[serde(borrow)]
    Mailbox(Address<'a>),
}

#[derive(Deserialize)]
struct Recipient<'a> {
    #[serde(borrow)]
    mailbox: Address<'a>,
    #[serde(rename = "notify")]
    _notify: Option<Notify>,
    #[serde(rename = "orcpt")]
    _orcpt: Option<&'a str>,
}

#[derive(Deserialize)]
struct Arrival<'a> {
    at_ms: i64,
    client: Option<IpAddr>,
    user: Option<&'a str>,
    #[serde(rename = "dsn_of")]
    _dsn_of: Option<QueueId>,
}

#[derive(Deserialize)]
struct Now<'a> {
    state: State,
    #[serde(rename = "attempts")]
    _attempts: u32,
    next_attempt_ms: i64,
    #[serde(borrow)]
    history: Vec<Attempt<'a>>,
    #[serde(rename = "warned")]
    _warned: bool,
}

#[derive(Deserialize)]
struct Attempt<'a> {
    #[serde(rename = "at")]
    _at_ms: i64,
    #[serde(rename = "host")]
    _host: Option<&'a str>,
    #[serde(rename = "tls")]
    _tls: Option<&'a str>,
    #[serde(rename = "phase")]
    _phase: Phase,
    #[serde(rename = "reply")]
    _reply: &'a str,
    category: &'a str,
    #[serde(rename = "action")]
    _action: &'a str,
    rule: &'a str,
}

impl<'a> Now<'a> {
    /// As [`RecipientState::last`].
    fn last(&self) -> Option<(&'a str, &'a str)> {
        let last = match self.state {
            State::Queued | State::Deferred => {
                let mut latest_first = self.history.iter().rev();
                latest_first.find(|attempt| attempt.category != OPERATOR)
            }
            State::Held | State::Delivered | State::Bounced | State::Discarded => {
                self.history.last()
            }
        };
        last.map(|attempt| (attempt.rule, attempt.category))
    }
}

#[cfg(test)]
mod tests {
    use relay_smtp::envelope::{Priority, RequireTls, Utf8, Wanted};
    use relay_smtp::{Envelope, ReversePath};

    use super::*;
    use crate::message::{Arrival as FullArrival, Attempt as FullAttempt, Detour};
    use crate::record::{Spot, to_postcard};

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn attempt(reply: &str) -> FullAttempt {
        FullAttempt {
            at: at(1_800_000_000_123),
            host: Some("mx.example.net [192.0.2.1]".to_owned()),
            tls: None,
            phase: Phase::Rcpt,
            reply: reply.to_owned(),
            category: "greylisted".to_owned(),
            action: "defer".to_owned(),
            rule: "greylisting".to_owned(),
        }
    }

    /// Recipients in every state, and something in every field.
    fn full() -> Message {
        let now = at(1_800_000_001_999);
        let mut states = vec![RecipientState::new(now); 6];
        for state in &mut states[1..] {
            state.record(attempt("450 later"));
            state.state = State::Deferred;
        }
        states[2].hold(now);
        states[3].hold(now);
        states[3].release(now);
        states[4].state = State::Delivered;
        states[5].give_up(now, "no more");
        let to = [
            "a@b.test",
            "c@[192.0.2.7]",
            "d@[IPv6:2001:db8::1]",
            "e@f.test",
        ];
        let to = to.into_iter().chain(["gone@a.test", "lost@a.test"]);
        Message {
            id: QueueId::from_u64(77),
            envelope: Envelope {
                reverse_path: ReversePath::parse("<from+7@x.test>").unwrap(),
                recipients: to
                    .map(|to| relay_smtp::Recipient {
                        mailbox: Mailbox::parse(to).unwrap(),
                        notify: Some(Notify::On {
                            success: Wanted::No,
                            failure: Wanted::Yes,
                            delay: Wanted::Yes,
                        }),
                        orcpt: Some(format!("rfc822;{to}")),
                    })
                    .collect(),
                body_type: BodyType::EightBitMime,
                utf8: Utf8::Required,
                require_tls: RequireTls::Yes,
                priority: Priority::new(-9).unwrap(),
                ret: Some(Ret::Headers),
                envid: Some("QQ314159".to_owned()),
            },
            arrival: FullArrival {
                at: at(1_799_999_999_999),
                client: Some("2001:db8::7".parse().unwrap()),
                user: Some("billing".to_owned()),
                dsn_of: Some(QueueId::from_u64(5)),
            },
            size: 4711,
            recipients: states,
            detours: [(1, Detour::Mx)].into(),
        }
    }

    #[test]
    fn what_is_read_from_the_index_says_the_same_as_the_message() {
        let place = Place {
            segment: 3,
            spot: Spot::At(4096),
            bytes: 4711,
            crc: 9,
        };
        let mut bare = full();
        bare.envelope.reverse_path = ReversePath::Null;
        bare.envelope.recipients.truncate(1);
        bare.recipients.truncate(1);
        bare.arrival.client = None;
        bare.arrival.user = None;
        bare.arrival.dsn_of = None;
        bare.detours.clear();
        for message in [full(), bare] {
            let mut bytes = to_postcard(&(place, &message));
            bytes.extend_from_slice(&to_postcard(&message.detours));
            let found = Brief::read(&bytes).unwrap();
            assert_eq!(found, (place, Brief::of(&message)));
        }
        let message = full();
        let open: Vec<_> = Brief::of(&message).open.iter().map(|o| o.last).collect();
        let last = Some(("greylisting", "greylisted"));
        assert_eq!(open, [None, last, Some(("operator", "operator")), last]);
        let bytes = to_postcard(&(place, &message));
        assert_eq!(Brief::read(&bytes[..bytes.len() - 1]), None);
    }
}
