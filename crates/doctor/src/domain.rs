//! A domain that mail goes to: where its mail is taken, whether the hosts answer, and what they prove.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use relay_config::PrivateAddresses;
use relay_deliver::dane::Dane;
use relay_deliver::dial::is_private;
use relay_route::{Lookup, Tlsa};
use relay_smtp::Domain;
use relay_sts::{Mode, Policy};
use tokio::task::JoinSet;

use crate::examine::{Doctor, Patient};
use crate::finding::{Finding, State};
use crate::probe::{Call, Probe, Tls};

/// A message would not try more either.
const HOSTS_MAX: usize = 5;
/// Of one host.
const ADDRESSES_MAX: usize = 2;

pub(crate) async fn examine(
    doctor: &Arc<Doctor>,
    patient: &Patient<'_>,
    domain: &Domain,
) -> Vec<Finding> {
    let name = domain.to_ascii();
    let (mut findings, hosts) = hosts(doctor, &name).await;
    if hosts.is_empty() {
        return findings;
    }
    let policy = match &doctor.sts {
        Some(sts) => match sts.policy(&name, patient.now).await {
            relay_sts::Found::Policy(policy) => Some(policy),
            relay_sts::Found::Nothing | relay_sts::Found::Unreadable(_) => None,
        },
        None => None,
    };
    findings.push(sts_finding(&name, policy.as_deref(), &hosts));
    let enforced = policy
        .as_ref()
        .is_some_and(|policy| policy.mode == Mode::Enforce);
    let mut visits = JoinSet::new();
    for (place, host) in hosts.into_iter().take(HOSTS_MAX).enumerate() {
        let visit = Visit {
            doctor: Arc::clone(doctor),
            domain: name.clone(),
            host,
            port: patient.config.delivery.port,
            source: patient.config.delivery.source_addresses.clone(),
            hostname: patient.config.hostname.clone(),
            private: patient.config.delivery.private_addresses,
            proof: match enforced {
                true => Proof::AskedBy("MTA-STS"),
                false => Proof::NotAsked,
            },
        };
        visits.spawn(async move { (place, visit.findings().await) });
    }
    let mut of_hosts = visits.join_all().await;
    of_hosts.sort_by_key(|(place, _)| *place);
    let of_hosts: Vec<Finding> = of_hosts.into_iter().flat_map(|(_, found)| found).collect();
    findings.extend(nobody_answers(
        &name,
        patient.config.delivery.port,
        &of_hosts,
    ));
    findings.extend(of_hosts);
    findings
}

/// The hosts that take its mail, the first to be tried first.
async fn hosts(doctor: &Doctor, domain: &str) -> (Vec<Finding>, Vec<String>) {
    const CHECK: &str = "mx";
    let finding = |finding: Finding| (vec![finding], Vec::new());
    let mut records = match doctor.resolver.mx(domain).await {
        Lookup::Found(records) => records,
        Lookup::NoRecords => {
            let found = "no MX record: mail goes to the domain's own address";
            let fix = "nothing of ours; whoever runs the domain should publish an MX record";
            let finding = Finding::warn(CHECK, domain, found, fix);
            return (vec![finding], vec![domain.to_owned()]);
        }
        Lookup::NoSuchName => {
            let fix = "check the spelling; mail to it is bounced";
            return finding(Finding::fail(CHECK, domain, "there is no such domain", fix));
        }
        Lookup::Trouble(words) => return finding(Finding::unknown(CHECK, domain, &words)),
    };
    records.sort_by_key(|record| record.preference);
    if records.iter().all(|record| record.exchange.is_empty()) {
        let found = "the domain takes no mail at all (null MX, RFC 7505)";
        return finding(Finding::fail(CHECK, domain, found, "do not send to it"));
    }
    let shown: Vec<String> = records
        .iter()
        .map(|record| format!("{} {}", record.preference, record.exchange))
        .collect();
    let hosts = records.into_iter().map(|record| record.exchange).collect();
    (vec![Finding::ok(CHECK, domain, shown.join(", "))], hosts)
}

