//! `relayctl metrics`: what Prometheus is told, for people without one.

use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::outcome::{Done, Outcome};
use crate::text::{self, Format};

pub async fn run(client: &Client, format: Format) -> Outcome {
    let answer = client.get_text("/metrics").await?;
    match format {
        Format::Text => print!("{answer}"),
        Format::Json => {
            for series in answer.lines().filter_map(series) {
                println!("{}", text::json_line(&series));
            }
        }
    }
    Ok(Done::Well)
}

/// `name{label="value"} 3` as an object; None: a comment.
fn series(line: &str) -> Option<Value> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let value: f64 = value.parse().ok()?;
    Some(json!({ "name": name, "labels": labels_of(labels), "value": value }))
}

fn labels_of(mut text: &str) -> Map<String, Value> {
    let mut labels = Map::new();
    while let Some((label, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| match escaped {
                    'n' => '\n',
                    other => other,
                })),
                other => value.push(other),
            }
        }
        labels.insert(label.trim_start_matches(',').to_owned(), value.into());
        text = rest.get(end..).unwrap_or_default();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_becomes_an_object() {
        let object = |line| series(line).unwrap();
        assert_eq!(series("# TYPE a counter"), None);
        assert_eq!(
            object("a_total 3"),
            json!({ "name": "a_total", "labels": {}, "value": 3.0 })
        );
        assert_eq!(
            object(r#"b{reason="a \"b\" \\ c",code="4,5"} 0.5"#),
            json!({ "name": "b", "labels": { "reason": "a \"b\" \\ c", "code": "4,5" }, "value": 0.5 })
        );
    }
}
