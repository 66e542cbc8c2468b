//! DANE (RFC 7672) over signed zones and a validating resolver: what TLSA records ask for is done, and
//! what cannot be validated neither helps nor hurts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use relay_testkit::{
    Client, Identity, Mx, Relay, SignedDns, SignedZone, Signing, free_port, until,
};

use crate::submit;

/// No certificate has this digest.
const NOBODYS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn a_certificate_that_the_tlsa_record_names_is_enough_whoever_made_it() {
    for (usage, selector, matching) in [(3, 1, 1), (3, 0, 2), (3, 1, 0)] {
        // Its names and dates do not matter (RFC 7672 section 3.1.1).
        let (port, identity) = (free_port(), Identity::expired("any.name.test"));
        let record = identity.tlsa(usage, selector, matching);
        let dns = signed(&format!(
            "rcpt MX 10 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA {record}"
        ));
        let mx = Mx::start_as(at(2, port), "", &identity);
        let relay = relay(&dns, port, "");
        let seen = delivered(&relay, "you@rcpt.signed.example");
        let wanted = format!("DANE {usage} {selector} {matching}");
        assert!(seen.contains(&wanted), "{seen}");
        // What happened to the message tells it, too, and so does the daemon's log.
        until("the history has it", || {
            let told = relay.json(&["log", "--recipient", "you@rcpt.signed.example"]);
            let of_delivery = told.iter().filter_map(|entry| entry["tls"].as_str());
            of_delivery.into_iter().any(|tls| tls == seen).then_some(())
        });
        let opened = |line: &String| line.contains("session_opened") && line.contains(&wanted);
        assert!(relay.log().iter().any(opened));
        assert!(mx.mail()[0].tls);
    }
}

#[test]
fn a_certificate_that_no_tlsa_record_names_gets_no_mail_and_the_reason_is_shown() {
    let (port, identity) = (free_port(), Identity::self_signed("mx.signed.example"));
    let dns = signed(&format!(
        "rcpt MX 10 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA 3 1 1 {NOBODYS}"
    ));
    let mx = Mx::start_as(at(2, port), "", &identity);
    let relay = relay(&dns, port, "");
    let recipient = deferred(&relay, "you@rcpt.signed.example");
    assert_eq!(recipient["rule"], "tlsa-mismatch", "{recipient}");
    let words = recipient["last_reply"].as_str().unwrap();
    assert!(
        words.contains(&format!("_{port}._tcp.mx.signed.example")),
        "{words}"
    );
    let heard = mx.log().join("\n");
    assert!(!heard.contains("MAIL FROM"), "{heard}");
    assert_eq!(mx.sessions(), 1, "no second connection in clear");
}

#[test]
fn a_message_that_says_so_goes_without_what_the_records_ask_for() {
    let (port, identity) = (free_port(), Identity::self_signed("mx.signed.example"));
    let dns = signed(&format!(
        "rcpt MX 10 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA 3 1 1 {NOBODYS}"
    ));
    let mx = Mx::start_as(at(2, port), "", &identity);
    let relay = relay(&dns, port, "");
    let message = "From: <app@sender.example>\nTLS-Required: No\nSubject: your TLS is broken\n\nx";
    let to = ["you@rcpt.signed.example"];
    Client::connect(relay.submission).submit("app@sender.example", &to, message);
    let mail = until("delivered", || mx.mail().pop());
    assert!(mail.tls, "as good as it gets");
}

#[test]
fn the_next_host_is_tried_where_the_first_one_does_not_match() {
    let (port, good) = (free_port(), Identity::self_signed("mx2.signed.example"));
    let record = good.tlsa(3, 1, 1);
    let dns = signed(&format!(
        "rcpt MX 10 mx1\nrcpt MX 20 mx2\nmx1 A 127.0.0.2\nmx2 A 127.0.0.3\n\
         _{port}._tcp.mx1 TLSA 3 1 1 {NOBODYS}\n_{port}._tcp.mx2 TLSA {record}"
    ));
    let other = Identity::self_signed("mx1.signed.example");
    let first = Mx::start_as(at(2, port), "", &other);
    let second = Mx::start_as(at(3, port), "", &good);
    let relay = relay(&dns, port, "");
    delivered(&relay, "you@rcpt.signed.example");
    assert_eq!((first.mail().len(), second.mail().len()), (0, 1));
}

#[test]
fn records_that_cannot_be_used_require_tls_and_nothing_of_the_certificate() {
    let (port, identity) = (free_port(), Identity::self_signed("any.name.test"));
    let dns = signed(&format!(
        "rcpt MX 10 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA 1 1 1 {NOBODYS}\n\
         clear MX 10 old\nold A 127.0.0.3\n_{port}._tcp.old TLSA 1 1 1 {NOBODYS}"
    ));
    let mx = Mx::start_as(at(2, port), "", &identity);
    let old = Mx::start(at(3, port), "");
    let relay = relay(&dns, port, "");
    let tls = delivered(&relay, "you@rcpt.signed.example");
    assert!(!tls.contains("DANE"), "{tls}");
    assert!(mx.mail()[0].tls);
    let recipient = deferred(&relay, "you@clear.signed.example");
    assert_eq!(recipient["rule"], "tls-missing", "{recipient}");
    assert!(old.mail().is_empty());
}

