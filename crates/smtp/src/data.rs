//! Dots: stuffing on the way out, unstuffing and the end of data on the way in (RFC 5321 section 4.5.2).
//! What a bare CR or LF leads to is the server's decision; here it is only seen.

use std::borrow::Cow;

use memchr::{memchr2, memmem};

/// The body as it goes on the wire after a 354: dots stuffed, a CRLF at the end, and the final dot.
/// One buffer, so that it can go out in one write.
pub fn stuff(body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(body.len() + body.len() / 64 + 6);
    let mut stuffer = Stuffer::default();
    stuffer.feed(body, &mut wire);
    stuffer.end(&mut wire);
    wire
}

/// Does what [`stuff`] does to a body that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stuffer {
    behind: Behind,
}

/// The last octets that were fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Behind {
    /// A CRLF, or nothing yet.
    #[default]
    LineEnd,
    Cr,
    Other,
}

impl Stuffer {
    /// Appends a piece to `out`, its dots stuffed.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut copied = 0;
        match (self.behind, piece) {
            (_, []) => return,
            (Behind::LineEnd, [b'.', ..]) => out.push(b'.'),
            (Behind::Cr, [b'\n', b'.', ..]) => {
                out.extend_from_slice(b"\n.");
                copied = 1;
            }
            (Behind::LineEnd | Behind::Cr | Behind::Other, [..]) => {}
        }
        for line_end in memmem::find_iter(piece, b"\r\n.") {
            let dot = line_end + 2;
            write(out, piece, copied, dot);
            out.push(b'.');
            copied = dot;
        }
        write(out, piece, copied, piece.len());
        self.behind = match (self.behind, piece) {
            (_, [.., b'\r', b'\n']) | (Behind::Cr, [b'\n']) => Behind::LineEnd,
            (_, [.., b'\r']) => Behind::Cr,
            (_, [..]) => Behind::Other,
        };
    }

    /// The CRLF that may be missing, and the final dot.
    pub fn end(self, out: &mut Vec<u8>) {
        match self.behind {
            Behind::LineEnd => {}
            Behind::Cr | Behind::Other => out.extend_from_slice(b"\r\n"),
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// The same text with each bare CR and bare LF made a CRLF: for text that comes from a file or over
/// HTTP. Borrowed if nothing had to change.
pub fn with_crlf(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr2(b'\r', b'\n', text.get(at..).unwrap_or_default()) {
        let end = at + found;
        if text.get(end..end + 2) == Some(b"\r\n") {
            at = end + 2;
            continue;
        }
        out.extend_from_slice(text.get(copied..end).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        at = end + 1;
        copied = at;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// What becomes of a CR or an LF that is not part of a CRLF (RFC 5321 section 2.3.8 forbids them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareLineEnds {
    /// The data is read to its end, which then says that the message must be refused.
    Reject,
    /// Each becomes a CRLF in the message. It still begins no line as far as dots are concerned.
    Normalize,
}

/// Reads the body after a 354: undoes dot stuffing, and finds the end of data.
///
/// The end is CRLF "." CRLF and nothing else: where LF "." LF, LF "." CRLF or CR "." CR ended data
/// too, a sender that passes them on as text could have a second message smuggled in by its user.
#[derive(Clone, Debug)]
pub struct Unstuffer {
    bare_line_ends: BareLineEnds,
    seen: Seen,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    CrlfOnly,
    BareLineEnd,
}

/// What the last byte was. Only a real CRLF, or the start of the data, makes a `LineStart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    /// A dot at the start of a line, not yet written: never part of the message.
    Dot,
    /// A CR behind that dot, not yet written.
    DotCr,
    Middle,
    /// A CR, not yet written.
    Cr,
    Ended,
}

/// What one chunk led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// How many octets of the input belong to the data. Less than all only at the end: what
    /// follows is the client's next command.
    pub used: usize,
    pub progress: Progress,
}

/// Whether the end of data was in the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Ended,
    /// The data has ended, and with `BareLineEnds::Reject` it must be refused: there was a bare CR
    /// or LF in it.
    EndedWithBareLineEnd,
}

impl Unstuffer {
    /// At the start of the data, directly after the 354.
    pub fn new(bare_line_ends: BareLineEnds) -> Unstuffer {
        Unstuffer {
            bare_line_ends,
            seen: Seen::CrlfOnly,
            state: State::LineStart,
        }
    }

    /// Reads a chunk and appends the message's own octets to `out`. The CRLF before the final dot
    /// is part of the message (RFC 5321 section 4.1.1.4). A caller that has had enough may clear
    /// `out` and go on feeding.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        // Octets from `copied` to `at` belong to the message as they are, and wait to be written.
        let mut copied = 0;
        let mut at = 0;
        while self.state != State::Ended {
            let Some(&byte) = input.get(at) else { break };
            match (self.state, byte) {
                (State::LineStart, b'.') => {
                    write(out, input, copied, at);
                    at += 1;
                    copied = at;
                    self.state = State::Dot;
                }
                (State::Dot, b'\r') => {
                    at += 1;
                    copied = at;
                    self.state = State::DotCr;
                }
                (State::DotCr, b'\n') => {
                    at += 1;
                    copied = at;
                    self.state = State::Ended;
                }
                (State::Cr, b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    at += 1;
                    copied = at;
                    self.state = State::LineStart;
                }
                (State::Cr | State::DotCr, _) => {
                    self.bare(b'\r', out);
                    self.state = State::Middle;
                }
                (State::LineStart | State::Dot | State::Middle, _) => {
                    (copied, at) = self.middle(input, copied, at, out);
                }
                // The loop's condition keeps it out.
                (State::Ended, _) => break,
            }
        }
        write(out, input, copied, at);
        Fed {
            used: at,
            progress: match (self.state, self.bare_line_ends, self.seen) {
                (State::Ended, BareLineEnds::Reject, Seen::BareLineEnd) => {
                    Progress::EndedWithBareLineEnd
                }
                (State::Ended, _, _) => Progress::Ended,
                (
                    State::LineStart | State::Dot | State::DotCr | State::Middle | State::Cr,
                    _,
                    _,
                ) => Progress::More,
            },
        }
    }

    /// Reads on from `at` through whole lines, to a line that begins with a dot, a CR whose LF has
    /// not come, a bare line end, or the end of the input. Returns the new `copied` and `at`.
    fn middle(
        &mut self,
        input: &[u8],
        copied: usize,
        mut at: usize,
        out: &mut Vec<u8>,
    ) -> (usize, usize) {
        self.state = State::Middle;
        while let Some(found) = memchr2(b'\r', b'\n', input.get(at..).unwrap_or_default()) {
            let end = at + found;
            match (input.get(end), input.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    at = end + 2;
                    if matches!(input.get(at), Some(b'.') | None) {
                        self.state = State::LineStart;
                        return (copied, at);
                    }
                }
                (Some(b'\r'), None) => {
                    write(out, input, copied, end);
                    self.state = State::Cr;
                    return (end + 1, end + 1);
                }
                (Some(&byte), _) => {
                    write(out, input, copied, end);
                    self.bare(byte, out);
                    return (end + 1, end + 1);
                }
                // memchr found it, so it is there.
                (None, _) => break,
            }
        }
        (copied, input.len())
    }

    fn bare(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.seen = Seen::BareLineEnd;
        match self.bare_line_ends {
            BareLineEnds::Reject => out.push(byte),
            BareLineEnds::Normalize => out.extend_from_slice(b"\r\n"),
        }
    }
}

