//! DSNs compared with tests/golden/dsn/*.eml octet by octet. `UPDATE_EXPECT=1` writes the files
//! anew; read the difference before it is kept.

use std::path::Path;

use proptest::prelude::*;
use relay_message::dsn::{Dsn, DsnInput, DsnKind, DsnRecipient, ORIGINAL_BYTES_MAX, Said, compose};
use relay_message::header;
use relay_smtp::envelope::{BodyType, Envelope, Recipient, Ret, Utf8};
use relay_smtp::{EnhancedStatus, Mailbox, ReversePath};

const ORIGINAL: &str = "Received: from app.example.com ([192.0.2.7]) by relay.example.com with ESMTP\r\n\
    \x20id 3f7k9q2mxt4p; Sun, 22 Nov 2026 16:00:54 +0000\r\n\
    From: Ann <ann@example.com>\r\n\
    To: bob@example.net\r\n\
    Subject: The minutes of Monday\r\n\
    Message-ID: <minutes@example.com>\r\n\
    \r\n\
    Dear Bob,\r\n\r\nhere they are.\r\n";

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn envelope(recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        reverse_path: ReversePath::Mailbox(mailbox("ann@example.com")),
        recipients,
        body_type: BodyType::SevenBit,
        utf8: Utf8::NotNeeded,
        require_tls: Default::default(),
        priority: Default::default(),
        ret: None,
        envid: None,
    }
}

fn refused(recipient: &Recipient) -> DsnRecipient<'_> {
    DsnRecipient {
        recipient,
        status: EnhancedStatus::permanent(1, 1),
        last_attempt: Some("2026-11-22T16:00:56Z".parse().unwrap()),
        host: Some("mx1.example.net [192.0.2.25]"),
        said: Said::Reply("550 5.1.1 <bob@example.net>: Recipient address rejected: User unknown"),
        rule: "unknown-user",
        explain: Some("The other side knows no mailbox of this name."),
        fix: Some("Check the spelling of the address, or ask the recipient for a new one."),
        next_attempt: None,
        expires: None,
    }
}

/// Composes, checks what holds for every DSN, and returns it.
fn composed(
    kind: DsnKind,
    envelope: &Envelope,
    original: &[u8],
    recipients: &[DsnRecipient<'_>],
) -> Dsn {
    let from = mailbox("MAILER-DAEMON@relay.example.com");
    let ReversePath::Mailbox(to) = &envelope.reverse_path else {
        panic!("never for <>");
    };
    let dsn = compose(&DsnInput {
        kind,
        id: "3f7kc00000ds".parse().unwrap(),
        hostname: "relay.example.com",
        from: &from,
        to,
        now: "2026-11-22T16:01:00Z".parse().unwrap(),
        original_id: "3f7k9q2mxt4p".parse().unwrap(),
        original_arrived: "2026-11-22T16:00:54Z".parse().unwrap(),
        original_envelope: envelope,
        // As the caller does it.
        original: &original[..original.len().min(ORIGINAL_BYTES_MAX)],
        original_bytes: original.len() as u64,
        recipients,
    });
    let text = &dsn.message;
    for line in text.split(|&byte| byte == b'\n') {
        assert!(line.len() <= 999, "{}", String::from_utf8_lossy(line));
        assert!(line.is_empty() || line.ends_with(b"\r"));
    }
    assert_eq!(text.is_ascii(), dsn.body_type == BodyType::SevenBit);
    let names: Vec<String> = header::fields(text)
        .map(|field| String::from_utf8_lossy(field.name).into_owned())
        .collect();
    let wanted = "From To Subject Date Message-ID In-Reply-To References Auto-Submitted MIME-Version Content-Type";
    assert_eq!(names.join(" "), wanted);
    dsn
}

fn golden(name: &str, dsn: &Dsn) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/dsn")
        .join(format!("{name}.eml"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &dsn.message).unwrap();
    }
    let wanted = std::fs::read(&path).unwrap_or_default();
    assert!(
        wanted == dsn.message,
        "{} differs; with UPDATE_EXPECT=1 it becomes:\n{}",
        path.display(),
        String::from_utf8_lossy(&dsn.message)
    );
}

