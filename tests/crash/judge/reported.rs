//! Has every recipient that was given up exactly one report, sent to the right sender, and nobody else one?

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Offered};

pub fn check(history: &History) -> Vec<String> {
    let mut offered_to: BTreeMap<&str, &Offered> = BTreeMap::new();
    for offered in &history.offered {
        let recipients = offered.recipients.iter();
        offered_to.extend(recipients.map(|recipient| (recipient.as_str(), offered)));
    }
    let delivered: BTreeSet<&str> = history
        .copies
        .iter()
        .map(|c| c.recipient.as_str())
        .collect();
    let refused: BTreeSet<&str> = history.refused.iter().map(String::as_str).collect();

    // Copies of one report are the other checker's; here the reports that there are.
    let mut reports: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for report in &history.reports {
        for recipient in &report.failed {
            let known = reports.entry(recipient).or_default();
            known.insert((&report.id, &report.to));
        }
    }
    let mut complaints = Vec::new();
    for (recipient, reports) in reports {
        let sender = offered_to
            .get(recipient)
            .map(|offered| offered.sender.as_str());
        if reports.len() > 1 {
            complaints.push(format!("reported: {recipient} more than once: {reports:?}"));
        }
        if let Some((id, to)) = reports.iter().find(|(_, to)| sender != Some(to)) {
            complaints.push(format!(
                "reported: {recipient} to {to} in {id}, its sender is {sender:?}"
            ));
        }
        if delivered.contains(recipient) {
            complaints.push(format!("reported: {recipient} as failed, and delivered"));
        }
        if !refused.contains(recipient) {
            complaints.push(format!(
                "reported: {recipient} as failed, its host never said so"
            ));
        }
    }
    complaints
}
