//! Routes over real connections on loopback: TLS from the first byte and by STARTTLS, certificates that
//! prove the name and others, login.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use relay_config::{Balance, Config, DomainPattern, Login, LoginSecret, Mechanisms, Relay, Route};
use relay_deliver::World;
use relay_deliver::dial::{Dialer, Dialing, TcpDialer};
use relay_deliver::link::{FromSession, Link, ToSession};
use relay_deliver::sign::Signers;
use relay_deliver::tls::TlsClient;
use relay_deliver::world::Settings;
use relay_observe::{Clock, Events};
use relay_policy::{Table, TlsRequirement};
use relay_queue::memory::MemoryStore;
use relay_queue::{Arrival, NewMessage, RecipientState, State, Store};
use relay_route::resolver::Later;
use relay_route::{Lookup, MxRecord, Resolver, Router};
use relay_schedule::{Dispatch, Reach, SessionId, SiteId, SourceChoice};
use relay_smtp::{Envelope, Mailbox, NextHop, Phase, Recipient, ReversePath};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const NAME: &str = "relay.test";

#[tokio::test]
async fn a_verified_route_on_port_465_logs_in_and_delivers() {
    let scene = Scene::new(NAME, 465).await;
    let state = scene.send(TlsRequirement::Verify).await;
    assert_eq!(state.state, State::Delivered, "{state:?}");
    let tls = state.last().unwrap().tls.clone().unwrap();
    assert!(tls.starts_with("TLSv1.3"), "{tls}");
    let heard = scene.heard().join(", ");
    assert_eq!(
        heard,
        "tls EHLO, tls AUTH, tls MAIL, tls RCPT, tls DATA, tls ."
    );
}

#[tokio::test]
async fn a_verified_route_by_starttls_says_the_password_only_behind_it() {
    let scene = Scene::new(NAME, 587).await;
    let state = scene.send(TlsRequirement::Verify).await;
    assert_eq!(state.state, State::Delivered, "{state:?}");
    let heard = scene.heard().join(", ");
    assert_eq!(
        heard,
        "clear EHLO, clear STARTTLS, tls EHLO, tls AUTH, tls MAIL, tls RCPT, tls DATA, tls ."
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_gets_neither_the_password_nor_the_message() {
    for port in [465, 587] {
        let scene = Scene::new("other.test", port).await;
        let state = scene.send(TlsRequirement::Verify).await;
        assert_eq!(state.state, State::Deferred, "{state:?}");
        let last = state.last().unwrap();
        assert_eq!(last.phase, Phase::Starttls);
        assert!(last.reply.contains("certificate"), "{last:?}");
        let heard = scene.heard();
        let harmless = |word: &String| word.ends_with("EHLO") || word.ends_with("STARTTLS");
        assert!(heard.iter().all(harmless), "{heard:?}");
    }
}

#[tokio::test]
async fn required_tls_takes_a_certificate_for_another_name() {
    let scene = Scene::new("other.test", 465).await;
    let state = scene.send(TlsRequirement::Require).await;
    assert_eq!(state.state, State::Delivered, "{state:?}");
}

#[tokio::test]
async fn a_refused_password_sends_nothing_and_says_why() {
    let scene = Scene::new(NAME, 465).await;
    scene.answer_auth_with("535 5.7.8 wrong password");
    let state = scene.send(TlsRequirement::Verify).await;
    assert_ne!(state.state, State::Delivered);
    let last = state.last().unwrap();
    assert_eq!(last.phase, Phase::Auth);
    assert!(last.reply.contains("wrong password"), "{last:?}");
    assert!(!scene.heard().iter().any(|word| word.contains("MAIL")));
}

/// A relay at `relay.test`.
struct Scene {
    address: SocketAddr,
    port: u16,
    root: CertificateDer<'static>,
    server: Arc<Server>,
}

struct Server {
    /// As the route has it.
    port: u16,
    tls: TlsAcceptor,
    heard: Mutex<Vec<String>>,
    auth: Mutex<&'static str>,
}

impl Scene {
    /// `name`: for whom its certificate is. `port`: the one that the route names.
    async fn new(name: &str, port: u16) -> Scene {
        let (config, root) = certified(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Server {
            port,
            tls: TlsAcceptor::from(Arc::new(config)),
            heard: Mutex::default(),
            auth: Mutex::new("235 2.7.0 welcome"),
        });
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&serving);
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        Scene {
            address,
            port,
            root,
            server,
        }
    }

    fn answer_auth_with(&self, reply: &'static str) {
        *self.server.auth.lock().unwrap() = reply;
    }

    /// The commands, without QUIT.
    fn heard(&self) -> Vec<String> {
        let mut heard = self.server.heard.lock().unwrap().clone();
        heard.retain(|word| !word.ends_with("QUIT"));
        heard
    }

    /// Sends one message; what became of its recipient.
    async fn send(&self, tls: TlsRequirement) -> RecipientState {
        let clock = Clock::starting_at("2026-11-22T12:00:00Z".parse().unwrap());
        let store = Arc::new(MemoryStore::new(clock));
        let hop: Arc<str> = format!("{NAME}:{}", self.port).into();
        let world = self.world(clock, Arc::clone(&store), self.route(&hop, tls));
        let message = store.accept(message(&store, clock)).await.unwrap();
        let (to, from_dispatcher) = mpsc::channel(4);
        let (to_dispatcher, mut from) = mpsc::channel(64);
        let link = Link {
            session: SessionId(1),
            site: SiteId(Arc::clone(&hop)),
            hop: NextHop::Relay(Arc::clone(&hop)),
            to_dispatcher,
            from_dispatcher,
        };
        let session = tokio::spawn(relay_deliver::attempt::session(world, link));
        let dispatch = Dispatch {
            id: message.id,
            hop: NextHop::Relay(hop),
            as_of: Timestamp::MAX,
            recipients_max: 100,
            messages_max: 100,
            sources: SourceChoice::default(),
            reach: Reach::All,
        };
        to.send(ToSession::Work(dispatch)).await.unwrap();
        while !matches!(from.recv().await, Some(FromSession::Settled { .. })) {}
        to.send(ToSession::Quit).await.unwrap();
        session.await.unwrap();
        let message = store.message(message.id).await.unwrap().unwrap();
        message.recipients[0].clone()
    }

    fn world(&self, clock: Clock, store: Arc<MemoryStore>, route: Route) -> Arc<World> {
        let mut config = Config::default_for("ours.test");
        config.routes.push(route);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let routing = relay_deliver::run::route_settings(&config);
        Arc::new(World {
            clock,
            events: Events::default(),
            store,
            suppressions: Arc::new(relay_suppression::List::in_memory(Events::default())),
            router: Router::with_seed(Arc::new(Names), routing, 1),
            dialer: Arc::new(To(self.address)),
            tls: TlsClient::with_roots(roots).unwrap(),
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
                table: Arc::new(Table::default_table()),
                signers: Arc::new(Signers::none()),
            }),
        })
    }

    fn route(&self, name: &Arc<str>, tls: TlsRequirement) -> Route {
        Route {
            to: vec![DomainPattern::All],
            name: Arc::clone(name),
            via: vec![Relay {
                host: NAME.to_owned(),
                port: self.port,
            }],
            balance: Balance::InOrder,
            tls,
            login: Some(Login {
                username: "app".to_owned(),
                secret: LoginSecret::Password("secret".to_owned()),
                mechanisms: Mechanisms::Auto,
            }),
        }
    }
}

