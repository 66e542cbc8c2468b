//! Moments at which a test kills the program from within, to prove what survives. In a release build
//! [`at`] is empty.

/// A moment between two steps that a crash must not tear apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// Records are in the journal's file and not synced; nobody has been told.
    BodyStored,
    /// A message is durable, its client has not heard the 250.
    Committed,
    /// The peer took a message over, our queue does not know it yet.
    PeerSaid250,
    /// A bounce and its DSN, one record, are durable; nothing has followed from it.
    DsnCommitted,
    /// One more record of the journal has been replayed at start.
    HalfOfRecovery,
    /// A message has been copied out of an old segment, or such a segment is about to be deleted.
    HalfOfReclaim,
    /// The index has been copied: before the copy is the one in use, and again after it.
    HalfOfCompaction,
    /// A piece of a large body is in its file, or all of it, with its name and before the record.
    HalfOfLargeBody,
}

impl CrashPoint {
    pub const ALL: [CrashPoint; 8] = [
        CrashPoint::BodyStored,
        CrashPoint::Committed,
        CrashPoint::PeerSaid250,
        CrashPoint::DsnCommitted,
        CrashPoint::HalfOfRecovery,
        CrashPoint::HalfOfReclaim,
        CrashPoint::HalfOfCompaction,
        CrashPoint::HalfOfLargeBody,
    ];

    /// As [`VARIABLE`] names it.
    pub fn name(self) -> &'static str {
        match self {
            CrashPoint::BodyStored => "body-stored",
            CrashPoint::Committed => "committed",
            CrashPoint::PeerSaid250 => "peer-said-250",
            CrashPoint::DsnCommitted => "dsn-committed",
            CrashPoint::HalfOfRecovery => "half-of-recovery",
            CrashPoint::HalfOfReclaim => "half-of-reclaim",
            CrashPoint::HalfOfCompaction => "half-of-compaction",
            CrashPoint::HalfOfLargeBody => "half-of-large-body",
        }
    }
}

/// Names the point: `committed`, or `committed:7` for the seventh time that it is come by.
pub const VARIABLE: &str = "RELAYD_CRASH_AT";

/// Set to anything: the queue's files are small, so that what takes days of mail comes about in seconds.
pub const SMALL_FILES: &str = "RELAYD_SMALL_FILES";

/// Whether a test has asked for small files. Debug builds only.
pub fn small_files() -> bool {
    cfg!(debug_assertions) && std::env::var_os(SMALL_FILES).is_some()
}

/// Ends the process as a SIGKILL does, if [`VARIABLE`] says so. Debug builds only: a feature of its own
/// would have every test run build the program twice.
#[cfg(debug_assertions)]
pub fn at(point: CrashPoint) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    // Statics, since the points lie in crates that share nothing else, on several threads.
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        Some(parse(&text).unwrap_or_else(|mistake| {
            // On standard error, since a panic on one of many threads might pass unseen.
            eprintln!("{VARIABLE}: {mistake}");
            std::process::exit(78)
        }))
    });
    let Some(plan) = plan.as_ref().filter(|plan| plan.point == point) else {
        return;
    };
    if PASSED.fetch_add(1, Ordering::Relaxed) + 1 == plan.nth {
        // The real signal: no core file, no handler, no last words.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub fn at(_point: CrashPoint) {}

#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    point: CrashPoint,
    nth: u64,
}

#[cfg(debug_assertions)]
fn parse(text: &str) -> Result<Plan, String> {
    let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
    let point = CrashPoint::ALL
        .into_iter()
        .find(|point| point.name() == name);
    let nth = nth.parse().ok().filter(|nth| *nth > 0);
    match (point, nth) {
        (Some(point), Some(nth)) => Ok(Plan { point, nth }),
        _ => {
            let names = CrashPoint::ALL.map(CrashPoint::name).join(", ");
            Err(format!(
                "found {text:?}; write NAME or NAME:COUNT, where NAME is one of {names}"
            ))
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_with_or_without_a_count() {
        for point in CrashPoint::ALL {
            assert_eq!(parse(point.name()), Ok(Plan { point, nth: 1 }));
            let seventh = format!("{}:7", point.name());
            assert_eq!(parse(&seventh), Ok(Plan { point, nth: 7 }));
        }
    }

    #[test]
    fn a_mistake_is_told_with_the_names_there_are() {
        for mistake in ["", "nowhere", "committed:", "committed:0", "committed:x"] {
            let error = parse(mistake).unwrap_err();
            assert!(error.contains("half-of-recovery"), "{mistake}: {error}");
        }
    }
}
