//! The API over a real unix socket, with the in-memory store and a dispatcher that only takes notes.

// Every function here belongs to a test.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use relay_admin::view::{Advice, SiteStatus};
use relay_admin::{AdminWorld, Dispatcher, Later};
use relay_config::Config;
use relay_observe::{Basis, Clock, Event, Events, Tried, history};
use relay_queue::memory::MemoryStore;
use relay_queue::{Attempt, Message, RecipientChange, Settlement, State, Store};
use relay_smtp::{NextHop, Phase, QueueId};
use serde_json::{Value, json};
use tokio::net::UnixStream;

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn write(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Dispatcher for Notes {
    fn enqueue(&self, message: Arc<Message>) -> Later<'_, ()> {
        self.write(format!("enqueue {}", message.id));
        Box::pin(std::future::ready(()))
    }

    fn rerouted(&self, message: Arc<Message>) -> Later<'_, ()> {
        self.write(format!("rerouted {}", message.id));
        Box::pin(std::future::ready(()))
    }

    fn flush(&self, ids: Option<Vec<QueueId>>) -> Later<'_, u64> {
        let count = ids.as_ref().map(Vec::len);
        self.write(format!("flush {count:?}"));
        Box::pin(std::future::ready(count.unwrap_or(77) as u64))
    }

    fn suspend<'a>(&'a self, site: &'a str, until: jiff::Timestamp) -> Later<'a, ()> {
        self.write(format!("suspend {site} until {until}"));
        Box::pin(std::future::ready(()))
    }

    fn resume<'a>(&'a self, site: &'a str) -> Later<'a, ()> {
        self.write(format!("resume {site}"));
        Box::pin(std::future::ready(()))
    }

    fn remove(&self, id: QueueId) -> Later<'_, ()> {
        self.write(format!("remove {id}"));
        Box::pin(std::future::ready(()))
    }

    fn sites(&self) -> Later<'_, Vec<SiteStatus>> {
        let site = SiteStatus {
            site: "mx.example.com".to_owned(),
            waiting: 3,
            ..SiteStatus::default()
        };
        Box::pin(std::future::ready(vec![site]))
    }

    fn blocked_by(&self, _id: QueueId) -> Later<'_, Vec<String>> {
        let words = "waits for its next attempt".to_owned();
        Box::pin(std::future::ready(vec![words]))
    }

    fn oldest_due(&self) -> Later<'_, Option<jiff::Timestamp>> {
        let an_hour_ago = "2026-11-22T15:00:00Z".parse().unwrap();
        Box::pin(std::future::ready(Some(an_hour_ago)))
    }

    fn site_of<'a>(&'a self, hop: &'a NextHop) -> Later<'a, String> {
        let site = format!("mx1.{hop},mx2.{hop}");
        Box::pin(std::future::ready(site))
    }

    fn advice(&self, rule: &str) -> Option<Advice> {
        Some(Advice {
            rule: rule.to_owned(),
            fix: Some("call them".to_owned()),
            ..Advice::default()
        })
    }
}

/// A served API.
struct Api {
    _directory: tempfile::TempDir,
    socket: std::path::PathBuf,
    store: Arc<dyn Store>,
    notes: Arc<Notes>,
    events: Events,
    clock: Clock,
    world: Arc<AdminWorld>,
}

