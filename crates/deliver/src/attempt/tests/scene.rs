//! A session with everything around it: names, hosts, a queue, and the dispatcher's end of the link.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use relay_config::{Config, DomainPattern, Limit};
use relay_observe::{Clock, Events};
use relay_policy::{Table, TlsRequirement};
use relay_queue::memory::MemoryStore;
use relay_queue::{Arrival, Attempt, Message, NewMessage, State, Store};
use relay_route::{Lookup, MxRecord, Resolver, RouteSettings, Router};
use relay_schedule::{Dispatch, Reach, Report, SessionId, SiteId, SiteNews};
use relay_smtp::envelope::Envelope;
use relay_smtp::{Failure, Host, Mailbox, NextHop, QueueId, Recipient, ReversePath};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::faulty::Faulty;
use super::hostile;
use crate::dial::{DialError, Dialer, Dialing, Stream};
use crate::link::{Flow, FromSession, Link, ToSession};
use crate::sign::Signers;
use crate::tls::TlsClient;
use crate::world::{Settings, World};

/// Compiling it takes longer than a whole test.
static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| Arc::new(Table::default_table()));

const BODY: &str = "From: a@s.example\r\nSubject: hello\r\n\r\nhello\r\n";

/// What the next connection meets.
pub enum Script {
    Refuse,
    /// Connected, and silent for ever.
    Stall,
    /// `S:` and `C:` lines; `C: [body]` takes a message; `X: close` hangs up, `X: stay` does nothing for
    /// ever, `X: drip` answers a byte a minute.
    Talk(String),
    /// In clear, then encrypted.
    Tls(String, String, Arc<rustls::ServerConfig>),
    /// A script of `hostile`.
    Hostile(String),
    /// A host that takes everything.
    Good,
}

/// Names, and one script for each connection.
pub struct Net {
    scripts: Mutex<VecDeque<Script>>,
    dialled: Mutex<Vec<(String, u16)>>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
pub(super) struct Heard {
    pub bodies: Vec<String>,
    pub wrong: Vec<String>,
}

impl Net {
    /// What the next connections meet, in place of what was left.
    pub fn expect(&self, scripts: Vec<Script>) {
        *self.scripts.lock().unwrap() = scripts.into();
    }

    /// What peers heard that was not in their scripts.
    pub fn wrong(&self) -> Vec<String> {
        self.heard.lock().unwrap().wrong.clone()
    }

    pub fn dialled(&self) -> Vec<String> {
        let dialled = self.dialled.lock().unwrap();
        dialled.iter().map(|(host, _)| host.clone()).collect()
    }

