//! The octets of BDAT chunks (RFC 3030): they are counted and not looked through for an end, so no dot
//! stands for anything in them. Bare line ends are seen, as in what DATA brings.

use memchr::memchr2;

use crate::data::BareLineEnds;

/// Puts together a message that comes in chunks, in any pieces.
#[derive(Clone, Debug)]
pub struct Unchunker {
    bare_line_ends: BareLineEnds,
    seen: Seen,
    behind: Behind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    CrlfOnly,
    BareLineEnd,
}

/// The last octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// The LF of a CRLF, or nothing yet.
    LineEnd,
    /// A CR, not yet written.
    Cr,
    Other,
}

/// Whether the message may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Well,
    /// With `BareLineEnds::Reject`: there was a CR or LF that is not part of a CRLF.
    WithBareLineEnd,
}

impl Unchunker {
    pub fn new(bare_line_ends: BareLineEnds) -> Unchunker {
        Unchunker {
            bare_line_ends,
            seen: Seen::CrlfOnly,
            behind: Behind::LineEnd,
        }
    }

    /// Appends a piece to `out`. A CRLF may lie across two chunks.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let (mut copied, mut at) = (0, 0);
        if piece.is_empty() {
            return;
        }
        if self.behind == Behind::Cr {
            match piece.first() {
                Some(b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    (copied, at) = (1, 1);
                }
                Some(_) | None => self.bare(b'\r', out),
            }
        }
        self.behind = Behind::Other;
        while let Some(found) = memchr2(b'\r', b'\n', piece.get(at..).unwrap_or_default()) {
            let end = at + found;
            match (piece.get(end), piece.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => at = end + 2,
                (Some(b'\r'), None) => {
                    out.extend_from_slice(piece.get(copied..end).unwrap_or_default());
                    self.behind = Behind::Cr;
                    return;
                }
                (Some(&byte), _) => {
                    out.extend_from_slice(piece.get(copied..end).unwrap_or_default());
                    self.bare(byte, out);
                    at = end + 1;
                    copied = at;
                }
                // memchr found it, so it is there.
                (None, _) => break,
            }
        }
        out.extend_from_slice(piece.get(copied..).unwrap_or_default());
        if out.ends_with(b"\r\n") {
            self.behind = Behind::LineEnd;
        }
    }

    /// After the last chunk. The message gets the CRLF at its end that DATA could not do without: all that
    /// is done with it later counts on that.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Ended {
        match self.behind {
            Behind::LineEnd => {}
            Behind::Cr => self.bare(b'\r', out),
            Behind::Other => out.extend_from_slice(b"\r\n"),
        }
        self.behind = Behind::LineEnd;
        match (self.seen, self.bare_line_ends) {
            (Seen::BareLineEnd, BareLineEnds::Reject) => Ended::WithBareLineEnd,
            (Seen::CrlfOnly | Seen::BareLineEnd, _) => Ended::Well,
        }
    }

    fn bare(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.seen = Seen::BareLineEnd;
        match self.bare_line_ends {
            BareLineEnds::Reject => out.push(byte),
            BareLineEnds::Normalize => out.extend_from_slice(b"\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::with_crlf;
    use proptest::prelude::*;

    fn together(mode: BareLineEnds, pieces: &[&[u8]]) -> (Vec<u8>, Ended) {
        let (mut unchunker, mut out) = (Unchunker::new(mode), Vec::new());
        for piece in pieces {
            unchunker.feed(piece, &mut out);
        }
        let ended = unchunker.end(&mut out);
        (out, ended)
    }

    #[test]
    fn dots_mean_nothing_and_the_last_line_is_ended() {
        for (pieces, message) in [
            (vec![""], ""),
            (vec!["a\r\n.\r\nQUIT\r\n"], "a\r\n.\r\nQUIT\r\n"),
            (vec!["..a"], "..a\r\n"),
            (vec!["a\r", "\n", "", "b"], "a\r\nb\r\n"),
        ] {
            let bytes: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let wanted = (message.as_bytes().to_vec(), Ended::Well);
            assert_eq!(together(BareLineEnds::Reject, &bytes), wanted, "{pieces:?}");
        }
    }

    #[test]
    fn bare_line_ends_are_seen_wherever_chunks_end() {
        for pieces in [
            vec!["a\nb"],
            vec!["a\r", "b"],
            vec!["\r"],
            vec!["a\r\r\n"],
            vec!["\n"],
        ] {
            let bytes: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let (_, ended) = together(BareLineEnds::Reject, &bytes);
            assert_eq!(ended, Ended::WithBareLineEnd, "{pieces:?}");
            let (message, ended) = together(BareLineEnds::Normalize, &bytes);
            assert_eq!(ended, Ended::Well);
            assert_eq!(*with_crlf(&message), message, "{pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            raw in "([a.]{0,3}|\r\n|\r|\n){0,12}",
            size in 1usize..5,
            mode in prop_oneof![Just(BareLineEnds::Reject), Just(BareLineEnds::Normalize)],
        ) {
            let pieces: Vec<&[u8]> = raw.as_bytes().chunks(size).collect();
            prop_assert_eq!(together(mode, &pieces), together(mode, &[raw.as_bytes()]));
        }
    }
}