#[test]
fn the_doctor_tells_what_the_records_ask_for_and_whether_the_host_keeps_to_it() {
    let (port, identity) = (free_port(), Identity::self_signed("any.name.test"));
    let dns = signed(&format!(
        "good MX 10 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA {}\n\
         bad MX 10 mx3\nmx3 A 127.0.0.2\n_{port}._tcp.mx3 TLSA 3 1 1 {NOBODYS}\n\
         odd MX 10 mx4\nmx4 A 127.0.0.2\n_{port}._tcp.mx4 TLSA 1 1 1 {NOBODYS}\n\
         none MX 10 mx5\nmx5 A 127.0.0.2",
        identity.tlsa(3, 1, 1)
    ));
    let mx = Mx::start_as(at(2, port), "", &identity);
    let relay = relay(&dns, port, "");
    for (domain, dane, starttls) in [
        ("good", ("ok", "1 TLSA records at"), ("ok", "DANE 3 1 1")),
        (
            "bad",
            ("ok", "1 TLSA records at"),
            ("fail", "DANE asks for proof"),
        ),
        (
            "odd",
            ("warn", "none of which can be used"),
            ("warn", "proves nothing"),
        ),
        (
            "none",
            ("ok", "no TLSA records"),
            ("warn", "proves nothing"),
        ),
    ] {
        let found = relay.json(&["doctor", &format!("{domain}.signed.example")]);
        for (check, (state, words)) in [("dane", dane), ("starttls", starttls)] {
            let line = found.iter().find(|line| line["check"] == check).unwrap();
            assert_eq!(line["state"], state, "{domain}: {line}");
            assert!(
                line["found"].as_str().unwrap().contains(words),
                "{domain}: {line}"
            );
        }
    }
    assert!(mx.mail().is_empty());
}

#[test]
fn a_tlsa_answer_that_does_not_validate_holds_the_mail_back() {
    let (port, identity) = (free_port(), Identity::self_signed("mx.forged.example"));
    let records = format!(
        "rcpt MX 10 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA {}",
        identity.tlsa(3, 1, 1)
    );
    let dns = SignedDns::start(&[SignedZone {
        name: "forged.example",
        // After signing the record is a different one.
        signing: Signing::Forged("TLSA\t3 1 1", "TLSA\t3 0 1"),
        records: &records,
    }]);
    let mx = Mx::start_as(at(2, port), "", &identity);
    let relay = relay(&dns, port, "");
    let recipient = deferred(&relay, "you@rcpt.forged.example");
    assert_eq!(recipient["rule"], "tlsa-unknown", "{recipient}");
    assert_eq!(mx.sessions(), 0);
}

#[test]
fn without_tlsa_records_tls_is_used_where_offered() {
    let port = free_port();
    let dns = signed("rcpt MX 10 mx\nmx A 127.0.0.2");
    let mx = Mx::start(at(2, port), "");
    let relay = relay(&dns, port, "");
    submit(&relay, "app@sender.example", &["you@rcpt.signed.example"]);
    until("delivered in clear", || mx.mail().pop());
}

#[test]
fn dane_that_is_required_and_not_there_holds_the_mail_back() {
    let (port, identity) = (free_port(), Identity::self_signed("mx.signed.example"));
    let dns = signed("rcpt MX 10 mx\nmx A 127.0.0.2");
    let mx = Mx::start_as(at(2, port), "", &identity);
    let limit = "[[limit]]\nto = [\"rcpt.signed.example\"]\ntls = \"dane\"\n";
    let relay = relay(&dns, port, limit);
    let recipient = deferred(&relay, "you@rcpt.signed.example");
    assert_eq!(recipient["rule"], "tlsa-missing", "{recipient}");
    assert_eq!(mx.sessions(), 0);
}

#[test]
fn records_behind_an_alias_are_found_and_its_target_is_named_in_the_handshake() {
    let (port, identity) = (free_port(), Identity::issued("mx.signed.example"));
    let record = identity.tlsa(2, 1, 1);
    let dns = signed(&format!(
        "rcpt MX 10 www\nwww CNAME mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA {record}"
    ));
    let mx = Mx::start_as(at(2, port), "", &identity);
    let relay = relay(&dns, port, "");
    let tls = delivered(&relay, "you@rcpt.signed.example");
    assert!(tls.contains("DANE 2 1 1"), "{tls}");
    let heard = mx.log().join("\n");
    assert!(heard.contains("TLS: mx.signed.example"), "{heard}");
}

