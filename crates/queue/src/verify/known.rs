//! What a verification keeps of a message: checksums.

use crate::message::{RecipientChange, RecipientState, State};
use crate::record::{Found, to_postcard};

pub(super) struct Known {
    /// Of all that never changes, and of where the body lies.
    pub(super) fixed: u32,
    pub(super) recipients: Digests,
}

impl Known {
    pub(super) fn of(found: &Found, recipients: Vec<Digest>) -> Known {
        let fixed = to_postcard(&(found.place, &found.envelope, &found.arrival));
        Known {
            fixed: crc32c::crc32c(&fixed),
            recipients: match recipients.as_slice() {
                [one] => Digests::One(*one),
                _ => Digests::Many(recipients.into()),
            },
        }
    }
}

/// Most messages have one recipient.
pub(super) enum Digests {
    One(Digest),
    Many(Box<[Digest]>),
}

/// A recipient's state: what it is, and a checksum of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(u32);

const OPEN: u32 = 0;
const HELD: u32 = 1;
const FINAL: u32 = 2;
const SUM_BITS: u32 = 30;
/// In place of the checksum: it was changed while it was held, and what came of that depends on more
/// than is kept here. Only that it is held can be compared.
const UNKNOWN: u32 = (1 << SUM_BITS) - 1;

impl Digest {
    pub(super) fn of(state: &RecipientState) -> Digest {
        let sum = crc32c::crc32c(&to_postcard(state)) >> (32 - SUM_BITS);
        Digest::new(kind(state.state), sum.min(UNKNOWN - 1))
    }

    fn new(kind: u32, sum: u32) -> Digest {
        Digest(kind << SUM_BITS | sum)
    }

    fn kind(self) -> u32 {
        self.0 >> SUM_BITS
    }

    /// As [`crate::settle::changed`] does it with whole states.
    fn after(self, change: &RecipientState) -> Digest {
        let stays_held =
            self.kind() == HELD && kind(change.state) == OPEN && !change.was_released();
        match self.kind() {
            FINAL => self,
            _ if stays_held => Digest::new(HELD, UNKNOWN),
            _ => Digest::of(change),
        }
    }

    fn agrees(self, other: Digest) -> bool {
        let unknown = Digest::new(HELD, UNKNOWN);
        self == other || (self.kind() == other.kind() && (self == unknown || other == unknown))
    }
}

fn kind(state: State) -> u32 {
    match state {
        State::Queued | State::Deferred => OPEN,
        State::Held => HELD,
        State::Delivered | State::Bounced | State::Discarded => FINAL,
    }
}

impl Digests {
    fn each(&self) -> &[Digest] {
        match self {
            Digests::One(one) => std::slice::from_ref(one),
            Digests::Many(many) => many,
        }
    }

    fn each_mut(&mut self) -> &mut [Digest] {
        match self {
            Digests::One(one) => std::slice::from_mut(one),
            Digests::Many(many) => many,
        }
    }

    /// A change that does not fit was never made.
    pub(super) fn change(&mut self, changes: &[RecipientChange]) {
        let each = self.each_mut();
        if changes
            .iter()
            .any(|change| change.index as usize >= each.len())
        {
            return;
        }
        for change in changes {
            if let Some(digest) = each.get_mut(change.index as usize) {
                *digest = digest.after(&change.state);
            }
        }
    }

    pub(super) fn is_final(&self, index: u32) -> bool {
        let digest = self.each().get(index as usize);
        digest.is_none_or(|digest| digest.kind() == FINAL)
    }

    pub(super) fn all_final(&self) -> bool {
        self.each().iter().all(|digest| digest.kind() == FINAL)
    }

    pub(super) fn agree(&self, other: &Digests) -> bool {
        let (these, those) = (self.each(), other.each());
        these.len() == those.len() && these.iter().zip(those).all(|(a, b)| a.agrees(*b))
    }
}
