//! What relayd signed on its way out is verified by an implementation that is not ours.

use std::io::Write;
use std::process::{Command, Stdio};

use relay_testkit::{Client, until};

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
    verify(&records, &mail.data);

    // One of 20 MB: read, signed and sent piece by piece, and yet the same at the other end.
    let text = large_text(20 << 20);
    let message = format!(
        "From: app@sender.example\nSubject: large\n\n{}",
        text.replace("\r\n", "\n")
    );
    let message = message.replace("\n.", "\n..");
    let mut client = Client::connect(relay.submission);
    client.submit(
        "app@sender.example",
        &["you@rcpt.example"],
        message.trim_end_matches('\n'),
    );
    let mail = until("delivered, too", || {
        mx.mail().pop().filter(|mail| mail.data.len() > text.len())
    });
    let (_, arrived) = mail.data.split_once("\r\n\r\n").unwrap();
    assert!(arrived == text, "{} bytes of {}", arrived.len(), text.len());
    verify(&records, &mail.data);
    relay.drained();
}

/// No line like another, some with a dot at the start, so that a piece in the wrong place is seen.
fn large_text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 200);
    for number in 0.. {
        let dot = if number % 5 == 0 { "." } else { "" };
        text.push_str(&format!("{dot}{number} {}\r\n", "x".repeat(number % 61)));
        if text.len() >= bytes {
            break;
        }
    }
    text
}

fn verify(records: &[String], message: &str) {
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", VERIFY])
        .args(records)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    python
        .stdin
        .take()
        .unwrap()
        .write_all(message.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "Debian's python3-dkim says: {output:?}\n{}",
        message.get(..2000).unwrap_or(message)
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
