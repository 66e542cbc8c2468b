//! Debian's Exim as a receiver. It cannot be installed beside Postfix, so `tests/run` unpacks it; it runs in a namespace in which its
//! user exists. Needs root.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::mailbox::{self, Arrived};
use crate::namespace::{Contained, User, write_users};
use crate::{Receiver, make_certificate, run};

/// Where `tests/run` puts it.
const PROGRAM: &str = "/usr/local/lib/relayd-tests/exim4/usr/sbin/exim4";
/// 127.0.0.5: `exim.example`, at most 3 connections, 10 messages in each, 5 recipients at a time, 20 KiB a message.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
/// Debian's Exim asks for its user by name; the number is nobody's.
const USER: User = User {
    name: "Debian-exim",
    number: 64_123,
};

/// A running Exim; ends when this is dropped.
pub struct Exim {
    _daemon: Contained,
    dir: TempDir,
}

impl Exim {
    pub fn start(port: u16) -> Exim {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        lay_out(dir.path(), port);
        assert!(Path::new(PROGRAM).exists(), "tests/run unpacks {PROGRAM}");
        let script = format!("exec {PROGRAM} -C {}/conf -bdf", dir.path().display());
        Exim {
            _daemon: Contained::start(dir.path(), &script, HOST, port),
            dir,
        }
    }
}

impl Receiver for Exim {
    fn mail(&self) -> Vec<Arrived> {
        mailbox::read(&self.dir.path().join("mail/all"), "Envelope-to:")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log/main")).unwrap_or_default()
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Exim's log:\n{}", self.log());
        }
    }
}

fn lay_out(dir: &Path, port: u16) {
    let root = dir.display();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("ours");
    make_certificate(dir);
    for name in ["spool", "log", "mail"] {
        std::fs::create_dir(dir.join(name)).expect("a directory can be made");
    }
    for name in ["spool", "log", "mail", "key.pem"] {
        run(Command::new("chown")
            .arg(USER.number.to_string())
            .arg(dir.join(name)));
    }
    write_users(dir, &[USER]);
    let conf = format!(
        "primary_hostname = mx.exim.example\n\
         exim_path = {PROGRAM}\n\
         spool_directory = {root}/spool\n\
         log_file_path = {root}/log/%s\n\
         pid_file_path = {root}/spool/pid\n\
         local_interfaces = {HOST}\n\
         daemon_smtp_ports = {port}\n\
         tls_advertise_hosts = *\n\
         tls_certificate = {root}/cert.pem\n\
         tls_privatekey = {root}/key.pem\n\
         chunking_advertise_hosts = *\n\
         dsn_advertise_hosts = *\n\
         smtputf8_advertise_hosts = *\n\
         recipients_max = 5\n\
         smtp_accept_max = 50\n\
         smtp_accept_max_per_host = 3\n\
         smtp_accept_max_per_connection = 10\n\
         message_size_limit = 20K\n\
         deliver_drop_privilege = true\n\
         keep_environment =\n\
         acl_smtp_rcpt = rcpt\n\
         {RULES}\
         \x20 directory = {root}/mail/all\n"
    );
    std::fs::write(dir.join("conf"), conf).expect("ours");
}

/// Everything for its domain goes to one mailbox.
const RULES: &str = "\
begin acl
rcpt:
  accept domains = exim.example
  deny message = relay not permitted
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  maildir_format
  create_directory
  user = Debian-exim
  envelope_to_add
  return_path_add
";
