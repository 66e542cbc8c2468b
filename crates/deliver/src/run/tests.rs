//! The dispatcher with scripted sessions: real scheduler, router and store, virtual time.

use std::collections::VecDeque;
use std::sync::Mutex;

use arc_swap::ArcSwap;
use relay_config::{Config, DomainPattern, Relay, Route};
use relay_observe::{Clock, Events};
use relay_policy::{Table, TlsRequirement};
use relay_queue::memory::MemoryStore;
use relay_queue::{Arrival, Detour, NewMessage, Way};
use relay_route::resolver::Later;
use relay_route::{Lookup, MxRecord, Resolver, Router};
use relay_schedule::SiteNews;
use relay_smtp::{Envelope, Mailbox, Recipient, ReversePath};

use super::*;
use crate::dial::TcpDialer;
use crate::link::{Flow, ToSession};
use crate::sign::Signers;
use crate::tls::TlsClient;
use crate::world::Settings;

/// Every domain has one MX, `mx.DOMAIN`.
struct OneMx;

impl Resolver for OneMx {
    fn mx<'a>(&'a self, domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
        Box::pin(async move {
            Lookup::Found(vec![MxRecord {
                preference: 10,
                exchange: format!("mx.{domain}"),
            }])
        })
    }
    fn addresses<'a>(&'a self, _host: &'a str) -> Later<'a, Lookup<std::net::IpAddr>> {
        Box::pin(async { Lookup::NoRecords })
    }
}

/// What one dispatch leads to; after the last line all is delivered.
#[derive(Clone, Debug)]
enum Line {
    Delivered,
    Deferred(Duration),
    /// Never ends.
    Hangs,
    Panics,
    Says(Flow),
    Accepts(Arc<Message>),
    /// Delivered; the outcome is on disk so much later.
    Written(Duration),
    /// Delivered, and that cannot be written down.
    QueueStops,
}

#[derive(Clone, Default)]
struct Script {
    lines: Arc<Mutex<VecDeque<Line>>>,
    /// `HOP: ID` for each dispatch, `expire HOP: ID` for each that is expired.
    log: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn of(lines: impl IntoIterator<Item = Line>) -> Script {
        let script = Script::default();
        script.lines.lock().unwrap().extend(lines);
        script
    }

    fn next(&self) -> Line {
        let line = self.lines.lock().unwrap().pop_front();
        line.unwrap_or(Line::Delivered)
    }

