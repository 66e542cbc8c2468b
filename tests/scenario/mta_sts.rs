//! MTA-STS (RFC 8461): a policy that a domain publishes over HTTPS is found, kept and kept to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use relay_testkit::{Identity, Mx, Network, PolicyHost, Relay, free_port, until};

use crate::submit;

const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: mx.rcpt.example\nmax_age: 604800\n";
const TESTING: &str = "version: STSv1\nmode: testing\nmx: other.example\nmax_age: 604800\n";

#[test]
fn an_enforced_policy_asks_for_a_good_certificate_and_gets_the_mail_through() {
    let scene = Scene::new(ENFORCE);
    let mx = scene.mx("mx.rcpt.example");
    let relay = scene.relay(&[&scene.host_identity, &mx.identity]);
    let tls = delivered(&relay);
    assert!(tls.ends_with("MTA-STS"), "{tls}");
    assert!(mx.mx.mail()[0].tls);
    assert_eq!(
        scene.host.asked(),
        ["GET /.well-known/mta-sts.txt mta-sts.rcpt.example"]
    );
}

#[test]
fn a_certificate_for_another_name_gets_no_mail() {
    let scene = Scene::new(ENFORCE);
    let mx = scene.mx("other.example");
    let relay = scene.relay(&[&scene.host_identity, &mx.identity]);
    let recipient = deferred(&relay);
    assert_eq!(recipient["rule"], "sts-certificate-wrong", "{recipient}");
    assert_eq!(mx.mx.sessions(), 1, "no second connection in clear");
    assert!(mx.mx.mail().is_empty());
}

#[test]
fn an_expired_certificate_gets_no_mail() {
    let scene = Scene::new(ENFORCE);
    let mx = scene.mx_as(Identity::expired("mx.rcpt.example"));
    let relay = scene.relay(&[&scene.host_identity, &mx.identity]);
    let recipient = deferred(&relay);
    assert_eq!(recipient["rule"], "sts-certificate-wrong", "{recipient}");
    let words = recipient["last_reply"].as_str().unwrap();
    assert!(words.to_ascii_lowercase().contains("expired"), "{words}");
}

#[test]
fn a_host_that_the_policy_does_not_name_is_not_connected_to() {
    let scene = Scene::new(&ENFORCE.replace("mx.rcpt", "mx2.rcpt"));
    let mx = scene.mx("mx.rcpt.example");
    let relay = scene.relay(&[&scene.host_identity, &mx.identity]);
    let recipient = deferred(&relay);
    assert_eq!(recipient["rule"], "sts-host-not-named", "{recipient}");
    assert_eq!(mx.mx.sessions(), 0);
}

#[test]
fn the_doctor_tells_what_the_policy_asks_for_and_whether_the_hosts_keep_to_it() {
    let wrong_host = ENFORCE.replace("mx.rcpt", "mx2.rcpt");
    for (policy, certificate, sts, starttls) in [
        (
            ENFORCE,
            "mx.rcpt.example",
            ("ok", "enforced, names every MX host"),
            ("ok", "TLSv1.3"),
        ),
        (
            ENFORCE,
            "other.example",
            ("ok", "enforced"),
            ("fail", "MTA-STS asks for proof"),
        ),
        (
            &wrong_host,
            "mx.rcpt.example",
            ("fail", "does not name mx.rcpt.example"),
            ("ok", "TLSv1.3"),
        ),
        (
            TESTING,
            "other.example",
            ("warn", "only tested, does not name mx.rcpt.example"),
            ("warn", "proves nothing"),
        ),
    ] {
        let scene = Scene::new(policy);
        let mx = scene.mx(certificate);
        let relay = scene.relay(&[&scene.host_identity, &mx.identity]);
        let found = relay.json(&["doctor", "rcpt.example"]);
        for (check, (state, words)) in [("mta_sts", sts), ("starttls", starttls)] {
            let line = found.iter().find(|line| line["check"] == check).unwrap();
            assert_eq!(line["state"], state, "{policy}: {line}");
            assert!(
                line["found"].as_str().unwrap().contains(words),
                "{policy}: {line}"
            );
        }
        assert!(mx.mx.mail().is_empty());
    }
}

#[test]
fn a_policy_in_testing_keeps_no_mail_back() {
    let scene = Scene::new(TESTING);
    let mx = scene.mx("unknown.example");
    let relay = scene.relay(&[&scene.host_identity]);
    let tls = delivered(&relay);
    assert!(!tls.contains("MTA-STS"), "{tls}");
    assert_eq!(mx.mx.mail().len(), 1);
}

