//! Which of many words stand in a text, whatever their case: at every three letters that some word begins with, a tree of the
//! words is walked.
//!
//! An Aho-Corasick automaton was here before. Over six thousand words, in texts of fifty letters, it mostly follows its failure links: it
//! took a third more instructions, more than a megabyte, and most of the time in which a table is read. What it is better at, texts that
//! repeat a word's beginning on and on, is bounded by the longest word.

/// Words of `BYTES_MIN` bytes and more, known by their place in the list they came in.
#[derive(Debug)]
pub(crate) struct Literals {
    nodes: Vec<Node>,
    /// By `bucket`: the first of the nodes that stand for three letters.
    starts: Vec<u32>,
}

/// Three letters at the beginning of a word, or one later in it.
#[derive(Clone, Copy, Debug)]
struct Node {
    label: u32,
    /// The next of those that could stand in its place.
    sibling: u32,
    /// The first of those that may come after it.
    child: u32,
    /// The word that ends here.
    literal: u32,
}

/// The shortest word: a shorter one stands in nearly every text and would sort nothing out.
pub(crate) const BYTES_MIN: usize = 3;
/// No node, no word.
const NONE: u32 = u32::MAX;
const BUCKET_BITS: u32 = 12;

impl Literals {
    /// Words in lower case. A shorter one than `BYTES_MIN` would never be found.
    pub fn new<'w>(words: impl Iterator<Item = &'w [u8]>) -> Literals {
        let mut literals = Literals {
            nodes: Vec::new(),
            starts: vec![NONE; 1 << BUCKET_BITS],
        };
        for (word, number) in words.zip(0..NONE) {
            literals.put(word, number);
        }
        literals.nodes.shrink_to_fit();
        literals
    }

    /// Tells of every word that stands in the text, each time it does.
    pub fn each_in(&self, text: &[u8], mut found: impl FnMut(usize)) {
        let mut label = 0;
        for (at, byte) in text.iter().enumerate() {
            label = ((label << 8) | lower(*byte)) & 0x00ff_ffff;
            if at + 1 < BYTES_MIN {
                continue;
            }
            let mut node = self.find(self.starts[bucket(label)], label);
            let mut rest = text[at + 1..].iter();
            while let Some(here) = node.and_then(|at| self.nodes.get(at)) {
                if here.literal != NONE {
                    found(here.literal as usize);
                }
                let next = rest.next();
                node = next.and_then(|byte| self.find(here.child, lower(*byte)));
            }
        }
    }

    fn put(&mut self, word: &[u8], number: u32) {
        debug_assert!(word.len() >= BYTES_MIN);
        let (start, rest) = word.split_at(BYTES_MIN.min(word.len()));
        let label = start
            .iter()
            .fold(0, |label, byte| (label << 8) | u32::from(*byte));
        let first = self.starts[bucket(label)];
        let mut here = self.find(first, label).unwrap_or_else(|| {
            let node = self.add(label, first);
            self.starts[bucket(label)] = node;
            node as usize
        });
        for byte in rest {
            let (label, first) = (u32::from(*byte), self.nodes[here].child);
            here = self.find(first, label).unwrap_or_else(|| {
                let node = self.add(label, first);
                self.nodes[here].child = node;
                node as usize
            });
        }
        self.nodes[here].literal = number;
    }

    fn add(&mut self, label: u32, sibling: u32) -> u32 {
        self.nodes.push(Node {
            label,
            sibling,
            child: NONE,
            literal: NONE,
        });
        u32::try_from(self.nodes.len() - 1)
            .expect("a table file has not four thousand million letters")
    }

    /// The node with this label, from this one of its siblings on.
    fn find(&self, first: u32, label: u32) -> Option<usize> {
        let mut at = first as usize;
        while let Some(node) = self.nodes.get(at) {
            if node.label == label {
                return Some(at);
            }
            at = node.sibling as usize;
        }
        None
    }
}

fn lower(byte: u8) -> u32 {
    u32::from(byte.to_ascii_lowercase())
}

/// Three letters, mixed well into a few bits.
fn bucket(label: u32) -> usize {
    (label.wrapping_mul(0x9e37_79b1) >> (u32::BITS - BUCKET_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn found(words: &[&str], text: &str) -> Vec<usize> {
        let literals = Literals::new(words.iter().map(|word| word.as_bytes()));
        let mut found = Vec::new();
        literals.each_in(text.as_bytes(), |at| found.push(at));
        found
    }

    #[test]
    fn words_are_found_anywhere_in_any_case_also_within_one_another() {
        let words = [
            "box",
            "mailbox full",
            "full",
            "mail",
            "voll",
            "größe",
            "ilb",
        ];
        assert_eq!(found(&words, "Your MAILBOX fullBOX"), [3, 1, 6, 0, 2, 0]);
        assert_eq!(found(&words, "Größe"), [5]);
        assert_eq!(found(&words, "mailbox ful"), [3, 6, 0]);
        assert_eq!(found(&words, "bo"), []);
        assert_eq!(found(&words, ""), []);
        assert_eq!(found(&[], "box"), []);
    }

    #[test]
    fn they_are_the_same_that_a_comparison_with_each_word_finds() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut letters = |least: usize, most: usize| -> String {
            let length = rng.random_range(least..=most);
            (0..length)
                .filter_map(|_| b"abcD".choose(&mut rng))
                .map(|byte| char::from(*byte))
                .collect()
        };
        let mut words: Vec<String> = (0..300)
            .map(|_| letters(3, 7).to_ascii_lowercase())
            .collect();
        words.sort_unstable();
        words.dedup();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for _ in 0..300 {
            let text = letters(0, 40);
            let folded = text.to_ascii_lowercase();
            let mut found = found(&words, &text);
            found.sort_unstable();
            let mut expected = Vec::new();
            for (at, word) in words.iter().enumerate() {
                let places = (0..folded.len()).filter(|from| folded[*from..].starts_with(word));
                expected.extend(places.map(|_| at));
            }
            assert_eq!(found, expected, "{text}");
        }
    }
}
