//! `relayctl site`: the sites that mail goes to, how they are, and why.

use clap::Subcommand;
use jiff::Timestamp;
use relay_admin::site::{Resume, Suspend, is_meant};
use relay_admin::view::{HostStatus, LimitView, SiteStatus, SitesView};

use crate::client::{Client, Pairs};
use crate::command::show;
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{self, Format, Screen, Tone, parse_span};

#[derive(Subcommand)]
pub enum Site {
    /// All sites with work, sessions or something to tell
    List {
        #[command(flatten)]
        output: crate::Output,
    },
    /// One site: health, limits as set and learned, source addresses, why it is slow, until when
    Show {
        /// Its name, one of its hosts, or a domain whose mail goes there
        site: String,
        #[command(flatten)]
        output: crate::Output,
    },
    /// Send nothing there; what is due waits
    Suspend {
        /// Its name, one of its hosts, or a domain whose mail goes there
        site: String,
        /// For so long, such as 2h; without it until it is resumed
        #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
        length: Option<u64>,
        #[command(flatten)]
        output: crate::Output,
    },
    /// End its suspensions and slow-downs, those of source addresses too
    Resume {
        /// Its name, one of its hosts, or a domain whose mail goes there
        site: String,
        #[command(flatten)]
        output: crate::Output,
    },
}

impl Site {
    pub async fn run(self, client: &Client, screen: &Screen) -> Outcome {
        let (view, output, how) = match self {
            Site::List { output } => (all(client).await?, output, How::Table),
            Site::Show { site, output } => {
                let mut view = all(client).await?;
                view.sites.retain(|known| is_meant(known, &site));
                if view.sites.is_empty() {
                    return Err(Trouble::NotWell(format!(
                        "{site}: no site of this name has work or anything to tell now; see relayctl site list"
                    )));
                }
                (view, output, How::Whole)
            }
            Site::Suspend {
                site,
                length,
                output,
            } => {
                let command = Suspend {
                    site,
                    seconds: length,
                };
                let view = client.post("/v1/sites/suspend", &command).await?;
                (view, output, How::Whole)
            }
            Site::Resume { site, output } => {
                let view = client.post("/v1/sites/resume", &Resume { site }).await?;
                (view, output, How::Whole)
            }
        };
        print(&view, output.format(), how, screen);
        Ok(Done::Well)
    }
}

#[derive(Clone, Copy)]
enum How {
    Table,
    Whole,
}

async fn all(client: &Client) -> Result<SitesView, Trouble> {
    client.get("/v1/sites", &Pairs::new()).await
}

fn print(view: &SitesView, format: Format, how: How, screen: &Screen) {
    let now = Timestamp::now();
    match (format, how) {
        (Format::Json, _) => {
            for site in &view.sites {
                println!("{}", text::json_line(site));
            }
        }
        (Format::Text, _) if view.sites.is_empty() => println!("no site has anything to tell"),
        (Format::Text, How::Table) => {
            println!("{}", table(&view.sites, now, screen));
            let notes = notes(&view.sites, now);
            if !notes.is_empty() {
                println!("\n{}", notes.join("\n"));
            }
        }
        (Format::Text, How::Whole) => {
            for site in &view.sites {
                println!("{}", whole(site, now, screen));
            }
        }
    }
}

fn table(sites: &[SiteStatus], now: Timestamp, screen: &Screen) -> String {
    let headers = [
        "SITE", "DUE", "WAITING", "SESSIONS", "RATE", "HEALTH", "WHY",
    ];
    let row = |site: &SiteStatus| {
        vec![
            text::shortened(&site.site, screen.width.saturating_sub(64).clamp(20, 60)),
            (site.ready + site.in_flight).to_string(),
            site.waiting.to_string(),
            format!("{}/{}", site.sessions, site.window.min(site.connections)),
            rate(site),
            health(site, now),
            site.why.clone().unwrap_or_default(),
        ]
    };
    text::table(&headers, sites.iter().map(row).collect(), screen)
}

