//! The record format: round trips, the bytes of each version, damage.

use super::*;
use crate::message::{Attempt, Detour, Detours, RecipientState, State};
use jiff::Timestamp;
use relay_smtp::envelope::{Priority, RequireTls, Utf8};
use relay_smtp::{BodyType, Host, Mailbox, Phase, Recipient, ReversePath};

const STAMP: Stamp = Stamp {
    segment: 7,
    salt: 0x5eed,
};

fn message(id: u64, body: &'static str) -> NewMessage {
    let address =
        |local: &str| Mailbox::new(local.to_owned(), Host::Address([192, 0, 2, 1].into()));
    NewMessage {
        id: QueueId::from_u64(id),
        envelope: Envelope {
            reverse_path: ReversePath::Mailbox(address("a")),
            recipients: vec![Recipient::plain(address("b"))],
            body_type: BodyType::EightBitMime,
            utf8: Default::default(),
            require_tls: Default::default(),
            priority: Default::default(),
            ret: None,
            envid: Some("x".to_owned()),
        },
        arrival: Arrival {
            at: Timestamp::from_millisecond(1_795_000_000_123).unwrap(),
            client: Some([127, 0, 0, 1].into()),
            user: Some("u".to_owned()),
            dsn_of: None,
        },
        body: body.into(),
    }
}

fn change() -> RecipientChange {
    let at = Timestamp::from_millisecond(1_795_000_000_456).unwrap();
    let mut state = RecipientState::new(at);
    state.state = State::Deferred;
    state.record(Attempt {
        at,
        host: Some("mx".to_owned()),
        tls: None,
        phase: Phase::Rcpt,
        reply: "451 4.7.1 later".to_owned(),
        category: "greylisted".to_owned(),
        action: "defer".to_owned(),
        rule: "greylist".to_owned(),
    });
    RecipientChange { index: 0, state }
}

fn bytes(kind: Kind, encoded: &Encoded) -> Vec<u8> {
    let mut write = Gather::default();
    encoded.add_to(&mut write, kind, STAMP, 4096);
    assert_eq!(write.len(), encoded.len());
    write.to_vec()
}

fn accepted() -> Vec<u8> {
    bytes(
        Kind::Accepted,
        &Encoded::accepted(&message(5, "body")).unwrap(),
    )
}

#[test]
fn every_kind_is_read_back_as_it_was_written() {
    let new = message(5, "body");
    let record = read(&accepted(), STAMP, 4096).unwrap();
    let Change::Accepted(found) = record.change else {
        panic!("{record:?}")
    };
    assert_eq!((found.id, &found.envelope), (new.id, &new.envelope));
    assert_eq!(found.arrival, new.arrival);

    let dsns = [message(8, "first"), message(9, "second")];
    let encoded = Encoded::settlement(new.id, &[change()], &dsns).unwrap();
    for kind in [Kind::ProgressWithDsns, Kind::FinishedWithDsns] {
        let written = bytes(kind, &encoded);
        let record = read(&written, STAMP, 4096).unwrap();
        let Change::Settled { changes, dsns, .. } = record.change else {
            panic!("{record:?}")
        };
        assert_eq!(changes, [change()]);
        let body = |found: &Found| {
            let Spot::At(offset) = found.place.spot else {
                panic!("{found:?}")
            };
            let start = (offset - 4096) as usize;
            written[start..][..found.place.bytes as usize].to_vec()
        };
        let bodies: Vec<_> = dsns.iter().map(body).collect();
        assert_eq!(bodies, [&b"first"[..], b"second"]);
    }
}

#[test]
fn a_body_of_any_size_is_found_whole() {
    for size in [0, 1, COMBINED_FROM - 1, COMBINED_FROM, COMBINED_FROM + 4097] {
        let mut new = message(5, "");
        new.body = Bytes::from(vec![b'x'; size]).into();
        let written = bytes(Kind::Accepted, &Encoded::accepted(&new).unwrap());
        assert!(read(&written, STAMP, 4096).is_ok(), "{size}");
    }
}

/// These bytes lie on disks. Where this fails, the record's version has to rise, and this relayd
/// still has to read the old one.
#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    assert_eq!(hex(&accepted()), GOLDEN_ACCEPTED);
    let dsns = [message(8, "dsn")];
    let settled = Encoded::settlement(QueueId::from_u64(5), &[change()], &dsns).unwrap();
    let settled = bytes(Kind::FinishedWithDsns, &settled);
    assert_eq!(hex(&settled), GOLDEN_SETTLED);
}

fn carried() -> (Message, Vec<u8>) {
    let mut message = crate::settle::accepted(message(5, "body"));
    message.recipients = vec![change().state];
    let encoded = Encoded::carried(&message, Payload::Bytes("body".into())).unwrap();
    let bytes = bytes(Kind::Carried, &encoded);
    (message, bytes)
}

