//! `relayctl queue summary`: domains by age, in text.

use relay_admin::view::{SummaryRow, SummaryView};

use crate::text::{self, Screen};

pub fn render(summary: &SummaryView, screen: &Screen) -> String {
    if summary.total.recipients == 0 {
        return "Nothing waits.".to_owned();
    }
    let bounds: Vec<String> = summary
        .total
        .ages
        .iter()
        .map(|bucket| match bucket.younger_than {
            Some(seconds) => format!("<{}", text::span(seconds)),
            None => "older".to_owned(),
        })
        .collect();
    let mut headers = vec!["DOMAIN", "ALL"];
    headers.extend(bounds.iter().map(String::as_str));
    headers.extend(["OLDEST", "RULE"]);
    let mut rows: Vec<Vec<String>> = summary.domains.iter().map(row).collect();
    let mut total = row(&summary.total);
    if let Some(name) = total.first_mut() {
        *name = "all".to_owned();
    }
    rows.push(total);
    text::table(&headers, rows, screen)
}

fn row(row: &SummaryRow) -> Vec<String> {
    let mut cells = vec![text::shortened(&row.domain, 28), row.recipients.to_string()];
    cells.extend(row.ages.iter().map(|bucket| match bucket.recipients {
        0 => ".".to_owned(),
        some => some.to_string(),
    }));
    cells.push(text::span(row.oldest));
    cells.push(row.rule.clone().unwrap_or_default());
    cells
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use relay_admin::summary::AGES;
    use relay_admin::view::AgeBucket;

    use super::*;

    fn summary_row(domain: &str, counts: [u64; 8], rule: Option<&str>) -> SummaryRow {
        SummaryRow {
            domain: domain.to_owned(),
            recipients: counts.iter().sum(),
            deferred: 0,
            held: 0,
            oldest: 7_500,
            ages: AGES
                .into_iter()
                .map(Some)
                .chain([None])
                .zip(counts)
                .map(|(younger_than, recipients)| AgeBucket {
                    younger_than,
                    recipients,
                })
                .collect(),
            rule: rule.map(str::to_owned),
        }
    }

    #[test]
    fn domains_stand_above_their_total() {
        let summary = SummaryView {
            domains: vec![
                summary_row("example.com", [1, 0, 2, 3, 0, 0, 0, 0], Some("greylisted")),
                summary_row("example.net", [0, 0, 0, 1, 0, 0, 0, 0], None),
            ],
            total: summary_row("*", [1, 0, 2, 4, 0, 0, 0, 0], Some("greylisted")),
        };
        expect![[r#"
            DOMAIN       ALL  <5m  <20m  <1h  <4h  <12h  <1d  <2d  older  OLDEST  RULE
            example.com  6    1    .     2    3    .     .    .    .      2h5m    greylisted
            example.net  1    .    .     .    1    .     .    .    .      2h5m
            all          7    1    .     2    4    .     .    .    .      2h5m    greylisted"#]]
        .assert_eq(&render(&summary, &Screen::plain()));
    }
}
