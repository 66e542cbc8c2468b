//! Reads reports that come back: DSNs (RFC 3464) and complaints of the abuse reporting format (RFC 5965). All
//! bounds are fixed: whoever can write to the address chooses the bytes.

use relay_smtp::{EnhancedStatus, Mailbox};

use crate::header;

/// What a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub kind: Kind,
    /// The message that it is about, as far as the report shows it.
    pub original: Original,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Delivery {
        /// `Original-Envelope-Id`, decoded (RFC 3464 section 2.2.1).
        envelope_id: Option<String>,
        /// Never empty.
        recipients: Vec<Recipient>,
    },
    Complaint {
        /// `Feedback-Type`: `abuse`, `fraud`, `not-spam`.
        feedback: String,
        /// `Original-Rcpt-To`; many reporters leave it out, or hide it.
        recipients: Vec<Mailbox>,
    },
}

/// One recipient of a DSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// `Original-Recipient` where it is there, else `Final-Recipient`: an address that is forwarded to
    /// another one is the one that we know.
    pub address: Mailbox,
    pub action: Action,
    pub status: EnhancedStatus,
    /// What the host that refused it said, without its type.
    pub diagnostic: Option<String>,
}

/// RFC 3464 section 2.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    Relayed,
    Expanded,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Original {
    pub message_id: Option<String>,
    /// The reverse-path that the far host saw: Return-Path, or `Original-Mail-From` of a complaint.
    pub sender: Option<Mailbox>,
    /// Of every Received field: the host that wrote it, and the id by which it knew the message.
    pub received: Vec<(String, String)>,
}

/// Why it is none, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReport {
    #[error("it is no multipart/report with a delivery status or feedback report")]
    OtherType,
    #[error("its parts cannot be told apart")]
    NoParts,
    #[error("its machine-readable part names no recipient with an action and a status")]
    NoRecipients,
    #[error("its feedback report has no Feedback-Type")]
    NoFeedbackType,
}

/// A report with more is not read further: no message of ours has so many recipients in one transaction.
const RECIPIENTS_MAX: usize = 1000;
const PARTS_MAX: usize = 20;
const RECEIVED_MAX: usize = 100;
const TEXT_MAX: usize = 1000;

/// Reads a whole message.
pub fn read(message: &[u8]) -> Result<Report, NoReport> {
    let content_type = header::value(message, "Content-Type").unwrap_or_default();
    if !content_type
        .to_ascii_lowercase()
        .starts_with("multipart/report")
    {
        return Err(NoReport::OtherType);
    }
    let boundary = parameter(&content_type, "boundary").ok_or(NoReport::NoParts)?;
    let body = message.get(header::end(message).body..).unwrap_or_default();
    let parts = parts(body, &boundary);
    let returned = parts.iter().find_map(returned);
    let mut original = returned.map(original_in).unwrap_or_default();
    for part in &parts {
        let kind = match part.kind.as_str() {
            "message/delivery-status" | "message/global-delivery-status" => delivery(part.body)?,
            "message/feedback-report" => {
                let told = header::value(part.body, "Original-Mail-From");
                original.sender = told.and_then(|sender| mailbox(&sender)).or(original.sender);
                complaint(part.body, &parts)?
            }
            _ => continue,
        };
        return Ok(Report { kind, original });
    }
    Err(match parts.is_empty() {
        true => NoReport::NoParts,
        false => NoReport::OtherType,
    })
}

struct Part<'a> {
    /// The media type in lower case, without parameters.
    kind: String,
    body: &'a [u8],
}

/// The parts of a multipart body (RFC 2046 section 5.1.1).
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<Part<'a>> {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let mut parts = Vec::new();
    let mut begun: Option<usize> = None;
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let (from, to) = (at, at + line.len());
        at = to;
        let Some(rest) = line.strip_prefix(delimiter.as_slice()) else {
            continue;
        };
        let rest = rest.trim_ascii();
        if !rest.is_empty() && rest != b"--" {
            continue;
        }
        if let Some(begun) = begun.take() {
            parts.extend(body.get(begun..from).map(part));
        }
        if rest == b"--" || parts.len() >= PARTS_MAX {
            return parts;
        }
        begun = Some(to);
    }
    // Cut off on the way: what is there may do.
    if let Some(begun) = begun {
        parts.extend(body.get(begun..).map(part));
    }
    parts
}

