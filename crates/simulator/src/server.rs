//! One session of a simulated host: a small ESMTP server that takes everything and answers each
//! recipient as its local part asks. It speaks in clear only: STARTTLS is not offered.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use relay_smtp::{EnhancedStatus, Reply};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::kept::Kept;
use crate::net::Shared;
use crate::wish::{self, Wish, wish};

/// A command line may be this long (RFC 5321 section 4.5.3.1.4 wants 512; extensions need more).
const LINE_MAX: u64 = 4096;
/// Announced by SIZE.
const MESSAGE_MAX: usize = 50 * 1024 * 1024;

/// Serves one connection to its end. The stream's errors end it: there is nobody to tell.
pub(crate) async fn serve<S>(stream: S, host: String, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = Session {
        stream: BufReader::new(stream),
        host,
        shared,
        mail: None,
    };
    if let Err(error) = session.run().await {
        tracing::debug!(host = session.host, %error, "simulated session ended");
    }
}

struct Session<S> {
    stream: BufReader<S>,
    host: String,
    shared: Arc<Shared>,
    mail: Option<Transaction>,
}

/// What has been accepted between MAIL and the final dot.
struct Transaction {
    from: String,
    to: Vec<String>,
    /// Of those accepted recipients that want something at the final dot.
    at_dot: Vec<Wish>,
}

/// Whether the session goes on after a command.
enum After {
    GoOn,
    Close,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn run(&mut self) -> io::Result<()> {
        self.say(&format!("220 {} ESMTP simulated\r\n", self.host))
            .await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut self.stream).take(LINE_MAX);
            if limited.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            if !line.ends_with(b"\r\n") {
                return self
                    .say("500 5.5.2 Line too long or not ended by CRLF\r\n")
                    .await;
            }
            let text = String::from_utf8_lossy(&line);
            match self.command(text.trim_end()).await? {
                After::GoOn => {}
                After::Close => return Ok(()),
            }
        }
    }

    async fn command(&mut self, line: &str) -> io::Result<After> {
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.mail = None;
                let offer = format!(
                    "250-{}\r\n250-PIPELINING\r\n250-SIZE {MESSAGE_MAX}\r\n250-8BITMIME\r\n\
                     250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n",
                    self.host
                );
                self.say(&offer).await?;
            }
            "HELO" => {
                self.mail = None;
                self.say(&format!("250 {}\r\n", self.host)).await?;
            }
            "MAIL" => self.mail_from(line).await?,
            "RCPT" => return self.rcpt_to(line).await,
            "DATA" => return self.data().await,
            "RSET" => {
                self.mail = None;
                self.say("250 2.0.0 Reset\r\n").await?;
            }
            "NOOP" => self.say("250 2.0.0 Ok\r\n").await?,
            "QUIT" => {
                self.say("221 2.0.0 Bye\r\n").await?;
                return Ok(After::Close);
            }
            _ => self.say("502 5.5.1 Command not known here\r\n").await?,
        }
        Ok(After::GoOn)
    }

    async fn mail_from(&mut self, line: &str) -> io::Result<()> {
        if self.mail.is_some() {
            return self.say("503 5.5.1 Sender already given\r\n").await;
        }
        match path_of(line) {
            Some(from) => {
                self.mail = Some(Transaction {
                    from: from.to_owned(),
                    to: Vec::new(),
                    at_dot: Vec::new(),
                });
                self.say("250 2.1.0 Sender ok\r\n").await
            }
            None => self.say("501 5.1.7 Write MAIL FROM:<address>\r\n").await,
        }
    }

    async fn rcpt_to(&mut self, line: &str) -> io::Result<After> {
        let Some(mail) = &mut self.mail else {
            self.say("503 5.5.1 MAIL first\r\n").await?;
            return Ok(After::GoOn);
        };
        let Some(address) = path_of(line).filter(|address| !address.is_empty()) else {
            self.say("501 5.1.3 Write RCPT TO:<address>\r\n").await?;
            return Ok(After::GoOn);
        };
        let local_part = address.rsplit_once('@').map_or(address, |(local, _)| local);
        let wished = wish(local_part);
        let refused = match &wished {
            Wish::AtRcpt(reply) => Some(reply.clone()),
            Wish::Greylist => {
                let now = self.shared.clock.now();
                self.shared.greylist.refuses(&mail.from, address, now)
            }
            Wish::Accept | Wish::AtBody(_) | Wish::Slow | Wish::Disconnect => None,
        };
        let Some(reply) = refused else {
            mail.to.push(address.to_owned());
            match wished {
                Wish::AtBody(_) | Wish::Slow | Wish::Disconnect => mail.at_dot.push(wished),
                Wish::Accept | Wish::AtRcpt(_) | Wish::Greylist => {}
            }
            self.say("250 2.1.5 Recipient ok\r\n").await?;
            return Ok(After::GoOn);
        };
        self.say(&format!("{reply}\r\n")).await?;
        Ok(after(&reply))
    }

    async fn data(&mut self) -> io::Result<After> {
        let Some(mail) = self.mail.take_if(|mail| !mail.to.is_empty()) else {
            self.say("503 5.5.1 No accepted recipient\r\n").await?;
            return Ok(After::GoOn);
        };
        self.say("354 End data with <CRLF>.<CRLF>\r\n").await?;
        let Some(bytes) = self.read_message().await? else {
            self.say("552 5.3.4 Message larger than announced by SIZE\r\n")
                .await?;
            return Ok(After::GoOn);
        };
        for wished in &mail.at_dot {
            match wished {
                Wish::AtBody(reply) => {
                    self.say(&format!("{reply}\r\n")).await?;
                    return Ok(after(reply));
                }
                Wish::Disconnect => return Ok(After::Close),
                Wish::Slow => tokio::time::sleep(wish::SLOW).await,
                Wish::Accept | Wish::AtRcpt(_) | Wish::Greylist => {}
            }
        }
        self.shared.kept.keep(Kept {
            when: self.shared.clock.now(),
            host: self.host.clone(),
            from: mail.from,
            to: mail.to,
            bytes: bytes.into(),
        });
        self.say("250 2.0.0 Message accepted (simulated)\r\n")
            .await?;
        Ok(After::GoOn)
    }

    /// Reads to CRLF.CRLF and undoes the dot stuffing (RFC 5321 section 4.5.2). None: too large;
    /// it has been read to its end all the same, so that the session stays in step.
    async fn read_message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        let mut line = Vec::new();
        let mut too_large = false;
        let mut at_line_start = true;
        loop {
            line.clear();
            let mut limited = (&mut self.stream).take(64 * 1024);
            if limited.read_until(b'\n', &mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if at_line_start && line == b".\r\n" {
                return Ok((!too_large).then_some(message));
            }
            let stuffed = at_line_start && line.starts_with(b".");
            too_large |= message.len() + line.len() > MESSAGE_MAX;
            if !too_large {
                message.extend_from_slice(line.get(usize::from(stuffed)..).unwrap_or_default());
            }
            at_line_start = line.ends_with(b"\r\n");
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes()).await?;
        self.stream.get_mut().flush().await
    }
}

