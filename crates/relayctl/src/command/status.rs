//! `relayctl status`: one screen.

use std::collections::BTreeSet;

use jiff::Timestamp;
use relay_admin::view::{AlertView, SiteStatus, StatusView};

use crate::client::{Client, Pairs};
use crate::command::{show, site};
use crate::outcome::{Done, Outcome};
use crate::text::{self, Format, Screen, Tone};

pub async fn run(client: &Client, format: Format, screen: &Screen) -> Outcome {
    let status: StatusView = client.get("/v1/status", &Pairs::new()).await?;
    match format {
        Format::Json => println!("{}", text::json_line(&status)),
        Format::Text => println!("{}", render(&status, Timestamp::now(), screen)),
    }
    Ok(match status.health.as_str() {
        "well" => Done::Well,
        _ => Done::NotWell,
    })
}

fn render(status: &StatusView, now: Timestamp, screen: &Screen) -> String {
    let tone = match status.health.as_str() {
        "well" => Tone::Good,
        _ => Tone::Bad,
    };
    let mut lines = vec![format!(
        "relayd {} on {} is {}, up {}",
        status.version,
        status.hostname,
        screen.paint(&status.health, tone),
        text::span(status.uptime)
    )];
    let problems = status.problems.iter();
    lines.extend(problems.map(|problem| format!("  {}", screen.paint(problem, Tone::Bad))));
    lines.push(String::new());
    lines.extend(queue(status));
    lines.extend(flow(status, screen));
    let mut explained = BTreeSet::new();
    if !status.sites.is_empty() {
        lines.push(String::new());
        lines.push(sites(&status.sites, now, screen));
        let notes = site::notes(&status.sites, now);
        if !notes.is_empty() {
            lines.push(String::new());
            lines.extend(notes);
        }
        lines.extend(trouble(&status.sites, &mut explained, screen));
    }
    for alert in &status.alerts {
        lines.push(String::new());
        lines.push(self::alert(alert, now, screen));
        let advice = alert.advice.as_ref();
        if let Some(advice) = advice.filter(|advice| explained.insert(&advice.rule)) {
            lines.extend(show::advice(advice, screen));
        }
    }
    lines.join("\n")
}

fn queue(status: &StatusView) -> Vec<String> {
    let queue = &status.queue;
    let oldest = match queue.oldest_age {
        Some(age) => format!(", the oldest {} old", text::span(age)),
        None => String::new(),
    };
    let mut lines = vec![
        format!(
            "Queue        {}, {}{oldest}",
            text::count(queue.messages, "message"),
            text::size(queue.bytes)
        ),
        format!(
            "Recipients   {} not tried yet, {} deferred, {} held{}",
            queue.queued,
            queue.deferred,
            queue.held,
            match queue.held {
                0 => "",
                _ => " (until relayctl queue release)",
            }
        ),
    ];
    if let (Some(free), Some(kept)) = (queue.free_bytes, queue.reserve_bytes) {
        let quarantined = match queue.quarantined {
            0 => String::new(),
            count => format!("; {count} in quarantine"),
        };
        lines.push(format!(
            "Disk         {} free, {} kept; journal {}, index {}{quarantined}",
            text::size(free),
            text::size(kept),
            text::size(queue.journal_bytes),
            text::size(queue.index_bytes)
        ));
    }
    lines
}

fn flow(status: &StatusView, screen: &Screen) -> [String; 2] {
    let (counts, rates) = (&status.counts, &status.rates);
    let line = |name: &str, words: String| text::paragraph(name, &words, screen);
    [
        line(
            "Since start  ",
            format!(
                "{} accepted; {} delivered, {} bounced, {} discarded; {}",
                text::count(counts.accepted, "message"),
                counts.delivered,
                counts.bounced,
                counts.discarded,
                text::count(counts.deferred, "deferral")
            ),
        ),
        line(
            "Per minute   ",
            format!(
                "{} accepted, {} delivered, {} bounced, {} deferred",
                rates.accepted_per_minute,
                rates.delivered_per_minute,
                rates.bounced_per_minute,
                rates.deferred_per_minute
            ),
        ),
    ]
}

fn sites(sites: &[SiteStatus], now: Timestamp, screen: &Screen) -> String {
    let headers = [
        "SITE", "READY", "WAITING", "SESSIONS", "RATE", "TROUBLE", "WHY",
    ];
    let rows = sites
        .iter()
        .map(|site| {
            vec![
                text::shortened(&site.site, screen.width.saturating_sub(64).clamp(20, 36)),
                (site.ready + site.in_flight).to_string(),
                site.waiting.to_string(),
                format!("{}/{}", site.sessions, site.window.min(site.connections)),
                site.rate
                    .map_or_else(String::new, |rate| format!("{rate:.1}/s")),
                trouble_of(site, now),
                site.why.clone().unwrap_or_default(),
            ]
        })
        .collect();
    text::table(&headers, rows, screen)
}

/// `suspended 15m`, `slowed 15m`: for so long still.
fn trouble_of(site: &SiteStatus, now: Timestamp) -> String {
    let (word, until) = match (site.suspended_until, site.slow_until) {
        (Some(until), _) => ("suspended", until),
        (None, Some(until)) => ("slowed", until),
        (None, None) => return String::new(),
    };
    let left = u64::try_from(until.duration_since(now).as_secs()).unwrap_or(0);
    format!("{word} {}", text::span(left))
}