fn sts_finding(domain: &str, policy: Option<&Policy>, hosts: &[String]) -> Finding {
    const CHECK: &str = "mta_sts";
    let Some(policy) = policy else {
        return Finding::ok(CHECK, domain, "no policy");
    };
    let strangers: Vec<&str> = hosts
        .iter()
        .filter(|host| !policy.names(host))
        .map(String::as_str)
        .collect();
    let mode = match policy.mode {
        Mode::Enforce => "enforced",
        Mode::Testing => "only tested",
        Mode::None => return Finding::ok(CHECK, domain, "a policy of mode none"),
    };
    if strangers.is_empty() {
        return Finding::ok(
            CHECK,
            domain,
            format!("a policy, {mode}, names every MX host"),
        );
    }
    let found = format!(
        "the policy, {mode}, does not name {}: mail {}",
        strangers.join(", "),
        match policy.mode {
            Mode::Enforce => "is not sent there",
            Mode::Testing | Mode::None => "would not be sent there if it were enforced",
        }
    );
    let fix = "tell whoever runs the domain: policy and MX records contradict each other";
    match policy.mode == Mode::Enforce && strangers.len() == hosts.len() {
        true => Finding::fail(CHECK, domain, found, fix),
        false => Finding::warn(CHECK, domain, found, fix),
    }
}

/// Every connection fails: then it is rather us.
fn nobody_answers(domain: &str, port: u16, findings: &[Finding]) -> Option<Finding> {
    let connects: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.check == "connect")
        .collect();
    let none = !connects.is_empty() && connects.iter().all(|one| one.state == State::Fail);
    none.then(|| {
        let found = format!("no host of {domain} can be reached on port {port}");
        let fix = format!(
            "look whether `relayctl doctor` of another domain fails, too: then outgoing port {port} is blocked, \
             as many providers do; ask yours to open it, or send by way of a [[route]]"
        );
        Finding::fail("port", domain, found, fix)
    })
}

/// Whether mail may go without a certificate that proves who the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    NotAsked,
    AskedBy(&'static str),
}

/// One host, looked at beside the others.
struct Visit {
    doctor: Arc<Doctor>,
    domain: String,
    host: String,
    port: u16,
    source: Vec<IpAddr>,
    hostname: String,
    private: PrivateAddresses,
    proof: Proof,
}

impl Visit {
    async fn findings(self) -> Vec<Finding> {
        const CHECK: &str = "address";
        let host = &self.host;
        let addresses = match self.doctor.resolver.addresses(host).await {
            Lookup::Found(addresses) => addresses,
            Lookup::NoRecords | Lookup::NoSuchName => {
                let fix = "tell whoever runs the domain: its MX names a host without an address";
                return vec![Finding::fail(CHECK, host, "the host has no address", fix)];
            }
            Lookup::Trouble(words) => return vec![Finding::unknown(CHECK, host, &words)],
        };
        let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let mut findings = vec![Finding::ok(CHECK, host, shown.join(", "))];
        let dane = self.dane(&mut findings).await;
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            findings.extend(self.visit(address, dane.clone()).await);
        }
        findings
    }

    async fn dane(&self, findings: &mut Vec<Finding>) -> Option<Arc<Dane>> {
        const CHECK: &str = "dane";
        let mx_of = (self.host != self.domain).then_some(self.domain.as_str());
        let tlsa = self
            .doctor
            .resolver
            .tlsa(mx_of, &self.host, self.port)
            .await;
        let (base, records) = match tlsa {
            Tlsa::Found { base, records } => (base, records),
            Tlsa::None => {
                findings.push(Finding::ok(CHECK, &self.host, "no TLSA records"));
                return None;
            }
            Tlsa::Trouble(words) => {
                let fix = "mail waits while this lasts; the zone's DNSSEC may be broken";
                findings.push(Finding::fail(CHECK, &self.host, words, fix));
                return None;
            }
        };
        let count = records.len();
        let dane = Dane::of(&base, self.port, records, Some(&self.domain)).map(Arc::new);
        findings.push(match &dane {
            Some(dane) => {
                let found = format!("{count} TLSA records at {}", dane.owner());
                Finding::ok(CHECK, &self.host, found)
            }
            None => {
                let fix =
                    "tell whoever runs the host: records for SMTP are of usage 2 or 3 (RFC 7672)";
                Finding::warn(
                    CHECK,
                    &self.host,
                    "TLSA records, none of which can be used",
                    fix,
                )
            }
        });
        dane
    }

    async fn visit(&self, address: IpAddr, dane: Option<Arc<Dane>>) -> Vec<Finding> {
        let subject = match address {
            IpAddr::V4(address) => format!("{} [{address}]", self.host),
            IpAddr::V6(address) => format!("{} [IPv6:{address}]", self.host),
        };
        if self.private == PrivateAddresses::Refused && is_private(address) {
            let found = "a private address, to which mail is not sent";
            let fix = "delivery.private_addresses allows it, if these are your own hosts";
            return vec![Finding::warn("connect", &subject, found, fix)];
        }
        let fitting = |source: &&IpAddr| source.is_ipv4() == address.is_ipv4();
        let call = Call {
            host: self.host.clone(),
            address: SocketAddr::new(address, self.port),
            source: self.source.iter().find(fitting).copied(),
            hostname: self.hostname.clone(),
        };
        // Where both are published DANE counts (RFC 8461 section 2).
        let proof = match &dane {
            Some(_) => Proof::AskedBy("DANE"),
            None => self.proof,
        };
        let probe = self.doctor.probe(&call, dane).await;
        findings_of(&subject, self.port, probe, proof)
    }
}

