//! Each way in which TLS to a next hop fails, by each word that asks for TLS: sent in clear only where
//! nobody asked, else kept, and `queue show` says who asks, what was found and what can be done.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use relay_testkit::{
    Identity, Mx, PolicyHost, Relay, SignedDns, SignedZone, Signing, free_port, until,
};
use serde_json::Value;

use crate::{submit, text};

/// Whose word it is that there be TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nobody,
    /// `tls` of a [[limit]].
    Limit(&'static str),
    /// A policy in mode enforce.
    Sts,
    /// TLSA records.
    Dane,
    /// TLSA records of a usage that is none of SMTP's.
    UnusableDane,
}

/// What the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    DoesNotOffer,
    Says(&'static str),
    ClosesInTheHandshake,
    StallsInTheHandshake,
    HasExpired,
    HasAnotherName,
    HasAnUnknownIssuer,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    InClear,
    /// The rule, and words of `queue show`.
    Kept(&'static str, &'static [&'static str]),
}

const BUSY: &str = "454 4.7.0 TLS is not available now";
const NEVER: &str = "554 5.7.3 TLS is not for you";
/// Somebody in between may have changed the command: no reason to give the mail up.
const UNKNOWN: &str = "502 5.5.1 Command not implemented";
const BY_POLICY: &str = "MTA-STS policy of ";
const BY_RECORDS: &str = "TLSA records of ";
const BY_CONFIGURATION: &str = "`tls` of its [[limit]] or [[route]]";

const TABLE: &[(By, Host, Then)] = &[
    (By::Nobody, Host::StallsInTheHandshake, Then::InClear),
    (By::Nobody, Host::Says(BUSY), Then::InClear),
    (By::Nobody, Host::Says(NEVER), Then::InClear),
    (By::Nobody, Host::Says(UNKNOWN), Then::InClear),
    (
        By::Limit("require"),
        Host::DoesNotOffer,
        Then::Kept("tls-missing", &["not offer STARTTLS", BY_CONFIGURATION]),
    ),
    (
        By::Limit("require"),
        Host::Says(BUSY),
        Then::Kept("starttls-temporary", &[BUSY]),
    ),
    (
        By::Limit("require"),
        Host::Says(NEVER),
        Then::Kept("enhanced-tls", &[NEVER]),
    ),
    (
        By::Limit("require"),
        Host::Says(UNKNOWN),
        Then::Kept("starttls-not-understood", &[UNKNOWN]),
    ),
    (
        By::Limit("require"),
        Host::ClosesInTheHandshake,
        Then::Kept("tls-handshake-failed", &[BY_CONFIGURATION]),
    ),
    (
        By::Limit("require"),
        Host::StallsInTheHandshake,
        Then::Kept("tls-handshake-failed", &["not finished within 1 s"]),
    ),
    (
        By::Limit("verify"),
        Host::DoesNotOffer,
        Then::Kept("tls-missing", &["not offer STARTTLS", BY_CONFIGURATION]),
    ),
    (
        By::Limit("verify"),
        Host::HasExpired,
        Then::Kept("tls-certificate-wrong", &["xpired"]),
    ),
    (
        By::Limit("verify"),
        Host::HasAnotherName,
        Then::Kept("tls-certificate-wrong", &["other.example"]),
    ),
    (
        By::Limit("verify"),
        Host::HasAnUnknownIssuer,
        Then::Kept("tls-certificate-wrong", &["invalid peer certificate"]),
    ),
    (
        By::Sts,
        Host::DoesNotOffer,
        Then::Kept("tls-missing", &["not offer STARTTLS", BY_POLICY]),
    ),
    (
        By::Sts,
        Host::Says(BUSY),
        Then::Kept("starttls-temporary", &[BUSY]),
    ),
    (
        By::Sts,
        Host::Says(UNKNOWN),
        Then::Kept("starttls-not-understood", &[UNKNOWN]),
    ),
    (
        By::Sts,
        Host::ClosesInTheHandshake,
        Then::Kept("tls-handshake-failed", &[BY_POLICY]),
    ),
    (
        By::Sts,
        Host::HasAnUnknownIssuer,
        Then::Kept("sts-certificate-wrong", &["invalid peer certificate"]),
    ),
    (
        By::Dane,
        Host::DoesNotOffer,
        Then::Kept("tls-missing", &["not offer STARTTLS", BY_RECORDS]),
    ),
    (
        By::Dane,
        Host::Says(BUSY),
        Then::Kept("starttls-temporary", &[BUSY]),
    ),
    (
        By::Dane,
        Host::StallsInTheHandshake,
        Then::Kept(
            "tls-handshake-failed",
            &["not finished within 1 s", BY_RECORDS],
        ),
    ),
    (
        By::UnusableDane,
        Host::ClosesInTheHandshake,
        Then::Kept("tls-handshake-failed", &[BY_RECORDS]),
    ),
];

#[test]
fn mail_goes_in_clear_only_where_nobody_asked_for_tls_and_else_waits_with_the_reason() {
    let scene = Scene::new();
    let ids: Vec<String> = (0..TABLE.len())
        .map(|row| {
            submit(
                &scene.relay,
                "app@sender.example",
                &[&format!("you@{}", domain(row))],
            )
        })
        .collect();
    let mut wrong = Vec::new();
    for (row, (id, case)) in ids.iter().zip(TABLE).enumerate() {
        if let Err(found) = scene.came_to(row, id, &case.2) {
            wrong.push(format!("{case:?}: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A domain with one host for each row, and whatever asks for TLS there.
struct Scene {
    relay: Relay,
    hosts: Vec<Mx>,
    _policies: Vec<PolicyHost>,
    _dns: SignedDns,
}

impl Scene {
    fn new() -> Scene {
        let (port, https) = (free_port(), free_port());
        let (mut signed, mut plain) = (String::new(), String::new());
        let (mut hosts, mut policies) = (Vec::new(), Vec::new());
        let (mut roots, mut limits) = (String::new(), String::new());
        for (row, (by, host, _)) in TABLE.iter().enumerate() {
            let domain = domain(row);
            let address = at(row, port);
            let (mx, trusted) = start(*host, address, &format!("mx.{domain}"));
            hosts.push(mx);
            roots.push_str(&trusted);
            let ip = address.ip();
            let zone = match by {
                By::Nobody | By::Limit(_) | By::Sts => &mut plain,
                By::Dane | By::UnusableDane => &mut signed,
            };
            zone.push_str(&format!("r{row} MX 10 mx.r{row}\nmx.r{row} A {ip}\n"));
            let digest = "0".repeat(64);
            match by {
                By::Nobody => {}
                By::Limit(tls) => {
                    limits.push_str(&format!(
                        "[[limit]]\nto = [\"{domain}\"]\ntls = \"{tls}\"\n"
                    ));
                }
                By::Dane => zone.push_str(&format!("_{port}._tcp.mx.r{row} TLSA 3 1 1 {digest}\n")),
                By::UnusableDane => {
                    zone.push_str(&format!("_{port}._tcp.mx.r{row} TLSA 1 1 1 {digest}\n"));
                }
                By::Sts => {
                    let policy_host = format!("mta-sts.{domain}");
                    zone.push_str(&format!(
                        "_mta-sts.r{row} TXT \"v=STSv1; id=1;\"\nmta-sts.r{row} A {ip}\n"
                    ));
                    let identity = Identity::issued(&policy_host);
                    roots.push_str(&identity.authority_pem());
                    let policy = format!(
                        "version: STSv1\nmode: enforce\nmx: mx.{domain}\nmax_age: 604800\n"
                    );
                    policies.push(PolicyHost::start(at(row, https), &identity, &policy));
                }
            }
        }
        let zone = |name, signing, records| SignedZone {
            name,
            signing,
            records,
        };
        let dns = SignedDns::start(&[
            zone("signed.example", Signing::Signed, signed.as_str()),
            zone("plain.example", Signing::Unsigned, plain.as_str()),
        ]);
        let settings = format!(
            "hostname = \"relay.test\"\n[state]\ndir = \"DIR/state\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
             [dns]\nservers = [\"{}\"]\n[mta_sts]\nport = {https}\n\
             [delivery]\nport = {port}\nprivate_addresses = \"allowed\"\ntls_roots = \"DIR/roots.pem\"\n\
             [delivery.timeouts]\nstarttls = \"1s\"\n{limits}\
             [admin]\nsocket = \"DIR/relayd.sock\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n",
            dns.address
        );
        let mut relay = Relay::prepare(env!("CARGO_BIN_EXE_relayd"), &settings);
        std::fs::write(relay.dir().join("roots.pem"), roots).unwrap();
        relay.restart();
        Scene {
            relay,
            hosts,
            _policies: policies,
            _dns: dns,
        }
    }

    fn came_to(&self, row: usize, id: &str, then: &Then) -> Result<(), String> {
        let detail = until("tried", || {
            let shown = self.relay.json(&["queue", "show", id]).pop()?;
            let state = shown["recipients"][0]["state"].as_str()?.to_owned();
            let tried = shown["recipients"][0]["attempts"] != 0;
            (state == "delivered" || state == "bounced" || tried).then_some(shown)
        });
        let recipient = &detail["recipients"][0];
        let (mail, heard) = (self.hosts[row].mail(), self.hosts[row].log().join("\n"));
        match then {
            Then::InClear => {
                let last = recipient["history"].as_array().and_then(|all| all.last());
                let in_clear = last.is_some_and(|last| last["tls"] == Value::Null);
                let went = recipient["state"] == "delivered" && in_clear;
                let came = matches!(mail.as_slice(), [mail] if !mail.tls);
                (went && came)
                    .then_some(())
                    .ok_or(format!("{detail}\n{heard}"))
            }
            Then::Kept(rule, words) => {
                let kept = recipient["state"] == "deferred" && recipient["rule"] == *rule;
                if !kept || !mail.is_empty() || heard.contains("MAIL FROM") {
                    return Err(format!("{recipient}\n{heard}"));
                }
                // Long lines are broken anywhere.
                let shown = text(&self.relay.relayctl(&["queue", "show", id]));
                let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
                let rule = format!("Rule {rule} (");
                let all = [rule.as_str(), "Meaning ", "To do "].into_iter();
                let missing: Vec<&str> = all
                    .chain(words.iter().copied())
                    .filter(|words| !shown.contains(words))
                    .collect();
                missing
                    .is_empty()
                    .then_some(())
                    .ok_or(format!("without {missing:?}:\n{shown}"))
            }
        }
    }
}

/// And the authorities that the relay is to trust.
fn start(host: Host, address: SocketAddr, name: &str) -> (Mx, String) {
    let offers = "EHLO => 250 mx.test\\nSTARTTLS\\nPIPELINING\n";
    let with =
        |identity: Identity, trusted: String| (Mx::start_as(address, "", &identity), trusted);
    match host {
        Host::DoesNotOffer => (Mx::start(address, ""), String::new()),
        Host::Says(reply) => {
            let script = format!("{offers}STARTTLS => {reply}");
            (Mx::start(address, &script), String::new())
        }
        Host::ClosesInTheHandshake => {
            let script = format!("{offers}STARTTLS => 220 2.0.0 go & close");
            (Mx::start(address, &script), String::new())
        }
        Host::StallsInTheHandshake => {
            let script = format!("{offers}STARTTLS => 220 2.0.0 go & stall");
            (Mx::start(address, &script), String::new())
        }
        Host::HasExpired => {
            let identity = Identity::expired(name);
            let trusted = identity.authority_pem();
            with(identity, trusted)
        }
        Host::HasAnotherName => {
            let identity = Identity::issued("other.example");
            let trusted = identity.authority_pem();
            with(identity, trusted)
        }
        Host::HasAnUnknownIssuer => with(Identity::issued(name), String::new()),
    }
}

fn domain(row: usize) -> String {
    let zone = match TABLE[row].0 {
        By::Nobody | By::Limit(_) | By::Sts => "plain.example",
        By::Dane | By::UnusableDane => "signed.example",
    };
    format!("r{row}.{zone}")
}

fn at(row: usize, port: u16) -> SocketAddr {
    let last = u8::try_from(20 + row).expect("the table is short");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), port)
}
