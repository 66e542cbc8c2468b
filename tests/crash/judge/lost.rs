//! Is every recipient of every promise delivered, given up with a report, or still queued?

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Offered};

pub fn check(history: &History) -> Vec<String> {
    let fates = Fates::of(history);
    let promised = history
        .offered
        .iter()
        .filter_map(|offered| offered.promise().map(|id| (offered, id)));
    promised
        .flat_map(|(offered, id)| {
            let recipients = offered.recipients.iter();
            recipients.filter_map(|recipient| fates.complaint(offered, id, recipient))
        })
        .collect()
}

struct Fates<'a> {
    delivered: BTreeMap<&'a str, BTreeSet<&'a str>>,
    reported: BTreeSet<&'a str>,
    refused: BTreeSet<&'a str>,
    queued: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Fates<'a> {
    fn of(history: &'a History) -> Fates<'a> {
        let mut delivered: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for copy in &history.copies {
            delivered
                .entry(&copy.recipient)
                .or_default()
                .insert(&copy.id);
        }
        let reported = history.reports.iter().flat_map(|report| &report.failed);
        let queued = history.left.iter();
        Fates {
            delivered,
            reported: reported.map(String::as_str).collect(),
            refused: history.refused.iter().map(String::as_str).collect(),
            queued: queued
                .map(|left| (left.id.as_str(), left.recipient.as_str()))
                .collect(),
        }
    }

    fn complaint(&self, offered: &Offered, id: &str, recipient: &str) -> Option<String> {
        let life = offered.life;
        if let Some(ids) = self.delivered.get(recipient) {
            return (!ids.contains(id)).then(|| {
                format!("lost: {recipient} was promised as {id} in life {life} and came as {ids:?}")
            });
        }
        let queued = self.queued.contains(&(id, recipient));
        // Without a sender there is nobody to report to: that its host refused it must do.
        let given_up = match offered.sender.as_str() {
            "" => self.refused.contains(recipient),
            _ => self.reported.contains(recipient),
        };
        (!queued && !given_up).then(|| {
            format!(
                "lost: {recipient} of {id} had its 250 in life {life} and is not delivered, not reported, not queued"
            )
        })
    }
}
