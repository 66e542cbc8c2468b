//! What a connection to one host must prove before mail goes over it: from the configuration and from
//! what the recipient's side publishes. What is published makes it stronger, never weaker.

use std::sync::Arc;

use relay_policy::TlsRequirement;
use relay_route::{Candidate, Tlsa};
use relay_smtp::{Failure, NextHop, Phase};
use relay_sts::{Found, Mode};

use crate::dane::{self, Dane};
use crate::open::Refusal;
use crate::settle::Said;
use crate::tls::Check;
use crate::tls_report::{Applied, By};
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
    /// Delivered rather than protected: `TLS-Required: No` (RFC 8689 section 3), as in a report that says
    /// that somebody's TLS is broken.
    Delivered,
    /// Proved on each hop, or not delivered: REQUIRETLS (RFC 8689 section 4.2.1).
    Required,
}

/// What a job asks of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub hop: NextHop,
    pub requirement: TlsRequirement,
    pub wish: Wish,
}

/// What is asked of one host, and by whose word.
pub(crate) struct Guarded {
    pub applied: Applied,
    /// Err: this host must not be used now.
    pub guard: Result<Guard, Refusal>,
}

impl Guarded {
    fn new(by: By, guard: Result<Guard, Refusal>) -> Guarded {
        Guarded {
            applied: Applied::by(by),
            guard,
        }
    }

    pub async fn of(world: &World, candidate: &Candidate, wants: &Wants) -> Guarded {
        let hop = &wants.hop;
        if wants.wish == Wish::Required {
            return required(world, candidate, wants).await;
        }
        let least = match wants.requirement {
            // The author's word against what the recipients' side publishes, not against the operator's.
            TlsRequirement::Opportunistic if wants.wish == Wish::Delivered => {
                return Guarded::new(By::Ourselves, Ok(Guard::IfOffered));
            }
            TlsRequirement::None => return Guarded::new(By::Ourselves, Ok(Guard::Clear)),
            // The operator wants public authorities: TLSA records are not asked for.
            TlsRequirement::Verify => return Guarded::new(By::Ourselves, Ok(Guard::Named)),
            TlsRequirement::Opportunistic => Guard::IfOffered,
            TlsRequirement::Require => Guard::Encrypted,
            TlsRequirement::Dane => {
                return match dane(world, hop, candidate).await {
                    Published::Usable(dane) => Guarded::dane(dane),
                    Published::Unusable(by) => Guarded::new(by, Err(missing(candidate))),
                    Published::Nothing => Guarded::new(By::Nobody, Err(missing(candidate))),
                    Published::Unknown(by, refusal) => Guarded::new(by, Err(refusal)),
                };
            }
        };
        let mut guarded = match dane(world, hop, candidate).await {
            Published::Usable(dane) => Guarded::dane(dane),
            Published::Unknown(by, refusal) => Guarded::new(by, Err(refusal)),
            // DANE goes before, and where its records are of no use the policy may still ask for more
            // than encryption (RFC 8461 section 2).
            Published::Unusable(by) => {
                let guarded = sts(world, hop, candidate, Guard::Encrypted).await;
                match guarded.applied.by {
                    By::Nobody => Guarded::new(by, guarded.guard),
                    By::Ourselves | By::Dane(_) | By::BadTlsa { .. } | By::Sts(_) => guarded,
                }
            }
            Published::Nothing => sts(world, hop, candidate, least).await,
        };
        // Where it was not for the policy to say, there is nothing to report either.
        if wants.wish == Wish::Delivered {
            guarded.applied = Applied::by(By::Ourselves);
        }
        guarded
    }

    fn dane(dane: Arc<Dane>) -> Guarded {
        Guarded::new(By::Dane(Arc::clone(&dane)), Ok(Guard::Dane(dane)))
    }
}

impl Guard {
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
    Unusable(By),
    Nothing,
    /// There may be some: the host must not be used now.
    Unknown(By, Refusal),
}

async fn dane(world: &World, hop: &NextHop, candidate: &Candidate) -> Published {
    let domain = match hop {
        NextHop::Domain(domain) => Some(domain.to_ascii()),
        NextHop::Address(_) | NextHop::Relay(_) => None,
    };
    match world.router.tlsa(hop, candidate).await {
        Tlsa::None => Published::Nothing,
        Tlsa::Found { base, records } => {
            let words = records.iter().map(dane::in_words).collect();
            match Dane::of(&base, candidate.port, records, domain.as_deref()) {
                Some(dane) => Published::Usable(Arc::new(dane)),
                None => Published::Unusable(By::BadTlsa {
                    base,
                    records: words,
                }),
            }
        }
        Tlsa::Trouble(words) => {
            let host = &candidate.host;
            let words = format!("whether {host} has TLSA records is not known: {words}");
            let by = By::BadTlsa {
                base: host.clone(),
                records: Vec::new(),
            };
            Published::Unknown(by, refusal(candidate, Failure::TlsaTrouble, words))
        }
    }
}

