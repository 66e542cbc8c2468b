//! What a connection to one host must prove before mail goes over it: from the configuration and from
//! what the recipient's side publishes. What is published makes it stronger, never weaker.

use std::sync::Arc;

use relay_policy::TlsRequirement;
use relay_route::{Candidate, Tlsa};
use relay_smtp::{Failure, NextHop, Phase};
use relay_sts::Mode;

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
    /// The same, since the MTA-STS policy of the domain asks for it (RFC 8461).
    Sts,
    /// A certificate that TLSA records name.
    Dane(Arc<Dane>),
}

/// What the author of a message would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Protected,
    /// Delivered rather than protected: `TLS-Required: No` (RFC 8689 section 5), as in a report that says
    /// that somebody's TLS is broken.
    Delivered,
}

/// What a job asks of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub hop: NextHop,
    pub requirement: TlsRequirement,
    pub wish: Wish,
}

impl Guard {
    /// Err: this host must not be used now.
    pub async fn of(world: &World, candidate: &Candidate, wants: &Wants) -> Result<Guard, Refusal> {
        let Wants {
            hop,
            requirement,
            wish,
        } = wants;
        let least = match requirement {
            // The author's word against what the recipients' side publishes, not against the operator's.
            TlsRequirement::Opportunistic if *wish == Wish::Delivered => {
                return Ok(Guard::IfOffered);
            }
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
            // DANE goes before, and where its records are of no use the policy may still ask for more
            // than encryption (RFC 8461 section 2).
            Published::Unusable => sts(world, hop, candidate, Guard::Encrypted).await?,
            Published::Nothing => sts(world, hop, candidate, least).await?,
        })
    }

    /// Whether a session that was opened for `self` will do for `other`.
    pub fn covers(&self, other: &Guard) -> bool {
        match other {
            Guard::Clear | Guard::IfOffered => true,
            Guard::Encrypted => match self {
                Guard::Clear | Guard::IfOffered => false,
                Guard::Encrypted | Guard::Named | Guard::Sts | Guard::Dane(_) => true,
            },
            Guard::Named | Guard::Sts => match self {
                Guard::Named | Guard::Sts => true,
                Guard::Clear | Guard::IfOffered | Guard::Encrypted | Guard::Dane(_) => false,
            },
            Guard::Dane(_) => self == other,
        }
    }

    pub fn check(&self) -> Check {
        match self {
            Guard::Clear | Guard::IfOffered | Guard::Encrypted => Check::Nothing,
            Guard::Named => Check::Name,
            Guard::Sts => Check::Sts,
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

/// What the recipients' domain asks for; `least` without a policy.
async fn sts(
    world: &World,
    hop: &NextHop,
    candidate: &Candidate,
    least: Guard,
) -> Result<Guard, Refusal> {
    // A relay was chosen by the operator, an address by the sender: neither by MX records that could
    // be forged.
    let (Some(sts), NextHop::Domain(domain)) = (&world.sts, hop) else {
        return Ok(least);
    };
    let domain = domain.to_ascii();
    let Some(policy) = sts.policy(&domain, world.clock.now()).await else {
        return Ok(least);
    };
    match policy.mode {
        Mode::Enforce if policy.names(&candidate.host) => Ok(Guard::Sts),
        Mode::Enforce => {
            let words = format!(
                "the MTA-STS policy of {domain} does not name {}, but {}",
                candidate.host,
                policy.mx().join(", ")
            );
            Err(refusal(candidate, Failure::StsHost, words))
        }
        Mode::Testing | Mode::None => Ok(least),
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

#[cfg(test)]
mod tests {
    use relay_route::TlsaRecord;

    use super::*;

    #[test]
    fn a_session_serves_only_jobs_that_ask_for_no_more_than_it_has_proved() {
        let dane = |base: &str| {
            let record = TlsaRecord {
                usage: 3,
                selector: 1,
                matching: 1,
                data: vec![0; 32],
            };
            let dane = Dane::of(base, 25, vec![record], None).unwrap();
            Guard::Dane(Arc::new(dane))
        };
        let (clear, any, encrypted) = (Guard::Clear, Guard::IfOffered, Guard::Encrypted);
        let (named, sts) = (Guard::Named, Guard::Sts);
        let (one, other) = (dane("mx1.test"), dane("mx2.test"));
        for (has, wanted, serves) in [
            (&clear, &any, true),
            (&clear, &encrypted, false),
            (&clear, &sts, false),
            (&encrypted, &clear, true),
            (&encrypted, &any, true),
            (&encrypted, &encrypted, true),
            (&encrypted, &named, false),
            (&encrypted, &sts, false),
            (&encrypted, &one, false),
            (&named, &sts, true),
            (&sts, &named, true),
            (&sts, &encrypted, true),
            (&sts, &one, false),
            (&one, &encrypted, true),
            (&one, &one, true),
            (&one, &other, false),
            // A public authority has not vouched for it.
            (&one, &named, false),
            (&one, &sts, false),
        ] {
            assert_eq!(has.covers(wanted), serves, "{has:?} for {wanted:?}");
        }
    }
}
