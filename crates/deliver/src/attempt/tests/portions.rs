//! Who goes together in one transaction: limits that a host announces (RFC 9422), senders of their own.

use relay_config::{Balance, Config, DomainPattern, Relay, Route, Verp};
use relay_policy::TlsRequirement;
use relay_queue::State;

use super::scene::Scene;
use super::{BYE, HELLO, talk};
use crate::world::Settings;

fn to(sender: &str, recipient: &str) -> String {
    format!(
        "C: MAIL FROM:<{sender}>\nC: RCPT TO:<{recipient}>\nC: DATA\n\
         S: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\nS: 250 ok\n"
    )
}

impl Scene {
    fn change(&self, change: impl FnOnce(&mut Config)) {
        let settings = self.world.settings.load_full();
        let mut config = (*settings.config).clone();
        change(&mut config);
        self.world.settings.store(
            Settings {
                config: config.into(),
                table: settings.table.clone(),
                signers: settings.signers.clone(),
            }
            .into(),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_recipient_has_a_sender_of_its_own_where_that_is_wanted() {
    let verp = |senders: &[&str]| Verp {
        template: "{local}+{recipient}@{domain}".parse().unwrap(),
        senders: senders.iter().map(|sender| (*sender).to_owned()).collect(),
    };
    for wanted in [
        verp(&[]),
        verp(&["*@S.example"]),
        verp(&["x@y.example", "a@s.example"]),
    ] {
        let mut scene = Scene::new(vec![talk(&[
            HELLO,
            &to("a+b=r.example@s.example", "b@r.example"),
            &to("a+c+x=r.example@s.example", "c+x@r.example"),
            BYE,
        ])]);
        scene.change(|config| config.delivery.verp = Some(wanted));
        let id = scene.accept(&["b@r.example", "c+x@r.example"]).await;
        scene.work(id).await;
        assert_eq!(scene.states(id).await, [State::Delivered; 2]);
        scene.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_named_and_who_has_no_sender_keeps_what_it_has() {
    let both = "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: RCPT TO:<c@r.example>\nC: DATA\n\
        S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\nS: 250 ok\n";
    let mut scene = Scene::new(vec![talk(&[HELLO, both, &to("", "b@r.example"), BYE])]);
    scene.change(|config| {
        config.delivery.verp = Some(Verp {
            template: "b+{id}-{recipient}@b.example".parse().unwrap(),
            senders: vec!["*@news.s.example".to_owned()],
        });
    });
    let id = scene.accept(&["b@r.example", "c@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered; 2]);
    scene.change(|config| {
        if let Some(verp) = &mut config.delivery.verp {
            verp.senders.clear();
        }
    });
    let mut envelope = super::scene::envelope(&["b@r.example"]);
    envelope.reverse_path = relay_smtp::ReversePath::Null;
    let id = scene
        .accept_envelope(envelope, "Subject: x\r\n\r\nhello\r\n".to_owned())
        .await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_hears_of_no_more_domains_in_a_session_than_it_takes() {
    let hello = |max: &str| {
        format!(
            "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250-PIPELINING\nS: 250 LIMITS RCPTDOMAINMAX={max}\n"
        )
    };
    let both = "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: RCPT TO:<d@r.example>\nC: DATA\n\
        S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC: [body]\nS: 250 ok\n";
    let mut scene = Scene::new(vec![
        talk(&[&hello("1"), both, BYE]),
        talk(&[
            &hello("1"),
            &to("a@s.example", "c@other.example"),
            &to("a@s.example", "e@other.example"),
            BYE,
        ]),
    ]);
    scene.change(|config| {
        config.routes.push(Route {
            to: vec![DomainPattern::All],
            name: "mx1.r.example:25".into(),
            via: vec![Relay {
                host: "mx1.r.example".to_owned(),
                port: 25,
            }],
            balance: Balance::InOrder,
            tls: TlsRequirement::Opportunistic,
            login: None,
        });
    });
    let id = scene
        .accept(&["b@r.example", "c@other.example", "d@r.example"])
        .await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered; 3]);
    // A domain that the session knows already.
    let id = scene.accept(&["e@other.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    scene.quit().await;
}

const CHUNKING: &str =
    "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 250-PIPELINING\nS: 250 CHUNKING\n";
const IN_A_CHUNK: &str = "C: MAIL FROM:<a@s.example>\nC: RCPT TO:<b@r.example>\nC: BDAT 44 LAST\n\
    C: [chunk 44]\n";

#[tokio::test(start_paused = true)]
async fn small_messages_go_in_one_group_with_their_commands_and_large_ones_with_data() {
    let taken = "S: 250 ok\nS: 250 ok\nS: 250 taken\n";
    let mut scene = Scene::new(vec![talk(&[
        CHUNKING,
        IN_A_CHUNK,
        taken,
        &to("a@s.example", "b@r.example"),
        IN_A_CHUNK,
        "S: 250 ok\nS: 450 4.2.0 later\nS: 554 no valid recipients\nC: RSET\nS: 250 ok\n",
        BYE,
    ])]);
    let mut states = Vec::new();
    for large in [false, true, false] {
        let id = match large {
            true => scene.accept_body(&["b@r.example"], super::large()).await,
            false => scene.accept(&["b@r.example"]).await,
        };
        scene.work(id).await;
        states.extend(scene.states(id).await);
    }
    assert_eq!(
        states,
        [State::Delivered, State::Delivered, State::Deferred]
    );
    scene.quit().await;
    let bodies = scene.net.bodies();
    assert!(bodies[0].ends_with("\r\n\r\nhello\r\n"), "{}", bodies[0]);
}

#[tokio::test(start_paused = true)]
async fn replies_lost_behind_a_chunk_send_it_to_no_other_host_at_once() {
    for end in [
        "X: close\n",
        "S: 250 ok\nX: close\n",
        "S: 250 ok\nS: what?\nX: stay\n",
        "X: stay\n",
    ] {
        let mut scene = Scene::new(vec![talk(&[CHUNKING, IN_A_CHUNK, end])]);
        let id = scene.accept(&["b@r.example"]).await;
        scene.work(id).await;
        assert_eq!(scene.states(id).await, [State::Deferred], "{end}");
        let last = scene.last_attempt(id).await;
        assert_eq!(last.phase, relay_smtp::Phase::Body, "{end}");
        assert_eq!(scene.net.dialled(), ["mx1.r.example"], "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_no_more_transactions_than_it_may_however_few_messages_they_are() {
    let one = |name: &str| to("a@s.example", &format!("{name}@r.example"));
    let mut scene = Scene::new(vec![
        talk(&[HELLO, &one("b"), &one("c"), BYE]),
        talk(&[HELLO, &one("d"), &one("e"), BYE]),
        talk(&[HELLO, &one("f"), &one("g"), BYE]),
        talk(&[HELLO, &one("h"), &one("b"), BYE]),
    ]);
    (scene.recipients_max, scene.messages_max) = (1, 2);
    let names = ["b", "c", "d", "e", "f", "g", "h"].map(|name| format!("{name}@r.example"));
    let id = scene.accept(&names.each_ref().map(String::as_str)).await;
    let report = scene.work(id).await;
    assert_eq!(report.due_again, None, "in one attempt");
    assert_eq!(scene.states(id).await, [State::Delivered; 7]);
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    scene.quit().await;
    assert_eq!(scene.net.dialled(), ["mx1.r.example"; 4]);
}
