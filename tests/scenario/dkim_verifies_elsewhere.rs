//! What relayd signed on its way out is verified by an implementation that is not ours.

use std::io::Write;
use std::process::{Command, Stdio};

use relay_testkit::until;

use crate::{network, relay, submit};

/// Verifies with Debian's python3-dkim, DNS answered from the arguments.
const VERIFY: &str = "
import sys, dkim
records = dict(zip(sys.argv[1::2], sys.argv[2::2]))
message = sys.stdin.buffer.read()
ask = lambda name, timeout=5: records[name.decode().rstrip('.')].encode()
count = sum(1 for h in message.split(b'\\r\\n\\r\\n')[0].split(b'\\r\\n') if h.lower().startswith(b'dkim-signature:'))
results = [dkim.DKIM(message).verify(idx=i, dnsfunc=ask) for i in range(count)]
print(count, results)
sys.exit(0 if count == 2 and all(results) else 1)
";

#[test]
fn rsa_and_ed25519_signatures_verify() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Vec::new();
    let mut settings = String::new();
    for (selector, algorithm) in [("r", "rsa"), ("e", "ed25519")] {
        let path = dir.path().join(format!("{selector}.pem"));
        std::fs::write(&path, private_key(algorithm)).unwrap();
        let pem = std::fs::read_to_string(&path).unwrap();
        let signer = relay_message::dkim::Signer::from_pem(
            "sender.example".parse().unwrap(),
            selector,
            &pem,
        )
        .unwrap();
        records.push(format!("{selector}._domainkey.sender.example"));
        records.push(signer.public_record());
        settings.push_str(&format!(
            "[[dkim]]\ndomain = \"sender.example\"\nselector = \"{selector}\"\nkey = \"{}\"\n",
            path.display()
        ));
    }
    let network = network();
    let mx = network.mx(2, "");
    let relay = relay(&network, &settings);
    submit(&relay, "app@sender.example", &["you@rcpt.example"]);
    let mail = until("delivered", || mx.mail().pop());

    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", VERIFY])
        .args(&records)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    python
        .stdin
        .take()
        .unwrap()
        .write_all(mail.data.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "Debian's python3-dkim says: {output:?}\n{}",
        mail.data
    );
}

/// A fresh key, made by openssl.
fn private_key(algorithm: &str) -> Vec<u8> {
    let arguments: &[&str] = match algorithm {
        "rsa" => &[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ],
        _ => &["genpkey", "-algorithm", "ed25519"],
    };
    let output = Command::new("openssl")
        .args(arguments)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
