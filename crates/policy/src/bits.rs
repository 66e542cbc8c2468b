//! A set of small numbers, one bit each: rules by their place in the table, patterns by their index.

use std::ops::Range;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// No number, with room for those below `size`.
    pub fn none(size: usize) -> Bits {
        Bits(vec![0; size.div_ceil(64)])
    }

    /// Makes it the same as another one, in the memory it has.
    pub fn become_like(&mut self, other: &Bits) {
        self.0.clone_from(&other.0);
    }

    /// A number beyond its room is left out.
    pub fn put(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    #[cfg(test)]
    pub fn has(&self, at: usize) -> bool {
        self.0
            .get(at / 64)
            .is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Only what the others have, too; none of them: nothing.
    pub fn keep(&mut self, others: Option<&Bits>) {
        let others = others.map_or(&[][..], |bits| &bits.0);
        for (at, word) in self.0.iter_mut().enumerate() {
            *word &= others.get(at).copied().unwrap_or(0);
        }
    }

    /// What is in it, from the lowest.
    pub fn ones(&self) -> impl Iterator<Item = usize> {
        self.ones_within(0..self.0.len() * 64)
    }

    /// What of a range is in it, from the lowest.
    pub fn ones_within(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let words = range.start / 64..range.end.div_ceil(64).min(self.0.len());
        let first = words.start;
        let words = self.0.get(words).unwrap_or_default();
        words.iter().enumerate().flat_map(move |(at, word)| {
            let base = (first + at) * 64;
            let mut word =
                word & !below(range.start.saturating_sub(base)) & below(range.end - base);
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                // Clears the lowest bit; of an empty word nothing is left to clear.
                word &= word.checked_sub(1)?;
                Some(base + bit as usize)
            })
        })
    }
}

/// The bits below this one.
fn below(bit: usize) -> u64 {
    match bit {
        0..=63 => (1 << bit) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_in_order_and_within_a_range_only() {
        let mut bits = Bits::none(200);
        let all = [0, 1, 63, 64, 127, 128, 199];
        all.iter().rev().for_each(|at| bits.put(*at));
        bits.put(256);
        assert_eq!(bits.ones().collect::<Vec<_>>(), all);
        assert!(bits.has(199) && !bits.has(2) && !bits.has(256));
        for start in 0..=201 {
            for end in start..=300 {
                let within = all.into_iter().filter(|at| (start..end).contains(at));
                let found = bits.ones_within(start..end);
                assert!(found.eq(within), "{start}..{end}");
            }
        }
    }

    #[test]
    fn only_what_others_have_too_is_kept() {
        let mut bits = Bits::none(130);
        let mut others = Bits::none(130);
        [3, 70, 129].into_iter().for_each(|at| bits.put(at));
        [3, 71, 129].into_iter().for_each(|at| others.put(at));
        bits.keep(Some(&others));
        assert_eq!(bits.ones().collect::<Vec<_>>(), [3, 129]);
        bits.keep(None);
        assert_eq!(bits, Bits::none(130));
    }
}
