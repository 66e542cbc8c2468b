//! TLS reports (RFC 8460): what a day's sessions came to reaches those who ask for it, by mail and over HTTPS.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use relay_testkit::{Identity, Mx, Network, PolicyHost, Relay, free_port, until};
use serde_json::{Value, json};

use crate::submit;

const TESTING: &str = "version: STSv1\nmode: testing\nmx: *.rcpt.example\nmax_age: 604800\n";

#[test]
fn a_policy_in_testing_lets_the_mail_go_and_what_failed_is_reported_the_day_after() {
    let scene = Scene::new();
    let mut relay = scene.relay();
    // Its certificate is nobody's: kept back by an enforced policy, and only told of by this one.
    let mx = Mx::start_as(
        at(2, scene.port),
        "",
        &Identity::self_signed("mx.rcpt.example"),
    );
    delivered(&relay, "you@rcpt.example");
    assert!(mx.mail()[0].tls);
    drop(mx);
    // The second session of the day is in order.
    let good = Identity::issued("mx.rcpt.example");
    let roots = relay.dir().join("roots.pem");
    let known = std::fs::read_to_string(&roots).unwrap();
    std::fs::write(&roots, known + &good.authority_pem()).unwrap();
    let counted = relay.json(&["metrics"]);
    let failures = |value: &Value| {
        value["name"] == "relayd_tls_failures_total" && value["labels"]["policy"] == "sts"
    };
    assert!(counted.iter().any(failures), "{counted:?}");
    // A kill loses no count.
    relay.kill();
    relay.restart();
    let mx = Mx::start_as(at(2, scene.port), "", &good);
    delivered(&relay, "you@rcpt.example");
    until("the session is counted", || {
        (lines(&relay) == 2).then_some(())
    });
    relay.stop();
    drop(mx);

    let day = the_day_is_over(&relay);
    let reports = Mx::start(at(4, scene.port), "");
    relay.restart();
    let mail = until("the report arrives by mail", || reports.mail().pop());
    let posted = until("the report is posted", || scene.host.posted().pop());
    assert_eq!((mail.from.as_str(), mail.to.len()), ("", 1));
    assert_eq!(mail.to, ["tls@reports.example"]);
    for field in [
        "From: <tls-reports@relay.test>",
        "TLS-Report-Domain: rcpt.example",
        "TLS-Report-Submitter: relay.test",
        "Content-Type: multipart/report; report-type=\"tlsrpt\";",
        "Content-Type: application/tlsrpt+gzip;",
    ] {
        assert!(
            mail.data.contains(&format!("{field}\r\n")),
            "{field}\n{}",
            mail.data
        );
    }
    assert!(mail.data.contains("DKIM-Signature:"), "{}", mail.data);
    assert!(mail.data.contains("d=relay.test;"), "{}", mail.data);
    assert_eq!(posted.kind, "application/tlsrpt+gzip");
    let asked = scene.host.asked();
    assert!(
        asked.last().unwrap().starts_with("POST /v1/tls "),
        "{asked:?}"
    );

    let by_mail = json_of(&attached(&mail.data));
    assert_eq!(by_mail, json_of(&posted.body), "the same report");
    let mut report = by_mail;
    let detail = report["policies"][0]["failure-details"][0].take();
    assert_eq!(
        report,
        json!({
            "organization-name": "Relay Ltd",
            "date-range": {
                "start-datetime": format!("{day}T00:00:00Z"),
                "end-datetime": format!("{day}T23:59:59Z"),
            },
            "contact-info": "tls-reports@relay.test",
            "report-id": format!("{day}_rcpt.example@relay.test"),
            "policies": [{
                "policy": {
                    "policy-type": "sts",
                    "policy-string": [
                        "version: STSv1", "mode: testing", "mx: *.rcpt.example", "max_age: 604800",
                    ],
                    "policy-domain": "rcpt.example",
                    "mx-host": ["*.rcpt.example"],
                },
                "summary": {
                    "total-successful-session-count": 1,
                    "total-failure-session-count": 1,
                },
                "failure-details": [null],
            }],
        })
    );
    assert_eq!(detail["result-type"], "certificate-not-trusted");
    assert_eq!(detail["sending-mta-ip"], "127.0.0.1");
    assert_eq!(detail["receiving-mx-hostname"], "mx.rcpt.example");
    assert_eq!(detail["receiving-ip"], "127.0.0.2");
    assert_eq!(detail["failed-session-count"], 1);

    // The reports' own sessions, which had no TLS at all, are no news for the next report.
    until("the day is done", || {
        (days(&relay).is_empty()).then_some(())
    });
    let told = relay.json(&["metrics"]);
    let sent = told
        .iter()
        .find(|value| value["name"] == "relayd_tls_reports_sent_total");
    assert_eq!(sent.unwrap()["value"], 2.0, "{told:?}");
}

