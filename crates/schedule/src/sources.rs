//! Source addresses towards one site: which may be used for the next dispatch.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::pause::{Lasts, Pause, Stage};
use crate::scheduler::Connection;
use crate::time::Micros;
use crate::words::SiteNews;

/// Which local addresses a dispatch may go from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceChoice {
    /// None of these. Empty: any.
    pub avoid: Vec<IpAddr>,
    /// This one if it can reach the host: the probe after its suspension.
    pub prefer: Option<IpAddr>,
}

/// The pauses of the source addresses that were suspended at one site. Without any nothing is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    paused: BTreeMap<IpAddr, Paused>,
    /// Dispatches since the first pause: a source that recovers gets every eighth, fourth, second.
    dispatches: u64,
}

#[derive(Clone, Debug)]
struct Paused {
    pause: Pause,
    /// A dispatch is on its way that tries it.
    probe: Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    Out,
}

impl Sources {
    pub(crate) fn suspend(&mut self, source: IpAddr, pause: Pause) {
        let probe = Probe::None;
        self.paused.insert(source, Paused { pause, probe });
    }

    pub(crate) fn resume_all(&mut self) {
        self.paused.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Pause)> {
        self.paused
            .iter()
            .map(|(source, paused)| (*source, &paused.pause))
    }

    /// Forgets pauses that are over, and sources that are no longer configured.
    pub(crate) fn pass_time(&mut self, all: &[IpAddr], now: Micros) {
        self.paused.retain(|source, paused| {
            all.contains(source) && paused.pause.pass_time(now) == Lasts::Yes
        });
    }

    /// Every source there is may not be used: until when at the earliest, and by which rule.
    pub(crate) fn all_suspended(&self, all: &[IpAddr], now: Micros) -> Option<(Micros, Arc<str>)> {
        let mut earliest: Option<(Micros, Arc<str>)> = None;
        for source in all {
            let paused = self.paused.get(source)?;
            let until = paused.pause.suspended_until(now)?;
            if earliest.as_ref().is_none_or(|(before, _)| until < *before) {
                earliest = Some((until, Arc::clone(&paused.pause.rule)));
            }
        }
        earliest
    }

    /// Whether the sources that are not suspended are all still to be tried.
    pub(crate) fn is_probing(&self, all: &[IpAddr]) -> bool {
        let stages = all.iter().map(|source| {
            let paused = self.paused.get(source);
            paused.map(|paused| paused.pause.stage())
        });
        let mut probing = false;
        for stage in stages {
            match stage {
                None | Some(Stage::Recovering { .. }) => return false,
                Some(Stage::Probing) => probing = true,
                Some(Stage::Suspended { .. }) => {}
            }
        }
        probing
    }

    /// Whether it rests. One that is to be tried, or recovers, does not.
    pub(crate) fn is_suspended(&self, source: IpAddr, now: Micros) -> bool {
        let paused = self.paused.get(&source);
        paused.is_some_and(|paused| paused.pause.suspended_until(now).is_some())
    }

    /// Whether anything stands against it.
    pub(crate) fn is_paused(&self, source: IpAddr) -> bool {
        self.paused.contains_key(&source)
    }

    /// For the next dispatch. A source whose pause is over gets one dispatch to try it.
    pub(crate) fn choose(&mut self, all: &[IpAddr], now: Micros) -> SourceChoice {
        if self.paused.is_empty() {
            return SourceChoice::default();
        }
        self.dispatches += 1;
        let turn = self.dispatches;
        let mut choice = SourceChoice::default();
        for (source, paused) in &mut self.paused {
            match paused.pause.stage() {
                Stage::Suspended { until } if until > now => choice.avoid.push(*source),
                Stage::Suspended { .. } | Stage::Probing => match (paused.probe, choice.prefer) {
                    (Probe::None, None) => {
                        paused.probe = Probe::Out;
                        choice.prefer = Some(*source);
                    }
                    (Probe::None | Probe::Out, _) => choice.avoid.push(*source),
                },
                Stage::Recovering { halvings, .. } => {
                    if !turn.is_multiple_of(1 << halvings) {
                        choice.avoid.push(*source);
                    }
                }
            }
        }
        self.leave_one(all, &mut choice);
        choice
    }

    /// With none left, those that recover are used all the same; a dispatch that goes although all are
    /// suspended was flushed by an operator, who is obeyed.
    fn leave_one(&self, all: &[IpAddr], choice: &mut SourceChoice) {
        let none_left =
            |choice: &SourceChoice| all.iter().all(|source| choice.avoid.contains(source));
        if !none_left(choice) {
            return;
        }
        choice.avoid.retain(|source| {
            let paused = self.paused.get(source);
            paused.is_none_or(|paused| paused.pause.halvings() == 0)
        });
        if none_left(choice) {
            choice.avoid.clear();
        }
    }

