//! As a systemd service: a socket that was passed is used, and systemd is told when we are ready,
//! reloading and stopping.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use relay_testkit::{Client, until};
use rustix::process::{Pid, Signal, kill_process};

/// Binds the port as systemd would, passes it as descriptor 3, and becomes relayd.
const PASS_SOCKET: &str = "
import os, socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(16)
os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), WATCHDOG_USEC='4000000', WATCHDOG_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn a_passed_socket_is_used_and_systemd_is_told_what_happens() {
    let dir = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notify.set_nonblocking(true).unwrap();
    let port = relay_testkit::network::free_port();
    let settings = format!(
        "hostname = \"relay.test\"\n[state]\ndir = \"{0}/state\"\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n\
         [admin]\nsocket = \"{0}/relayd.sock\"\n",
        dir.path().display()
    );
    std::fs::write(dir.path().join("relayd.toml"), settings).unwrap();
    let mut child = Command::new("/usr/bin/python3")
        .args([
            "-c",
            PASS_SOCKET,
            &port.to_string(),
            env!("CARGO_BIN_EXE_relayd"),
            "--config",
        ])
        .arg(dir.path().join("relayd.toml"))
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is installed");
    let told = |what: &str| {
        until(&format!("systemd is told {what}"), || {
            let mut message = [0u8; 4096];
            let length = notify.recv(&mut message).ok()?;
            String::from_utf8_lossy(&message[..length])
                .lines()
                .any(|line| line.starts_with(what))
                .then_some(())
        });
    };
    told("READY=1");
    Client::connect(SocketAddr::from(([127, 0, 0, 1], port))).say("QUIT");
    told("WATCHDOG=1");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::HUP).unwrap();
    told("RELOADING=1");
    told("READY=1");
    kill_process(pid, Signal::TERM).unwrap();
    told("STOPPING=1");
    let status = until("relayd ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
