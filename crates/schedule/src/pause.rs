//! A pause by a rule or an operator, the one message that tries after it, and the recovery in steps.
//!
//! Used for a whole site, and for one source address towards it.

use std::sync::Arc;

use crate::time::{MINUTE, Micros};

/// After a probe that went well an eighth of what the limits allow may go, then a quarter, then half:
/// whoever has just lifted a block looks closely at what comes next.
const RECOVERY_HALVINGS: u32 = 3;
/// How long each step of the recovery lasts: a quarter of the pause, within these.
const STEP_MIN: Micros = MINUTE;
const STEP_MAX: Micros = 15 * MINUTE;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pause {
    /// The rule's name, or the operator's word.
    pub(crate) rule: Arc<str>,
    stage: Stage,
    /// Of the pause.
    length: Micros,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Suspended {
        until: Micros,
    },
    /// One dispatch at a time, until one of them finds that the site takes mail again.
    Probing,
    /// Halvings that are left, and when one of them is taken back.
    Recovering {
        halvings: u32,
        until: Micros,
    },
}

/// What time has made of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    Yes,
    Over,
}

impl Pause {
    pub(crate) fn new(until: Micros, rule: Arc<str>, now: Micros) -> Pause {
        Pause {
            rule,
            stage: Stage::Suspended { until },
            length: until.saturating_sub(now),
        }
    }

    /// As it was before a restart: `until` may have passed meanwhile.
    pub(crate) fn kept(until: Micros, rule: Arc<str>, length: Micros) -> Pause {
        Pause {
            rule,
            stage: Stage::Suspended { until },
            length,
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn length(&self) -> Micros {
        self.length
    }

    /// Until then nothing goes.
    pub(crate) fn suspended_until(&self, now: Micros) -> Option<Micros> {
        match self.stage {
            Stage::Suspended { until } if until > now => Some(until),
            Stage::Suspended { .. } | Stage::Probing | Stage::Recovering { .. } => None,
        }
    }

    /// Its time is over, and nothing but mail can say more: without any it need not be kept.
    pub(crate) fn is_only_probing(&self) -> bool {
        self.stage == Stage::Probing
    }

    pub(crate) fn halvings(&self) -> u32 {
        match self.stage {
            Stage::Suspended { .. } | Stage::Probing => 0,
            Stage::Recovering { halvings, .. } => halvings,
        }
    }

    pub(crate) fn pass_time(&mut self, now: Micros) -> Lasts {
        match self.stage {
            Stage::Suspended { until } if until <= now => self.stage = Stage::Probing,
            Stage::Recovering { halvings, until } if until <= now => {
                if halvings <= 1 {
                    return Lasts::Over;
                }
                self.stage = Stage::Recovering {
                    halvings: halvings - 1,
                    until: now + self.step(),
                };
            }
            Stage::Suspended { .. } | Stage::Probing | Stage::Recovering { .. } => {}
        }
        Lasts::Yes
    }

    /// A dispatch went through. What was given out before the pause says nothing.
    pub(crate) fn went_well(&mut self, now: Micros) {
        match self.stage {
            Stage::Probing => {
                self.stage = Stage::Recovering {
                    halvings: RECOVERY_HALVINGS,
                    until: now + self.step(),
                };
            }
            Stage::Suspended { .. } | Stage::Recovering { .. } => {}
        }
    }

    /// When time changes it.
    pub(crate) fn next_change(&self) -> Option<Micros> {
        match self.stage {
            Stage::Suspended { until } | Stage::Recovering { until, .. } => Some(until),
            Stage::Probing => None,
        }
    }

    fn step(&self) -> Micros {
        (self.length / 4).clamp(STEP_MIN, STEP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_pause_one_tries_then_the_flow_doubles_step_by_step() {
        let start = 1000 * MINUTE;
        let mut pause = Pause::new(start + 20 * MINUTE, "block-listed".into(), start);
        pause.went_well(start + MINUTE);
        assert_eq!(pause.pass_time(start + 19 * MINUTE), Lasts::Yes);
        assert!(pause.suspended_until(start + 19 * MINUTE).is_some());
        let over = start + 20 * MINUTE;
        pause.pass_time(over);
        assert_eq!(pause.stage(), Stage::Probing);
        pause.pass_time(over + 100 * MINUTE);
        assert_eq!(pause.stage(), Stage::Probing, "until a probe went well");
        let mut now = over + 100 * MINUTE;
        pause.went_well(now);
        for halvings in [3, 2, 1] {
            assert_eq!(pause.halvings(), halvings);
            now += 5 * MINUTE - 1;
            assert_eq!(pause.pass_time(now), Lasts::Yes);
            assert_eq!(pause.halvings(), halvings, "not before its time");
            now += 1;
            let lasts = pause.pass_time(now);
            assert_eq!(lasts == Lasts::Over, halvings == 1);
        }
    }
}
