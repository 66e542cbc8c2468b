//! BDAT of the server (RFC 3030): chunks are counted, the last one makes the message. What belongs to a chunk
//! is never taken for a command, also when the chunk is refused.

use super::transaction::Data;
use super::{Session, State, reply};
use crate::command::{Chunk, ChunkPlace};
use crate::data::Progress;
use crate::reply::Reply;

/// How far the chunks of a transaction have come.
#[derive(Debug, Default)]
pub(super) enum Chunks {
    #[default]
    NotBegun,
    /// Between two of them.
    Coming(Data),
    /// One was refused: there will be no message.
    Refused,
}

/// A refused chunk: its octets are dropped, and then it is answered (RFC 3030 section 2).
#[derive(Debug)]
pub(super) struct Skip {
    left: u64,
    answer: Reply,
}

impl Session {
    pub(super) fn bdat(&mut self, chunk: Chunk) {
        self.state = match self.next_chunk(chunk) {
            Ok(data) => State::Data(data),
            Err(answer) => State::Skip(Skip {
                left: chunk.bytes,
                answer,
            }),
        };
        let pipelined = self.lines.take_rest();
        self.input(&pipelined);
    }

    fn next_chunk(&mut self, chunk: Chunk) -> Result<Data, Reply> {
        let max = self.settings.message_bytes_max;
        let Some(transaction) = &mut self.transaction else {
            return Err(reply(503, 5, 1, "send MAIL first"));
        };
        if transaction.recipients.is_empty() {
            return Err(reply(554, 5, 1, "no recipient was accepted"));
        }
        let mut data = match std::mem::take(&mut transaction.chunks) {
            Chunks::NotBegun => Data::in_chunks(self.settings.bare_line_ends),
            Chunks::Coming(data) => data,
            Chunks::Refused => {
                self.refused_chunk(chunk.place);
                return Err(reply(
                    503,
                    5,
                    1,
                    "a chunk was refused; RSET, and begin anew",
                ));
            }
        };
        if data.would_outgrow(chunk.bytes, max) {
            self.refused_chunk(chunk.place);
            return Err(super::transaction::too_large(max));
        }
        data.begin_chunk(chunk);
        Ok(data)
    }

    /// After the last chunk there is nothing more to come, and the next MAIL may (as after DATA).
    fn refused_chunk(&mut self, place: ChunkPlace) {
        match (place, &mut self.transaction) {
            (ChunkPlace::Last, _) => self.transaction = None,
            (ChunkPlace::Before, Some(transaction)) => transaction.chunks = Chunks::Refused,
            (ChunkPlace::Before, None) => {}
        }
    }

    /// A chunk that is not the last one has come whole.
    pub(super) fn end_of_chunk(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Command);
        let (State::Data(data), Some(transaction)) = (state, &mut self.transaction) else {
            unreachable!("a chunk is read only inside a transaction");
        };
        let max = self.settings.message_bytes_max;
        if data.is_too_large() {
            transaction.chunks = Chunks::Refused;
            return self.refuse(super::transaction::too_large(max));
        }
        transaction.chunks = Chunks::Coming(data);
        self.say(reply(250, 0, 0, "the chunk is here"));
    }

    /// Drops what belongs to a refused chunk; what is behind it are commands.
    pub(super) fn skip(&mut self, bytes: &[u8]) {
        let State::Skip(skip) = &mut self.state else {
            return;
        };
        let here = usize::try_from(skip.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        skip.left -= here as u64;
        if skip.left > 0 {
            return;
        }
        let answer = skip.answer.clone();
        self.state = State::Command;
        self.lines.push(bytes.get(here..).unwrap_or_default());
        self.refuse(answer);
    }

    /// A BDAT whose size cannot be read: nobody knows where its chunk ends, and what is in it must not be
    /// taken for commands.
    pub(super) fn endless_chunk(&mut self, answer: Reply) {
        self.refuse(answer);
        self.close(reply(
            421,
            5,
            4,
            "closing, since the chunk's end is not clear",
        ));
    }
}

/// What a piece of a message led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    More,
    Chunk,
    Whole(Progress),
}
