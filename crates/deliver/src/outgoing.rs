//! The message as it goes on the wire: signatures, the body with its dots stuffed, the final dot; made
//! piece by piece while it is sent, so that no session holds a large message.

use relay_queue::body::Pieces;
use relay_queue::{Body, StoreError};
use relay_smtp::data::Stuffer;

/// One sending of one message.
pub(crate) struct Outgoing {
    /// What goes before the body, until it has gone.
    before: Vec<u8>,
    pieces: Pieces,
    stuffer: Stuffer,
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
    pub fn new(signatures: &[u8], body: &Body) -> Outgoing {
        Outgoing {
            before: signatures.to_vec(),
            pieces: body.pieces(),
            stuffer: Stuffer::default(),
            left: body.len(),
            end: End::ToCome,
        }
    }

    /// The next piece. None: that was all. A small message comes in one piece, and so goes out in one
    /// write. After an error there is no final dot: the peer never gets the message whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.end == End::Given {
            return Ok(None);
        }
        let mut out = std::mem::take(&mut self.before);
        if let Some(piece) = self.pieces.next().await? {
            out.reserve(piece.len() + piece.len() / 64 + 6);
            self.stuffer.feed(&piece, &mut out);
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        if self.left == 0 {
            self.stuffer.end(&mut out);
            self.end = End::Given;
        }
        Ok(Some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_smtp::data::stuff;

    #[tokio::test]
    async fn the_pieces_are_the_signatures_and_the_stuffed_message() {
        let line = ".a line\r\n".repeat(20_000);
        for body in ["", "hello", "a\r\n.\r\n", &line] {
            let mut outgoing = Outgoing::new(b"DKIM-Signature: x\r\n", &body.to_owned().into());
            let (mut wire, mut count) = (Vec::new(), 0);
            while let Some(piece) = outgoing.next().await.unwrap() {
                wire.extend_from_slice(&piece);
                count += 1;
            }
            let wanted = [b"DKIM-Signature: x\r\n", &stuff(body.as_bytes())[..]].concat();
            assert!(wire == wanted, "{} bytes", body.len());
            assert_eq!(count == 1, body.len() < 1000);
        }
    }
}
