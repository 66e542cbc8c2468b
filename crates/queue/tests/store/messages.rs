//! Messages and what happens to them, and a look at a state directory: for the tests here and for those of
//! power cuts beside them.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use relay_queue::{Arrival, Attempt, NewMessage, RecipientChange, RecipientState, State};
use relay_smtp::{
    BodyType, Domain, Envelope, Host, Mailbox, Phase, QueueId, Recipient, ReversePath,
};

pub fn now() -> Timestamp {
    Timestamp::from_millisecond(1_795_046_400_000).unwrap()
}

pub fn mailbox(local: &str, domain: &str) -> Mailbox {
    let domain = Domain::parse(domain).unwrap();
    Mailbox::new(local.to_owned(), Host::Domain(domain))
}

pub fn message_to(id: QueueId, recipients: usize, body: &str) -> NewMessage {
    NewMessage {
        id,
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(mailbox("sender", "from.example")),
            recipients: (0..recipients)
                .map(|n| Recipient::plain(mailbox(&format!("r{n}"), "to.example")))
                .collect(),
            body_type: BodyType::EightBitMime,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        },
        arrival: Arrival {
            at: now(),
            client: None,
            user: Some("billing".to_owned()),
            dsn_of: None,
        },
        body: body.to_owned().into(),
    }
}

/// What an attempt did to one recipient.
pub fn change(before: &RecipientState, index: u32, state: State, reply: &str) -> RecipientChange {
    let mut after = before.clone();
    after.state = state;
    after.next_attempt = now() + SignedDuration::from_mins(15);
    after.record(Attempt {
        at: now(),
        host: Some("mx1.to.example [192.0.2.1]".to_owned()),
        tls: None,
        phase: Phase::Rcpt,
        reply: reply.to_owned(),
        category: "category".to_owned(),
        action: "action".to_owned(),
        rule: format!("rule-{reply}"),
    });
    RecipientChange {
        index,
        state: after,
    }
}

pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Takes the index away: the next start rebuilds it from the journal.
pub fn delete_index(directory: &Path) {
    for path in files(directory) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("index-") {
            fs::remove_dir_all(path).unwrap();
        }
    }
}
