//! Debian's OpenSMTPD as a receiver. It cannot be installed beside Postfix, so `tests/run` unpacks it; its paths and users are
//! built in, so it runs in a namespace in which they exist. Needs root.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::mailbox::{self, Arrived};
use crate::namespace::{Contained, User, write_users};
use crate::{Receiver, make_certificate, run};

/// Where `tests/run` puts it.
const UNPACKED: &str = "/usr/local/lib/relayd-tests/opensmtpd";
/// 127.0.0.6: `open.example`, 10 messages in a connection, 5 recipients at a time, 20 KiB a message. No PIPELINING.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// Its two users, and the one whose mailbox it is. The numbers are nobody's.
const USERS: [User; 3] = [
    User {
        name: "opensmtpd",
        number: 64_124,
    },
    User {
        name: "opensmtpq",
        number: 64_125,
    },
    User {
        name: "relayd-test-mail",
        number: KEEPER,
    },
];
const KEEPER: u32 = 64_126;

/// A running OpenSMTPD; ends when this is dropped.
pub struct OpenSmtpd {
    _daemon: Contained,
    dir: TempDir,
}

impl OpenSmtpd {
    pub fn start(port: u16) -> OpenSmtpd {
        let program = format!("{UNPACKED}/usr/sbin/smtpd");
        assert!(Path::new(&program).exists(), "tests/run unpacks {program}");
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        lay_out(dir.path(), port);
        let script = format!(
            "for place in /var/spool /var/lib /usr/libexec /run; do mount -t tmpfs none $place; done
             mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd /usr/libexec/opensmtpd
             chmod 711 /var/spool/smtpd
             cp {UNPACKED}/usr/libexec/opensmtpd/* /usr/libexec/opensmtpd/
             exec {program} -d -f {root}/smtpd.conf > {root}/log 2>&1",
            root = dir.path().display()
        );
        OpenSmtpd {
            _daemon: Contained::start(dir.path(), &script, HOST, port),
            dir,
        }
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
    write_users(dir, &USERS);
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
