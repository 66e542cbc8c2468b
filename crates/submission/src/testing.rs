//! What the tests of this crate share: users, a world, a store that can be held back or fail, and
//! a client that speaks over memory.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use bytes::Bytes;
use relay_config::{Listener, ListenerTls, Source, User};
use relay_observe::{Clock, Events};
use relay_queue::memory::MemoryStore;
use relay_queue::store::{Later, Settled};
use relay_queue::verify::{Progress, Report};
use relay_queue::{
    Admission, Body, Imports, Message, NewMessage, Page, Select, Sender, Settlement, Staging,
    Stats, Store, StoreError, Waiting, Way,
};
use relay_smtp::{Host, QueueId};
use relay_suppression::List;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::session::{self, Peer};
use crate::world::{Accepted, Settings, World};

/// A client beyond loopback that no test's settings trust.
pub(crate) const STRANGER: &str = "192.0.2.9:40000";
pub(crate) const LOCAL: &str = "127.0.0.1:40000";

/// A user without restrictions, with a hash that costs little.
pub(crate) fn user(name: &str, password: &str) -> User {
    User {
        name: name.to_owned(),
        password_hash: hash(password),
        senders: Vec::new(),
        rate: None,
    }
}

fn hash(password: &str) -> String {
    let params = Params::new(Params::MIN_M_COST, 1, 1, None).expect("valid");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password.as_bytes(), b"salt of tests");
    hash.expect("hashes").to_string()
}

/// A relay without sockets.
pub(crate) struct Relay {
    pub(crate) world: Arc<World>,
    pub(crate) listener: Listener,
    pub(crate) store: Arc<TestStore>,
    /// What was handed over.
    pub(crate) accepted: mpsc::UnboundedReceiver<Arc<Message>>,
    pub(crate) stop: CancellationToken,
}

impl Relay {
    /// `settings` is TOML; `USER` in it becomes a user `app` with the password `secret`, to which
    /// keys may be added. The first listener is the one that clients come to.
    pub(crate) fn new(settings: &str) -> Relay {
        Relay::with(settings, ListenerTls::None, None)
    }

    pub(crate) fn with(
        settings: &str,
        listener_tls: ListenerTls,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Relay {
        let user = format!(
            "[[user]]\nname = \"app\"\npassword_hash = \"{}\"",
            hash("secret")
        );
        let source = Source {
            name: "test.toml".to_owned(),
            text: settings.replace("USER", &user),
        };
        let files = relay_config::check::NoFiles;
        let config = relay_config::load(&[source], &[], &[], "relay.example", &files);
        let mut config = config.expect("valid");
        config.listeners[0].tls = listener_tls;
        let clock = Clock::starting_at("2026-11-22T12:00:00Z".parse().expect("a time"));
        let store = Arc::new(TestStore::new(clock));
        let (sender, accepted) = mpsc::unbounded_channel();
        let world = World::new(
            clock,
            Events::default(),
            store.clone(),
            Arc::new(List::in_memory(Events::default())),
            Settings::new(&config),
            tls,
            Arc::new(Hand(sender)),
        );
        Relay {
            world: Arc::new(world),
            listener: config.listeners[0].clone(),
            store,
            accepted,
            stop: CancellationToken::new(),
        }
    }

    /// A session over memory, as if from `address`. The banner is not read yet.
    pub(crate) fn connect(&self, address: &str) -> (Client<DuplexStream>, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (world, listener) = (Arc::clone(&self.world), self.listener.clone());
        let peer: SocketAddr = address.parse().expect("an address");
        let stop = self.stop.clone();
        let session = tokio::spawn(async move {
            session::run(theirs, Peer::Tcp(peer), &listener, &world, &stop).await;
        });
        (Client::new(ours), session)
    }

    /// A session after banner and EHLO.
    pub(crate) async fn greeted(&self, address: &str) -> Client<DuplexStream> {
        let (mut client, _) = self.connect(address);
        client.greet().await;
        client
    }

    /// A message's body in the queue.
    pub(crate) async fn body(&self, id: QueueId) -> Bytes {
        let body = self.store.body(id).await.expect("kept").expect("there");
        body.whole().await.expect("readable")
    }

    pub(crate) fn count(&self, metric: &str) -> u64 {
        let counters = self.world.events.metrics().snapshot();
        let counter = counters.iter().find(|(name, _)| *name == metric);
        counter.expect("such a metric").1
    }
}

struct Hand(mpsc::UnboundedSender<Arc<Message>>);

impl Accepted for Hand {
    fn accepted(&self, message: Arc<Message>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let _ = self.0.send(message);
        })
    }
}

