//! The judge: five checkers, each with one question to the history. What they say is for people.

mod calm;
mod doubled;
mod lost;
mod reported;
mod whole;

use crate::history::History;

/// Every complaint there is; none is the verdict that is hoped for.
pub fn judge(history: &History) -> Vec<String> {
    let checkers = [
        lost::check,
        doubled::check,
        reported::check,
        whole::check,
        calm::check,
    ];
    checkers.iter().flat_map(|check| check(history)).collect()
}
