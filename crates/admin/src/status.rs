//! One screen: is it well, what is in the queue, how fast does it go, who is in trouble.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use relay_observe::Events;
use relay_observe::alerts::Alert;
use relay_observe::metric::Metric;
use relay_policy::Action;
use relay_queue::{Condition, Message, Select, Stats, StoreError};

use crate::view::{AlertView, Counts, QueueStatus, Rates, SiteStatus, StatusView};
use crate::world::AdminWorld;

/// Sites shown.
const SITES: usize = 10;
/// Messages looked at for alerts, the oldest ones: what stands still is found among them.
const ALERT_SCAN: usize = 2_000;
/// How long an alert of a message that has gone makes relayd unwell.
const ALERT_LASTS: SignedDuration = SignedDuration::from_hours(1);
/// The span of the rates: 12 steps of 5 s.
const SAMPLES: usize = 13;

/// The latest readings of the counters.
#[derive(Debug, Default)]
pub struct Samples {
    readings: Mutex<VecDeque<(Timestamp, Counts)>>,
}

impl Samples {
    /// Reads the counters; called at even intervals.
    pub fn take(&self, world: &AdminWorld) {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_back((world.clock.now(), counts(&world.events)));
        while readings.len() > SAMPLES {
            readings.pop_front();
        }
    }

    fn rates(&self, now: Timestamp, counts: &Counts) -> Rates {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        match readings.front() {
            Some((then, before)) => rates(now.duration_since(*then).as_secs_f64(), before, counts),
            None => Rates::default(),
        }
    }
}

fn rates(seconds: f64, before: &Counts, counts: &Counts) -> Rates {
    // Just started: a rate over less than a second would only startle.
    let minutes = seconds.max(1.0) / 60.0;
    let rate = |now: u64, then: u64| {
        let per_minute = now.saturating_sub(then) as f64 / minutes;
        (per_minute * 10.0).round() / 10.0
    };
    Rates {
        accepted_per_minute: rate(counts.accepted, before.accepted),
        delivered_per_minute: rate(counts.delivered, before.delivered),
        deferred_per_minute: rate(counts.deferred, before.deferred),
        bounced_per_minute: rate(counts.bounced, before.bounced),
    }
}

/// The whole status.
pub async fn status(world: &AdminWorld, samples: &Samples) -> Result<StatusView, StoreError> {
    let now = world.clock.now();
    let counts = counts(&world.events);
    let page = world
        .store
        .list(Select::default(), None, ALERT_SCAN)
        .await?;
    let mut alerts = alerts(
        page.messages.iter().map(|message| &**message),
        world.events.alerts().list(now),
    );
    for alert in &mut alerts {
        alert.advice = world.dispatcher.advice(&alert.rule);
    }
    let mut sites = worst(world.dispatcher.sites().await);
    for site in &mut sites {
        let why = site.why.as_ref();
        site.advice = why.and_then(|why| world.dispatcher.advice(why));
    }
    let condition = world.store.condition();
    let problems = problems(&condition, &alerts, now);
    Ok(StatusView {
        health: if problems.is_empty() {
            "well"
        } else {
            "unwell"
        }
        .to_owned(),
        problems,
        version: world.version.to_owned(),
        hostname: world.config.load().hostname.clone(),
        started: world.started,
        uptime: seconds_since(world.started, now),
        queue: queue_status(&world.store.stats(), condition, now),
        counts,
        rates: samples.rates(now, &counts),
        sites,
        alerts,
    })
}

fn queue_status(stats: &Stats, condition: Condition, now: Timestamp) -> QueueStatus {
    QueueStatus {
        messages: stats.messages,
        queued: stats.queued,
        deferred: stats.deferred,
        held: stats.held,
        bytes: stats.bytes,
        oldest: stats.oldest,
        oldest_age: stats.oldest.map(|oldest| seconds_since(oldest, now)),
        refusing: condition.refusing,
        free_bytes: condition.space.map(|space| space.free_bytes),
        reserve_bytes: condition.space.map(|space| space.reserve_bytes),
        journal_bytes: condition.files.journal_bytes,
        index_bytes: condition.files.index_bytes,
        quarantined: condition.files.quarantined,
    }
}

fn seconds_since(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0)
}

/// Suspended ones first, then those with something to tell, then by waiting work.
fn worst(mut sites: Vec<SiteStatus>) -> Vec<SiteStatus> {
    sites.sort_by(|a, b| {
        let key = |site: &SiteStatus| {
            (
                site.suspended_until.is_some(),
                !site.sources.is_empty() || !site.learned.is_empty() || !site.hosts.is_empty(),
                site.ready + site.waiting,
                site.sessions,
            )
        };
        key(b).cmp(&key(a)).then_with(|| a.site.cmp(&b.site))
    });
    sites.truncate(SITES);
    sites
}

