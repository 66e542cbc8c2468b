//! Admission: whether a message may come in, decided from limits and numbers alone, and the space
//! that a session holds for what it is about to send.

use std::sync::Arc;

use crate::device::Space;
use crate::fair::{Holding, within_share};
use crate::shared::Shared;
use crate::store::StoreError;

/// What the queue may take. Each is an option of `[queue]`; see docs/configuration.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unfinished messages, and bytes of their bodies, from which on nothing more is accepted. Reports on
    /// bounces are. Default 5 million messages; bytes without a limit of their own.
    pub messages_max: u64,
    pub bytes_max: u64,
    /// Free space that mail may not take: so many bytes, default 4 GiB,
    pub reserve_bytes: u64,
    /// or this share of a small disk if that is less. Default 10 %.
    pub reserve_percent: u8,
    /// With less free space than this part of the reserve sessions are turned away. Default 50 %.
    pub close_percent: u8,
    /// What one sender or domain may hold of the queue when space is short. Default 90 %.
    pub share_percent: u8,
    /// A file that is deleted on a full disk, so that outcomes of deliveries can still be written; 0: none.
    /// Default 96 MiB: a segment, and something for the index.
    pub ballast_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            messages_max: 5_000_000,
            bytes_max: u64::MAX,
            reserve_bytes: 4 << 30,
            reserve_percent: 10,
            close_percent: 50,
            share_percent: 90,
            ballast_bytes: 96 << 20,
        }
    }
}

impl Limits {
    /// What mail may not take: the rest of the disk is for deliveries, the index and everybody else.
    ///
    /// The smaller of both. What is needed there (outcomes, the index, a segment ahead) does not grow
    /// with the disk, so a tenth of a large one would be wasted; and 4 GiB of a disk of 20 GiB would
    /// take a fifth of it, of one of 4 GiB all.
    pub(crate) fn reserve(&self, space: Space) -> u64 {
        let share = space.total_bytes / 100 * u64::from(self.reserve_percent.min(100));
        self.reserve_bytes.min(share)
    }

    /// Below this even sessions are refused.
    pub(crate) fn closed_below(&self, space: Space) -> u64 {
        self.reserve(space) / 100 * u64::from(self.close_percent.min(100))
    }
}

/// The queue as it is when somebody asks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// None: the disk did not say, which is no reason to refuse: the write will tell.
    pub(crate) space: Option<Space>,
    /// Of the free space: taken since it was looked at, or held by sessions.
    pub(crate) spoken_for: u64,
}

/// Why something is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For the metric.
    pub(crate) reason: Reason,
    /// For the client and the log: what is the matter and until when.
    pub(crate) text: String,
}

pub(crate) use relay_observe::metric::Refused as Reason;

