//! One session: reads, feeds the dialogue, answers its questions, writes. What the protocol says
//! is decided in `relay_smtp::server`, who may do what in [`crate::limits`].

pub(crate) mod incoming;
mod reports;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use relay_config::{Listener, ListenerTls, ReportsFrom, SuppressionMode, User};
use relay_observe::Event as Happened;
use relay_observe::crash::{self, CrashPoint};
use relay_queue::{Message, NewMessage, Sender, StoreError};
use relay_smtp::command::{Mail, Secret};
use relay_smtp::server::{Auth, Channel, Event, Incoming, Session, reply};
use relay_smtp::{Mailbox, Reply};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::incoming::{Share, Spool};
use self::reports::Rest;
use crate::auth::Verdict;
use crate::held::Held;
use crate::limits::{self, Trust};
use crate::wire::Wire;
use crate::world::{Certificate, Settings, World};

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// Its file's permissions say who may connect. For trust and limits it is 127.0.0.1.
    Unix,
}

impl Peer {
    /// For events: a unix socket is shown as 127.0.0.1:0.
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Peer::Tcp(address) => SocketAddr::new(address.ip().to_canonical(), address.port()),
            Peer::Unix => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }

    /// None: a unix socket.
    fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(_) => Some(self.address().ip()),
            Peer::Unix => None,
        }
    }
}

/// A TLS handshake takes no longer; far more than a slow phone needs.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// From 354 to the end of the data. With the default of 50 MiB for a message: 30 KiB/s at least.
const DATA_MAX: Duration = Duration::from_secs(30 * 60);
/// A session that brings no message for so long ends, though it may say NOOP every minute: else
/// a few slow clients could hold all places.
const FRUITLESS_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a failed login waits for its answer.
const FAILED_LOGIN_DELAY: Duration = Duration::from_secs(1);
/// After the last reply the client is given so long to read it and close.
const LINGER: Duration = Duration::from_secs(1);
/// Octets of one read: a few pipelined commands, or a piece of a body.
const CHUNK: usize = 16 * 1024;

/// Runs a session to its end. `stop` asks it to end as soon as the client is not sending a body.
pub(crate) async fn run<S>(
    stream: S,
    peer: Peer,
    listener: &Listener,
    world: &World,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let settings = world.settings.load_full();
    let tls = world.tls.load_full();
    let client = peer.address();
    world.events.emit(Happened::ClientConnected { client });
    let certificate = match *tls {
        Some(_) => Certificate::Present,
        None => Certificate::Absent,
    };
    let mut wire = Wire::Clear(stream);
    let mut channel = Channel::Clear;
    if listener.tls == ListenerTls::Implicit {
        let started = start_tls(&mut wire, tls.as_ref().clone(), peer, world).await;
        if started.is_err() {
            return;
        }
        channel = Channel::Tls;
    }
    let protocol = settings.session(listener, client.ip(), certificate);
    let mut driver = Driver {
        auth: protocol.auth,
        dialogue: Session::new(Arc::new(protocol), channel),
        wire,
        peer,
        trust: limits::trust_of(client.ip(), listener),
        reports_from: listener.reports,
        settings: &settings,
        world,
        stop,
        user: None,
        fruitless_since: Instant::now(),
        data_since: None,
        held: None,
        spool: Spool::Memory,
        share: Share::of(&world.body_memory),
    };
    // The client has gone or does not read: there is nobody to tell.
    let _ = driver.run().await;
}

struct Driver<'a, S> {
    dialogue: Session,
    wire: Wire<S>,
    peer: Peer,
    trust: Trust,
    reports_from: ReportsFrom,
    auth: Auth,
    settings: &'a Settings,
    world: &'a World,
    stop: &'a CancellationToken,
    user: Option<Arc<User>>,
    /// The start, or the last message that was accepted.
    fruitless_since: Instant,
    /// None: not inside DATA.
    data_since: Option<Instant>,
    /// Space for the transaction under way.
    held: Option<Held>,
    /// The body that is coming in.
    spool: Spool,
    share: Share,
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    Ended,
}

