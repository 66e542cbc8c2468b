//! One entry of the list, and how entries are selected.

use std::fmt;

use jiff::Timestamp;
use relay_smtp::{Host, Mailbox};
use serde::{Deserialize, Serialize};

/// An address that is not to be tried. In files and in answers to operators these are the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(with = "as_text")]
    pub address: Mailbox,
    pub added: Timestamp,
    /// None: until an operator removes it.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    pub source: Source,
    #[serde(default)]
    pub category: Option<String>,
    #[serde(default)]
    pub rule: Option<String>,
    /// What the host said, or the operator's words.
    #[serde(default)]
    pub reply: Option<String>,
    /// Who said it.
    #[serde(default)]
    pub host: Option<String>,
    /// The message that was refused.
    #[serde(default)]
    pub message: Option<String>,
}

/// Who put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A reply, by a rule.
    Policy,
    Operator,
    Import,
    /// A report that came back: a reader's complaint.
    Report,
}

impl Source {
    pub const ALL: [Source; 4] = [
        Source::Policy,
        Source::Operator,
        Source::Import,
        Source::Report,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Source::Policy => "policy",
            Source::Operator => "operator",
            Source::Import => "import",
            Source::Report => "report",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Entry {
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// In one sentence, for replies, reports and `queue show`.
    pub fn in_words(&self) -> String {
        let day = self.added.to_string();
        let day = day.split('T').next().unwrap_or(&day);
        let by = match self.source {
            Source::Policy => "after it was refused",
            Source::Operator => "by an operator",
            Source::Import => "by an import",
            Source::Report => "after a complaint",
        };
        let why = match (&self.category, &self.reply) {
            (Some(category), Some(reply)) => format!(" ({category}: {reply})"),
            (Some(words), None) | (None, Some(words)) => format!(" ({words})"),
            (None, None) => String::new(),
        };
        format!("suppressed since {day} {by}{why}")
    }
}

/// The address as the list keeps it: domain first, so that a domain's entries stand together. The local
/// part is the host's to read (RFC 5321 section 2.4), so it stays as given; the domain has no case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    domain: String,
    local: String,
}

impl Key {
    pub(crate) fn of(mailbox: &Mailbox) -> Key {
        Key {
            domain: mailbox.host().to_ascii().to_ascii_lowercase(),
            local: mailbox.local_part().to_owned(),
        }
    }

    pub(crate) fn is_of(&self, domain: &str) -> bool {
        self.domain == domain
    }

    /// Not after any address of this domain.
    pub(crate) fn first_of(domain: &str) -> Key {
        Key {
            domain: domain.to_owned(),
            local: String::new(),
        }
    }
}

/// Which entries are meant; what is given must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Added longer ago than so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<u64>,
}

impl Filter {
    pub fn is_everything(&self) -> bool {
        *self == Filter::default()
    }

    /// The domain in the form of keys, where the filter names one or an address.
    pub(crate) fn domain_key(&self) -> Option<String> {
        let host = match (&self.address, &self.domain) {
            (Some(address), _) => Mailbox::parse(address).ok()?.host().clone(),
            (None, Some(domain)) => Host::parse(domain).ok()?,
            (None, None) => return None,
        };
        Some(host.to_ascii().to_ascii_lowercase())
    }

    pub(crate) fn takes(&self, key: &Key, entry: &Entry, now: Timestamp) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| {
            wanted.is_none() || wanted.as_deref() == found.as_deref()
        };
        let address = match &self.address {
            None => true,
            Some(address) => Mailbox::parse(address).is_ok_and(|mailbox| Key::of(&mailbox) == *key),
        };
        let domain = match &self.domain {
            None => true,
            Some(_) => self.domain_key().is_some_and(|domain| key.is_of(&domain)),
        };
        let old_enough = self.older_than.is_none_or(|least| {
            let age = now.duration_since(entry.added).as_secs();
            u64::try_from(age).unwrap_or(0) >= least
        });
        address
            && domain
            && old_enough
            && self.source.is_none_or(|source| source == entry.source)
            && is(&self.rule, &entry.rule)
            && is(&self.category, &entry.category)
    }
}

/// A mailbox as the text that people write.
mod as_text {
    use relay_smtp::Mailbox;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(mailbox: &Mailbox, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mailbox)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mailbox, D::Error> {
        let text = String::deserialize(from)?;
        Mailbox::parse(&text).map_err(|error| serde::de::Error::custom(format!("{text}: {error}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(crate) fn entry(address: &str) -> Entry {
        Entry {
            address: Mailbox::parse(address).unwrap(),
            added: at("2026-11-22T12:00:00Z"),
            expires: Some(at("2027-02-20T12:00:00Z")),
            source: Source::Policy,
            category: Some("invalid-recipient".to_owned()),
            rule: Some("unknown-user".to_owned()),
            reply: Some("550 5.1.1 No such user".to_owned()),
            host: Some("mx.example.net [192.0.2.1]".to_owned()),
            message: Some("1agf7aan0000".to_owned()),
        }
    }

    #[test]
    fn the_domain_has_no_case_and_the_local_part_has() {
        let key = |text: &str| Key::of(&Mailbox::parse(text).unwrap());
        assert_eq!(key("Info@Example.COM"), key("Info@example.com"));
        assert_ne!(key("Info@example.com"), key("info@example.com"));
    }

    #[test]
    fn an_entry_tells_its_reason_and_its_end() {
        let entry = entry("a@example.net");
        assert_eq!(
            entry.in_words(),
            "suppressed since 2026-11-22 after it was refused (invalid-recipient: 550 5.1.1 No such user)"
        );
        assert!(entry.holds(at("2027-02-20T11:59:59Z")));
        assert!(!entry.holds(at("2027-02-20T12:00:00Z")));
    }

    #[test]
    fn all_that_a_filter_names_must_hold() {
        let (entry, now) = (entry("a@Example.net"), at("2026-11-22T13:00:00Z"));
        let key = Key::of(&entry.address);
        let mut filter = Filter::default();
        assert!(filter.is_everything() && filter.takes(&key, &entry, now));
        filter.domain = Some("EXAMPLE.net".to_owned());
        filter.category = Some("invalid-recipient".to_owned());
        filter.older_than = Some(3600);
        assert!(filter.takes(&key, &entry, now));
        filter.source = Some(Source::Operator);
        assert!(!filter.takes(&key, &entry, now));
    }
}
