//! An application's library: Python's smtplib, in clear, with STARTTLS, with AUTH.

use std::process::Command;

use argon2::password_hash::PasswordHasher;
use relay_testkit::{Network, Relay};

const SEND: &str = "
import smtplib, ssl, sys
port, mode = int(sys.argv[1]), sys.argv[2]
with smtplib.SMTP('127.0.0.1', port, timeout=30) as s:
    if 'tls' in mode:
        context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
        s.starttls(context=context)
    if 'auth' in mode:
        s.login('billing', 'correct horse')
    s.sendmail('app@sender.example', [mode + '@rcpt.example'], 'Subject: by python\\r\\n\\r\\nhello\\r\\n')
";

#[test]
fn smtplib_is_served_in_clear_with_starttls_and_with_auth() {
    let network =
        Network::with_zone("rcpt.example MX 10 mx.rcpt.example\nmx.rcpt.example A 127.0.0.2");
    let mx = network.mx(2, "");
    let files = tempfile::tempdir().unwrap();
    crate::write_certificate(files.path());
    let hash = argon2::Argon2::default()
        .hash_password(b"correct horse")
        .unwrap()
        .to_string();
    let relay = Relay::start(
        env!("CARGO_BIN_EXE_relayd"),
        &network,
        &format!(
            "[tls]\ncertificate = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n[[user]]\nname = \"billing\"\npassword_hash = \"{hash}\"\n",
            files.path().display()
        ),
    );
    for mode in ["plain", "tls", "auth", "tls-auth"] {
        let output = Command::new("/usr/bin/python3")
            .args(["-c", SEND, &relay.submission.port().to_string(), mode])
            .output()
            .expect("python3 is installed");
        assert!(output.status.success(), "{mode}: {output:?}");
    }
    relay.drained();
    assert_eq!(
        mx.recipients(),
        [
            "auth@rcpt.example",
            "plain@rcpt.example",
            "tls-auth@rcpt.example",
            "tls@rcpt.example"
        ]
    );
    let with = |to: &str| {
        mx.mail()
            .into_iter()
            .find(|mail| mail.to[0] == to)
            .unwrap()
            .data
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(with("plain@rcpt.example").contains("with ESMTP id"));
    assert!(with("tls@rcpt.example").contains("with ESMTPS id"));
    assert!(with("auth@rcpt.example").contains("with ESMTPA id"));
    assert!(with("tls-auth@rcpt.example").contains("with ESMTPSA id"));
}