    pub fn ports(&self) -> Vec<u16> {
        let dialled = self.dialled.lock().unwrap();
        dialled.iter().map(|(_, port)| *port).collect()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.heard.lock().unwrap().bodies.clone()
    }
}

impl Resolver for Net {
    fn mx<'a>(&'a self, domain: &'a str) -> relay_route::resolver::Later<'a, Lookup<MxRecord>> {
        let record = |preference, exchange: &str| MxRecord {
            preference,
            exchange: exchange.to_owned(),
        };
        let found = match domain {
            "null.example" => vec![record(0, "")],
            "inside.example" => vec![record(10, "inside.example")],
            _ => vec![record(10, "mx1.r.example"), record(20, "mx2.r.example")],
        };
        Box::pin(async move { Lookup::Found(found) })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> relay_route::resolver::Later<'a, Lookup<IpAddr>> {
        let address = match host {
            "mx1.r.example" => "192.0.2.1",
            "mx2.r.example" => "192.0.2.2",
            _ => "127.0.0.1",
        };
        Box::pin(async move { Lookup::Found(vec![address.parse().unwrap()]) })
    }
}

impl Dialer for Net {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        address: SocketAddr,
        _source: Option<IpAddr>,
    ) -> Dialing<'a> {
        let dialled = (host.to_owned(), address.port());
        self.dialled.lock().unwrap().push(dialled);
        let script = self.scripts.lock().unwrap().pop_front();
        let heard = self.heard.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            match script.expect("a script for each connection") {
                Script::Refuse => {
                    return Err(DialError {
                        failure: Failure::Refused,
                        words: format!("connecting to {host}: refused"),
                    });
                }
                Script::Stall => {
                    tokio::spawn(async move {
                        let _keep = theirs;
                        std::future::pending::<()>().await;
                    });
                }
                Script::Talk(text) => {
                    tokio::spawn(async move {
                        play(theirs, &text, &heard).await;
                    });
                }
                Script::Hostile(text) => return Ok(hostile::stream(ours, theirs, text, heard)),
                Script::Good => {
                    tokio::spawn(async move { hostile::take_all(theirs, &heard).await });
                }
                Script::Tls(clear, encrypted, config) => {
                    tokio::spawn(async move {
                        let Some(stream) = play(theirs, &clear, &heard).await else {
                            return;
                        };
                        let acceptor = tokio_rustls::TlsAcceptor::from(config);
                        if let Ok(stream) = acceptor.accept(stream).await {
                            play(stream, &encrypted, &heard).await;
                        }
                    });
                }
            }
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// Plays the server; None once it has hung up or heard something wrong.
async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    text: &str,
    heard: &Mutex<Heard>,
) -> Option<S> {
    let mut stream = BufStream::new(stream);
    for line in text.lines() {
        match line.split_once(' ').unwrap() {
            ("S:", reply) => {
                stream.write_all(reply.as_bytes()).await.ok()?;
                stream.write_all(b"\r\n").await.ok()?;
                stream.flush().await.ok()?;
            }
            ("C:", "[body]") => {
                let mut body = String::new();
                while !body.ends_with("\r\n.\r\n") {
                    let read = stream.read_line(&mut body).await;
                    read.ok().filter(|count| *count > 0)?;
                }
                heard.lock().unwrap().bodies.push(body);
            }
            ("C:", chunk) if chunk.starts_with("[chunk ") => {
                let bytes = chunk.trim_matches(|c: char| !c.is_ascii_digit());
                let mut body = vec![0; bytes.parse().unwrap()];
                stream.read_exact(&mut body).await.ok()?;
                let body = String::from_utf8_lossy(&body).into_owned();
                heard.lock().unwrap().bodies.push(body);
            }
            ("X:", "stay") => std::future::pending().await,
            // A reply that never ends, a byte a minute.
            ("X:", "drip") => {
                for byte in b"250-".iter().chain(std::iter::repeat(&b'x')) {
                    stream.write_all(&[*byte]).await.ok()?;
                    stream.flush().await.ok()?;
                    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                }
            }
            ("C:", wanted) => {
                let mut said = String::new();
                stream.read_line(&mut said).await.ok()?;
                if said.trim_end() != wanted {
                    let wrong = format!("wanted {wanted:?}, heard {said:?}");
                    heard.lock().unwrap().wrong.push(wrong);
                    return None;
                }
            }
            _ => return None,
        }
    }
    Some(stream.into_inner())
}

/// From `a@s.example`.
pub fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        reverse_path: ReversePath::Mailbox(Mailbox::parse("a@s.example").unwrap()),
        recipients: recipients
            .iter()
            .map(|address| Recipient::plain(Mailbox::parse(address).unwrap()))
            .collect(),
        body_type: Default::default(),
        utf8: Default::default(),
        require_tls: Default::default(),
        priority: Default::default(),
        ret: None,
        envid: None,
    }
}

pub struct Scene {
    pub world: Arc<World>,
    pub net: Arc<Net>,
    pub store: Arc<Faulty>,
    to: mpsc::Sender<ToSession>,
    from: mpsc::Receiver<FromSession>,
    task: JoinHandle<()>,
    /// What the session told besides its reports.
    pub accepted: Vec<Arc<Message>>,
    pub flows: Vec<Flow>,
    /// What the next dispatches allow.
    pub recipients_max: u32,
    pub messages_max: u32,
    pub reach: Reach,
    news: SiteNews,
    pub queue_stopped: u32,
}

impl Scene {
    pub fn new(scripts: Vec<Script>) -> Scene {
        Scene::with_tls(scripts, TlsRequirement::Opportunistic)
    }

    pub fn with_tls(scripts: Vec<Script>, tls: TlsRequirement) -> Scene {
        let clock = Clock::starting_at("2026-11-22T12:00:00Z".parse().unwrap());
        let store = Arc::new(Faulty::around(MemoryStore::new(clock)));
        let net = Arc::new(Net {
            scripts: Mutex::new(scripts.into()),
            dialled: Mutex::default(),
            heard: Arc::default(),
        });
        let mut config = Config::default_for("relay.example");
        config.limits.push(Limit {
            to: vec![DomainPattern::All],
            provider: Vec::new(),
            mx: Vec::new(),
            route: Vec::new(),
            source: Vec::new(),
            place: "test".into(),
            rate: None,
            connections: None,
            messages_per_connection: None,
            recipients_per_transaction: None,
            tls: Some(tls),
        });
        let world = Arc::new(World {
            clock,
            events: Events::default(),
            store: store.clone(),
            suppressions: Arc::new(relay_suppression::List::in_memory(Events::default())),
            router: Router::with_seed(net.clone(), RouteSettings::for_host("relay.example"), 1),
            dialer: net.clone(),
            tls: TlsClient::with_roots(rustls::RootCertStore::empty()).unwrap(),
            sts: None,
            tokens: Default::default(),
            tls_reports: None,
            homes: Default::default(),
            hosts: Default::default(),
            scope: Default::default(),
            watchers: Default::default(),
            sites_file: None,
            settings: ArcSwap::from_pointee(Settings {
                config: Arc::new(config),
                table: TABLE.clone(),
                signers: Arc::new(Signers::none()),
            }),
        });
        let (to, from_dispatcher) = mpsc::channel(4);
        let (to_dispatcher, from) = mpsc::channel(64);
        let link = Link {
            session: SessionId(1),
            site: SiteId("mx1.r.example,mx2.r.example".into()),
            hop: NextHop::Relay("unused".into()),
            to_dispatcher,
            from_dispatcher,
        };
        let task = tokio::spawn(super::session(world.clone(), link));
        Scene {
            world,
            net,
            store,
            to,
            from,
            task,
            accepted: Vec::new(),
            flows: Vec::new(),
            recipients_max: 1000,
            messages_max: 1000,
            reach: Reach::All,
            news: SiteNews::Neutral,
            queue_stopped: 0,
        }
    }

