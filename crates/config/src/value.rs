//! One value: from TOML to what it means, or to what is wrong with it and how to write it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};
use ipnet::IpNet;
use relay_smtp::verp::Template;
use relay_smtp::{Domain, Mailbox};

use crate::endpoint::Endpoint;
use crate::kind::{Kind, Word, duration_text, size_text, words_of};
use crate::settings::{DomainPattern, ListenAddress, Rate, Relay};

/// A value as its part wants it, or what is wrong; more than one thing may be wrong with a list.
pub(crate) type Read<T> = Result<T, Vec<Wrong>>;

/// What was found where, what is wrong with it and how to write it.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) place: Option<String>,
    pub(crate) found: String,
    pub(crate) what: String,
}

impl Wrong {
    pub(crate) fn of(value: &Value, what: impl Into<String>) -> Wrong {
        Wrong {
            place: value.origin().map(str::to_owned),
            found: shown(value),
            what: what.into(),
        }
    }
}

fn wrong<T>(value: &Value, what: impl Into<String>) -> Read<T> {
    Err(vec![Wrong::of(value, what)])
}

/// As it stands in the file; lists and tables by their kind only, since a password could be inside.
pub(crate) fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Boolean(boolean) => boolean.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::U64(number) => number.to_string(),
        ValueKind::I128(number) => number.to_string(),
        ValueKind::U128(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::Array(items) => match items.as_slice() {
            [] => "[]".to_owned(),
            _ => "[...]".to_owned(),
        },
        ValueKind::Table(_) => "{...}".to_owned(),
        ValueKind::Nil => "nothing".to_owned(),
    }
}

fn raw_text(value: &Value) -> Read<&str> {
    match &value.kind {
        ValueKind::String(text) => Ok(text),
        ValueKind::Array(_) => wrong(
            value,
            "a list where one text is wanted; write it as \"...\"",
        ),
        _ => wrong(value, "not a text; write it in quotes: \"...\""),
    }
}

pub(crate) fn text(value: &Value, _: &Kind) -> Read<String> {
    match raw_text(value)?.trim() {
        "" => wrong(value, "empty; write a text, or remove the key"),
        text => Ok(text.to_owned()),
    }
}

pub(crate) fn path(value: &Value, kind: &Kind) -> Read<PathBuf> {
    text(value, kind).map(PathBuf::from)
}

pub(crate) fn domain(value: &Value, _: &Kind) -> Read<Domain> {
    Domain::parse(raw_text(value)?).or_else(|error| {
        wrong(
            value,
            format!("not a domain name ({error}); write it as in example.com"),
        )
    })
}

pub(crate) fn mailbox(value: &Value, _: &Kind) -> Read<String> {
    let text = raw_text(value)?;
    match Mailbox::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => wrong(
            value,
            format!("not a mail address ({error}); write it as in postmaster@example.com"),
        ),
    }
}

/// `*@example.com` or `user@example.com`; the domain comes back in A-labels and lower case.
pub(crate) fn sender_pattern(value: &Value, _: &Kind) -> Read<String> {
    let text = raw_text(value)?;
    let fix = "not a mail address; write *@example.com or user@example.com";
    let Some((local, host)) = text.rsplit_once('@') else {
        return wrong(value, fix);
    };
    let Ok(domain) = Domain::parse(host) else {
        return wrong(value, fix);
    };
    if local != "*" && Mailbox::parse(text).is_err() {
        return wrong(value, fix);
    }
    Ok(format!("{local}@{}", domain.to_ascii()))
}

pub(crate) fn listen_address(value: &Value, _: &Kind) -> Read<ListenAddress> {
    let text = raw_text(value)?;
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.starts_with('/') {
            true => Ok(ListenAddress::Unix(PathBuf::from(path))),
            false => wrong(value, "not a full path; write unix:/run/relayd/submit.sock"),
        };
    }
    match text.parse() {
        Ok(address) => Ok(ListenAddress::Tcp(address)),
        Err(_) => wrong(
            value,
            "not an address with a port; write 127.0.0.1:2525, [::1]:2525 or unix:/path",
        ),
    }
}

pub(crate) fn socket_address(value: &Value, _: &Kind) -> Read<SocketAddr> {
    raw_text(value)?
        .parse()
        .or_else(|_| wrong(value, "not an address with a port; write 127.0.0.1:8025"))
}

pub(crate) fn dns_server(value: &Value, _: &Kind) -> Read<SocketAddr> {
    let text = raw_text(value)?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, 53)),
        Err(_) => wrong(value, "not an address; write 127.0.0.1 or 127.0.0.1:53"),
    }
}

