//! Fairness when space is short: who holds how much of the queue, and whether one more of his fits,
//! so that a sender that runs away, or a site that is dead, does not lock everybody else out.
//!
//! One party (a sender, or a domain of recipients) may hold at most a share of what it holds and what
//! is left together. With 90 % a sender that is alone comes to a stand when a tenth is left, which is
//! there for the others; with n such senders 1/(9n + 1) is left. So a newcomer always finds room, and
//! nobody need know how many parties there are. A fixed share for each was rejected: most queues have
//! one large sender, and it would get a fraction of an empty queue.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use relay_smtp::Host;

use crate::brief::{At, Brief};

/// Who hands mail in, as far as shares go: the user, or the client's address where nobody logged in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    User(String),
    /// IPv6 by its /64: one customer has that many.
    Client(IpAddr),
    /// relayctl, and relayd's own reports: not held to a share.
    Ours,
}

impl Sender {
    pub fn of(user: Option<&str>, client: Option<IpAddr>) -> Sender {
        match (user, client) {
            (Some(user), _) => Sender::User(user.to_owned()),
            (None, Some(client)) => Sender::Client(network(client)),
            (None, None) => Sender::Ours,
        }
    }
}

impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sender::User(name) => write!(f, "user {name}"),
            Sender::Client(address) => write!(f, "client {address}"),
            Sender::Ours => f.write_str("relayd itself"),
        }
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// What a party has in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What every party has in the queue; those that have nothing are left out. By a keyed hash of the
/// name, since there may be as many domains as messages: two that fall together share, which a
/// stranger cannot bring about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parties {
    held: HashMap<u64, Holding>,
    key: RandomState,
}

