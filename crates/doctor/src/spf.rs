//! Whether a domain's SPF record lets an address send for it (RFC 7208). Not for judging others' mail: macros,
//! which need a message, count as unknown.

use std::net::IpAddr;

use relay_route::resolver::Later;
use relay_route::{Lookup, Resolver};

/// What the record says of the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The term that lets it pass, and the domain it stands at.
    Pass {
        term: String,
        at: String,
    },
    /// No term fits; what stands at the end: `-all`, `~all`, `?all`, or nothing.
    NoFit {
        end: String,
    },
    NoRecord,
    /// The record cannot be followed: why. Receivers then reject or ignore it.
    Broken(String),
    /// DNS gave no answer, or the term needs a message to be judged.
    Unknown(String),
}

/// Terms that may ask DNS (section 4.6.4).
const LOOKUPS_MAX: u32 = 10;

pub async fn check(resolver: &dyn Resolver, domain: &str, address: IpAddr) -> Verdict {
    let mut check = Check {
        resolver,
        address,
        lookups: 0,
    };
    match check.record(domain.to_owned()).await {
        Ok(verdict) => verdict,
        Err(stopped) => stopped,
    }
}

struct Check<'a> {
    resolver: &'a dyn Resolver,
    address: IpAddr,
    lookups: u32,
}

/// Err: that is the result of the whole, wherever it was found.
type Step<T> = Result<T, Verdict>;

fn broken<T>(why: String) -> Step<T> {
    Err(Verdict::Broken(why))
}

