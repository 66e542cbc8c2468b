//! `relayctl trace`: the dialogue of the next session as it is held, without the password and the message.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use relay_testkit::{Network, Relay, until};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{ZONE, network, relay, submit, text};

#[test]
fn the_next_session_is_told_line_by_line_and_then_it_ends() {
    let network = network();
    let _mx = network.mx_with_tls(2, "RCPT TO:<no@ => 550 5.1.1 No such user");
    let _sender = network.mx(3, "");
    let relay = relay(&network, "");
    let mut trace = watch(&relay, &["rcpt.example", "--json"]);
    let id = submit(
        &relay,
        "app@sender.example",
        &["you@rcpt.example", "no@rcpt.example"],
    );
    let (status, lines) = trace.ended();
    assert!(status.success());
    let told: Vec<(String, String)> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|line: Value| {
            let of = |key: &str| line[key].as_str().unwrap().to_owned();
            (of("side"), of("text"))
        })
        .collect();
    let has = |side: &str, start: &str| {
        let found = told
            .iter()
            .any(|(of, said)| of == side && said.starts_with(start));
        assert!(found, "{side} {start}: {told:?}");
    };
    has("connection", "to mx.rcpt.example [127.0.0.2] port ");
    has("server", "220 ");
    has("client", "EHLO relay.test");
    has("client", "STARTTLS");
    has("connection", "TLSv1.3 ");
    has("client", "RCPT TO:<no@rcpt.example>");
    has("server", "550 5.1.1 No such user");
    has("decision", "no@rcpt.example: bounce_suppress, ");
    has("decision", "you@rcpt.example: ok, ");
    has("client", "QUIT");
    assert_eq!(told.last().unwrap().0, "end");
    // The message itself is summed up.
    assert!(
        told.iter().any(|(_, said)| said.ends_with(" bytes)")),
        "{told:?}"
    );
    let said = lines.join("\n");
    assert!(
        !said.contains("First line") && !said.contains(&id),
        "{said}"
    );
}

#[test]
fn a_password_is_never_shown() {
    let network = Network::with_zone(ZONE);
    let offer = "EHLO => 250 mx\\nAUTH LOGIN PLAIN\nAUTH PLAIN => 235 2.7.0 welcome";
    let mx = network.mx(2, offer);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hunter22\n").unwrap();
    let route = format!(
        "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.2:{}\"]\ntls = \"none\"\nusername = \"app\"\npassword_file = \"{}\"\n",
        mx.address.port(),
        secret.path().display()
    );
    let relay = relay(&network, &route);
    let mut trace = watch(&relay, &["127.0.0.2"]);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let said = trace.ended().1.join("\n");
    assert!(said.contains("AUTH PLAIN *** (login)"), "{said}");
    // base64 of NUL app NUL hunter22.
    assert!(!said.contains("AGFwcABodW50ZXIyMg"), "{said}");
    until("delivered", || mx.mail().pop());
}

#[test]
fn a_host_that_cannot_be_reached_is_told_with_what_it_means() {
    let network = network();
    let relay = relay(&network, "");
    let mut trace = watch(&relay, &["mx.rcpt.example"]);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let said = trace.ended().1.join("\n");
    assert!(said.contains("to mx.rcpt.example [127.0.0.2]"), "{said}");
    assert!(said.contains(" by rule "), "{said}");
}

#[test]
fn an_interrupt_ends_it_well_and_nothing_is_waited_for_afterwards() {
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(&network, "");
    let mut trace = watch(&relay, &["rcpt.example"]);
    let pid = Pid::from_child(&trace.child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    assert!(trace.ended().0.success());
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    until("delivered", || mx.mail().pop());
    let wrong = relay.relayctl(&["trace", "rcpt.example", "--count", "0"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}

/// A running `relayctl trace`. Killed when dropped.
struct Trace {
    child: Child,
    lines: Option<JoinHandle<Vec<String>>>,
}

impl Trace {
    /// How it ended by itself, and what it told.
    fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        let status = until("the trace ends", || self.child.try_wait().unwrap());
        let lines = self.lines.take().unwrap();
        (status, lines.join().unwrap())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it, and waits until relayd has heard of it.
fn watch(relay: &Relay, arguments: &[&str]) -> Trace {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_relayd")).with_file_name("relayctl");
    let mut child = Command::new(program)
        .arg("--socket")
        .arg(relay.dir().join("relayd.sock"))
        .arg("trace")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let lines = std::thread::spawn(move || stdout.lines().map(Result::unwrap).collect());
    let trace = Trace {
        child,
        lines: Some(lines),
    };
    until("relayd is watched", || {
        let watched = relay.log().iter().any(|line| line.contains("watches"));
        watched.then_some(())
    });
    trace
}
