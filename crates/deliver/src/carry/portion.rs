//! Which of those who are still to be tried have a place in the next transaction.

use std::collections::VecDeque;

use super::Carrier;
use crate::job::Job;
use crate::open::Peer;
use crate::verp;
use crate::world::Settings;

impl Carrier {
    /// Takes them out. None: the session has seen as many domains as it may; the next one begins anew.
    pub(super) fn portion(
        &self,
        settings: &Settings,
        job: &Job,
        peer: &mut Peer,
        pending: &mut VecDeque<u32>,
    ) -> Option<Vec<u32>> {
        let count = self.recipients_max(settings, job, peer).min(pending.len());
        let Some(domains_max) = peer.wire.session.extensions().limits.rcpt_domain_max else {
            return Some(pending.drain(..count).collect());
        };
        // RFC 9422 section 4.3: domains of a whole session.
        let domains_max = usize::try_from(domains_max).unwrap_or(usize::MAX);
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for index in pending.drain(..) {
            let domain = job.domain(index).unwrap_or_default();
            let known = peer.domains.contains(&domain);
            if taken.len() < count && (known || peer.domains.len() < domains_max) {
                peer.domains.insert(domain);
                taken.push(index);
            } else {
                left.push_back(index);
            }
        }
        *pending = left;
        (!taken.is_empty()).then_some(taken)
    }

    /// How many recipients the next transaction may have.
    fn recipients_max(&self, settings: &Settings, job: &Job, peer: &Peer) -> usize {
        if verp::wanted(&settings.config, &job.message.envelope.reverse_path) {
            return 1;
        }
        let offered = peer.wire.session.extensions().limits.rcpt_max;
        let max = job
            .recipients_max
            .min(self.recipients_learned.unwrap_or(u32::MAX))
            .min(offered.unwrap_or(u32::MAX))
            .max(1);
        usize::try_from(max).unwrap_or(usize::MAX)
    }
}