    pub fn sign_with(&self, signer: relay_message::dkim::Signer) {
        let settings = self.world.settings.load_full();
        self.world.settings.store(Arc::new(Settings {
            config: settings.config.clone(),
            table: settings.table.clone(),
            signers: Arc::new(Signers::new(vec![signer])),
        }));
    }

    pub async fn accept(&self, recipients: &[&str]) -> QueueId {
        self.accept_body(recipients, BODY.to_owned()).await
    }

    pub async fn accept_body(&self, recipients: &[&str], body: String) -> QueueId {
        self.accept_envelope(envelope(recipients), body).await
    }

    pub async fn accept_envelope(&self, envelope: Envelope, body: String) -> QueueId {
        let message = NewMessage {
            id: self.store.next_id(),
            envelope,
            arrival: Arrival {
                at: self.world.clock.now(),
                client: None,
                user: None,
                dsn_of: None,
            },
            body: body.into(),
        };
        self.store.accept(message).await.unwrap().id
    }

    pub async fn dispatch(&self, id: QueueId) -> Dispatch {
        let message = self.store.message(id).await.unwrap();
        let host = match &message {
            Some(message) => message.envelope.recipients[0].mailbox.host().clone(),
            None => Host::Address("192.0.2.9".parse().unwrap()),
        };
        let hop = self.world.settings.load().config.next_hop(&host);
        Dispatch {
            id,
            hop,
            as_of: Timestamp::MAX,
            recipients_max: self.recipients_max,
            messages_max: self.messages_max,
            sources: Default::default(),
            reach: self.reach,
        }
    }

    /// Has the message carried out.
    pub async fn work(&mut self, id: QueueId) -> Report {
        self.give(id).await;
        self.report().await
    }

    pub async fn give(&mut self, id: QueueId) {
        let dispatch = self.dispatch(id).await;
        self.to.send(ToSession::Work(dispatch)).await.unwrap();
    }

    /// What the session says next.
    pub async fn hear(&mut self) -> FromSession {
        self.from.recv().await.expect("the session lives")
    }

    pub async fn report(&mut self) -> Report {
        loop {
            match self.from.recv().await.expect("the session lives") {
                FromSession::Done { report, .. } => return report,
                FromSession::Carried { news, .. } => self.news = news,
                FromSession::Settled { report, .. } => {
                    assert_eq!(report.site, self.news);
                    return report;
                }
                FromSession::QueueStopped => self.queue_stopped += 1,
                FromSession::Accepted(message) => self.accepted.push(message),
                FromSession::Flow { flow, .. } => self.flows.push(flow),
                FromSession::Ready(_) | FromSession::Opened { .. } => {}
                FromSession::Closed(_) => panic!("closed"),
            }
        }
    }

    pub async fn states(&self, id: QueueId) -> Vec<State> {
        let message = self.store.message(id).await.unwrap().unwrap();
        message.recipients.iter().map(|one| one.state).collect()
    }

    pub async fn last_attempt(&self, id: QueueId) -> Attempt {
        let message = self.store.message(id).await.unwrap().unwrap();
        message.recipients[0].last().unwrap().clone()
    }

    /// A report that was made, as its reader gets it.
    pub async fn report_text(&self, index: usize) -> String {
        let body = self.store.body(self.accepted[index].id).await;
        let whole = body.unwrap().unwrap().whole().await.unwrap();
        String::from_utf8_lossy(&whole).into_owned()
    }

    /// Ends the session; nothing may have been said that was not in the script.
    pub async fn quit(&mut self) {
        self.to.send(ToSession::Quit).await.unwrap();
        (&mut self.task).await.unwrap();
        let wrong = self.net.heard.lock().unwrap().wrong.clone();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(self.net.scripts.lock().unwrap().is_empty());
    }
}
