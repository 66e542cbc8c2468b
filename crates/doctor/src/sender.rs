//! A domain that we send for: whether SPF lets our addresses, whether DNS has our DKIM keys, and what DMARC
//! says.

use std::net::IpAddr;

use relay_route::Lookup;

use crate::dkim;
use crate::examine::{Doctor, Patient};
use crate::finding::Finding;
use crate::spf::{self, Verdict};

pub(crate) async fn check(
    doctor: &Doctor,
    patient: &Patient<'_>,
    domain: &str,
    sources: &[IpAddr],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let verdict = spf::check(&*doctor.resolver, domain, *source).await;
        findings.push(spf_finding(domain, *source, verdict));
    }
    let ours = |name: &str| name == domain || domain.ends_with(&format!(".{name}"));
    let mut keys = 0;
    for signer in patient.signers {
        if ours(&signer.domain().to_ascii()) {
            keys += 1;
            findings.extend(dkim::check(&*doctor.resolver, signer).await);
        }
    }
    if keys == 0 {
        let fix = format!("make one: relayctl dkim generate {domain}");
        let found = "no key: its mail is not signed by it";
        findings.push(Finding::fail("dkim", domain, found, fix));
    }
    findings.push(dmarc(doctor, domain).await);
    findings
}

fn spf_finding(domain: &str, source: IpAddr, verdict: Verdict) -> Finding {
    const CHECK: &str = "spf";
    let kind = if source.is_ipv4() { "ip4" } else { "ip6" };
    let fix = format!("add {kind}:{source} to the SPF record of {domain}, before its `all`");
    match verdict {
        Verdict::Pass { term, at } => {
            let found = format!("lets {source} send, by {term} of {at}");
            // A record that lets everybody send says nothing for us.
            match term.trim_start_matches('+').eq_ignore_ascii_case("all") {
                true => Finding::warn(CHECK, domain, found, "let only your own addresses"),
                false => Finding::ok(CHECK, domain, found),
            }
        }
        Verdict::NoFit { end } if end.starts_with('-') => {
            let found = format!("{source} is not in it, and {end} has its mail refused");
            Finding::fail(CHECK, domain, found, fix)
        }
        Verdict::NoFit { end } => {
            let end = if end.is_empty() { "no all" } else { &end };
            let found = format!("{source} is not in it ({end})");
            Finding::warn(CHECK, domain, found, fix)
        }
        Verdict::NoRecord => {
            let fix = format!("publish TXT at {domain}: v=spf1 {kind}:{source} -all");
            Finding::fail(CHECK, domain, "no SPF record", fix)
        }
        Verdict::Broken(why) => {
            let found = format!("receivers cannot read it: {why}");
            Finding::fail(CHECK, domain, found, "correct the record")
        }
        Verdict::Unknown(why) => Finding::unknown(CHECK, domain, &why),
    }
}

/// RFC 7489 section 6.6.3: the domain's own record, else that of the domain above.
async fn dmarc(doctor: &Doctor, domain: &str) -> Finding {
    const CHECK: &str = "dmarc";
    let mut name = domain;
    loop {
        let records = match doctor.resolver.txt(&format!("_dmarc.{name}")).await {
            Lookup::Found(records) => records,
            Lookup::NoRecords | Lookup::NoSuchName => Vec::new(),
            Lookup::Trouble(words) => return Finding::unknown(CHECK, domain, &words),
        };
        let mut records = records.iter().filter(|text| text.starts_with("v=DMARC1"));
        match (records.next(), records.next()) {
            (Some(_), Some(_)) => {
                let found = format!("_dmarc.{name} has several records: that counts as none");
                return Finding::fail(CHECK, domain, found, "leave one of them");
            }
            (Some(record), None) => return dmarc_finding(domain, name, record),
            (None, _) => {}
        }
        match name.split_once('.') {
            Some((_, above)) if above.contains('.') => name = above,
            Some(_) | None => break,
        }
    }
    let fix = format!("publish TXT at _dmarc.{domain}: v=DMARC1; p=none; rua=mailto:you@{domain}");
    let found = "no record; large providers ask for one";
    Finding::warn(CHECK, domain, found, fix)
}

fn dmarc_finding(domain: &str, at: &str, record: &str) -> Finding {
    let policy = record
        .split(';')
        .filter_map(|tag| tag.split_once('='))
        .find(|(name, _)| name.trim() == "p")
        .map(|(_, value)| value.trim());
    match policy {
        Some(policy @ ("none" | "quarantine" | "reject")) => {
            Finding::ok("dmarc", domain, format!("p={policy}, at _dmarc.{at}"))
        }
        Some(_) | None => {
            let fix = "p= says none, quarantine or reject";
            Finding::fail("dmarc", domain, format!("no policy in {record:?}"), fix)
        }
    }
}
