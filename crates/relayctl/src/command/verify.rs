//! `relayctl queue verify`: whether all that is stored can be read, and the index says the same as
//! the journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use relay_admin::view::VerifyView;
use relay_queue::verify::{BodyFound, Differs, Progress, Report};
use relay_queue::{OpenError, verify};

use crate::client::{Client, Pairs};
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{self, Format, Screen, Tone};

/// How often it is looked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Findings of one kind that are shown in text.
const SHOWN: usize = 20;

/// Beside a running relayd. One that is running already is followed to its end.
pub async fn online(client: &Client, format: Format, screen: &Screen) -> Outcome {
    let nothing = serde_json::json!({});
    let mut view: VerifyView = client.post("/v1/queue/verify", &nothing).await?;
    let bar = bar();
    while view.running {
        bar.set_length(view.total_bytes);
        bar.set_position(view.done_bytes);
        tokio::time::sleep(LOOK_EVERY).await;
        view = client.get("/v1/queue/verify", &Pairs::new()).await?;
    }
    bar.finish_and_clear();
    match (view.report, view.error) {
        (Some(report), _) => Ok(tell(&report, format, screen)),
        (None, error) => {
            Err(Trouble::NotWell(error.unwrap_or_else(|| {
                "relayd was restarted meanwhile".to_owned()
            })))
        }
    }
}

/// A directory that no relayd uses.
pub fn offline(directory: PathBuf, format: Format, screen: &Screen) -> Outcome {
    let progress = Arc::new(Progress::default());
    let working = {
        let (directory, progress) = (directory.clone(), progress.clone());
        std::thread::spawn(move || verify(&directory, &progress))
    };
    let bar = bar();
    while !working.is_finished() {
        let (done, total) = progress.bytes();
        bar.set_length(total);
        bar.set_position(done);
        std::thread::sleep(LOOK_EVERY.min(Duration::from_millis(20)));
    }
    bar.finish_and_clear();
    let report = working.join();
    let report = report.map_err(|_| Trouble::NotWell("verifying panicked".to_owned()))?;
    let report = report.map_err(|error| refused(&directory, &error))?;
    Ok(tell(&report, format, screen))
}

fn refused(directory: &Path, error: &OpenError) -> Trouble {
    match error {
        OpenError::Locked(_) => Trouble::NotWell(format!(
            "{} is in use by relayd: stop it, or leave --offline out",
            directory.display()
        )),
        OpenError::Version { .. } | OpenError::NoVersion(_) => {
            Trouble::Configuration(error.to_string())
        }
        OpenError::Io { .. } | OpenError::Index { .. } => Trouble::NotWell(error.to_string()),
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}  {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn tell(report: &Report, format: Format, screen: &Screen) -> Done {
    match format {
        Format::Json => println!("{}", text::json_line(&with_verdict(report))),
        Format::Text => println!("{}", render(report, screen)),
    }
    match report.is_well() {
        true => Done::Well,
        false => Done::NotWell,
    }
}

fn with_verdict(report: &Report) -> serde_json::Value {
    let mut value = serde_json::json!(report);
    if let Some(object) = value.as_object_mut() {
        object.insert("well".to_owned(), report.is_well().into());
    }
    value
}

fn render(report: &Report, screen: &Screen) -> String {
    let number = |n: u64| n.to_string();
    let index = match (&report.index_messages, &report.index_problem) {
        (_, Some(problem)) => format!("{problem}; it is made anew at the next start"),
        (Some(messages), None) => text::count(*messages, "message"),
        (None, None) => String::new(),
    };
    let missing: Vec<String> = report.missing_segments.iter().map(u32::to_string).collect();
    let mut rows = vec![
        (
            "segments",
            format!("{} ({})", report.segments, text::size(report.bytes)),
        ),
        ("records", number(report.records)),
        ("messages", number(report.messages)),
        ("damaged", number(report.damaged)),
        (
            "missing",
            match missing.is_empty() {
                true => "0".to_owned(),
                false => format!("segments {}", missing.join(", ")),
            },
        ),
        ("index", index),
        ("differences", number(report.differences)),
        ("bodies lost", number(report.bodies_lost)),
        (
            "quarantine",
            text::count(report.quarantine.len() as u64, "file"),
        ),
    ];
    if report.torn_bytes > 0 {
        let torn = format!(
            "{} that were never promised",
            text::count(report.torn_bytes, "byte")
        );
        rows.push(("torn", torn));
    }
    let rows = rows
        .into_iter()
        .map(|(what, found)| vec![what.to_owned(), found]);
    let mut parts = vec![text::table(&["WHAT", "FOUND"], rows.collect(), screen)];
    let mut lines = Vec::new();
    for damage in report.damage.iter().take(SHOWN) {
        lines.push(format!(
            "journal segment {} at byte {}: {} ({})",
            damage.segment,
            damage.offset,
            damage.reason,
            text::count(damage.bytes, "byte")
        ));
    }
    for difference in report.difference.iter().take(SHOWN) {
        let what = match difference.what {
            Differs::NotInIndex => "is in the journal and not in the index",
            Differs::NotInJournal => "is in the index; the journal's record of it cannot be read",
            Differs::Content => "is not the same in journal and index",
            Differs::Body => "has a body of its own in big/",
        };
        let body = match difference.body {
            BodyFound::Sound => "",
            BodyFound::Lost => "; its body is lost",
        };
        lines.push(format!("message {} {what}{body}", difference.id));
    }
    for kept in report.quarantine.iter().take(SHOWN) {
        let reason = kept.reason.as_deref().unwrap_or("no reason is given");
        let reason = text::harmless(reason.trim());
        lines.push(format!(
            "quarantine/{}: {reason}",
            text::harmless(&kept.name)
        ));
    }
    if !lines.is_empty() {
        parts.push(lines.join("\n"));
    }
    parts.push(match report.is_well() {
        true => screen.paint("well", Tone::Good),
        false => screen.paint("not well", Tone::Bad),
    });
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_queue::verify::{Damage, Difference};

    #[test]
    fn what_was_found_is_told_with_its_place() {
        let report = Report {
            segments: 3,
            bytes: 5000,
            records: 10,
            messages: 4,
            damaged: 1,
            damage: vec![Damage {
                segment: 2,
                offset: 4096,
                bytes: 300,
                reason: "the record's checksum is wrong".to_owned(),
            }],
            index_messages: Some(5),
            differences: 1,
            difference: vec![Difference {
                id: "3f7k9q2mxt4p".to_owned(),
                what: Differs::NotInJournal,
                body: BodyFound::Lost,
            }],
            bodies_lost: 1,
            ..Report::default()
        };
        let text = render(&report, &Screen::plain());
        for words in [
            "journal segment 2 at byte 4096: the record's checksum is wrong (300 bytes)",
            "message 3f7k9q2mxt4p is in the index; the journal's record of it cannot be read; its body is lost",
            "not well",
        ] {
            assert!(text.contains(words), "{words} is missing in:\n{text}");
        }
        assert_eq!(with_verdict(&report)["well"], false);
        let well = Report::default();
        assert!(render(&well, &Screen::plain()).ends_with("\nwell"));
    }
}
