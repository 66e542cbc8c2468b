//! `relayctl send`: hands a message to relayd, to try things out or from a script.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relay_admin::view::{MessageDetail, RecipientView, StatusView, Submitted};

use crate::Output;
use crate::client::{Client, Pairs};
use crate::command::wait::{Ended, Look, until_finished};
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{self, Format, Screen, Tone, state_tone};

#[derive(clap::Args)]
pub struct Send {
    /// Recipient; may be given several times
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<String>,
    /// Sender, where bounces go; <> for none [default: you at relayd's hostname]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Test message from relayctl"
    )]
    subject: String,
    /// A whole message, header and body, from this file; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "text"])]
    file: Option<PathBuf>,
    /// Wait until every recipient has been tried, and show what came of it; exit status 1 unless
    /// all were delivered
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 30s or 10m
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = text::parse_span)]
    timeout: u64,
    #[command(flatten)]
    output: Output,
    /// The text of the message
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
}

impl Send {
    pub async fn run(self, client: &Client, screen: &Screen) -> Outcome {
        let from = match &self.from {
            Some(from) => from.clone(),
            None => default_sender(client).await?,
        };
        let message = match &self.file {
            Some(path) => read(path)?,
            None => compose(&from, &self.to, &self.subject, &self.text.join(" ")).into_bytes(),
        };
        let mut pairs: Pairs = vec![("from", from)];
        pairs.extend(self.to.iter().map(|to| ("to", to.clone())));
        let submitted: Submitted = client.post_message("/v1/messages", &pairs, message).await?;
        let format = self.output.format();
        match (format, self.wait) {
            (Format::Json, true) => {}
            (Format::Json, false) => println!("{}", text::json_line(&submitted)),
            (Format::Text, _) => println!("{}", submitted.id),
        }
        if !self.wait {
            return Ok(Done::Well);
        }
        let most = Duration::from_secs(self.timeout);
        watch(client, &submitted, most, format, screen).await
    }
}

/// The user's name at relayd's own name.
async fn default_sender(client: &Client) -> Result<String, Trouble> {
    let status: StatusView = client.get("/v1/status", &Pairs::new()).await?;
    let user = std::env::var("USER").unwrap_or_default();
    let plain = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let local_part = if plain(&user) { &user } else { "postmaster" };
    Ok(format!("{local_part}@{}", status.hostname))
}

fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    let mut message = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut message)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut message))
    };
    match read {
        Ok(_) => Ok(message),
        Err(error) => Err(Trouble::NotWell(format!("{}: {error}", path.display()))),
    }
}

/// A plain text message; relayd adds Received, Date and Message-ID.
fn compose(from: &str, to: &[String], subject: &str, text: &str) -> String {
    let text = match text {
        "" => "This is a test message from relayctl.",
        text => text,
    };
    let from = match from {
        "" | "<>" => "postmaster@localhost.invalid",
        from => from,
    };
    let to: Vec<String> = to.iter().map(|to| one_line(to)).collect();
    let encoding = if text.is_ascii() { "7bit" } else { "8bit" };
    let mut message = String::new();
    for (name, value) in [
        ("From", one_line(from)),
        ("To", to.join(",\r\n ")),
        ("Subject", encoded(&one_line(subject))),
        ("MIME-Version", "1.0".to_owned()),
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ("Content-Transfer-Encoding", encoding.to_owned()),
    ] {
        message.push_str(&format!("{name}: {value}\r\n"));
    }
    message.push_str("\r\n");
    for line in text.lines() {
        message.push_str(line);
        message.push_str("\r\n");
    }
    message
}

/// What the shell gave us must not begin a new header field.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// Encoded words (RFC 2047 section 4.2) where the text is not ASCII, each of at most 75 characters.
fn encoded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    const ROOM: usize = 75 - "=?utf-8?Q??=".len();
    let mut words = vec![String::new()];
    for character in text.chars() {
        let mut bytes = [0; 4];
        let coded: String = character
            .encode_utf8(&mut bytes)
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
                b' ' => "_".to_owned(),
                other => format!("={other:02X}"),
            })
            .collect();
        match words.last_mut() {
            Some(word) if word.len() + coded.len() <= ROOM => word.push_str(&coded),
            Some(_) | None => words.push(coded),
        }
    }
    let words: Vec<String> = words.iter().map(|w| format!("=?utf-8?Q?{w}?=")).collect();
    words.join("\r\n ")
}

