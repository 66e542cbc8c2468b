//! A bounded map of answers that expire.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// When full, the answer that was put in first makes room.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    answers: HashMap<String, (V, Instant)>,
    /// Keys in the order in which they were put in, each as often as it stands in `answers`.
    order: VecDeque<String>,
    capacity: usize,
}

impl<V: Clone> Cache<V> {
    pub(crate) fn new(capacity: usize) -> Cache<V> {
        Cache {
            answers: HashMap::new(),
            order: VecDeque::new(),
            capacity,
        }
    }

    /// The answer, unless it has expired.
    pub(crate) fn get(&self, key: &str, now: Instant) -> Option<V> {
        self.answers
            .get(key)
            .filter(|(_, expires)| *expires > now)
            .map(|(answer, _)| answer.clone())
    }

    pub(crate) fn put(&mut self, key: &str, answer: V, keep: Duration, now: Instant) {
        if self
            .answers
            .insert(key.to_owned(), (answer, now + keep))
            .is_some()
        {
            return;
        }
        self.order.push_back(key.to_owned());
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.answers.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_expires_and_a_full_cache_forgets_the_oldest() {
        let mut cache = Cache::new(2);
        let start = Instant::now();
        let keep = Duration::from_secs(60);
        for key in ["a", "b", "a", "c"] {
            cache.put(key, key.to_owned(), keep, start);
        }
        assert_eq!(cache.get("a", start), None);
        assert_eq!(cache.get("b", start), Some("b".to_owned()));
        assert_eq!(cache.get("c", start + keep), None);
        assert_eq!(cache.answers.len(), 2);
    }
}
