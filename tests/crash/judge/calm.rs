//! Is all quiet in the end: an empty queue, and nothing that could not be read?

use crate::history::History;

pub fn check(history: &History) -> Vec<String> {
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
    left.chain(quarantined).collect()
}