impl Api {
    fn start() -> Api {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("relayd.sock");
        let clock = Clock::starting_at("2026-11-22T16:00:00Z".parse().unwrap());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock));
        let notes = Arc::new(Notes::default());
        let events = Events::with_history(
            history::Options {
                dir: directory.path().join("log"),
                addresses: history::Addresses::Whole,
                max_age: Duration::from_secs(86_400),
                bytes_max: 1 << 24,
            },
            clock,
        )
        .unwrap();
        let mut config = Config::default_for("relay.example.com");
        config.submission.message_bytes_max = 10_000;
        let world = Arc::new(AdminWorld {
            clock,
            events: events.clone(),
            store: Arc::clone(&store),
            suppressions: Arc::new(relay_suppression::List::in_memory(Events::default())),
            dispatcher: notes.clone(),
            config: Arc::new(ArcSwap::from_pointee(config)),
            watchers: Default::default(),
            tls_reports: None,
            examine: Box::new(|_| Box::pin(std::future::ready(Vec::new()))),
            reload: Box::new(|| {
                let mistakes = vec!["relayd.toml:3: hostname: no".to_owned()];
                Box::pin(std::future::ready(Err(mistakes)))
            }),
            started: clock.now(),
            version: "0.1.0",
        });
        let listener = relay_admin::bind(&socket).unwrap();
        tokio::spawn(relay_admin::serve(
            listener,
            world.clone(),
            std::future::pending::<()>(),
        ));
        Api {
            _directory: directory,
            socket,
            store,
            notes,
            events,
            clock,
            world,
        }
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        self.ask(Method::GET, target, Vec::new()).await
    }

    async fn post(&self, target: &str, body: Value) -> (u16, Value) {
        self.ask(Method::POST, target, body.to_string().into_bytes())
            .await
    }

    async fn ask(&self, method: Method, target: &str, body: Vec<u8>) -> (u16, Value) {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "relayd")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        (
            status,
            serde_json::from_slice(&body).unwrap_or_else(|_| text()),
        )
    }

    /// Hands in a message; returns its id.
    async fn send(&self, to: &[&str]) -> String {
        let to: Vec<String> = to.iter().map(|to| format!("to={to}")).collect();
        let target = format!("/v1/messages?from=a@x.test&{}", to.join("&"));
        let message = b"Subject: t\n\nbody\n".to_vec();
        let (status, answer) = self.ask(Method::POST, &target, message).await;
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Settles one recipient as an attempt would.
    async fn settle(&self, id: &str, index: u32, to: State, reply: &str, action: &str) {
        let id: QueueId = id.parse().unwrap();
        let message = self.store.message(id).await.unwrap().unwrap();
        let mut state = message.recipients[index as usize].clone();
        state.state = to;
        state.record(Attempt {
            at: self.clock.now(),
            host: Some("mx.example.com [192.0.2.7]".to_owned()),
            tls: None,
            phase: Phase::Rcpt,
            reply: reply.to_owned(),
            category: "ip-blocked".to_owned(),
            action: action.to_owned(),
            rule: "some-rule".to_owned(),
        });
        let settlement = Settlement {
            id,
            changes: vec![RecipientChange { index, state }],
            dsns: Vec::new(),
        };
        self.store.settle(settlement).await.unwrap();
    }
}

#[tokio::test]
async fn a_message_handed_in_is_stored_with_received_and_given_to_the_dispatcher() {
    let api = Api::start();
    let id = api.send(&["ok@example.com", "b@example.net"]).await;
    assert_eq!(api.notes.take(), [format!("enqueue {id}")]);
    let body = api.store.body(id.parse().unwrap()).await.unwrap().unwrap();
    let body = String::from_utf8(body.whole().await.unwrap().to_vec()).unwrap();
    assert!(body.starts_with("Received: "), "{body}");
    assert!(body.contains(&id), "{body}");
    assert!(body.contains("\r\nMessage-ID: "), "{body}");
    assert!(body.ends_with("\r\n\r\nbody\r\n"), "{body}");
}

#[tokio::test]
async fn the_queue_is_listed_page_by_page_and_by_selection() {
    let api = Api::start();
    let first = api.send(&["a@example.com"]).await;
    let second = api.send(&["b@example.net"]).await;
    let (_, page) = api.get("/v1/queue?limit=1").await;
    assert_eq!(page["messages"][0]["id"], json!(first));
    assert_eq!(page["messages"][0]["recipients"][0]["state"], "queued");
    let arrived = page["messages"][0]["arrived"].as_str();
    assert!(arrived.is_some_and(|at| at.starts_with("2026-11-22T16:00:0") && at.ends_with('Z')));
    let expires = page["messages"][0]["recipients"][0]["expires"].as_str();
    assert!(expires.is_some_and(|at| at.starts_with("2026-11-27T16:00:0")));
    let next = page["next"].as_str().unwrap();
    let (_, page) = api.get(&format!("/v1/queue?limit=1&after={next}")).await;
    assert_eq!(page["messages"][0]["id"], json!(second));
    let (_, page) = api.get("/v1/queue?to=EXAMPLE.net").await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
    assert_eq!(page["messages"][0]["id"], json!(second));
}

