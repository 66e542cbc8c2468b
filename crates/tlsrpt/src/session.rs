//! One session as reports count it: by whose policy, and what failed, in the words of RFC 8460 section 4.3.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One try to come to TLS with one host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// Of the recipients, in A-labels.
    pub domain: String,
    pub policy: Policy,
    /// None: it did all that the policy asks for.
    pub failure: Option<Failure>,
}

/// What the domain, or the host, has published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Policy {
    pub kind: PolicyKind,
    /// Its text: the lines of an MTA-STS policy, or the TLSA records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Whose it is: the recipients' domain, or the TLSA base domain (RFC 8460 section 1.1).
    pub domain: String,
    /// Patterns of the hosts it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mx: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    Tlsa,
    Sts,
    NoPolicyFound,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    pub result: ResultType,
    /// Ours. None: it did not come to a connection.
    pub sending_ip: Option<IpAddr>,
    /// The host; None: it was not about one.
    pub mx: Option<String>,
    pub receiving_ip: Option<IpAddr>,
    /// In words.
    pub reason: String,
}

/// RFC 8460 section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultType {
    StarttlsNotSupported,
    CertificateHostMismatch,
    CertificateExpired,
    CertificateNotTrusted,
    ValidationFailure,
    TlsaInvalid,
    DnssecInvalid,
    DaneRequired,
    StsPolicyFetchError,
    StsPolicyInvalid,
    StsWebpkiInvalid,
}

impl ResultType {
    pub const ALL: [ResultType; 11] = [
        ResultType::StarttlsNotSupported,
        ResultType::CertificateHostMismatch,
        ResultType::CertificateExpired,
        ResultType::CertificateNotTrusted,
        ResultType::ValidationFailure,
        ResultType::TlsaInvalid,
        ResultType::DnssecInvalid,
        ResultType::DaneRequired,
        ResultType::StsPolicyFetchError,
        ResultType::StsPolicyInvalid,
        ResultType::StsWebpkiInvalid,
    ];

    /// As reports and metrics have it.
    pub fn word(self) -> &'static str {
        match self {
            ResultType::StarttlsNotSupported => "starttls-not-supported",
            ResultType::CertificateHostMismatch => "certificate-host-mismatch",
            ResultType::CertificateExpired => "certificate-expired",
            ResultType::CertificateNotTrusted => "certificate-not-trusted",
            ResultType::ValidationFailure => "validation-failure",
            ResultType::TlsaInvalid => "tlsa-invalid",
            ResultType::DnssecInvalid => "dnssec-invalid",
            ResultType::DaneRequired => "dane-required",
            ResultType::StsPolicyFetchError => "sts-policy-fetch-error",
            ResultType::StsPolicyInvalid => "sts-policy-invalid",
            ResultType::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

impl PolicyKind {
    pub fn word(self) -> &'static str {
        match self {
            PolicyKind::Tlsa => "tlsa",
            PolicyKind::Sts => "sts",
            PolicyKind::NoPolicyFound => "no-policy-found",
        }
    }
}

/// Sessions that are alike, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub session: Session,
    pub count: u64,
}

/// Different failures under one policy that are told apart; peers choose the words in them.
const FAILURES_MAX: usize = 100;
/// What the failures beyond have in common.
const FURTHER: &str = "further failures, not told apart";

/// Adds up rows that are alike. Of many different failures under one policy the first are kept as they are.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Session, u64>,
    failures: BTreeMap<(String, Policy), usize>,
}

impl Tally {
    pub fn add(&mut self, row: Row) {
        let Row { mut session, count } = row;
        if let Some(failure) = &mut session.failure
            && failure.reason != FURTHER
        {
            let known = self.counts.contains_key(&session);
            let of = (session.domain.clone(), session.policy.clone());
            let different = self.failures.entry(of).or_default();
            if !known && *different >= FAILURES_MAX {
                let result = session.failure.as_ref().map(|failure| failure.result);
                session.failure = result.map(|result| Failure {
                    result,
                    sending_ip: None,
                    mx: None,
                    receiving_ip: None,
                    reason: FURTHER.to_owned(),
                });
            } else if !known {
                *different += 1;
            }
        }
        let counted = self.counts.entry(session).or_default();
        *counted = counted.saturating_add(count);
    }

    pub fn rows(self) -> Vec<Row> {
        let rows = self.counts.into_iter();
        rows.map(|(session, count)| Row { session, count })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str) -> Row {
        Row {
            session: Session {
                domain: "rcpt.example".to_owned(),
                policy: Policy {
                    kind: PolicyKind::NoPolicyFound,
                    lines: Vec::new(),
                    domain: "rcpt.example".to_owned(),
                    mx: Vec::new(),
                },
                failure: Some(Failure {
                    result: ResultType::ValidationFailure,
                    sending_ip: None,
                    mx: Some("mx.rcpt.example".to_owned()),
                    receiving_ip: None,
                    reason: reason.to_owned(),
                }),
            },
            count: 2,
        }
    }

    #[test]
    fn each_word_is_the_one_that_is_written_down() {
        for result in ResultType::ALL {
            let written = serde_json::to_value(result).unwrap();
            assert_eq!(written, result.word());
        }
        for kind in [PolicyKind::Tlsa, PolicyKind::Sts, PolicyKind::NoPolicyFound] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }

    #[test]
    fn sessions_that_are_alike_are_one_row_and_a_flood_of_reasons_is_bounded() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.add(failed(&format!("alert {number}")));
            tally.add(failed("alert 0"));
        }
        let rows = tally.rows();
        assert_eq!(rows.len(), FAILURES_MAX + 1);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 4000);
        // Adding up what was added up changes nothing.
        let mut again = Tally::default();
        rows.iter().cloned().for_each(|row| again.add(row));
        assert_eq!(again.rows(), rows);
    }
}
