//! Postfix's smtp-sink in each of its moods: it refuses a command, hangs up at it, or says 421. Nothing is lost,
//! and nobody is bounced by what is no answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use relay_testkit::{Network, until};

use crate::{relay, submit};

/// How it is started, and what becomes of a message.
const MOODS: &[(&[&str], &str)] = &[
    (&["-f", "CONNECT"], "bounced"),
    // Then it is asked by HELO.
    (&["-f", "EHLO"], "delivered"),
    (&["-f", "MAIL"], "bounced"),
    (&["-f", "RCPT"], "bounced"),
    (&["-f", "DATA"], "bounced"),
    (&["-f", "."], "bounced"),
    (&["-f", "QUIT"], "delivered"),
    (&["-r", "CONNECT"], "deferred"),
    (&["-r", "EHLO"], "deferred"),
    (&["-r", "MAIL"], "deferred"),
    (&["-r", "RCPT"], "deferred"),
    (&["-r", "DATA"], "deferred"),
    (&["-r", "."], "deferred"),
    (&["-r", "QUIT"], "delivered"),
    (&["-q", "CONNECT"], "deferred"),
    (&["-q", "EHLO"], "deferred"),
    (&["-q", "MAIL"], "deferred"),
    (&["-q", "RCPT"], "deferred"),
    (&["-q", "DATA"], "deferred"),
    (&["-q", "."], "deferred"),
    (&["-q", "QUIT"], "delivered"),
    (&["-Q", "CONNECT"], "deferred"),
    (&["-Q", "EHLO"], "deferred"),
    (&["-Q", "MAIL"], "deferred"),
    (&["-Q", "RCPT"], "deferred"),
    (&["-Q", "DATA"], "deferred"),
    (&["-Q", "."], "deferred"),
    (&["-Q", "QUIT"], "delivered"),
    // No ESMTP, as behind an old firewall, no codes, no DSN, no pipelining.
    (&["-e"], "delivered"),
    (&["-P"], "delivered"),
    (&["-E", "-N", "-p"], "delivered"),
];

#[test]
fn each_mood_of_smtp_sink_leads_to_the_right_decision() {
    let network = Network::with_zone("");
    let mut settings = String::new();
    let mut sinks = Vec::new();
    for (number, (mood, _)) in MOODS.iter().enumerate() {
        let last = 10 + u8::try_from(number).unwrap();
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), network.port);
        settings += &format!("[[route]]\nto = [\"m{number}.example\"]\nvia = [\"{address}\"]\n");
        sinks.push(Sink::start(address, mood));
    }
    let relay = relay(&network, &settings);
    let ids: Vec<String> = (0..MOODS.len())
        .map(|number| {
            submit(
                &relay,
                "app@sender.example",
                &[&format!("you@m{number}.example")],
            )
        })
        .collect();
    let mut wrong = Vec::new();
    for ((mood, wanted), id) in MOODS.iter().zip(&ids) {
        let recipient = until("it has been tried", || {
            let shown = relay.json(&["queue", "show", id]).pop()?;
            let recipient = shown["recipients"][0].clone();
            let state = recipient["state"].as_str()?;
            let settled = ["delivered", "deferred", "bounced"].contains(&state);
            settled.then_some(recipient)
        });
        if recipient["state"] != *wanted {
            wrong.push(format!("{mood:?}: wanted {wanted}, came {recipient}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Stopped when dropped.
struct Sink(Child);

impl Sink {
    fn start(address: SocketAddr, mood: &[&str]) -> Sink {
        let mut command = Command::new("/usr/sbin/smtp-sink");
        // It does not run as root.
        let user = Command::new("id").arg("-u").output().expect("id is there");
        if user.stdout == b"0\n" {
            command.args(["-u", "nobody"]);
        }
        command.args(mood).arg(address.to_string()).arg("100");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let sink = Sink(child.expect("smtp-sink is installed (Debian package postfix)"));
        until("smtp-sink listens", || TcpStream::connect(address).ok());
        sink
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
