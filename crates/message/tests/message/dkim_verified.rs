//! Signatures are verified by Debian's python3-dkim, on messages of many shapes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use relay_message::dkim::Signer;
use relay_message::received::{self, Protocol, Trace};
use relay_smtp::Domain;
use relay_smtp::data::{BareLineEnds, Unstuffer, stuff};

const HEADER: &str = "From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\n";

/// Name and message: what has gone wrong for others, and what is allowed but rare.
fn shapes() -> BTreeMap<&'static str, Vec<u8>> {
    let with = |body: &[u8]| [HEADER.as_bytes(), b"\r\n", body].concat();
    let header = |extra: &str| format!("{extra}{HEADER}\r\nbody\r\n").into_bytes();
    BTreeMap::from([
        ("plain", with(b"Hello,\r\n\r\nworld.\r\n")),
        ("eight_bit", with("Grüße 😀\r\n".as_bytes())),
        ("latin1", with(b"Gr\xfc\xdfe\r\n")),
        ("nul_and_controls", with(b"a\0b\x01\x7f\x1a\r\n")),
        ("long_line", with(&[b'x'; 20_000])),
        ("line_of_a_megabyte", with(&[b'x'; 1 << 20])),
        ("empty_body", with(b"")),
        ("no_body_at_all", HEADER.as_bytes().to_vec()),
        ("only_empty_lines", with(b"\r\n\r\n\r\n")),
        ("empty_lines_at_end", with(b"text\r\n\r\n\r\n")),
        (
            "white_space_lines_at_end",
            with(b"text\r\n \r\n\t \r\n   \r\n"),
        ),
        ("only_white_space_lines", with(b" \r\n\t\r\n")),
        ("white_space_at_line_ends", with(b"text  \r\nmore\t \r\n")),
        ("no_line_end", with(b"text")),
        ("white_space_and_no_line_end", with(b"text\r\n  ")),
        ("dots", with(b".\r\n..\r\n.x\r\n")),
        (
            "two_of_each",
            header("From: x@example.com\r\nSubject: one\r\nTo: c@d\r\nTo: e@f\r\n"),
        ),
        (
            "folded",
            header("Subject:\r\n a\r\n\tb \t c  \r\nReply-To:x@y\r\nCC:\r\n z@y\r\n"),
        ),
        (
            "empty_fields",
            header("Cc:\r\nReply-To: \r\nMIME-Version:1.0\r\n"),
        ),
        (
            "utf8_header",
            header("Reply-To: J\u{f6}rg <j\u{f6}rg@example.com>\r\n"),
        ),
        (
            "latin1_header",
            [b"Cc: \xfc\r\n".as_slice(), &header("")].concat(),
        ),
        (
            "long_header",
            header(&format!(
                "References: {}\r\n",
                "<a@b>\r\n ".repeat(300).trim_end()
            )),
        ),
        (
            "already_signed",
            header("DKIM-Signature: v=1; a=rsa-sha256; d=other.test; s=x; h=From; bh=; b=\r\n"),
        ),
        (
            "lists",
            header(
                "List-Unsubscribe: <https://example.com/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n",
            ),
        ),
    ])
}

#[test]
fn rsa_signatures_verify() {
    signatures_verify("rsa", include_str!("../../../../tests/golden/dkim/rsa.pem"));
}

#[test]
fn rsa_signatures_of_a_pkcs1_key_verify() {
    let pem = include_str!("../../../../tests/golden/dkim/rsa-pkcs1.pem");
    signatures_verify("pkcs1", pem);
}

#[test]
fn ed25519_signatures_verify() {
    let pem = include_str!("../../../../tests/golden/dkim/ed25519.pem");
    signatures_verify("ed25519", pem);
}

fn signatures_verify(kind: &str, pem: &str) {
    let domain = Domain::parse("example.com").unwrap();
    let signer = Signer::from_pem(domain, "s2026", pem).unwrap();
    let mut cases = BTreeMap::new();
    for (name, shape) in shapes() {
        let prepared = received::prepare(&shape, &trace());
        for (way, message) in [("raw", shape.as_slice()), ("prepared", &prepared)] {
            let signed = sign(&signer, message);
            cases.insert(format!("{name}.{way}.sent"), (sent(&signed), "pass"));
            cases.insert(format!("{name}.{way}"), (signed, "pass"));
        }
    }
    // The verifier must be able to say no, or its yes means nothing.
    let signed = sign(&signer, &shapes()["plain"]);
    let changed = String::from_utf8(signed.clone())
        .unwrap()
        .replace("world", "World");
    cases.insert("body_changed".into(), (changed.into_bytes(), "fail"));
    let added = [b"From: eve@example.com\r\n", signed.as_slice()].concat();
    cases.insert("second_from_added".into(), (added, "fail"));
    let added = [b"Reply-To: eve@example.com\r\n", signed.as_slice()].concat();
    cases.insert("reply_to_added".into(), (added, "fail"));
    let added = [b"Received: by next.example; now\r\n", signed.as_slice()].concat();
    cases.insert("received_added".into(), (added, "pass"));

    let verdicts = verify(kind, &signer, &cases);
    assert_eq!(verdicts.len(), cases.len());
    for (name, (_, wanted)) in &cases {
        let verdict = &verdicts[name];
        assert!(verdict.starts_with(wanted), "{kind} {name}: {verdict}");
    }
}

fn trace() -> Trace<'static> {
    Trace {
        helo: "app.example.com",
        client: None,
        hostname: "relay.example.com",
        protocol: Protocol::Smtp,
        id: "3f7k9q2mxt4p".parse().unwrap(),
        recipients: &[],
        at: Timestamp::from_second(1_795_000_000).unwrap(),
    }
}

fn sign(signer: &Signer, message: &[u8]) -> Vec<u8> {
    let field = signer.sign(message, trace().at).unwrap();
    [field.as_slice(), message].concat()
}

/// As the next host gets it.
fn sent(message: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    Unstuffer::new(BareLineEnds::Reject).feed(&stuff(message), &mut received);
    received
}

/// One run of the verifier: its verdict on each case.
fn verify(
    kind: &str,
    signer: &Signer,
    cases: &BTreeMap<String, (Vec<u8>, &str)>,
) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dkim-{kind}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, (message, _)) in cases {
        std::fs::write(folder.join(format!("{name}.eml")), message).unwrap();
    }
    let output = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/dkim/verify.py"))
        .arg(&folder)
        .args([signer.record_name(), signer.public_record()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, verdict)| (name.to_owned(), verdict.to_owned()))
        .collect()
}

/// Debian's own python3 first: another one on the path does not see Debian's packages.
fn python() -> PathBuf {
    ["/usr/bin/python3", "python3"]
        .into_iter()
        .map(PathBuf::from)
        .find(|python| {
            Command::new(python)
                .args(["-c", "import dkim, nacl"])
                .output()
                .is_ok_and(|output| output.status.success())
        })
        .expect("this test needs the Debian package python3-dkim (with python3-nacl): apt-get install python3-dkim python3-nacl")
}
