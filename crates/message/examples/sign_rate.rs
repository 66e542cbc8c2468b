//! How many messages of 2 KiB a core signs in a second: `cargo run --release -p relay-message --example sign_rate`.

// A key of one's own is an argument; the others are test data.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use relay_message::dkim::Signer;
use relay_smtp::Domain;

fn main() {
    let head = "From: app@example.com\r\nTo: you@example.net\r\nSubject: hello\r\n\
        Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n";
    let message = head.to_owned() + &"0123456789012345678901234567890123456789\r\n".repeat(45);
    let keys = [
        (
            "rsa-2048",
            include_str!("../../../tests/golden/dkim/rsa.pem"),
        ),
        (
            "ed25519",
            include_str!("../../../tests/golden/dkim/ed25519.pem"),
        ),
    ];
    for (name, pem) in keys {
        let domain = Domain::parse("example.com").unwrap();
        let signer = Signer::from_pem(domain, "s", pem).unwrap();
        let (started, mut signed) = (Instant::now(), 0u32);
        while started.elapsed() < Duration::from_secs(2) {
            signer
                .sign(message.as_bytes(), Timestamp::UNIX_EPOCH)
                .unwrap();
            signed += 1;
        }
        let each = started.elapsed() / signed;
        println!(
            "{name}: {:.0} a second, {each:.1?} each",
            1.0 / each.as_secs_f64()
        );
    }
}