pub(crate) fn ip_address(value: &Value, _: &Kind) -> Read<IpAddr> {
    raw_text(value)?
        .parse()
        .or_else(|_| wrong(value, "not an IP address; write 192.0.2.10 or 2001:db8::10"))
}

/// Midnight of that day, UTC.
pub(crate) fn date(value: &Value, _: &Kind) -> Read<jiff::Timestamp> {
    let date = raw_text(value)?.parse::<jiff::civil::Date>();
    let midnight = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC));
    match midnight {
        Ok(midnight) => Ok(midnight.timestamp()),
        Err(_) => wrong(value, "not a date; write \"2026-11-01\""),
    }
}

pub(crate) fn net(value: &Value, _: &Kind) -> Read<IpNet> {
    let text = raw_text(value)?;
    if let Ok(net) = text.parse::<IpNet>() {
        return match net.trunc() == net {
            true => Ok(net),
            false => wrong(
                value,
                format!(
                    "bits are set behind the prefix; write {} or {}",
                    net.trunc(),
                    net.addr()
                ),
            ),
        };
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => wrong(value, "not a network; write 10.0.0.0/8 or 192.0.2.10"),
    }
}

pub(crate) fn domain_pattern(value: &Value, _: &Kind) -> Read<DomainPattern> {
    let text = raw_text(value)?;
    let fix = "not a domain pattern; write example.com, *.example.com or *";
    if text == "*" {
        return Ok(DomainPattern::All);
    }
    let (below, name) = match text.strip_prefix("*.") {
        Some(parent) => (true, parent),
        None => (false, text),
    };
    match Domain::parse(name) {
        Ok(domain) if below => Ok(DomainPattern::Below(domain.to_ascii())),
        Ok(domain) => Ok(DomainPattern::Exactly(domain.to_ascii())),
        Err(_) => wrong(value, fix),
    }
}

/// The port has to be said: 25, 465 and 587 are different bargains.
pub(crate) fn host_port(value: &Value, _: &Kind) -> Read<Relay> {
    let text = raw_text(value)?;
    match Relay::parse(text) {
        Some(relay) => Ok(relay),
        None if Domain::parse(text).is_ok() => {
            wrong(value, format!("the port is missing; write {text}:587"))
        }
        None => wrong(
            value,
            "not a host with a port; write smtp.example.com:587 or [2001:db8::1]:587",
        ),
    }
}

pub(crate) fn endpoint(value: &Value, _: &Kind) -> Read<Endpoint> {
    let parsed: Result<Endpoint, _> = raw_text(value)?.parse();
    parsed.or_else(|error| wrong(value, error.to_string()))
}

pub(crate) fn verp(value: &Value, _: &Kind) -> Read<Template> {
    let parsed: Result<Template, _> = raw_text(value)?.parse();
    parsed.or_else(|error| wrong(value, error.to_string()))
}

/// Labels of a DNS name under `_domainkey` (RFC 6376 section 3.1).
pub(crate) fn selector(value: &Value, _: &Kind) -> Read<String> {
    let text = raw_text(value)?;
    let good = text.split('.').all(|label| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(inner)
    });
    match good {
        true => Ok(text.to_owned()),
        false => wrong(
            value,
            "not a selector; write letters, digits and -, as in s2026",
        ),
    }
}

/// RFC 5322 section 2.2: printable ASCII but the colon.
pub(crate) fn field_name(value: &Value, _: &Kind) -> Read<String> {
    let text = raw_text(value)?;
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    match !text.is_empty() && text.len() <= 76 && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => wrong(
            value,
            "not the name of a header field; write it without its colon, as in Content-Type",
        ),
    }
}

pub(crate) fn rate(value: &Value, _: &Kind) -> Read<Rate> {
    let fix = "not a rate; write 20/s, 100/min, 5000/h or 10000/d";
    let parts = raw_text(value)?.split_once('/').and_then(|(count, per)| {
        let count: u32 = count.trim().parse().ok().filter(|count| *count > 0)?;
        let per = match per.trim() {
            "s" | "sec" | "second" => 1,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 3600,
            "d" | "day" => 86_400,
            _ => return None,
        };
        Some(Rate {
            count,
            per: Duration::from_secs(per),
        })
    });
    parts.map_or_else(|| wrong(value, fix), Ok)
}