/// What the rules behind suspensions and slow-downs say, each once, and how to try all the same.
fn trouble<'a>(
    sites: &'a [SiteStatus],
    explained: &mut BTreeSet<&'a String>,
    screen: &Screen,
) -> Vec<String> {
    let mut lines = Vec::new();
    let advice = sites.iter().filter_map(|site| site.advice.as_ref());
    for advice in advice.filter(|advice| explained.insert(&advice.rule)) {
        lines.push(String::new());
        lines.extend(show::advice(advice, screen));
    }
    if sites.iter().any(|site| site.suspended_until.is_some()) {
        lines.push(String::new());
        lines.push("Try a suspended site now: relayctl queue flush --site SITE".to_owned());
    }
    lines
}

fn alert(alert: &AlertView, now: Timestamp, screen: &Screen) -> String {
    let mut headline = format!(
        "{} {} ({}): ",
        screen.paint("Alert:", Tone::Bad),
        alert.rule,
        alert.category,
    );
    if alert.recipients > 0 {
        let waiting = text::count(alert.recipients, "recipient");
        headline.push_str(&format!("{waiting} waiting, "));
    }
    if alert.times > 1 {
        headline.push_str(&format!("{}, ", text::count(alert.times, "time")));
    }
    headline.push_str(&format!("last {}", text::ago(alert.at, now)));
    if let Some(site) = alert.sites.first() {
        headline.push_str(&format!(", {site}"));
    }
    if alert.sites.len() > 1 {
        headline.push_str(&format!(" and {} more", alert.sites.len() - 1));
    }
    let reply = text::paragraph("  Reply     ", &alert.reply, screen);
    format!("{headline}\n{reply}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use relay_admin::view::{Advice, Counts, QueueStatus, Rates};

    use super::*;
    use crate::command::queue::samples;

    fn status() -> StatusView {
        StatusView {
            health: "well".to_owned(),
            problems: Vec::new(),
            version: "0.1.0".to_owned(),
            hostname: "relay.example.com".to_owned(),
            started: samples::at(-7_500),
            uptime: 7_500,
            queue: QueueStatus {
                messages: 12,
                queued: 3,
                deferred: 9,
                held: 0,
                bytes: 34_000,
                oldest: Some(samples::at(-3_600)),
                oldest_age: Some(3_600),
                free_bytes: Some(20 << 30),
                reserve_bytes: Some(4 << 30),
                journal_bytes: 64 << 20,
                index_bytes: 1 << 20,
                ..QueueStatus::default()
            },
            counts: Counts {
                accepted: 100,
                delivered: 80,
                deferred: 14,
                bounced: 8,
                discarded: 0,
            },
            rates: Rates {
                accepted_per_minute: 4.0,
                delivered_per_minute: 3.5,
                deferred_per_minute: 0.0,
                bounced_per_minute: 0.0,
            },
            sites: Vec::new(),
            alerts: Vec::new(),
        }
    }

    #[test]
    fn a_healthy_relay_fills_a_few_lines() {
        expect![[r#"
            relayd 0.1.0 on relay.example.com is well, up 2h5m

            Queue        12 messages, 34 kB, the oldest 1h old
            Recipients   3 not tried yet, 9 deferred, 0 held
            Disk         21 GB free, 4.3 GB kept; journal 67 MB, index 1.0 MB
            Since start  100 messages accepted; 80 delivered, 8 bounced, 0 discarded; 14 deferrals
            Per minute   4 accepted, 3.5 delivered, 0 bounced, 0 deferred"#]]
        .assert_eq(&render(&status(), samples::now(), &Screen::plain()));
    }

    #[test]
    fn trouble_is_named_with_its_site_and_rule() {
        let mut status = status();
        status.health = "unwell".to_owned();
        status.problems = vec!["rule ip-blocked asks for a person".to_owned()];
        let advice = Advice {
            rule: "ip-blocked".to_owned(),
            place: "etc/policy.toml:12".to_owned(),
            explain: None,
            fix: Some("Find the list, mend the cause, ask to be taken off.".to_owned()),
        };
        status.sites = vec![SiteStatus {
            site: "mx.example.net".to_owned(),
            waiting: 9,
            window: 5,
            connections: 20,
            rate: Some(2.5),
            suspended_until: Some(samples::at(900)),
            why: Some("ip-blocked".to_owned()),
            advice: Some(advice.clone()),
            ..SiteStatus::default()
        }];
        status.alerts = vec![AlertView {
            at: samples::at(-60),
            rule: "ip-blocked".to_owned(),
            category: "ip-blocked".to_owned(),
            reply: "550 5.7.1 listed".to_owned(),
            recipients: 9,
            times: 12,
            since: Some(samples::at(-600)),
            sites: vec!["mx.example.net".to_owned(), "mx.other.example".to_owned()],
            advice: Some(advice),
        }];
        expect![[r#"
            relayd 0.1.0 on relay.example.com is unwell, up 2h5m
              rule ip-blocked asks for a person

            Queue        12 messages, 34 kB, the oldest 1h old
            Recipients   3 not tried yet, 9 deferred, 0 held
            Disk         21 GB free, 4.3 GB kept; journal 67 MB, index 1.0 MB
            Since start  100 messages accepted; 80 delivered, 8 bounced, 0 discarded; 14 deferrals
            Per minute   4 accepted, 3.5 delivered, 0 bounced, 0 deferred

            SITE            READY  WAITING  SESSIONS  RATE   TROUBLE        WHY
            mx.example.net  0      9        0/5       2.5/s  suspended 15m  ip-blocked

              Rule      ip-blocked (etc/policy.toml:12)
              To do     Find the list, mend the cause, ask to be taken off.

            Try a suspended site now: relayctl queue flush --site SITE

            Alert: ip-blocked (ip-blocked): 9 recipients waiting, 12 times, last 1m ago, mx.example.net and 1 more
              Reply     550 5.7.1 listed"#]]
        .assert_eq(&render(&status, samples::now(), &Screen::plain()));
    }
}
