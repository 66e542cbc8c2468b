//! Asks the policy: what an outcome means for a recipient, what a refusal means for an attempt.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use relay_policy::{Category, Context, Decision, OnFlow, Stimulus, TlsInUse, decide};
use relay_schedule::SiteNews;
use relay_smtp::client::Outcome;
use relay_smtp::extension::Offered;
use relay_smtp::{Failure, Phase};

use crate::job::Job;
use crate::link::Flow;
use crate::open::{Peer, Refusal};
use crate::settle::{Reports, Said, Verdict};
use crate::world::Settings;

/// A verdict, and how many RCPTs of the transaction had been accepted before it.
pub(crate) struct Judged {
    pub verdict: Verdict,
    pub accepted_before: u32,
}

/// One recipient's outcome.
pub(crate) fn judge(
    settings: &Settings,
    job: &Job,
    peer: &Peer,
    index: u32,
    outcome: Outcome,
    now: Timestamp,
) -> Judged {
    let (phase, said, accepted_before) = match outcome {
        Outcome::Answered {
            phase,
            reply,
            accepted_before,
        } => (phase, Said::Reply(reply), accepted_before),
        Outcome::Failed {
            phase,
            failure,
            words,
        } => (phase, Said::Failure { failure, words }, 0),
    };
    let domain = job.domain(index);
    let context = Context {
        mx: Some(&peer.host),
        domain: domain.as_deref(),
        accepted_before,
        tls: peer.tls_in_use(),
        now: Some(now),
        ..Context::of(phase)
    };
    let decision = decide(&settings.table, stimulus(&said), &context);
    let verdict = Verdict {
        index,
        phase,
        said,
        host: Some(peer.host_text()),
        tls: peer.tls.clone(),
        accepted_before,
        reports: match peer.wire.session.extensions().dsn {
            Offered::Yes => Reports::PassedOn,
            Offered::No => Reports::Ours,
        },
        decision,
    };
    Judged {
        verdict,
        accepted_before,
    }
}

/// A host, or DNS, that refused the whole attempt. `mx`: the host's name.
pub(crate) fn judge_refusal(
    settings: &Settings,
    job: &Job,
    refusal: &Refusal,
    mx: Option<&str>,
    now: Timestamp,
) -> Decision {
    let domain = job.hop_domain();
    let context = Context {
        mx,
        domain: domain.as_deref(),
        tls: match refusal.tls {
            Some(_) => TlsInUse::Yes,
            None => TlsInUse::No,
        },
        now: Some(now),
        ..Context::of(refusal.phase)
    };
    decide(&settings.table, stimulus(&refusal.said), &context)
}

fn stimulus(said: &Said) -> Stimulus<'_> {
    match said {
        Said::Reply(reply) => Stimulus::Reply(reply),
        Said::Failure { failure, .. } => Stimulus::Failure(*failure),
    }
}

/// A host that would not have us.
pub(crate) struct FailedHost {
    /// Its name and port.
    pub server: (String, u16),
    pub category: Category,
    pub news: SiteNews,
}

/// Whether several hosts could not be used for one reason: then it is the site. One host may fail by
/// chance, and the scheduler counts that.
pub(crate) fn alike(failed: &[FailedHost]) -> bool {
    let Some(first) = failed.first() else {
        return false;
    };
    let same =
        |one: &FailedHost| one.category == first.category && one.news == SiteNews::Unreachable;
    failed.iter().all(same) && failed.iter().any(|one| one.server != first.server)
}

/// What a refused session says of the site: one that tells us to come with fewer is not dead.
pub(crate) fn news_of(refusal: &Refusal, decision: &Decision) -> SiteNews {
    match (&refusal.said, decision.category) {
        // What one domain asks for, or one address met, says nothing of the site that others share.
        (
            Said::Failure {
                failure:
                    Failure::SourceSuspended
                    | Failure::RequireTls
                    | Failure::TlsaTrouble
                    | Failure::TlsaMissing
                    | Failure::TlsaMismatch
                    | Failure::StsHost
                    | Failure::StsCertificate,
                ..
            },
            _,
        ) => SiteNews::Neutral,
        (Said::Reply(_), Category::TooManyConnections | Category::RateLimited) => SiteNews::Crowded,
        (Said::Reply(_) | Said::Failure { .. }, _) => SiteNews::Unreachable,
    }
}

/// What it says of the site that an attempt has found no host to dial: DNS says nothing of the hosts, and that all
/// of them are known to be dead counts like one more failure.
pub(crate) fn news_without_host(refusal: &Refusal, before: SiteNews) -> SiteNews {
    match (refusal.phase, before) {
        (Phase::Dns, _) | (_, SiteNews::Good | SiteNews::Crowded | SiteNews::Unreachable) => before,
        (
            Phase::Connect
            | Phase::Banner
            | Phase::Ehlo
            | Phase::Starttls
            | Phase::Auth
            | Phase::Mail
            | Phase::Rcpt
            | Phase::Data
            | Phase::Body
            | Phase::Quit,
            SiteNews::Neutral,
        ) => SiteNews::Unreachable,
    }
}

/// The third level of a decision: what it means for the flow to the site. It also ends the attempt
/// for those who have not been tried yet.
pub(crate) fn flow(decision: &Decision, source: Option<IpAddr>) -> Option<Flow> {
    let how_long = decision.wait.unwrap_or(FLOW_DEFAULT);
    let rule = decision.rule.name.clone();
    match decision.action.on_flow() {
        OnFlow::Slow => Some(Flow::Slow { rule, how_long }),
        OnFlow::SuspendSource => Some(Flow::SuspendSource {
            rule,
            how_long,
            source,
            provider: decision.provider.clone(),
        }),
        OnFlow::SuspendDestination => Some(Flow::SuspendDestination { rule, how_long }),
        OnFlow::Nothing => None,
    }
}

/// For a rule that slows or suspends and gives no time; the table's loader asks for one.
const FLOW_DEFAULT: Duration = Duration::from_secs(15 * 60);