    fn note(&self, kind: &str, dispatch: &Dispatch) {
        let line = format!("{kind}{}: {}", dispatch.hop, dispatch.id);
        self.log.lock().unwrap().push(line);
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Carrier for Script {
    fn session(&self, world: Arc<World>, mut link: Link) -> Task<()> {
        let script = self.clone();
        Box::pin(async move {
            let to = link.to_dispatcher.clone();
            to.send(FromSession::Ready(link.session)).await.unwrap();
            while let Some(ToSession::Work(dispatch)) = link.from_dispatcher.recv().await {
                script.note("", &dispatch);
                let mut report = Report {
                    id: dispatch.id,
                    due_again: None,
                    site: SiteNews::Good,
                };
                tokio::time::sleep(Duration::from_millis(10)).await;
                match script.next() {
                    Line::Delivered => {}
                    Line::Deferred(wait) => report.due_again = Some(world.clock.now() + wait),
                    Line::Hangs => std::future::pending().await,
                    Line::Panics => panic!("as the script says"),
                    Line::Says(flow) => {
                        report.due_again = Some(world.clock.now() + Duration::from_secs(5));
                        let site = link.site.clone();
                        to.send(FromSession::Flow { site, flow }).await.unwrap();
                    }
                    Line::QueueStops => to.send(FromSession::QueueStopped).await.unwrap(),
                    Line::Written(later) => {
                        let session = link.session;
                        let news = report.site;
                        let carried = FromSession::Carried { session, news };
                        to.send(carried).await.unwrap();
                        let hop = dispatch.hop.clone();
                        let (settled, to) = (FromSession::Settled { hop, report }, to.clone());
                        tokio::spawn(async move {
                            tokio::time::sleep(later).await;
                            to.send(settled).await.unwrap();
                        });
                        to_ready(&link).await;
                        continue;
                    }
                    Line::Accepts(dsn) => to.send(FromSession::Accepted(dsn)).await.unwrap(),
                }
                let session = link.session;
                to.send(FromSession::Done { session, report })
                    .await
                    .unwrap();
                to_ready(&link).await;
            }
        })
    }

    fn expire(
        &self,
        _world: Arc<World>,
        dispatch: Dispatch,
        _to_dispatcher: mpsc::Sender<FromSession>,
    ) -> Task<Report> {
        self.note("expire ", &dispatch);
        let line = self.next();
        Box::pin(async move {
            if let Line::Panics = line {
                panic!("as the script says");
            }
            Report {
                id: dispatch.id,
                due_again: None,
                site: SiteNews::Neutral,
            }
        })
    }
}

async fn to_ready(link: &Link) {
    let ready = FromSession::Ready(link.session);
    link.to_dispatcher.send(ready).await.unwrap();
}

fn world() -> Arc<World> {
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let config = Config::default_for("relay.ours.test");
    let router = Router::with_seed(Arc::new(OneMx), route_settings(&config), 1);
    Arc::new(World {
        clock,
        events: Events::default(),
        store: Arc::new(MemoryStore::new(clock)),
        suppressions: Arc::new(relay_suppression::List::in_memory(Events::default())),
        router,
        dialer: Arc::new(TcpDialer),
        tls: TlsClient::with_roots(rustls::RootCertStore::empty()).unwrap(),
        sts: None,
        tokens: Default::default(),
        tls_reports: None,
        homes: Default::default(),
        hosts: Default::default(),
        scope: Default::default(),
        watchers: Default::default(),
        sites_file: None,
        settings: ArcSwap::from_pointee(settings(config)),
    })
}

fn settings(config: Config) -> Settings {
    Settings {
        config: Arc::new(config),
        table: Arc::new(Table::default_table()),
        signers: Arc::new(Signers::none()),
    }
}

/// Accepted by the queue; the dispatcher does not know of it yet.
async fn accepted(world: &World, recipients: &[&str]) -> Arc<Message> {
    let mailbox = |text: &str| Mailbox::parse(text).unwrap();
    let recipients = recipients
        .iter()
        .map(|text| Recipient::plain(mailbox(text)))
        .collect();
    let message = NewMessage {
        id: world.store.next_id(),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(mailbox("news-17@ours.test")),
            recipients,
            body_type: relay_smtp::BodyType::SevenBit,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        },
        arrival: Arrival {
            at: world.clock.now(),
            client: None,
            user: None,
            dsn_of: None,
        },
        body: "Subject: x\r\n\r\n\r\n".into(),
    };
    world.store.accept(message).await.unwrap()
}

fn start(world: &Arc<World>, script: &Script) -> Delivery {
    Delivery::start_with(Arc::clone(world), 1, Arc::new(script.clone())).0
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_dispatched_once_for_each_next_hop() {
    let (world, script) = (world(), Script::default());
    let delivery = start(&world, &script);
    let message = accepted(&world, &["a@one.test", "b@two.test", "c@one.test"]).await;
    delivery.enqueue(Arc::clone(&message)).await;
    delivery.enqueue(Arc::clone(&message)).await;
    seconds(1).await;
    let mut log = script.take_log();
    log.sort();
    let id = message.id;
    assert_eq!(log, [format!("one.test: {id}"), format!("two.test: {id}")]);
    assert!(delivery.blocked_by(id).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_in_the_queue_is_loaded_with_its_due_time() {
    let (world, script) = (world(), Script::default());
    let early = accepted(&world, &["a@one.test"]).await;
    let late = accepted(&world, &["a@one.test"]).await;
    let mut state = late.recipients[0].clone();
    state.state = relay_queue::State::Deferred;
    state.next_attempt = world.clock.now() + Duration::from_secs(600);
    let change = relay_queue::RecipientChange { index: 0, state };
    let settlement = relay_queue::Settlement {
        id: late.id,
        changes: vec![change],
        dsns: vec![],
    };
    world.store.settle(settlement).await.unwrap();
    let delivery = start(&world, &script);
    assert_eq!(delivery.load().await, 2);
    seconds(599).await;
    assert_eq!(script.take_log(), [format!("one.test: {}", early.id)]);
    assert_eq!(
        delivery.blocked_by(late.id).await,
        ["one.test: waits for its next attempt at 2026-01-01T00:10:00Z"]
    );
    seconds(2).await;
    assert_eq!(script.take_log(), [format!("one.test: {}", late.id)]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_loses_nothing() {
    let (world, script) = (world(), Script::of([Line::Panics, Line::Panics]));
    let delivery = start(&world, &script);
    let message = accepted(&world, &["a@one.test"]).await;
    delivery.enqueue(Arc::clone(&message)).await;
    seconds(10).await;
    assert_eq!(script.take_log().len(), 3);
    assert!(delivery.blocked_by(message.id).await.is_empty());
    assert_eq!(delivery.sites().await[0].sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_outcome_is_being_written_down_is_not_tried_again() {
    let written = Line::Written(Duration::from_secs(20));
    let (world, script) = (world(), Script::of([written]));
    let delivery = start(&world, &script);
    let first = accepted(&world, &["a@one.test"]).await;
    delivery.enqueue(Arc::clone(&first)).await;
    seconds(1).await;
    let second = accepted(&world, &["a@one.test"]).await;
    delivery.enqueue(Arc::clone(&second)).await;
    seconds(1).await;
    let hop = "one.test";
    let both = [
        format!("{hop}: {}", first.id),
        format!("{hop}: {}", second.id),
    ];
    assert_eq!(script.take_log(), both, "the session is free at once");
    delivery.flush(None).await;
    seconds(17).await;
    assert!(script.take_log().is_empty());
    assert_eq!(delivery.flush(None).await, 1);
    seconds(2).await;
    assert_eq!(delivery.flush(None).await, 0);
    assert!(script.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_queue_has_stopped() {
    let (world, script) = (world(), Script::of([Line::QueueStops]));
    let delivery = start(&world, &script);
    let first = accepted(&world, &["a@one.test"]).await;
    delivery.enqueue(Arc::clone(&first)).await;
    seconds(1).await;
    assert_eq!(script.take_log().len(), 1);
    for recipient in ["a@one.test", "a@two.test"] {
        let message = accepted(&world, &[recipient]).await;
        delivery.enqueue(message).await;
    }
    seconds(3600).await;
    assert!(script.take_log().is_empty());
    delivery.stop(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_makes_deferred_messages_due_and_counts_them() {
    let hour = Line::Deferred(Duration::from_secs(3600));
    let (world, script) = (world(), Script::of([hour.clone(), hour]));
    let delivery = start(&world, &script);
    let first = accepted(&world, &["a@one.test"]).await;
    let second = accepted(&world, &["a@two.test"]).await;
    delivery.enqueue(Arc::clone(&first)).await;
    delivery.enqueue(Arc::clone(&second)).await;
    seconds(10).await;
    script.take_log();
    let unknown = relay_smtp::QueueId::from_u64(1);
    assert_eq!(
        delivery
            .flush(Some(vec![first.id, unknown, first.id]))
            .await,
        1
    );
    seconds(1).await;
    assert_eq!(script.take_log(), [format!("one.test: {}", first.id)]);
    assert_eq!(delivery.flush(None).await, 1);
    seconds(1).await;
    assert_eq!(script.take_log(), [format!("two.test: {}", second.id)]);
    assert_eq!(delivery.flush(None).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_suspends_a_site_is_shown_and_kept_and_a_removed_message_is_not_tried() {
    let flow = Flow::SuspendDestination {
        rule: "listed".to_owned(),
        how_long: Duration::from_secs(60),
    };
    let (world, script) = (world(), Script::of([Line::Says(flow)]));
    let delivery = start(&world, &script);
    let message = accepted(&world, &["a@one.test"]).await;
    delivery.enqueue(Arc::clone(&message)).await;
    seconds(10).await;
    let site = delivery.sites().await.remove(0);
    assert_eq!(site.site, "mx.one.test");
    assert_eq!(site.hops, ["one.test"]);
    assert_eq!((site.ready, site.in_flight, site.sessions), (1, 0, 0));
    assert_eq!(site.why.as_deref(), Some("listed"));
    let why = delivery.blocked_by(message.id).await;
    assert!(
        why[0].starts_with("site mx.one.test suspended until"),
        "{why:?}"
    );
    let other = accepted(&world, &["b@one.test"]).await;
    delivery.enqueue(Arc::clone(&other)).await;
    delivery.remove(message.id).await;
    seconds(60).await;
    let expected = [
        format!("one.test: {}", message.id),
        format!("one.test: {}", other.id),
    ];
    assert_eq!(script.take_log(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_time_ends_while_its_site_is_suspended_expires() {
    let flow = Flow::SuspendDestination {
        rule: "listed".to_owned(),
        how_long: Duration::from_secs(30 * 86_400),
    };
    let (world, script) = (world(), Script::of([Line::Says(flow), Line::Panics]));
    let delivery = start(&world, &script);
    let message = accepted(&world, &["a@one.test"]).await;
    delivery.enqueue(Arc::clone(&message)).await;
    seconds(5 * 86_400 - 1).await;
    assert_eq!(script.take_log().len(), 1);
    seconds(2).await;
    let expired = format!("expire one.test: {}", message.id);
    assert_eq!(script.take_log(), std::slice::from_ref(&expired));
    seconds(62).await;
    assert_eq!(script.take_log(), [expired], "again after a panic");
    assert!(delivery.blocked_by(message.id).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dsn_made_by_a_session_is_tried_at_once() {
    let world = world();
    let dsn = accepted(&world, &["sender@two.test"]).await;
    let script = Script::of([Line::Accepts(Arc::clone(&dsn))]);
    let delivery = start(&world, &script);
    let message = accepted(&world, &["a@one.test"]).await;
    delivery.enqueue(Arc::clone(&message)).await;
    seconds(1).await;
    let expected = [
        format!("one.test: {}", message.id),
        format!("two.test: {}", dsn.id),
    ];
    assert_eq!(script.take_log(), expected);
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_transactions_and_abandons_what_hangs() {
    let (world, script) = (world(), Script::of([Line::Delivered, Line::Hangs]));
    let (delivery, task) = Delivery::start_with(Arc::clone(&world), 1, Arc::new(script.clone()));
    for recipient in ["a@one.test", "a@two.test"] {
        let message = accepted(&world, &[recipient]).await;
        delivery.enqueue(message).await;
    }
    // Both are in their transactions.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let begun = tokio::time::Instant::now();
    delivery.stop(Duration::from_secs(20)).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
    task.await.unwrap();
    assert_eq!(script.take_log().len(), 2);
    assert_eq!(delivery.flush(None).await, 0, "nobody is there any more");
}

#[tokio::test(start_paused = true)]
async fn stopping_without_work_is_done_at_once() {
    let (world, script) = (world(), Script::default());
    let (delivery, task) = Delivery::start_with(Arc::clone(&world), 1, Arc::new(script.clone()));
    delivery
        .enqueue(accepted(&world, &["a@one.test"]).await)
        .await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let begun = tokio::time::Instant::now();
    delivery.stop(Duration::from_secs(20)).await;
    assert!(begun.elapsed() < Duration::from_millis(20));
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_waiting_messages_to_their_new_next_hop() {
    let (world, script) = (world(), Script::default());
    let delivery = start(&world, &script);
    let mut config = Config::default_for("relay.ours.test");
    let message = accepted(&world, &["a@one.test"]).await;
    script
        .lines
        .lock()
        .unwrap()
        .push_back(Line::Deferred(Duration::from_secs(600)));
    delivery.enqueue(Arc::clone(&message)).await;
    seconds(5).await;
    config.routes.push(Route {
        to: vec![DomainPattern::All],
        name: "up.test:587".into(),
        via: vec![Relay {
            host: "up.test".to_owned(),
            port: 587,
        }],
        balance: relay_config::Balance::InOrder,
        tls: TlsRequirement::Opportunistic,
        login: None,
    });
    world.settings.store(Arc::new(settings(config)));
    delivery.reload().await;
    seconds(5).await;
    let expected = [
        format!("one.test: {}", message.id),
        format!("relay:up.test:587: {}", message.id),
    ];
    // The queue was not told of the deferral: there the message is still due.
    assert_eq!(script.take_log(), expected);
    let sites = delivery.sites().await;
    assert!(sites.iter().any(|site| site.site == "relay:up.test:587"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_being_tried_goes_its_new_way_only_after_that_attempt() {
    let (world, script) = (world(), Script::default());
    let delivery = start(&world, &script);
    let message = accepted(&world, &["a@one.test"]).await;
    let written_late = Line::Written(Duration::from_secs(60));
    script.lines.lock().unwrap().push_back(written_late);
    delivery.enqueue(Arc::clone(&message)).await;
    seconds(5).await;
    let old_way = format!("one.test: {}", message.id);
    assert_eq!(script.take_log(), [old_way]);
    let way = Way {
        index: 0,
        detour: Some(Detour::Relay("up.test:587".to_owned())),
    };
    let rerouted = world.store.reroute(message.id, vec![way]).await.unwrap();
    delivery.rerouted(rerouted).await;
    seconds(30).await;
    assert!(script.take_log().is_empty(), "the outcome is not known yet");
    seconds(30).await;
    let new_way = format!("relay:up.test:587: {}", message.id);
    assert_eq!(script.take_log(), [new_way]);
}
