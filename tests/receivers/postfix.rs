//! Debian's Postfix as a receiver, with `postgrey` beside it: three addresses of loopback with different habits, one queue, one
//! mailbox, all in a temporary directory. Needs root, as Postfix does.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use relay_testkit::{free_port, until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::mailbox::{self, Arrived};
use crate::{Receiver, make_certificate, run};

/// 127.0.0.2: `grey.example`, greylisted by postgrey for three seconds.
const GREY: u8 = 2;
/// 127.0.0.3: `limits.example`, at most 3 connections, 10 messages in 2 seconds, 5 recipients at a time.
const LIMITS: u8 = 3;
/// 127.0.0.4: `plain.example`, no limits but 20 KiB a message.
const PLAIN: u8 = 4;

/// Running Postfix and postgrey; both end when this is dropped.
pub struct Postfix {
    dir: TempDir,
    master: Child,
    postgrey: Child,
}

impl Postfix {
    /// Every host at this port.
    pub fn start(port: u16) -> Postfix {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let postgrey_port = free_port();
        lay_out(dir.path(), port, postgrey_port);
        let mut check = Command::new("/usr/sbin/postfix");
        let checked = check.arg("-c").arg(dir.path().join("etc")).arg("check");
        let checked = checked.output().expect("postfix is installed by tests/run");
        assert!(checked.status.success(), "{checked:?}");
        let postgrey = start_postgrey(dir.path(), postgrey_port);
        let master = start_master(dir.path());
        let postfix = Postfix {
            dir,
            master,
            postgrey,
        };
        let listens = |last, port| TcpStream::connect(address(last, port)).ok();
        until("postgrey listens", || listens(1, postgrey_port));
        for last in [GREY, LIMITS, PLAIN] {
            until("Postfix listens", || listens(last, port));
        }
        postfix
    }
}

impl Receiver for Postfix {
    fn mail(&self) -> Vec<Arrived> {
        mailbox::read(&self.dir.path().join("mail/all"), "X-Original-To:")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("data/log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Postfix's log:\n{}", self.log());
        }
        // The master ends its children, which are in a process group of their own.
        let master = Pid::from_child(&self.master);
        let _ = kill_process(master, Signal::TERM);
        let _ = kill_process(Pid::from_child(&self.postgrey), Signal::TERM);
        let _ = self.master.wait();
        let _ = self.postgrey.wait();
        let _ = kill_process_group(master, Signal::KILL);
    }
}

fn address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port))
}

/// Directories, configuration, and a certificate that nobody trusts.
fn lay_out(dir: &Path, port: u16, postgrey_port: u16) {
    let root = dir.display();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("ours");
    for (name, owner) in [
        ("etc", "root"),
        ("queue", "root"),
        ("data", "postfix"),
        ("mail", "nobody"),
        ("grey", "nobody"),
    ] {
        let path = dir.join(name);
        std::fs::create_dir(&path).expect("a directory can be made");
        run(Command::new("chown").arg(owner).arg(path));
    }
    make_certificate(&dir.join("etc"));
    let main = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {root}/queue\n\
         data_directory = {root}/data\n\
         maillog_file = {root}/data/log\n\
         maillog_file_prefixes = {root}\n\
         myhostname = mx.real.example\n\
         mydestination =\n\
         mynetworks = 127.0.0.1/32\n\
         inet_protocols = ipv4\n\
         alias_maps =\n\
         virtual_mailbox_domains = grey.example, limits.example, plain.example\n\
         virtual_mailbox_maps = static:all/\n\
         virtual_mailbox_base = {root}/mail\n\
         virtual_uid_maps = static:{uid}\n\
         virtual_gid_maps = static:{gid}\n\
         virtual_mailbox_limit = 0\n\
         virtual_destination_recipient_limit = 1\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_client_event_limit_exceptions =\n\
         smtpd_peername_lookup = no\n\
         smtpd_tls_security_level = may\n\
         smtpd_tls_cert_file = {root}/etc/cert.pem\n\
         smtpd_tls_key_file = {root}/etc/key.pem\n\
         anvil_rate_time_unit = 2s\n",
        uid = id_of("-u"),
        gid = id_of("-g"),
    );
    let master = format!(
        "127.0.0.{GREY}:{port} inet n - n - - smtpd\n\
         \x20 -o smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:{postgrey_port}\n\
         127.0.0.{LIMITS}:{port} inet n - n - - smtpd\n\
         \x20 -o smtpd_client_connection_count_limit=3\n\
         \x20 -o smtpd_client_message_rate_limit=10\n\
         \x20 -o smtpd_recipient_limit=5\n\
         127.0.0.{PLAIN}:{port} inet n - n - - smtpd\n\
         \x20 -o message_size_limit=20480\n\
         {SERVICES}"
    );
    std::fs::write(dir.join("etc/main.cf"), main).expect("main.cf can be written");
    std::fs::write(dir.join("etc/master.cf"), master).expect("master.cf can be written");
}

/// What smtpd needs behind it.
const SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
";

fn start_master(dir: &Path) -> Child {
    let daemon = PathBuf::from("/usr/lib/postfix/sbin/master");
    let mut master = Command::new(daemon);
    master.arg("-s").env("MAIL_CONFIG", dir.join("etc"));
    // It makes a process group of its own, and on SIGTERM signals all of it.
    let master = master.stdin(Stdio::null()).spawn();
    master.expect("postfix is installed by tests/run")
}

fn start_postgrey(dir: &Path, port: u16) -> Child {
    let option = |name: &str, value: String| format!("--{name}={value}");
    let mut postgrey = Command::new("/usr/sbin/postgrey");
    postgrey
        .arg(option("inet", format!("127.0.0.1:{port}")))
        .arg(option("dbdir", dir.join("grey").display().to_string()))
        .arg(option(
            "pidfile",
            dir.join("grey/pid").display().to_string(),
        ))
        .args(["--user=nobody", "--group=nogroup", "--delay=3"])
        // Every triplet has to wait, also those of a client that has proved itself.
        .arg("--auto-whitelist-clients=0")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    postgrey
        .spawn()
        .expect("postgrey is installed by tests/run")
}

fn id_of(which: &str) -> String {
    let output = Command::new("id").args([which, "nobody"]).output();
    let output = output.expect("id is part of every Debian");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
