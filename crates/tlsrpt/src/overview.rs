//! What is kept of each day and domain, and when it will be told: for operators.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;

use crate::daily::{Settings, by_domain, first_try};
use crate::disk::Days;
use crate::session::{PolicyKind, ResultType, Row};

/// One day of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    pub day: Date,
    /// To whom it is told: the recipients' domain, or a TLSA base domain.
    pub domain: String,
    /// By which the sessions were measured.
    pub policies: BTreeSet<PolicyKind>,
    pub successful: u64,
    pub failures: BTreeMap<ResultType, u64>,
    /// Places that have the report.
    pub sent_to: BTreeSet<String>,
    /// When it is told, or tried again. None: all is done, or nobody wants it.
    pub next: Option<Timestamp>,
}

/// Reads the days beside the reporter.
#[derive(Clone)]
pub struct Overviews {
    pub(crate) days: Days,
    pub(crate) settings: Settings,
    pub(crate) planned: Planned,
}

/// When reports that could not be sent are tried again: the reporter says it here.
#[derive(Clone, Debug, Default)]
pub struct Planned(Arc<Mutex<HashMap<(Date, String), Timestamp>>>);

impl Overviews {
    /// All that is kept, the oldest day first.
    pub async fn list(&self) -> io::Result<Vec<Overview>> {
        let all = self.clone();
        let read = tokio::task::spawn_blocking(move || all.read()).await;
        read.map_err(io::Error::other)?
    }

    fn read(&self) -> io::Result<Vec<Overview>> {
        let mut all = Vec::new();
        for day in self.days.all()? {
            let sent = self.days.sent(day)?;
            for (domain, rows) in by_domain(self.days.rows(day)?) {
                let mark = format!("{domain} ");
                let places = sent.iter().filter_map(|sent| sent.strip_prefix(&mark));
                let next = (!sent.contains(&domain)).then(|| {
                    let again = self.planned.of(day, &domain);
                    again.unwrap_or_else(|| first_try(&self.settings, day, &domain))
                });
                all.push(Overview {
                    sent_to: places.map(str::to_owned).collect(),
                    next,
                    ..counted(day, domain, &rows)
                });
            }
        }
        Ok(all)
    }
}

fn counted(day: Date, domain: String, rows: &[Row]) -> Overview {
    let mut counted = Overview {
        day,
        domain,
        policies: BTreeSet::new(),
        successful: 0,
        failures: BTreeMap::new(),
        sent_to: BTreeSet::new(),
        next: None,
    };
    for row in rows {
        counted.policies.insert(row.session.policy.kind);
        match &row.session.failure {
            None => counted.successful += row.count,
            Some(failure) => *counted.failures.entry(failure.result).or_default() += row.count,
        }
    }
    counted
}

impl Planned {
    pub(crate) fn set(&self, planned: HashMap<(Date, String), Timestamp>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = planned;
    }

    fn of(&self, day: Date, domain: &str) -> Option<Timestamp> {
        let planned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        planned.get(&(day, domain.to_owned())).copied()
    }
}