/// Waits until each recipient has been tried, then shows them.
async fn watch(
    client: &Client,
    submitted: &Submitted,
    most: Duration,
    format: Format,
    screen: &Screen,
) -> Outcome {
    let path = format!("/v1/queue/{}", submitted.id);
    let none = Pairs::new();
    let ended = until_finished(submitted.recipients, most, || async {
        let detail: MessageDetail = client.get(&path, &none).await?;
        Ok(match untried(&detail.message.recipients) {
            0 => Look::Finished,
            untried => Look::Waiting(untried),
        })
    })
    .await?;
    let detail: MessageDetail = client.get(&path, &none).await?;
    match format {
        Format::Json => println!("{}", text::json_line(&detail)),
        Format::Text => {
            for recipient in &detail.message.recipients {
                println!("{}", result(recipient, screen));
            }
        }
    }
    match ended {
        Ended::Finished => {}
        Ended::TimeIsOver(_) => eprintln!("the time is over; see relayctl queue show"),
    }
    let recipients = &detail.message.recipients;
    Ok(if recipients.iter().all(|r| r.state == "delivered") {
        Done::Well
    } else {
        Done::NotWell
    })
}

fn untried(recipients: &[RecipientView]) -> u64 {
    let waits = |recipient: &&RecipientView| recipient.state == "queued";
    recipients.iter().filter(waits).count() as u64
}

fn result(recipient: &RecipientView, screen: &Screen) -> String {
    let tone = state_tone(&recipient.state).unwrap_or(Tone::Faint);
    let reply = recipient.last_reply.as_deref().unwrap_or("not tried yet");
    let rule = match (recipient.state.as_str(), &recipient.rule) {
        ("delivered", _) | (_, None) => String::new(),
        (_, Some(rule)) => format!(" (rule {rule})"),
    };
    format!(
        "{} {}: {}{rule}",
        recipient.address,
        screen.paint(&recipient.state, tone),
        text::harmless(reply)
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::command::queue::samples;

    #[test]
    fn a_message_is_composed_with_crlf_and_a_whole_header() {
        let to = ["b@y.test".to_owned(), "c@y.test".to_owned()];
        let message = compose("a@x.test", &to, "Hello", "two\nlines");
        expect![[r#"
            From: a@x.test
            To: b@y.test,
             c@y.test
            Subject: Hello
            MIME-Version: 1.0
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: 7bit

            two
            lines
        "#]]
        .assert_eq(&message.replace("\r\n", "\n"));
        assert_eq!(
            message.matches('\n').count(),
            message.matches("\r\n").count()
        );
    }

    #[test]
    fn an_argument_cannot_add_a_header_field() {
        let message = compose("a@x.test", &[], "Hi\r\nBcc: d@z.test", "text");
        assert!(
            message.contains("Subject: Hi  Bcc: d@z.test\r\n"),
            "{message}"
        );
    }

    #[test]
    fn a_subject_beyond_ascii_becomes_encoded_words_that_keep_characters_whole() {
        assert_eq!(encoded("Grüße"), "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=");
        let long = encoded(&"ü".repeat(40));
        for word in long.split("\r\n ") {
            assert!(word.len() <= 75 && word.ends_with("?="), "{word}");
            assert_eq!((word.len() - 12) % 6, 0, "{word}");
        }
    }

    #[test]
    fn the_result_of_a_recipient_names_reply_and_rule() {
        let mut bounced = samples::recipient("b@y.test", "bounced", "550 5.1.1 No such user");
        bounced.rule = Some("unknown-user".to_owned());
        assert_eq!(
            result(&bounced, &Screen::plain()),
            "b@y.test bounced: 550 5.1.1 No such user (rule unknown-user)"
        );
    }
}
