//! Opening a session with one host: dial, TLS from the first byte or by STARTTLS, EHLO, AUTH, until
//! it is ready for a message. Which host is next is not decided here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use relay_config::{Config, PrivateAddresses};
use relay_oauth::NoToken;
use relay_policy::{TlsInUse, TlsRequirement};
use relay_route::Candidate;
use relay_route::next_hop::TlsStart;
use relay_schedule::SourceChoice;
use relay_smtp::client::{Chunking, ClearAuth, End, Pipelining, Setup, TlsPlan};
use relay_smtp::{Failure, NextHop, Phase};
use relay_tlsrpt::ResultType;
use rustls_pki_types::ServerName;
use tokio::time::timeout;

use crate::dial::{Stream, is_private};
use crate::guard::Guard;
use crate::login::{Credentials, credentials};
use crate::settle::Said;
use crate::tls::{Agreed, Check, TlsError};
use crate::tls_report::{Applied, By, Fault, Measured};
use crate::trace::{Tap, Watched};
use crate::wire::{Pause, Wire};
use crate::world::World;

/// A session that is ready for messages, or was.
pub(crate) struct Peer {
    pub wire: Wire,
    /// The name of the host, or `[address]`.
    pub host: String,
    pub address: SocketAddr,
    /// The local address; None: the kernel chose.
    pub source: Option<IpAddr>,
    /// What was agreed; None: in clear.
    pub tls: Option<String>,
    /// What it has proved.
    pub guard: Guard,
    /// The host, as its next hop named it.
    pub candidate: Candidate,
    /// Transactions that came to their end in this session.
    pub messages: u32,
    /// Recipients' domains it has been told of, where the host limits their number.
    pub domains: BTreeSet<String>,
}

impl Peer {
    /// As in `queue show`: `mx1.example.net [192.0.2.1]`.
    pub fn host_text(&self) -> String {
        host_text(&self.host, self.address.ip())
    }

    pub fn tls_in_use(&self) -> TlsInUse {
        match self.tls {
            None => TlsInUse::No,
            Some(_) => TlsInUse::Yes,
        }
    }
}

fn host_text(host: &str, address: IpAddr) -> String {
    match host.starts_with('[') {
        true => host.to_owned(),
        false => format!("{host} [{address}]"),
    }
}

/// Why a host could not be used.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub phase: Phase,
    pub said: Said,
    /// None: no host was reached for.
    pub host: Option<String>,
    /// From where; None: the kernel chose, or it did not come to that.
    pub source: Option<IpAddr>,
    pub tls: Option<String>,
}

/// What is asked of one host.
pub(crate) struct Target<'a> {
    pub world: &'a World,
    pub config: &'a Config,
    pub hop: &'a NextHop,
    pub candidate: &'a Candidate,
    pub address: SocketAddr,
    pub guard: Guard,
    /// By whose word.
    pub applied: Applied,
    /// The local address, from [`source_for`].
    pub source: Option<IpAddr>,
    /// Where somebody watches.
    pub tap: Option<Tap>,
}

