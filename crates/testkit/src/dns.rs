//! A fake DNS server on loopback, answering from a few lines of zone.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_server::proto::op::{Message, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

/// The running server. Stops when dropped.
#[derive(Debug)]
pub struct Dns {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Zone = HashMap<String, Vec<Answer>>;

#[derive(Clone, Debug)]
enum Answer {
    Data(RData),
    Servfail,
}

impl Dns {
    /// One record a line, names without trailing dot: `NAME MX PREFERENCE HOST` (`.` for the null
    /// MX), `NAME TXT some text`, `NAME A ADDRESS`, `NAME AAAA ADDRESS`, `NAME CNAME HOST`, `NAME PTR HOST`, `NAME EXISTS` (no records),
    /// `NAME SERVFAIL`. Every other name does not exist.
    pub fn start(zone: &str) -> Dns {
        let zone = parse(zone);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback takes a UDP socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a time-out can be set");
        let address = socket.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = [0u8; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                if let Some(reply) = answer(&zone, &packet[..length]) {
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        Dns {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn parse(text: &str) -> Zone {
    let mut zone = Zone::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answers = zone.entry(words[0].to_ascii_lowercase()).or_default();
        match words[1..] {
            ["MX", preference, host] => answers.push(Answer::Data(RData::MX(MX::new(
                preference.parse().expect("a preference is a number"),
                name(host),
            )))),
            ["A" | "AAAA", address] => {
                answers.push(Answer::Data(match address.parse().expect("an address") {
                    IpAddr::V4(address) => RData::A(A(address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(address)),
                }))
            }
            ["TXT", ..] => {
                let text = line.split_once(" TXT ").map_or("", |(_, text)| text).trim();
                // A string of a record holds 255 octets at most.
                let strings = text.as_bytes().chunks(255);
                let strings = strings.map(|piece| String::from_utf8_lossy(piece).into_owned());
                let text = TXT::new(strings.collect());
                answers.push(Answer::Data(RData::TXT(text)));
            }
            ["PTR", host] => answers.push(Answer::Data(RData::PTR(PTR(name(host))))),
            ["CNAME", host] => answers.push(Answer::Data(RData::CNAME(CNAME(name(host))))),
            ["EXISTS"] => {}
            ["SERVFAIL"] => answers.push(Answer::Servfail),
            _ => panic!("not a line of a zone: {line}"),
        }
    }
    zone
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a DNS name");
    name.set_fqdn(true);
    name
}

fn answer(zone: &Zone, packet: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(packet).ok()?;
    let question = query.queries.first()?.clone();
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.add_query(question.clone());
    reply.metadata.recursion_available = true;
    let mut owner = question
        .name()
        .to_ascii()
        .trim_end_matches('.')
        .to_ascii_lowercase();
    for _ in 0..8 {
        let Some(answers) = zone.get(&owner) else {
            reply.metadata.response_code = ResponseCode::NXDomain;
            break;
        };
        let Some(alias) = put(&mut reply, &owner, answers, question.query_type()) else {
            break;
        };
        owner = alias;
    }
    reply.to_vec().ok()
}

/// Adds what fits the question; the alias to go on with, if the name is one.
fn put(reply: &mut Message, owner: &str, answers: &[Answer], wanted: RecordType) -> Option<String> {
    let mut alias = None;
    for answer in answers {
        match answer {
            Answer::Servfail => reply.metadata.response_code = ResponseCode::ServFail,
            Answer::Data(data) => {
                if let RData::CNAME(target) = data {
                    alias = Some(target.0.to_ascii().trim_end_matches('.').to_owned());
                } else if data.record_type() != wanted {
                    continue;
                }
                reply.add_answer(Record::from_rdata(name(owner), 60, data.clone()));
            }
        }
    }
    alias
}