/// RFC 5321 section 3.8: 421 announces that the connection is being closed.
fn after(reply: &Reply) -> After {
    if reply.code == 421 {
        After::Close
    } else {
        After::GoOn
    }
}

/// What stands between the angle brackets. A quoted local part may hold a `>`.
fn path_of(line: &str) -> Option<&str> {
    let (_, after) = line.split_once('<')?;
    let mut quoted = false;
    let mut escaped = false;
    for (place, character) in after.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return after.get(..place),
            _ => {}
        }
    }
    None
}

/// Who has been here when for the first time.
#[derive(Debug, Default)]
pub(crate) struct Greylist {
    seen: Mutex<HashMap<(String, String), Timestamp>>,
}

/// Forgotten all at once when there are more: it is a toy's memory.
const GREYLISTED_MAX: usize = 10_000;

impl Greylist {
    /// The reply to a pair that must wait; None: it has waited.
    fn refuses(&self, from: &str, to: &str, now: Timestamp) -> Option<Reply> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= GREYLISTED_MAX {
            seen.clear();
        }
        let first = *seen.entry((from.to_owned(), to.to_owned())).or_insert(now);
        let waited = std::time::Duration::try_from(now.duration_since(first)).unwrap_or_default();
        let left = wish::GREYLIST.saturating_sub(waited);
        if left.is_zero() {
            return None;
        }
        let seconds = left.as_millis().div_ceil(1000);
        Some(Reply::new(
            450,
            Some(EnhancedStatus::transient(7, 1)),
            format!("Greylisted, come back in {seconds} seconds"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay_deliver::dial::{Dialer, Stream};
    use relay_observe::Clock;
    use tokio::io::ReadHalf;

    use super::*;
    use crate::SimulatedNet;

    /// Plays `C:` and `S:` lines; `S:` gives the start of the reply line; `X:` the connection ends;
    /// `T:` seconds go by.
    async fn play(net: &SimulatedNet, dialogue: &str) {
        let address = "192.0.2.7:25".parse().unwrap();
        let Ok(stream) = net.dial("mx.example.com", address, None).await else {
            panic!("not connected");
        };
        let (read, mut write) = tokio::io::split(stream);
        let mut read: BufReader<ReadHalf<Box<dyn Stream>>> = BufReader::new(read);
        for line in dialogue.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (who, rest) = line.split_at(2);
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match who {
                "C:" => write
                    .write_all(format!("{rest}\r\n").as_bytes())
                    .await
                    .unwrap(),
                "T:" => tokio::time::sleep(Duration::from_secs(rest.parse().unwrap())).await,
                "S:" | "X:" => {
                    let mut reply = String::new();
                    read.read_line(&mut reply).await.unwrap();
                    assert!(reply.starts_with(rest), "{line}: {reply}");
                    assert_eq!(reply.is_empty(), who == "X:", "{line}: {reply}");
                }
                other => panic!("{other}"),
            }
        }
    }

    fn net() -> SimulatedNet {
        SimulatedNet::new(Clock::starting_at(Timestamp::UNIX_EPOCH))
    }

    const HELLO: &str = "S: 220 mx.example.com\nC: HELO me.test\nS: 250\n";

    #[tokio::test(start_paused = true)]
    async fn recipients_of_one_message_get_their_own_answers_and_the_message_is_kept() {
        let net = net();
        let dialogue = "
            C: MAIL FROM:<a@x.test> SIZE=10
            C: RCPT TO:<ok@example.com>
            C: RCPT TO:<bounce@example.com>
            C: RCPT TO:<\"odd>one\"@example.com>
            C: DATA
            S: 250 2.1.0
            S: 250 2.1.5
            S: 550 5.1.1
            S: 250 2.1.5
            S: 354
            C: Subject: t
            C:
            C: ..two dots
            C: .
            S: 250 2.0.0
            C: QUIT
            S: 221
            X:";
        play(&net, &format!("{HELLO}{dialogue}")).await;
        let kept = net.kept(10);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].from, "a@x.test");
        assert_eq!(kept[0].to, ["ok@example.com", "\"odd>one\"@example.com"]);
        assert_eq!(&kept[0].bytes[..], b"Subject: t\r\n\r\n.two dots\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_greylisted_recipient_is_accepted_once_the_time_is_over() {
        let net = net();
        let dialogue = "
            C: MAIL FROM:<>
            S: 250
            C: RCPT TO:<greylist@example.com>
            S: 450 4.7.1 Greylisted, come back in 30 seconds
            T: 10
            C: RCPT TO:<greylist@example.com>
            S: 450 4.7.1 Greylisted, come back in 20 seconds
            T: 20
            C: RCPT TO:<greylist@example.com>
            S: 250";
        play(&net, &format!("{HELLO}{dialogue}")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn ratelimit_ends_the_session_and_disconnect_drops_it_at_the_final_dot() {
        let net = net();
        let limited = "
            C: MAIL FROM:<a@x.test>
            S: 250
            C: RCPT TO:<ratelimit@example.com>
            S: 421 4.7.28
            X:";
        play(&net, &format!("{HELLO}{limited}")).await;
        let dropped = "
            C: MAIL FROM:<a@x.test>
            S: 250
            C: RCPT TO:<disconnect@example.com>
            S: 250
            C: DATA
            S: 354
            C: .
            X:";
        play(&net, &format!("{HELLO}{dropped}")).await;
        assert!(net.kept(10).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_orders_are_refused_and_the_session_goes_on() {
        let dialogue = "
            C: DATA
            S: 503
            C: RCPT TO:<ok@example.com>
            S: 503
            C: MAIL FROM:a@x.test
            S: 501
            C: STARTTLS
            S: 502
            C: MAIL FROM:<a@x.test>
            S: 250
            C: MAIL FROM:<a@x.test>
            S: 503
            C: RCPT TO:<bounce@example.com>
            S: 550
            C: DATA
            S: 503
            C: RSET
            S: 250";
        play(&net(), &format!("{HELLO}{dialogue}")).await;
    }
}