#[tokio::test]
async fn one_message_is_shown_with_history_also_when_it_has_been_delivered() {
    let api = Api::start();
    let id = api.send(&["a@example.com"]).await;
    let (_, shown) = api.get(&format!("/v1/queue/{id}")).await;
    assert_eq!(shown["blocked_by"], json!(["waits for its next attempt"]));
    assert!(shown["headers"].as_str().unwrap().contains("Subject: t"));
    api.settle(&id, 0, State::Delivered, "250 2.0.0 ok", "ok")
        .await;
    let (status, shown) = api.get(&format!("/v1/queue/{id}")).await;
    assert_eq!(status, 200);
    assert_eq!(shown["recipients"][0]["state"], "delivered");
    assert_eq!(shown["recipients"][0]["next_attempt"], Value::Null);
    assert_eq!(shown["recipients"][0]["history"][0]["phase"], "rcpt");
    assert_eq!(shown["blocked_by"], json!([]));
    let (_, page) = api.get("/v1/queue/finished?recipient=a@example.com").await;
    assert_eq!(page["messages"][0]["id"], json!(id));
    let (_, page) = api.get("/v1/queue/finished?recipient=z@example.com").await;
    assert_eq!(page["messages"], json!([]));
}

#[tokio::test]
async fn unknown_messages_and_bad_requests_are_refused_in_words() {
    let api = Api::start();
    for (target, status) in [
        ("/v1/queue/3f7k9q2mxt4p", 404),
        ("/v1/queue/nonsense", 400),
        ("/v1/queue?recipent=x", 400),
        ("/v1/queue?limit=few", 400),
        ("/v1/queue?id=nonsense", 400),
        ("/v1/nothing", 404),
    ] {
        let (found, answer) = api.get(target).await;
        assert_eq!(found, status, "{target}");
        assert!(answer["error"].is_string(), "{target}: {answer}");
    }
    let long = vec![b'x'; 20_000];
    let target = "/v1/messages?from=a@x.test&to=b@x.test";
    let (status, answer) = api.ask(Method::POST, target, long).await;
    assert_eq!(status, 413, "{answer}");
    let nobody = "/v1/messages?from=a@x.test";
    let (status, _) = api.ask(Method::POST, nobody, vec![]).await;
    assert_eq!(status, 400);
    assert!(api.notes.take().is_empty());
}

#[tokio::test]
async fn flush_names_what_is_selected_and_everything_as_such() {
    let api = Api::start();
    api.send(&["a@example.com"]).await;
    api.send(&["b@example.net"]).await;
    api.notes.take();
    let (_, answer) = api.post("/v1/queue/flush", json!({})).await;
    assert_eq!(answer["messages"], 77);
    let select = json!({"select": {"to": "example.net"}});
    let (_, answer) = api.post("/v1/queue/flush", select).await;
    assert_eq!(answer["messages"], 1);
    let select = json!({"select": {"to": "example.org"}});
    let (_, answer) = api.post("/v1/queue/flush", select).await;
    assert_eq!(answer["messages"], 0);
    assert_eq!(api.notes.take(), ["flush None", "flush Some(1)"]);
}

#[tokio::test]
async fn untried_counts_down_as_recipients_are_tried() {
    let api = Api::start();
    let id = api.send(&["a@example.com", "b@example.com"]).await;
    let since: Timestamp = api.clock.now();
    let target = format!("/v1/queue/untried?since={since}");
    let (_, answer) = api.get(&target).await;
    assert_eq!(answer, json!({"untried": 1}));
    api.settle(&id, 0, State::Deferred, "450 later", "defer")
        .await;
    let (_, answer) = api.get(&target).await;
    assert_eq!(answer, json!({"untried": 1}));
    api.settle(&id, 1, State::Deferred, "450 later", "defer")
        .await;
    let (_, answer) = api.get(&target).await;
    assert_eq!(answer, json!({"untried": 0}));
}

