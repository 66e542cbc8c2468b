//! Providers: named groups of hosts and domains, matched by simple patterns with `*`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// One `[[provider]]`. Patterns are in lower case.
#[derive(Debug)]
pub(crate) struct Provider {
    pub name: Arc<str>,
    pub mx: Vec<String>,
    pub domain: Vec<String>,
}

/// All providers of a table, by index in the order in which they were first named.
#[derive(Debug)]
pub(crate) struct Providers {
    names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, usize>,
    mx: Patterns,
    domain: Patterns,
}

impl Providers {
    /// A name that comes again adds hosts and domains to the provider that has it.
    pub fn new(all: Vec<Provider>) -> Providers {
        let mut providers = Providers {
            names: Vec::new(),
            by_name: HashMap::new(),
            mx: Patterns::default(),
            domain: Patterns::default(),
        };
        for Provider { name, mx, domain } in all {
            let at = match providers.by_name.get(&name) {
                Some(at) => *at,
                None => {
                    let at = providers.names.len();
                    providers.names.push(Arc::clone(&name));
                    providers.by_name.insert(name, at);
                    at
                }
            };
            mx.into_iter().for_each(|one| providers.mx.put(&one, at));
            let domains = domain.into_iter();
            domains.for_each(|one| providers.domain.put(&one, at));
        }
        providers
    }

    pub fn name(&self, at: usize) -> Option<&Arc<str>> {
        self.names.get(at)
    }

    pub fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The provider of a host or a domain. The host decides where it is known, since it is the host
    /// whose words are read.
    pub fn find(&self, mx: Option<&str>, domain: Option<&str>) -> Option<usize> {
        let by_mx = mx.and_then(|host| self.mx.first(&host_name(host)));
        by_mx.or_else(|| self.domain.first(&host_name(domain?)))
    }
}

/// Patterns with the provider each stands for, asked for every reply: nearly all of them end in two whole labels, so a
/// name is compared with those of its own ending only.
#[derive(Debug, Default)]
struct Patterns {
    /// By the last two labels.
    by_ending: HashMap<String, Vec<(Glob, usize)>>,
    other: Vec<(Glob, usize)>,
}

impl Patterns {
    fn put(&mut self, pattern: &str, provider: usize) {
        let end = ending(pattern);
        // `*google.com` ends in no two whole labels; `*.google.com` does.
        let known = match end.contains('*') {
            true => &mut self.other,
            false => self.by_ending.entry(end.to_owned()).or_default(),
        };
        known.push((Glob::parse(pattern), provider));
    }

    /// The first provider with a pattern for this name.
    fn first(&self, name: &str) -> Option<usize> {
        let alike = self.by_ending.get(ending(name)).into_iter().flatten();
        alike
            .chain(&self.other)
            .filter(|(glob, _)| glob.matches(name))
            .map(|(_, provider)| *provider)
            .min()
    }
}

/// The last two labels; the whole name if it has no more.
fn ending(name: &str) -> &str {
    let mut dots = name
        .bytes()
        .enumerate()
        .rev()
        .filter(|(_, byte)| *byte == b'.');
    dots.nth(1).map_or(name, |(dot, _)| &name[dot + 1..])
}

/// `*` stands for any characters, dots included; all else for itself.
#[derive(Debug)]
struct Glob {
    head: String,
    /// What stands between two `*`.
    middle: Vec<String>,
    /// None: there is no `*`.
    tail: Option<String>,
}

impl Glob {
    fn parse(pattern: &str) -> Glob {
        let mut parts = pattern.split('*').map(str::to_owned);
        let head = parts.next().unwrap_or_default();
        let mut middle: Vec<String> = parts.collect();
        let tail = middle.pop();
        Glob { head, middle, tail }
    }

    fn matches(&self, name: &str) -> bool {
        let Some(mut rest) = name.strip_prefix(self.head.as_str()) else {
            return false;
        };
        let Some(tail) = &self.tail else {
            return rest.is_empty();
        };
        for part in &self.middle {
            match rest.split_once(part.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(tail.as_str())
    }
}

/// In the form patterns are compared with: lower case, without the root's dot.
pub(crate) fn host_name(name: &str) -> Cow<'_, str> {
    let name = name.trim_end_matches('.');
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, patterns for hosts and for domains.
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

    fn providers(all: &[Row<'_>]) -> Providers {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let all = all.iter().map(|(name, mx, domain)| Provider {
            name: Arc::from(*name),
            mx: texts(mx),
            domain: texts(domain),
        });
        Providers::new(all.collect())
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, hit) in [
            ("*.google.com", "alt1.aspmx.l.google.com", true),
            ("*.google.com", "ALT1.ASPMX.L.google.com.", true),
            ("*.google.com", ".google.com", true),
            ("*.google.com", "google.com", false),
            ("*.google.com", "notgoogle.com", false),
            ("*.google.com", "x.google.com.evil.example", false),
            ("*google.com", "notgoogle.com", true),
            ("aspmx*.l.google.com", "aspmx2.l.google.com", true),
            ("gmail.com", "gmail.com", true),
            ("gmail.com", "notgmail.com", false),
            ("yahoo.*", "yahoo.co.uk", true),
            ("yahoo.*", "yahoo", false),
            ("*.yahoo.*", "mta.yahoo.co.jp", true),
            ("mx*.mail.*.com", "mx1.mail.a.com", true),
            ("mx*.mail.*.com", "mx1.post.a.com", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("*", "mx.example.org", true),
            ("*.org", "mx.example.org", true),
            ("org", "org", true),
            ("org", "example.org", false),
            ("mx.*.example.org", "mx.a.example.org", true),
        ] {
            let one = providers(&[("one", &[pattern], &[])]);
            assert_eq!(
                one.find(Some(name), None),
                hit.then_some(0),
                "{pattern} {name}"
            );
            let glob = Glob::parse(pattern);
            assert_eq!(glob.matches(&host_name(name)), hit, "{pattern} {name}");
        }
    }

    #[test]
    fn of_several_patterns_the_first_providers_decides_whatever_its_form() {
        let all = providers(&[
            ("a", &["mx*.a.example"], &[]),
            ("b", &["mx1.a.example", "*.b.example"], &[]),
            ("c", &["*.a.example", "x.b.example"], &["c.example"]),
            (
                "d",
                &["mx1.a.example", "*.x.b.example"],
                &["c.*", "d.example"],
            ),
        ]);
        for (mx, domain, provider) in [
            (Some("mx1.a.example"), None, Some("a")),
            (Some("x.a.example"), None, Some("c")),
            (Some("x.b.example"), None, Some("b")),
            (Some("y.x.b.example"), None, Some("b")),
            (None, Some("c.example"), Some("c")),
            (None, Some("c.org"), Some("d")),
            (Some("x.a.example"), Some("d.example"), Some("c")),
            (Some("mx.other.example"), Some("d.example"), Some("d")),
            (Some("mx.other.example"), Some("other.example"), None),
            (None, None, None),
        ] {
            let found = all.find(mx, domain).and_then(|at| all.name(at));
            assert_eq!(found.map(AsRef::as_ref), provider, "{mx:?} {domain:?}");
        }
    }

    #[test]
    fn a_name_that_comes_again_adds_hosts_to_its_provider() {
        let all = providers(&[("a", &["a.example"], &[]), ("a", &[], &["b.example"])]);
        assert_eq!(all.named("a"), Some(0));
        assert_eq!(all.find(Some("a.example"), None), Some(0));
        assert_eq!(all.find(None, Some("b.example")), Some(0));
    }
}
