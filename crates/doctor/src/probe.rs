//! One session with a host, as far as a message would need it, without one: connect, banner, EHLO, STARTTLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use relay_deliver::dane::Dane;
use relay_deliver::dial::Stream;
use relay_deliver::tls::Check;
use relay_smtp::extension::{Extensions, Offered};
use relay_smtp::reply::{Reply, ReplyClass, ReplyParser};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::examine::Doctor;

/// A person waits for the answer: shorter than delivery would wait.
const STEP_WITHIN: Duration = Duration::from_secs(10);

/// Whom to call, and as whom.
#[derive(Clone)]
pub(crate) struct Call {
    pub host: String,
    pub address: SocketAddr,
    pub source: Option<IpAddr>,
    pub hostname: String,
}

/// How far it came.
pub(crate) enum Probe {
    NoConnection(String),
    /// Connected, and then not well: at which step, and what was said.
    Stopped {
        connected: Duration,
        step: &'static str,
        words: String,
    },
    Spoken {
        connected: Duration,
        banner: String,
        extensions: Extensions,
        tls: Tls,
    },
}

pub(crate) enum Tls {
    NotOffered,
    /// What was agreed, and proved.
    Proved(String),
    /// Encrypted; the certificate does not prove what it should: why.
    Unproved {
        agreed: String,
        why: String,
    },
    Failed(String),
}

impl Doctor {
    /// With TLS if it is offered: proved by `dane` where given, else by name. Where that fails, once more
    /// without proof.
    pub(crate) async fn probe(&self, call: &Call, dane: Option<Arc<Dane>>) -> Probe {
        let check = dane.map_or(Check::Name, Check::Dane);
        let (probe, why) = match self.session(call, &check).await {
            Probe::Spoken {
                tls: Tls::Failed(why),
                ..
            } => (self.session(call, &Check::Nothing).await, why),
            probe => return probe,
        };
        match probe {
            Probe::Spoken {
                connected,
                banner,
                extensions,
                tls: Tls::Proved(agreed),
            } => Probe::Spoken {
                connected,
                banner,
                extensions,
                tls: Tls::Unproved { agreed, why },
            },
            probe => probe,
        }
    }

    async fn session(&self, call: &Call, check: &Check) -> Probe {
        let started = Instant::now();
        let dialing = self.dialer.dial(&call.host, call.address, call.source);
        let stream = match timeout(STEP_WITHIN, dialing).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Probe::NoConnection(error.words),
            Err(_) => return Probe::NoConnection(no_answer("to the connection")),
        };
        let connected = started.elapsed();
        let mut talk = Talk::with(stream);
        let stopped = |step, words| Probe::Stopped {
            connected,
            step,
            words,
        };
        let banner = match talk.hear().await {
            Ok(reply) => reply,
            Err(words) => return stopped("banner", words),
        };
        let extensions = match talk.hello(&call.hostname).await {
            Ok(reply) => Extensions::of(&reply),
            Err(words) => return stopped("ehlo", words),
        };
        let tls = match extensions.starttls {
            Offered::No => {
                talk.bye().await;
                Tls::NotOffered
            }
            Offered::Yes => self.encrypted(talk, call, check).await,
        };
        Probe::Spoken {
            connected,
            banner: banner.text(),
            extensions,
            tls,
        }
    }

    async fn encrypted(&self, mut talk: Talk, call: &Call, check: &Check) -> Tls {
        if let Err(words) = talk.ask("STARTTLS").await {
            return Tls::Failed(words);
        }
        let name = match check {
            Check::Dane(dane) => dane.base(),
            Check::Nothing | Check::Name | Check::Sts | Check::Observed => &call.host,
        };
        let name = ServerName::try_from(name.to_owned())
            .unwrap_or(ServerName::IpAddress(call.address.ip().into()));
        let handshake = self.tls.handshake(talk.stream, name, check);
        let (stream, agreed) = match timeout(STEP_WITHIN, handshake).await {
            Ok(Ok(encrypted)) => encrypted,
            Ok(Err(error)) => return Tls::Failed(error.words),
            Err(_) => return Tls::Failed(no_answer("to the TLS handshake")),
        };
        let mut talk = Talk::with(stream);
        match talk.hello(&call.hostname).await {
            Ok(_) => {
                talk.bye().await;
                Tls::Proved(agreed.words)
            }
            Err(words) => Tls::Failed(format!("EHLO behind STARTTLS: {words}")),
        }
    }
}

fn no_answer(to: &str) -> String {
    format!("no answer {to} within {} s", STEP_WITHIN.as_secs())
}

/// Commands and replies, one at a time.
struct Talk {
    stream: Box<dyn Stream>,
    parser: ReplyParser,
}

impl Talk {
    fn with(stream: Box<dyn Stream>) -> Talk {
        Talk {
            stream,
            parser: ReplyParser::new(),
        }
    }

    async fn hello(&mut self, hostname: &str) -> Result<Reply, String> {
        self.ask(&format!("EHLO {hostname}")).await
    }

    async fn ask(&mut self, command: &str) -> Result<Reply, String> {
        let line = format!("{command}\r\n");
        let write = self.stream.write_all(line.as_bytes());
        match timeout(STEP_WITHIN, write).await {
            Ok(Ok(())) => self.hear().await,
            Ok(Err(error)) => Err(format!("the connection broke: {error}")),
            Err(_) => Err(no_answer("")),
        }
    }

    /// Err: none came, or one that is no consent.
    async fn hear(&mut self) -> Result<Reply, String> {
        let hearing = timeout(STEP_WITHIN, self.reply()).await;
        let reply = hearing.unwrap_or_else(|_| Err(no_answer("from the host")))?;
        match reply.class() {
            ReplyClass::Positive => Ok(reply),
            ReplyClass::Intermediate | ReplyClass::Transient | ReplyClass::Permanent => {
                Err(reply.to_string())
            }
        }
    }

    async fn reply(&mut self) -> Result<Reply, String> {
        let mut bytes = [0; 4096];
        loop {
            match self.parser.take() {
                Some(Ok(reply)) => return Ok(reply),
                Some(Err(error)) => return Err(format!("that is no SMTP: {error}")),
                None => {}
            }
            match self.stream.read(&mut bytes).await {
                Ok(0) => return Err("the host closed the connection".to_owned()),
                Ok(count) => self.parser.push(bytes.get(..count).unwrap_or_default()),
                Err(error) => return Err(format!("the connection broke: {error}")),
            }
        }
    }

    /// What is answered to it does not matter.
    async fn bye(&mut self) {
        let _ = timeout(Duration::from_secs(2), self.ask("QUIT")).await;
    }
}
