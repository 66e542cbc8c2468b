//! What one message has found out about a host spares the next ones.

use std::time::Duration;

use relay_queue::State;
use relay_schedule::{Reach, SiteNews};

use super::scene::{Scene, Script};
use super::{HELLO, ONE, talk};

const MX: [&str; 2] = ["mx1.r.example", "mx2.r.example"];

/// Sends one message more, over a new connection; tells how long that took in virtual time.
async fn one_more(scene: &mut Scene, scripts: Vec<Script>) -> Duration {
    scene.net.expect(scripts);
    let before = scene.world.clock.now();
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    assert_eq!(scene.states(id).await, [State::Delivered]);
    scene
        .world
        .clock
        .now()
        .duration_since(before)
        .unsigned_abs()
}

fn once() -> Script {
    // Closed by the host, so that the next message needs a connection.
    talk(&[HELLO, ONE])
}

#[tokio::test(start_paused = true)]
async fn only_the_first_message_waits_for_a_host_that_does_not_answer() {
    let mut scene = Scene::new(Vec::new());
    scene.reach = Reach::Living;
    let first = one_more(&mut scene, vec![Script::Stall, once()]).await;
    assert!(first >= Duration::from_secs(300), "{first:?}");
    for _ in 0..3 {
        let next = one_more(&mut scene, vec![once()]).await;
        assert!(next < Duration::from_secs(1), "{next:?}");
    }
    // Its time is over: one message probes it.
    tokio::time::sleep(Duration::from_secs(660)).await;
    one_more(&mut scene, vec![once()]).await;
    one_more(&mut scene, vec![once()]).await;
    let wanted = [MX[0], MX[1], MX[1], MX[1], MX[1], MX[0], MX[0]];
    assert_eq!(scene.net.dialled(), wanted);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn where_all_hosts_are_dead_a_message_is_deferred_at_once_and_says_so() {
    let mut scene = Scene::new(vec![Script::Stall, Script::Stall]);
    scene.reach = Reach::Living;
    let id = scene.accept(&["b@r.example"]).await;
    scene.work(id).await;
    let before = scene.world.clock.now();
    let id = scene.accept(&["b@r.example"]).await;
    let report = scene.work(id).await;
    assert_eq!(report.site, SiteNews::Unreachable);
    assert_eq!(scene.world.clock.now(), before, "it does not wait");
    assert_eq!(scene.states(id).await, [State::Deferred]);
    let last = scene.last_attempt(id).await;
    assert!(
        last.reply
            .starts_with("not tried: known not to answer, next probe from 2026-11-22T12:"),
        "{}",
        last.reply
    );
    assert_eq!(last.host.as_deref(), Some("mx1.r.example [192.0.2.1]"));
    assert_eq!(scene.net.dialled().len(), 2);
    // A flush, the last try and the site's own probe try them all the same.
    scene.reach = Reach::All;
    one_more(&mut scene, vec![once()]).await;
    assert_eq!(scene.net.dialled().len(), 3);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_sends_mail_elsewhere_is_tried_last_for_a_minute() {
    let mut scene = Scene::new(Vec::new());
    scene.reach = Reach::Living;
    let away = talk(&["S: 554 5.3.2 no service here\n"]);
    one_more(&mut scene, vec![away, once()]).await;
    one_more(&mut scene, vec![once()]).await;
    // The other one is of no use either: then it is tried all the same.
    one_more(&mut scene, vec![Script::Refuse, once()]).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    one_more(&mut scene, vec![once()]).await;
    let wanted = [MX[0], MX[1], MX[1], MX[1], MX[0], MX[0]];
    assert_eq!(scene.net.dialled(), wanted);
    scene.quit().await;
}

/// All mail goes by these relays.
fn by_relays(scene: &Scene, relays: &[(&str, u16)]) {
    let settings = scene.world.settings.load_full();
    let mut config = (*settings.config).clone();
    let via: Vec<String> = relays
        .iter()
        .map(|(host, port)| format!("{host}:{port}"))
        .collect();
    let text = format!("[[route]]\nto = [\"*\"]\nvia = {via:?}\ntls = \"none\"\n");
    let source = relay_config::Source {
        name: "test".to_owned(),
        text,
    };
    let loaded = relay_config::load(&[source], &[], &[], "relay.example", &relay_config::NoFiles);
    config.routes = loaded.unwrap().routes;
    scene
        .world
        .router
        .reload(crate::run::route_settings(&config));
    scene
        .world
        .settings
        .store(std::sync::Arc::new(crate::world::Settings {
            config: std::sync::Arc::new(config),
            table: settings.table.clone(),
            signers: settings.signers.clone(),
        }));
}

#[tokio::test(start_paused = true)]
async fn relays_at_one_address_are_told_apart_by_their_ports() {
    let mut scene = Scene::new(Vec::new());
    scene.reach = Reach::Living;
    by_relays(&scene, &[("192.0.2.7", 2525), ("192.0.2.7", 587)]);
    let wait = one_more(&mut scene, vec![Script::Stall, once()]).await;
    assert!(wait >= Duration::from_secs(300), "{wait:?}");
    // The first one is dead, the second is not: it neither shares its fate nor speaks for it.
    for _ in 0..2 {
        let wait = one_more(&mut scene, vec![once()]).await;
        assert!(wait < Duration::from_secs(1), "{wait:?}");
    }
    tokio::time::sleep(Duration::from_secs(660)).await;
    one_more(&mut scene, vec![once()]).await;
    let ports = scene.net.ports();
    assert_eq!(ports, [2525, 587, 587, 587, 2525]);
    scene.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_sends_us_away_leaves_the_mail_to_another_port_of_its_host() {
    let mut scene = Scene::new(Vec::new());
    by_relays(&scene, &[("192.0.2.7", 2525), ("192.0.2.7", 587)]);
    let away = talk(&["S: 554 5.3.2 no service here\n"]);
    one_more(&mut scene, vec![away, once()]).await;
    assert_eq!(scene.net.ports(), [2525, 587]);
    scene.quit().await;
}