/// What the table has no place for: source addresses that pause, hosts that are dead, what was learned.
pub fn notes(sites: &[SiteStatus], now: Timestamp) -> Vec<String> {
    let left = |until: Timestamp| match until == Timestamp::MAX {
        true => "until resumed".to_owned(),
        false => text::until(until, now).replacen("in ", "for ", 1),
    };
    let mut notes = Vec::new();
    for site in sites {
        let name = text::shortened(&site.site, 36);
        for source in &site.sources {
            let until = source
                .until
                .map_or_else(String::new, |until| format!(" {}", left(until)));
            let (address, state, rule) = (&source.address, &source.state, &source.rule);
            notes.push(format!("{name}: source {address} {state}{until} by {rule}"));
        }
        for host in &site.hosts {
            let until = host
                .until
                .map_or_else(String::new, |until| format!(" {}", left(until)));
            let (host, state) = (server(host), &host.state);
            notes.push(format!("{name}: host {host} {state}{until}"));
        }
        for learned in &site.learned {
            let (what, until) = (&learned.what, left(learned.until));
            notes.push(format!("{name}: learned {what} {until}"));
        }
    }
    notes
}

/// The port tells relays of one host apart; with MX hosts it is mostly the usual one.
fn server(host: &HostStatus) -> String {
    match host.port {
        25 => host.host.clone(),
        port => format!("{} port {port}", host.host),
    }
}

fn rate(site: &SiteStatus) -> String {
    site.rate
        .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}/s"))
}

fn health(site: &SiteStatus, now: Timestamp) -> String {
    let for_ = |until: Timestamp| match until == Timestamp::MAX {
        true => "until resumed".to_owned(),
        false => text::until(until, now).replacen("in ", "for ", 1),
    };
    match (site.suspended_until, site.slow_until, site.recovering_until) {
        (Some(until), _, _) => format!("suspended {}", for_(until)),
        (None, Some(until), _) => format!("slowed, a step back {}", text::until(until, now)),
        (None, None, Some(until)) => format!("recovering, a step on {}", text::until(until, now)),
        (None, None, None) if !site.sources.is_empty() => "sources paused".to_owned(),
        (None, None, None) => "well".to_owned(),
    }
}

fn whole(site: &SiteStatus, now: Timestamp, screen: &Screen) -> String {
    let fact = |name: &str, value: &str| {
        text::paragraph(&format!("  {:<9} ", format!("{name}:")), value, screen)
    };
    let mut lines = vec![
        screen.paint(&format!("Site {}", site.site), Tone::Strong),
        fact("Health", &health(site, now)),
        fact(
            "Work",
            &format!(
                "{} due, {} under way, {} waiting",
                site.ready, site.in_flight, site.waiting
            ),
        ),
        fact(
            "Sessions",
            &format!(
                "{} now; {} by the limits, {} by what the site has taken",
                site.sessions, site.connections, site.window
            ),
        ),
        fact("Rate", &rate(site)),
        fact(
            "Limits",
            &format!(
                "{} messages in a connection, {} recipients in a transaction",
                site.messages_per_connection, site.recipients_per_transaction
            ),
        ),
    ];
    if !site.hops.is_empty() {
        let more = site.hops_total.saturating_sub(site.hops.len() as u64);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        lines.push(fact("Domains", &format!("{}{more}", site.hops.join(", "))));
    }
    for limit in &site.limits {
        lines.push(fact("Limit", &limit_words(limit, now)));
    }
    for learned in &site.learned {
        let until = text::until(learned.until, now);
        lines.push(fact(
            "Learned",
            &format!("{} (forgotten {until})", learned.what),
        ));
    }
    for source in &site.sources {
        let until = source.until.map_or_else(String::new, |until| {
            format!(", next step {}", text::until(until, now))
        });
        lines.push(fact(
            "Source",
            &format!(
                "{} {} by {}{until}",
                source.address, source.state, source.rule
            ),
        ));
    }
    for host in &site.hosts {
        let what = if host.state == "dead" {
            "probed"
        } else {
            "until"
        };
        let until = host.until.map_or_else(String::new, |until| {
            format!(", {what} {}", text::until(until, now))
        });
        let server = server(host);
        let HostStatus {
            address,
            state,
            why,
            ..
        } = host;
        // Of a relay that is named by its address there is no more to tell.
        let address = match host.host.starts_with('[') {
            true => String::new(),
            false => format!(" [{address}]"),
        };
        let words = format!("{server}{address} {state}{until}: {why}");
        lines.push(fact("Host", &words));
    }
    if let Some(why) = &site.why {
        lines.push(fact("Why", why));
    }
    lines.extend(
        site.advice
            .iter()
            .flat_map(|advice| show::advice(advice, screen)),
    );
    lines.join("\n")
}

