//! What a connection to one host must prove before mail goes over it: from the configuration and from
//! what the recipient's side publishes. What is published makes it stronger, never weaker.

use std::sync::Arc;

use relay_policy::TlsRequirement;
use relay_route::{Candidate, Tlsa};
use relay_smtp::{Failure, NextHop, Phase};

use crate::dane::Dane;
use crate::open::Refusal;
use crate::settle::Said;
use crate::tls::Check;
use crate::world::World;

/// What is asked of one host, by one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// No TLS.
    Clear,
    /// Where it is offered, any certificate; else in clear.
    IfOffered,
    /// Any certificate.
    Encrypted,
    /// A certificate for the host's name, from a trusted root.
    Named,
    /// A certificate that TLSA records name.
    Dane(Arc<Dane>),
}

impl Guard {
    /// Err: this host must not be used now.
    pub async fn of(
        world: &World,
        hop: &NextHop,
        candidate: &Candidate,
        requirement: TlsRequirement,
    ) -> Result<Guard, Refusal> {
        let least = match requirement {
            TlsRequirement::None => return Ok(Guard::Clear),
            // The operator wants public authorities: TLSA records are not asked for.
            TlsRequirement::Verify => return Ok(Guard::Named),
            TlsRequirement::Opportunistic => Guard::IfOffered,
            TlsRequirement::Require => Guard::Encrypted,
            TlsRequirement::Dane => {
                return match dane(world, hop, candidate).await? {
                    Published::Usable(dane) => Ok(Guard::Dane(dane)),
                    Published::Unusable | Published::Nothing => Err(missing(candidate)),
                };
            }
        };
        Ok(match dane(world, hop, candidate).await? {
            Published::Usable(dane) => Guard::Dane(dane),
            Published::Unusable => Guard::Encrypted,
            Published::Nothing => least,
        })
    }

    /// Whether a session that was opened for `self` will do for `other`.
    pub fn covers(&self, other: &Guard) -> bool {
        match other {
            Guard::Clear | Guard::IfOffered => true,
            Guard::Encrypted => match self {
                Guard::Clear | Guard::IfOffered => false,
                Guard::Encrypted | Guard::Named | Guard::Dane(_) => true,
            },
            Guard::Named | Guard::Dane(_) => self == other,
        }
    }

    pub fn check(&self) -> Check {
        match self {
            Guard::Clear | Guard::IfOffered | Guard::Encrypted => Check::Nothing,
            Guard::Named => Check::Name,
            Guard::Dane(dane) => Check::Dane(Arc::clone(dane)),
        }
    }
}

/// What the host's TLSA records come to.
enum Published {
    Usable(Arc<Dane>),
    /// There are some, and none that this version knows: TLS is required, without a check (RFC 7672
    /// section 2.2).
    Unusable,
    Nothing,
}

async fn dane(world: &World, hop: &NextHop, candidate: &Candidate) -> Result<Published, Refusal> {
    let domain = match hop {
        NextHop::Domain(domain) => Some(domain.to_ascii()),
        NextHop::Address(_) | NextHop::Relay(_) => None,
    };
    match world.router.tlsa(hop, candidate).await {
        Tlsa::None => Ok(Published::Nothing),
        Tlsa::Found { base, records } => {
            let dane = Dane::of(&base, candidate.port, records, domain.as_deref());
            Ok(dane.map_or(Published::Unusable, |dane| {
                Published::Usable(Arc::new(dane))
            }))
        }
        Tlsa::Trouble(words) => {
            let words = format!(
                "whether {} has TLSA records is not known: {words}",
                candidate.host
            );
            Err(refusal(candidate, Failure::TlsaTrouble, words))
        }
    }
}

fn missing(candidate: &Candidate) -> Refusal {
    let words = format!(
        "DANE is required, and {} has no TLSA records that are validated and can be used",
        candidate.host
    );
    refusal(candidate, Failure::TlsaMissing, words)
}

fn refusal(candidate: &Candidate, failure: Failure, words: String) -> Refusal {
    Refusal {
        phase: Phase::Dns,
        said: Said::Failure { failure, words },
        host: Some(candidate.host.clone()),
        source: None,
        tls: None,
    }
}
