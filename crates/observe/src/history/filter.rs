//! Which entries are meant: the operator's selection, held against lines of the history.

use jiff::Timestamp;
use memchr::memmem::Finder;
use relay_smtp::QueueId;

use super::entry::{Entry, domain_of, time_text};

/// All given parts must hold; nothing given: everything. Each entry is looked at by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The message itself, or the one that a report is about.
    pub id: Option<QueueId>,
    /// A recipient's domain.
    pub to: Option<String>,
    pub recipient: Option<String>,
    /// The reverse-path; `<>` for the null one.
    pub sender: Option<String>,
    /// The site by its name, or by one of its hosts.
    pub site: Option<String>,
    pub rule: Option<String>,
    pub category: Option<String>,
    pub user: Option<String>,
    /// Of these kinds; empty: of any.
    pub events: Vec<String>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub before: Option<Timestamp>,
}

impl Filter {
    pub fn matches(&self, entry: &Entry) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.id
            .is_none_or(|id| entry.id == Some(id) || entry.of == Some(id))
            && is(&self.rule, &entry.rule)
            && is(&self.category, &entry.category)
            && is(&self.user, &entry.user)
            && self
                .sender
                .as_ref()
                .is_none_or(|sender| same_address(sender, entry.sender.as_deref()))
            && self
                .site
                .as_ref()
                .is_none_or(|site| is_site(site, entry.site.as_deref()))
            && self.meets(entry)
            && (self.events.is_empty() || self.events.contains(&entry.event))
            && self.since.is_none_or(|since| entry.at >= since)
            && self.before.is_none_or(|before| entry.at < before)
    }

    /// Whether one of its recipients is meant.
    fn meets(&self, entry: &Entry) -> bool {
        if self.to.is_none() && self.recipient.is_none() {
            return true;
        }
        entry
            .recipient
            .iter()
            .chain(&entry.recipients)
            .any(|address| {
                let domain = domain_of(address);
                self.recipient
                    .as_ref()
                    .is_none_or(|wanted| same_address(wanted, Some(address)))
                    && self.to.as_ref().is_none_or(|to| {
                        domain.is_some_and(|domain| domain.eq_ignore_ascii_case(to))
                    })
            })
    }

    /// What a line must hold to be worth reading: most lines are passed over by this.
    pub(super) fn sieve(&self) -> Sieve {
        let mut words = Vec::new();
        for (key, value) in [
            ("rule", &self.rule),
            ("category", &self.category),
            ("user", &self.user),
        ] {
            if let Some(value) = value {
                // As serde_json writes it; a text can always be written.
                let value = serde_json::to_string(value).unwrap_or_default();
                words.push(Finder::new(&format!("\"{key}\":{value}")).into_owned());
            }
        }
        if let Some(id) = self.id {
            words.push(Finder::new(&id.to_string()).into_owned());
        }
        Sieve {
            words,
            since: self.since.map(time_text),
        }
    }
}

/// Server names are told apart without regard to case; so is the rest of an address, since operators
/// write it as they remember it.
fn same_address(wanted: &str, found: Option<&str>) -> bool {
    found.is_some_and(|found| found.eq_ignore_ascii_case(wanted))
}

fn is_site(wanted: &str, found: Option<&str>) -> bool {
    found.is_some_and(|name| {
        name.eq_ignore_ascii_case(wanted)
            || name
                .split(',')
                .any(|host| host.eq_ignore_ascii_case(wanted))
    })
}

/// Looks at a line as bytes.
pub(super) struct Sieve {
    words: Vec<Finder<'static>>,
    since: Option<String>,
}

/// What every line begins with; the time follows.
const BEGIN: &[u8] = br#"{"at":""#;

impl Sieve {
    /// False: it cannot match.
    pub fn may_match(&self, line: &[u8]) -> bool {
        if let (Some(since), Some(rest)) = (&self.since, line.strip_prefix(BEGIN))
            && let Some(at) = rest.get(..since.len())
            && at < since.as_bytes()
        {
            return false;
        }
        self.words.iter().all(|word| word.find(line).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: "2026-11-22T16:00:05.5Z".parse().unwrap(),
            event: "recipient_deferred".to_owned(),
            id: Some(QueueId::from_u64(7)),
            of: Some(QueueId::from_u64(9)),
            sender: Some("<>".to_owned()),
            recipient: Some("Bob@Rcpt.example".to_owned()),
            site: Some("mx1.rcpt.example,mx2.rcpt.example".to_owned()),
            rule: Some("a \"quoted\" rule".to_owned()),
            category: Some("greylisted".to_owned()),
            user: Some("billing".to_owned()),
            ..Entry::default()
        }
    }

    /// By the filter, and by the sieve, which must let through whatever the filter takes.
    fn takes(filter: &Filter) -> bool {
        let line = serde_json::to_string(&entry()).unwrap();
        let taken = filter.matches(&entry());
        assert!(
            !taken || filter.sieve().may_match(line.as_bytes()),
            "{filter:?}"
        );
        taken
    }

    #[test]
    fn each_part_of_a_selection_is_held_against_an_entry() {
        let text = |text: &str| Some(text.to_owned());
        let at = |text: &str| Some(text.parse().unwrap());
        let none = Filter::default;
        for filter in [
            none(),
            Filter {
                id: Some(QueueId::from_u64(7)),
                ..none()
            },
            Filter {
                id: Some(QueueId::from_u64(9)),
                ..none()
            },
            Filter {
                to: text("rcpt.EXAMPLE"),
                ..none()
            },
            Filter {
                recipient: text("bob@rcpt.example"),
                to: text("rcpt.example"),
                ..none()
            },
            Filter {
                sender: text("<>"),
                ..none()
            },
            Filter {
                site: text("MX2.rcpt.example"),
                ..none()
            },
            Filter {
                rule: text("a \"quoted\" rule"),
                user: text("billing"),
                ..none()
            },
            Filter {
                category: text("greylisted"),
                ..none()
            },
            Filter {
                events: vec!["recipient_deferred".to_owned()],
                ..none()
            },
            Filter {
                since: at("2026-11-22T16:00:05Z"),
                ..none()
            },
            Filter {
                before: at("2026-11-22T16:00:06Z"),
                ..none()
            },
        ] {
            assert!(takes(&filter), "{filter:?}");
        }
        for filter in [
            Filter {
                id: Some(QueueId::from_u64(8)),
                ..none()
            },
            Filter {
                to: text("example"),
                ..none()
            },
            Filter {
                recipient: text("b@rcpt.example"),
                ..none()
            },
            Filter {
                sender: text("a@x.test"),
                ..none()
            },
            Filter {
                site: text("rcpt.example"),
                ..none()
            },
            Filter {
                rule: text("a"),
                ..none()
            },
            Filter {
                category: text("grey"),
                ..none()
            },
            Filter {
                user: text("bill"),
                ..none()
            },
            Filter {
                events: vec!["alert".to_owned()],
                ..none()
            },
            Filter {
                since: at("2026-11-22T16:00:06Z"),
                ..none()
            },
            Filter {
                before: at("2026-11-22T16:00:05Z"),
                ..none()
            },
        ] {
            assert!(!takes(&filter), "{filter:?}");
        }
    }

    #[test]
    fn lines_of_earlier_times_are_passed_over_unread() {
        let filter = Filter {
            since: Some("2026-11-22T16:00:06Z".parse().unwrap()),
            ..Filter::default()
        };
        let line = serde_json::to_string(&entry()).unwrap();
        assert!(!filter.sieve().may_match(line.as_bytes()));
    }
}