/// `connections 5 (learned, forgotten in 30m)`
fn limit_words(limit: &LimitView, now: Timestamp) -> String {
    let until = limit.until.map_or_else(String::new, |until| {
        format!(", forgotten {}", text::until(until, now))
    });
    let used = limit
        .used
        .map_or_else(String::new, |used| format!(", {used} in use"));
    let LimitView {
        what, value, from, ..
    } = limit;
    format!("{what} {value} ({from}{until}{used})")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use relay_admin::view::{LearnedView, SourceStatus};

    use super::*;
    use crate::command::queue::samples;

    #[test]
    fn a_site_shows_what_it_has_taught_and_which_sources_it_blocks() {
        let site = SiteStatus {
            site: "mx.example.net".to_owned(),
            hops: vec!["example.net".to_owned()],
            hops_total: 3,
            ready: 4,
            sessions: 2,
            connections: 10,
            window: 5,
            messages_per_connection: 100,
            recipients_per_transaction: 3,
            sources: vec![SourceStatus {
                address: "192.0.2.1".to_owned(),
                state: "suspended".to_owned(),
                until: Some(samples::at(3600)),
                rule: "block-listed".to_owned(),
            }],
            learned: vec![LearnedView {
                what: "at most 3 recipients in one transaction".to_owned(),
                until: samples::at(1800),
            }],
            limits: vec![
                LimitView {
                    what: "connections".to_owned(),
                    value: "10".to_owned(),
                    from: "relayd.toml:14".to_owned(),
                    ..LimitView::default()
                },
                LimitView {
                    what: "recipients_per_transaction".to_owned(),
                    value: "3".to_owned(),
                    from: "learned".to_owned(),
                    until: Some(samples::at(1800)),
                    used: None,
                },
                LimitView {
                    what: "connections to provider google".to_owned(),
                    value: "20".to_owned(),
                    from: "relayd.toml:18".to_owned(),
                    until: None,
                    used: Some(7),
                },
            ],
            hosts: vec![HostStatus {
                host: "mx1.example.net".to_owned(),
                address: "192.0.2.9".to_owned(),
                port: 25,
                state: "dead".to_owned(),
                until: Some(samples::at(120)),
                why: "no answer within 30 s".to_owned(),
            }],
            ..SiteStatus::default()
        };
        expect![[r#"
            Site mx.example.net
              Health:   sources paused
              Work:     4 due, 0 under way, 0 waiting
              Sessions: 2 now; 10 by the limits, 5 by what the site has taken
              Rate:     -
              Limits:   100 messages in a connection, 3 recipients in a transaction
              Domains:  example.net and 2 more
              Limit:    connections 10 (relayd.toml:14)
              Limit:    recipients_per_transaction 3 (learned, forgotten in 30m)
              Limit:    connections to provider google 20 (relayd.toml:18, 7 in use)
              Learned:  at most 3 recipients in one transaction (forgotten in 30m)
              Source:   192.0.2.1 suspended by block-listed, next step in 1h
              Host:     mx1.example.net [192.0.2.9] dead, probed in 2m: no answer within 30 s"#]]
        .assert_eq(&whole(&site, samples::now(), &Screen::plain()));
        expect![[r#"
            mx.example.net: source 192.0.2.1 suspended for 1h by block-listed
            mx.example.net: host mx1.example.net dead for 2m
            mx.example.net: learned at most 3 recipients in one transaction for 30m"#]]
        .assert_eq(&notes(&[site], samples::now()).join("\n"));
    }
}
