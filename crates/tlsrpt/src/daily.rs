//! Sends the reports of a day once it is over: each domain's at a time of its own, tried again for a day.

use std::collections::{BTreeMap, HashMap};

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use relay_observe::{Clock, Event, Events};
use relay_route::{Lookup, Resolver};

use crate::disk::Days;
use crate::letter::Letter;
use crate::overview::{Overviews, Planned};
use crate::post::{Post, Posting};
use crate::record::{Rua, ruas};
use crate::report::{Report, Submitter, day_of, end_of};
use crate::session::Row;

/// The way into the queue. Ok: the letter is on disk.
pub trait Outbox: Send + Sync + 'static {
    fn send(&self, letter: Letter) -> Posting<'_>;
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub submitter: Submitter,
    /// The author of reports by mail.
    pub from: String,
    /// Over which time the reports of a day are sent.
    pub spread: Duration,
}

/// All that sending reports needs.
pub struct Reporter {
    pub days: Days,
    pub settings: Settings,
    pub clock: Clock,
    pub events: Events,
    pub resolver: Arc<dyn Resolver>,
    pub post: Arc<dyn Post>,
    pub outbox: Arc<dyn Outbox>,
    /// What is to be tried again, for those who ask.
    pub planned: Planned,
}

/// Sessions that were opened just before midnight are counted by then.
const AFTER_MIDNIGHT: SignedDuration = SignedDuration::from_mins(15);
/// Before a report that could not be sent is tried again, and between two looks at the days.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);
/// So long after the first try it is given up (RFC 8460 section 5.5).
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// What is left of a day then is deleted.
const KEPT: SignedDuration = SignedDuration::from_hours(48);
/// Reports that fall due within this time are sent together: the day's file is read for each round.
const ROUND: SignedDuration = SignedDuration::from_mins(5);

/// Reports that failed.
type Again = HashMap<(Date, String), Failed>;

#[derive(Clone, Copy)]
struct Failed {
    first: Timestamp,
    next: Timestamp,
}

/// How a report came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// It is told, or nobody wants to know.
    Out,
    NotYet,
}

impl Reporter {
    /// For those who want to see what is kept.
    pub fn overviews(&self) -> Overviews {
        Overviews {
            days: self.days.clone(),
            settings: self.settings.clone(),
            planned: self.planned.clone(),
        }
    }