#[test]
fn a_cached_policy_holds_over_a_restart_without_dns_record_and_policy_host() {
    let scene = Scene::new(ENFORCE);
    let mx = scene.mx("mx.rcpt.example");
    let mut relay = scene.relay(&[&scene.host_identity, &mx.identity]);
    delivered(&relay);
    relay.stop();
    // An attacker takes both away.
    let Scene {
        host,
        port,
        network,
        ..
    } = scene;
    drop(host);
    let bare =
        Network::with_zone("rcpt.example MX 10 mx.rcpt.example\nmx.rcpt.example A 127.0.0.2");
    relay.edit_settings(
        &format!("servers = [\"{}\"]", network.dns.address),
        &format!("servers = [\"{}\"]", bare.dns.address),
    );
    drop(mx.mx);
    let clear = Mx::start(at(2, port), "");
    relay.restart();
    let recipient = deferred(&relay);
    assert_eq!(recipient["rule"], "tls-missing", "{recipient}");
    assert!(clear.mail().is_empty());
}

#[test]
fn a_policy_host_whose_certificate_is_not_trusted_or_that_redirects_has_no_policy() {
    let scene = Scene::new(ENFORCE);
    let mx = scene.mx("other.example");
    let distrusting = scene.relay(&[&mx.identity]);
    delivered(&distrusting);
    assert!(scene.host.asked().is_empty());
    scene.host.answer_with(
        "HTTP/1.1 301 Moved\nLocation: https://mta-sts.rcpt.example/other\nContent-Length: 0\n\n",
    );
    let relay = scene.relay(&[&scene.host_identity]);
    delivered(&relay);
    assert_eq!(scene.host.asked().len(), 1, "no redirect is followed");
    let html = "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 1\n\n.";
    scene.host.answer_with(html);
    let relay = scene.relay(&[&scene.host_identity]);
    delivered(&relay);
    let endless = "x".repeat(70_000);
    scene.host.answer_with(&format!(
        "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 70000\n\n{endless}"
    ));
    let relay = scene.relay(&[&scene.host_identity]);
    delivered(&relay);
    assert_eq!(mx.mx.mail().len(), 4);
}

/// `rcpt.example` with one MX at 127.0.0.2 and its policy host at 127.0.0.9.
struct Scene {
    network: Network,
    port: u16,
    https: u16,
    host: PolicyHost,
    host_identity: Identity,
}

struct Receiver {
    mx: Mx,
    identity: Identity,
}

impl Scene {
    fn new(policy: &str) -> Scene {
        let network = Network::with_zone(
            "rcpt.example MX 10 mx.rcpt.example\nmx.rcpt.example A 127.0.0.2\n\
             _mta-sts.rcpt.example TXT v=STSv1; id=20261122;\nmta-sts.rcpt.example A 127.0.0.9",
        );
        let https = free_port();
        let host_identity = Identity::issued("mta-sts.rcpt.example");
        Scene {
            port: network.port,
            network,
            https,
            host: PolicyHost::start(at(9, https), &host_identity, policy),
            host_identity,
        }
    }

    fn mx(&self, name: &str) -> Receiver {
        self.mx_as(Identity::issued(name))
    }

    fn mx_as(&self, identity: Identity) -> Receiver {
        Receiver {
            mx: Mx::start_as(at(2, self.port), "", &identity),
            identity,
        }
    }

    /// A relay that trusts the authorities of these.
    fn relay(&self, trusted: &[&Identity]) -> Relay {
        let settings = format!(
            "hostname = \"relay.test\"\n[state]\ndir = \"DIR/state\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
             [dns]\nservers = [\"{}\"]\n[mta_sts]\nport = {}\n\
             [delivery]\nport = {}\nprivate_addresses = \"allowed\"\ntls_roots = \"DIR/roots.pem\"\n\
             [admin]\nsocket = \"DIR/relayd.sock\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n",
            self.network.dns.address, self.https, self.port
        );
        let mut relay = Relay::prepare(env!("CARGO_BIN_EXE_relayd"), &settings);
        let roots: String = trusted.iter().map(|one| one.authority_pem()).collect();
        std::fs::write(relay.dir().join("roots.pem"), roots).unwrap();
        relay.restart();
        relay
    }
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)
}

/// What was agreed, as `queue show` tells it.
fn delivered(relay: &Relay) -> String {
    let id = submit(relay, "app@sender.example", &["you@rcpt.example"]);
    let shown = until("delivered", || {
        let shown = relay.json(&["queue", "show", &id]).pop()?;
        (shown["recipients"][0]["state"] == "delivered").then_some(shown)
    });
    let tls = shown["recipients"][0]["history"][0]["tls"].as_str();
    tls.unwrap_or_default().to_owned()
}

fn deferred(relay: &Relay) -> serde_json::Value {
    submit(relay, "app@sender.example", &["you@rcpt.example"]);
    relay.recipient_becomes("deferred")
}
