//! The DNS record of a key (RFC 6376 section 3.6.1): as it is to be published, and what is wrong with what
//! has been.

use super::Signer;

/// The longest string of a TXT record (RFC 1035 section 3.3); a record has as many as it needs.
const STRING_MAX: usize = 255;

/// A line for a zone file, the record in strings of at most 255 octets.
pub fn zone_line(signer: &Signer) -> String {
    let record = signer.public_record();
    let strings: Vec<String> = record
        .as_bytes()
        .chunks(STRING_MAX)
        .map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece)))
        .collect();
    let name = signer.record_name();
    match strings.as_slice() {
        [one] => format!("{name}. IN TXT {one}"),
        several => format!("{name}. IN TXT (\n    {} )", several.join("\n    ")),
    }
}

/// What is wrong with a published record, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub weight: Weight,
    pub found: String,
    pub fix: String,
}

/// What a flaw does to the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Our signatures are void.
    Void,
    /// They hold, and receivers may give them less weight.
    Doubtful,
}

fn void(found: impl Into<String>, fix: impl Into<String>) -> Flaw {
    Flaw {
        weight: Weight::Void,
        found: found.into(),
        fix: fix.into(),
    }
}

/// Compares the TXT records found at the key's name with the key. Empty: all is well.
pub fn compare(published: &[String], signer: &Signer) -> Vec<Flaw> {
    let publish = || {
        format!(
            "publish what `relayctl dkim record {}` shows",
            signer.domain()
        )
    };
    let looks_like_a_key = |record: &&String| tags(record).iter().any(|(name, _)| *name == "p");
    let keys: Vec<&String> = published.iter().filter(looks_like_a_key).collect();
    let record = match (keys.as_slice(), published) {
        ([one], _) => *one,
        ([], []) => return vec![void("there is no TXT record", publish())],
        ([], [first, ..]) => {
            let found = format!("no record has a key (p=); there is {:?}", cut(first));
            return vec![void(found, publish())];
        }
        (several, _) => {
            let found = format!("{} keys stand at one name", several.len());
            let fix = "verifiers may take any of them (RFC 6376 section 3.6.2.2): remove the \
                       others, and give each key a selector of its own";
            return vec![void(found, fix)];
        }
    };
    flaws_of(record, signer, &publish())
}

fn flaws_of(record: &str, signer: &Signer, publish: &str) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if record.contains('\\') {
        flaws.push(void(
            "the record has backslashes in it",
            "a provider's form wants the text without them: enter it again as plain text",
        ));
    }
    let tags = tags(record);
    let value = |name: &str| tags.iter().find(|(had, _)| *had == name).map(|(_, v)| &**v);
    // v= may be left out, and must stand first where it is given.
    match (value("v"), tags.first()) {
        (None, _) | (Some("DKIM1"), Some(("v", _))) => {}
        (Some("DKIM1"), _) => flaws.push(void("v=DKIM1 does not stand first", publish)),
        (Some(other), _) => flaws.push(void(format!("v={} is not DKIM1", cut(other)), publish)),
    }
    let kind = value("k").unwrap_or("rsa");
    if kind != signer.kind() {
        let found = format!("k={}, but the key is {}", cut(kind), signer.kind());
        flaws.push(void(found, publish));
    }
    flaws.extend(key_flaw(value("p").unwrap_or_default(), signer, publish));
    let lists = |text: &str, wanted: &str| text.split(':').any(|word| word.trim() == wanted);
    if let Some(hashes) = value("h").filter(|hashes| !lists(hashes, "sha256")) {
        let found = format!("h={} leaves out sha256, which we sign with", cut(hashes));
        flaws.push(void(found, "remove h="));
    }
    let for_mail = |text: &&str| lists(text, "*") || lists(text, "email");
    if let Some(services) = value("s").filter(|services| !for_mail(services)) {
        let found = format!("s={} is not for mail", cut(services));
        flaws.push(void(found, "remove s="));
    }
    // t=s asks that i= be of the very domain; we write no i=, so it always is.
    if value("t").is_some_and(|flags| lists(flags, "y")) {
        flaws.push(Flaw {
            weight: Weight::Doubtful,
            found:
                "t=y: the domain is only testing DKIM, so receivers may treat its mail as unsigned"
                    .to_owned(),
            fix: "remove t=y when the tests are over".to_owned(),
        });
    }
    flaws
}

fn key_flaw(published: &str, signer: &Signer, publish: &str) -> Option<Flaw> {
    let published: String = published.split_whitespace().collect();
    let ours = signer.public_key();
    if published == ours {
        return None;
    }
    if published.is_empty() {
        return Some(void("p= is empty: the key has been revoked", publish));
    }
    if ours.starts_with(&published) {
        let found = format!(
            "p= is cut off: {} of {} characters are there",
            published.len(),
            ours.len()
        );
        let fix = format!(
            "a TXT string has at most 255 characters: {publish}, in the form with several strings"
        );
        return Some(void(found, fix));
    }
    let found = format!(
        "p= is another key: {} there, {} in our file",
        ends(&published),
        ends(&ours)
    );
    let fix = format!("{publish}, or name the key that belongs to this record in [[dkim]]");
    Some(void(found, fix))
}