fn part(bytes: &[u8]) -> Part<'_> {
    let content_type = header::value(bytes, "Content-Type").unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default();
    Part {
        kind: kind.trim().to_ascii_lowercase(),
        body: bytes.get(header::end(bytes).body..).unwrap_or_default(),
    }
}

/// A parameter of a field such as Content-Type (RFC 2045 section 5.1).
fn parameter(value: &str, wanted: &str) -> Option<String> {
    for piece in value.split(';').skip(1) {
        let (name, value) = piece.split_once('=')?;
        if name.trim().eq_ignore_ascii_case(wanted) {
            let value = value.trim();
            let quoted = value.strip_prefix('"');
            let value = quoted.map_or(value, |text| text.split('"').next().unwrap_or_default());
            return (!value.is_empty() && value.len() <= 200).then(|| value.to_owned());
        }
    }
    None
}

/// RFC 3464 section 2.1: fields of the message, then those of each recipient, empty lines between them.
fn delivery(body: &[u8]) -> Result<Kind, NoReport> {
    let groups = groups(body);
    let envelope_id = groups
        .first()
        .and_then(|first| header::value(first, "Original-Envelope-Id"));
    let recipients: Vec<Recipient> = groups
        .iter()
        .filter_map(|group| recipient(group))
        .take(RECIPIENTS_MAX)
        .collect();
    match recipients.is_empty() {
        true => Err(NoReport::NoRecipients),
        false => Ok(Kind::Delivery {
            envelope_id: envelope_id.map(|id| xtext_decoded(&cut(&id))),
            recipients,
        }),
    }
}

fn groups(body: &[u8]) -> Vec<&[u8]> {
    let mut groups = Vec::new();
    let mut rest = body;
    while !rest.is_empty() && groups.len() <= RECIPIENTS_MAX {
        let end = header::end(rest);
        if end.fields > 0 {
            groups.extend(rest.get(..end.fields));
        }
        // A line that is no field: what follows it still may be.
        let next = match end.body {
            0 => rest
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(rest.len(), |at| at + 1),
            next => next,
        };
        rest = rest.get(next..).unwrap_or_default();
    }
    groups
}

/// None: it lacks what every recipient must have (RFC 3464 section 2.3).
fn recipient(group: &[u8]) -> Option<Recipient> {
    let of = |name| header::value(group, name).and_then(|value| typed_address(&value));
    let action = header::value(group, "Action")?;
    let action = action.split([' ', '(']).next()?.to_ascii_lowercase();
    let action = match action.as_str() {
        "failed" => Action::Failed,
        "delayed" => Action::Delayed,
        "delivered" => Action::Delivered,
        "relayed" => Action::Relayed,
        "expanded" => Action::Expanded,
        _ => return None,
    };
    let status = header::value(group, "Status")?;
    let status = status.split([' ', '(']).next()?.parse().ok()?;
    let diagnostic = header::value(group, "Diagnostic-Code").map(|value| {
        let text = value
            .split_once(';')
            .map_or(value.as_str(), |(_, text)| text);
        cut(text.trim())
    });
    Some(Recipient {
        address: of("Original-Recipient").or_else(|| of("Final-Recipient"))?,
        action,
        status,
        diagnostic,
    })
}

/// `rfc822; user@example.com`
fn typed_address(value: &str) -> Option<Mailbox> {
    let (kind, address) = value.split_once(';')?;
    match kind.trim().to_ascii_lowercase().as_str() {
        "rfc822" => mailbox(&xtext_decoded(address.trim())),
        // RFC 6533 section 3: in UTF-8, or in its own escapes, which we do not write ourselves.
        "utf-8" => mailbox(address.trim()),
        _ => None,
    }
}

fn mailbox(text: &str) -> Option<Mailbox> {
    let bare = text
        .strip_prefix('<')
        .and_then(|text| text.strip_suffix('>'));
    Mailbox::parse(bare.unwrap_or(text)).ok()
}

