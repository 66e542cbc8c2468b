//! The report about one domain and one day: JSON (RFC 8460 section 4.4), as gzip.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::session::{Failure, Policy, PolicyKind, Row};

/// Who reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitter {
    pub hostname: String,
    pub organization: String,
    pub contact: String,
}

/// All about one domain and one day.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub submitter: &'a Submitter,
    /// To whom it goes: the recipients' domain, or a TLSA base domain.
    pub domain: &'a str,
    pub day: Date,
    pub rows: &'a [Row],
}

/// Sessions under one policy.
#[derive(Default)]
struct UnderOne<'a> {
    good: u64,
    failed: BTreeMap<&'a Failure, u64>,
}

impl Report<'_> {
    /// The same at every try, so that a receiver knows a report that it has got already.
    pub fn id(&self) -> String {
        format!("{}_{}@{}", self.day, self.domain, self.submitter.hostname)
    }

    /// `relay.example.com!rcpt.example!1795305600!1795391999.json.gz`
    pub fn file_name(&self) -> String {
        let Report {
            submitter, domain, ..
        } = self;
        let begin = begin_of(self.day).as_second();
        let end = last_second_of(self.day).as_second();
        format!("{}!{domain}!{begin}!{end}.json.gz", submitter.hostname)
    }

    /// Successful and failed sessions.
    pub fn totals(&self) -> (u64, u64) {
        let mut totals = (0, 0);
        for row in self.rows {
            match row.session.failure {
                None => totals.0 += row.count,
                Some(_) => totals.1 += row.count,
            }
        }
        totals
    }

    pub fn json(&self) -> Value {
        let mut policies: BTreeMap<&Policy, UnderOne<'_>> = BTreeMap::new();
        for row in self.rows {
            let under = policies.entry(&row.session.policy).or_default();
            match &row.session.failure {
                None => under.good += row.count,
                Some(failure) => *under.failed.entry(failure).or_default() += row.count,
            }
        }
        let policies: Vec<Value> = policies.into_iter().map(of_policy).collect();
        json!({
            "organization-name": self.submitter.organization,
            "date-range": {
                "start-datetime": begin_of(self.day).to_string(),
                "end-datetime": last_second_of(self.day).to_string(),
            },
            "contact-info": self.submitter.contact,
            "report-id": self.id(),
            "policies": policies,
        })
    }

    pub fn gzip(&self) -> Vec<u8> {
        let text = self.json().to_string();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes())
            .and_then(|()| gzip.finish())
            .expect("memory takes all that is written")
    }
}

fn of_policy((policy, under): (&Policy, UnderOne<'_>)) -> Value {
    let mut about = json!({
        "policy-type": policy.kind.word(),
        "policy-domain": policy.domain,
    });
    if policy.kind != PolicyKind::NoPolicyFound {
        put(&mut about, "policy-string", json!(policy.lines));
        put(&mut about, "mx-host", json!(policy.mx));
    }
    let mut whole = json!({
        "policy": about,
        "summary": {
            "total-successful-session-count": under.good,
            "total-failure-session-count": under.failed.values().sum::<u64>(),
        },
    });
    if !under.failed.is_empty() {
        let details: Vec<Value> = under.failed.into_iter().map(of_failure).collect();
        put(&mut whole, "failure-details", json!(details));
    }
    whole
}

fn of_failure((failure, count): (&Failure, u64)) -> Value {
    let mut detail = json!({
        "result-type": failure.result.word(),
        "failed-session-count": count,
        "failure-reason-code": failure.reason,
    });
    if let Some(ip) = failure.sending_ip {
        put(&mut detail, "sending-mta-ip", json!(ip));
    }
    if let Some(mx) = &failure.mx {
        put(&mut detail, "receiving-mx-hostname", json!(mx));
    }
    if let Some(ip) = failure.receiving_ip {
        put(&mut detail, "receiving-ip", json!(ip));
    }
    detail
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(key.to_owned(), value);
    }
}