/// The tags of a record: name and value without spaces at their ends (RFC 6376 section 3.2).
fn tags(record: &str) -> Vec<(&str, String)> {
    record
        .split(';')
        .filter_map(|tag| tag.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim().to_owned()))
        .collect()
}

/// A key in few characters. All RSA keys begin alike.
fn ends(key: &str) -> String {
    let last = key.char_indices().rev().nth(11).map_or(0, |(at, _)| at);
    format!("…{}", key.get(last..).unwrap_or(key))
}

/// Whoever runs the domain's DNS wrote this.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_smtp::Domain;

    const RSA: &str = include_str!("../../../../tests/golden/dkim/rsa.pem");
    const ED25519: &str = include_str!("../../../../tests/golden/dkim/ed25519.pem");

    fn signer(pem: &str) -> Signer {
        Signer::from_pem(Domain::parse("example.com").unwrap(), "s", pem).unwrap()
    }

    fn found(records: &[&str], pem: &str) -> Vec<(Weight, String)> {
        let records: Vec<String> = records.iter().map(|text| (*text).to_owned()).collect();
        let flaws = compare(&records, &signer(pem));
        assert!(flaws.iter().all(|flaw| !flaw.fix.is_empty()));
        flaws
            .into_iter()
            .map(|flaw| (flaw.weight, flaw.found))
            .collect()
    }

    #[test]
    fn what_relayctl_shows_is_well_when_it_is_published_also_in_other_spellings() {
        for pem in [RSA, ED25519] {
            let record = signer(pem).public_record();
            let key = signer(pem).public_key();
            let kind = signer(pem).kind();
            let spaced = format!("{} {}", &key[..20], &key[20..]);
            for text in [
                record.clone(),
                format!("{record};"),
                format!("v = DKIM1 ; k={kind};t=s; p = {spaced} ; n=note"),
                format!("k={kind}; h=sha1:sha256; s=email; p={key}"),
            ] {
                assert_eq!(found(&[&text], pem), [], "{text}");
                // Another text at the name does no harm.
                assert_eq!(found(&["google-site=1", &text], pem), [], "{text}");
            }
        }
        // Without k= it is RSA.
        let key = signer(RSA).public_key();
        assert_eq!(found(&[&format!("v=DKIM1; p={key}")], RSA), []);
    }

    #[test]
    fn each_difference_is_told_exactly() {
        let record = signer(RSA).public_record();
        let key = signer(RSA).public_key();
        let other = signer(ED25519).public_record();
        let cut_off = record.get(..200).unwrap();
        let cases: &[(&[&str], &str)] = &[
            (&[], "there is no TXT record"),
            (&["v=spf1 -all"], "no record has a key (p=)"),
            (&[&record, &record], "2 keys stand at one name"),
            (&["v=DKIM1; k=rsa; p="], "the key has been revoked"),
            (&[cut_off], "p= is cut off: 182 of 392 characters"),
            (&[&record.replace("; ", "\\; ")], "backslashes"),
            (&[&format!("v=DKIM2; p={key}")], "v=DKIM2 is not DKIM1"),
            (&[&format!("p={key}; v=DKIM1")], "does not stand first"),
            (&[&format!("p={key}; h=sha1")], "leaves out sha256"),
            (&[&format!("p={key}; s=tlsrpt")], "not for mail"),
            (&[&other], "k=ed25519, but the key is rsa"),
            (&[&record.replace("MIIB", "MIIC")], "p= is another key"),
        ];
        for (records, wanted) in cases {
            let found = found(records, RSA);
            let told = |(weight, text): &(Weight, String)| {
                *weight == Weight::Void && text.contains(wanted)
            };
            assert!(found.iter().any(told), "{wanted}: {found:?}");
        }
        let testing = found(&[&format!("{record}; t=y:s")], RSA);
        assert_eq!(testing.len(), 1);
        assert_eq!(testing[0].0, Weight::Doubtful);
    }

    #[test]
    fn the_zone_line_has_strings_that_fit() {
        let line = zone_line(&signer(RSA));
        let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        assert_eq!(strings.len(), 2);
        assert!(strings.iter().all(|text| text.len() <= 255));
        assert_eq!(strings.concat(), signer(RSA).public_record());
        let line = zone_line(&signer(ED25519));
        assert!(
            line.starts_with("s._domainkey.example.com. IN TXT \"v=DKIM1; k=ed25519; p="),
            "{line}"
        );
        assert!(!line.contains('\n'));
    }
}
