//! Debian's OpenSMTPD as a receiver. It cannot be installed beside Postfix, so `tests/run` unpacks it; its paths and users are
//! built in, so it runs in a namespace in which they exist. Needs root.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use relay_testkit::until;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::mailbox::{self, Arrived};
use crate::{Receiver, make_certificate, run};

/// Where `tests/run` puts it.
const UNPACKED: &str = "/usr/local/lib/relayd-tests/opensmtpd";
/// 127.0.0.6: `open.example`, 10 messages in a connection, 5 recipients at a time, 20 KiB a message. No PIPELINING.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// Its two users, and the one whose mailbox it is. The numbers are nobody's.
const USERS: [(&str, u32); 3] = [
    ("opensmtpd", 64_124),
    ("opensmtpq", 64_125),
    ("relayd-test-mail", KEEPER),
];
const KEEPER: u32 = 64_126;

/// A running OpenSMTPD; ends when this is dropped.
pub struct OpenSmtpd {
    dir: TempDir,
    daemon: Child,
}

impl OpenSmtpd {
    pub fn start(port: u16) -> OpenSmtpd {
        let program = format!("{UNPACKED}/usr/sbin/smtpd");
        assert!(Path::new(&program).exists(), "tests/run unpacks {program}");
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        lay_out(dir.path(), port);
        let script = format!(
            "set -e
             for file in passwd group; do mount --bind {root}/$file /etc/$file; done
             for place in /var/spool /var/lib /usr/libexec /run; do mount -t tmpfs none $place; done
             mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd /usr/libexec/opensmtpd
             chmod 711 /var/spool/smtpd
             cp {UNPACKED}/usr/libexec/opensmtpd/* /usr/libexec/opensmtpd/
             exec {program} -d -f {root}/smtpd.conf > {root}/log 2>&1",
            root = dir.path().display()
        );
        let mut daemon = Command::new("unshare");
        let daemon = daemon.args(["--mount", "sh", "-c", &script]);
        let daemon = daemon.process_group(0).stdin(Stdio::null());
        let server = OpenSmtpd {
            daemon: daemon.spawn().expect("unshare is part of every Debian"),
            dir,
        };
        let address = SocketAddr::from((HOST, port));
        until("OpenSMTPD listens", || TcpStream::connect(address).ok());
        server
    }
}

impl Receiver for OpenSmtpd {
    fn mail(&self) -> Vec<Arrived> {
        mailbox::read(&self.dir.path().join("mail"), "Delivered-To:")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for OpenSmtpd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("OpenSMTPD's log:\n{}", self.log());
        }
        let daemon = Pid::from_child(&self.daemon);
        let _ = kill_process(daemon, Signal::TERM);
        let _ = self.daemon.wait();
        // Whoever still delivers.
        let _ = kill_process_group(daemon, Signal::KILL);
    }
}

fn lay_out(dir: &Path, port: u16) {
    let root = dir.display();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("ours");
    make_certificate(dir);
    std::fs::create_dir(dir.join("mail")).expect("a directory can be made");
    run(Command::new("chown")
        .arg(KEEPER.to_string())
        .arg(dir.join("mail")));
    let of_passwd = |number: u32| format!("{number}:{number}::{root}:/bin/sh");
    let of_group = |number: u32| format!("{number}:");
    let files: [(&str, &dyn Fn(u32) -> String); 2] = [("passwd", &of_passwd), ("group", &of_group)];
    for (file, entry) in files {
        let known =
            std::fs::read_to_string(Path::new("/etc").join(file)).expect("everybody reads it");
        let is_ours = |line: &str| {
            USERS
                .iter()
                .any(|(name, _)| line.split(':').next() == Some(*name))
        };
        let mut lines: Vec<String> = known
            .lines()
            .filter(|line| !is_ours(line))
            .map(str::to_owned)
            .collect();
        lines.extend(USERS.map(|(name, number)| format!("{name}:x:{}", entry(number))));
        std::fs::write(dir.join(file), lines.join("\n") + "\n").expect("ours");
    }
    let conf = format!(
        "table everybody {{ \"@\" = \"relayd-test-mail\" }}\n\
         pki mx.open.example cert \"{root}/cert.pem\"\n\
         pki mx.open.example key \"{root}/key.pem\"\n\
         smtp limit max-mails 10\n\
         smtp limit max-rcpt 5\n\
         smtp max-message-size 20K\n\
         listen on {HOST} port {port} tls pki mx.open.example hostname mx.open.example\n\
         action \"keep\" maildir \"{root}/mail\" virtual <everybody>\n\
         match from any for domain open.example action \"keep\"\n"
    );
    std::fs::write(dir.join("smtpd.conf"), conf).expect("ours");
}