/// `10%` is 0.1.
pub(crate) fn percentage(value: &Value, kind: &Kind) -> Read<f64> {
    let Kind::Percentage { most } = kind else {
        unreachable!("a percentage is read where the table of options says so");
    };
    let parsed = match &value.kind {
        ValueKind::String(text) => text
            .trim()
            .strip_suffix('%')
            .and_then(|number| number.trim().parse::<u32>().ok()),
        _ => None,
    };
    match parsed {
        Some(percent) if percent <= *most => Ok(f64::from(percent) / 100.0),
        Some(_) => wrong(value, format!("too much; the most is {most}%")),
        None => wrong(value, "not a percentage; write \"10%\""),
    }
}

pub(crate) fn count<T: TryFrom<u64>>(value: &Value, kind: &Kind) -> Read<T> {
    let Kind::Count { least, most } = kind else {
        unreachable!("a number is read where the table of options says so");
    };
    let found = match value.kind {
        ValueKind::I64(number) => number,
        _ => {
            return wrong(
                value,
                format!("not a whole number; write {least} to {most}"),
            );
        }
    };
    match u64::try_from(found) {
        Ok(number) if (*least..=*most).contains(&number) => {
            T::try_from(number).or_else(|_| wrong(value, "too much for this option"))
        }
        _ => wrong(value, format!("out of range; write {least} to {most}")),
    }
}

pub(crate) fn truth(value: &Value, _: &Kind) -> Read<bool> {
    match value.kind {
        ValueKind::Boolean(truth) => Ok(truth),
        _ => wrong(
            value,
            "neither true nor false; write true or false, without quotes",
        ),
    }
}

/// `50MiB` (powers of 1024), `25MB` (powers of 1000), `512B`.
pub(crate) fn size(value: &Value, kind: &Kind) -> Read<u64> {
    let Kind::Size { least, most } = kind else {
        unreachable!("a size is read where the table of options says so");
    };
    let fix = "not a size; write 50MiB, 25MB or 65536B";
    if let ValueKind::I64(number) = value.kind {
        return wrong(
            value,
            format!("the unit is missing; write {number}B, or as in 50MiB"),
        );
    }
    let text = raw_text(value)?.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return wrong(value, fix),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes < *least => wrong(
            value,
            format!("too small; the least is {}", size_text(*least)),
        ),
        Some(bytes) if bytes <= *most => Ok(bytes),
        Some(_) => wrong(value, format!("too big; the most is {}", size_text(*most))),
        None => wrong(value, fix),
    }
}

pub(crate) fn duration(value: &Value, kind: &Kind) -> Read<Duration> {
    let (Kind::Duration { least, most } | Kind::DurationOrNever { least, most }) = kind else {
        unreachable!("a duration is read where the table of options says so");
    };
    if let ValueKind::I64(number) = value.kind {
        return wrong(
            value,
            format!("the unit is missing; write {number}s, {number}m or {number}h"),
        );
    }
    let text = raw_text(value)?;
    match parse_duration(text) {
        Some(duration) if duration < *least => wrong(
            value,
            format!("too short; the least is {}", duration_text(*least)),
        ),
        Some(duration) if duration <= *most => Ok(duration),
        Some(_) => wrong(
            value,
            format!("too long; the most is {}", duration_text(*most)),
        ),
        None => wrong(
            value,
            format!("not a duration; write {}", duration_fix(text)),
        ),
    }
}

/// None: `never`.
pub(crate) fn duration_or_never(value: &Value, kind: &Kind) -> Read<Option<Duration>> {
    match &value.kind {
        ValueKind::String(text) if text == "never" => Ok(None),
        _ => duration(value, kind).map(Some),
    }
}

/// `30s`, `5m`, `4h`, `5d`, also `1h30m`; `ms`, `min` and `w`, too.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        rest = behind;
    }
    Some(total)
}

/// `5 days` was probably meant as `5d`.
fn duration_fix(text: &str) -> String {
    let digits: String = text
        .trim()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let unit = text.trim()[digits.len()..].trim_start().chars().next();
    let guess = match unit.map(|unit| unit.to_ascii_lowercase()) {
        Some(unit @ ('s' | 'm' | 'h' | 'd' | 'w')) => parse_duration(&format!("{digits}{unit}")),
        _ => None,
    };
    match guess {
        Some(guess) if guess.as_secs() > 0 && guess.as_secs().is_multiple_of(86_400) => {
            format!("{} or {}h", duration_text(guess), guess.as_secs() / 3600)
        }
        Some(guess) => duration_text(guess),
        None => "it as in 30s, 5m, 4h or 5d".to_owned(),
    }
}

