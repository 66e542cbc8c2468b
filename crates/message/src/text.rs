//! Text made safe for a header or a report: folded, in one line, in ASCII, quoted-printable. Used
//! for words that strangers wrote, so nothing here lets a line end through.

/// Columns that a line may fill (RFC 5322 section 2.1.1 wants at most 78).
const COLUMNS: usize = 78;
/// Columns of a paragraph: short enough not to be broken again by quoted-printable.
const PARAGRAPH_COLUMNS: usize = 72;
/// Longest word in octets before it is cut: a line may never pass 998 (RFC 5322 section 2.1.1).
const WORD_MAX: usize = 900;

/// A field: its name with the colon, and its words with folds between them where the line is full.
/// Ends in CRLF. The words hold no line ends.
pub(crate) fn fold<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> String {
    let mut out = name.to_owned();
    let mut columns = name.chars().count();
    for word in words.flat_map(pieces) {
        let width = word.chars().count();
        if columns + 1 + width > COLUMNS && columns > 1 {
            out.push_str("\r\n");
            columns = 0;
        }
        // The fold stands before the space, so that unfolding gives back the very same text.
        out.push(' ');
        out.push_str(word);
        columns += 1 + width;
    }
    out.push_str("\r\n");
    out
}

/// A word too long for any line, in pieces; all others whole.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(rest.floor_char_boundary(WORD_MAX));
        rest = after;
        Some(piece)
    })
}

/// One line of at most `octets_max`: control characters and runs of white space become one space.
pub(crate) fn one_line(text: &str, octets_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(octets_max));
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > octets_max {
            line.truncate(line.floor_char_boundary(octets_max.saturating_sub(3)));
            line.push_str("...");
            break;
        }
    }
    line
}

/// Non-ASCII characters become question marks: for fields that are ASCII by definition.
pub(crate) fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect()
}

/// A paragraph filled to `PARAGRAPH_COLUMNS`, each line behind `indent`, ending in CRLF.
pub(crate) fn paragraph(indent: &str, text: &str) -> String {
    let mut out = String::new();
    let mut columns = 0;
    for word in text.split_whitespace().flat_map(pieces) {
        let width = word.chars().count();
        if columns == 0 {
            out.push_str(indent);
            columns = indent.len() + width;
        } else if columns + 1 + width > PARAGRAPH_COLUMNS {
            out.push_str("\r\n");
            out.push_str(indent);
            columns = indent.len() + width;
        } else {
            out.push(' ');
            columns += 1 + width;
        }
        out.push_str(word);
    }
    out.push_str("\r\n");
    out
}

/// Undoes xtext (RFC 3461 section 4). None: it is no xtext.
pub(crate) fn decode_xtext(xtext: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(xtext.len());
    let mut rest = xtext.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Text with CRLF line ends as quoted-printable (RFC 2045 section 6.7).
pub(crate) fn quoted_printable(text: &[u8]) -> String {
    const LINE_MAX: usize = 76;
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut columns = 0;
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if rest.starts_with(b"\r\n") {
            out.push_str("\r\n");
            columns = 0;
            rest = rest.get(2..).unwrap_or_default();
            continue;
        }
        // White space at the end of a line would not survive.
        let at_end = after.is_empty() || after.starts_with(b"\r\n");
        let plain =
            (byte.is_ascii_graphic() && byte != b'=') || (matches!(byte, b' ' | b'\t') && !at_end);
        let width = if plain { 1 } else { 3 };
        // One column is kept for the soft line break's own sign.
        if columns + width > LINE_MAX - 1 {
            out.push_str("=\r\n");
            columns = 0;
        }
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("={byte:02X}"));
        }
        columns += width;
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_before_they_are_full_and_endless_words_are_cut() {
        let field = fold("X:", std::iter::repeat_n("0123456789", 30));
        assert!(field.lines().all(|line| line.len() <= 78));
        let long = "y".repeat(5000);
        let field = fold("X:", [long.as_str()].into_iter());
        assert!(field.lines().all(|line| line.len() < 998));
        assert_eq!(field.matches('y').count(), 5000);
    }

    #[test]
    fn nothing_gets_a_line_end_through() {
        let text = one_line("a\r\nX: y\n\n\u{85}\u{2028} b\0c\t", 100);
        assert_eq!(text, "a X: y b c");
        assert_eq!(
            one_line(&"\u{fc}x".repeat(100), 12),
            "\u{fc}x\u{fc}x\u{fc}x..."
        );
    }

    #[test]
    fn xtext_is_decoded_and_junk_is_none() {
        assert_eq!(decode_xtext("a+2Bb@c+3Dd").as_deref(), Some("a+b@c=d"));
        for junk in ["+", "+2", "+zz", "+C3"] {
            assert_eq!(decode_xtext(junk), None, "{junk}");
        }
    }

    #[test]
    fn quoted_printable_keeps_lines_short_and_white_space_alive() {
        assert_eq!(
            quoted_printable("a \r\nb=\u{fc}\t".as_bytes()),
            "a=20\r\nb=3D=C3=BC=09"
        );
        let text = quoted_printable(&[b'x'; 200]);
        assert!(text.split("\r\n").all(|line| line.len() <= 76));
        assert_eq!(text.replace("=\r\n", ""), "x".repeat(200));
    }
}
