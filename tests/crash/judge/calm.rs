//! Was all well: no message refused, and in the end an empty queue and nothing that could not be read?

use relay_testkit::Offer;

use crate::history::History;

pub fn check(history: &History) -> Vec<String> {
    // A relay that took nothing would lose nothing. This load gives no reason to refuse.
    let refused = history
        .offered
        .iter()
        .filter_map(|offered| match &offered.answer {
            Offer::Refused(reply) => Some(format!(
                "not calm: {:?} in life {} heard {reply}",
                offered.recipients, offered.life
            )),
            Offer::Promised(_) | Offer::Lost => None,
        });
    let left = history.left.iter().map(|left| {
        format!(
            "not calm: {} of {} is still queued",
            left.recipient, left.id
        )
    });
    // A kill tears nothing that was promised; what it tears is cut off and never quarantined.
    let quarantined = history
        .quarantined
        .iter()
        .map(|name| format!("not calm: {name} lies in quarantine"));
    refused.chain(left).chain(quarantined).collect()
}
