//! The two encodings of RFC 2045, section 6.7 and 6.8, for what comes in pieces.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest line without its end.
const LINE_MAX: usize = 76;

/// Keeps the lines of its input.
#[derive(Default)]
pub(super) struct QuotedPrintable {
    /// Octets in the present line.
    column: usize,
    /// A space, tab or CR: what it becomes depends on what follows.
    held: Option<u8>,
}

impl QuotedPrintable {
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            match (self.held.take(), byte) {
                (Some(b'\r'), b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    self.column = 0;
                    continue;
                }
                // At the end of a line white space would be lost on the way.
                (Some(blank), b'\r') if blank != b'\r' => self.escaped(blank, out),
                (Some(b'\r'), _) => self.escaped(b'\r', out),
                (Some(blank), _) => self.put(&[blank], out),
                (None, _) => {}
            }
            match byte {
                b' ' | b'\t' | b'\r' => self.held = Some(byte),
                b'!'..=b'<' | b'>'..=b'~' => self.put(&[byte], out),
                _ => self.escaped(byte, out),
            }
        }
    }

    pub fn end(&mut self, out: &mut Vec<u8>) {
        if let Some(byte) = self.held.take() {
            self.escaped(byte, out);
        }
    }

    fn escaped(&mut self, byte: u8, out: &mut Vec<u8>) {
        const HEX: [u8; 16] = *b"0123456789ABCDEF";
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
        self.put(&[b'=', digit(byte >> 4), digit(byte & 15)], out);
    }

    fn put(&mut self, token: &[u8], out: &mut Vec<u8>) {
        // One octet is left for the soft line break.
        if self.column + token.len() >= LINE_MAX {
            out.extend_from_slice(b"=\r\n");
            self.column = 0;
        }
        out.extend_from_slice(token);
        self.column += token.len();
    }
}

/// Octets that fill a line.
const LINE_OCTETS: usize = LINE_MAX / 4 * 3;

#[derive(Default)]
pub(super) struct Base64 {
    /// Less than a line, and two octets more: the last line end may not be content.
    held: Vec<u8>,
}

impl Base64 {
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        let mut used = 0;
        while self.held.len() - used >= LINE_OCTETS + 2 {
            let line = self.held.get(used..used + LINE_OCTETS).unwrap_or_default();
            write_line(line, out);
            used += LINE_OCTETS;
        }
        self.held.drain(..used);
    }

    /// `before_boundary`: the line end before it belongs to the boundary.
    pub fn end(mut self, before_boundary: bool, out: &mut Vec<u8>) {
        if before_boundary {
            let content = self.held.strip_suffix(b"\n").unwrap_or(&self.held);
            let length = content.strip_suffix(b"\r").unwrap_or(content).len();
            self.held.truncate(length);
        }
        for line in self.held.chunks(LINE_OCTETS) {
            write_line(line, out);
        }
    }
}

fn write_line(octets: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(STANDARD.encode(octets).as_bytes());
    out.extend_from_slice(b"\r\n");
}