impl Server {
    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let (stream, greeting) = if self.port == 465 {
            (stream, "220 hello\r\n")
        } else {
            (self.talk(stream, "clear", "220 hello\r\n").await?, "")
        };
        let stream = self.tls.accept(stream).await.ok()?;
        self.talk(stream, "tls", greeting).await.map(drop)
    }

    /// Returns the stream after STARTTLS.
    async fn talk<S>(&self, stream: S, how: &str, greeting: &str) -> Option<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = BufStream::new(stream);
        let mut reply = greeting.to_owned();
        let mut before = String::new();
        loop {
            stream.write_all(reply.as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
            if before == "STARTTLS" {
                return Some(stream.into_inner());
            }
            let mut line = String::new();
            let read = stream.read_line(&mut line).await;
            read.ok().filter(|count| *count > 0)?;
            let word = line.split_whitespace().next().unwrap_or_default();
            if before == "DATA" && word != "." {
                reply.clear();
                continue;
            }
            self.heard.lock().unwrap().push(format!("{how} {word}"));
            reply = match word {
                "EHLO" if how == "clear" => "250-hello\r\n250 STARTTLS\r\n".to_owned(),
                "EHLO" => "250-hello\r\n250 AUTH PLAIN\r\n".to_owned(),
                "AUTH" => format!("{}\r\n", self.auth.lock().unwrap()),
                "DATA" => "354 go\r\n".to_owned(),
                "STARTTLS" => "220 go\r\n".to_owned(),
                _ => "250 ok\r\n".to_owned(),
            };
            before = word.to_owned();
        }
    }
}

/// A certificate for `name`, and the root that vouches for it.
fn certified(name: &str) -> (rustls::ServerConfig, CertificateDer<'static>) {
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let root_certificate = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (config, root_certificate.der().clone())
}

fn message(store: &MemoryStore, clock: Clock) -> NewMessage {
    let mailbox = |text: &str| Mailbox::parse(text).unwrap();
    NewMessage {
        id: store.next_id(),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(mailbox("a@ours.test")),
            recipients: vec![Recipient::plain(mailbox("b@theirs.test"))],
            body_type: relay_smtp::BodyType::SevenBit,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        },
        arrival: Arrival {
            at: clock.now(),
            client: None,
            user: None,
            dsn_of: None,
        },
        body: "Subject: x\r\n\r\nhello\r\n".into(),
    }
}

/// Every name is an address of documentation; the dialer knows where it really is.
struct Names;

impl Resolver for Names {
    fn mx<'a>(&'a self, _domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
        Box::pin(async { Lookup::NoRecords })
    }
    fn addresses<'a>(&'a self, _host: &'a str) -> Later<'a, Lookup<IpAddr>> {
        Box::pin(async { Lookup::Found(vec![Ipv4Addr::new(192, 0, 2, 1).into()]) })
    }
}

/// All connections go there.
struct To(SocketAddr);

impl Dialer for To {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        _address: SocketAddr,
        _source: Option<IpAddr>,
    ) -> Dialing<'a> {
        TcpDialer.dial(host, self.0, None)
    }
}
