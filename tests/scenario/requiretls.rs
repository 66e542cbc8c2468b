//! REQUIRETLS (RFC 8689): by proved TLS on every hop, or back to the sender.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use relay_testkit::{Identity, Mx, Network, PolicyHost, Relay, free_port, until};
use serde_json::Value;

const ENFORCE: &str =
    "version: STSv1\nmode: enforce\nmx: mx.rcpt.example\nmx: mx2.rcpt.example\nmax_age: 604800\n";

const SEND: &str = "
import smtplib, ssl, sys
with smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=30) as s:
    context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
    s.starttls(context=context)
    s.ehlo()
    assert s.has_extn('requiretls')
    s.sendmail('app@sender.example', [sys.argv[2]], 'From: app@sender.example\\r\\nSubject: secret\\r\\n\\r\\nfor your eyes\\r\\n', mail_options=['REQUIRETLS', 'RET=FULL'])
";

/// What an MX says that offers REQUIRETLS.
const OFFERS: &str = "EHLO => 250 mx.test\\nSTARTTLS\\nREQUIRETLS";

#[test]
fn a_host_that_is_proved_and_offers_it_is_told_of_it() {
    let scene = Scene::new();
    let mx = Mx::start_as(at(2, scene.port), OFFERS, &scene.identities[0]);
    let relay = scene.relay();
    scene.send(&relay, "you@rcpt.example");
    let mail = until("delivered", || mx.mail().pop());
    assert!(mail.tls);
    let heard = mx.log().join("\n");
    assert!(
        heard.contains("MAIL FROM:<app@sender.example> REQUIRETLS"),
        "{heard}"
    );
}

#[test]
fn a_host_that_does_not_offer_it_is_left_for_one_that_does() {
    let scene = Scene::new();
    let first = Mx::start_as(at(2, scene.port), "", &scene.identities[0]);
    let second = Mx::start_as(at(3, scene.port), OFFERS, &scene.identities[1]);
    let relay = scene.relay();
    scene.send(&relay, "you@rcpt.example");
    until("delivered", || second.mail().pop());
    assert!(first.mail().is_empty());
}

#[test]
fn what_no_host_can_carry_comes_back_with_the_reason_and_without_its_text() {
    let scene = Scene::new();
    let first = Mx::start_as(at(2, scene.port), "", &scene.identities[0]);
    let second = Mx::start_as(at(3, scene.port), "", &scene.identities[1]);
    // The sender's domain is proved as well, so that the report may go there.
    let sender = Mx::start_as(at(4, scene.port), OFFERS, &scene.identities[2]);
    let relay = scene.relay();
    scene.send(&relay, "you@rcpt.example");
    let report = until("the report arrives", || sender.mail().pop());
    assert!(first.mail().is_empty() && second.mail().is_empty());
    let text = &report.data;
    assert!(text.contains("Status: 5.7.30"), "{text}");
    assert!(text.contains("requiretls-not-possible"), "{text}");
    assert!(
        text.contains("Subject: secret") && !text.contains("for your eyes"),
        "{text}"
    );
    let heard = sender.log().join("\n");
    assert!(heard.contains("MAIL FROM:<> REQUIRETLS"), "{heard}");
}

#[test]
fn without_a_proof_of_the_hosts_name_it_bounces_and_its_report_does_too() {
    let scene = Scene::new();
    let mx = Mx::start_as(at(5, scene.port), OFFERS, &scene.identities[3]);
    let relay = scene.relay();
    scene.send(&relay, "you@unproved.example");
    scene.bounced(&relay, "you@unproved.example");
    assert_eq!(mx.sessions(), 0, "not even connected to");
}

#[test]
fn no_setting_of_tls_takes_the_place_of_a_proved_name_or_is_set_aside() {
    let scene = Scene::new();
    let mx = Mx::start_as(at(2, scene.port), OFFERS, &scene.identities[0]);
    let unproved = Mx::start_as(at(5, scene.port), OFFERS, &scene.identities[3]);
    // Its certificate is good; that the MX record is, nobody says.
    let relay = scene.relay_with(
        "[[limit]]\nto = [\"unproved.example\"]\ntls = \"verify\"\n\
         [[limit]]\nto = [\"rcpt.example\"]\ntls = \"dane\"\n",
    );
    scene.send(&relay, "you@unproved.example");
    scene.bounced(&relay, "you@unproved.example");
    assert_eq!(unproved.sessions(), 0, "not even connected to");
    // The policy would do for the message, but the operator wants TLSA records.
    scene.send(&relay, "you@rcpt.example");
    let deferred = until("deferred", || {
        let queue = relay.json(&["queue", "list", "--recipient", "you@rcpt.example"]);
        let recipient = queue.first()?["recipients"][0].clone();
        (recipient["attempts"] == 1).then_some(recipient)
    });
    assert_eq!(deferred["rule"], "tlsa-missing", "{deferred}");
    assert_eq!(mx.sessions(), 0);
}

