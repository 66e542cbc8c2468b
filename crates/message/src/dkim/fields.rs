//! Which header fields a signature covers, and the canonical text of those.

use crate::header::Field;

/// Signed in all their instances, and once more: a field of this name that is added later breaks
/// the signature (RFC 6376 section 8.15).
pub const OVERSIGNED: [&str; 7] = [
    "From",
    "Subject",
    "To",
    "Cc",
    "Date",
    "Reply-To",
    "Message-ID",
];
/// Signed in all their instances (RFC 6376 section 5.4.1; RFC 8058 section 4 for the last two).
/// One that hosts on the way may add is not here.
pub const SIGNED: [&str; 9] = [
    "Sender",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// The fields that a key signs, in the order of h=.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFields(Vec<(String, Cover)>);

/// What of a field is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    /// Those that are there.
    Present,
    /// Also that there is no further one.
    AndNoMore,
}

impl Default for SignedFields {
    fn default() -> SignedFields {
        SignedFields::new(OVERSIGNED, SIGNED)
    }
}

impl SignedFields {
    /// A name in both lists is oversigned. Neither needs to have From, without which a signature is
    /// void (RFC 6376 section 5.4): it is added.
    pub fn new<'a>(
        oversigned: impl IntoIterator<Item = &'a str>,
        signed: impl IntoIterator<Item = &'a str>,
    ) -> SignedFields {
        let mut fields: Vec<(String, Cover)> = Vec::new();
        let oversigned = oversigned.into_iter().map(|name| (name, Cover::AndNoMore));
        let signed = signed.into_iter().map(|name| (name, Cover::Present));
        let from = [("From", Cover::AndNoMore)];
        for (name, cover) in oversigned.chain(signed).chain(from) {
            if !fields.iter().any(|(had, _)| had.eq_ignore_ascii_case(name)) {
                fields.push((name.to_owned(), cover));
            }
        }
        SignedFields(fields)
    }

    /// The names for h= and the canonical text of the fields they stand for. A name that stands there
    /// more often than the message has the field signs its absence (RFC 6376 section 5.4.2).
    pub(super) fn of(&self, fields: &[Field<'_>]) -> (Vec<&str>, Vec<u8>) {
        let mut names = Vec::new();
        let mut text = Vec::new();
        for (name, cover) in &self.0 {
            // Verifiers take the last of several first (RFC 6376 section 5.4.2).
            let instances = fields.iter().rev().filter(|field| field.is(name));
            let mut count = 0;
            for field in instances {
                relaxed(field, &mut text);
                count += 1;
            }
            let absent = match cover {
                Cover::Present => 0,
                Cover::AndNoMore => 1,
            };
            names.extend(std::iter::repeat_n(name.as_str(), count + absent));
        }
        (names, text)
    }
}

/// The relaxed form of a field (RFC 6376 section 3.4.2).
pub(super) fn relaxed(field: &Field<'_>, out: &mut Vec<u8>) {
    out.extend(field.name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let words = field.value.split(blank).filter(|word| !word.is_empty());
    for (place, word) in words.enumerate() {
        if place > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header;

    #[test]
    fn a_list_of_ones_own_is_signed_as_it_stands_and_from_always() {
        let message = b"Subject: x\r\nFrom: a@b\r\nX-App: 1\r\nX-App: 2\r\n\r\n";
        let fields: Vec<Field<'_>> = header::fields(message).collect();
        let signed = SignedFields::new(["subject"], ["X-App", "Subject", "To"]);
        let (names, text) = signed.of(&fields);
        assert_eq!(
            names,
            ["subject", "subject", "X-App", "X-App", "From", "From"]
        );
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "subject:x\r\nx-app:2\r\nx-app:1\r\nfrom:a@b\r\n");
    }
}
