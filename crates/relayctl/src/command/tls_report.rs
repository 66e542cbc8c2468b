//! `relayctl tls-report`: what is counted of the TLS with each domain, and when it is told.

use clap::Subcommand;
use jiff::Timestamp;
use relay_admin::view::{TlsReportView, TlsReportsView};

use crate::Output;
use crate::client::Client;
use crate::outcome::{Done, Outcome};
use crate::text::{self, Format, Screen};

#[derive(Subcommand)]
pub enum TlsReport {
    /// What is kept: a line for each day (UTC) and domain, what failed, and when it is told
    List {
        /// Only this domain
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

impl TlsReport {
    pub async fn run(&self, client: &Client, screen: &Screen) -> Outcome {
        match self {
            TlsReport::List { domain, output } => {
                let pairs = domain.iter().map(|domain| ("domain", domain.clone()));
                let pairs = pairs.collect();
                let view: TlsReportsView = client.get("/v1/tls-reports", &pairs).await?;
                match output.format() {
                    Format::Json => {
                        for report in &view.reports {
                            println!("{}", text::json_line(report));
                        }
                    }
                    Format::Text => println!("{}", render(&view, Timestamp::now(), screen)),
                }
                Ok(Done::Well)
            }
        }
    }
}

fn render(view: &TlsReportsView, now: Timestamp, screen: &Screen) -> String {
    if view.reports.is_empty() {
        return "Nothing is counted.".to_owned();
    }
    let headers = [
        "DAY", "DOMAIN", "POLICY", "GOOD", "FAILED", "WHY", "SENT TO", "NEXT",
    ];
    let rows = view.reports.iter().map(|report| row(report, now)).collect();
    text::table(&headers, rows, screen)
}

fn row(report: &TlsReportView, now: Timestamp) -> Vec<String> {
    let why: Vec<String> = report
        .failures
        .iter()
        .map(|failure| format!("{} {}", failure.sessions, failure.result))
        .collect();
    vec![
        report.day.clone(),
        text::shortened(&report.domain, 28),
        report.policies.join(", "),
        report.successful.to_string(),
        report.failed.to_string(),
        why.join(", "),
        report.sent_to.join(", "),
        match report.next_attempt {
            Some(next) => text::until(next, now),
            None => "done".to_owned(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use relay_admin::view::TlsFailureView;

    use super::*;

    #[test]
    fn each_day_of_a_domain_has_a_line_with_what_failed_and_what_is_to_come() {
        let of = |day: &str| TlsReportView {
            day: day.to_owned(),
            domain: "rcpt.example".to_owned(),
            policies: vec!["tlsa".to_owned(), "sts".to_owned()],
            successful: 40,
            ..TlsReportView::default()
        };
        let now: Timestamp = "2026-11-22T23:00:00Z".parse().unwrap();
        let view = TlsReportsView {
            reports: vec![
                TlsReportView {
                    sent_to: vec!["mailto:tls@rcpt.example".to_owned()],
                    ..of("2026-11-21")
                },
                TlsReportView {
                    failed: 3,
                    failures: vec![
                        TlsFailureView {
                            result: "certificate-expired".to_owned(),
                            sessions: 2,
                        },
                        TlsFailureView {
                            result: "tlsa-invalid".to_owned(),
                            sessions: 1,
                        },
                    ],
                    next_attempt: Some("2026-11-23T01:00:00Z".parse().unwrap()),
                    ..of("2026-11-22")
                },
            ],
        };
        expect![[r#"
            DAY         DOMAIN        POLICY     GOOD  FAILED  WHY                                    SENT TO                  NEXT
            2026-11-21  rcpt.example  tlsa, sts  40    0                                              mailto:tls@rcpt.example  done
            2026-11-22  rcpt.example  tlsa, sts  40    3       2 certificate-expired, 1 tlsa-invalid                           in 2h"#]].assert_eq(&render(&view, now, &Screen::plain()));
        let none = TlsReportsView::default();
        assert_eq!(render(&none, now, &Screen::plain()), "Nothing is counted.");
    }
}
