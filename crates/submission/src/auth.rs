//! Logins: user and password against the configured argon2 hashes, without stopping the sessions
//! of others and without telling a guesser more than "wrong".

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version};
use governor::clock::Clock as _;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use relay_config::User;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::limits::RuntimeClock;

/// The configured users.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<String, Arc<User>>,
    /// Any user's hash: what an unknown user's password is checked against.
    decoy: Option<Arc<User>>,
}

impl Users {
    pub fn new(users: &[User]) -> Users {
        let users: Vec<Arc<User>> = users.iter().cloned().map(Arc::new).collect();
        Users {
            decoy: users.first().cloned(),
            by_name: users.into_iter().map(|u| (u.name.clone(), u)).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// How a login went.
#[derive(Debug)]
pub(crate) enum Verdict {
    Right(Arc<User>),
    /// User or password: which of them is nobody's business.
    Wrong,
    /// Nothing was checked: too many failures from this address, for so long still.
    Blocked(Duration),
}

/// How long a login that was right is remembered. argon2 takes tens of milliseconds by design, and
/// many applications log in anew for each message: without memory a few of them keep all cores
/// busy with hashing. A changed password is asked for at once all the same, since the entry is
/// good only for the hash that it was checked against.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// Failures of one address that draw no block, and the time after which one more is forgiven.
const FAILURES_MAX: NonZeroU32 = NonZeroU32::new(20).expect("20 is not 0");
const FORGIVEN_AFTER: Duration = Duration::from_secs(15);

/// Addresses whose failures are kept; beyond it the stale ones are dropped first.
const ADDRESSES_KEPT: usize = 10_000;

type Failures = RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, RuntimeClock>;

/// Checks logins for all sessions.
pub(crate) struct Logins {
    /// One argon2 computation a permit: each takes a core and some 20 MiB.
    permits: Arc<Semaphore>,
    /// By user name, so never more entries than there are users.
    remembered: Mutex<HashMap<String, Remembered>>,
    /// Drawn at start and never shown: without it the remembered digests say nothing.
    salt: [u8; 16],
    failures: Failures,
    blocked: Mutex<HashMap<IpAddr, Instant>>,
}

struct Remembered {
    password_hash: String,
    digest: [u8; 32],
    until: Instant,
}

impl Logins {
    pub(crate) fn new() -> Logins {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let quota = Quota::with_period(FORGIVEN_AFTER).expect("15 s is not 0");
        let quota = quota.allow_burst(FAILURES_MAX);
        Logins {
            permits: Arc::new(Semaphore::new(cores.clamp(1, 4))),
            remembered: Mutex::default(),
            salt: rand::random(),
            failures: RateLimiter::new(quota, DefaultKeyedStateStore::default(), RuntimeClock),
            blocked: Mutex::default(),
        }
    }

    /// Forgets all logins that were right.
    pub(crate) fn forget(&self) {
        lock(&self.remembered).clear();
    }

    /// An unknown user takes as long as a wrong password.
    pub(crate) async fn check(
        &self,
        users: &Users,
        client: IpAddr,
        user: &str,
        password: &str,
    ) -> Verdict {
        let known = users.by_name.get(user);
        let digest = self.digest(password);
        if let Some(user) = known.filter(|user| self.remembers(user, &digest)) {
            return Verdict::Right(Arc::clone(user));
        }
        if let Some(wait) = self.blocked_for(client) {
            return Verdict::Blocked(wait);
        }
        let Some(against) = known.or(users.decoy.as_ref()) else {
            return Verdict::Wrong;
        };
        let fits = self.verify(against, password).await;
        match (known, fits) {
            (Some(user), Fits::Yes) => {
                self.remember(user, digest);
                Verdict::Right(Arc::clone(user))
            }
            (Some(_) | None, Fits::No) | (None, Fits::Yes) => {
                self.count_failure(client);
                Verdict::Wrong
            }
        }
    }

    /// On a thread for blocking work, a few at a time.
    async fn verify(&self, user: &Arc<User>, password: &str) -> Fits {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Fits::No;
        };
        let (user, password) = (Arc::clone(user), password.to_owned());
        let check = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let Ok(hash) = PasswordHash::new(&user.password_hash) else {
                return Fits::No;
            };
            match Argon2::default().verify_password(password.as_bytes(), &hash) {
                Ok(()) => Fits::Yes,
                Err(_) => Fits::No,
            }
        });
        check.await.unwrap_or(Fits::No)
    }

