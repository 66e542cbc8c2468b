//! Ourselves, as receivers see us: the name that we say, the addresses that we come from, and the domains
//! that we send for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use relay_deliver::dial::is_private;
use relay_route::Lookup;

use crate::blocklist;
use crate::examine::{Blocklists, Doctor, Internet, Patient, Question};
use crate::finding::Finding;
use crate::sender;

pub(crate) async fn examine(
    doctor: &Arc<Doctor>,
    patient: &Patient<'_>,
    question: &Question,
) -> Vec<Finding> {
    let config = patient.config;
    match doctor.internet {
        Internet::Real => {}
        Internet::Simulated => return vec![sandbox(&config.hostname)],
    }
    let (finding, named) = hostname(doctor, &config.hostname).await;
    let mut findings = vec![finding];
    let sources = match config.delivery.source_addresses.as_slice() {
        [] => sources_found(&config.hostname, &named, &mut findings),
        configured => configured.to_vec(),
    };
    for source in &sources {
        findings.push(pointer(doctor, *source, &config.hostname).await);
        if question.blocklists == Blocklists::Asked && !is_private(*source) {
            for list in &config.doctor.blocklists {
                findings.push(blocklist::check(doctor, *source, list).await);
            }
        }
    }
    let senders: BTreeSet<String> = match &question.sender {
        Some(domain) => [domain.to_ascii()].into(),
        None => {
            let keys = patient.signers.iter();
            keys.map(|signer| signer.domain().to_ascii()).collect()
        }
    };
    if senders.is_empty() {
        let found = "there is no [[dkim]] key, so no domain is known that we send for";
        let fix = "name one with --sender; make a key with: relayctl dkim generate DOMAIN";
        findings.push(Finding::warn("sender", &config.hostname, found, fix));
    }
    for domain in senders {
        findings.extend(sender::check(doctor, patient, &domain, &sources).await);
    }
    findings
}

/// A simulator's answers about our own name and addresses would say nothing.
fn sandbox(hostname: &str) -> Finding {
    let found = "this is a sandbox, with a simulator in place of the internet: name, addresses, SPF, DKIM and DMARC \
                 are seen by nobody and were not looked at";
    Finding::ok("sandbox", hostname, found)
}

/// RFC 5321 section 4.1.4: the name in EHLO should have an address.
async fn hostname(doctor: &Doctor, name: &str) -> (Finding, Vec<IpAddr>) {
    const CHECK: &str = "hostname";
    match doctor.resolver.addresses(name).await {
        Lookup::Found(addresses) => {
            let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            let found = format!("said in EHLO; its address is {}", shown.join(", "));
            (Finding::ok(CHECK, name, found), addresses)
        }
        Lookup::NoRecords | Lookup::NoSuchName => {
            let found = "said in EHLO, and has no address in DNS; many servers refuse that";
            let fix = format!(
                "publish an A or AAAA record for {name}, or set hostname to the name of this machine"
            );
            (Finding::fail(CHECK, name, found, fix), Vec::new())
        }
        Lookup::Trouble(words) => (Finding::unknown(CHECK, name, &words), Vec::new()),
    }
}

/// Where the kernel chooses: what it would choose, or, behind a router, what our name says.
fn sources_found(hostname: &str, named: &[IpAddr], findings: &mut Vec<Finding>) -> Vec<IpAddr> {
    const CHECK: &str = "source";
    match chosen_by_kernel() {
        Some(address) if !is_private(address) => vec![address],
        Some(_) | None => {
            let public: Vec<IpAddr> = named
                .iter()
                .copied()
                .filter(|ip| !is_private(*ip))
                .collect();
            let found = match public.is_empty() {
                true => {
                    "this machine has no public address, and what others see of it is not known"
                }
                false => "this machine is behind a router; its name is taken for what others see",
            };
            let fix =
                "if mail leaves from another address, give `hostname` an A record that says so";
            findings.push(Finding::warn(CHECK, hostname, found, fix));
            public
        }
    }
}