#[test]
fn without_a_table_nothing_is_kept_and_without_a_record_nobody_is_told() {
    let network =
        Network::with_zone("rcpt.example MX 10 mx.rcpt.example\nmx.rcpt.example A 127.0.0.2");
    let mx = Mx::start(at(2, network.port), "");
    let silent = Relay::start(env!("CARGO_BIN_EXE_relayd"), &network, "");
    submit(&silent, "app@sender.example", &["you@rcpt.example"]);
    until("delivered", || mx.mail().pop());
    silent.drained();
    assert!(!silent.dir().join("state/tls-rpt").exists());
    let refused = silent.relayctl(&["tls-report", "list"]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("[tls_rpt] enabled"), "{words}");
    assert_eq!(refused.status.code(), Some(1));
    let more = "[tls_rpt]\nenabled = true\nspread = \"0s\"\n";
    let mut relay = Relay::start(env!("CARGO_BIN_EXE_relayd"), &network, more);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    until("the session is counted", || {
        (lines(&relay) == 1).then_some(())
    });
    relay.drained();
    let listed = relay.json(&["tls-report", "list", "--domain", "rcpt.example"]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    let of_today = &listed[0];
    assert_eq!(
        (&of_today["successful"], &of_today["failed"]),
        (&Value::from(0), &Value::from(1)),
        "{of_today}"
    );
    assert_eq!(of_today["failures"][0]["result"], "starttls-not-supported");
    assert_eq!(of_today["policies"][0], "no-policy-found");
    assert!(of_today["next_attempt"].is_string(), "{of_today}");
    let others = relay.json(&["tls-report", "list", "--domain", "other.example"]);
    assert!(others.is_empty(), "{others:?}");
    relay.stop();
    the_day_is_over(&relay);
    relay.restart();
    until("the day is done", || {
        (days(&relay).is_empty()).then_some(())
    });
    assert!(relay.log().iter().all(|line| !line.contains("tls_report")));
    assert_eq!(mx.mail().len(), 2, "and no report");
}

/// `rcpt.example` wants reports in two places.
struct Scene {
    network: Network,
    port: u16,
    https: u16,
    host: PolicyHost,
    host_identity: Identity,
    collector: Identity,
}

impl Scene {
    fn new() -> Scene {
        let https = free_port();
        let network = Network::with_zone(&format!(
            "rcpt.example MX 10 mx.rcpt.example\nmx.rcpt.example A 127.0.0.2\n\
             _mta-sts.rcpt.example TXT v=STSv1; id=1;\nmta-sts.rcpt.example A 127.0.0.9\n\
             _smtp._tls.rcpt.example TXT v=TLSRPTv1;rua=mailto:tls@reports.example,https://mta-sts.rcpt.example:{https}/v1/tls\n\
             reports.example MX 10 mx.reports.example\nmx.reports.example A 127.0.0.4\n\
             _smtp._tls.reports.example TXT v=TLSRPTv1;rua=mailto:tls@reports.example"
        ));
        let host_identity = Identity::issued("mta-sts.rcpt.example");
        Scene {
            port: network.port,
            network,
            https,
            host: PolicyHost::start(at(9, https), &host_identity, TESTING),
            collector: Identity::issued("unused.example"),
            host_identity,
        }
    }

    fn relay(&self) -> Relay {
        let key = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/dkim/ed25519.pem"
        );
        let settings = format!(
            "hostname = \"relay.test\"\n[state]\ndir = \"DIR/state\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
             [dns]\nservers = [\"{}\"]\n[mta_sts]\nport = {}\n\
             [tls_rpt]\nenabled = true\norganization = \"Relay Ltd\"\nfrom = \"tls-reports@relay.test\"\nspread = \"0s\"\n\
             [delivery]\nport = {}\nprivate_addresses = \"allowed\"\ntls_roots = \"DIR/roots.pem\"\n\
             [[dkim]]\ndomain = \"relay.test\"\nselector = \"s1\"\nkey = \"{key}\"\n\
             [admin]\nsocket = \"DIR/relayd.sock\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n",
            self.network.dns.address, self.https, self.port
        );
        let mut relay = Relay::prepare(env!("CARGO_BIN_EXE_relayd"), &settings);
        let trusted = [&self.host_identity, &self.collector];
        let roots: String = trusted.iter().map(|one| one.authority_pem()).collect();
        std::fs::write(relay.dir().join("roots.pem"), roots).unwrap();
        relay.restart();
        relay
    }
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)
}

fn delivered(relay: &Relay, to: &str) {
    let id = submit(relay, "app@sender.example", &[to]);
    until("delivered", || {
        let shown = relay.json(&["queue", "show", &id]).pop()?;
        (shown["recipients"][0]["state"] == "delivered").then_some(())
    });
}

/// The files of days.
fn days(relay: &Relay) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(relay.dir().join("state/tls-rpt")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "sessions"))
        .collect()
}

/// Sessions written down.
fn lines(relay: &Relay) -> usize {
    let texts = days(relay).into_iter().map(std::fs::read_to_string);
    texts.map(|text| text.unwrap().lines().count()).sum()
}

/// What was counted becomes what was counted two days ago, so that its time has come at any hour; which day
/// that is.
fn the_day_is_over(relay: &Relay) -> String {
    let files = days(relay);
    // Midnight may have come in between.
    assert!((1..=2).contains(&files.len()), "{files:?}");
    let output = std::process::Command::new("date")
        .args(["-u", "-d", "2 days ago", "+%F"])
        .output()
        .unwrap();
    let day = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let old: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    let dir = relay.dir().join("state/tls-rpt");
    std::fs::write(dir.join(format!("{day}.sessions")), old).unwrap();
    day
}

/// The gzip in the second part.
fn attached(mail: &str) -> Vec<u8> {
    let encoded = mail.split("\r\n\r\n").last().unwrap();
    let lines = encoded.lines().take_while(|line| !line.starts_with("--"));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn json_of(gzip: &[u8]) -> Value {
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(gzip);
    reader.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}
