//! Who may send what: session counts, trust, what a user may say in MAIL FROM, and users' rates.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};

use governor::clock::Clock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use relay_config::{Listener, Rate, Submission, User};
use relay_smtp::server::reply;
use relay_smtp::{Host, Mailbox, Reply, ReversePath};
use tokio::time::Instant;

/// Sessions at once, all listeners together.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    total: u32,
    /// Without loopback; addresses without a session have no entry.
    by_address: HashMap<IpAddr, u32>,
}

/// Why a client is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooManySessions,
    TooManyFromAddress,
    /// The queue says why.
    NoSpace(String),
}

impl Refusal {
    pub(crate) fn reply(&self) -> Reply {
        match self {
            Refusal::NoSpace(why) => reply(421, 3, 2, why.as_str()),
            Refusal::TooManySessions => reply(421, 3, 2, "too many sessions, try again later"),
            Refusal::TooManyFromAddress => reply(421, 7, 0, "too many sessions from your address"),
        }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::NoSpace(_) => "the disk is nearly full",
            Refusal::TooManySessions => "submission.sessions_max reached",
            Refusal::TooManyFromAddress => "submission.sessions_per_address_max reached",
        }
    }
}

/// A session's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    counts: Arc<Counts>,
    /// None: loopback.
    address: Option<IpAddr>,
}

impl Counts {
    pub(crate) fn admit(
        self: &Arc<Counts>,
        client: IpAddr,
        limits: &Submission,
    ) -> Result<Place, Refusal> {
        let mut inner = self.lock();
        if inner.total >= limits.sessions_max {
            return Err(Refusal::TooManySessions);
        }
        let client = client.to_canonical();
        let address = (!client.is_loopback()).then_some(client);
        if let Some(address) = address {
            let sessions = inner.by_address.entry(address).or_default();
            // An entry is never left at 0: the limit is 1 at least, else nobody could send.
            if *sessions >= limits.sessions_per_address_max.max(1) {
                return Err(Refusal::TooManyFromAddress);
            }
            *sessions += 1;
        }
        inner.total += 1;
        Ok(Place {
            counts: Arc::clone(self),
            address,
        })
    }

    pub(crate) fn total(&self) -> u32 {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.counts.lock();
        inner.total = inner.total.saturating_sub(1);
        let Some(address) = self.address else { return };
        if let Some(sessions) = inner.by_address.get_mut(&address) {
            *sessions = sessions.saturating_sub(1);
            if *sessions == 0 {
                inner.by_address.remove(&address);
            }
        }
    }
}

/// Whether mail of this client may go anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    Trusted,
    Stranger,
}

/// By the listener's networks alone. A unix socket counts as 127.0.0.1.
pub(crate) fn trust_of(client: IpAddr, listener: &Listener) -> Trust {
    let client = client.to_canonical();
    match listener.trusted.iter().any(|net| net.contains(&client)) {
        true => Trust::Trusted,
        false => Trust::Stranger,
    }
}

/// Whether a user may say this in MAIL FROM. The null path is for those without a list, or with
/// `<>` in it: nobody's own domain stands in it.
pub(crate) fn may_send_as(user: &User, path: &ReversePath) -> Result<(), Reply> {
    let listed = |pattern: &String| match path {
        ReversePath::Null => pattern == "<>",
        ReversePath::Mailbox(mailbox) => fits(pattern, mailbox),
    };
    if user.senders.is_empty() || user.senders.iter().any(listed) {
        return Ok(());
    }
    let text = format!("user {} may not send as {path}", user.name);
    Err(reply(550, 7, 1, text))
}

