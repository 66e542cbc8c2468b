//! The two texts of MTA-STS: the TXT record that says there is a policy (RFC 8461 section 3.1), and the
//! policy itself (section 3.2).

use std::time::Duration;

/// What a domain asks of those who send to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    /// Lower case; `*.` stands for one label.
    mx: Vec<String>,
    /// How long it holds after it was read.
    pub max_age: Duration,
    /// Its lines, as the domain wrote them.
    lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only to hosts that the policy names, and only with a certificate for their name.
    Enforce,
    /// As without a policy; what would have failed is reported.
    Testing,
    /// There is no policy any more.
    None,
}

/// The longest time a policy may ask for: about a year.
const MAX_AGE_MAX: u64 = 31_557_600;
/// A policy names a handful of hosts; one that names more than this is not taken for a policy.
const MX_MAX: usize = 200;

impl Policy {
    /// Err: why it is none.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let mut fields = Fields::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let (key, value) = line
                .split_once(':')
                .ok_or_else(|| format!("line {}: no colon", number + 1))?;
            fields.take(key.trim(), value.trim())?;
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        fields.policy(lines.map(str::to_owned).collect())
    }

    /// Whether mail may go to this host.
    pub fn names(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let behind_first_label = host.split_once('.').map(|(_, rest)| rest);
        self.mx
            .iter()
            .any(|pattern| match pattern.strip_prefix("*.") {
                // The wildcard stands for the left-most label and no more (RFC 8461 section 4.1).
                Some(parent) => behind_first_label == Some(parent),
                None => *pattern == host,
            })
    }

    /// The names of the hosts, as the policy has them.
    pub fn mx(&self) -> &[String] {
        &self.mx
    }

    /// As the domain wrote it, line by line: for reports (RFC 8460 section 4.4).
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// Of a key that stands there twice the first counts (section 3.2), except `mx`.
#[derive(Default)]
struct Fields {
    version: Option<String>,
    mode: Option<Mode>,
    max_age: Option<u64>,
    mx: Vec<String>,
}

impl Fields {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "version" => {
                self.version.get_or_insert_with(|| value.to_owned());
            }
            "mode" => {
                let mode = match value {
                    "enforce" => Mode::Enforce,
                    "testing" => Mode::Testing,
                    "none" => Mode::None,
                    _ => return Err(format!("mode {value:?} is none of enforce, testing, none")),
                };
                self.mode.get_or_insert(mode);
            }
            "max_age" => {
                let seconds = value.parse::<u64>().ok().filter(|age| *age <= MAX_AGE_MAX);
                let seconds = seconds
                    .ok_or_else(|| format!("max_age {value:?} is not 0 to {MAX_AGE_MAX}"))?;
                self.max_age.get_or_insert(seconds);
            }
            "mx" if self.mx.len() == MX_MAX => {
                return Err(format!("more than {MX_MAX} hosts"));
            }
            "mx" if is_pattern(value) => self.mx.push(value.to_ascii_lowercase()),
            "mx" => return Err(format!("mx {value:?} is no host name")),
            // Of a later version.
            _ => {}
        }
        Ok(())
    }

    fn policy(self, lines: Vec<String>) -> Result<Policy, String> {
        if self.version.as_deref() != Some("STSv1") {
            return Err("no version: STSv1".to_owned());
        }
        let mode = self.mode.ok_or("no mode")?;
        let max_age = self.max_age.ok_or("no max_age")?;
        if self.mx.is_empty() && mode != Mode::None {
            return Err("no mx".to_owned());
        }
        Ok(Policy {
            mode,
            mx: self.mx,
            max_age: Duration::from_secs(max_age),
            lines,
        })
    }
}

fn is_pattern(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(fits)
}

/// The id of a domain's policy, from the TXT records at `_mta-sts`. None: the domain has no policy, which
/// is also what several records mean (RFC 8461 section 3.1).
pub fn id_of(records: &[String]) -> Option<String> {
    let mut ids = records.iter().filter_map(|record| {
        let mut fields = record.split(';').map(str::trim);
        if fields.next()? != "v=STSv1" {
            return None;
        }
        Some(fields.find_map(|field| field.strip_prefix("id=")))
    });
    let (Some(Some(id)), None) = (ids.next(), ids.next()) else {
        return None;
    };
    let good = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_the_rfc_writes_it() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.Example.com\r\nmx: *.example.net\r\n\
                    mx: backupmx.example.com\r\nmax_age: 604800\r\nlater: 1\r\nmode: none\r\n";
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.max_age, Duration::from_secs(604_800));
        for (host, named) in [
            ("mail.example.com", true),
            ("MAIL.example.com", true),
            ("example.com", false),
            ("mx1.example.net", true),
            ("example.net", false),
            ("a.b.example.net", false),
            ("backupmx.example.com", true),
            ("evil-mail.example.com", false),
        ] {
            assert_eq!(policy.names(host), named, "{host}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "no version"),
            ("version: STSv2\nmode: none\nmax_age: 1", "no version"),
            ("version: STSv1\nmax_age: 1\nmx: a.example", "no mode"),
            ("version: STSv1\nmode: enforce\nmx: a.example", "no max_age"),
            ("version: STSv1\nmode: enforce\nmax_age: 86400", "no mx"),
            ("version: STSv1\nmode: strict", "mode"),
            ("version: STSv1\nmode: none\nmax_age: 31557601", "max_age"),
            ("version: STSv1\nmode: none\nmax_age: -1", "max_age"),
            ("version: STSv1\nmx: a b", "mx"),
            ("<html>no such page</html>", "no colon"),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        let none = Policy::parse("version: STSv1\nmode: none\nmax_age: 0").unwrap();
        assert_eq!((none.mode, none.names("a.example")), (Mode::None, false));
    }

    #[test]
    fn only_a_single_record_with_an_id_announces_a_policy() {
        let id =
            |records: &[&str]| id_of(&records.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            id(&["v=STSv1; id=20160831085700Z;"]).as_deref(),
            Some("20160831085700Z")
        );
        assert_eq!(id(&["other text", "v=STSv1;id=1"]).as_deref(), Some("1"));
        for none in [
            &[] as &[&str],
            &["v=STSv1; id=1", "v=STSv1; id=2"],
            &["v=STSv2; id=1"],
            &["id=1; v=STSv1"],
            &["v=STSv1;"],
            &["v=STSv1; id=a b"],
            &["v=STSv1; id=123456789012345678901234567890123"],
        ] {
            assert_eq!(id(none), None, "{none:?}");
        }
    }
}