fn write(out: &mut Vec<u8>, input: &[u8], from: usize, to: usize) {
    out.extend_from_slice(input.get(from..to).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds the chunks, and returns the message, how the data ended and how much was left over.
    fn unstuff(mode: BareLineEnds, chunks: &[&[u8]]) -> (Vec<u8>, Progress, Vec<u8>) {
        let mut unstuffer = Unstuffer::new(mode);
        let (mut out, mut left, mut progress) = (Vec::new(), Vec::new(), Progress::More);
        for chunk in chunks {
            if progress != Progress::More {
                left.extend_from_slice(chunk);
                continue;
            }
            let fed = unstuffer.feed(chunk, &mut out);
            progress = fed.progress;
            left.extend_from_slice(&chunk[fed.used..]);
        }
        (out, progress, left)
    }

    #[test]
    fn stuffing_adds_the_dots_the_line_end_and_the_final_dot() {
        for (body, wire) in [
            ("", ".\r\n"),
            ("\r\n", "\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".a\r\n.\r\n..b", "..a\r\n..\r\n...b\r\n.\r\n"),
            ("a.b\r\n .c\r\n", "a.b\r\n .c\r\n.\r\n"),
        ] {
            assert_eq!(stuff(body.as_bytes()), wire.as_bytes(), "{body:?}");
        }
    }

    #[test]
    fn data_ends_at_crlf_dot_crlf_and_the_rest_is_the_next_command() {
        for (wire, message, left) in [
            (".\r\nQUIT\r\n", "", "QUIT\r\n"),
            ("a\r\n.\r\n", "a\r\n", ""),
            ("..a\r\n.b\r\n..\r\n.\r\nx", ".a\r\nb\r\n.\r\n", "x"),
            ("\r\n.\r\n.\r\n", "\r\n", ".\r\n"),
        ] {
            assert_eq!(
                unstuff(BareLineEnds::Reject, &[wire.as_bytes()]),
                (message.into(), Progress::Ended, left.into()),
                "{wire:?}"
            );
        }
    }

    #[test]
    fn no_other_sequence_ends_data() {
        for fake_end in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\n.\r",
            "\r\n.\r\r\n",
            "\r\n\0.\r\n",
            "\r\r\n.\r\r\n",
            "\r\n.\n\r\n",
        ] {
            let wire = format!("a{fake_end}MAIL FROM:<x@y>\r\n");
            let (_, progress, _) = unstuff(BareLineEnds::Reject, &[wire.as_bytes()]);
            assert_eq!(progress, Progress::More, "{fake_end:?}");
            let wire = format!("{wire}.\r\nRSET\r\n");
            let (message, progress, left) = unstuff(BareLineEnds::Reject, &[wire.as_bytes()]);
            let bare = fake_end != "\r\n\0.\r\n";
            let wanted = if bare {
                Progress::EndedWithBareLineEnd
            } else {
                Progress::Ended
            };
            assert_eq!(progress, wanted, "{fake_end:?}");
            assert!(message.ends_with(b"MAIL FROM:<x@y>\r\n"));
            assert_eq!(left, b"RSET\r\n");
        }
    }

    #[test]
    fn normalized_line_ends_become_crlf_and_cannot_end_data_further_on() {
        let wire = b"a\nb\rc\n.\n.\r\n..d\r\n.\r\n";
        let (message, progress, _) = unstuff(BareLineEnds::Normalize, &[wire]);
        assert_eq!(message, b"a\r\nb\r\nc\r\n.\r\n.\r\n.d\r\n");
        assert_eq!(progress, Progress::Ended);
        assert_eq!(stuff(&message), b"a\r\nb\r\nc\r\n..\r\n..\r\n..d\r\n.\r\n");
    }

    #[test]
    fn text_with_other_line_ends_gets_crlf_and_other_text_is_not_copied() {
        assert_eq!(*with_crlf(b"a\nb\r\nc\rd\n"), *b"a\r\nb\r\nc\r\nd\r\n");
        assert!(matches!(with_crlf(b"a\r\nb"), Cow::Borrowed(b"a\r\nb")));
    }

    /// Bytes of the alphabet that matters, and some others.
    fn wire_bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![
                Just(b"\r\n".to_vec()),
                Just(b"\r\n.".to_vec()),
                Just(b".".to_vec()),
                Just(b"\r".to_vec()),
                Just(b"\n".to_vec()),
                Just(b"\r\n.\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..4),
            ],
            0..20,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn unstuffing_undoes_stuffing(raw in wire_bytes()) {
            let mut body = with_crlf(&raw).into_owned();
            let (message, progress, left) = unstuff(BareLineEnds::Reject, &[&stuff(&body)]);
            if !body.is_empty() && !body.ends_with(b"\r\n") {
                body.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(message, body);
            prop_assert_eq!(progress, Progress::Ended);
            prop_assert!(left.is_empty());
        }

        #[test]
        fn stuffing_in_pieces_gives_the_same(raw in wire_bytes(), size in 1usize..6) {
            let (mut stuffer, mut pieces) = (Stuffer::default(), Vec::new());
            raw.chunks(size).for_each(|piece| stuffer.feed(piece, &mut pieces));
            stuffer.end(&mut pieces);
            prop_assert_eq!(pieces, stuff(&raw));
        }

        #[test]
        fn any_split_of_the_data_gives_the_same(
            raw in wire_bytes(),
            size in 1usize..6,
            mode in prop_oneof![Just(BareLineEnds::Reject), Just(BareLineEnds::Normalize)],
        ) {
            let whole = unstuff(mode, &[&raw]);
            let chunks: Vec<&[u8]> = raw.chunks(size).collect();
            let split = unstuff(mode, &chunks);
            if whole.1 == Progress::More {
                // A CR or dot at the end is held back in both.
                prop_assert_eq!(&split.1, &whole.1);
            }
            prop_assert_eq!(split, whole);
        }

        #[test]
        fn a_normalized_message_has_crlf_only(raw in wire_bytes()) {
            let (message, progress, _) = unstuff(BareLineEnds::Normalize, &[&raw]);
            if progress == Progress::Ended {
                prop_assert!(matches!(with_crlf(&message), Cow::Borrowed(_)));
            }
        }
    }
}