    /// For ever. Must be aborted to end; what has been sent is on disk at any time.
    pub async fn run(self) {
        let mut again = Again::new();
        loop {
            let now = self.clock.now();
            let round = self.round(now, &mut again).await;
            let planned = again.iter().map(|(of, failed)| (of.clone(), failed.next));
            self.planned.set(planned.collect());
            let next = match round {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!("TLS reports: {error}; trying again in an hour");
                    later(now, AGAIN)
                }
            };
            let next = next.max(later(self.clock.now(), ROUND));
            tokio::time::sleep_until(self.clock.instant_of(next)).await;
        }
    }

    /// Sends what is due. Returns when the next round is.
    async fn round(&self, now: Timestamp, again: &mut Again) -> io::Result<Timestamp> {
        let today = day_of(now);
        let mut next = later(now, AGAIN);
        for day in self.on_disk(|days| days.all()).await? {
            if day >= today {
                continue;
            }
            if now >= later(end_of(day), KEPT) {
                self.on_disk(move |days| days.remove(day)).await?;
                again.retain(|(of, _), _| *of != day);
                continue;
            }
            let first = self.day(day, now, again).await?;
            match first {
                Some(first) => next = next.min(first),
                None => {
                    self.on_disk(move |days| days.remove(day)).await?;
                    again.retain(|(of, _), _| *of != day);
                }
            }
        }
        Ok(next)
    }

    /// One day. None: all has been told of it. Some: when there is more to do.
    async fn day(
        &self,
        day: Date,
        now: Timestamp,
        again: &mut Again,
    ) -> io::Result<Option<Timestamp>> {
        let rows = self.on_disk(move |days| days.rows(day)).await?;
        let sent = self.on_disk(move |days| days.sent(day)).await?;
        let mut next: Option<Timestamp> = None;
        for (domain, rows) in by_domain(rows) {
            if sent.contains(&domain) {
                continue;
            }
            let failed = again.get(&(day, domain.clone())).copied();
            let mut at = failed.map_or_else(
                || first_try(&self.settings, day, &domain),
                |failed| failed.next,
            );
            if at <= now {
                let report = Report {
                    submitter: &self.settings.submitter,
                    domain: &domain,
                    day,
                    rows: &rows,
                };
                let first = failed.map_or(now, |failed| failed.first);
                let given_up = now >= later(first, GIVEN_UP_AFTER);
                let went = match given_up {
                    true => Went::Out,
                    false => self.report(&report, &sent, now).await?,
                };
                if went == Went::Out {
                    let mark = domain.clone();
                    self.on_disk(move |days| days.mark(day, &mark)).await?;
                    again.remove(&(day, domain));
                    continue;
                }
                at = later(now, AGAIN);
                again.insert((day, domain), Failed { first, next: at });
            }
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        Ok(next)
    }

    /// To each place that the domain names and that has not had it yet.
    async fn report(
        &self,
        report: &Report<'_>,
        sent: &std::collections::HashSet<String>,
        now: Timestamp,
    ) -> io::Result<Went> {
        let name = format!("_smtp._tls.{}", report.domain);
        let records = match self.resolver.txt(&name).await {
            Lookup::Found(records) => records,
            Lookup::NoRecords | Lookup::NoSuchName => return Ok(Went::Out),
            Lookup::Trouble(words) => {
                tracing::debug!(name, "{words}");
                return Ok(Went::NotYet);
            }
        };
        let mut all = Went::Out;
        for rua in ruas(&records) {
            let mark = format!("{} {rua}", report.domain);
            if sent.contains(&mark) {
                continue;
            }
            let told = match &rua {
                Rua::Mail(to) => {
                    let letter = Letter::of(report, &self.settings.from, to, now);
                    self.outbox.send(letter).await
                }
                Rua::Https(url) => self.post.post(url, report.gzip()).await,
            };
            let (domain, to) = (report.domain.to_owned(), rua.to_string());
            match told {
                Ok(()) => {
                    let day = report.day;
                    self.on_disk(move |days| days.mark(day, &mark)).await?;
                    let (good, failed) = report.totals();
                    self.events.emit(Event::TlsReportSent {
                        domain,
                        to,
                        good,
                        failed,
                    });
                }
                Err(reason) => {
                    all = Went::NotYet;
                    self.events
                        .emit(Event::TlsReportNotSent { domain, to, reason });
                }
            }
        }
        Ok(all)
    }

    /// Files are read and written off the async threads.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Days) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let days = self.days.clone();
        let done = tokio::task::spawn_blocking(move || work(&days)).await;
        done.map_err(io::Error::other)?
    }
}

/// The same for one domain and day at every start, another for every relay.
pub(crate) fn first_try(settings: &Settings, day: Date, domain: &str) -> Timestamp {
    let mut hasher = DefaultHasher::new();
    (&settings.submitter.hostname, domain, day.to_string()).hash(&mut hasher);
    let spread = settings.spread.as_secs().max(1);
    let seconds = i64::try_from(hasher.finish() % spread).unwrap_or_default();
    let begin = later(end_of(day), AFTER_MIDNIGHT);
    later(begin, SignedDuration::from_secs(seconds))
}

/// To the recipients' domain, and to the owner of the TLSA records, who may be another (RFC 8460 section 1.1).
pub(crate) fn by_domain(rows: Vec<Row>) -> BTreeMap<String, Vec<Row>> {
    let mut domains: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let owner = row.session.policy.domain.clone();
        if owner != row.session.domain {
            domains.entry(owner).or_default().push(row.clone());
        }
        let domain = row.session.domain.clone();
        domains.entry(domain).or_default().push(row);
    }
    domains
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