/// The day of a moment, in UTC (section 4.1).
pub fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

pub fn begin_of(day: Date) -> Timestamp {
    let midnight = day.to_datetime(jiff::civil::Time::midnight());
    let midnight = TimeZone::UTC.to_timestamp(midnight);
    midnight.unwrap_or(Timestamp::MAX)
}

pub fn end_of(day: Date) -> Timestamp {
    let end = begin_of(day).checked_add(SignedDuration::from_hours(24));
    end.unwrap_or(Timestamp::MAX)
}

fn last_second_of(day: Date) -> Timestamp {
    let last = end_of(day).checked_sub(SignedDuration::from_secs(1));
    last.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{ResultType, Session};

    fn row(policy: &Policy, failure: Option<Failure>, count: u64) -> Row {
        Row {
            session: Session {
                domain: "rcpt.example".to_owned(),
                policy: policy.clone(),
                failure,
            },
            count,
        }
    }

    #[test]
    fn a_report_has_every_field_of_the_rfc() {
        let policy = Policy {
            kind: PolicyKind::Sts,
            lines: vec!["version: STSv1".to_owned(), "mode: testing".to_owned()],
            domain: "rcpt.example".to_owned(),
            mx: vec!["*.rcpt.example".to_owned()],
        };
        let failure = Failure {
            result: ResultType::CertificateExpired,
            sending_ip: Some("192.0.2.1".parse().unwrap()),
            mx: Some("mx.rcpt.example".to_owned()),
            receiving_ip: Some("192.0.2.9".parse().unwrap()),
            reason: "expired".to_owned(),
        };
        let nobody = Policy {
            kind: PolicyKind::NoPolicyFound,
            lines: Vec::new(),
            domain: "rcpt.example".to_owned(),
            mx: Vec::new(),
        };
        let rows = [
            row(&policy, None, 5326),
            row(&policy, Some(failure), 303),
            row(&nobody, None, 1),
        ];
        let submitter = Submitter {
            hostname: "relay.test".to_owned(),
            organization: "Relay".to_owned(),
            contact: "postmaster@relay.test".to_owned(),
        };
        let report = Report {
            submitter: &submitter,
            domain: "rcpt.example",
            day: "2026-11-22".parse().unwrap(),
            rows: &rows,
        };
        assert_eq!(report.totals(), (5327, 303));
        assert_eq!(
            report.file_name(),
            "relay.test!rcpt.example!1795305600!1795391999.json.gz"
        );
        assert_eq!(
            report.json(),
            json!({
                "organization-name": "Relay",
                "date-range": {
                    "start-datetime": "2026-11-22T00:00:00Z",
                    "end-datetime": "2026-11-22T23:59:59Z",
                },
                "contact-info": "postmaster@relay.test",
                "report-id": "2026-11-22_rcpt.example@relay.test",
                "policies": [
                    {
                        "policy": {
                            "policy-type": "sts",
                            "policy-string": ["version: STSv1", "mode: testing"],
                            "policy-domain": "rcpt.example",
                            "mx-host": ["*.rcpt.example"],
                        },
                        "summary": {
                            "total-successful-session-count": 5326,
                            "total-failure-session-count": 303,
                        },
                        "failure-details": [{
                            "result-type": "certificate-expired",
                            "sending-mta-ip": "192.0.2.1",
                            "receiving-mx-hostname": "mx.rcpt.example",
                            "receiving-ip": "192.0.2.9",
                            "failed-session-count": 303,
                            "failure-reason-code": "expired",
                        }],
                    },
                    {
                        "policy": {
                            "policy-type": "no-policy-found",
                            "policy-domain": "rcpt.example",
                        },
                        "summary": {
                            "total-successful-session-count": 1,
                            "total-failure-session-count": 0,
                        },
                    },
                ],
            })
        );
    }
}