/// The local address for a session with this host. Err: each that could reach it is suspended.
pub(crate) fn source_for(
    all: &[IpAddr],
    choice: &SourceChoice,
    address: IpAddr,
    rng: &mut StdRng,
) -> Result<Option<IpAddr>, AllSuspended> {
    let fitting = |source: &&IpAddr| source.is_ipv4() == address.is_ipv4();
    let fitting: Vec<&IpAddr> = all.iter().filter(fitting).collect();
    if fitting.is_empty() {
        return Ok(None);
    }
    if let Some(wanted) = choice.prefer
        && fitting.contains(&&wanted)
    {
        return Ok(Some(wanted));
    }
    let allowed = |source: &&&IpAddr| !choice.avoid.contains(source);
    let allowed: Vec<&IpAddr> = fitting.iter().filter(allowed).copied().collect();
    match allowed.choose(rng) {
        Some(source) => Ok(Some(**source)),
        None => Err(AllSuspended),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AllSuspended;

impl Target<'_> {
    /// Opens the session. Opportunistic TLS whose handshake fails is answered by a new connection
    /// in clear, and the host is remembered: nothing weaker than required comes of it.
    pub async fn open(&self) -> Result<Peer, Refusal> {
        self.check_address()?;
        let login = credentials(self.world, self.config, self.hop).await;
        let login =
            login.map_err(|NoToken(words)| self.refusal(Phase::Auth, Failure::NoToken, words))?;
        let refusal = match self.open_as(login.as_ref()).await {
            Ok(peer) => return Ok(peer),
            Err(refusal) => refusal,
        };
        let again = match login {
            Some(login) => login.after(&refusal, self.world).await,
            None => None,
        };
        match again {
            Some(login) => self.open_as(Some(&login)).await,
            None => Err(refusal),
        }
    }

    async fn open_as(&self, login: Option<&Credentials<'_>>) -> Result<Peer, Refusal> {
        let plan = self.plan();
        let opened = self.open_with(plan, login).await;
        self.note(plan, &opened);
        match (opened, plan) {
            (Ok(opened), _) => Ok(opened.peer),
            (Err(OpenError::Refused(refusal)), _) => Err(refusal),
            (Err(OpenError::Tls(error)), TlsPlan::IfOffered) => {
                let host = self.host_text();
                tracing::info!(host, "{}; trying again in clear", error.words);
                self.world
                    .tls
                    .remember_plain(&self.candidate.host, self.world.clock.now());
                match self.open_with(TlsPlan::Never, login).await {
                    Ok(opened) => Ok(opened.peer),
                    Err(error) => Err(self.refusal_of(error)),
                }
            }
            (
                Err(error @ OpenError::Tls(_)),
                TlsPlan::Never | TlsPlan::Require | TlsPlan::AlreadyOn,
            ) => Err(self.refusal_of(error)),
        }
    }

    /// For the reports. A session that was never to have TLS, or that failed for another reason, is none.
    fn note(&self, plan: TlsPlan, opened: &Result<Opened, OpenError>) {
        if plan == TlsPlan::Never {
            return;
        }
        let measured = Measured {
            world: self.world,
            hop: self.hop,
            applied: &self.applied,
            host: &self.candidate.host,
            address: Some(self.address),
            source: self.source,
        };
        match opened {
            Ok(opened) if opened.peer.tls.is_none() => measured.note(Some(Fault {
                result: ResultType::StarttlsNotSupported,
                words: "STARTTLS is not offered".to_owned(),
            })),
            Ok(opened) => {
                let unnamed = self.applied.unnamed(&self.candidate.host);
                measured.note(unnamed.or_else(|| opened.observed.clone()));
            }
            Err(OpenError::Tls(error)) => measured.note(Some(Fault {
                result: error.result,
                words: error.words.clone(),
            })),
            Err(OpenError::Refused(refusal)) if refusal.tls.is_some() => measured.note(None),
            Err(OpenError::Refused(refusal)) => measured.note_refusal(refusal),
        }
    }

    fn plan(&self) -> TlsPlan {
        let plain = || {
            let now = self.world.clock.now();
            self.world.tls.is_plain(&self.candidate.host, now)
        };
        match (self.candidate.tls, &self.guard) {
            (TlsStart::Implicit, _) => TlsPlan::AlreadyOn,
            (TlsStart::Starttls, Guard::Clear) => TlsPlan::Never,
            (TlsStart::Starttls, Guard::IfOffered) if plain() => TlsPlan::Never,
            (TlsStart::Starttls, Guard::IfOffered) => TlsPlan::IfOffered,
            (TlsStart::Starttls, Guard::Encrypted | Guard::Named | Guard::Sts | Guard::Dane(_)) => {
                TlsPlan::Require
            }
        }
    }

    async fn open_with(
        &self,
        plan: TlsPlan,
        login: Option<&Credentials<'_>>,
    ) -> Result<Opened, OpenError> {
        self.tap.tell(|tap| {
            tap.connection(match self.source {
                Some(source) => format!("to {} from {source}", self.called()),
                None => format!("to {}", self.called()),
            });
        });
        let mut stream = self.dial().await?;
        let mut tls = None;
        let mut observed = None;
        if plan == TlsPlan::AlreadyOn {
            let (encrypted, agreed) = self.handshake(stream).await.map_err(OpenError::Tls)?;
            self.tap.tell(|tap| tap.connection(agreed.words.clone()));
            (stream, tls, observed) = (encrypted, Some(agreed.words), agreed.observed);
        }
        let timeouts = self.config.delivery.timeouts.clone();
        let setup = self.setup(plan, login);
        let mut wire = Wire::new(stream, setup, timeouts, self.tap.clone());
        loop {
            match wire.run().await {
                Pause::Ready => break,
                Pause::StartTls => {
                    let handshake = wire.encrypt(|stream| self.handshake(stream));
                    let (encrypted, agreed) = handshake.await.map_err(OpenError::Tls)?;
                    (wire, tls, observed) = (encrypted, Some(agreed.words), agreed.observed);
                }
                Pause::Over => return Err(OpenError::Refused(self.refusal_by(&wire, tls))),
            }
        }
        let guard = match (&tls, &self.guard) {
            (None, _) => Guard::Clear,
            (Some(_), Guard::Clear | Guard::IfOffered | Guard::Encrypted) => Guard::Encrypted,
            (Some(_), Guard::Named | Guard::Sts | Guard::Dane(_)) => self.guard.clone(),
        };
        let peer = Peer {
            wire,
            host: self.candidate.host.clone(),
            address: self.address,
            source: self.source,
            tls,
            guard,
            candidate: self.candidate.clone(),
            messages: 0,
            domains: BTreeSet::new(),
        };
        Ok(Opened { peer, observed })
    }

    /// The sender of a message chooses its recipients' domains, and so whose MX records are asked:
    /// they must not lead into our own network. A relay was chosen by the operator.
    pub fn check_address(&self) -> Result<(), Refusal> {
        let allowed = match (self.hop, self.config.delivery.private_addresses) {
            (NextHop::Relay(_), _) | (_, PrivateAddresses::Allowed) => true,
            (NextHop::Domain(_) | NextHop::Address(_), PrivateAddresses::Refused) => false,
        };
        if allowed || !is_private(self.address.ip()) {
            return Ok(());
        }
        let words = format!(
            "{} is a private address, which delivery.private_addresses does not allow",
            self.host_text()
        );
        Err(self.refusal(Phase::Connect, Failure::Unreachable, words))
    }

    async fn dial(&self) -> Result<Box<dyn Stream>, OpenError> {
        let limit = self.config.delivery.timeouts.connect;
        let dialing = self
            .world
            .dialer
            .dial(&self.candidate.host, self.address, self.source);
        let (failure, words) = match timeout(limit, dialing).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => (error.failure, error.words),
            Err(_) => (
                Failure::TimedOut,
                format!(
                    "connecting to {} port {}: no answer within {} s",
                    self.host_text(),
                    self.address.port(),
                    limit.as_secs()
                ),
            ),
        };
        Err(OpenError::Refused(self.refusal(
            Phase::Connect,
            failure,
            words,
        )))
    }

    /// The handshake, within the time of phase starttls: a stalled one counts as failed.
    async fn handshake(
        &self,
        stream: Box<dyn Stream>,
    ) -> Result<(Box<dyn Stream>, Agreed), TlsError> {
        let literal = ServerName::IpAddress(self.address.ip().into());
        let name = match &self.guard {
            // The base domain of the records, which aliases may have led to (RFC 7672 section 8.1).
            Guard::Dane(dane) => dane.base(),
            Guard::Clear | Guard::IfOffered | Guard::Encrypted | Guard::Named | Guard::Sts => {
                &self.candidate.host
            }
        };
        let name = match name.starts_with('[') {
            true => literal,
            false => ServerName::try_from(name.to_owned()).unwrap_or(literal),
        };
        let limit = self.config.delivery.timeouts.starttls;
        let check = match self.guard.check() {
            Check::Nothing if self.applied.is_testing() => Check::Observed,
            check => check,
        };
        let handshake = self.world.tls.handshake(stream, name, &check);
        timeout(limit, handshake).await.unwrap_or_else(|_| {
            Err(TlsError {
                failure: Failure::TlsHandshake,
                words: format!("TLS handshake: not finished within {} s", limit.as_secs()),
                result: ResultType::ValidationFailure,
            })
        })
    }

    fn setup(&self, tls: TlsPlan, login: Option<&Credentials<'_>>) -> Setup {
        let route = match self.hop {
            NextHop::Relay(name) => self.config.route(name),
            NextHop::Domain(_) | NextHop::Address(_) => None,
        };
        // `tls = "none"` beside a password is the operator's word, and on loopback nobody listens.
        let in_clear = route.is_some_and(|route| route.tls == TlsRequirement::None)
            || self.address.ip().is_loopback();
        Setup {
            hostname: self.config.ehlo_name(self.source).to_owned(),
            tls,
            login: login.map(Credentials::login),
            clear_auth: match in_clear {
                true => ClearAuth::Allowed,
                false => ClearAuth::Never,
            },
            pipelining: match self.config.delivery.pipelining {
                relay_config::Pipelining::WhereOffered => Pipelining::WhereOffered,
                relay_config::Pipelining::Never => Pipelining::Never,
            },
            chunking: match self.config.delivery.chunking {
                relay_config::Chunking::WhereOffered => {
                    let now = self.world.clock.now();
                    self.world.hosts.chunking(&self.candidate.host, now)
                }
                relay_config::Chunking::Never => Chunking::Never,
            },
        }
    }

    fn called(&self) -> String {
        format!("{} port {}", self.host_text(), self.address.port())
    }

    fn host_text(&self) -> String {
        host_text(&self.candidate.host, self.address.ip())
    }

    pub fn refusal(&self, phase: Phase, failure: Failure, words: String) -> Refusal {
        Refusal {
            phase,
            said: Said::Failure { failure, words },
            host: Some(self.host_text()),
            source: self.source,
            tls: None,
        }
    }

    fn refusal_of(&self, error: OpenError) -> Refusal {
        match error {
            OpenError::Refused(refusal) => refusal,
            OpenError::Tls(error) => {
                let said = Said::Failure {
                    failure: error.failure,
                    words: error.words,
                };
                Refusal {
                    said: self.asked_by(said),
                    ..self.refusal(Phase::Starttls, error.failure, String::new())
                }
            }
        }
    }

    fn refusal_by(&self, wire: &Wire, tls: Option<String>) -> Refusal {
        let (phase, said) = said_by(wire);
        Refusal {
            phase,
            said: self.asked_by(said),
            host: Some(self.host_text()),
            source: self.source,
            tls,
        }
    }

    /// Says with a want of TLS whose word it is that there be some: that is who can change it.
    fn asked_by(&self, said: Said) -> Said {
        let by = match (&self.guard, &self.applied.by) {
            (Guard::Clear | Guard::IfOffered, _) => return said,
            (Guard::Sts, _) => format!("the MTA-STS policy of {}", self.hop),
            (Guard::Dane(dane), _) => format!("the TLSA records of {}", dane.base()),
            (Guard::Encrypted | Guard::Named, By::BadTlsa { base, .. }) => {
                format!("the TLSA records of {base}")
            }
            (
                Guard::Encrypted | Guard::Named,
                By::Ourselves | By::Nobody | By::Dane(_) | By::Sts(_),
            ) => "`tls` of its [[limit]] or [[route]], or REQUIRETLS of the message,".to_owned(),
        };
        match said {
            Said::Failure {
                failure: failure @ (Failure::TlsNotOffered | Failure::TlsHandshake),
                words,
            } => Said::Failure {
                failure,
                words: format!("{words}; {by} asks for TLS"),
            },
            said @ (Said::Failure { .. } | Said::Reply(_)) => said,
        }
    }
}

struct Opened {
    peer: Peer,
    /// Of its certificate, where that was only looked at.
    observed: Option<Fault>,
}

enum OpenError {
    Refused(Refusal),
    Tls(TlsError),
}

/// Why a session is over.
fn said_by(wire: &Wire) -> (Phase, Said) {
    match wire.session.end() {
        Some(End::Answered { phase, reply }) => (*phase, Said::Reply(reply.clone())),
        Some(End::Failed {
            phase,
            failure,
            words,
        }) => (
            *phase,
            Said::Failure {
                failure: *failure,
                words: words.clone(),
            },
        ),
        Some(End::Quit) | None => (
            Phase::Quit,
            Said::Failure {
                failure: Failure::Lost,
                words: "the session has ended".to_owned(),
            },
        ),
    }
}