fn findings_of(subject: &str, port: u16, probe: Probe, proof: Proof) -> Vec<Finding> {
    let connected = |time: std::time::Duration| {
        let found = format!("port {port} in {} ms", time.as_millis());
        Finding::ok("connect", subject, found)
    };
    match probe {
        Probe::NoConnection(words) => {
            let fix = "the host may be down, or refuse us; the next one is tried meanwhile";
            vec![Finding::fail("connect", subject, words, fix)]
        }
        Probe::Stopped {
            connected: time,
            step,
            words,
        } => {
            let fix = "read what it says; `relayctl policy test` tells what relayd makes of it";
            vec![connected(time), Finding::fail(step, subject, words, fix)]
        }
        Probe::Spoken {
            connected: time,
            banner,
            extensions,
            tls,
        } => {
            let offered = format!("{banner}; offers {}", words_for(&extensions));
            vec![
                connected(time),
                Finding::ok("banner", subject, offered),
                tls_finding(subject, tls, proof),
            ]
        }
    }
}

fn words_for(extensions: &relay_smtp::extension::Extensions) -> String {
    use relay_smtp::extension::Offered;
    let rows = [
        ("PIPELINING", extensions.pipelining),
        ("8BITMIME", extensions.eight_bit_mime),
        ("SMTPUTF8", extensions.smtputf8),
        ("DSN", extensions.dsn),
        ("CHUNKING", extensions.chunking),
        ("STARTTLS", extensions.starttls),
    ];
    let words: Vec<&str> = rows
        .iter()
        .filter(|(_, offered)| *offered == Offered::Yes)
        .map(|(word, _)| *word)
        .collect();
    match words.is_empty() {
        true => "no extensions".to_owned(),
        false => words.join(" "),
    }
}

fn tls_finding(subject: &str, tls: Tls, proof: Proof) -> Finding {
    const CHECK: &str = "starttls";
    let held_back = |by: &str, found: String| {
        let found = format!("{found}: {by} asks for proof, so no mail is sent there");
        let fix = "mail waits for it; tell whoever runs the host";
        Finding::fail(CHECK, subject, found, fix)
    };
    match (tls, proof) {
        (Tls::Proved(agreed), _) => Finding::ok(CHECK, subject, agreed),
        (Tls::NotOffered, Proof::AskedBy(by)) => held_back(by, "not offered".to_owned()),
        (Tls::Unproved { agreed, why }, Proof::AskedBy(by)) => {
            held_back(by, format!("{agreed}, but {why}"))
        }
        (Tls::Failed(why), Proof::AskedBy(by)) => held_back(by, why),
        (Tls::NotOffered, Proof::NotAsked) => Finding::warn(
            CHECK,
            subject,
            "not offered: mail goes in clear, unless it must not",
            "nothing of ours; [[limit]] tls = \"require\" would hold such mail back",
        ),
        (Tls::Unproved { agreed, why }, Proof::NotAsked) => Finding::warn(
            CHECK,
            subject,
            format!("{agreed}, but the certificate proves nothing: {why}"),
            "mail goes, unless [[limit]] tls asks for proof",
        ),
        (Tls::Failed(why), Proof::NotAsked) => Finding::fail(
            CHECK,
            subject,
            why,
            "opportunistic mail goes in clear; what must be encrypted waits",
        ),
    }
}
