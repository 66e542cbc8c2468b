//! What the TLS of a session came to, for the metrics and for the reports that domains ask for (RFC 8460).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use relay_observe::family::Family;
use relay_smtp::{Failure, NextHop};
use relay_sts::{Mode, Policy as StsPolicy, Trouble, Why};
use relay_tlsrpt::{Policy, PolicyKind, ResultType, Session};

use crate::dane::Dane;
use crate::open::Refusal;
use crate::settle::Said;
use crate::world::World;

/// By whose word a session is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub by: By,
    /// The domain says that it has an MTA-STS policy, which cannot be read.
    pub trouble: Option<Trouble>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The operator's, or the author's: nothing to report.
    Ourselves,
    /// Nothing is published.
    Nobody,
    Dane(Arc<Dane>),
    /// TLSA records of this name, which cannot be used or cannot be had; as text.
    BadTlsa {
        base: String,
        records: Vec<String>,
    },
    Sts(Arc<StsPolicy>),
}

/// What was wrong, in the words of RFC 8460 and in ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub result: ResultType,
    pub words: String,
}

/// Refusals that are about TLS. Others are noted where they come up, or say nothing of it.
const NOTED: [(Failure, ResultType); 4] = [
    (Failure::TlsNotOffered, ResultType::StarttlsNotSupported),
    (Failure::TlsaTrouble, ResultType::DnssecInvalid),
    (Failure::TlsaMissing, ResultType::DaneRequired),
    (Failure::StsHost, ResultType::ValidationFailure),
];

/// One session, tried or not.
pub(crate) struct Measured<'a> {
    pub world: &'a World,
    pub hop: &'a NextHop,
    pub applied: &'a Applied,
    pub host: &'a str,
    /// None: it did not come to a connection.
    pub address: Option<SocketAddr>,
    pub source: Option<IpAddr>,
}

impl Applied {
    pub fn by(by: By) -> Applied {
        Applied { by, trouble: None }
    }

    /// Whether a policy in testing wants to know what it would have come to.
    pub fn is_testing(&self) -> bool {
        matches!(&self.by, By::Sts(policy) if policy.mode == Mode::Testing)
    }

    /// What a policy in testing would have said of the host's name (RFC 8461 section 4.1).
    pub fn unnamed(&self, host: &str) -> Option<Fault> {
        match &self.by {
            By::Sts(policy) if !policy.names(host) => Some(Fault {
                result: ResultType::ValidationFailure,
                words: format!("the policy does not name {host}"),
            }),
            By::Ourselves | By::Nobody | By::Dane(_) | By::BadTlsa { .. } | By::Sts(_) => None,
        }
    }

    fn policy(&self, domain: &str) -> Option<Policy> {
        let of = |kind, lines, domain: &str, mx| Policy {
            kind,
            lines,
            domain: domain.to_owned(),
            mx,
        };
        match &self.by {
            By::Ourselves => None,
            By::Nobody => Some(of(
                PolicyKind::NoPolicyFound,
                Vec::new(),
                domain,
                Vec::new(),
            )),
            By::Dane(dane) => {
                let base = dane.base();
                let lines = dane.in_words();
                Some(of(PolicyKind::Tlsa, lines, base, vec![base.to_owned()]))
            }
            By::BadTlsa { base, records } => {
                let (lines, mx) = (records.clone(), vec![base.clone()]);
                Some(of(PolicyKind::Tlsa, lines, base, mx))
            }
            By::Sts(policy) => {
                let (lines, mx) = (policy.lines().to_vec(), policy.mx().to_vec());
                Some(of(PolicyKind::Sts, lines, domain, mx))
            }
        }
    }
}

impl Measured<'_> {
    /// Counts it. None: it did all that is asked.
    pub fn note(&self, fault: Option<Fault>) {
        // A relay was chosen by the operator, an address by the sender: no policy of theirs applies.
        let NextHop::Domain(domain) = self.hop else {
            return;
        };
        let domain = domain.to_ascii();
        let Some(policy) = self.applied.policy(&domain) else {
            return;
        };
        if let Some(trouble) = &self.applied.trouble {
            let of_domain = Policy {
                kind: PolicyKind::Sts,
                lines: Vec::new(),
                domain: domain.clone(),
                mx: Vec::new(),
            };
            self.count(&domain, of_domain, Some(unreadable(trouble)));
        }
        let bad_tlsa = match &self.applied.by {
            By::BadTlsa { .. } => Some(Fault {
                result: ResultType::TlsaInvalid,
                words: "none of the TLSA records can be used".to_owned(),
            }),
            By::Ourselves | By::Nobody | By::Dane(_) | By::Sts(_) => None,
        };
        self.count(&domain, policy, fault.or(bad_tlsa));
    }

    /// A host that must not be connected to, or whose session ended before it was ready.
    pub fn note_refusal(&self, refusal: &Refusal) {
        let Said::Failure { failure, words } = &refusal.said else {
            return;
        };
        let said = NOTED.iter().find(|(of, _)| of == failure);
        let Some((_, result)) = said else {
            return;
        };
        self.note(Some(Fault {
            result: *result,
            words: words.clone(),
        }));
    }

    fn count(&self, domain: &str, policy: Policy, fault: Option<Fault>) {
        if let Some(Fault { result, words }) = &fault {
            let labels = [policy.kind.word(), result.word()];
            let metrics = self.world.events.metrics();
            metrics.count_labelled(Family::TlsFailures, &labels);
            let (host, result, policy) = (self.host, result.word(), policy.kind.word());
            tracing::debug!(domain, host, policy, result, "TLS: {words}");
        }
        let Some(recorder) = &self.world.tls_reports else {
            return;
        };
        let session = Session {
            domain: domain.to_owned(),
            policy,
            failure: fault.map(|fault| self.failure(fault)),
        };
        recorder.note(session, self.world.clock.now());
    }

    fn failure(&self, fault: Fault) -> relay_tlsrpt::Failure {
        let to = self.address;
        relay_tlsrpt::Failure {
            result: fault.result,
            sending_ip: self.source.or_else(|| to.and_then(local_address)),
            mx: Some(self.host.to_owned()),
            receiving_ip: to.map(|to| to.ip()),
            reason: fault.words,
        }
    }
}

/// What the kernel chooses for connections that go there. Nothing is sent.
fn local_address(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn unreadable(trouble: &Trouble) -> Fault {
    Fault {
        result: match trouble.why {
            Why::Fetch => ResultType::StsPolicyFetchError,
            Why::Certificate => ResultType::StsWebpkiInvalid,
            Why::Invalid => ResultType::StsPolicyInvalid,
        },
        words: trouble.words.clone(),
    }
}
