//! A plain SMTP client, one line at a time: what an application does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::PATIENCE;

/// One session.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// What became of a message that was offered to a relay which may die meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// 250 to the end of data, with this queue id.
    Promised(String),
    /// Another reply than was hoped for.
    Refused(String),
    /// The connection was lost before there was an answer: the relay may or may not have it.
    Lost,
}

impl Client {
    /// Connects to a relay that may be gone.
    pub fn try_connect(address: SocketAddr) -> Option<Client> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut client = Client {
            stream: BufReader::new(stream),
        };
        client.try_reply()?.starts_with("220 ").then_some(client)
    }

    /// One whole mail transaction with EHLO. `message` has CRLF line ends and no line that begins with a dot.
    pub fn offer(&mut self, from: &str, to: &[String], message: &str) -> Offer {
        let mut steps = vec![
            ("EHLO app.test".to_owned(), "250"),
            (format!("MAIL FROM:<{from}>"), "250"),
        ];
        steps.extend(to.iter().map(|to| (format!("RCPT TO:<{to}>"), "250")));
        steps.push(("DATA".to_owned(), "354"));
        steps.push((format!("{message}."), "250"));
        let mut last = String::new();
        for (line, hoped) in steps {
            let sent = self
                .stream
                .get_mut()
                .write_all(format!("{line}\r\n").as_bytes());
            match sent.ok().and_then(|()| self.try_reply()) {
                None => return Offer::Lost,
                Some(reply) if !reply.starts_with(hoped) => return Offer::Refused(reply),
                Some(reply) => last = reply,
            }
        }
        Offer::Promised(queue_id(&last))
    }

    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the relay listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out can be set");
        let mut client = Client {
            stream: BufReader::new(stream),
        };
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "greeting: {greeting}");
        client
    }

    /// Sends one command; returns the whole reply, lines joined with `\n`.
    pub fn say(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream
            .get_mut()
            .write_all(bytes)
            .expect("the relay reads");
    }

    /// Reads one reply; "" when the relay has closed.
    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap_or_default()
    }

    /// None: it has not come whole.
    fn try_reply(&mut self) -> Option<String> {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            let line = line.strip_suffix('\n')?.trim_end();
            reply.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Some(reply);
            }
            reply.push('\n');
        }
    }

    /// EHLO and one whole mail transaction; returns the queue id from the 250.
    pub fn submit(&mut self, from: &str, to: &[&str], message: &str) -> String {
        assert!(self.say("EHLO app.test").starts_with("250"));
        let reply = self.say(&format!("MAIL FROM:<{from}>"));
        assert!(reply.starts_with("250"), "MAIL: {reply}");
        for recipient in to {
            let reply = self.say(&format!("RCPT TO:<{recipient}>"));
            assert!(reply.starts_with("250"), "RCPT {recipient}: {reply}");
        }
        assert!(self.say("DATA").starts_with("354"));
        let reply = self.say(&format!("{}\r\n.", message.replace('\n', "\r\n")));
        assert!(reply.starts_with("250"), "end of data: {reply}");
        queue_id(&reply)
    }
}

/// The last word of the 250.
fn queue_id(reply: &str) -> String {
    reply
        .rsplit(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| !word.is_empty())
        .expect("the 250 names the queue id")
        .to_owned()
}