/// What the recipients' domain asks for; `least` without a policy.
async fn sts(world: &World, hop: &NextHop, candidate: &Candidate, least: Guard) -> Guarded {
    // A relay was chosen by the operator, an address by the sender: neither by MX records that could
    // be forged.
    let (Some(sts), NextHop::Domain(domain)) = (&world.sts, hop) else {
        return Guarded::new(By::Nobody, Ok(least));
    };
    let domain = domain.to_ascii();
    let policy = match sts.policy(&domain, world.clock.now()).await {
        Found::Policy(policy) => policy,
        Found::Nothing => return Guarded::new(By::Nobody, Ok(least)),
        Found::Unreadable(trouble) => {
            return Guarded {
                applied: Applied {
                    by: By::Nobody,
                    trouble: Some(trouble),
                },
                guard: Ok(least),
            };
        }
    };
    let guard = match policy.mode {
        Mode::None => return Guarded::new(By::Nobody, Ok(least)),
        Mode::Enforce if policy.names(&candidate.host) => Ok(Guard::Sts),
        Mode::Enforce => {
            let words = format!(
                "the MTA-STS policy of {domain} does not name {}, but {}",
                candidate.host,
                policy.mx().join(", ")
            );
            Err(refusal(candidate, Failure::StsHost, words))
        }
        // What would have failed is reported, and the mail goes (RFC 8461 section 5).
        Mode::Testing => Ok(least),
    };
    Guarded::new(By::Sts(policy), guard)
}

/// The host's name must be beyond doubt, then its certificate is to prove it (RFC 8689 section 4.2.1). MX records
/// can be forged unless DNSSEC or the domain's policy confirms them, whatever the configuration asks of the
/// certificate; only of the operator's own relay, and of an address, the name is no question.
async fn required(world: &World, candidate: &Candidate, wants: &Wants) -> Guarded {
    let (hop, host) = (&wants.hop, &candidate.host);
    let by_us = |guard| Guarded::new(By::Ourselves, guard);
    let cannot = |why: String| {
        let words = format!("the message requires proved TLS on each hop (REQUIRETLS); {why}");
        Err(refusal(candidate, Failure::RequireTls, words))
    };
    match (wants.requirement, hop) {
        (TlsRequirement::None, _) => {
            return by_us(cannot(format!("for {host}, `tls` is set to none")));
        }
        (TlsRequirement::Verify, NextHop::Relay(_) | NextHop::Address(_)) => {
            return by_us(Ok(Guard::Named));
        }
        (TlsRequirement::Verify, NextHop::Domain(_))
        | (
            TlsRequirement::Opportunistic | TlsRequirement::Require | TlsRequirement::Dane,
            NextHop::Domain(_) | NextHop::Relay(_) | NextHop::Address(_),
        ) => {}
    }
    match (dane(world, hop, candidate).await, wants.requirement, hop) {
        (Published::Usable(_), TlsRequirement::Verify, _) => return by_us(Ok(Guard::Named)),
        (Published::Usable(dane), _, _) => return Guarded::dane(dane),
        (Published::Unknown(by, refusal), _, _) => return Guarded::new(by, Err(refusal)),
        (Published::Unusable(_) | Published::Nothing, TlsRequirement::Dane, _) => {
            return by_us(Err(missing(candidate)));
        }
        (Published::Unusable(_) | Published::Nothing, _, NextHop::Relay(_)) => {
            return by_us(Ok(Guard::Named));
        }
        (
            Published::Unusable(_) | Published::Nothing,
            _,
            NextHop::Domain(_) | NextHop::Address(_),
        ) => {}
    }
    let mut guarded = sts(world, hop, candidate, Guard::IfOffered).await;
    if guarded
        .guard
        .as_ref()
        .is_ok_and(|guard| *guard != Guard::Sts)
    {
        guarded.guard = cannot(format!(
            "{host} has no validated TLSA records, and no enforced MTA-STS policy names it"
        ));
    }
    guarded
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