    /// argon2 at its smallest, some microseconds: it keeps the password itself out of memory, while
    /// the strength against guessing is that of the salt, which never leaves the process.
    fn digest(&self, password: &str) -> [u8; 32] {
        let mut digest = [0; 32];
        let params = Params::new(Params::MIN_M_COST, 1, 1, Some(32)).unwrap_or_default();
        let fast = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        match fast.hash_password_into(password.as_bytes(), &self.salt, &mut digest) {
            Ok(()) => digest,
            // Only a password of 4 GiB is refused, and no line holds one; drawn at random, the
            // digest is like no other.
            Err(_) => rand::random(),
        }
    }

    fn remembers(&self, user: &User, digest: &[u8; 32]) -> bool {
        lock(&self.remembered).get(&user.name).is_some_and(|entry| {
            entry.digest == *digest
                && entry.password_hash == user.password_hash
                && entry.until > Instant::now()
        })
    }

    fn remember(&self, user: &User, digest: [u8; 32]) {
        let entry = Remembered {
            password_hash: user.password_hash.clone(),
            digest,
            until: Instant::now() + REMEMBERED,
        };
        lock(&self.remembered).insert(user.name.clone(), entry);
    }

    fn blocked_for(&self, client: IpAddr) -> Option<Duration> {
        let now = Instant::now();
        let until = *lock(&self.blocked).get(&counted_as(client))?;
        (until > now).then(|| until - now)
    }

    /// Loopback is never blocked: one local application with an old password would take the
    /// others with it.
    fn count_failure(&self, client: IpAddr) {
        if client.is_loopback() {
            return;
        }
        let address = counted_as(client);
        if self.failures.len() > ADDRESSES_KEPT {
            self.failures.retain_recent();
        }
        let Err(until) = self.failures.check_key(&address) else {
            return;
        };
        let now = Instant::now();
        let wait = until.wait_time_from(RuntimeClock.now());
        let mut blocked = lock(&self.blocked);
        if blocked.len() > ADDRESSES_KEPT {
            blocked.retain(|_, until| *until > now);
        }
        blocked.insert(address, now + wait);
    }
}

/// Whether the password is the one of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
}

/// An IPv6 host has a whole /64 to change its address in.
fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::user;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    async fn check(logins: &Logins, users: &Users, name: &str, password: &str) -> &'static str {
        match logins.check(users, CLIENT, name, password).await {
            Verdict::Right(user) if user.name == name => "right",
            Verdict::Right(_) => "somebody else",
            Verdict::Wrong => "wrong",
            Verdict::Blocked(_) => "blocked",
        }
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_logs_in() {
        let logins = Logins::new();
        let users = Users::new(&[user("app", "secret"), user("other", "hidden")]);
        for (name, password, verdict) in [
            ("app", "secret", "right"),
            ("app", "secret", "right"),
            ("app", "Secret", "wrong"),
            ("app", "", "wrong"),
            ("app", "hidden", "wrong"),
            ("other", "hidden", "right"),
            ("nobody", "secret", "wrong"),
            ("", "", "wrong"),
        ] {
            assert_eq!(
                check(&logins, &users, name, password).await,
                verdict,
                "{name} {password}"
            );
        }
    }

    #[tokio::test]
    async fn a_changed_password_is_asked_for_at_once() {
        let logins = Logins::new();
        let before = Users::new(&[user("app", "old")]);
        let after = Users::new(&[user("app", "new")]);
        assert_eq!(check(&logins, &before, "app", "old").await, "right");
        assert_eq!(check(&logins, &after, "app", "old").await, "wrong");
        assert_eq!(check(&logins, &after, "app", "new").await, "right");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_failures_block_an_address_for_a_while_but_not_who_is_remembered() {
        let logins = Logins::new();
        let users = Users::new(&[user("app", "secret"), user("late", "comer")]);
        assert_eq!(check(&logins, &users, "app", "secret").await, "right");
        for _ in 0..=FAILURES_MAX.get() {
            assert_eq!(check(&logins, &users, "app", "guess").await, "wrong");
        }
        assert_eq!(check(&logins, &users, "late", "comer").await, "blocked");
        assert_eq!(check(&logins, &users, "app", "secret").await, "right");
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
        let verdict = logins.check(&users, elsewhere, "late", "comer").await;
        assert!(matches!(verdict, Verdict::Right(_)));
        logins.forget();
        tokio::time::advance(FORGIVEN_AFTER).await;
        assert_eq!(check(&logins, &users, "late", "comer").await, "right");
    }

    #[test]
    fn an_ipv6_host_is_counted_by_its_network() {
        let network = |text: &str| counted_as(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), CLIENT);
    }
}
