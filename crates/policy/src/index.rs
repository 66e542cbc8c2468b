//! Which rules can match a reply at all, as sets of bits: by basic code, by phase, by enhanced code and by the texts that may be
//! found in it.

use std::ops::RangeInclusive;

use relay_smtp::{EnhancedStatus, Phase};

use crate::bits::Bits;
use crate::pattern::EnhancedPattern;

/// The rules that are worth a closer look, by their place in the table.
#[derive(Debug)]
pub(crate) struct Index {
    /// For the codes from 100 to 599.
    by_code: Vec<Bits>,
    /// In the order of `Phase::ALL`.
    by_phase: Vec<Bits>,
    /// The rules that ask for no enhanced code.
    without_enhanced: Bits,
    /// Those that take one with this subject, and with this detail: two short lists in place of one of all codes, so
    /// that some rules are looked at in vain. The last of each is for all higher numbers.
    by_subject: Vec<Bits>,
    by_detail: Vec<Bits>,
    without_text: Bits,
    /// For each text the rule it stands in.
    owners: Vec<usize>,
}

/// What the index must know of a rule.
pub(crate) struct Entry<'r> {
    pub takes_code: &'r dyn Fn(u16) -> bool,
    pub takes_phase: &'r dyn Fn(Phase) -> bool,
    pub enhanced: &'r [EnhancedPattern],
    pub texts: usize,
}

/// What the index is asked: what is known of a reply.
pub(crate) struct Question<'q> {
    pub code: u16,
    pub phase: Phase,
    pub enhanced: Option<EnhancedStatus>,
    /// The texts that may be found in it.
    pub texts: &'q Bits,
}

const FIRST_CODE: u16 = 100;
const LAST_CODE: u16 = 599;
/// RFC 3463 has subjects up to 7, and of details few are above these.
const LAST_SUBJECT: u16 = 7;
const LAST_DETAIL: u16 = 63;

impl Index {
    /// An index of so many rules, to be filled in the order of the table.
    pub fn new(rules: usize) -> Index {
        let none = Bits::none(rules);
        Index {
            by_code: (FIRST_CODE..=LAST_CODE).map(|_| none.clone()).collect(),
            by_phase: vec![none.clone(); Phase::ALL.len()],
            without_enhanced: none.clone(),
            by_subject: (0..=LAST_SUBJECT + 1).map(|_| none.clone()).collect(),
            by_detail: (0..=LAST_DETAIL + 1).map(|_| none.clone()).collect(),
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
        if entry.enhanced.is_empty() {
            self.without_enhanced.put(rule);
        }
        let any = |takes: &dyn Fn(&EnhancedPattern) -> bool| {
            entry.enhanced.is_empty() || entry.enhanced.iter().any(takes)
        };
        for (number, bits) in (0..).zip(&mut self.by_subject) {
            if any(&|pattern| pattern.takes_subject(numbers(number, LAST_SUBJECT))) {
                bits.put(rule);
            }
        }
        for (number, bits) in (0..).zip(&mut self.by_detail) {
            if any(&|pattern| pattern.takes_detail(numbers(number, LAST_DETAIL))) {
                bits.put(rule);
            }
        }
        if entry.texts == 0 {
            self.without_text.put(rule);
        }
        self.owners.extend(std::iter::repeat_n(rule, entry.texts));
    }

    /// The rules that take this code, phase and enhanced code and have no text, or one of these; first rule first.
    /// `bits`: memory to work in.
    pub fn candidates<'b>(
        &self,
        question: &Question<'_>,
        bits: &'b mut Bits,
    ) -> impl Iterator<Item = usize> + use<'b> {
        bits.become_like(&self.without_text);
        for text in question.texts.ones() {
            // Texts behind those of the rules are guards'.
            if let Some(rule) = self.owners.get(text) {
                bits.put(*rule);
            }
        }
        let code = question.code.checked_sub(FIRST_CODE);
        bits.keep(code.and_then(|at| self.by_code.get(usize::from(at))));
        bits.keep(self.by_phase.get(question.phase as usize));
        match question.enhanced {
            None => bits.keep(Some(&self.without_enhanced)),
            Some(EnhancedStatus {
                class: _,
                subject,
                detail,
            }) => {
                let (subject, detail) =
                    (subject.min(LAST_SUBJECT + 1), detail.min(LAST_DETAIL + 1));
                bits.keep(self.by_subject.get(usize::from(subject)));
                bits.keep(self.by_detail.get(usize::from(detail)));
            }
        }
        bits.ones()
    }
}

/// The numbers that one place of a list stands for.
fn numbers(place: u16, last: u16) -> RangeInclusive<u16> {
    match place <= last {
        true => place..=place,
        false => place..=u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_the_code_the_phase_the_enhanced_code_and_the_found_texts_are_looked_at_in_their_order()
     {
        let mut index = Index::new(130);
        let enhanced =
            ["x.1.1", "4.7.6xx", "5.9.x"].map(|one| EnhancedPattern::parse(one).unwrap());
        for rule in 0..130 {
            let entry = Entry {
                takes_code: &|code| code != 550 || rule % 2 == 0,
                takes_phase: &|phase| phase != Phase::Mail || rule % 3 == 0,
                enhanced: if rule < 120 { &[] } else { &enhanced },
                // Rule 0 has no text, rule 1 one, rule 2 two, rule 3 none...
                texts: rule % 3,
            };
            index.put(rule, &entry);
        }
        let asked = |code, phase, enhanced: Option<&str>, texts: &[usize]| -> Vec<usize> {
            let mut found = Bits::none(130);
            texts.iter().for_each(|text| found.put(*text));
            let question = Question {
                code,
                phase,
                enhanced: enhanced.map(|code| code.parse().unwrap()),
                texts: &found,
            };
            index.candidates(&question, &mut Bits::default()).collect()
        };
        let found = |code, phase, texts: &[usize]| asked(code, phase, None, texts);
        let without_text: Vec<usize> = (0..120).filter(|rule| rule % 3 == 0).collect();
        assert_eq!(found(421, Phase::Rcpt, &[]), without_text);
        assert_eq!(found(421, Phase::Rcpt, &[2, 1])[..3], [0, 2, 3]);
        assert_eq!(found(550, Phase::Mail, &[0, 1])[..2], [0, 6]);
        assert_eq!(found(99, Phase::Rcpt, &[0]), []);
        assert_eq!(found(600, Phase::Rcpt, &[0]), []);
        for (code, taken) in [
            ("5.1.1", true),
            ("4.7.600", true),
            ("5.9.0", true),
            // Subject and detail of two patterns: looked at in vain.
            ("5.7.1", true),
            ("5.8.1", true),
            ("5.7.2", true),
            ("5.2.1", false),
        ] {
            let found = asked(421, Phase::Rcpt, Some(code), &[]);
            assert_eq!(found.contains(&120), taken, "{code}");
            assert!(found.contains(&0));
        }
    }
}