#[tokio::test]
async fn rerouting_takes_the_selected_recipients_another_way_and_back() {
    let api = Api::start();
    let id = api.send(&["a@example.com", "b@example.net"]).await;
    api.notes.take();
    let to = |way: Value| json!({"command": {"select": {"to": "example.net"}}, "way": way});
    let routes = async || {
        let (_, shown) = api.get(&format!("/v1/queue/{id}")).await;
        let recipients = shown["recipients"].as_array().unwrap().clone();
        let routes = recipients
            .iter()
            .map(|recipient| recipient["route"].clone());
        routes.collect::<Vec<_>>()
    };
    let via = to(json!({"via": "up.example:2525"}));
    let (_, answer) = api.post("/v1/queue/reroute", via.clone()).await;
    assert_eq!(answer, json!({"messages": 1, "recipients": 1}));
    assert_eq!(routes().await, [Value::Null, json!("up.example:2525")]);
    assert_eq!(api.notes.take(), [format!("rerouted {id}")]);
    let site = "/v1/queue?site=mx1.relay:up.example:2525";
    assert_eq!(api.get(site).await.1["messages"][0]["id"], json!(id));
    let (_, again) = api.post("/v1/queue/reroute", via).await;
    assert_eq!(again, json!({"messages": 0, "recipients": 0}));
    let (_, _) = api.post("/v1/queue/reroute", to(json!("mx"))).await;
    assert_eq!(routes().await, [Value::Null, json!("mx")]);
    let (_, _) = api.post("/v1/queue/reroute", to(json!("default"))).await;
    assert_eq!(routes().await, [Value::Null, Value::Null]);
    let nowhere = to(json!({"via": "two words"}));
    assert_eq!(api.post("/v1/queue/reroute", nowhere).await.0, 400);
    let everything = json!({"command": {}, "way": "mx"});
    assert_eq!(api.post("/v1/queue/reroute", everything).await.0, 400);
}

#[tokio::test]
async fn delete_discards_the_selected_recipients_and_leaves_the_others() {
    let api = Api::start();
    let id = api.send(&["a@example.com", "b@example.net"]).await;
    api.notes.take();
    let (status, _) = api.post("/v1/queue/delete", json!({})).await;
    assert_eq!(status, 400, "an empty selection must be refused");
    let select = json!({"select": {"recipient": "a@example.com"}});
    let (_, answer) = api.post("/v1/queue/delete", select).await;
    assert_eq!(answer, json!({"messages": 1, "recipients": 1}));
    let (_, shown) = api.get(&format!("/v1/queue/{id}")).await;
    assert_eq!(shown["recipients"][0]["state"], "discarded");
    assert_eq!(shown["recipients"][1]["state"], "queued");
    assert_eq!(
        api.notes.take(),
        [format!("remove {id}"), format!("enqueue {id}")]
    );
    let (_, answer) = api.post("/v1/queue/delete", json!({"all": true})).await;
    assert_eq!(answer, json!({"messages": 1, "recipients": 1}));
    assert_eq!(api.notes.take(), [format!("remove {id}")]);
    assert_eq!(api.store.stats().messages, 0);
}

#[tokio::test]
async fn held_recipients_say_why_and_are_due_again_when_released() {
    let api = Api::start();
    let id = api.send(&["a@example.com", "b@example.net"]).await;
    api.settle(&id, 0, State::Deferred, "450 later", "defer")
        .await;
    api.notes.take();
    let (status, _) = api.post("/v1/queue/hold", json!({})).await;
    assert_eq!(status, 400, "an empty selection must be refused");
    let select = json!({"select": {"recipient": "a@example.com"}});
    let (_, answer) = api.post("/v1/queue/hold", select.clone()).await;
    assert_eq!(answer, json!({"messages": 1, "recipients": 1}));
    let (_, answer) = api.post("/v1/queue/hold", select.clone()).await;
    assert_eq!(answer["recipients"], 0, "it is held already");
    let (_, shown) = api.get(&format!("/v1/queue/{id}")).await;
    let held = &shown["recipients"][0];
    assert_eq!(held["state"], "held");
    assert_eq!(held["rule"], "operator");
    assert_eq!(held["last_reply"], "held by an operator");
    assert_eq!(held["next_attempt"], Value::Null);
    assert_eq!(
        api.notes.take(),
        [format!("remove {id}"), format!("enqueue {id}")]
    );
    let select = json!({"select": {"rule": "operator"}});
    let (_, answer) = api.post("/v1/queue/release", select).await;
    assert_eq!(answer["recipients"], 1);
    let (_, shown) = api.get(&format!("/v1/queue/{id}")).await;
    let released = &shown["recipients"][0];
    assert_eq!(released["state"], "deferred");
    assert_eq!(released["last_reply"], "450 later");
    assert_eq!(released["attempts"], 1);
    assert_eq!(released["advice"]["fix"], "call them");
    assert_eq!(released["history"][2]["action"], "release");
}