#[test]
fn one_refused_recipient() {
    let envelope = envelope(vec![Recipient::plain(mailbox("bob@example.net"))]);
    let dsn = composed(
        DsnKind::Failed,
        &envelope,
        ORIGINAL.as_bytes(),
        &[refused(&envelope.recipients[0])],
    );
    golden("failed-one", &dsn);
}

#[test]
fn a_success_is_reported_as_relayed_with_the_header_only() {
    let mut envelope = envelope(vec![Recipient::plain(mailbox("bob@example.net"))]);
    envelope.ret = Some(Ret::Full);
    envelope.envid = Some("batch+2B17".into());
    let taken = DsnRecipient {
        status: EnhancedStatus::new(relay_smtp::StatusClass::Success, 0, 0),
        said: Said::Reply("250 2.0.0 Ok: queued"),
        rule: "accepted",
        explain: None,
        fix: None,
        ..refused(&envelope.recipients[0])
    };
    let dsn = composed(DsnKind::Relayed, &envelope, ORIGINAL.as_bytes(), &[taken]);
    golden("relayed", &dsn);
}

#[test]
fn several_recipients_that_failed_in_different_ways() {
    let mut original = Recipient::plain(mailbox("bob@example.net"));
    original.orcpt = Some("rfc822;Bob+2Bold@Example.ORG".into());
    let mut envelope = envelope(vec![
        original,
        Recipient::plain(mailbox("\"carol x\"@nowhere.example")),
        Recipient::plain(mailbox("dave@[192.0.2.99]")),
    ]);
    envelope.envid = Some("batch+2B17".into());
    let recipients = [
        refused(&envelope.recipients[0]),
        DsnRecipient {
            status: EnhancedStatus::permanent(1, 2),
            host: None,
            last_attempt: None,
            said: Said::Failure("the domain nowhere.example does not exist"),
            rule: "no-such-domain",
            explain: Some("DNS says that there is no such domain."),
            fix: None,
            ..refused(&envelope.recipients[1])
        },
        DsnRecipient {
            status: EnhancedStatus::transient(4, 7),
            host: Some("[192.0.2.99]"),
            said: Said::Failure("no answer to the connection within 30s"),
            rule: "expired",
            explain: Some("It was tried for 5 days without success."),
            fix: None,
            ..refused(&envelope.recipients[2])
        },
    ];
    golden(
        "failed-several",
        &composed(DsnKind::Failed, &envelope, ORIGINAL.as_bytes(), &recipients),
    );
}

#[test]
fn a_delay_says_when_it_is_tried_next_and_returns_the_header_only() {
    let mut envelope = envelope(vec![Recipient::plain(mailbox("bob@example.net"))]);
    envelope.ret = Some(Ret::Full);
    let delayed = DsnRecipient {
        status: EnhancedStatus::transient(2, 2),
        said: Said::Reply("452 4.2.2 Mailbox full"),
        rule: "mailbox-full",
        explain: Some("The recipient's mailbox has no room at the moment."),
        fix: None,
        next_attempt: Some("2026-11-22T20:00:00Z".parse().unwrap()),
        expires: Some("2026-11-27T16:00:54Z".parse().unwrap()),
        ..refused(&envelope.recipients[0])
    };
    let dsn = composed(DsnKind::Delayed, &envelope, ORIGINAL.as_bytes(), &[delayed]);
    golden("delayed", &dsn);
}