pub(crate) fn word<T: Word>(value: &Value, kind: &Kind) -> Read<T> {
    let found = match &value.kind {
        ValueKind::String(text) => text.as_str(),
        _ => "",
    };
    if let Some((_, meaning)) = T::WORDS.iter().find(|(word, _)| *word == found) {
        return Ok(*meaning);
    }
    let words = words_of::<T>().join(", ");
    let later = match kind {
        Kind::Word { not_yet, .. } => not_yet.iter().find(|(word, _)| *word == found),
        _ => None,
    };
    match later {
        Some((_, what)) => wrong(
            value,
            format!("not built yet in this version ({what}); remove it or write one of {words}"),
        ),
        None => wrong(
            value,
            format!("not one of the words here; write one of {words}"),
        ),
    }
}

/// A list, each item read by `item`.
pub(crate) fn list<T>(
    item: impl Fn(&Value, &Kind) -> Read<T>,
) -> impl Fn(&Value, &Kind) -> Read<Vec<T>> {
    move |value, kind| {
        let (Kind::List(item_kind) | Kind::ListOfSome(item_kind)) = kind else {
            unreachable!("a list is read where the table of options says so");
        };
        let items = match &value.kind {
            ValueKind::Array(items) => items,
            ValueKind::String(text) => {
                return wrong(value, format!("not a list; write [{text:?}]"));
            }
            _ => return wrong(value, "not a list; write [ ] around the items"),
        };
        if items.is_empty() && matches!(kind, Kind::ListOfSome(_)) {
            return wrong(value, "empty; write at least one item");
        }
        let mut good = Vec::new();
        let mut wrongs = Vec::new();
        for one in items {
            match item(one, item_kind) {
                Ok(read) => good.push(read),
                Err(more) => wrongs.extend(more),
            }
        }
        match wrongs.is_empty() {
            true => Ok(good),
            false => Err(wrongs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::own_value;

    fn duration_of(text: &str) -> Option<u128> {
        parse_duration(text).map(|duration| duration.as_millis())
    }

    #[test]
    fn durations_have_units_and_may_be_sums() {
        assert_eq!(duration_of("30s"), Some(30_000));
        assert_eq!(duration_of("1h30m"), Some(5_400_000));
        assert_eq!(duration_of("250ms"), Some(250));
        assert_eq!(duration_of("5min"), Some(300_000));
        for wrong in [
            "",
            "5",
            "5 days",
            "h",
            "-5m",
            "1.5h",
            "5m-",
            "99999999999999999999d",
        ] {
            assert_eq!(duration_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_wrong_duration_is_answered_with_the_right_one() {
        assert_eq!(duration_fix("5 days"), "5d or 120h");
        assert_eq!(duration_fix("90 Minutes"), "90m");
        assert_eq!(duration_fix("soon"), "it as in 30s, 5m, 4h or 5d");
    }

    #[test]
    fn rates_name_a_count_and_a_unit_of_time() {
        let of = |text: &str| rate(&own_value(&format!("{text:?}")), &Kind::Rate).ok();
        let per = |count, seconds| {
            let per = Duration::from_secs(seconds);
            Some(Rate { count, per })
        };
        assert_eq!(of("20/s"), per(20, 1));
        assert_eq!(of("100/min"), per(100, 60));
        assert_eq!(of("5000/h"), per(5000, 3600));
        for wrong in ["20", "0/s", "20/fortnight", "/s", "-1/s"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_tell_powers_of_two_and_of_ten_apart() {
        let kind = Kind::Size {
            least: 1,
            most: 1 << 40,
        };
        let of = |text: &str| size(&own_value(&format!("{text:?}")), &kind).ok();
        assert_eq!(of("50MiB"), Some(50 << 20));
        assert_eq!(of("25MB"), Some(25_000_000));
        assert_eq!(of("512B"), Some(512));
        assert_eq!(of("512"), None);
        assert_eq!(of("99999999999GiB"), None);
    }

    #[test]
    fn relays_have_a_port_and_ipv6_stands_in_brackets() {
        let of = |text: &str| host_port(&own_value(&format!("{text:?}")), &Kind::HostPort).ok();
        let relay = of("[2001:db8::1]:587").map(|relay| (relay.host, relay.port));
        assert_eq!(relay, Some(("2001:db8::1".to_owned(), 587)));
        let relay = of("SMTP.Example.com:465").map(|relay| (relay.host, relay.port));
        assert_eq!(relay, Some(("smtp.example.com".to_owned(), 465)));
        assert!(of("smtp.example.com").is_none());
        assert!(of("smtp.example.com:0").is_none());
        assert!(of("2001:db8::1:587:x").is_none());
    }
}
