//! A plain SMTP client, one line at a time: what an application does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::PATIENCE;

/// One session.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
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
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return reply;
            }
            let line = line.trim_end();
            reply.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
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
        reply
            .rsplit(|c: char| !c.is_ascii_alphanumeric())
            .find(|word| !word.is_empty())
            .expect("the 250 names the queue id")
            .to_owned()
    }
}
