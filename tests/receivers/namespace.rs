//! A mail server that is only unpacked, in a mount namespace of its own, where it finds its users and files.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use relay_testkit::until;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A user that nobody else has, and its group of the same name and number.
pub struct User {
    pub name: &'static str,
    pub number: u32,
}

/// The server, with all that it starts; ends when this is dropped.
pub struct Contained {
    daemon: Child,
}

impl Contained {
    /// `script` runs with `passwd` and `group` of this directory in place of the system's, and becomes the server.
    pub fn start(dir: &Path, script: &str, host: Ipv4Addr, port: u16) -> Contained {
        let script = format!(
            "set -e
             for file in passwd group; do mount --bind {}/$file /etc/$file; done
             {script}",
            dir.display()
        );
        let mut daemon = Command::new("unshare");
        let daemon = daemon.args(["--mount", "sh", "-c", &script]);
        let daemon = daemon.process_group(0).stdin(Stdio::null());
        let contained = Contained {
            daemon: daemon.spawn().expect("unshare is part of every Debian"),
        };
        let address = SocketAddr::from((host, port));
        until("the server listens", || TcpStream::connect(address).ok());
        contained
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let daemon = Pid::from_child(&self.daemon);
        let _ = kill_process(daemon, Signal::TERM);
        let _ = self.daemon.wait();
        // Whoever still delivers.
        let _ = kill_process_group(daemon, Signal::KILL);
    }
}

/// The system's users and these, as files of this directory.
pub fn write_users(dir: &Path, users: &[User]) {
    let root = dir.display();
    let of_passwd = |number: u32| format!("{number}:{number}::{root}:/bin/sh");
    let of_group = |number: u32| format!("{number}:");
    let files: [(&str, &dyn Fn(u32) -> String); 2] = [("passwd", &of_passwd), ("group", &of_group)];
    for (file, entry) in files {
        let known =
            std::fs::read_to_string(Path::new("/etc").join(file)).expect("everybody reads it");
        let is_ours = |line: &&str| {
            let name = line.split(':').next();
            users.iter().any(|user| name == Some(user.name))
        };
        let others = known.lines().filter(|line| !is_ours(line));
        let mut lines: Vec<String> = others.map(str::to_owned).collect();
        let ours = users.iter();
        lines.extend(ours.map(|user| format!("{}:x:{}", user.name, entry(user.number))));
        std::fs::write(dir.join(file), lines.join("\n") + "\n").expect("ours");
    }
}
