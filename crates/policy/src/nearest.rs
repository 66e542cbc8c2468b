//! Words of which one must be written; a typing error is told with what was probably meant.

pub(crate) fn one_of<T: Copy>(
    what: &str,
    written: &str,
    all: &[T],
    word_of: impl Fn(T) -> &'static str,
) -> Result<T, String> {
    let words = || all.iter().map(|one| word_of(*one));
    let found = all.iter().copied().find(|one| word_of(*one) == written);
    found.ok_or_else(|| {
        let meant = match nearest(written, words()) {
            Some(word) => format!("perhaps {word:?} is meant; "),
            None => String::new(),
        };
        let words: Vec<&str> = words().collect();
        format!(
            "{written:?}: unknown {what}; {meant}write one of {}",
            words.join(", ")
        )
    })
}

/// The one that differs least, if it differs by a few letters only or goes on where the written one ends.
fn nearest<'w>(written: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let written = written.to_ascii_lowercase().replace(['_', ' '], "-");
    let differs = |word: &str| {
        let letters = strsim::levenshtein(&written, &word.replace('_', "-"));
        let begins = written.len() >= BEGINNING_MIN && word.starts_with(&written);
        (begins || letters <= DIFFERENCE_MAX && letters * 2 < word.len()).then_some(letters)
    };
    let close = words.filter_map(|word| Some((differs(word)?, word)));
    close
        .min_by_key(|(letters, _)| *letters)
        .map(|(_, word)| word)
}

const DIFFERENCE_MAX: usize = 3;
const BEGINNING_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_close_to_what_was_meant_and_other_words_are_not() {
        let words = [
            "greylisted",
            "mailbox-full",
            "ip-blocked",
            "virus",
            "bounce_suppress",
            "ok",
        ];
        for (written, meant) in [
            ("greylist", Some("greylisted")),
            ("graylisted", Some("greylisted")),
            ("mailbox_full", Some("mailbox-full")),
            ("Mailbox full", Some("mailbox-full")),
            ("ip-bloked", Some("ip-blocked")),
            ("bounce-suppress", Some("bounce_suppress")),
            ("vir", Some("virus")),
            ("lunch", None),
            ("no", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, words.into_iter()), meant, "{written}");
        }
    }
}
