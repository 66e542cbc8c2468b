//! The judges of a run, one question each.

mod calm;
mod fair;
mod limits_kept;
mod not_early;
mod nothing_lost;
mod one_at_a_time;
mod prompt;
mod rests;
mod shared_kept;

use crate::fact::Check;

pub use calm::Calm;
pub use fair::Fair;
pub use limits_kept::LimitsKept;
pub use not_early::NotEarly;
pub use nothing_lost::NothingLost;
pub use one_at_a_time::OneAtATime;
pub use prompt::Prompt;
pub use rests::Rests;
pub use shared_kept::SharedKept;

/// Those that hold in any world. `hops`: the site of each next hop.
pub fn all(hops: &[usize], sessions_max: u32) -> Vec<Box<dyn Check>> {
    vec![
        Box::new(NothingLost::default()),
        Box::new(NotEarly::default()),
        Box::new(OneAtATime::new(hops)),
        Box::new(LimitsKept::new(sessions_max)),
        Box::new(Rests::default()),
        Box::new(Calm::default()),
        Box::new(Fair::new(hops)),
    ]
}

/// The quick ones, for long queues.
pub fn limits(sessions_max: u32) -> Vec<Box<dyn Check>> {
    vec![
        Box::new(LimitsKept::new(sessions_max)),
        Box::new(Rests::default()),
    ]
}