#[test]
fn a_message_that_was_copied_forward_keeps_all_that_was_known_of_it() {
    let (message, bytes) = carried();
    let record = read(&bytes, STAMP, 4096).unwrap();
    let Change::Carried(found, recipients, detours) = record.change else {
        panic!("{record:?}")
    };
    assert!(detours.is_empty());
    assert_eq!((found.id, &found.envelope), (message.id, &message.envelope));
    assert_eq!(found.arrival, message.arrival);
    assert_eq!(recipients, message.recipients);
    assert_eq!(found.place.crc, crc32c::crc32c(b"body"));
}

#[test]
fn the_bytes_of_version_2_stay_as_they_are() {
    let hex: String = carried().1.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN_CARRIED);
}

fn ways() -> Vec<Way> {
    let way = |index, detour| Way { index, detour };
    vec![
        way(0, Some(Detour::Relay("up.test:587".to_owned()))),
        way(1, Some(Detour::Mx)),
        way(2, None),
    ]
}

/// Carried with a detour, and the record that a message is rerouted with.
fn detoured() -> [Vec<u8>; 2] {
    let mut message = carried().0;
    message.detours.insert(0, Detour::Mx);
    let encoded = Encoded::carried(&message, Payload::Bytes("body".into())).unwrap();
    let rerouted = Encoded::rerouted(message.id, &ways()).unwrap();
    [
        bytes(Kind::Carried, &encoded),
        bytes(Kind::Rerouted, &rerouted),
    ]
}

const IN_FILE: InFile = InFile {
    bytes: 25 << 20,
    crc: 0x0b1d,
};

/// Accepted and Carried whose body has a file of its own.
fn big() -> (Message, [Vec<u8>; 2]) {
    let (mut message, _) = carried();
    let head = Head {
        envelope: message.envelope.clone(),
        arrival: message.arrival.clone(),
    };
    let accepted =
        Encoded::with_body(message.id, to_postcard(&head), Payload::InFile(IN_FILE)).unwrap();
    message.detours.insert(0, Detour::Mx);
    let carried = Encoded::carried(&message, Payload::InFile(IN_FILE)).unwrap();
    let bytes = [
        bytes(Kind::Accepted, &accepted),
        bytes(Kind::Carried, &carried),
    ];
    (message, bytes)
}

#[test]
fn detours_are_read_back_from_both_records_that_have_them() {
    let [carried, rerouted] = detoured();
    let Change::Carried(_, _, detours) = read(&carried, STAMP, 4096).unwrap().change else {
        panic!("not carried")
    };
    assert_eq!(detours, Detours::from([(0, Detour::Mx)]));
    let expected = Change::Rerouted {
        id: QueueId::from_u64(5),
        ways: ways(),
    };
    assert_eq!(read(&rerouted, STAMP, 4096).unwrap().change, expected);
}

#[test]
fn the_bytes_of_version_3_stay_as_they_are() {
    let hex = detoured().map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
    assert_eq!(hex, GOLDEN_DETOURED);
}

#[test]
fn an_envelope_with_requiretls_is_read_back_and_is_nothing_for_an_older_relayd() {
    let mut new = message(5, "body");
    let without = bytes(Kind::Accepted, &Encoded::accepted(&new).unwrap());
    assert_eq!(without[4], 1, "the others stay as they are");
    for utf8 in [Utf8::NotNeeded, Utf8::Required] {
        new.envelope.utf8 = utf8;
        new.envelope.require_tls = RequireTls::Yes;
        let written = bytes(Kind::Accepted, &Encoded::accepted(&new).unwrap());
        assert_eq!((written[4], written.len()), (4, without.len()));
        let Change::Accepted(found) = read(&written, STAMP, 4096).unwrap().change else {
            panic!("not accepted")
        };
        assert_eq!(found.envelope, new.envelope);
    }
    let dsns = [message(8, "first"), new];
    let encoded = Encoded::settlement(QueueId::from_u64(5), &[change()], &dsns).unwrap();
    let written = bytes(Kind::FinishedWithDsns, &encoded);
    assert_eq!(written[4], 4);
    let Change::Settled { dsns: found, .. } = read(&written, STAMP, 4096).unwrap().change else {
        panic!("not settled")
    };
    let of = |envelope: &Envelope| envelope.require_tls;
    assert_eq!(of(&found[0].envelope), RequireTls::No);
    assert_eq!(of(&found[1].envelope), RequireTls::Yes);
}

#[test]
fn a_priority_is_read_back_and_is_nothing_for_an_older_relayd() {
    let mut new = message(5, "body");
    for (level, require_tls) in (-9..=9).flat_map(|n| [(n, RequireTls::No), (n, RequireTls::Yes)]) {
        new.envelope.priority = Priority::new(level).unwrap();
        new.envelope.require_tls = require_tls;
        let written = bytes(Kind::Accepted, &Encoded::accepted(&new).unwrap());
        let plain = level == 0 && require_tls == RequireTls::No;
        assert_eq!(written[4], if plain { 1 } else { 4 });
        let Change::Accepted(found) = read(&written, STAMP, 4096).unwrap().change else {
            panic!("not accepted")
        };
        assert_eq!(found.envelope, new.envelope);
    }
}