/// Nothing is sent: connecting a datagram socket only looks up the way.
fn chosen_by_kernel() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // 198.41.0.4 is a root name server: a public address that stays.
    socket
        .connect(SocketAddr::from(([198, 41, 0, 4], 25)))
        .ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// Receivers look whether the address has a name, and whether that name has the address.
async fn pointer(doctor: &Doctor, address: IpAddr, hostname: &str) -> Finding {
    const CHECK: &str = "ptr";
    let subject = address.to_string();
    let names = match doctor.resolver.ptr(address).await {
        Lookup::Found(names) => names,
        Lookup::NoRecords | Lookup::NoSuchName => {
            let found = "the address has no PTR record; large providers refuse mail from it";
            let fix = format!("ask whoever gave you the address to set its PTR to {hostname}");
            return Finding::fail(CHECK, &subject, found, fix);
        }
        Lookup::Trouble(words) => return Finding::unknown(CHECK, &subject, &words),
    };
    for name in names.iter().take(5) {
        if let Lookup::Found(addresses) = doctor.resolver.addresses(name).await
            && addresses.contains(&address)
        {
            return match name.eq_ignore_ascii_case(hostname) {
                true => Finding::ok(CHECK, &subject, format!("{name}, and back")),
                false => {
                    let found = format!("{name}, and back; in EHLO we say {hostname}");
                    let fix = format!("set the PTR to {hostname}, or hostname = \"{name}\"");
                    Finding::warn(CHECK, &subject, found, fix)
                }
            };
        }
    }
    let found = format!(
        "{}, which does not have this address: that counts as none",
        names.join(", ")
    );
    let fix = format!("give {hostname} this address in DNS, and the address the PTR {hostname}");
    Finding::fail(CHECK, &subject, found, fix)
}

#[cfg(test)]
mod tests {
    use relay_config::Config;
    use relay_deliver::dial::TcpDialer;
    use relay_deliver::tls::{TlsClient, roots};
    use relay_message::dkim::Signer;
    use relay_smtp::Domain;

    use super::*;
    use crate::finding::State;
    use crate::zone::Zone;

    const KEY: &str = include_str!("../../../tests/golden/dkim/ed25519.pem");

    fn key() -> Signer {
        Signer::from_pem(Domain::parse("ours.test").unwrap(), "s", KEY).unwrap()
    }

    fn zone() -> String {
        let record = key().public_record();
        format!(
            "relay.test               A 192.0.2.7
             192.0.2.7                PTR relay.test
             ours.test                TXT v=spf1 ip4:192.0.2.7 -all
             s._domainkey.ours.test   TXT {record}
             _dmarc.ours.test         TXT v=DMARC1; p=reject
             7.2.0.192.bad.test       A 127.0.0.2
             7.2.0.192.bad.test       TXT seen sending
             7.2.0.192.shy.test       A 127.255.255.254
             7.2.0.192.any.test       A 192.0.2.99"
        )
    }

    /// Check and state of each line that is not well; `changed` replaces the lines of the zone that begin
    /// with its first word.
    async fn complaints(changed: &str, question: Question) -> Vec<String> {
        let told = told(changed, question, Internet::Real).await;
        told.into_iter()
            .filter(|one| !one.starts_with("ok "))
            .collect()
    }

    async fn told(changed: &str, question: Question, internet: Internet) -> Vec<String> {
        let name = changed.split(' ').next().unwrap_or_default();
        let zone: String = zone()
            .lines()
            .filter(|line| name.is_empty() || line.split_whitespace().next() != Some(name))
            .chain([changed])
            .map(|line| format!("{}\n", line.trim_end_matches(" GONE")))
            .filter(|line| !changed.ends_with("GONE") || line.trim() != name)
            .collect();
        let doctor = Arc::new(Doctor {
            resolver: Arc::new(Zone::new(&zone)),
            dialer: Arc::new(TcpDialer),
            tls: TlsClient::with_roots(roots("")).unwrap(),
            sts: None,
            internet,
        });
        let mut config = Config::default_for("relay.test");
        config.delivery.source_addresses = vec!["192.0.2.7".parse().unwrap()];
        config.doctor.blocklists = ["bad.test", "shy.test", "any.test", "good.test"]
            .map(str::to_owned)
            .to_vec();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let found = doctor.examine(&question, &config, &[key()], now).await;
        assert!(!found.is_empty());
        found
            .into_iter()
            .map(|finding| {
                let well = finding.state == State::Ok;
                assert!(well || finding.fix.is_some(), "{finding:?}");
                format!(
                    "{} {}: {}",
                    finding.state.word(),
                    finding.check,
                    finding.found
                )
            })
            .collect()
    }

