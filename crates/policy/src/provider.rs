//! Providers: named groups of hosts and domains, matched by simple patterns with `*`.

use std::sync::Arc;

/// One `[[provider]]`. Patterns are in lower case.
#[derive(Debug)]
pub(crate) struct Provider {
    pub name: Arc<str>,
    pub mx: Vec<String>,
    pub domain: Vec<String>,
}

impl Provider {
    pub fn has_mx(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| glob(pattern, host))
    }

    pub fn has_domain(&self, domain: &str) -> bool {
        self.domain.iter().any(|pattern| glob(pattern, domain))
    }
}

/// In the form patterns are compared with: lower case, without the root's dot.
pub(crate) fn host_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// `*` stands for any characters, dots included; all else for itself.
fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| name.strip_prefix(head)) else {
        return false;
    };
    let Some(tail) = pattern.rsplit_once('*').map(|(_, tail)| tail) else {
        return rest.is_empty();
    };
    let middle = pattern.matches('*').count() - 1;
    for part in parts.take(middle) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, hit) in [
            ("*.google.com", "alt1.aspmx.l.google.com", true),
            ("*.google.com", "google.com", false),
            ("*.google.com", "x.google.com.evil.example", false),
            ("aspmx*.l.google.com", "aspmx2.l.google.com", true),
            ("gmail.com", "gmail.com", true),
            ("gmail.com", "notgmail.com", false),
            ("yahoo.*", "yahoo.co.uk", true),
            ("mx*.mail.*.com", "mx1.mail.a.com", true),
            ("mx*.mail.*.com", "mx1.post.a.com", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, name), hit, "{pattern} {name}");
        }
    }
}