#[test]
fn a_record_without_its_body_says_what_the_file_has() {
    let place = IN_FILE.place(STAMP.segment);
    let (message, [accepted, carried]) = big();
    let Change::Accepted(found) = read(&accepted, STAMP, 4096).unwrap().change else {
        panic!("not accepted")
    };
    assert_eq!((found.id, found.place), (message.id, place));
    assert_eq!(found.envelope, message.envelope);
    let Change::Carried(found, recipients, detours) = read(&carried, STAMP, 4096).unwrap().change
    else {
        panic!("not carried")
    };
    assert_eq!((found.arrival, found.place), (message.arrival, place));
    assert_eq!(detours, message.detours);
    assert_eq!(recipients, message.recipients);
}

#[test]
fn an_index_of_earlier_versions_is_read_and_one_with_files_as_well() {
    let at = |spot| Place {
        segment: 7,
        spot,
        bytes: 300,
        crc: 9,
    };
    assert_eq!(
        to_postcard(&at(Spot::At(4096))),
        to_postcard(&(7u32, 4096u32, 300u32, 9u32))
    );
    for place in [at(Spot::At(4096)), at(Spot::File)] {
        assert_eq!(from_postcard::<Place>(&to_postcard(&place)), Some(place));
    }
}

#[test]
fn the_bytes_of_large_bodies_records_stay_as_they_are() {
    let hex = big()
        .1
        .map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
    assert_eq!(hex, GOLDEN_BIG);
}

#[test]
fn a_kind_that_its_version_did_not_have_is_bad() {
    let (_, mut older) = carried();
    older[4] = 1;
    let crc = crc32c::crc32c_append(STAMP.salt, &older[..28]);
    older[28..32].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&older, STAMP, 4096), Err(Bad::Kind(6)));
}

const GOLDEN_DETOURED: [&str; 2] = [
    "726c794a0306000005000000000000006e0000000400000000100000022796df0101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f0000010101750001010190ffb2e5bd680190ffb2e5bd6801026d7800070f34353120342e372e31206c617465720a677265796c697374656405646566657208677265796c69737400010000626f6479894efdd2",
    "726c794a030900000500000000000000150000000000000000100000bdbada80030001010b75702e746573743a3538370101000200db2a514f",
];
const GOLDEN_BIG: [&str; 2] = [
    "726c794a030700000500000000000000300000000000000000100000d9c290df8080c00c9d160101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f000001010175007f3dd843",
    "726c794a030800000500000000000000740000000000000000100000df4e8c928080c00c9d160101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f0000010101750001010190ffb2e5bd680190ffb2e5bd6801026d7800070f34353120342e372e31206c617465720a677265796c697374656405646566657208677265796c697374000100001c747765",
];
const GOLDEN_CARRIED: &str = "726c794a0206000005000000000000006b00000004000000001000007c616f910101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f0000010101750001010190ffb2e5bd680190ffb2e5bd6801026d7800070f34353120342e372e31206c617465720a677265796c697374656405646566657208677265796c69737400626f64791e7e5d3c";
const GOLDEN_ACCEPTED: &str = "726c794a0101000005000000000000002a00000004000000001000003a4252430101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f00000101017500626f6479e6b06862";
const GOLDEN_SETTLED: &str = "726c794a0105000005000000000000006f00000003000000001000009315b9fb0100010190ffb2e5bd680190ffb2e5bd6801026d7800070f34353120342e372e31206c617465720a677265796c697374656405646566657208677265796c697374000108030101610100c00002010101620100c00002010000010000010178f6f9b2e5bd6801007f0000010101750064736e6adef1e7";

#[test]
fn a_cut_or_changed_record_is_bad_and_never_a_panic() {
    let whole = accepted();
    for end in 0..whole.len() {
        assert!(read(&whole[..end], STAMP, 4096).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(read(&changed, STAMP, 4096).is_err(), "changed at {at}");
    }
}

#[test]
fn a_record_of_a_newer_version_says_so() {
    let mut newer = accepted();
    newer[4] = VERSION + 1;
    let crc = crc32c::crc32c_append(STAMP.salt, &newer[..28]);
    newer[28..32].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&newer, STAMP, 4096), Err(Bad::Version(VERSION + 1)));
}

#[test]
fn without_its_bodies_a_record_tells_the_same_as_with_them() {
    let new = message(5, "the body");
    let dsns = [message(8, "first"), message(9, "second")];
    let accepted = Encoded::accepted(&new).unwrap();
    let settled = Encoded::settlement(new.id, &[change()], &[]).unwrap();
    let reported = Encoded::settlement(new.id, &[change()], &dsns).unwrap();
    for (kind, encoded) in [
        (Kind::Accepted, accepted),
        (Kind::Progress, settled.clone()),
        (Kind::Finished, settled),
        (Kind::ProgressWithDsns, reported.clone()),
        (Kind::FinishedWithDsns, reported),
    ] {
        let whole = read(&bytes(kind, &encoded), STAMP, 4096).unwrap();
        let (change, len) = encoded.bare(kind).read(STAMP.segment, 4096).unwrap();
        assert_eq!((change, len), (whole.change, whole.len), "{kind:?}");
    }
}
