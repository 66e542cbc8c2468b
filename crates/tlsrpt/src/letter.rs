//! A report as a message: multipart/report with the gzip as its second part (RFC 8460 section 5.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use relay_message::date::rfc5322;
use relay_smtp::Mailbox;

use crate::report::Report;

/// What goes into the queue, from `<>`: nobody is to be told if it does not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub to: Mailbox,
    /// With CRLF line ends, 7-bit.
    pub message: Bytes,
}

/// By this field of its header a message is known for a report, whose own TLS is not reported (section 5.3).
pub const FIELD: &str = "TLS-Report-Domain";

/// Base64 lines, in octets (RFC 2045 section 6.8).
const LINE: usize = 76;

impl Letter {
    /// `from`: an address; it is what DKIM signs for (section 3).
    pub fn of(report: &Report<'_>, from: &str, to: &Mailbox, now: Timestamp) -> Letter {
        let Report {
            submitter, domain, ..
        } = report;
        let (id, file) = (report.id(), report.file_name());
        let (good, failed) = report.totals();
        let boundary = format!("=_{}_{}", report.day, begin_mark(&id));
        let hostname = &submitter.hostname;
        let head = [
            format!("Date: {}", rfc5322(now)),
            format!("From: <{from}>"),
            format!("To: <{to}>"),
            format!("Subject: Report Domain: {domain}"),
            format!(" Submitter: {hostname}"),
            format!(" Report-ID: <{id}>"),
            format!("Message-ID: <tls-report.{id}>"),
            format!("{FIELD}: {domain}"),
            format!("TLS-Report-Submitter: {hostname}"),
            // It may be about TLS that does not work (RFC 8689 section 3, RFC 8460 section 3).
            "TLS-Required: No".to_owned(),
            "Auto-Submitted: auto-generated".to_owned(),
            "MIME-Version: 1.0".to_owned(),
            "Content-Type: multipart/report; report-type=\"tlsrpt\";".to_owned(),
            format!(" boundary=\"{boundary}\""),
            String::new(),
            format!("--{boundary}"),
            "Content-Type: text/plain; charset=us-ascii".to_owned(),
            String::new(),
            format!("This is an aggregate TLS report (RFC 8460) about {domain},"),
            format!("sent by {hostname} for the day {} (UTC).", report.day),
            String::new(),
            format!("Sessions that did what was asked of them: {good}"),
            format!("Sessions that failed: {failed}"),
            String::new(),
            format!("--{boundary}"),
            "Content-Type: application/tlsrpt+gzip;".to_owned(),
            format!(" name=\"{file}\""),
            "Content-Transfer-Encoding: base64".to_owned(),
            "Content-Disposition: attachment;".to_owned(),
            format!(" filename=\"{file}\""),
            String::new(),
            String::new(),
        ];
        let mut message = head.join("\r\n");
        let encoded = STANDARD.encode(report.gzip());
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, behind) = rest.split_at(rest.len().min(LINE));
            message.push_str(line);
            message.push_str("\r\n");
            rest = behind;
        }
        message.push_str(&format!("--{boundary}--\r\n"));
        Letter {
            to: to.clone(),
            message: message.into(),
        }
    }
}

/// Letters and digits only; base64 has no line that begins with `--`, so that no part ends early.
fn begin_mark(id: &str) -> String {
    let mark = id.chars().filter(char::is_ascii_alphanumeric);
    mark.take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Submitter;
    use crate::session::{Policy, PolicyKind, Row, Session};

    #[test]
    fn a_letter_names_domain_and_submitter_and_carries_the_report() {
        let submitter = Submitter {
            hostname: "relay.test".to_owned(),
            organization: "Relay".to_owned(),
            contact: "x@relay.test".to_owned(),
        };
        let policy = Policy {
            kind: PolicyKind::NoPolicyFound,
            lines: Vec::new(),
            domain: "rcpt.example".to_owned(),
            mx: Vec::new(),
        };
        let rows = [Row {
            session: Session {
                domain: "rcpt.example".to_owned(),
                policy,
                failure: None,
            },
            count: 3,
        }];
        let report = Report {
            submitter: &submitter,
            domain: "rcpt.example",
            day: "2026-11-22".parse().unwrap(),
            rows: &rows,
        };
        let to = Mailbox::parse("tls@rcpt.example").unwrap();
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        let letter = Letter::of(&report, "reports@relay.test", &to, now);
        let text = String::from_utf8(letter.message.to_vec()).unwrap();
        assert!(text.is_ascii() && !text.replace("\r\n", "").contains(['\r', '\n']));
        for line in [
            "From: <reports@relay.test>",
            "TLS-Report-Domain: rcpt.example",
            "TLS-Report-Submitter: relay.test",
            "Content-Type: multipart/report; report-type=\"tlsrpt\";",
            "Content-Type: application/tlsrpt+gzip;",
            " filename=\"relay.test!rcpt.example!1795305600!1795391999.json.gz\"",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line}\n{text}");
        }
        assert!(text.contains("Subject: Report Domain: rcpt.example\r\n Submitter: relay.test\r\n Report-ID: <2026-11-22_rcpt.example@relay.test>\r\n"));
        let encoded = text.split("\r\n\r\n").last().unwrap();
        let encoded: String = encoded
            .lines()
            .take_while(|line| !line.starts_with("--"))
            .collect();
        let gzip = STANDARD.decode(encoded).unwrap();
        let json: serde_json::Value =
            serde_json::from_reader(flate2::read::GzDecoder::new(&gzip[..])).unwrap();
        assert_eq!(json, report.json());
    }
}
