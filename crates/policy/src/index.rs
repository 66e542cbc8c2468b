//! Which rules can match a reply at all, as sets of bits: by basic code, by phase and by the texts that may be found in it.

use relay_smtp::Phase;

/// The rules that are worth a closer look, by their place in the table.
#[derive(Debug)]
pub(crate) struct Index {
    /// For the codes from 100 to 599.
    by_code: Vec<Bits>,
    /// In the order of `Phase::ALL`.
    by_phase: Vec<Bits>,
    without_text: Bits,
    /// For each text the rule it stands in.
    owners: Vec<usize>,
}

/// What the index must know of a rule.
pub(crate) struct Entry<'r> {
    pub takes_code: &'r dyn Fn(u16) -> bool,
    pub takes_phase: &'r dyn Fn(Phase) -> bool,
    pub texts: usize,
}

/// One bit for each rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

const FIRST_CODE: u16 = 100;
const LAST_CODE: u16 = 599;

impl Index {
    /// An index of so many rules, to be filled in the order of the table.
    pub fn new(rules: usize) -> Index {
        let none = Bits(vec![0; rules.div_ceil(64)]);
        Index {
            by_code: (FIRST_CODE..=LAST_CODE).map(|_| none.clone()).collect(),
            by_phase: vec![none.clone(); Phase::ALL.len()],
            without_text: none,
            owners: Vec::new(),
        }
    }

    pub fn put(&mut self, rule: usize, entry: &Entry<'_>) {
        for (code, bits) in (FIRST_CODE..).zip(&mut self.by_code) {
            if (entry.takes_code)(code) {
                bits.put(rule);
            }
        }
        for (phase, bits) in Phase::ALL.into_iter().zip(&mut self.by_phase) {
            if (entry.takes_phase)(phase) {
                bits.put(rule);
            }
        }
        if entry.texts == 0 {
            self.without_text.put(rule);
        }
        self.owners.extend(std::iter::repeat_n(rule, entry.texts));
    }

    /// The rules that take this code and phase and have no text, or one of these; first rule first.
    /// `bits`: memory to work in.
    pub fn candidates<'b>(
        &self,
        code: u16,
        phase: Phase,
        texts: &[usize],
        bits: &'b mut Bits,
    ) -> impl Iterator<Item = usize> + use<'b> {
        bits.0.clone_from(&self.without_text.0);
        for text in texts {
            // Texts behind those of the rules are guards'.
            if let Some(rule) = self.owners.get(*text) {
                bits.put(*rule);
            }
        }
        let by_code = code
            .checked_sub(FIRST_CODE)
            .and_then(|at| self.by_code.get(usize::from(at)));
        bits.keep(by_code);
        bits.keep(self.by_phase.get(phase as usize));
        bits.ones()
    }
}

impl Bits {
    fn put(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// Only what the others have, too; none of them: nothing.
    fn keep(&mut self, others: Option<&Bits>) {
        let others = others.map_or(&[][..], |bits| &bits.0);
        for (at, word) in self.0.iter_mut().enumerate() {
            *word &= others.get(at).copied().unwrap_or(0);
        }
    }

    fn ones(&self) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .copied()
            .enumerate()
            .flat_map(|(at, mut word)| {
                std::iter::from_fn(move || {
                    let bit = word.trailing_zeros();
                    // Clears the lowest bit; of an empty word nothing is left to clear.
                    word &= word.checked_sub(1)?;
                    Some(at * 64 + bit as usize)
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_the_code_the_phase_and_the_found_texts_are_looked_at_in_their_order() {
        let mut index = Index::new(130);
        for rule in 0..130 {
            let entry = Entry {
                takes_code: &|code| code != 550 || rule % 2 == 0,
                takes_phase: &|phase| phase != Phase::Mail || rule % 3 == 0,
                // Rule 0 has no text, rule 1 one, rule 2 two, rule 3 none...
                texts: rule % 3,
            };
            index.put(rule, &entry);
        }
        let found = |code, phase, texts: &[usize]| -> Vec<usize> {
            let mut bits = Bits::default();
            index.candidates(code, phase, texts, &mut bits).collect()
        };
        let without_text: Vec<usize> = (0..130).filter(|rule| rule % 3 == 0).collect();
        assert_eq!(found(421, Phase::Rcpt, &[]), without_text);
        assert_eq!(found(421, Phase::Rcpt, &[2, 1])[..3], [0, 2, 3]);
        assert_eq!(found(550, Phase::Mail, &[0, 1])[..2], [0, 6]);
        assert_eq!(found(99, Phase::Rcpt, &[0]), []);
        assert_eq!(found(600, Phase::Rcpt, &[0]), []);
    }
}