/// The client's end of a connection.
pub(crate) struct Client<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Client<S> {
        Client {
            stream,
            unread: Vec::new(),
        }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// The server may have closed already; its last reply tells.
    pub(crate) async fn send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// One line, and the reply to it.
    pub(crate) async fn say(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await
    }

    /// One whole reply without its last CRLF; "" when the server has closed.
    pub(crate) async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let Some(line) = self.line().await else {
                return reply;
            };
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
            }
        }
    }

    pub(crate) async fn greet(&mut self) {
        assert!(self.reply().await.starts_with("220 "));
        assert!(self.say("EHLO client.example").await.starts_with("250-"));
    }

    /// AUTH PLAIN as `app` with `secret`.
    pub(crate) async fn login(&mut self) -> String {
        self.say("AUTH PLAIN AGFwcABzZWNyZXQ=").await
    }

    /// MAIL and RCPT.
    pub(crate) async fn begin_envelope(&mut self) {
        for line in ["MAIL FROM:<a@app.example>", "RCPT TO:<b@rcpt.example>"] {
            let reply = self.say(line).await;
            assert!(reply.starts_with("250"), "{line}: {reply}");
        }
    }

    /// MAIL, RCPT and DATA up to the 354.
    pub(crate) async fn begin(&mut self) {
        self.begin_envelope().await;
        let reply = self.say("DATA").await;
        assert!(reply.starts_with("354"), "{reply}");
    }

    /// A whole message; the reply to its body.
    pub(crate) async fn submit(&mut self, text: &str) -> String {
        self.begin().await;
        self.send(text).await;
        self.say(".").await
    }
}

/// The in-memory store, whose accept can be held back or made to fail.
pub(crate) struct TestStore {
    inner: MemoryStore,
    /// accept takes a permit and waits where there is none.
    pub(crate) permits: Semaphore,
    pub(crate) failure: Mutex<Option<StoreError>>,
    /// What it says when asked whether it would accept.
    pub(crate) unwilling: Mutex<Option<StoreError>>,
    /// And whether sessions may begin.
    pub(crate) closed: Mutex<Option<StoreError>>,
    /// A domain that gets nothing more.
    pub(crate) crowded: Mutex<Option<String>>,
    /// Who asked to be admitted, with how many bytes.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Bodies that were staged, and how many more pieces of them the disk takes.
    pub(crate) staged: AtomicUsize,
    pub(crate) room_for_pieces: Arc<AtomicUsize>,
}

impl TestStore {
    fn new(clock: Clock) -> TestStore {
        TestStore {
            inner: MemoryStore::new(clock),
            permits: Semaphore::new(1_000_000),
            failure: Mutex::default(),
            unwilling: Mutex::default(),
            closed: Mutex::default(),
            crowded: Mutex::default(),
            asked: Mutex::default(),
            staged: AtomicUsize::new(0),
            room_for_pieces: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }

    /// From now on accept waits until [`TestStore::let_go`].
    pub(crate) fn hold(&self) {
        self.permits.forget_permits(1_000_000);
    }

    pub(crate) fn let_go(&self) {
        self.permits.add_permits(1_000_000);
    }

    pub(crate) fn fail(&self, error: Option<StoreError>) {
        *self.failure.lock().expect("not poisoned") = error;
    }
}

/// Full after some pieces.
struct SmallDisk {
    inner: Box<dyn Staging>,
    room_for_pieces: Arc<AtomicUsize>,
}

impl Staging for SmallDisk {
    fn write(&mut self, bytes: Bytes) -> Later<'_, Result<(), StoreError>> {
        let less = |room: usize| room.checked_sub(1);
        let room = &self.room_for_pieces;
        match room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => self.inner.write(bytes),
            Err(_) => Box::pin(async { Err(StoreError::Full("no space left".to_owned())) }),
        }
    }

    fn finish(self: Box<Self>) -> Later<'static, Result<Body, StoreError>> {
        self.inner.finish()
    }
}