/// `*@domain`, or a whole address: domains in any case, local parts exactly (RFC 5321 section 2.4).
fn fits(pattern: &str, mailbox: &Mailbox) -> bool {
    match pattern.strip_prefix("*@") {
        Some(domain) => match mailbox.host() {
            Host::Domain(host) => {
                host.as_str().eq_ignore_ascii_case(domain)
                    || host.to_ascii().eq_ignore_ascii_case(domain)
            }
            Host::Address(_) => mailbox.host().to_string() == domain,
        },
        None => Mailbox::parse(pattern).is_ok_and(|allowed| allowed == *mailbox),
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, RuntimeClock>;

/// One limiter for each user who has a rate.
#[derive(Debug)]
pub(crate) struct UserRates {
    by_name: HashMap<String, Limiter>,
}

impl UserRates {
    pub(crate) fn new(users: &[User]) -> UserRates {
        let limited = users.iter().filter_map(|user| {
            let limiter = RateLimiter::direct_with_clock(quota(user.rate?)?, RuntimeClock);
            Some((user.name.clone(), limiter))
        });
        UserRates {
            by_name: limited.collect(),
        }
    }

    /// Counts one message.
    pub(crate) fn count(&self, user: &User) -> Result<(), Reply> {
        let Some(limiter) = self.by_name.get(&user.name) else {
            return Ok(());
        };
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(RuntimeClock.now()).as_secs() + 1;
            let name = &user.name;
            let text = format!("user {name} sends too fast, try again in {wait} s");
            reply(450, 7, 1, text)
        })
    }
}

/// All of the count may come at once; it grows back evenly. None: the rate is no limit.
fn quota(rate: Rate) -> Option<Quota> {
    let count = NonZeroU32::new(rate.count)?;
    Some(Quota::with_period(rate.per / count.get())?.allow_burst(count))
}

/// The runtime's time for governor, so that a test's paused clock holds for the limits too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = std::time::Instant;

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Relay, user};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn sessions_are_counted_in_all_and_by_address_but_loopback_only_in_all() {
        let relay = Relay::new("[submission]\nsessions_max = 4\nsessions_per_address_max = 1");
        let limits = &relay.world.settings.load().submission;
        let counts = Arc::new(Counts::default());
        let one = counts.admit(ip("192.0.2.1"), limits).expect("the first");
        let again = counts.admit(ip("::ffff:192.0.2.1"), limits);
        assert_eq!(again.map(drop), Err(Refusal::TooManyFromAddress));
        let _two = counts.admit(ip("192.0.2.2"), limits).expect("another");
        let _local = [(); 2].map(|()| counts.admit(ip("::1"), limits).expect("loopback"));
        let full = counts.admit(ip("127.0.0.1"), limits);
        assert_eq!(full.map(drop), Err(Refusal::TooManySessions));
        drop(one);
        assert_eq!(counts.total(), 3);
        let one = counts.admit(ip("192.0.2.1"), limits);
        assert!(one.is_ok());
    }

    #[tokio::test]
    async fn trust_is_by_network_also_for_ipv4_in_ipv6_clothes() {
        let relay = Relay::new(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"10.0.0.0/8\", \"2001:db8::/64\"]",
        );
        for (client, trust) in [
            ("10.1.2.3", Trust::Trusted),
            ("::ffff:10.1.2.3", Trust::Trusted),
            ("2001:db8::9", Trust::Trusted),
            ("127.0.0.1", Trust::Stranger),
            ("11.0.0.1", Trust::Stranger),
            ("2001:db8:0:1::9", Trust::Stranger),
        ] {
            assert_eq!(trust_of(ip(client), &relay.listener), trust, "{client}");
        }
    }

    #[test]
    fn a_listed_user_may_send_as_null_only_where_that_is_listed() {
        let mut app = user("app", "secret");
        assert!(may_send_as(&app, &ReversePath::Null).is_ok());
        app.senders = vec!["*@b\u{fc}cher.example".to_owned()];
        assert!(may_send_as(&app, &ReversePath::Null).is_err());
        for sender in ["a@b\u{fc}cher.example", "a@B\u{fc}cher.Example"] {
            let mailbox = Mailbox::parse(sender).expect("a mailbox");
            assert!(
                may_send_as(&app, &ReversePath::Mailbox(mailbox)).is_ok(),
                "{sender}"
            );
        }
        app.senders.push("<>".to_owned());
        assert!(may_send_as(&app, &ReversePath::Null).is_ok());
    }
}