#[test]
fn a_relay_of_a_route_proves_the_name_by_which_the_operator_knows_it() {
    let scene = Scene::new();
    let good = Mx::start_as(at(5, scene.port), OFFERS, &scene.identities[3]);
    let wrong = Mx::start_as(at(2, scene.port), OFFERS, &scene.identities[3]);
    let port = scene.port;
    let relay = scene.relay_with(&format!(
        "[[route]]\nto = [\"good.example\"]\nvia = [\"mx.unproved.example:{port}\"]\n\
         [[route]]\nto = [\"wrong.example\"]\nvia = [\"mx.rcpt.example:{port}\"]\n"
    ));
    scene.send(&relay, "you@wrong.example");
    scene.send(&relay, "you@good.example");
    until("delivered", || good.mail().pop());
    let deferred = until("deferred", || {
        let queue = relay.json(&["queue", "list", "--recipient", "you@wrong.example"]);
        let recipient = queue.first()?["recipients"][0].clone();
        (recipient["attempts"] == 1).then_some(recipient)
    });
    assert_eq!(deferred["state"], "deferred", "{deferred}");
    assert_eq!(wrong.sessions(), 1, "no second connection in clear");
    assert!(wrong.mail().is_empty());
    let id = relay.json(&["queue", "list"])[0]["id"].clone();
    let shown = relay.relayctl(&["queue", "show", id.as_str().unwrap()]);
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("REQUIRETLS"), "{shown}");
}

/// `rcpt.example` with two hosts and `sender.example` with one, all proved by MTA-STS, and `unproved.example`.
struct Scene {
    network: Network,
    port: u16,
    https: u16,
    /// Of mx, mx2, mx.sender, mx.unproved and the two policy hosts.
    identities: Vec<Identity>,
    _hosts: Vec<PolicyHost>,
    files: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let network = Network::with_zone(
            "rcpt.example MX 10 mx.rcpt.example\nrcpt.example MX 20 mx2.rcpt.example\n\
             mx.rcpt.example A 127.0.0.2\nmx2.rcpt.example A 127.0.0.3\n\
             sender.example MX 10 mx.sender.example\nmx.sender.example A 127.0.0.4\n\
             unproved.example MX 10 mx.unproved.example\nmx.unproved.example A 127.0.0.5\n\
             _mta-sts.rcpt.example TXT v=STSv1; id=1;\nmta-sts.rcpt.example A 127.0.0.9\n\
             _mta-sts.sender.example TXT v=STSv1; id=1;\nmta-sts.sender.example A 127.0.0.10",
        );
        let https = free_port();
        let names = [
            "mx.rcpt.example",
            "mx2.rcpt.example",
            "mx.sender.example",
            "mx.unproved.example",
        ];
        let hosts = ["mta-sts.rcpt.example", "mta-sts.sender.example"];
        let identities: Vec<Identity> = names
            .iter()
            .chain(&hosts)
            .map(|name| Identity::issued(name))
            .collect();
        let of_sender = "version: STSv1\nmode: enforce\nmx: mx.sender.example\nmax_age: 604800\n";
        let hosts = vec![
            PolicyHost::start(at(9, https), &identities[4], ENFORCE),
            PolicyHost::start(at(10, https), &identities[5], of_sender),
        ];
        let files = tempfile::tempdir().unwrap();
        crate::write_certificate(files.path());
        Scene {
            port: network.port,
            network,
            https,
            identities,
            _hosts: hosts,
            files,
        }
    }

    fn relay(&self) -> Relay {
        self.relay_with("")
    }

    fn relay_with(&self, more: &str) -> Relay {
        let settings = format!(
            "hostname = \"relay.test\"\n[state]\ndir = \"DIR/state\"\n\
             [tls]\ncertificate = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
             [dns]\nservers = [\"{1}\"]\n[mta_sts]\nport = {2}\n\
             [delivery]\nport = {3}\nprivate_addresses = \"allowed\"\ntls_roots = \"DIR/roots.pem\"\n\
             [admin]\nsocket = \"DIR/relayd.sock\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n{4}",
            self.files.path().display(),
            self.network.dns.address,
            self.https,
            self.port,
            more
        );
        let mut relay = Relay::prepare(env!("CARGO_BIN_EXE_relayd"), &settings);
        let roots: String = self
            .identities
            .iter()
            .map(|one| one.authority_pem())
            .collect();
        std::fs::write(relay.dir().join("roots.pem"), roots).unwrap();
        relay.restart();
        relay
    }

    fn bounced(&self, relay: &Relay, address: &str) {
        until("bounced", || {
            let log = relay.json(&["log", "--recipient", address]);
            let bounced = |entry: &Value| {
                entry["event"]
                    .as_str()
                    .is_some_and(|event| event.contains("bounced"))
                    && entry["rule"] == "requiretls-not-possible"
            };
            log.iter().any(bounced).then_some(())
        });
    }

    fn send(&self, relay: &Relay, to: &str) {
        let output = Command::new("/usr/bin/python3")
            .args(["-c", SEND, &relay.submission.port().to_string(), to])
            .output()
            .expect("python3 is installed");
        assert!(output.status.success(), "{output:?}");
    }
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)
}
