//! Is what arrived what was offered, octet by octet, and nothing else?

use std::collections::BTreeMap;

use crate::history::{History, Offered};

pub fn check(history: &History) -> Vec<String> {
    let mut by_recipient: BTreeMap<&str, &Offered> = BTreeMap::new();
    for offered in &history.offered {
        let recipients = offered.recipients.iter();
        by_recipient.extend(recipients.map(|recipient| (recipient.as_str(), offered)));
    }
    let mut senders: BTreeMap<&str, &Offered> = BTreeMap::new();
    senders.extend(
        history
            .offered
            .iter()
            .map(|offered| (offered.sender.as_str(), offered)),
    );

    let mut complaints = Vec::new();
    for copy in &history.copies {
        let (id, recipient) = (&copy.id, &copy.recipient);
        match by_recipient.get(recipient.as_str()) {
            Some(offered) if offered.text == copy.text => {}
            Some(offered) => complaints.push(format!(
                "changed: {recipient} got {id} with {} octets, {} were offered",
                copy.text.len(),
                offered.text.len()
            )),
            None if senders.contains_key(recipient.as_str())
                && history.reports.iter().any(|report| report.id == *id) => {}
            None => complaints.push(format!(
                "invented: {recipient} got {id}, which nobody has sent"
            )),
        }
    }
    complaints
}