/// What a read brought.
enum Read {
    Bytes(usize),
    /// The client has closed its side.
    End,
    /// The session must end, with this said to the client.
    Over(Reply),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<'_, S> {
    async fn run(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            while let Some(event) = self.dialogue.next_event() {
                if self.handle(event, &mut chunk).await? == Go::Ended {
                    return self.end(&mut chunk).await;
                }
            }
            if !self.dialogue.in_transaction() {
                self.held = None;
            }
            // Only now: the replies to pipelined commands go out together (RFC 2920 section 3.2).
            self.flush().await?;
            match self.read(&mut chunk).await? {
                Read::Bytes(count) => {
                    self.take_in(chunk.get(..count).unwrap_or_default());
                    self.spool().await;
                }
                Read::End => return Ok(()),
                Read::Over(reply) => self.dialogue.close(reply),
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        if let Some(held) = self
            .held
            .as_mut()
            .filter(|_| self.dialogue.transfer().is_some())
        {
            held.received(bytes.len());
        }
        self.dialogue.input(bytes);
    }

    async fn handle(&mut self, event: Event, chunk: &mut [u8]) -> io::Result<Go> {
        match event {
            Event::Authenticate { user, password } => {
                let answer = self.login(&user, &password).await;
                self.dialogue.answer(answer);
            }
            Event::Mail(mail) => {
                // What an earlier transaction left: a body that was refused at its end.
                self.spool = Spool::Memory;
                self.share.release();
                let answer = self.mail(&mail);
                self.answer(answer);
            }
            Event::Rcpt(recipient) => {
                let answer = self.rcpt(&recipient.mailbox);
                self.answer(answer);
            }
            Event::Message(message) => self.message(message, chunk).await?,
            Event::Refused(reply) => self.tell_refusal(&reply),
            Event::StartTls => {
                self.flush().await?;
                let tls = self.world.tls.load().as_ref().clone();
                start_tls(&mut self.wire, tls, self.peer, self.world).await?;
                self.dialogue.tls_started();
                // A login in clear is no login under TLS (RFC 3207 section 4.2).
                self.user = None;
            }
            Event::Close => return Ok(Go::Ended),
        }
        Ok(Go::On)
    }

    fn answer(&mut self, answer: Reply) {
        if answer.code >= 400 {
            self.tell_refusal(&answer);
        }
        self.dialogue.answer(answer);
    }

    fn tell_refusal(&self, reply: &Reply) {
        self.world.events.emit(Happened::CommandRefused {
            client: self.peer.address(),
            reply: reply.to_string(),
        });
    }

    async fn login(&mut self, name: &str, password: &Secret) -> Reply {
        let client = self.peer.address();
        let (users, logins) = (&self.settings.users, &self.world.logins);
        match logins.check(users, client.ip(), name, &password.0).await {
            Verdict::Right(user) => {
                self.world.events.emit(Happened::ClientAuthenticated {
                    client,
                    user: user.name.clone(),
                });
                self.user = Some(user);
                reply(235, 7, 0, "logged in")
            }
            Verdict::Wrong => {
                self.tell_failed_login(name);
                tokio::time::sleep(FAILED_LOGIN_DELAY).await;
                reply(535, 7, 8, "user or password wrong")
            }
            Verdict::Blocked(wait) => {
                self.tell_failed_login(name);
                let seconds = wait.as_secs() + 1;
                let text = format!("too many failed logins, try again in {seconds} s");
                reply(421, 7, 0, text)
            }
        }
    }

    fn tell_failed_login(&self, user: &str) {
        self.world.events.emit(Happened::AuthFailed {
            client: self.peer.address(),
            user: user.to_owned(),
        });
    }

    fn mail(&mut self, mail: &Mail) -> Reply {
        // Said before the client has sent it all.
        let user = self.user.as_ref().map(|user| user.name.as_str());
        let sender = Sender::of(user, self.peer.ip());
        match self.world.store.admit(&sender, mail.size.unwrap_or(0)) {
            Ok(admission) => self.held = Some(Held::new(admission)),
            Err(error) => return refusal_of(&error),
        }
        let allowed = match &self.user {
            None => Ok(()),
            Some(user) => limits::may_send_as(user, &mail.reverse_path)
                .and_then(|()| self.settings.rates.count(user)),
        };
        match allowed {
            Ok(()) => reply(250, 1, 0, "sender ok"),
            Err(refusal) => refusal,
        }
    }

    /// Never an open relay: only who is trusted or logged in gets a yes, and who brings a report where
    /// anybody may.
    fn rcpt(&self, recipient: &Mailbox) -> Reply {
        if self.reports_from == ReportsFrom::Anybody && self.is_for_reports(recipient) {
            return reply(250, 1, 5, "recipient ok");
        }
        match (self.trust, &self.user, self.auth) {
            (Trust::Trusted, _, _) | (Trust::Stranger, Some(_), _) => self
                .suppressed(recipient)
                .unwrap_or_else(|| match self.world.store.admit_to(recipient.host()) {
                    Ok(()) => reply(250, 1, 5, "recipient ok"),
                    Err(error) => refusal_of(&error),
                }),
            (Trust::Stranger, None, Auth::Offered | Auth::Required) => {
                reply(530, 7, 0, "log in first: relaying is for known users")
            }
            (Trust::Stranger, None, Auth::NotOffered) => {
                let client = self.peer.address().ip();
                let text = format!("relaying denied: {client} is not in the listener's trusted");
                reply(550, 7, 1, text)
            }
        }
    }

    /// The refusal of an address that is known not to work.
    fn suppressed(&self, recipient: &Mailbox) -> Option<Reply> {
        match self.settings.suppression {
            SuppressionMode::Bounce | SuppressionMode::Off => return None,
            SuppressionMode::Refuse => {}
        }
        let now = self.world.clock.now();
        let entry = self.world.suppressions.find(recipient, now)?;
        // Once more in ASCII and on one line: the words may be another server's.
        let plain = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
        let words: String = entry.in_words().chars().map(plain).take(300).collect();
        Some(reply(550, 1, 1, words))
    }

    /// A whole message: made ready, committed, and only then answered. In this order: write, sync,
    /// speak. A missing From is accepted in this version.
    async fn message(&mut self, incoming: Incoming, chunk: &mut [u8]) -> io::Result<()> {
        self.data_since = None;
        if let Some(error) = self.held.as_ref().and_then(Held::refused) {
            let refusal = refusal_of(error);
            self.spool = Spool::Memory;
            self.share.release();
            self.answer(refusal);
            return Ok(());
        }
        let new = match self.new_message(incoming).await {
            Ok(new) => new,
            Err(refusal) => {
                self.answer(refusal);
                return Ok(());
            }
        };
        let new = match self.take_report(new).await {
            Ok(Rest::Queue(new)) => new,
            taken => {
                self.share.release();
                self.answer(match taken {
                    Err(refusal) => refusal,
                    Ok(_) => reply(250, 0, 0, "report taken"),
                });
                self.fruitless_since = Instant::now();
                return Ok(());
            }
        };
        let (taken, client) = self.commit(new, chunk).await;
        self.share.release();
        let message = match taken {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%error, "a message was not taken");
                self.answer(refusal_of(&error));
                return Ok(());
            }
        };
        crash::at(CrashPoint::Committed);
        self.fruitless_since = Instant::now();
        self.world.events.emit(Happened::MessageAccepted {
            id: message.id,
            client: self.peer.ip().map(|_| self.peer.address()),
            user: message.arrival.user.clone(),
            sender: message.envelope.reverse_path.to_string(),
            recipients: message
                .envelope
                .recipients
                .iter()
                .map(|recipient| recipient.mailbox.to_string())
                .collect(),
            size: message.size,
        });
        self.dialogue
            .answer(reply(250, 0, 0, format!("queued as {}", message.id)));
        // At once, not with the next batch: until it has been said, a lost connection makes the
        // client send the message again.
        let said = self.flush().await;
        if said.is_err() || client == Client::Gone {
            self.world.events.emit(Happened::ClientGoneBeforeReply {
                id: message.id,
                client: self.peer.address(),
            });
        }
        // The message is ours, told or not.
        self.world.accepted.accepted(message).await;
        said
    }

    /// Waits for the store, and meanwhile looks whether the client leaves. One read at most, so
    /// that what a client pipelines stays bounded.
    async fn commit(
        &mut self,
        new: NewMessage,
        chunk: &mut [u8],
    ) -> (Result<Arc<Message>, StoreError>, Client) {
        let world = self.world;
        let mut accept = world.store.accept(new);
        let read = tokio::select! {
            biased;
            taken = &mut accept => return (taken, Client::There),
            read = self.wire.read(chunk) => read,
        };
        let client = match read {
            Ok(count) if count > 0 => {
                self.dialogue.input(chunk.get(..count).unwrap_or_default());
                Client::There
            }
            // It may have pipelined a QUIT and closed its side: then it has gone in good order.
            Ok(_) if self.dialogue.has_unread() => Client::There,
            Ok(_) | Err(_) => Client::Gone,
        };
        (accept.await, client)
    }

    async fn read(&mut self, chunk: &mut [u8]) -> io::Result<Read> {
        let now = Instant::now();
        let idle = self.settings.submission.idle_timeout;
        let mut deadline = (now + idle, IDLE);
        let mut tighten = |limit: Instant, text| {
            if limit < deadline.0 {
                deadline = (limit, text);
            }
        };
        tighten(self.fruitless_since + FRUITLESS_MAX, FRUITLESS);
        match (self.dialogue.in_data(), self.data_since) {
            (true, None) => self.data_since = Some(now),
            (true, Some(since)) => tighten(since + DATA_MAX, SLOW_DATA),
            (false, _) => {
                self.data_since = None;
                self.spool = Spool::Memory;
                self.share.release();
            }
        }
        let stopping = async {
            match self.dialogue.in_data() {
                // A body on its way may come to its end within the grace time.
                true => std::future::pending().await,
                false => self.stop.cancelled().await,
            }
        };
        tokio::select! {
            biased;
            () = stopping => Ok(Read::Over(reply(421, 3, 2, "stopping, try again later"))),
            read = timeout_at(deadline.0, self.wire.read(chunk)) => match read {
                Ok(Ok(0)) => Ok(Read::End),
                Ok(Ok(count)) => Ok(Read::Bytes(count)),
                Ok(Err(error)) => Err(error),
                Err(_) => {
                    let (client, reason) = (self.peer.address(), deadline.1);
                    self.world.events.emit(Happened::ClientRefused { client, reason });
                    Ok(Read::Over(reply(421, 4, 2, reason)))
                }
            },
        }
    }

    /// A client that does not read its replies is idle too.
    async fn flush(&mut self) -> io::Result<()> {
        let output = self.dialogue.take_output();
        if output.is_empty() {
            return Ok(());
        }
        let idle = self.settings.submission.idle_timeout;
        timeout(idle, self.wire.send(&output)).await?
    }

    /// Says the last words. Then waits a moment for the client to close: closing over unread bytes
    /// resets the connection, and a reset may take the words away before they were read.
    async fn end(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        self.flush().await?;
        let _ = timeout(LINGER, async {
            self.wire.shutdown().await?;
            while self.wire.read(chunk).await? > 0 {}
            Ok::<(), io::Error>(())
        })
        .await;
        Ok(())
    }
}