#[tokio::test]
async fn a_bounce_is_written_with_its_report_and_reports_get_none() {
    let api = Api::start();
    let id = api.send(&["a@example.com", "b@example.net"]).await;
    api.settle(&id, 0, State::Deferred, "450 later", "defer")
        .await;
    let (_, answer) = api.post("/v1/queue/bounce", json!({"all": true})).await;
    assert_eq!(
        answer,
        json!({"messages": 1, "recipients": 2}),
        "its own report is not meant"
    );
    let (_, shown) = api.get(&format!("/v1/queue/{id}")).await;
    assert_eq!(shown["recipients"][0]["state"], "bounced");
    assert_eq!(shown["recipients"][0]["attempts"], 1);
    let words = shown["recipients"][0]["last_reply"].as_str().unwrap();
    assert!(
        words.contains("operator") && words.contains("450 later"),
        "{words}"
    );
    let (_, page) = api.get("/v1/queue?sender=%3C%3E").await;
    assert_eq!(
        page["messages"].as_array().unwrap().len(),
        1,
        "one report about both"
    );
    let report = page["messages"][0]["id"].as_str().unwrap().to_owned();
    assert!(api.notes.take().contains(&format!("enqueue {report}")));
    let body = api
        .store
        .body(report.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    let body = String::from_utf8(body.whole().await.unwrap().to_vec()).unwrap();
    for word in [
        "a@example.com",
        "b@example.net",
        "Action: failed",
        "operator",
        "Subject: t",
    ] {
        assert!(body.contains(word), "{word} is missing in:\n{body}");
    }
    let (_, answer) = api.post("/v1/queue/bounce", json!({"all": true})).await;
    assert_eq!(answer["recipients"], 1);
    assert_eq!(api.store.stats().messages, 0, "no report about a report");
}

#[tokio::test]
async fn a_command_goes_page_by_page_and_leaves_what_came_later() {
    let api = Api::start();
    for _ in 0..3 {
        api.send(&["a@example.com"]).await;
    }
    let (_, first) = api
        .post("/v1/queue/delete", json!({"all": true, "limit": 2}))
        .await;
    assert_eq!(first["messages"], 2);
    let late = api.send(&["a@example.com"]).await;
    let (_, second) = api
        .post(
            "/v1/queue/delete",
            json!({"all": true, "limit": 2, "next": first["next"]}),
        )
        .await;
    assert_eq!(second, json!({"messages": 1, "recipients": 1}));
    let (_, page) = api.get("/v1/queue").await;
    assert_eq!(page["messages"][0]["id"], json!(late));
}

#[tokio::test]
async fn a_site_is_named_in_full_or_by_one_of_its_hosts() {
    let api = Api::start();
    let id = api.send(&["a@example.com", "b@example.net"]).await;
    api.send(&["c@example.org"]).await;
    for site in ["mx1.example.net,mx2.example.net", "MX2.example.net"] {
        let (_, page) = api.get(&format!("/v1/queue?limit=1&site={site}")).await;
        assert_eq!(page["messages"].as_array().unwrap().len(), 1);
        assert_eq!(page["messages"][0]["id"], json!(id));
        assert_eq!(page["next"], Value::Null);
    }
    let (_, summary) = api.get("/v1/queue/summary?site=mx1.example.net").await;
    assert_eq!(summary["total"]["recipients"], 1);
    let select = json!({"select": {"site": "mx1.example.net"}});
    let (_, answer) = api.post("/v1/queue/delete", select).await;
    assert_eq!(answer, json!({"messages": 1, "recipients": 1}));
    let (_, page) = api.get("/v1/queue/finished?site=mx1.example.net").await;
    assert_eq!(
        page["messages"],
        json!([]),
        "the other recipient is still there"
    );
    let (_, shown) = api.get(&format!("/v1/queue/{id}")).await;
    assert_eq!(shown["recipients"][0]["state"], "queued");
    assert_eq!(shown["recipients"][1]["state"], "discarded");
}

#[tokio::test]
async fn the_summary_counts_domains_and_the_total() {
    let api = Api::start();
    api.send(&["a@example.com", "b@example.com", "c@example.net"])
        .await;
    let (_, summary) = api.get("/v1/queue/summary?limit=1").await;
    assert_eq!(summary["domains"].as_array().unwrap().len(), 1);
    assert_eq!(summary["domains"][0]["domain"], "example.com");
    assert_eq!(summary["domains"][0]["recipients"], 2);
    assert_eq!(summary["total"]["recipients"], 3);
    assert_eq!(summary["total"]["ages"][0]["recipients"], 3);
}

#[tokio::test]
async fn status_counts_the_queue_and_an_alert_makes_it_unwell() {
    let api = Api::start();
    let id = api.send(&["a@example.com"]).await;
    let (_, status) = api.get("/v1/status").await;
    assert_eq!(status["health"], "well");
    assert_eq!(status["hostname"], "relay.example.com");
    assert_eq!(status["queue"]["queued"], 1);
    assert_eq!(status["counts"]["accepted"], 1);
    assert_eq!(status["sites"][0]["site"], "mx.example.com");
    api.settle(&id, 0, State::Deferred, "550 listed", "alert")
        .await;
    let (_, status) = api.get("/v1/status").await;
    assert_eq!(status["health"], "unwell");
    assert_eq!(status["alerts"][0]["rule"], "some-rule");
    assert_eq!(status["alerts"][0]["recipients"], 1);
}

#[tokio::test]
async fn an_alert_about_a_message_that_has_gone_is_listed_with_its_count() {
    let api = Api::start();
    for site in ["mx.a.example", "mx.b.example", "mx.b.example"] {
        api.events.emit(Event::Alert {
            site: site.to_owned(),
            rule: "some-rule".to_owned(),
            category: "auth-failed".to_owned(),
            reply: format!("550 5.7.26 said {site}"),
            fix: "call them".to_owned(),
        });
    }
    let (_, status) = api.get("/v1/status").await;
    let alert = &status["alerts"][0];
    assert_eq!(alert["times"], 3);
    assert_eq!(alert["sites"], json!(["mx.b.example", "mx.a.example"]));
    assert_eq!(alert["recipients"], 0);
    assert_eq!(alert["advice"]["fix"], "call them");
    // Told once for each site.
    let (_, page) = api.get("/v1/log?event=alert").await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
}

/// A recipient's end, told as deliver tells it.
fn delivered(id: &str, recipient: &str) -> Event {
    let reply = relay_smtp::Reply::new(250, None, "taken");
    Event::RecipientDelivered {
        id: id.parse().unwrap(),
        recipient: recipient.to_owned(),
        tried: Box::new(Tried {
            sender: "a@x.test".to_owned(),
            user: None,
            site: Some("mx.example.com".to_owned()),
            host: Some("mx.example.com [192.0.2.7]".to_owned()),
            tls: None,
            phase: Phase::Body,
            reply: reply.to_string(),
            basis: Basis::Reply(reply),
            accepted_before: 1,
            rule: "accepted".to_owned(),
            category: "success".to_owned(),
            action: "ok".to_owned(),
            provider: None,
        }),
        age: Duration::from_secs(2),
        attempts: 1,
    }
}

#[tokio::test]
async fn the_history_is_given_page_by_page_and_a_story_at_once() {
    let api = Api::start();
    let id = api.send(&["a@example.com", "b@example.com"]).await;
    for recipient in ["a@example.com", "b@example.com"] {
        api.events.emit(delivered(&id, recipient));
    }
    let (status, story) = api.get(&format!("/v1/log?id={id}")).await;
    assert_eq!(status, 200, "{story}");
    assert_eq!(story["entries"].as_array().unwrap().len(), 3);
    assert_eq!(story["entries"][0]["event"], "message_accepted");
    let (_, page) = api.get("/v1/log?limit=1&sender=a@x.test").await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    assert!(page["left"].as_u64().unwrap() > 0);
    let next = page["next"].as_str().unwrap();
    let (_, page) = api
        .get(&format!("/v1/log?sender=a@x.test&place={next}"))
        .await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
    assert_eq!(page["left"], 0);

    // Whoever waits hears of what comes.
    let next = page["next"].as_str().unwrap().to_owned();
    let target = format!("/v1/log?wait=20&place={next}");
    let (heard, ()) = tokio::join!(api.get(&target), async {
        tokio::task::yield_now().await;
        api.events.emit(delivered(&id, "c@example.com"));
    });
    assert_eq!(heard.1["entries"][0]["recipient"], "c@example.com");

    let (_, hits) = api.get("/v1/policy/hits").await;
    assert_eq!(hits["hits"][0]["recipients"], 3);
    let (_, hits) = api.get("/v1/policy/hits?since=2026-11-22T00:00:00Z").await;
    assert_eq!(
        (&hits["hits"][0]["recipients"], &hits["next"]),
        (&json!(3), &Value::Null)
    );
    let (_, text) = api.get("/metrics").await;
    let row =
        "relayd_policy_rule_hits_total{rule=\"accepted\",category=\"success\",action=\"ok\"} 3\n";
    assert!(text.as_str().unwrap().contains(row), "{text}");
    for wrong in ["place=here", "event=x&whence=1", "id=nonsense"] {
        assert_eq!(api.get(&format!("/v1/log?{wrong}")).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_message_that_the_queue_has_forgotten_is_shown_from_the_history() {
    let api = Api::start();
    let id = QueueId::first_of(1_795_000_000_000, 1).to_string();
    api.events.emit(delivered(&id, "a@example.com"));
    let (status, shown) = api.get(&format!("/v1/queue/{id}")).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["recipients"][0]["state"], "delivered");
    assert_eq!(shown["recipients"][0]["history"][0]["reply"], "250 taken");
    assert_eq!(shown["headers"], Value::Null);
}

#[tokio::test]
async fn a_refused_reload_names_the_mistakes_and_metrics_are_text() {
    let api = Api::start();
    let (status, answer) = api.post("/v1/reload", json!({})).await;
    assert_eq!(status, 422);
    assert_eq!(answer["mistakes"], json!(["relayd.toml:3: hostname: no"]));
    api.send(&["a@example.com"]).await;
    let (_, text) = api.get("/metrics").await;
    let text = text.as_str().unwrap();
    assert!(text.contains("\nrelayd_queue_messages 1\n"), "{text}");
    let waited = text
        .lines()
        .find_map(|line| line.strip_prefix("relayd_queue_oldest_due_seconds "));
    let waited: f64 = waited.unwrap().parse().unwrap();
    assert!(waited >= 3600.0, "{waited}");
    assert!(
        text.contains("\nrelayd_messages_accepted_total 1\n"),
        "{text}"
    );
}

#[tokio::test]
async fn every_state_in_the_documentation_is_told_and_health_is_ok() {
    let api = Api::start();
    let (_, text) = api.get("/metrics").await;
    let text = text.as_str().unwrap();
    for row in relay_observe::gauge::GAUGES {
        let needs_a_disk = ["space", "free", "reserve", "spoken", "live_ratio"];
        let told = text.contains(&format!("\n{} ", row.name));
        assert!(
            told || needs_a_disk.iter().any(|word| row.name.contains(word)),
            "{} is not in {text}",
            row.name
        );
    }
    assert_eq!(api.get("/healthz").await, (200, json!("ok\n")));
}

/// What is asked over TCP, and answered: status line and body.
async fn over_tcp(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relayd\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn over_tcp_there_are_numbers_only_and_only_for_those_who_may_ask() {
    let api = Api::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = relay_admin::watch::serve(listener, api.world.clone(), std::future::pending());
    tokio::spawn(serve);
    let answer = over_tcp(address, "/healthz").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"),
        "{answer}"
    );
    let answer = over_tcp(address, "/metrics").await;
    assert!(answer.contains("relayd_queue_messages 0"), "{answer}");
    let answer = over_tcp(address, "/v1/status").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

    let mut config = Config::clone(&api.world.config.load());
    config.admin.http_from = Vec::new();
    api.world.config.store(Arc::new(config));
    let answer = over_tcp(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(!answer.contains("relayd_queue"), "{answer}");
}
