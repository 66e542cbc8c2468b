//! Fills a queue: so many messages to so many domains, each deferred once, in a state directory that a
//! relayd is started on afterwards (`tests/run --million`).
//!
//! `fill DIRECTORY MESSAGES DOMAINS BODY_BYTES DUE_IN_S DUE_NOW`: the last DUE_NOW messages are due at
//! once, the others DUE_IN_S seconds from now and over the hour that follows. Prints what accepting and
//! deferring cost while the queue grows, one JSON object a line.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use relay_observe::{Clock, Events};
use relay_queue::{
    Arrival, Attempt, DiskStore, NewMessage, Options, RecipientChange, RecipientState, Select,
    Settlement, State, Store,
};
use relay_smtp::{BodyType, Domain, Envelope, Host, Mailbox, Phase, Recipient, ReversePath};

/// Messages on their way at once.
const PRODUCERS: u64 = 64;
/// Messages of one step of the curve, measured when the queue has come to each of the sizes.
const STEP: u64 = 1000;
const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// What is filled in.
#[derive(Clone, Copy)]
struct Plan {
    messages: u64,
    domains: u64,
    body_bytes: u64,
    due_in_s: u64,
    due_now: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().expect("a directory");
    let mut number = || -> u64 {
        let text = arguments.next().expect("six arguments");
        text.parse().expect("a number")
    };
    let plan = Plan {
        messages: number(),
        domains: number(),
        body_bytes: number(),
        due_in_s: number(),
        due_now: number(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(fill(Path::new(&directory), plan));
}

async fn fill(directory: &Path, plan: Plan) {
    let clock = Clock::starting_at(Timestamp::now());
    let store = DiskStore::open(directory, clock, Events::default(), Options::default());
    let store = Arc::new(store.expect("an empty directory"));
    let begun = Instant::now();
    let mut done = 0;
    while done < plan.messages {
        let next = SIZES.into_iter().find(|&size| done < size);
        let upto = match next {
            // A step that is measured ends at the size.
            Some(size) if done == size - STEP => size,
            Some(size) => size - STEP,
            None => plan.messages,
        };
        let upto = upto.min(plan.messages);
        let started = Instant::now();
        put(&store, plan, done..upto).await;
        if upto - done == STEP {
            let us = started.elapsed().as_secs_f64() * 1e6 / STEP as f64;
            println!("{{\"messages\":{upto},\"accept_and_defer_us\":{us:.1}}}");
        }
        done = upto;
    }
    store.close().await;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{{\"messages\":{done},\"filled_s\":{seconds:.1}}}");
    drop(store);
    look(directory).await;
}

/// What a start costs, and looking for something in the whole queue.
async fn look(directory: &Path) {
    let started = Instant::now();
    let clock = Clock::starting_at(Timestamp::now());
    let store = DiskStore::open(directory, clock, Events::default(), Options::default());
    let store = store.expect("what was just closed");
    println!("{{\"opened_s\":{:.2}}}", started.elapsed().as_secs_f64());
    let select = |sender: Option<&str>, to: Option<&str>| Select {
        sender: sender.map(str::to_owned),
        to: to.map(str::to_owned),
        ..Select::default()
    };
    for (what, select) in [
        ("everything", select(None, None)),
        ("a sender", select(Some("sender7@from.test"), None)),
        ("a domain", select(None, Some("d7.test"))),
        ("nobody", select(Some("nobody@from.test"), None)),
    ] {
        let started = Instant::now();
        let (mut after, mut found) = (None, 0);
        loop {
            let page = store.list(select.clone(), after, 1000).await;
            let page = page.expect("a sound index");
            found += page.messages.len();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{{\"selected\":\"{what}\",\"found\":{found},\"selected_s\":{seconds:.3}}}");
    }
    let started = Instant::now();
    let (mut after, mut counted) = (None, 0);
    loop {
        let step = store.survey(after, &mut |_| counted += 1);
        after = step.expect("an open queue");
        if after.is_none() {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{{\"counted\":{counted},\"counted_s\":{seconds:.3}}}");
    store.close().await;
}

async fn put(store: &Arc<DiskStore>, plan: Plan, numbers: std::ops::Range<u64>) {
    let body = Bytes::from(body(plan.body_bytes));
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|first| {
            let (store, body) = (store.clone(), body.clone());
            let mine = numbers
                .clone()
                .skip(first as usize)
                .step_by(PRODUCERS as usize);
            tokio::spawn(async move {
                for number in mine {
                    one(&store, plan, number, body.clone()).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// Accepted, tried, deferred.
async fn one(store: &DiskStore, plan: Plan, number: u64, body: Bytes) {
    let new = message(store, plan, number, body);
    let id = new.id;
    store.accept(new).await.expect("space on the disk");
    let now = Timestamp::now();
    let mut state = RecipientState::new(now);
    state.state = State::Deferred;
    state.next_attempt = match number + plan.due_now >= plan.messages {
        true => now,
        // Spread without a pattern that follows the ids.
        false => now + SignedDuration::from_secs((plan.due_in_s + number * 7919 % 3600) as i64),
    };
    state.record(Attempt {
        at: now,
        host: Some(format!("mx.d{}.test [127.0.0.1]", number % plan.domains)),
        tls: Some("TLSv1.3 TLS13_AES_256_GCM_SHA384".to_owned()),
        phase: Phase::Rcpt,
        reply: "450 4.2.0 Greylisted, please come back in a few minutes".to_owned(),
        category: "greylisted".to_owned(),
        action: "defer".to_owned(),
        rule: "greylisting".to_owned(),
    });
    let settlement = Settlement {
        id,
        changes: vec![RecipientChange { index: 0, state }],
        dsns: Vec::new(),
    };
    store.settle(settlement).await.expect("space on the disk");
}

fn message(store: &DiskStore, plan: Plan, number: u64, body: Bytes) -> NewMessage {
    let mailbox = |local: String, domain: String| {
        Mailbox::new(
            local,
            Host::Domain(Domain::parse(&domain).expect("a domain")),
        )
    };
    let to = mailbox(
        format!("user{number}"),
        format!("d{}.test", number % plan.domains),
    );
    let from = mailbox(format!("sender{}", number % 100), "from.test".to_owned());
    NewMessage {
        id: store.next_id(),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(from),
            recipients: vec![Recipient::plain(to)],
            body_type: BodyType::SevenBit,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: None,
        },
        arrival: Arrival {
            at: Timestamp::now(),
            client: Some([127, 0, 0, 1].into()),
            user: number.is_multiple_of(10).then(|| "billing".to_owned()),
            dsn_of: None,
        },
        body: body.into(),
    }
}

/// A message of so many bytes, in lines.
fn body(bytes: u64) -> Vec<u8> {
    let mut body = b"From: <a@from.test>\r\nSubject: one of many\r\n\r\n".to_vec();
    while (body.len() as u64) < bytes {
        body.extend_from_slice(&[b'x'; 70]);
        body.extend_from_slice(b"\r\n");
    }
    body
}
