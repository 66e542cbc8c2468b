//! Words as numbers, each kept as long as somebody uses it.

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) type WordsRef = u32;

#[derive(Debug, Default)]
pub(crate) struct Words {
    numbers: HashMap<Arc<str>, WordsRef>,
    /// Each with how often it is used.
    names: Vec<(Arc<str>, u32)>,
    free: Vec<WordsRef>,
}

impl Words {
    pub(crate) fn find(&self, word: &str) -> Option<WordsRef> {
        self.numbers.get(word).copied()
    }

    pub(crate) fn name(&self, number: WordsRef) -> &str {
        let found = self.names.get(number as usize);
        found.map_or("", |(name, _)| name)
    }

    /// Uses it once more.
    pub(crate) fn take(&mut self, word: &str) -> WordsRef {
        if let Some(&number) = self.numbers.get(word) {
            if let Some((_, uses)) = self.names.get_mut(number as usize) {
                *uses += 1;
            }
            return number;
        }
        let word: Arc<str> = Arc::from(word);
        let number = self.free.pop().unwrap_or_else(|| {
            self.names.push((word.clone(), 0));
            WordsRef::try_from(self.names.len() - 1).expect("memory ends before 2^32 words")
        });
        if let Some(entry) = self.names.get_mut(number as usize) {
            *entry = (word.clone(), 1);
        }
        self.numbers.insert(word, number);
        number
    }

    /// Uses it once less.
    pub(crate) fn give_back(&mut self, number: WordsRef) {
        let Some((name, uses)) = self.names.get_mut(number as usize) else {
            return;
        };
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            self.numbers.remove(name);
            *name = Arc::from("");
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_number_until_nobody_uses_it_any_more() {
        let mut words = Words::default();
        let a = words.take("a");
        assert_eq!(words.take("a"), a);
        let b = words.take("b");
        assert_eq!((words.name(a), words.name(b)), ("a", "b"));
        words.give_back(a);
        assert_eq!(words.find("a"), Some(a));
        words.give_back(a);
        assert_eq!(words.find("a"), None);
        assert_eq!(words.take("c"), a);
    }
}
