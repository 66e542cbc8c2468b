//! The queue id: the name of a message in the 250 text, the log, `queue show` and the DSN.
//! Making ids durable and unique over restarts is the queue's part.

use std::fmt;
use std::str::FromStr;

/// 60 bits, sorted by time: 41 bits of milliseconds since 2024-01-01 UTC (until 2093), 7 bits of
/// node, 12 bits of sequence. Written as 12 characters of Crockford's base 32 (no i, l, o, u), so
/// that it can be said aloud in a ticket: `3f7k9q2mxt4p`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct QueueId(u64);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHARACTERS: usize = 12;
const NODE_BITS: u32 = 7;
const SEQUENCE_BITS: u32 = 12;
/// 2024-01-01T00:00:00Z in milliseconds since the Unix epoch.
const EPOCH_UNIX_MS: u64 = 1_704_067_200_000;

impl QueueId {
    /// The lowest id of a millisecond on a node. Times before 2024 count as 2024.
    pub fn first_of(unix_ms: u64, node: u8) -> QueueId {
        let ms = unix_ms.saturating_sub(EPOCH_UNIX_MS) & ((1 << 41) - 1);
        QueueId((ms << (NODE_BITS + SEQUENCE_BITS)) | (u64::from(node & 0x7f) << SEQUENCE_BITS))
    }

    /// The id after this one on the same node; a full sequence runs over into the next millisecond.
    pub fn next(self) -> QueueId {
        let node = ((self.0 >> SEQUENCE_BITS) & 0x7f) as u8;
        let sequence = self.0 & ((1 << SEQUENCE_BITS) - 1);
        if sequence + 1 < (1 << SEQUENCE_BITS) {
            return QueueId(self.0 + 1);
        }
        QueueId::first_of(self.unix_ms() + 1, node)
    }

    /// When the id was made, in milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> u64 {
        (self.0 >> (NODE_BITS + SEQUENCE_BITS)) + EPOCH_UNIX_MS
    }

    /// The id that it would have, had it been made so many seconds later, or earlier.
    pub fn shifted(self, seconds: i64) -> QueueId {
        let ms = self
            .unix_ms()
            .saturating_add_signed(seconds.saturating_mul(1000));
        let below = (1 << (NODE_BITS + SEQUENCE_BITS)) - 1;
        QueueId(QueueId::first_of(ms, 0).0 | (self.0 & below))
    }

    /// The number itself, big-endian sortable: the key in the index and in the journal.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// Back from [`QueueId::to_u64`].
    pub fn from_u64(number: u64) -> QueueId {
        QueueId(number)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; CHARACTERS];
        for (place, character) in text.iter_mut().enumerate() {
            let shift = 5 * (CHARACTERS - 1 - place);
            *character = ALPHABET[((self.0 >> shift) & 31) as usize];
        }
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not a queue id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a queue id: 12 characters of 0-9 and a-z without i, l, o, u, such as 3f7k9q2mxt4p"
)]
pub struct NotAnId(pub String);

impl FromStr for QueueId {
    type Err = NotAnId;

    /// Reads upper and lower case, and takes o for 0, i and l for 1, as Crockford intends.
    fn from_str(text: &str) -> Result<QueueId, NotAnId> {
        if text.len() != CHARACTERS {
            return Err(NotAnId(text.to_owned()));
        }
        text.bytes()
            .try_fold(0u64, |number, byte| {
                let plain = match byte.to_ascii_lowercase() {
                    b'o' => b'0',
                    b'i' | b'l' => b'1',
                    other => other,
                };
                let digit = ALPHABET.iter().position(|&a| a == plain)?;
                Some(number << 5 | digit as u64)
            })
            .map(QueueId)
            .ok_or_else(|| NotAnId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_text_and_sorts_by_time() {
        let early = QueueId::first_of(1_795_000_000_000, 3);
        let late = QueueId::first_of(1_795_000_000_001, 0);
        assert!(early < early.next() && early.next() < late);
        assert!(early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(early.to_string().to_uppercase().parse(), Ok(early));
        assert_eq!(early.unix_ms(), 1_795_000_000_000);
    }

    #[test]
    fn a_full_sequence_runs_over_into_the_next_millisecond() {
        let mut id = QueueId::first_of(1_795_000_000_000, 5);
        for _ in 0..4096 {
            let next = id.next();
            assert!(next > id);
            id = next;
        }
        assert_eq!(id, QueueId::first_of(1_795_000_000_001, 5));
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in ["", "3f7k", "3f7k9q2mxt4u", "3f7k9q2mxt4pp", "3f7k9q2mxt4é"] {
            assert!(text.parse::<QueueId>().is_err(), "{text}");
        }
    }
}
