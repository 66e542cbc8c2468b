//! A validating resolver: Debian's `unbound` on loopback, over zones that are signed here with
//! `ldns-signzone`. Asks nobody else.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::wait::until;

/// The running resolver. Stops when dropped; its directory goes with it.
#[derive(Debug)]
pub struct SignedDns {
    pub address: SocketAddr,
    unbound: Child,
    _dir: TempDir,
}

/// One zone.
#[derive(Clone, Copy, Debug)]
pub struct SignedZone<'a> {
    pub name: &'a str,
    pub signing: Signing<'a>,
    /// As in a zone file, names relative to the zone.
    pub records: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub enum Signing<'a> {
    Signed,
    /// Nobody says that it should be signed.
    Unsigned,
    /// Signed; afterwards this text was replaced by that.
    Forged(&'a str, &'a str),
}

/// Makes every other name one that does not exist, so that no question leaves this machine.
const ROOT: &str = "\
. 60 IN SOA ns. hostmaster. 1 3600 600 86400 60
. 60 IN NS ns.
ns. 60 IN A 127.0.0.1
";

impl SignedDns {
    pub fn start(zones: &[SignedZone<'_>]) -> SignedDns {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut settings = format!(
            " access-control: 127.0.0.0/8 allow\n chroot: \"\"\n username: \"\"\n directory: \"{}\"\n \
             pidfile: \"\"\n use-syslog: no\n logfile: \"\"\n do-daemonize: no\n do-ip6: no\n \
             num-threads: 1\n module-config: \"validator iterator\"\n",
            dir.path().display()
        );
        let mut authorities = String::from("remote-control:\n control-enable: no\n");
        write(dir.path(), "root.zone", ROOT);
        authorities.push_str(&authority(".", "root.zone"));
        for zone in zones {
            let (file, trusted) = sign(dir.path(), zone);
            authorities.push_str(&authority(zone.name, &file));
            if let Some(keys) = trusted {
                settings.push_str(&format!(" trust-anchor-file: \"{keys}\"\n"));
            }
        }
        settings.push_str(&authorities);
        // A port that was free may be taken before unbound has it.
        let started = (0..10).find_map(|_| launch(dir.path(), &settings));
        let (address, unbound) = started.expect("unbound finds a free port");
        SignedDns {
            address,
            unbound,
            _dir: dir,
        }
    }
}

/// None: it ended before it answered.
fn launch(dir: &Path, settings: &str) -> Option<(SocketAddr, Child)> {
    let address = free_address();
    let interface = format!("server:\n interface: 127.0.0.1@{}\n", address.port());
    write(dir, "unbound.conf", &(interface + settings));
    let mut unbound = Command::new(program("unbound"))
        .args(["-d", "-c"])
        .arg(dir.join("unbound.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unbound starts; tests/run installs it");
    let answered = until("unbound answers", || match unbound.try_wait() {
        Ok(None) => answers(address).then_some(true),
        Ok(Some(_)) | Err(_) => Some(false),
    });
    answered.then_some((address, unbound))
}

impl Drop for SignedDns {
    fn drop(&mut self) {
        let _ = self.unbound.kill();
        let _ = self.unbound.wait();
    }
}

fn authority(name: &str, file: &str) -> String {
    format!(
        "auth-zone:\n name: \"{name}\"\n zonefile: \"{file}\"\n for-downstream: no\n for-upstream: yes\n"
    )
}

/// The file to serve, and the one with the key to trust.
fn sign(dir: &Path, zone: &SignedZone<'_>) -> (String, Option<String>) {
    let name = zone.name;
    let text = format!(
        "$ORIGIN {name}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n{}\n",
        zone.records
    );
    let plain = format!("{name}.zone");
    write(dir, &plain, &text);
    let forged = match zone.signing {
        Signing::Unsigned => return (plain, None),
        Signing::Signed => None,
        Signing::Forged(from, to) => Some((from, to)),
    };
    let key = run(dir, "ldns-keygen", &["-a", "ECDSAP256SHA256", "-k", name]);
    let signed = format!("{name}.signed");
    run(dir, "ldns-signzone", &["-f", &signed, &plain, &key]);
    if let Some((from, to)) = forged {
        let text = fs::read_to_string(dir.join(&signed)).expect("the signed zone is there");
        assert!(text.contains(from), "{from:?} is not in the zone {name}");
        write(dir, &signed, &text.replace(from, to));
    }
    (signed, Some(format!("{key}.ds")))
}

fn run(dir: &Path, name: &str, arguments: &[&str]) -> String {
    let output = Command::new(program(name))
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}; tests/run installs it"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Debian keeps servers where the paths of users do not lead.
fn program(name: &str) -> String {
    let server = format!("/usr/sbin/{name}");
    match Path::new(&server).exists() {
        true => server,
        false => name.to_owned(),
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("a file can be written");
}

fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback takes a UDP socket");
    socket.local_addr().expect("a bound socket has an address")
}

/// Whether a question about the root gets any answer.
fn answers(server: SocketAddr) -> bool {
    const SOA_OF_THE_ROOT: [u8; 17] = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.connect(server)?;
        socket.send(&SOA_OF_THE_ROOT)?;
        socket.recv(&mut [0; 512])
    };
    ask().is_ok()
}