impl Store for TestStore {
    fn next_id(&self) -> QueueId {
        self.inner.next_id()
    }

    fn accept(&self, message: NewMessage) -> Later<'_, Result<Arc<Message>, StoreError>> {
        Box::pin(async move {
            self.permits.acquire().await.expect("open").forget();
            let failure = self.failure.lock().expect("not poisoned").clone();
            match failure {
                Some(error) => Err(error),
                None => self.inner.accept(message).await,
            }
        })
    }

    fn stage(&self, id: QueueId) -> Later<'_, Result<Box<dyn Staging>, StoreError>> {
        Box::pin(async move {
            self.staged.fetch_add(1, Ordering::Relaxed);
            let inner = self.inner.stage(id).await?;
            let room_for_pieces = self.room_for_pieces.clone();
            Ok(Box::new(SmallDisk {
                inner,
                room_for_pieces,
            }) as Box<dyn Staging>)
        })
    }

    fn may_connect(&self) -> Result<(), StoreError> {
        let closed = self.closed.lock().expect("not poisoned").clone();
        closed.map_or(Ok(()), Err)
    }

    fn admit(&self, sender: &Sender, bytes: u64) -> Result<Admission, StoreError> {
        let mut asked = self.asked.lock().expect("not poisoned");
        asked.push(format!("{sender}, {bytes} bytes"));
        let unwilling = self.unwilling.lock().expect("not poisoned").clone();
        unwilling.map_or(Ok(Admission::default()), Err)
    }

    fn admit_to(&self, domain: &Host) -> Result<(), StoreError> {
        let crowded = self.crowded.lock().expect("not poisoned");
        match crowded.as_deref() == Some(domain.to_string().as_str()) {
            true => Err(StoreError::Full("space is short".to_owned())),
            false => Ok(()),
        }
    }

    fn settle(&self, settlement: Settlement) -> Later<'_, Result<Settled, StoreError>> {
        self.inner.settle(settlement)
    }

    fn reroute(&self, id: QueueId, ways: Vec<Way>) -> Later<'_, Result<Arc<Message>, StoreError>> {
        self.inner.reroute(id, ways)
    }

    fn import(&self, message: Message, body: Body) -> Later<'_, Result<Arc<Message>, StoreError>> {
        self.inner.import(message, body)
    }

    fn imports(&self) -> Arc<Imports> {
        self.inner.imports()
    }

    fn verify(&self, progress: Arc<Progress>) -> Later<'_, Result<Report, StoreError>> {
        self.inner.verify(progress)
    }

    fn message(&self, id: QueueId) -> Later<'_, Result<Option<Arc<Message>>, StoreError>> {
        self.inner.message(id)
    }

    fn body(&self, id: QueueId) -> Later<'_, Result<Option<Body>, StoreError>> {
        self.inner.body(id)
    }

    fn list(
        &self,
        select: Select,
        after: Option<QueueId>,
        limit: usize,
    ) -> Later<'_, Result<Page, StoreError>> {
        self.inner.list(select, after, limit)
    }

    fn survey(
        &self,
        after: Option<QueueId>,
        look: &mut dyn FnMut(&Waiting<'_>),
    ) -> Result<Option<QueueId>, StoreError> {
        self.inner.survey(after, look)
    }
    fn recent(&self, limit: usize) -> Vec<Arc<Message>> {
        self.inner.recent(limit)
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn close(&self) -> Later<'_, ()> {
        self.inner.close()
    }
}
