//! The concurrency window of a site: 1/N feedback, and a memory for the size that was too much.
//!
//! A step per window instead of a step per report: against a server that refuses more than N
//! sessions the window then settles near N, where fixed steps swing around it and defer half of the
//! mail. That alone still defers one in N, so a size that failed is tried again only after a while.

/// The window of a site that nothing is known about. Small enough not to startle a small host, large
/// enough not to start each burst one by one.
pub(crate) const START: u32 = 5;

/// Full windows of successes before a size is tried again that has failed; doubled by each failure.
/// With one, a server's limit of N would be overstepped once in about N dispatches, for ever.
const WAIT_FIRST: u32 = 4;
const WAIT_MAX: u32 = 1024;

/// How many sessions the feedback allows.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    size: u32,
    /// Successes since the size last changed, while the window was in use.
    successes: u32,
    /// Reports until a failure counts again: the failures of one window are one event.
    deaf: u32,
    /// The size above which there was a failure last.
    ceiling: Option<Ceiling>,
}

#[derive(Clone, Copy, Debug)]
struct Ceiling {
    size: u32,
    /// Full windows of successes until it is overstepped.
    wait: u32,
}

/// Whether the site had as many dispatches at once as the window allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Full,
    Partial,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window {
            size: START,
            successes: 0,
            deaf: 0,
            ceiling: None,
        }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Grows by one at the end of a full window of successes, up to `max`. A window that is not in
    /// use has not shown that it bears more.
    pub(crate) fn success(&mut self, used: Use, max: u32) {
        self.deaf = self.deaf.saturating_sub(1);
        match used {
            Use::Partial => {}
            Use::Full => {
                self.successes = self.successes.saturating_add(1);
                if self.successes >= self.size.saturating_mul(self.windows()) && self.size < max {
                    self.grow();
                }
            }
        }
    }

    /// Full windows of successes that it takes to grow.
    fn windows(&self) -> u32 {
        match self.ceiling {
            Some(ceiling) if ceiling.size == self.size => ceiling.wait,
            Some(_) | None => 1,
        }
    }

    fn grow(&mut self) {
        self.size += 1;
        self.successes = 0;
        // A whole window above it went well: the server bears more by now.
        if self.ceiling.is_some_and(|c| self.size > c.size + 1) {
            self.ceiling = None;
        }
    }

    /// Shrinks by one at the first failure of a window.
    pub(crate) fn failure(&mut self) {
        self.successes = 0;
        if self.deaf > 0 {
            self.deaf -= 1;
            return;
        }
        self.deaf = self.size;
        self.size = (self.size - 1).max(1);
        let wait = self.ceiling.map_or(WAIT_FIRST, |ceiling| {
            ceiling.wait.saturating_mul(2).min(WAIT_MAX)
        });
        let size = self.size;
        self.ceiling = Some(Ceiling { size, wait });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_by_one_after_a_full_window_of_successes() {
        let mut window = Window::new();
        for (successes, size) in [(4, 5), (1, 6), (5, 6), (1, 7)] {
            for _ in 0..successes {
                window.success(Use::Full, 100);
            }
            assert_eq!(window.size(), size);
        }
    }

    #[test]
    fn a_window_that_is_not_in_use_does_not_grow_and_none_grows_over_the_limit() {
        let mut window = Window::new();
        for _ in 0..50 {
            window.success(Use::Partial, 100);
        }
        assert_eq!(window.size(), 5);
        for _ in 0..50 {
            window.success(Use::Full, 6);
        }
        assert_eq!(window.size(), 6);
    }

    #[test]
    fn a_window_of_failures_takes_one_step_and_the_floor_is_one() {
        let mut window = Window::new();
        for _ in 0..5 {
            window.failure();
        }
        assert_eq!(window.size(), 4, "five failures at once are one event");
        for _ in 0..100 {
            window.failure();
        }
        assert_eq!(window.size(), 1);
    }

    #[test]
    fn against_a_server_that_refuses_more_than_five_the_window_settles_near_five() {
        let mut window = Window::new();
        let (mut refused, mut total) = (0, 0);
        for _ in 0..2000 {
            let size = window.size();
            for place in 0..size {
                total += 1;
                if place < 5 {
                    window.success(Use::Full, 50);
                } else {
                    refused += 1;
                    window.failure();
                }
            }
        }
        assert!((4..=6).contains(&window.size()));
        assert!(refused * 100 < total, "{refused} of {total} refused");
    }

    #[test]
    fn a_size_that_failed_is_tried_again_later_and_growth_is_quick_again_above_it() {
        let mut window = Window::new();
        window.failure();
        let mut sizes = Vec::new();
        for _ in 0..4 + 4 * 4 + 5 + 6 {
            window.success(Use::Full, 100);
            sizes.push(window.size());
        }
        assert_eq!(sizes[14..16], [4, 5], "after four windows of four");
        assert_eq!(sizes[19..21], [5, 6]);
        assert_eq!(sizes[25..27], [6, 7]);
    }
}