const IDLE: &str = "idle for too long";
const FRUITLESS: &str = "no message for too long";
const SLOW_DATA: &str = "the data took too long";

/// Whether the client was seen to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    There,
    Gone,
}

/// Never 5yz: the client keeps the message and tries again.
fn refusal_of(error: &StoreError) -> Reply {
    match error {
        StoreError::Full(why) => reply(452, 3, 1, format!("the queue is full: {}", ascii(why))),
        StoreError::Busy => reply(451, 3, 2, "the queue is busy, try again later"),
        StoreError::Disk(_)
        | StoreError::Stopped(_)
        | StoreError::Unknown(_)
        | StoreError::Taken(_) => reply(451, 3, 0, "the queue cannot take mail now"),
    }
}

/// The name of a user stands in some reasons; a reply is in ASCII, but for a client that has asked for
/// more (RFC 6531 section 3.7.4).
fn ascii(text: &str) -> String {
    text.replace(|character: char| !character.is_ascii(), "?")
}

async fn start_tls<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    tls: Option<Arc<rustls::ServerConfig>>,
    peer: Peer,
    world: &World,
) -> io::Result<()> {
    let handshake = async {
        let tls = tls.ok_or_else(|| io::Error::other("no certificate is configured"))?;
        timeout(HANDSHAKE_MAX, wire.start_tls(TlsAcceptor::from(tls))).await?
    };
    let result = handshake.await;
    if let Err(error) = &result {
        let (client, reason) = (peer.address(), "the TLS handshake failed");
        world
            .events
            .emit(Happened::ClientRefused { client, reason });
        tracing::debug!(%client, %error, "TLS handshake");
    }
    result
}