    fn question() -> Question {
        Question {
            domain: None,
            sender: None,
            blocklists: Blocklists::LeftAlone,
        }
    }

    #[tokio::test]
    async fn a_relay_that_is_set_up_right_is_well() {
        let none: [String; 0] = [];
        assert_eq!(complaints("", question()).await, none);
    }

    #[tokio::test]
    async fn a_sandbox_is_told_to_be_one_and_is_well() {
        let told = told("192.0.2.7 GONE", question(), Internet::Simulated).await;
        let [line] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert!(line.starts_with("ok sandbox: this is a sandbox"), "{line}");
    }

    #[tokio::test]
    async fn each_thing_that_receivers_mind_is_told() {
        let cases = [
            (
                "relay.test GONE",
                "fail hostname: said in EHLO, and has no address",
            ),
            ("relay.test SERVFAIL", "warn hostname: SERVFAIL"),
            ("192.0.2.7 GONE", "fail ptr: the address has no PTR record"),
            (
                "192.0.2.7 PTR else.test",
                "fail ptr: else.test, which does not have this address",
            ),
            ("ours.test GONE", "fail spf: no SPF record"),
            (
                "ours.test TXT v=spf1 -all",
                "fail spf: 192.0.2.7 is not in it, and -all",
            ),
            (
                "ours.test TXT v=spf1 ~all",
                "warn spf: 192.0.2.7 is not in it (~all)",
            ),
            (
                "ours.test TXT v=spf1 +all",
                "warn spf: lets 192.0.2.7 send, by +all",
            ),
            (
                "ours.test TXT v=spf1 ipv4:1 -all",
                "fail spf: receivers cannot read it",
            ),
            (
                "s._domainkey.ours.test GONE",
                "fail dkim: there is no TXT record",
            ),
            ("_dmarc.ours.test GONE", "warn dmarc: no record"),
            (
                "_dmarc.ours.test TXT v=DMARC1; sp=none",
                "fail dmarc: no policy",
            ),
        ];
        for (changed, wanted) in cases {
            let told = complaints(changed, question()).await;
            assert!(
                told.iter().any(|one| one.starts_with(wanted)),
                "{changed}: {told:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_pointer_to_another_name_of_ours_is_only_a_warning() {
        let changed = "192.0.2.7 PTR mail.test\nmail.test A 192.0.2.7";
        let told = complaints(changed, question()).await;
        let wanted = "warn ptr: mail.test, and back; in EHLO we say relay.test";
        assert_eq!(told, [wanted]);
    }

    #[tokio::test]
    async fn block_lists_are_asked_only_where_that_is_said() {
        let asked = Question {
            blocklists: Blocklists::Asked,
            ..question()
        };
        assert_eq!(
            complaints("", asked).await,
            [
                "fail blocklist: on bad.test (127.0.0.2): seen sending",
                "warn blocklist: shy.test does not answer our resolver (127.255.255.254)",
                "warn blocklist: any.test does not answer our resolver (192.0.2.99)"
            ]
        );
    }

    #[tokio::test]
    async fn a_domain_without_a_key_is_told_so_and_how_to_get_one() {
        let other = Question {
            sender: Some(Domain::parse("other.test").unwrap()),
            ..question()
        };
        let told = complaints("", other).await;
        assert_eq!(
            told,
            [
                "fail spf: no SPF record",
                "fail dkim: no key: its mail is not signed by it",
                "warn dmarc: no record; large providers ask for one"
            ]
        );
    }
}
