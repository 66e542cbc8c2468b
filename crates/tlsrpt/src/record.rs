//! The TXT record at `_smtp._tls`: where a domain wants its reports (RFC 8460 section 3).

use relay_smtp::Mailbox;

/// One place to send a report to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rua {
    Mail(Mailbox),
    Https(Url),
}

/// Of an `https:` address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub host: String,
    pub port: u16,
    /// With the query; begins with a slash.
    pub path: String,
}

/// A domain that wants its report in more places than these gets it in the first ones.
const RUAS_MAX: usize = 8;

impl std::fmt::Display for Rua {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rua::Mail(mailbox) => write!(f, "mailto:{mailbox}"),
            Rua::Https(Url { host, port, path }) if *port == 443 => {
                write!(f, "https://{host}{path}")
            }
            Rua::Https(Url { host, port, path }) => write!(f, "https://{host}:{port}{path}"),
        }
    }
}

/// Where reports about a domain go, from its TXT records. Empty: it wants none, which is also what several
/// records mean (section 3).
pub fn ruas(records: &[String]) -> Vec<Rua> {
    let mut ours = records.iter().filter_map(|record| {
        let mut fields = record.split(';').map(str::trim);
        (fields.next()? == "v=TLSRPTv1").then_some(fields)
    });
    let (Some(mut fields), None) = (ours.next(), ours.next()) else {
        return Vec::new();
    };
    let list = fields.find_map(|field| {
        let (key, value) = field.split_once('=')?;
        (key.trim() == "rua").then_some(value)
    });
    let mut found = Vec::new();
    for rua in list.unwrap_or_default().split(',').filter_map(rua) {
        if !found.contains(&rua) && found.len() < RUAS_MAX {
            found.push(rua);
        }
    }
    found
}

fn rua(text: &str) -> Option<Rua> {
    let (scheme, rest) = text.trim().split_once(':')?;
    match scheme.to_ascii_lowercase().as_str() {
        "mailto" => {
            let address = rest.split('?').next()?;
            let mailbox = Mailbox::parse(&percent_decoded(address)?).ok()?;
            Some(Rua::Mail(mailbox))
        }
        "https" => url(rest.strip_prefix("//")?).map(Rua::Https),
        _ => None,
    }
}

fn url(rest: &str) -> Option<Url> {
    let rest = rest.split('#').next()?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (authority, 443),
    };
    let label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let good = !host.is_empty() && host.len() <= 253 && host.bytes().all(label);
    // What goes into the request line must not end it.
    let sayable = path.bytes().all(|byte| byte.is_ascii_graphic());
    (good && sayable).then(|| Url {
        host: host.to_ascii_lowercase(),
        port,
        path: match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        },
    })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[&str]) -> Vec<String> {
        let records: Vec<String> = records.iter().map(|r| (*r).to_owned()).collect();
        ruas(&records).iter().map(Rua::to_string).collect()
    }

    #[test]
    fn places_are_read_as_the_rfc_writes_them() {
        assert_eq!(
            read(&["v=TLSRPTv1;rua=mailto:reports@example.com"]),
            ["mailto:reports@example.com"]
        );
        assert_eq!(
            read(&[
                "v=spf1 -all",
                "v=TLSRPTv1; rua=MAILTO:a%2Bb@example.com?subject=x, https://Reporting.example.com:8443/v1/tlsrpt?a=1#b,ftp://x; other=1;",
            ]),
            [
                "mailto:a+b@example.com",
                "https://reporting.example.com:8443/v1/tlsrpt?a=1"
            ]
        );
        assert_eq!(
            read(&["v=TLSRPTv1;rua=https://example.com"]),
            ["https://example.com/"]
        );
    }

    #[test]
    fn what_asks_for_no_report_gets_none() {
        for none in [
            &[] as &[&str],
            &[
                "v=TLSRPTv1;rua=mailto:a@b.example",
                "v=TLSRPTv1;rua=mailto:c@b.example",
            ],
            &["v=TLSRPTv2;rua=mailto:a@b.example"],
            &["rua=mailto:a@b.example;v=TLSRPTv1"],
            &["v=TLSRPTv1;"],
            &["v=TLSRPTv1;rua=mailto:nobody"],
            &["v=TLSRPTv1;rua=mailto:%zz@b.example"],
            &["v=TLSRPTv1;rua=http://b.example/"],
            &["v=TLSRPTv1;rua=https://b.example:0/"],
            &["v=TLSRPTv1;rua=https://b.example/a b"],
            &["v=TLSRPTv1;rua=https://user@b.example/"],
        ] {
            assert_eq!(read(none), Vec::<String>::new(), "{none:?}");
        }
        let many: Vec<String> = (0..20).map(|n| format!("mailto:a{n}@b.example")).collect();
        let record = format!("v=TLSRPTv1;rua={}", many.join(","));
        assert_eq!(read(&[&record]).len(), RUAS_MAX);
    }
}
