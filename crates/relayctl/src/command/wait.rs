//! `--wait`: looks again and again until everything has been tried.

use std::future::Future;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::outcome::Trouble;

/// What one look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// So many are still untried.
    Waiting(u64),
    Finished,
}

/// How the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Finished,
    /// The time is over and so many are still untried.
    TimeIsOver(u64),
}

/// First looks come quickly, since a delivery often takes less than a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Calls `look` until it has finished or `most` has passed. Progress is shown on a terminal's
/// standard error only.
pub async fn until_finished<F>(
    total: u64,
    most: Duration,
    mut look: impl FnMut() -> F,
) -> Result<Ended, Trouble>
where
    F: Future<Output = Result<Look, Trouble>>,
{
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} tried  {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let end = Instant::now() + most;
    let mut pause = FIRST_PAUSE;
    loop {
        match look().await? {
            Look::Finished => {
                bar.finish_and_clear();
                return Ok(Ended::Finished);
            }
            Look::Waiting(untried) if Instant::now() >= end => {
                bar.finish_and_clear();
                return Ok(Ended::TimeIsOver(untried));
            }
            Look::Waiting(untried) => bar.set_position(total.saturating_sub(untried)),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_nothing_is_untried_or_the_time_is_over() {
        let mut left = 3;
        let ended = until_finished(3, Duration::from_secs(60), || {
            left -= 1;
            std::future::ready(Ok(match left {
                0 => Look::Finished,
                untried => Look::Waiting(untried),
            }))
        });
        assert_eq!(ended.await, Ok(Ended::Finished));
        let never = until_finished(3, Duration::from_secs(60), || {
            std::future::ready(Ok(Look::Waiting(2)))
        });
        assert_eq!(never.await, Ok(Ended::TimeIsOver(2)));
    }
}