impl Refusal {
    fn new(reason: Reason, text: String) -> Refusal {
        Refusal { reason, text }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> StoreError {
        StoreError::Full(refusal.text)
    }
}

/// Whether a session may begin.
pub(crate) fn may_connect(limits: &Limits, fill: &Fill) -> Result<(), Refusal> {
    match fill.space {
        Some(space) if space.free_bytes < limits.closed_below(space) => Err(Refusal::new(
            Reason::Closed,
            format!(
                "the disk is nearly full ({} MiB free); mail is taken again when there is more",
                space.free_bytes >> 20
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Whether a message of so many bytes may come in. Limits in messages and bytes may be passed by what
/// waits for the disk at that moment.
pub(crate) fn may_enter(limits: &Limits, fill: &Fill, bytes: u64) -> Result<(), Refusal> {
    let full = |reason, text| Err(Refusal::new(reason, text));
    if fill.messages >= limits.messages_max {
        let text = format!("it holds {} messages, its limit", fill.messages);
        return full(Reason::Messages, text);
    }
    if fill.bytes.saturating_add(bytes) > limits.bytes_max {
        let (held, max) = (fill.bytes >> 20, limits.bytes_max >> 20);
        let text = format!("its messages have {held} MiB, its limit is {max} MiB");
        return full(Reason::Bytes, text);
    }
    let Some(space) = fill.space else {
        return Ok(());
    };
    let reserve = limits.reserve(space);
    let needed = reserve
        .saturating_add(fill.spoken_for)
        .saturating_add(bytes);
    if space.free_bytes < needed {
        let text = format!(
            "the disk has {} MiB free, of which {} MiB are kept; it goes on by itself when there is more",
            space.free_bytes >> 20,
            needed >> 20
        );
        return full(Reason::Space, text);
    }
    Ok(())
}

/// From this part of a limit on, space is short.
const SHORT_PERCENT: u64 = 90;

/// Whether a party that holds this may have more. Only asked where space is short: above 90 % of a
/// limit, or with less than twice the reserve free.
pub(crate) fn may_have_more(
    limits: &Limits,
    fill: &Fill,
    holding: Holding,
    who: &str,
    reason: Reason,
) -> Result<(), Refusal> {
    let short = |used: u64, max: u64| used / SHORT_PERCENT >= max / 100;
    let percent = limits.share_percent;
    let over = |held: u64, left: u64| !within_share(held, left, percent);
    let messages = (short(fill.messages, limits.messages_max))
        && over(
            holding.messages,
            limits.messages_max.saturating_sub(fill.messages),
        );
    let bytes = (limits.bytes_max < u64::MAX && short(fill.bytes, limits.bytes_max))
        && over(holding.bytes, limits.bytes_max.saturating_sub(fill.bytes));
    let disk = fill.space.is_some_and(|space| {
        let reserve = limits.reserve(space);
        let free = space.free_bytes.saturating_sub(fill.spoken_for);
        free < 2 * reserve && over(holding.bytes, free.saturating_sub(reserve))
    });
    let what = match (messages, bytes || disk) {
        (true, _) => format!("{} messages", holding.messages),
        (false, true) => format!("{} MiB", holding.bytes >> 20),
        (false, false) => return Ok(()),
    };
    Err(Refusal::new(
        reason,
        format!(
            "space is short and {who} holds {what} of it; more is taken when some of that has gone"
        ),
    ))
}

/// Space that a session holds while it sends a message, so that many of them together do not overrun
/// the reserve. Given back when it is dropped.
#[derive(Debug, Default)]
pub struct Admission {
    /// None: from a store without a disk.
    shared: Option<Arc<Shared>>,
    bytes: u64,
}

impl Admission {
    pub(crate) fn new(shared: &Arc<Shared>, bytes: u64) -> Result<Admission, StoreError> {
        shared.hold_space(bytes)?;
        Ok(Admission {
            shared: Some(shared.clone()),
            bytes,
        })
    }

    /// Holds so many bytes, if it does not already: what the client said it would send, or what has
    /// come so far.
    pub fn hold(&mut self, bytes: u64) -> Result<(), StoreError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        if bytes > self.bytes {
            shared.hold_space(bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.room().release(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn space(total_bytes: u64, free_bytes: u64) -> Space {
        Space {
            total_bytes,
            free_bytes,
        }
    }

    fn fill(total: u64, free: u64) -> Fill {
        Fill {
            space: Some(space(total, free)),
            ..Fill::default()
        }
    }

    #[test]
    fn the_reserve_is_a_share_of_a_small_disk_and_a_number_on_a_large_one() {
        let limits = Limits::default();
        let reserve = |total| limits.reserve(space(total, 0));
        assert_eq!(reserve(1000 << 20), 100 << 20);
        assert_eq!(reserve(4000 << 30), 4 << 30);
        assert_eq!(limits.closed_below(space(1000 << 20, 0)), 50 << 20);
    }

    #[test]
    fn mail_is_refused_first_and_sessions_only_later() {
        let limits = Limits::default();
        for (free_mib, mail, session) in [(200, true, true), (99, false, true), (49, false, false)]
        {
            let fill = fill(1000 << 20, free_mib << 20);
            assert_eq!(may_enter(&limits, &fill, 0).is_ok(), mail, "{free_mib}");
            assert_eq!(may_connect(&limits, &fill).is_ok(), session, "{free_mib}");
        }
        assert!(may_connect(&limits, &Fill::default()).is_ok());
    }

    #[test]
    fn what_others_hold_is_not_free_any_more() {
        let limits = Limits::default();
        let mut fill = fill(1000 * GIB, 5 * GIB);
        assert!(may_enter(&limits, &fill, GIB).is_ok());
        fill.spoken_for = GIB / 2;
        let refusal = may_enter(&limits, &fill, GIB).unwrap_err();
        assert_eq!(refusal.reason, Reason::Space);
        assert!(refusal.text.contains("5120 MiB free"), "{}", refusal.text);
        assert!(may_enter(&limits, &fill, GIB / 2).is_ok());
    }

    #[test]
    fn limits_by_messages_and_bytes_hold() {
        let limits = Limits {
            messages_max: 10,
            bytes_max: 1000,
            ..Limits::default()
        };
        let fill = |messages, bytes| Fill {
            messages,
            bytes,
            ..Fill::default()
        };
        assert!(may_enter(&limits, &fill(9, 900), 100).is_ok());
        let refused = |fill, bytes| may_enter(&limits, &fill, bytes).unwrap_err().reason;
        assert_eq!(refused(fill(10, 0), 0), Reason::Messages);
        assert_eq!(refused(fill(9, 900), 101), Reason::Bytes);
    }

    #[test]
    fn shares_are_kept_where_space_is_short_and_nowhere_else() {
        let limits = Limits {
            messages_max: 1000,
            share_percent: 50,
            ..Limits::default()
        };
        let all = |messages| Holding {
            messages,
            bytes: messages * GIB,
        };
        let ask = |fill: &Fill, holding| {
            may_have_more(&limits, fill, holding, "user app", Reason::SenderShare)
        };
        let messages = |messages| Fill {
            messages,
            ..Fill::default()
        };
        assert!(ask(&messages(899), all(899)).is_ok(), "not short yet");
        let refusal = ask(&messages(900), all(899)).unwrap_err();
        assert!(
            refusal.text.contains("user app holds 899 messages"),
            "{refusal:?}"
        );
        assert!(
            ask(&messages(999), all(1)).is_ok(),
            "another one finds room"
        );
        assert!(ask(&fill(1000 * GIB, 9 * GIB), all(100)).is_ok());
        assert!(ask(&fill(1000 * GIB, 7 * GIB), all(4)).is_err());
        assert!(ask(&fill(1000 * GIB, 7 * GIB), all(3)).is_ok());
    }
}
