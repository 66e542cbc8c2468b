//! Makes a 7-bit message out of an 8-bit one, for a host without 8BITMIME (RFC 6152 section 3): each part that
//! has 8-bit bytes becomes quoted-printable or base64, everything else stays as it is.
//!
//! The message is read twice, in pieces: [`Scan`] finds out which parts need it and whether it can be done
//! at all, [`Converter`] does it. Header fields are not touched, but those that name the encoding.

mod encode;
mod walk;

use std::sync::Arc;

use encode::{Base64, QuotedPrintable};
use walk::{Entity, Kind, Sink, Walker};

/// Why a message stays as it is. Display is a reason for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotConvert {
    /// Encoding twice is forbidden (RFC 2045 section 6.4).
    #[error("a part that is said to be encoded, or that may not be, has 8-bit bytes all the same")]
    Opaque,
    /// RFC 1847 section 2.1: the signature covers the encoding.
    #[error("a signed part has 8-bit bytes; encoding them would break its signature")]
    Signed,
}

/// What is to be done to each part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By leaf, in the order of the message.
    leaves: Vec<Coding>,
    /// Of a message that has no MIME header and needs one.
    charset: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Keep,
    QuotedPrintable,
    Base64,
}

/// The first reading.
#[derive(Default)]
pub struct Scan {
    walker: Walker,
    found: Found,
}

#[derive(Default)]
struct Found {
    plan: Plan,
    /// How the leaf that is being read would be encoded; an error: not at all.
    present: Option<Result<Coding, CannotConvert>>,
    cannot: Option<CannotConvert>,
    utf8: Validity,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Validity {
    #[default]
    Valid,
    Broken,
}

impl Scan {
    /// The message from its first header field on, in any pieces.
    pub fn feed(&mut self, piece: &[u8]) {
        self.walker.feed(piece, &mut self.found);
    }

    pub fn end(mut self) -> Result<Arc<Plan>, CannotConvert> {
        self.walker.end(&mut self.found);
        if let Some(cannot) = self.found.cannot {
            return Err(cannot);
        }
        // RFC 1428 section 3 has the name for what is not known.
        self.found.plan.charset = match self.found.utf8 {
            Validity::Valid => "utf-8",
            Validity::Broken => "unknown-8bit",
        };
        Ok(Arc::new(self.found.plan))
    }
}

impl Sink for Found {
    fn entity(&mut self, entity: &Entity<'_>) {
        self.present = match entity.kind {
            Kind::Multipart | Kind::Message => None,
            Kind::Text => Some(Ok(Coding::QuotedPrintable)),
            Kind::Data => Some(Ok(Coding::Base64)),
            Kind::Opaque => Some(Err(CannotConvert::Opaque)),
            Kind::Signed => Some(Err(CannotConvert::Signed)),
        };
        if self.present.is_some() {
            self.plan.leaves.push(Coding::Keep);
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        if bytes.is_ascii() {
            return;
        }
        match self.present {
            Some(Ok(coding)) => {
                if let Some(leaf) = self.plan.leaves.last_mut() {
                    *leaf = coding;
                }
            }
            Some(Err(cannot)) => self.cannot = self.cannot.or(Some(cannot)),
            None => {}
        }
        if std::str::from_utf8(bytes).is_err() {
            self.utf8 = Validity::Broken;
        }
    }

    fn between(&mut self, _: &[u8]) {}
}

/// The second reading.
pub struct Converter {
    walker: Walker,
    writing: Writing,
}

struct Writing {
    plan: Arc<Plan>,
    /// Leaves that have begun.
    leaf: usize,
    coder: Coder,
    out: Vec<u8>,
}

enum Coder {
    Keep,
    QuotedPrintable(QuotedPrintable),
    Base64(Base64),
}

impl Converter {
    pub fn new(plan: Arc<Plan>) -> Converter {
        Converter {
            walker: Walker::default(),
            writing: Writing {
                plan,
                leaf: 0,
                coder: Coder::Keep,
                out: Vec::new(),
            },
        }
    }