    /// The dispatch that tried this source has ended. True: the source is taken up again.
    pub(crate) fn probed(&mut self, source: IpAddr, news: Probed, now: Micros) -> Outcome {
        let Some(paused) = self.paused.get_mut(&source) else {
            return Outcome::AsBefore;
        };
        paused.probe = Probe::None;
        match (news, paused.pause.stage()) {
            (Probed::Well, Stage::Probing) => {
                paused.pause.went_well(now);
                Outcome::TakenUp
            }
            (Probed::Well, Stage::Suspended { .. } | Stage::Recovering { .. })
            | (Probed::Nothing, _) => Outcome::AsBefore,
        }
    }

    pub(crate) fn next_change(&self) -> Option<Micros> {
        let pauses = self.paused.values();
        pauses.filter_map(|paused| paused.pause.next_change()).min()
    }
}

/// What a probe has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    Well,
    Nothing,
}

impl Probed {
    /// What a dispatch that was to go from `wanted` has found out about it.
    pub(crate) fn of(wanted: IpAddr, connection: Connection, news: SiteNews) -> Probed {
        match news {
            SiteNews::Good if connection == Connection::From(Some(wanted)) => Probed::Well,
            SiteNews::Good | SiteNews::Neutral | SiteNews::Crowded | SiteNews::Unreachable => {
                Probed::Nothing
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    TakenUp,
    AsBefore,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MINUTE;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn pause(from: Micros, minutes: Micros) -> Pause {
        Pause::new(from + minutes * MINUTE, "block-listed".into(), from)
    }

    #[test]
    fn one_source_is_avoided_while_the_others_go_on() {
        let (all, now) = ([ip(1), ip(2)], 1000 * MINUTE);
        let mut sources = Sources::default();
        assert_eq!(sources.choose(&all, now), SourceChoice::default());
        sources.suspend(ip(1), pause(now, 60));
        assert_eq!(sources.choose(&all, now).avoid, [ip(1)]);
        assert_eq!(sources.all_suspended(&all, now), None);
        sources.suspend(ip(2), pause(now, 30));
        let (until, _) = sources.all_suspended(&all, now).unwrap();
        assert_eq!(until, now + 30 * MINUTE, "the first of them");
        sources.pass_time(&[ip(2)], now);
        assert_eq!(
            sources.iter().count(),
            1,
            "what is not configured is forgotten"
        );
    }

    #[test]
    fn one_dispatch_probes_then_every_eighth_fourth_second() {
        let (all, start) = ([ip(1), ip(2)], 1000 * MINUTE);
        let mut sources = Sources::default();
        sources.suspend(ip(1), pause(start, 60));
        let now = start + 60 * MINUTE;
        sources.pass_time(&all, now);
        let probe = sources.choose(&all, now);
        assert_eq!((probe.prefer, probe.avoid.len()), (Some(ip(1)), 0));
        assert_eq!(sources.choose(&all, now).avoid, [ip(1)], "one at a time");
        assert_eq!(
            sources.probed(ip(1), Probed::Nothing, now),
            Outcome::AsBefore
        );
        assert_eq!(sources.choose(&all, now).prefer, Some(ip(1)), "again");
        assert_eq!(sources.probed(ip(1), Probed::Well, now), Outcome::TakenUp);
        let mut later = now;
        for share in [8, 4, 2] {
            let used = (0..80).filter(|_| sources.choose(&all, later).avoid.is_empty());
            assert_eq!(used.count(), 80 / share);
            later += 15 * MINUTE;
            sources.pass_time(&all, later);
        }
        assert_eq!(sources.iter().count(), 0);
    }

    #[test]
    fn a_probe_that_is_refused_suspends_again() {
        let (all, start) = ([ip(1), ip(2)], 1000 * MINUTE);
        let mut sources = Sources::default();
        sources.suspend(ip(1), pause(start, 60));
        let now = start + 60 * MINUTE;
        sources.pass_time(&all, now);
        sources.choose(&all, now);
        sources.suspend(ip(1), pause(now, 60));
        assert_eq!(sources.probed(ip(1), Probed::Well, now), Outcome::AsBefore);
        assert_eq!(sources.choose(&all, now).avoid, [ip(1)]);
    }

    #[test]
    fn only_good_news_from_the_address_itself_speaks_well_of_it() {
        for (connection, news, found) in [
            (Connection::From(Some(ip(1))), SiteNews::Good, Probed::Well),
            (
                Connection::From(Some(ip(2))),
                SiteNews::Good,
                Probed::Nothing,
            ),
            (Connection::From(None), SiteNews::Good, Probed::Nothing),
            (Connection::None, SiteNews::Good, Probed::Nothing),
            (
                Connection::From(Some(ip(1))),
                SiteNews::Crowded,
                Probed::Nothing,
            ),
        ] {
            assert_eq!(
                Probed::of(ip(1), connection, news),
                found,
                "{connection:?} {news:?}"
            );
        }
    }
}