impl Check<'_> {
    fn record(&mut self, domain: String) -> Later<'_, Step<Verdict>> {
        Box::pin(async move {
            let Some(record) = self.find(&domain).await? else {
                return Ok(Verdict::NoRecord);
            };
            let mut redirect = None;
            for term in record.split_ascii_whitespace().skip(1) {
                if let Some(target) = prefixed(term, "redirect=") {
                    redirect = Some(target.to_owned());
                    continue;
                }
                // exp= and modifiers that nobody knows change nothing (section 6).
                if is_modifier(term) {
                    continue;
                }
                if let Some(verdict) = self.mechanism(term, &domain).await? {
                    return Ok(verdict);
                }
            }
            let Some(target) = redirect else {
                return Ok(Verdict::NoFit { end: String::new() });
            };
            self.count()?;
            match self.record(no_macro(&target)?).await? {
                Verdict::NoRecord => broken(format!("redirect={target} has no SPF record")),
                verdict => Ok(verdict),
            }
        })
    }

    async fn find(&self, domain: &str) -> Step<Option<String>> {
        let records = match self.resolver.txt(domain).await {
            Lookup::Found(records) => records,
            Lookup::NoRecords | Lookup::NoSuchName => return Ok(None),
            Lookup::Trouble(words) => return Err(Verdict::Unknown(words)),
        };
        let is_spf = |record: &String| {
            let first = record.split_ascii_whitespace().next();
            first.is_some_and(|word| word.eq_ignore_ascii_case("v=spf1"))
        };
        let mut found = records.into_iter().filter(is_spf);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => broken(format!(
                "{domain} has more than one SPF record; merge them into one"
            )),
            (found, _) => Ok(found),
        }
    }

    /// None: it does not fit.
    async fn mechanism(&mut self, term: &str, domain: &str) -> Step<Option<Verdict>> {
        let (qualifier, bare) = match term.as_bytes().first() {
            Some(b'+' | b'-' | b'~' | b'?') => term.split_at(1),
            Some(_) | None => ("+", term),
        };
        let (name, rest) = bare.split_at(bare.find([':', '/']).unwrap_or(bare.len()));
        let fits = match name.to_ascii_lowercase().as_str() {
            "all" => {
                return Ok(Some(match qualifier {
                    "+" => pass(term, domain),
                    _ => Verdict::NoFit {
                        end: term.to_owned(),
                    },
                }));
            }
            "ip4" | "ip6" => net_holds(rest.trim_start_matches(':'), self.address)
                .ok_or_else(|| Verdict::Broken(format!("{term} is no network")))?,
            "include" => self.include(rest.trim_start_matches(':')).await?,
            "a" => {
                self.count()?;
                let (host, prefixes) = target(rest, domain)?;
                self.host_holds(&host, prefixes).await?
            }
            "mx" => {
                self.count()?;
                let (host, prefixes) = target(rest, domain)?;
                self.mx_holds(&host, prefixes).await?
            }
            "exists" => {
                self.count()?;
                let host = no_macro(rest.trim_start_matches(':'))?;
                matches!(self.resolver.addresses(&host).await, Lookup::Found(_))
            }
            // Nobody should use it any more (section 5.5); it cannot do more than not fit.
            "ptr" => {
                self.count()?;
                false
            }
            _ => return broken(format!("{term} is no SPF term")),
        };
        Ok(match (fits, qualifier) {
            (false, _) => None,
            (true, "+") => Some(pass(term, domain)),
            (true, _) => Some(Verdict::NoFit {
                end: term.to_owned(),
            }),
        })
    }

    /// Section 5.2: only a pass of the other record counts.
    async fn include(&mut self, other: &str) -> Step<bool> {
        self.count()?;
        match self.record(no_macro(other)?).await? {
            Verdict::Pass { .. } => Ok(true),
            Verdict::NoFit { .. } => Ok(false),
            Verdict::NoRecord => broken(format!("include:{other} has no SPF record")),
            verdict @ (Verdict::Broken(_) | Verdict::Unknown(_)) => Err(verdict),
        }
    }

    async fn host_holds(&self, host: &str, prefixes: Prefixes) -> Step<bool> {
        match self.resolver.addresses(host).await {
            Lookup::Found(addresses) => Ok(addresses
                .into_iter()
                .any(|net| holds(net, prefixes.of(net), self.address))),
            Lookup::NoRecords | Lookup::NoSuchName => Ok(false),
            Lookup::Trouble(words) => Err(Verdict::Unknown(words)),
        }
    }

    async fn mx_holds(&self, domain: &str, prefixes: Prefixes) -> Step<bool> {
        let hosts = match self.resolver.mx(domain).await {
            Lookup::Found(hosts) => hosts,
            Lookup::NoRecords | Lookup::NoSuchName => return Ok(false),
            Lookup::Trouble(words) => return Err(Verdict::Unknown(words)),
        };
        for host in hosts.iter().take(10) {
            if self.host_holds(&host.exchange, prefixes).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count(&mut self) -> Step<()> {
        self.lookups += 1;
        match self.lookups > LOOKUPS_MAX {
            true => broken(
                "it needs more than 10 DNS lookups (RFC 7208 section 4.6.4); name networks by ip4 and ip6 \
                 in place of includes"
                    .to_owned(),
            ),
            false => Ok(()),
        }
    }
}

fn pass(term: &str, at: &str) -> Verdict {
    Verdict::Pass {
        term: term.to_owned(),
        at: at.to_owned(),
    }
}

fn prefixed<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `name=value`, where a mechanism would have `:` or `/` first.
fn is_modifier(term: &str) -> bool {
    let first = term.find(['=', ':', '/']);
    first.is_some_and(|at| term.as_bytes().get(at) == Some(&b'='))
}

fn no_macro(text: &str) -> Step<String> {
    match text.contains('%') {
        true => Err(Verdict::Unknown(format!(
            "{text} depends on the message, so it cannot be judged beforehand"
        ))),
        false => Ok(text.trim_end_matches('.').to_owned()),
    }
}

/// The lengths of prefixes behind `a` and `mx`: `/24`, `//64`, `/24//64`.
#[derive(Clone, Copy)]
struct Prefixes {
    v4: u8,
    v6: u8,
}

impl Prefixes {
    fn of(self, address: IpAddr) -> u8 {
        match address {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }
}

/// What stands behind `a` or `mx`: a host (else the domain itself) and prefixes.
fn target(rest: &str, domain: &str) -> Step<(String, Prefixes)> {
    let wrong = || Verdict::Broken(format!("{rest} is no host with a prefix"));
    let (host, lengths) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (v4, v6) = match lengths.split_once("//") {
        Some((v4, v6)) => (v4, v6),
        None => (lengths, ""),
    };
    let length = |text: &str, most: u8| -> Step<u8> {
        match text.trim_start_matches('/') {
            "" => Ok(most),
            text => {
                let length = text.parse().ok().filter(|length| *length <= most);
                length.ok_or_else(wrong)
            }
        }
    };
    let prefixes = Prefixes {
        v4: length(v4, 32)?,
        v6: length(v6, 128)?,
    };
    let host = match host.trim_start_matches(':') {
        "" => domain.to_owned(),
        host => no_macro(host)?,
    };
    Ok((host, prefixes))
}

/// `192.0.2.0/24`, `2001:db8::/32`, or one address. None: none of these.
fn net_holds(text: &str, address: IpAddr) -> Option<bool> {
    let (net, length) = match text.split_once('/') {
        Some((net, length)) => (net, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let net: IpAddr = net.parse().ok()?;
    let most = if net.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(most);
    (length <= most).then(|| holds(net, length, address))
}

fn holds(net: IpAddr, length: u8, address: IpAddr) -> bool {
    let same = |net: u128, address: u128, bits: u8| {
        let behind = u32::from(bits - length.min(bits));
        net.checked_shr(behind).unwrap_or(0) == address.checked_shr(behind).unwrap_or(0)
    };
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            same(u32::from(net).into(), u32::from(address).into(), 32)
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => same(net.into(), address.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::Zone;

    const ZONE: &str = "
        plain.test    TXT v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all
        here.test     TXT v=spf1 a mx/24 ~all
        here.test     A 192.0.2.7
        here.test     MX mx.test
        mx.test       A 198.51.100.9
        inc.test      TXT v=spf1 include:plain.test include:here.test ?all
        redir.test    TXT v=spf1 redirect=plain.test
        minus.test    TXT v=spf1 -ip4:192.0.2.7 +all
        two.test      TXT v=spf1 -all
        two.test      TXT v=spf1 +all
        typo.test     TXT v=spf1 ipv4:192.0.2.7 -all
        net.test      TXT v=spf1 ip4:192.0.2.300 -all
        lost.test     TXT v=spf1 include:nowhere.test -all
        loop.test     TXT v=spf1 include:loop.test -all
        macro.test    TXT v=spf1 exists:%{i}.list.test -all
        silent.test   TXT v=spf1
        other.test    TXT google-site-verification=v=spf1
        bad.test      SERVFAIL
        up.test       TXT V=SPF1 IP4:192.0.2.7 -ALL
    ";

    async fn says(domain: &str, address: &str) -> String {
        match check(&Zone::new(ZONE), domain, address.parse().unwrap()).await {
            Verdict::Pass { term, at } => format!("pass {term} {at}"),
            Verdict::NoFit { end } => format!("no {end}"),
            Verdict::NoRecord => "none".to_owned(),
            Verdict::Broken(why) => format!("broken {why}"),
            Verdict::Unknown(why) => format!("unknown {why}"),
        }
    }

    #[tokio::test]
    async fn records_are_read_as_receivers_read_them() {
        for (domain, address, wanted) in [
            (
                "plain.test",
                "192.0.2.9",
                "pass ip4:192.0.2.0/24 plain.test",
            ),
            (
                "plain.test",
                "2001:db8::1",
                "pass ip6:2001:db8::/32 plain.test",
            ),
            ("plain.test", "192.0.3.9", "no -all"),
            ("here.test", "192.0.2.7", "pass a here.test"),
            ("here.test", "198.51.100.200", "pass mx/24 here.test"),
            ("here.test", "192.0.2.8", "no ~all"),
            ("inc.test", "192.0.2.7", "pass include:plain.test inc.test"),
            (
                "inc.test",
                "198.51.100.1",
                "pass include:here.test inc.test",
            ),
            ("inc.test", "203.0.113.1", "no ?all"),
            (
                "redir.test",
                "192.0.2.1",
                "pass ip4:192.0.2.0/24 plain.test",
            ),
            ("minus.test", "192.0.2.7", "no -ip4:192.0.2.7"),
            ("minus.test", "192.0.2.8", "pass +all minus.test"),
            ("silent.test", "192.0.2.7", "no "),
            ("other.test", "192.0.2.7", "none"),
            ("nowhere.test", "192.0.2.7", "none"),
            ("up.test", "192.0.2.7", "pass IP4:192.0.2.7 up.test"),
        ] {
            assert_eq!(says(domain, address).await, wanted, "{domain} {address}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_record_is_named() {
        for (domain, wanted) in [
            ("two.test", "broken two.test has more than one SPF record"),
            ("typo.test", "broken ipv4:192.0.2.7 is no SPF term"),
            ("net.test", "broken ip4:192.0.2.300 is no network"),
            ("lost.test", "broken include:nowhere.test has no SPF record"),
            ("loop.test", "broken it needs more than 10 DNS lookups"),
            (
                "macro.test",
                "unknown %{i}.list.test depends on the message",
            ),
            ("bad.test", "unknown SERVFAIL"),
        ] {
            let said = says(domain, "192.0.2.7").await;
            assert!(said.starts_with(wanted), "{domain}: {said}");
        }
    }
}
