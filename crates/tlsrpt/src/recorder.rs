//! Writes sessions down as they come, on a thread of its own: a slow disk makes no session wait, it only
//! loses counts.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use jiff::Timestamp;
use jiff::civil::Date;

use crate::disk::{DayFile, Days};
use crate::report::day_of;
use crate::session::{Row, Session};

/// Takes sessions. Its thread ends with it.
#[derive(Debug)]
pub struct Recorder {
    to_writer: SyncSender<(Date, Session)>,
}

/// Sessions that wait for the disk; what comes beyond is not counted.
const WAITING_MAX: usize = 4096;
/// A day's file of this size is made anew with each row once.
const COMPACT_FROM: u64 = 4 << 20;
/// A day's file is never larger than this: senders choose the domains.
const BYTES_MAX: u64 = 32 << 20;

impl Recorder {
    pub fn start(days: Days) -> io::Result<Recorder> {
        let (to_writer, sessions) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("tls-reports".to_owned())
            .spawn(move || Writer::new(days, COMPACT_FROM, BYTES_MAX).run(&sessions))?;
        Ok(Recorder { to_writer })
    }

    pub fn note(&self, session: Session, now: Timestamp) {
        match self.to_writer.try_send((day_of(now), session)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::debug!("the disk is too slow: a session is missing from a TLS report");
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::debug!("a session is missing from a TLS report: its writer has ended");
            }
        }
    }
}

struct Writer {
    days: Days,
    open: Option<Open>,
    compact_from: u64,
    bytes_max: u64,
    trouble: Said,
}

struct Open {
    day: Date,
    file: DayFile,
    compact_at: u64,
}

/// Whether the log has it already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    NotYet,
    Once,
}

impl Writer {
    fn new(days: Days, compact_from: u64, bytes_max: u64) -> Writer {
        Writer {
            days,
            open: None,
            compact_from,
            bytes_max,
            trouble: Said::NotYet,
        }
    }

    fn run(mut self, sessions: &Receiver<(Date, Session)>) {
        while let Ok((day, session)) = sessions.recv() {
            match self.add(day, &Row { session, count: 1 }) {
                Ok(()) => self.trouble = Said::NotYet,
                Err(error) => {
                    self.open = None;
                    if self.trouble == Said::NotYet {
                        tracing::warn!("sessions are missing from the TLS reports: {error}");
                    }
                    self.trouble = Said::Once;
                }
            }
        }
    }

    fn add(&mut self, day: Date, row: &Row) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) if open.day == day => open,
            Some(_) | None => Open {
                day,
                file: self.days.file(day)?,
                compact_at: self.compact_from,
            },
        };
        if open.file.bytes >= open.compact_at.min(self.bytes_max) {
            open.file = self.days.compact(day)?;
            open.compact_at = (2 * open.file.bytes).max(self.compact_from);
        }
        // Compacted, and still half full: then there are too many different ones to go on.
        if open.file.bytes > self.bytes_max / 2 && open.compact_at > self.bytes_max {
            self.open = Some(open);
            if self.trouble == Said::NotYet {
                tracing::warn!(%day, "too many domains for the TLS reports: the further ones are not counted");
                self.trouble = Said::Once;
            }
            return Ok(());
        }
        open.file.add(row)?;
        self.open = Some(open);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Policy, PolicyKind};

    fn session(domain: &str) -> Session {
        Session {
            domain: domain.to_owned(),
            policy: Policy {
                kind: PolicyKind::NoPolicyFound,
                lines: Vec::new(),
                domain: domain.to_owned(),
                mx: Vec::new(),
            },
            failure: None,
        }
    }

    fn row(domain: &str) -> Row {
        Row {
            session: session(domain),
            count: 1,
        }
    }

    #[test]
    fn counts_outlive_the_process_by_day_and_a_line_that_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let days = Days::open(dir.path()).unwrap();
        let (one, two) = ("2026-11-22", "2026-11-23");
        for day in [one, one, two] {
            // A writer each, as after a kill.
            let mut writer = Writer::new(days.clone(), COMPACT_FROM, BYTES_MAX);
            writer.add(day.parse().unwrap(), &row("a.example")).unwrap();
        }
        let path = dir.path().join("2026-11-22.sessions");
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"domain\":\"b.exam");
        std::fs::write(&path, text).unwrap();
        let mut writer = Writer::new(days.clone(), COMPACT_FROM, BYTES_MAX);
        writer.add(one.parse().unwrap(), &row("a.example")).unwrap();
        let rows = days.rows(one.parse().unwrap()).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].count, 3);
        assert_eq!(
            days.all().unwrap(),
            [one.parse().unwrap(), two.parse().unwrap()]
        );
        days.mark(one.parse().unwrap(), "a.example").unwrap();
        assert!(
            days.sent(one.parse().unwrap())
                .unwrap()
                .contains("a.example")
        );
        days.remove(one.parse().unwrap()).unwrap();
        assert_eq!(days.all().unwrap(), [two.parse().unwrap()]);
        assert!(days.sent(one.parse().unwrap()).unwrap().is_empty());
    }

    #[test]
    fn a_days_file_is_bounded_whatever_comes() {
        let dir = tempfile::tempdir().unwrap();
        let days = Days::open(dir.path()).unwrap();
        let day: Date = "2026-11-22".parse().unwrap();
        let mut writer = Writer::new(days.clone(), 2_000, 20_000);
        for _ in 0..500 {
            writer.add(day, &row("a.example")).unwrap();
        }
        let bytes = || {
            std::fs::metadata(dir.path().join("2026-11-22.sessions"))
                .unwrap()
                .len()
        };
        assert!(bytes() < 2_200, "{} bytes for one row", bytes());
        for number in 0..1_000 {
            writer
                .add(day, &row(&format!("d{number}.example")))
                .unwrap();
        }
        assert!(bytes() <= 20_200, "{}", bytes());
        let rows = days.rows(day).unwrap();
        let first = rows.iter().find(|row| row.session.domain == "a.example");
        assert_eq!(
            first.unwrap().count,
            500,
            "nothing that was counted is lost"
        );
    }

    #[test]
    fn the_thread_writes_what_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let days = Days::open(dir.path()).unwrap();
        let recorder = Recorder::start(days.clone()).unwrap();
        let now: Timestamp = "2026-11-22T23:59:59Z".parse().unwrap();
        recorder.note(session("a.example"), now);
        while days.rows(day_of(now)).unwrap().is_empty() {
            std::thread::yield_now();
        }
    }
}
