//! The message as it goes on the wire: signatures, the body with its dots stuffed, the final dot; made
//! piece by piece while it is sent, so that no session holds a large message.

use relay_message::seven_bit::Converter;
use relay_queue::body::Pieces;
use relay_queue::{Body, StoreError};
use relay_smtp::client::Form;
use relay_smtp::data::Stuffer;

use crate::prepared::Prepared;

/// One sending of one message.
pub(crate) struct Outgoing {
    /// What goes before the body, until it has gone.
    before: Vec<u8>,
    pieces: Pieces,
    /// None: the body goes as it is.
    converter: Option<Converter>,
    stuffer: Stuffer,
    form: Form,
    /// Bytes of the body that have not been read.
    left: u64,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    ToCome,
    Given,
}

impl Outgoing {
    /// The signatures are ours: whole lines, none of which starts with a dot. So they go before the
    /// stuffed message as they are.
    pub fn new(prepared: &Prepared, body: &Body) -> Outgoing {
        Outgoing {
            before: prepared.signatures.to_vec(),
            pieces: body.pieces(),
            converter: prepared.convert.clone().map(Converter::new),
            stuffer: Stuffer::default(),
            form: Form::Dots,
            left: body.len(),
            end: End::ToCome,
        }
    }

    pub fn in_form(self, form: Form) -> Outgoing {
        Outgoing { form, ..self }
    }

    /// The next piece. None: that was all. A small message comes in one piece, and so goes out in one
    /// write. After an error there is no final dot, or too little: the peer never gets the message whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.end == End::Given {
            return Ok(None);
        }
        let mut out = std::mem::take(&mut self.before);
        if let Some(piece) = self.pieces.next().await? {
            out.reserve(piece.len() + piece.len() / 64 + 6);
            match self.converter.as_mut().map(|one| one.feed(&piece)) {
                None => self.put(&piece, &mut out),
                Some(converted) => self.put(&converted, &mut out),
            }
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        if self.left == 0 {
            if let Some(rest) = self.converter.as_mut().map(Converter::end) {
                self.put(&rest, &mut out);
            }
            match self.form {
                Form::Dots => self.stuffer.end(&mut out),
                Form::Chunk => {}
            }
            self.end = End::Given;
        }
        Ok(Some(out))
    }

    fn put(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match self.form {
            Form::Dots => self.stuffer.feed(piece, out),
            Form::Chunk => out.extend_from_slice(piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use relay_smtp::data::stuff;
    use relay_smtp::envelope::{BodyType, Utf8};

    #[tokio::test]
    async fn the_pieces_are_the_signatures_and_the_stuffed_message() {
        let line = ".a line\r\n".repeat(20_000);
        for body in ["", "hello", "a\r\n.\r\n", &line] {
            let prepared = Prepared {
                signatures: Bytes::from_static(b"DKIM-Signature: x\r\n"),
                size: 0,
                body_type: BodyType::SevenBit,
                utf8: Utf8::NotNeeded,
                convert: None,
            };
            let mut outgoing = Outgoing::new(&prepared, &body.to_owned().into());
            let (mut wire, mut count) = (Vec::new(), 0);
            while let Some(piece) = outgoing.next().await.unwrap() {
                wire.extend_from_slice(&piece);
                count += 1;
            }
            let wanted = [b"DKIM-Signature: x\r\n", &stuff(body.as_bytes())[..]].concat();
            assert!(wire == wanted, "{} bytes", body.len());
            assert_eq!(count == 1, body.len() < 1000);
            let outgoing = Outgoing::new(&prepared, &body.to_owned().into());
            let (mut outgoing, mut wire) = (outgoing.in_form(Form::Chunk), Vec::new());
            while let Some(piece) = outgoing.next().await.unwrap() {
                wire.extend_from_slice(&piece);
            }
            let wanted = [b"DKIM-Signature: x\r\n", body.as_bytes()].concat();
            assert!(wire == wanted, "a chunk is the message as it is");
        }
    }
}
