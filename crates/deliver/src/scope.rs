//! What all sessions hear, put together: decisions of which the policy raises the scope.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use relay_policy::{Asked, Heard, Scope};
use relay_smtp::Mailbox;
use relay_suppression::{Source, Suppressions};

use crate::job::Job;
use crate::judge::Judged;

/// Shared by all sessions. No lock is held across a wait.
#[derive(Debug, Default)]
pub struct SharedScope(Mutex<Scope>);

/// Where a transaction took place.
pub(crate) struct Place<'a> {
    pub site: &'a str,
    pub source: Option<IpAddr>,
    pub now: Timestamp,
}

impl SharedScope {
    /// Raises what is to be raised of one transaction. The recipients that the site called unknown before
    /// it was no longer believed are returned.
    pub(crate) fn raise(
        &self,
        place: &Place<'_>,
        job: &Job,
        judged: &mut [Judged],
    ) -> Vec<Mailbox> {
        let mut scope = self.lock();
        let mut unbelieved = Vec::new();
        let asked = |index: u32| {
            let recipient = &job.recipient(index)?.mailbox;
            Some(Asked {
                site: place.site,
                source: place.source,
                message: job.message.id,
                recipient,
            })
        };
        // First all, then what follows: the tenth recipient's refusal speaks of the first one's, too.
        for Judged { verdict, .. } in judged.iter() {
            if let Some(asked) = asked(verdict.index) {
                match scope.hear(&asked, &verdict.decision, place.now) {
                    Heard::Nothing => {}
                    Heard::Unbelieved(recipients) => unbelieved.extend(recipients),
                }
            }
        }
        for Judged { verdict, .. } in judged {
            let raised = asked(verdict.index)
                .and_then(|asked| scope.raised(&asked, &verdict.decision, place.now));
            if let Some(raised) = raised {
                verdict.decision = raised;
            }
        }
        unbelieved
    }

    /// An operator's word: the site is right.
    pub(crate) fn believe(&self, site: &str, now: Timestamp) {
        self.lock().believe(site, now);
    }

    fn lock(&self) -> MutexGuard<'_, Scope> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes recipients off the suppression list that a reply put there; what a person said stays.
pub(crate) async fn unsuppress(
    suppressions: &dyn Suppressions,
    mut recipients: Vec<Mailbox>,
    now: Timestamp,
) {
    recipients.retain(|recipient| {
        let entry = suppressions.find(recipient, now);
        entry.is_some_and(|entry| entry.source == Source::Policy)
    });
    if recipients.is_empty() {
        return;
    }
    match suppressions.remove(recipients).await {
        Ok(removed) => tracing::warn!(
            removed,
            "addresses are off the suppression list again: the site that called them unknown is not believed"
        ),
        Err(error) => {
            tracing::error!("addresses could not be taken off the suppression list: {error}");
        }
    }
}