    /// What a piece of the message becomes, as far as that is known by now.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.walker.feed(piece, &mut self.writing);
        std::mem::take(&mut self.writing.out)
    }

    /// What is still to come.
    pub fn end(&mut self) -> Vec<u8> {
        self.walker.end(&mut self.writing);
        self.writing.end_leaf(LineEnd::Content);
        std::mem::take(&mut self.writing.out)
    }
}

/// Whose the last line end before a boundary is (RFC 2046 section 5.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Content,
    Boundary,
}

impl Writing {
    fn end_leaf(&mut self, line_end: LineEnd) {
        match std::mem::replace(&mut self.coder, Coder::Keep) {
            Coder::Keep => {}
            Coder::QuotedPrintable(mut coder) => coder.end(&mut self.out),
            Coder::Base64(coder) => coder.end(line_end == LineEnd::Boundary, &mut self.out),
        }
    }

    fn coding(&mut self, kind: Kind) -> Coding {
        match kind {
            Kind::Multipart | Kind::Message => Coding::Keep,
            Kind::Text | Kind::Data | Kind::Opaque | Kind::Signed => {
                self.leaf += 1;
                let leaf = self.plan.leaves.get(self.leaf - 1);
                leaf.copied().unwrap_or(Coding::Keep)
            }
        }
    }

    /// The header with another encoding in it, and the empty line.
    fn header_with(&mut self, entity: &Entity<'_>, encoding: &str) {
        for field in crate::header::fields(entity.header) {
            if !field.is("Content-Transfer-Encoding") {
                self.out.extend_from_slice(field.raw);
            }
        }
        if entity.depth == 0 && !crate::header::has(entity.header, "MIME-Version") {
            self.out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        if entity.depth == 0 && !crate::header::has(entity.header, "Content-Type") {
            let charset = self.plan.charset;
            let line = format!("Content-Type: text/plain; charset={charset}\r\n");
            self.out.extend_from_slice(line.as_bytes());
        }
        let line = format!("Content-Transfer-Encoding: {encoding}\r\n\r\n");
        self.out.extend_from_slice(line.as_bytes());
    }
}

impl Sink for Writing {
    fn entity(&mut self, entity: &Entity<'_>) {
        let coding = self.coding(entity.kind);
        let composite = matches!(entity.kind, Kind::Multipart | Kind::Message);
        match coding {
            Coding::QuotedPrintable => {
                self.header_with(entity, "quoted-printable");
                self.coder = Coder::QuotedPrintable(QuotedPrintable::default());
            }
            Coding::Base64 => {
                self.header_with(entity, "base64");
                self.coder = Coder::Base64(Base64::default());
            }
            // What it holds is 7-bit now, and it may not say otherwise.
            Coding::Keep if composite && entity.says_8bit && !self.plan.keeps_all() => {
                self.header_with(entity, "7bit");
            }
            Coding::Keep => {
                self.out.extend_from_slice(entity.header);
                self.out.extend_from_slice(entity.empty_line);
            }
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        match &mut self.coder {
            Coder::Keep => self.out.extend_from_slice(bytes),
            Coder::QuotedPrintable(coder) => coder.feed(bytes, &mut self.out),
            Coder::Base64(coder) => coder.feed(bytes, &mut self.out),
        }
    }

    /// Nobody is to read what stands before the first boundary and behind the last (RFC 2046 section 5.1.1).
    fn between(&mut self, bytes: &[u8]) {
        self.end_leaf(LineEnd::Boundary);
        let seven_bit = |byte: &u8| if byte.is_ascii() { *byte } else { b'?' };
        self.out.extend(bytes.iter().map(seven_bit));
    }
}

impl Plan {
    /// Whether there is nothing to be done.
    pub fn keeps_all(&self) -> bool {
        self.leaves.iter().all(|leaf| *leaf == Coding::Keep)
    }
}

#[cfg(test)]
mod tests;
