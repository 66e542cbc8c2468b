//! Applications that hand in mail as fast as they are answered, until relayd is gone.

use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_testkit::{Client, Offer};

use crate::history::{Life, Offered};

/// Applications at once.
pub const CLIENTS: u32 = 4;
/// One application hands in at most so much in one life: what a kill has left must drain in the end.
const MESSAGES_MAX: u32 = 150;

/// Where mail goes: the domain says what its MX does.
pub mod domain {
    /// Takes everything.
    pub const TAKES: &str = "takes.example";
    /// Refuses every recipient the first time, then takes it.
    pub const LATER: &str = "later.example";
    /// Has no mailboxes.
    pub const NOBODY: &str = "nobody.example";
    /// The applications' own: takes reports.
    pub const SENDER: &str = "sender.example";
}

/// Offers messages until the relay is gone or there were enough.
pub fn application(address: SocketAddr, seed: u64, life: Life, number: u32) -> Vec<Offered> {
    let mut rng = StdRng::seed_from_u64(seed ^ u64::from(life) << 32 ^ u64::from(number) << 16);
    let mut offered = Vec::new();
    let Some(mut client) = Client::try_connect(address) else {
        return offered;
    };
    for message in 0..MESSAGES_MAX {
        let name = format!("{life}-{number}-{message}");
        let (sender, recipients) = envelope(&name, &mut rng);
        let text = text(&name, &mut rng);
        let header = format!(
            "From: App <app@{}>\r\nTo: somebody\r\nSubject: {name}\r\n",
            domain::SENDER
        );
        let answer = client.offer(&sender, &recipients, &format!("{header}\r\n{text}"));
        let gone = answer == Offer::Lost;
        offered.push(Offered {
            life,
            sender,
            recipients,
            text,
            answer,
        });
        if gone {
            break;
        }
    }
    offered
}

fn envelope(name: &str, rng: &mut StdRng) -> (String, Vec<String>) {
    use domain::{LATER, NOBODY, SENDER, TAKES};
    let kinds: &[&[&str]] = &[
        &[TAKES],
        &[TAKES],
        &[TAKES],
        &[LATER],
        &[NOBODY],
        &[TAKES, TAKES, TAKES],
        &[TAKES, NOBODY, TAKES],
        &[TAKES, LATER, NOBODY],
        &[LATER, LATER],
        &[NOBODY, NOBODY],
    ];
    let kind = kinds[rng.random_range(0..kinds.len())];
    let recipients = kind
        .iter()
        .enumerate()
        .map(|(place, domain)| format!("r{name}-{place}@{domain}"))
        .collect();
    let sender = match rng.random_ratio(1, 12) {
        true => String::new(),
        false => format!("s{name}@{SENDER}"),
    };
    (sender, recipients)
}

/// Lines that no other message has. Mostly small; some need many writes, few a large part of a segment.
fn text(name: &str, rng: &mut StdRng) -> String {
    let lines = match rng.random_range(0..100) {
        0 => 8000,
        1..8 => 800,
        _ => rng.random_range(1..40),
    };
    (0..lines)
        .map(|line| format!("message {name}, line {line} of {lines}, and so on\r\n"))
        .collect()
}