/// RFC 5965 section 3.
fn complaint(body: &[u8], parts: &[Part<'_>]) -> Result<Kind, NoReport> {
    let feedback = header::value(body, "Feedback-Type").ok_or(NoReport::NoFeedbackType)?;
    let told = header::fields(body)
        .filter(|field| field.is("Original-Rcpt-To"))
        .filter_map(|field| mailbox(&field.unfolded()));
    let mut recipients: Vec<Mailbox> = told.take(RECIPIENTS_MAX).collect();
    if recipients.is_empty() {
        // Left out, as it often is; one To with one address is who complains.
        let original = parts.iter().find_map(|part| returned(part));
        let to = original.and_then(|head| header::value(head, "To"));
        recipients.extend(to.and_then(|to| only_address(&to)));
    }
    Ok(Kind::Complaint {
        feedback: cut(&feedback).to_ascii_lowercase(),
        recipients,
    })
}

fn only_address(to: &str) -> Option<Mailbox> {
    let text = match to.rsplit_once('<') {
        Some((_, behind)) => behind.split('>').next()?,
        None => to,
    };
    match to.matches('@').count() {
        1 => mailbox(text.trim()),
        _ => None,
    }
}

/// The part that has the message, or only its header (RFC 6522 section 3).
fn returned<'a>(part: &Part<'a>) -> Option<&'a [u8]> {
    match part.kind.as_str() {
        "message/rfc822"
        | "text/rfc822-headers"
        | "message/rfc822-headers"
        | "message/global"
        | "message/global-headers" => Some(part.body),
        _ => None,
    }
}

/// What the header of a returned message shows.
pub(crate) fn original_in(head: &[u8]) -> Original {
    let received = header::fields(head)
        .filter(|field| field.is("Received"))
        .take(RECEIVED_MAX)
        .filter_map(|field| by_and_id(&field.unfolded()))
        .collect();
    Original {
        message_id: header::value(head, "Message-ID").map(|id| cut(&id)),
        sender: header::value(head, "Return-Path").and_then(|sender| mailbox(&sender)),
        received,
    }
}

/// `by relay.example.com ... id 1agf7aan0000` (RFC 5321 section 4.4).
fn by_and_id(received: &str) -> Option<(String, String)> {
    let clauses = received.split(';').next()?;
    let mut words = clauses.split_whitespace();
    words.find(|word| word.eq_ignore_ascii_case("by"))?;
    let host = words.next()?;
    words.find(|word| word.eq_ignore_ascii_case("id"))?;
    Some((cut(host).to_ascii_lowercase(), cut(words.next()?)))
}

/// `+40` is `@` (RFC 3461 section 4).
fn xtext_decoded(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('+') {
        decoded.push_str(before);
        let hex = behind
            .get(..2)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_graphic() || byte == b' ' => {
                decoded.push(char::from(byte));
                rest = behind.get(2..).unwrap_or_default();
            }
            // Not encoded at all: a plus in an address.
            Some(_) | None => {
                decoded.push('+');
                rest = behind;
            }
        }
    }
    decoded + rest
}