/// What the policy wants a person to look at, by rule: raised in the last day, or by the last decision
/// about a recipient that waits.
fn alerts<'a>(messages: impl Iterator<Item = &'a Message>, raised: Vec<Alert>) -> Vec<AlertView> {
    let mut by_rule: BTreeMap<String, AlertView> = BTreeMap::new();
    for alert in raised {
        let Alert {
            site,
            rule,
            category,
            reply,
            first,
            last,
            times,
            ..
        } = alert;
        // The latest comes first: its reply is shown.
        let view = by_rule
            .entry(rule.clone())
            .or_insert_with(|| alert_view(last, &rule, &category, &reply));
        view.times += times;
        view.since = Some(view.since.map_or(first, |since| since.min(first)));
        view.sites.push(site);
    }
    for message in messages {
        let open = message.recipients.iter().filter(|r| !r.state.is_final());
        for attempt in open.filter_map(|recipient| recipient.last()) {
            if attempt.action != Action::Alert.word() {
                continue;
            }
            let alert = by_rule.entry(attempt.rule.clone()).or_insert_with(|| {
                alert_view(attempt.at, &attempt.rule, &attempt.category, &attempt.reply)
            });
            alert.recipients += 1;
            if attempt.at > alert.at {
                alert.at = attempt.at;
                alert.reply.clone_from(&attempt.reply);
            }
        }
    }
    let mut alerts: Vec<AlertView> = by_rule.into_values().collect();
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.at));
    alerts
}

fn alert_view(at: Timestamp, rule: &str, category: &str, reply: &str) -> AlertView {
    AlertView {
        at,
        rule: rule.to_owned(),
        category: category.to_owned(),
        reply: reply.to_owned(),
        recipients: 0,
        times: 0,
        since: None,
        sites: Vec::new(),
        advice: None,
    }
}

/// What makes it unwell, in words with the fix. An alert does for an hour, and as long as a recipient
/// waits because of it.
fn problems(condition: &Condition, alerts: &[AlertView], now: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(trouble) = &condition.trouble {
        problems.push(format!(
            "{trouble}; nothing is accepted: see to the disk, relayd recovers when it starts again"
        ));
    }
    if let Some(why) = &condition.refusing {
        problems.push(format!("new mail is refused with 452: {why}"));
    }
    problems.extend(
        alerts
            .iter()
            .filter(|alert| alert.recipients > 0 || now.duration_since(alert.at) < ALERT_LASTS)
            .map(|alert| format!("rule {} asks for a person", alert.rule)),
    );
    problems
}

fn counts(events: &Events) -> Counts {
    let get = |metric| events.metrics().get(metric);
    Counts {
        accepted: get(Metric::MessagesAccepted),
        delivered: get(Metric::RecipientsDelivered),
        deferred: get(Metric::RecipientsDeferred),
        bounced: get(Metric::RecipientsBounced),
        discarded: get(Metric::RecipientsDiscarded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_minute_and_do_not_startle_at_the_start() {
        let before = Counts::default();
        let now = Counts {
            accepted: 30,
            delivered: 7,
            ..before
        };
        assert_eq!(rates(60.0, &before, &now).accepted_per_minute, 30.0);
        assert_eq!(rates(30.0, &before, &now).delivered_per_minute, 14.0);
        assert_eq!(rates(0.0, &before, &before), Rates::default());
    }

    #[test]
    fn suspended_sites_come_first_then_those_with_most_work() {
        let site = |name: &str, waiting: u64, suspended: Option<Timestamp>| SiteStatus {
            site: name.to_owned(),
            waiting,
            suspended_until: suspended,
            ..SiteStatus::default()
        };
        let sites = worst(vec![
            site("calm", 0, None),
            site("busy", 9, None),
            site("dead", 1, Some(Timestamp::MAX)),
        ]);
        let names: Vec<&str> = sites.iter().map(|site| site.site.as_str()).collect();
        assert_eq!(names, ["dead", "busy", "calm"]);
    }

    #[test]
    fn a_stopped_queue_and_a_full_one_are_problems() {
        let mut condition = Condition::default();
        assert!(problems(&condition, &[], Timestamp::UNIX_EPOCH).is_empty());
        condition.trouble = Some("the queue has stopped: fdatasync".to_owned());
        condition.refusing = Some("the disk has 1 MiB free".to_owned());
        let found = problems(&condition, &[], Timestamp::UNIX_EPOCH);
        assert!(
            found[0].contains("fdatasync") && found[1].contains("1 MiB"),
            "{found:?}"
        );
    }
}
