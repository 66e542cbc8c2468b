//! Did anybody get a message twice, but where a crash fell between the peer's 250 and our commit?

use std::collections::BTreeMap;

use crate::history::{Copy, History, Life};

pub fn check(history: &History) -> Vec<String> {
    // relayd tells of a delivery after its commit: from then on there is no excuse.
    let mut committed: BTreeMap<(&str, &str), Life> = BTreeMap::new();
    for told in &history.committed {
        let life = committed
            .entry((&told.id, &told.recipient))
            .or_insert(told.life);
        *life = told.life.min(*life);
    }
    let mut copies: BTreeMap<(&str, &str), Vec<&Copy>> = BTreeMap::new();
    for copy in &history.copies {
        let of_one = copies.entry((&copy.id, &copy.recipient)).or_default();
        of_one.push(copy);
    }
    let mut complaints = Vec::new();
    for ((id, recipient), mut copies) in copies {
        // An MX may come to the end of a body after the next life's first.
        copies.sort_by_key(|copy| copy.life);
        for pair in copies.windows(2) {
            let (first, second) = (pair[0].life, pair[1].life);
            if first == second {
                complaints.push(format!(
                    "doubled: {recipient} got {id} twice in life {first}, and no crash was between"
                ));
            } else if let Some(life) = committed
                .get(&(id, recipient))
                .filter(|life| **life < second)
            {
                complaints.push(format!(
                    "doubled: {recipient} got {id} in life {second}, after its delivery was committed in life {life}"
                ));
            }
        }
    }
    complaints
}