/// In one line, and not longer than anybody wants to read.
pub(crate) fn cut(text: &str) -> String {
    let harmless = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_MAX).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dsn(status: &str, returned: &str) -> String {
        format!(
            "From: MAILER-DAEMON@mx.test\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n \
             boundary=\"b=1\"\r\n\r\npreamble\r\n--b=1\r\n\r\nSorry.\r\n--b=1\r\n\
             Content-Type: message/delivery-status\r\n\r\n{status}\r\n--b=1\r\n\
             Content-Type: text/rfc822-headers\r\n\r\n{returned}\r\n--b=1--\r\n"
        )
    }

    const STATUS: &str = "Reporting-MTA: dns; mx.test\r\nOriginal-Envelope-Id: a+2Bb\r\n\r\n\
        Original-Recipient: rfc822;you+2Bnews@r.test\r\nFinal-Recipient: rfc822; box@in.test\r\n\
        Action: failed\r\nStatus: 5.1.1 (no such user)\r\n\
        Diagnostic-Code: smtp; 550 5.1.1\r\n  Unknown user\r\n\r\n\
        Final-Recipient: RFC822; <two@r.test>\r\nAction: delayed\r\nStatus: 4.2.2\r\n";
    const RETURNED: &str = "Received: from app ([192.0.2.1]) by relay.test\r\n with ESMTP id 1agf7aan0000\r\n \
        for <you@r.test>; Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <m@app.test>\r\nTo: You <you@r.test>\r\n";

    #[test]
    fn a_dsn_tells_who_failed_and_which_message_it_was() {
        let report = read(dsn(STATUS, RETURNED).as_bytes()).unwrap();
        let Kind::Delivery {
            envelope_id,
            recipients,
        } = report.kind
        else {
            panic!("no delivery report");
        };
        assert_eq!(envelope_id.as_deref(), Some("a+b"));
        let [first, second] = recipients.as_slice() else {
            panic!("{recipients:?}");
        };
        assert_eq!(first.address.to_string(), "you+news@r.test");
        assert_eq!(first.action, Action::Failed);
        assert_eq!(first.status.to_string(), "5.1.1");
        let said = first.diagnostic.as_deref().unwrap_or_default();
        assert!(
            said.starts_with("550 5.1.1") && said.ends_with("Unknown user"),
            "{said}"
        );
        assert_eq!(second.address.to_string(), "two@r.test");
        assert_eq!(second.action, Action::Delayed);
        assert_eq!(report.original.message_id.as_deref(), Some("<m@app.test>"));
        let ours = ("relay.test".to_owned(), "1agf7aan0000".to_owned());
        assert_eq!(report.original.received, [ours]);
    }

    #[test]
    fn a_complaint_tells_who_complained_also_where_the_report_leaves_that_out() {
        let arf = |fields: &str| {
            dsn("", RETURNED)
                .replace("message/delivery-status", "message/feedback-report")
                .replace("\r\n\r\n\r\n--b=1", &format!("\r\n\r\n{fields}\r\n--b=1"))
        };
        for fields in [
            "Feedback-Type: abuse\r\nUser-Agent: X/1\r\nVersion: 1\r\n",
            "Feedback-Type: Abuse\r\nOriginal-Rcpt-To: <you@r.test>\r\nOriginal-Mail-From: <b+x@s.test>\r\n",
        ] {
            let report = read(arf(fields).as_bytes()).unwrap();
            let Kind::Complaint {
                feedback,
                recipients,
            } = report.kind
            else {
                panic!("no complaint");
            };
            assert_eq!(feedback, "abuse");
            let shown: Vec<String> = recipients.iter().map(Mailbox::to_string).collect();
            assert_eq!(shown, ["you@r.test"], "{fields}");
            let sender = report.original.sender.map(|sender| sender.to_string());
            let told = fields
                .contains("Mail-From")
                .then(|| "b+x@s.test".to_owned());
            assert_eq!(sender, told, "{fields}");
        }
        let none = read(arf("User-Agent: X/1\r\n").as_bytes());
        assert_eq!(none.unwrap_err(), NoReport::NoFeedbackType);
    }

    #[test]
    fn what_is_no_report_is_told_apart() {
        let plain = b"From: a@b\r\nContent-Type: text/plain\r\n\r\nout of office\r\n";
        assert_eq!(read(plain).unwrap_err(), NoReport::OtherType);
        let no_boundary = b"Content-Type: multipart/report\r\n\r\nx";
        assert_eq!(read(no_boundary).unwrap_err(), NoReport::NoParts);
        let empty = b"Content-Type: multipart/report; boundary=x\r\n\r\nx";
        assert_eq!(read(empty).unwrap_err(), NoReport::NoParts);
        let nobody = dsn("Reporting-MTA: dns; mx.test\r\n", RETURNED);
        assert_eq!(read(nobody.as_bytes()).unwrap_err(), NoReport::NoRecipients);
        for missing in ["Action: failed\r\n", "Status: 5.1.1 (no such user)\r\n"] {
            let status = STATUS.replace(missing, "");
            let report = read(dsn(&status, RETURNED).as_bytes()).unwrap();
            let Kind::Delivery { recipients, .. } = report.kind else {
                panic!("no delivery report");
            };
            assert_eq!(recipients.len(), 1, "{missing}");
        }
    }

    #[test]
    fn our_own_reports_can_be_read_by_ourselves() {
        let golden = [
            include_str!("../../../tests/golden/dsn/failed-one.eml"),
            include_str!("../../../tests/golden/dsn/failed-several.eml"),
            include_str!("../../../tests/golden/dsn/delayed.eml"),
            include_str!("../../../tests/golden/dsn/relayed.eml"),
            include_str!("../../../tests/golden/dsn/full.eml"),
        ];
        for text in golden {
            let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
            let report = read(text.as_bytes()).unwrap();
            assert!(matches!(report.kind, Kind::Delivery { .. }), "{report:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, cut in 0usize..2000) {
            let _ = read(&bytes);
            let whole = dsn(STATUS, RETURNED).into_bytes();
            let mut broken = whole.get(..cut.min(whole.len())).unwrap().to_vec();
            broken.extend(bytes);
            let _ = read(&broken);
        }
    }
}
