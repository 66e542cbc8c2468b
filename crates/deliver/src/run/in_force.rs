//! Which limits are in force at a site, and where each comes from: for operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use relay_config::{Amount, Config, EffectiveLimits, InForce, Rate, SharedCap, SourceAddress};
use relay_schedule::{Cap, Share, SiteId, Usage, WarmUp};

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitInForce {
    /// `connections`, `rate`, `messages_per_connection`, `recipients_per_transaction`; of what is shared:
    /// `connections to provider google`.
    pub what: String,
    /// `10`, `20/s`, `no limit`.
    pub value: String,
    /// `relayd.toml:14`, `default` or `learned`.
    pub from: String,
    /// Until when something learned holds.
    pub until: Option<Timestamp>,
    /// How much of what is shared is in use.
    pub used: Option<u32>,
}

/// What a site has taught: which value, the most it takes, until when that holds.
pub(super) type Lesson = (&'static str, u32, Timestamp);

#[derive(Default)]
pub(super) struct Rows {
    sites: BTreeMap<SiteId, Vec<Row>>,
}

#[derive(Clone)]
struct Row {
    what: Arc<str>,
    value: String,
    number: Option<u32>,
    from: String,
}

impl Rows {
    pub(super) fn set(&mut self, site: SiteId, in_force: &InForce, config: &Config) {
        self.sites.insert(site, rows(in_force, config));
    }

    pub(super) fn forget(&mut self, in_use: impl Fn(&SiteId) -> bool) {
        self.sites.retain(|site, _| in_use(site));
    }

    pub(super) fn of(
        &self,
        site: &SiteId,
        learned: &[Lesson],
        usage: &[Usage],
    ) -> Vec<LimitInForce> {
        let rows = self.sites.get(site).into_iter().flatten();
        rows.map(|row| {
            let lesson = learned.iter().find(|(what, most, _)| {
                **what == *row.what && row.number.is_none_or(|set| *most < set)
            });
            let used = usage.iter().find(|usage| usage.name == row.what);
            LimitInForce {
                what: row.what.to_string(),
                value: lesson.map_or(row.value.clone(), |(_, most, _)| most.to_string()),
                from: lesson.map_or(row.from.clone(), |_| "learned".to_owned()),
                until: lesson.map(|(_, _, until)| *until),
                used: used.and_then(|usage| usage.used),
            }
        })
        .collect()
    }
}

fn rows(in_force: &InForce, config: &Config) -> Vec<Row> {
    let InForce {
        limits,
        from,
        shared,
    } = in_force;
    let EffectiveLimits {
        rate,
        connections,
        messages_per_connection,
        recipients_per_transaction,
        tls: _,
    } = limits;
    let count = |what: &str, number: u32, from: &Option<Arc<str>>| Row {
        what: Arc::from(what),
        value: number.to_string(),
        number: Some(number),
        from: from.as_deref().unwrap_or("default").to_owned(),
    };
    let mut rows = vec![
        count("connections", *connections, &from.connections),
        count(
            "messages_per_connection",
            *messages_per_connection,
            &from.messages_per_connection,
        ),
        count(
            "recipients_per_transaction",
            *recipients_per_transaction,
            &from.recipients_per_transaction,
        ),
        Row {
            what: Arc::from("rate"),
            value: rate.map_or_else(|| "no limit".to_owned(), rate_text),
            number: None,
            from: from.rate.as_deref().unwrap_or("default").to_owned(),
        },
    ];
    rows.extend(shared.iter().map(|cap| Row {
        what: Arc::clone(&cap.name),
        value: match cap.amount {
            Amount::Connections(most) => most.to_string(),
            Amount::Rate(rate) => rate_text(rate),
        },
        number: None,
        from: cap.from.to_string(),
    }));
    let warming = config.sources.iter().filter_map(warm_up_share);
    rows.extend(warming.map(|(share, curve)| Row {
        what: share.name,
        value: format!("{:?} a day from {}", &*curve.daily, day(curve.start)),
        number: None,
        from: "[[source]]".to_owned(),
    }));
    rows
}

fn day(start: Timestamp) -> String {
    start.to_string().chars().take(10).collect()
}

fn rate_text(rate: Rate) -> String {
    let per = match rate.per.as_secs() {
        1 => "s",
        60 => "min",
        3600 => "h",
        _ => "d",
    };
    format!("{}/{per}", rate.count)
}

/// What the scheduler is told of the caps that a site shares.
pub(super) fn shares(in_force: &InForce, config: &Config) -> Vec<Share> {
    let shared = in_force.shared.iter().map(share);
    let warming = config.sources.iter().filter_map(warm_up_share);
    shared.chain(warming.map(|(share, _)| share)).collect()
}

fn share(cap: &SharedCap) -> Share {
    Share {
        name: Arc::clone(&cap.name),
        cap: match cap.amount {
            Amount::Connections(most) => Cap::Connections(most),
            Amount::Rate(rate) => {
                Cap::Rate(f64::from(rate.count) / rate.per.as_secs_f64().max(0.001))
            }
        },
        source: cap.source,
    }
}

fn warm_up_share(source: &SourceAddress) -> Option<(Share, WarmUp)> {
    let curve = source.warm_up.as_ref()?;
    let curve = WarmUp {
        start: curve.start,
        daily: Arc::clone(&curve.daily),
    };
    let share = Share {
        name: Arc::from(format!("warm-up of {}, messages today", source.address)),
        cap: Cap::WarmUp(curve.clone()),
        source: Some(source.address),
    };
    Some((share, curve))
}