#[test]
fn an_internationalized_message_is_reported_in_utf8() {
    let mut envelope = envelope(vec![Recipient::plain(mailbox("jörg@bücher.example"))]);
    envelope.reverse_path = ReversePath::Mailbox(mailbox("änne@example.com"));
    envelope.utf8 = Utf8::Required;
    let original = ORIGINAL.replace("Ann <ann@", "Änne <änne@");
    let said = Said::Reply("550 5.1.1 <jörg@bücher.example> unbekannt");
    let recipient = DsnRecipient {
        said,
        ..refused(&envelope.recipients[0])
    };
    let dsn = composed(
        DsnKind::Failed,
        &envelope,
        original.as_bytes(),
        &[recipient],
    );
    assert_eq!(dsn.utf8, Utf8::Required);
    golden("utf8", &dsn);
}

#[test]
fn the_whole_message_is_returned_if_asked_for_and_not_too_large() {
    let mut envelope = envelope(vec![Recipient::plain(mailbox("bob@example.net"))]);
    envelope.ret = Some(Ret::Full);
    let original = ORIGINAL.replace("Dear", "Grüße,");
    let recipients = [refused(&envelope.recipients[0])];
    let dsn = composed(DsnKind::Failed, &envelope, original.as_bytes(), &recipients);
    assert_eq!(dsn.utf8, Utf8::NotNeeded);
    golden("full", &dsn);
    let large = format!("{original}{}", "line\r\n".repeat(50_000));
    let dsn = composed(DsnKind::Failed, &envelope, large.as_bytes(), &recipients);
    assert!(dsn.message.len() < 10_000);
}

#[test]
fn a_hostile_reply_and_junk_in_the_header_break_nothing() {
    let envelope = envelope(vec![Recipient::plain(mailbox("bob@example.net"))]);
    let reply = format!(
        "550 no\r\nX-Injected: yes\r\n\r\n--=_relayd_3f7kc00000ds_0\r\n\u{fc}\0{}",
        "x".repeat(1200)
    );
    let recipient = DsnRecipient {
        said: Said::Reply(&reply),
        host: Some("evil\r\nX-Injected: yes"),
        ..refused(&envelope.recipients[0])
    };
    let original = [
        format!("X-Long: {}\r\n", "y".repeat(1100)).as_bytes(),
        b"X-Raw: \xfc\0\r\nX-Boundary: =_relayd_3f7kc00000ds_0\r\n",
        ORIGINAL.as_bytes(),
    ]
    .concat();
    let dsn = composed(DsnKind::Failed, &envelope, &original, &[recipient]);
    golden("hostile", &dsn);
}

proptest! {
    #[test]
    fn no_text_adds_a_line_that_is_not_ours(
        reply in "([ -~]|\r|\n|\u{85}|\u{2028}|[\u{e0}-\u{ff}]|: ){0,300}",
        host in "\\PC{0,20}|[a-z\r\n:. ]{0,20}",
        orcpt in "rfc822;([a-z@.\r\n]|\\+0D\\+0A|\\+2B){0,20}",
        envid in "([a-z]|\\+0D\\+0AX:){0,8}",
    ) {
        let mut recipient = Recipient::plain(mailbox("bob@example.net"));
        recipient.orcpt = Some(orcpt);
        let mut envelope = envelope(vec![recipient]);
        envelope.envid = Some(envid);
        let about = DsnRecipient { said: Said::Reply(&reply), host: Some(&host), ..refused(&envelope.recipients[0]) };
        let dsn = composed(DsnKind::Failed, &envelope, ORIGINAL.as_bytes(), &[about]);
        let text = String::from_utf8_lossy(&dsn.message);
        let parts: Vec<&str> = text.split("\r\n--=_relayd_3f7kc00000ds_0").collect();
        prop_assert_eq!(parts.len(), 5);
        let ours = [
            "Content-Type", "Original-Envelope-Id", "Reporting-MTA", "Arrival-Date", "X-Relayd-Queue-Id",
            "Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA",
            "Diagnostic-Code", "Last-Attempt-Date", "X-Relayd-Rule",
        ];
        for line in parts[2].split("\r\n").filter(|line| !line.is_empty() && !line.starts_with(' ')) {
            let name = line.split(':').next().unwrap_or_default();
            prop_assert!(ours.contains(&name), "{}", line);
        }
    }
}