#[test]
fn an_alias_that_leads_out_of_signed_zones_keeps_the_records_at_its_own_name() {
    let (port, identity) = (free_port(), Identity::self_signed("x.test"));
    let signed = format!(
        "rcpt MX 10 out\nout CNAME host.plain.example.\n_{port}._tcp.out TLSA {}",
        identity.tlsa(3, 1, 1)
    );
    let dns = both(&signed, "host A 127.0.0.2");
    let mx = Mx::start_as(at(2, port), "", &identity);
    let relay = relay(&dns, port, "");
    let tls = delivered(&relay, "you@rcpt.signed.example");
    assert!(tls.contains("DANE 3 1 1"), "{tls}");
    let heard = mx.log().join("\n");
    assert!(heard.contains("TLS: out.signed.example"), "{heard}");
}

#[test]
fn a_trust_anchor_vouches_only_for_the_hosts_name_and_only_in_time() {
    let port = free_port();
    let other = Identity::issued("other.example");
    let late = Identity::expired("mx2.signed.example");
    let dns = signed(&format!(
        "rcpt1 MX 10 mx1\nrcpt2 MX 10 mx2\nmx1 A 127.0.0.2\nmx2 A 127.0.0.3\n\
         _{port}._tcp.mx1 TLSA {}\n_{port}._tcp.mx2 TLSA {}",
        other.tlsa(2, 0, 1),
        late.tlsa(2, 0, 1)
    ));
    let first = Mx::start_as(at(2, port), "", &other);
    let second = Mx::start_as(at(3, port), "", &late);
    for recipient in ["you@rcpt1.signed.example", "you@rcpt2.signed.example"] {
        let relay = relay(&dns, port, "");
        let recipient = deferred(&relay, recipient);
        assert_eq!(recipient["rule"], "tlsa-mismatch", "{recipient}");
    }
    assert!(first.mail().is_empty() && second.mail().is_empty());
}

#[test]
fn an_mx_record_that_anybody_could_have_forged_makes_no_use_of_tlsa() {
    let (port, identity) = (free_port(), Identity::self_signed("mx.signed.example"));
    let signed = format!("mx A 127.0.0.2\n_{port}._tcp.mx TLSA 3 1 1 {NOBODYS}");
    let dns = both(&signed, "rcpt MX 10 mx.signed.example.");
    let mx = Mx::start_as(at(2, port), "", &identity);
    let relay = relay(&dns, port, "");
    let tls = delivered(&relay, "you@rcpt.plain.example");
    assert!(!tls.contains("DANE"), "{tls}");
    assert_eq!(mx.mail().len(), 1);
}

#[test]
fn a_resolver_that_is_not_trusted_proves_nothing() {
    let (port, identity) = (free_port(), Identity::self_signed("mx.signed.example"));
    let dns = signed(&format!(
        "rcpt MX 10 mx\nmx A 127.0.0.2\n_{port}._tcp.mx TLSA 3 1 1 {NOBODYS}"
    ));
    let mx = Mx::start_as(at(2, port), "", &identity);
    let settings = format!(
        "hostname = \"relay.test\"\n[state]\ndir = \"DIR/state\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
         [dns]\nservers = [\"{}\"]\ntrust_ad = false\n\
         [delivery]\nport = {port}\nprivate_addresses = \"allowed\"\n\
         [admin]\nsocket = \"DIR/relayd.sock\"\n[log]\nformat = \"json\"\n",
        dns.address
    );
    let relay = Relay::start_with(env!("CARGO_BIN_EXE_relayd"), &settings);
    delivered(&relay, "you@rcpt.signed.example");
    assert_eq!(mx.mail().len(), 1);
}

/// The zone `signed.example`.
fn signed(records: &str) -> SignedDns {
    both(records, "")
}

/// And `plain.example`, which nobody has signed.
fn both(signed: &str, plain: &str) -> SignedDns {
    SignedDns::start(&[
        SignedZone {
            name: "signed.example",
            signing: Signing::Signed,
            records: signed,
        },
        SignedZone {
            name: "plain.example",
            signing: Signing::Unsigned,
            records: plain,
        },
    ])
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)
}

fn relay(dns: &SignedDns, port: u16, more: &str) -> Relay {
    Relay::start_at(env!("CARGO_BIN_EXE_relayd"), dns.address, port, more)
}

/// What was agreed for this message, as `queue show` tells it.
fn delivered(relay: &Relay, to: &str) -> String {
    let id = submit(relay, "app@sender.example", &[to]);
    let shown = until("delivered", || {
        let shown = relay.json(&["queue", "show", &id]).pop()?;
        (shown["recipients"][0]["state"] == "delivered").then_some(shown)
    });
    let tls = shown["recipients"][0]["history"][0]["tls"].as_str();
    tls.unwrap_or_default().to_owned()
}

fn deferred(relay: &Relay, to: &str) -> serde_json::Value {
    submit(relay, "app@sender.example", &[to]);
    relay.recipient_becomes("deferred")
}