/// Keeps a sender and a domain of the same name apart.
#[derive(Hash)]
enum Party<'a> {
    Sender(&'a Sender),
    Domain(At<'a>),
}

impl Parties {
    /// What the sender has in the queue.
    pub(crate) fn of_sender(&self, sender: &Sender) -> Holding {
        self.find(&Party::Sender(sender))
    }

    /// What waits for the domain.
    pub(crate) fn of_domain(&self, domain: &Host) -> Holding {
        self.find(&Party::Domain(At::of(domain)))
    }

    pub(crate) fn add(&mut self, message: &Brief<'_>) {
        for party in self.parties(message) {
            let holding = self.held.entry(party).or_default();
            holding.messages += 1;
            holding.bytes += message.size;
        }
    }

    /// `message` as it was when it was added.
    pub(crate) fn remove(&mut self, message: &Brief<'_>) {
        for party in self.parties(message) {
            let Some(holding) = self.held.get_mut(&party) else {
                continue;
            };
            holding.messages = holding.messages.saturating_sub(1);
            holding.bytes = holding.bytes.saturating_sub(message.size);
            if holding.messages == 0 {
                self.held.remove(&party);
            }
        }
    }

    /// Its sender and the domains that it still waits for, each once however many recipients are there.
    fn parties(&self, message: &Brief<'_>) -> Vec<u64> {
        let sender = Sender::of(message.user, message.client);
        let waiting = message.open.iter();
        let mut parties: Vec<u64> = waiting
            .map(|open| self.hash(&Party::Domain(open.to.host)))
            .collect();
        parties.push(self.hash(&Party::Sender(&sender)));
        parties.sort_unstable();
        parties.dedup();
        parties
    }

    fn find(&self, party: &Party<'_>) -> Holding {
        self.held
            .get(&self.hash(party))
            .copied()
            .unwrap_or_default()
    }

    fn hash(&self, party: &Party<'_>) -> u64 {
        self.key.hash_one(party)
    }
}

/// Whether a party that holds so much may have more, where so much is left.
pub(crate) fn within_share(held: u64, left: u64, percent: u8) -> bool {
    let (held, left, percent) = (u128::from(held), u128::from(left), u128::from(percent));
    percent >= 100 || held * (100 - percent) <= left * percent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::State;
    use crate::message::{Arrival, Message, RecipientState};
    use jiff::Timestamp;
    use relay_smtp::{BodyType, Domain, Envelope, Mailbox, QueueId, Recipient, ReversePath};

    fn host(domain: &str) -> Host {
        Host::Domain(Domain::parse(domain).unwrap())
    }

    fn message(user: &str, to: &[&str], size: u64) -> Message {
        let at = Timestamp::UNIX_EPOCH;
        let recipients: Vec<_> = to
            .iter()
            .map(|to| Recipient::plain(Mailbox::parse(to).unwrap()))
            .collect();
        Message {
            detours: Default::default(),
            id: QueueId::from_u64(1),
            size,
            recipients: vec![RecipientState::new(at); recipients.len()],
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                recipients,
                body_type: BodyType::SevenBit,
                utf8: Default::default(),
                require_tls: Default::default(),
                priority: Default::default(),
                ret: None,
                envid: None,
            },
            arrival: Arrival {
                at,
                client: Some(IpAddr::from([192, 0, 2, 1])),
                user: Some(user.to_owned()),
                dsn_of: None,
            },
        }
    }

    #[test]
    fn a_message_counts_once_for_its_sender_and_for_each_domain_that_it_waits_for() {
        let mut parties = Parties::default();
        let app = Sender::of(Some("app"), None);
        let mut message = message("app", &["a@one.test", "b@one.test", "c@two.test"], 100);
        parties.add(&Brief::of(&message));
        parties.add(&Brief::of(&message));
        let both = Holding {
            messages: 2,
            bytes: 200,
        };
        assert_eq!(parties.of_sender(&app), both);
        assert_eq!(parties.of_domain(&host("ONE.test")), both);
        assert_eq!(parties.of_domain(&host("two.test")), both);
        assert_eq!(parties.of_domain(&host("app")), Holding::default());
        parties.remove(&Brief::of(&message));
        message.recipients[2].state = State::Delivered;
        parties.add(&Brief::of(&message));
        assert_eq!(parties.of_domain(&host("two.test")).messages, 1);
        assert_eq!(parties.of_sender(&app), both);
        parties.remove(&Brief::of(&message));
        message.recipients[2].state = State::Queued;
        parties.remove(&Brief::of(&message));
        assert_eq!(parties.held.len(), 0, "nobody is kept who has nothing");
    }

    #[test]
    fn who_did_not_log_in_is_known_by_address_and_ipv6_by_its_network() {
        let v6 = |text: &str| Sender::of(None, Some(text.parse().unwrap()));
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::2:3"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(v6("::ffff:192.0.2.1"), v6("192.0.2.1"));
        assert_ne!(v6("192.0.2.1"), v6("192.0.2.2"));
    }

    /// Lets senders fill a queue of so many messages, in turns; tells what each holds in the end.
    fn fill(room: u64, senders: usize, percent: u8) -> Vec<u64> {
        let mut held = vec![0; senders];
        loop {
            let before = held.clone();
            for sender in 0..senders {
                let left = room - held.iter().sum::<u64>();
                if left > 0 && within_share(held[sender], left, percent) {
                    held[sender] += 1;
                }
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn a_sender_alone_leaves_a_tenth_and_several_share_evenly_and_leave_some() {
        let alone = fill(1000, 1, 90)[0];
        assert!((900..=901).contains(&alone), "{alone}");
        let three = fill(1000, 3, 90);
        assert!(three.iter().all(|held| held.abs_diff(321) < 3), "{three:?}");
        assert!(within_share(0, 1, 90), "a newcomer finds room to the last");
        assert_eq!(fill(1000, 1, 100), [1000], "100 % is no limit");
        assert_eq!(fill(1000, 1, 50)[0].abs_diff(500), 1);
    }

    #[test]
    fn whoever_came_first_gives_way_as_his_mail_goes() {
        // The first holds 900 of 1000; another takes 90: the first gets nothing more until he holds
        // less than nine times of what is left.
        assert!(!within_share(900, 10, 90));
        assert!(within_share(90, 10, 90));
        assert!(within_share(100, 810, 90));
    }
}
