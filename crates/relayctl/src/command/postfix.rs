//! The queue of a Postfix that has been stopped, read by its own `postcat`.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use jiff::fmt::strtime;
use relay_admin::line::{AttemptLine, MessageLine, RecipientLine};

use crate::outcome::Trouble;

/// Where messages lie. `maildrop` is not among them: what is there has not been taken over yet.
const QUEUES: [&str; 4] = ["incoming", "active", "deferred", "hold"];

/// The queue files of queue directories, and those that are named themselves.
pub fn queue_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Trouble> {
    let mut files = Vec::new();
    for path in paths {
        let cannot =
            |error: std::io::Error| Trouble::NotWell(format!("{}: {error}", path.display()));
        if !std::fs::metadata(path).map_err(cannot)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        is_stopped(path)?;
        for queue in QUEUES {
            let below = path.join(queue);
            if below.exists() {
                collect(&below, &mut files).map_err(cannot)?;
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What Postfix delivers meanwhile would be delivered twice.
fn is_stopped(directory: &Path) -> Result<(), Trouble> {
    let pid = std::fs::read_to_string(directory.join("pid/master.pid")).unwrap_or_default();
    let pid = pid.trim();
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status"));
    // One that has ended and is only waited for runs no more.
    let runs = status.is_ok_and(|status| !status.contains("State:\tZ"));
    match !pid.is_empty() && runs {
        false => Ok(()),
        true => Err(Trouble::NotWell(format!(
            "{}: Postfix is running (process {pid}) and would deliver the same mail; stop it first: postfix stop",
            directory.display()
        ))),
    }
}

/// Deferred ones lie in folders by the first characters of their names.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

/// One message. None: nobody is left to get it.
pub fn read(path: &Path) -> Result<Option<MessageLine>, String> {
    let envelope = postcat("-e", path)?;
    let envelope = String::from_utf8(envelope).map_err(|_| "its envelope is not UTF-8")?;
    let mut message = parse(&envelope)?;
    if message.recipients.is_empty() {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    message.id = format!("postfix-{name}");
    let held = path.components().any(|part| part.as_os_str() == "hold");
    // Of a deferred file that is the time of its next attempt.
    let changed = std::fs::metadata(path).and_then(|found| found.modified());
    let next = changed.ok().and_then(|at| Timestamp::try_from(at).ok());
    for recipient in &mut message.recipients {
        recipient.next_attempt = next;
        if held {
            hold(recipient);
        }
    }
    let body = with_crlf(&postcat("-hb", path)?);
    message.eight_bit = !body.is_ascii();
    let addresses = message
        .recipients
        .iter()
        .map(|recipient| &recipient.address);
    message.smtputf8 = addresses
        .chain([&message.sender])
        .any(|address| !address.is_ascii());
    Ok(Some(message.with_body(&body)))
}

fn hold(recipient: &mut RecipientLine) {
    recipient.state = "held".to_owned();
    recipient.history.push(AttemptLine {
        at: Timestamp::now(),
        host: None,
        tls: None,
        phase: "dns".to_owned(),
        reply: "was on hold in Postfix".to_owned(),
        category: "operator".to_owned(),
        action: "hold".to_owned(),
        rule: "operator".to_owned(),
    });
}

/// With times in UTC and words in English.
fn postcat(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    let mut command = Command::new("postcat");
    let path_there = std::env::var("PATH").unwrap_or_default();
    // Debian keeps it where only root looks.
    command.env("PATH", format!("{path_there}:/usr/sbin:/usr/local/sbin"));
    command
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .arg(what)
        .arg(path);
    let output = command
        .output()
        .map_err(|error| format!("postcat: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The envelope as `postcat -e` prints it: `name: value`, what belongs to a recipient before it.
fn parse(envelope: &str) -> Result<MessageLine, String> {
    let mut message = MessageLine::default();
    let (mut sender, mut arrived) = (None, None);
    let mut next = RecipientLine::default();
    for line in envelope.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim_start();
        match name {
            "message_arrival_time" => arrived = Some(time(value)?),
            "sender" => sender = Some(value),
            "named_attribute" => attribute(value, &mut message, &mut next),
            "recipient" => {
                let mut recipient = std::mem::take(&mut next);
                recipient.address = value.to_owned();
                recipient.state = "queued".to_owned();
                message.recipients.push(recipient);
            }
            // Delivered or bounced already, and taken out of the queue.
            "done_recipient" | "canceled_recipient" => next = RecipientLine::default(),
            _ => {}
        }
    }
    message.sender = match sender {
        None => return Err("it has no sender: not a queue file that is whole".to_owned()),
        Some("") => "<>".to_owned(),
        Some(sender) => sender.to_owned(),
    };
    message.arrived = arrived.ok_or("it does not say when it arrived")?;
    Ok(message)
}

/// DSN parameters: of the message before the recipients, of a recipient before it.
fn attribute(text: &str, message: &mut MessageLine, next: &mut RecipientLine) {
    let Some((name, value)) = text.split_once('=') else {
        return;
    };
    let number: u32 = value.parse().unwrap_or(0);
    match name {
        "envelope_id" => message.envid = Some(value.to_owned()),
        // DSN_RET_FULL is 1, DSN_RET_HDRS 2.
        "ret_flags" => {
            message.ret = match number {
                1 => Some("full".to_owned()),
                2 => Some("headers".to_owned()),
                _ => None,
            }
        }
        "dsn_orig_rcpt" => next.orcpt = Some(value.to_owned()).filter(|v| !v.is_empty()),
        // DSN_NOTIFY_NEVER is 1, SUCCESS 2, FAILURE 4, DELAY 8.
        "notify_flags" => {
            let words = [(1, "never"), (2, "success"), (4, "failure"), (8, "delay")];
            let words = words.iter().filter(|(bit, _)| number & bit != 0);
            let words: Vec<&str> = words.map(|(_, word)| *word).collect();
            next.notify = Some(words.join(",")).filter(|words| !words.is_empty());
        }
        "sasl_username" => message.user = Some(value.to_owned()),
        "client_address" => message.client = value.parse().ok(),
        _ => {}
    }
}

/// `Sun Nov 22 19:36:20 2026`, in UTC.
fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = |error: jiff::Error| format!("{text:?}: not a time: {error}");
    let parsed = strtime::parse("%a %b %e %H:%M:%S %Y", text).map_err(wrong)?;
    let civil = parsed.to_datetime().map_err(wrong)?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(wrong)?;
    Ok(zoned.timestamp())
}

/// Postfix keeps lines without their CR.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|&b| b == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        lines.extend_from_slice(bare.strip_suffix(b"\r").unwrap_or(bare));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_read_as_postcat_prints_it() {
        let envelope = "*** ENVELOPE RECORDS deferred/0/07E ***\n\
            message_size:             295             392               2\n\
            message_arrival_time: Sun Nov  2 19:36:20 2025\n\
            create_time: Sun Nov  2 19:36:21 2025\n\
            named_attribute: envelope_id=env+20id\n\
            named_attribute: ret_flags=2\n\
            sender: a@from.example\n\
            named_attribute: notify_flags=6\n\
            named_attribute: dsn_orig_rcpt=rfc822;x@rcpt.example\n\
            original_recipient: x@rcpt.example\n\
            done_recipient: x@rcpt.example\n\
            named_attribute: notify_flags=1\n\
            original_recipient: y@rcpt.example\n\
            recipient: y@rcpt.example\n\
            original_recipient: z@rcpt.example\n\
            recipient: z@rcpt.example\n\
            *** MESSAGE CONTENTS deferred/0/07E ***\n";
        let message = parse(envelope).unwrap();
        assert_eq!(message.sender, "a@from.example");
        assert_eq!(message.arrived.to_string(), "2025-11-02T19:36:20Z");
        assert_eq!(message.envid.as_deref(), Some("env+20id"));
        assert_eq!(message.ret.as_deref(), Some("headers"));
        let [y, z] = &message.recipients[..] else {
            panic!("{:?}", message.recipients)
        };
        assert_eq!(
            (y.address.as_str(), y.notify.as_deref()),
            ("y@rcpt.example", Some("never"))
        );
        assert_eq!((&y.orcpt, &z.notify), (&None, &None));
        let nobody = envelope.replace("sender: a@from.example", "sender: ");
        assert_eq!(parse(&nobody).unwrap().sender, "<>");
        assert!(parse("*** ENVELOPE RECORDS ***\n").is_err());
    }

    #[test]
    fn lines_end_as_they_do_on_the_wire() {
        assert_eq!(with_crlf(b"a\n\xff\r\n\nb"), b"a\r\n\xff\r\n\r\nb\r\n");
        assert_eq!(with_crlf(b""), b"");
    }
}
