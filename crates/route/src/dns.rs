//! DNS by hickory-resolver: a stub resolver that asks the configured or the system's servers. What it
//! believes of DNSSEC is the AD bit of a server that is trusted for it.

mod tlsa;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::Resolver as Hickory;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup as Answer;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use crate::asking::AskingForProof;
use crate::resolver::{Dnssec, Later, Lookup, MxRecord, Resolver, Tlsa};

/// How long one server has for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Questions asked again before DNS counts as troubled.
const ATTEMPTS: usize = 2;
/// Answers kept for their TTL.
const ANSWERS_KEPT: u64 = 20_000;
/// Names that do not exist are asked for again after this at the earliest, and after this at the
/// latest: a domain that was just set up must not stay unknown for a day.
const NEGATIVE_KEPT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));

/// The real resolver. Building it takes a tenth of a second: once, then shared.
pub struct HickoryResolver {
    inner: Hickory<AskingForProof>,
    /// Whether the AD bit of the servers means anything.
    proof: AdBit,
}

/// What the AD bit of an answer is worth (RFC 4035 section 3.2.3): it is as good as the server that sets
/// it and the way from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdBit {
    /// The operator says that the servers validate, and that nobody can speak in their place.
    Trusted,
    /// Trusted where every server is on loopback.
    TrustedOnLoopback,
    Ignored,
}

/// There is no usable resolver; Display names what to change.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    #[error("the system's DNS configuration (resolv.conf) cannot be used: {0}; set dns.servers")]
    System(NetError),
    #[error("the resolver for dns.servers cannot be built: {0}")]
    Build(NetError),
}

impl HickoryResolver {
    /// `servers` empty: the system's resolv.conf.
    pub fn new(servers: &[SocketAddr], proof: AdBit) -> Result<HickoryResolver, ResolverError> {
        let (config, options) = if servers.is_empty() {
            read_system_conf().map_err(ResolverError::System)?
        } else {
            let servers = servers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            (config, ResolverOpts::default())
        };
        let near = |server: &NameServerConfig| server.ip.to_canonical().is_loopback();
        let proof = match proof {
            AdBit::TrustedOnLoopback if config.name_servers().iter().all(near) => AdBit::Trusted,
            AdBit::TrustedOnLoopback => AdBit::Ignored,
            AdBit::Trusted | AdBit::Ignored => proof,
        };
        let provider = AskingForProof::new(TokioRuntimeProvider::default());
        let mut builder = Hickory::builder_with_config(config, provider);
        *builder.options_mut() = options;
        let options = builder.options_mut();
        options.timeout = ANSWER_WITHIN;
        options.attempts = ATTEMPTS;
        options.cache_size = ANSWERS_KEPT;
        options.negative_min_ttl = Some(NEGATIVE_KEPT.0);
        options.negative_max_ttl = Some(NEGATIVE_KEPT.1);
        options.try_tcp_on_error = true;
        let inner = builder.build().map_err(ResolverError::Build)?;
        Ok(HickoryResolver { inner, proof })
    }

    /// Whether the AD bit of the servers is believed: else nothing is ever [`Dnssec::Secure`].
    pub fn believes_ad(&self) -> bool {
        match self.proof {
            AdBit::Trusted => true,
            AdBit::TrustedOnLoopback | AdBit::Ignored => false,
        }
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Lookup<T> {
        let pick = |_: &Name, data: &RData| pick(data);
        self.ask_for_proof(name, kind, pick).await.0
    }

    /// The same, and whether what was found has been validated. `pick` sees whose record it is, too.
    async fn ask_for_proof<T>(
        &self,
        name: &str,
        kind: RecordType,
        pick: impl Fn(&Name, &RData) -> Option<T>,
    ) -> (Lookup<T>, Dnssec) {
        let Ok(mut question) = Name::from_ascii(name) else {
            // What cannot be said in a question cannot exist: labels over 63 characters and the like.
            return (Lookup::NoSuchName, Dnssec::Insecure);
        };
        // Without the trailing dot the search list of resolv.conf would be tried.
        question.set_fqdn(true);
        let lookup = match self.inner.lookup(question.clone(), kind).await {
            Ok(answer) => {
                let found = picked(&answer, name, kind, pick);
                return (found, self.proof_of(&answer, &question));
            }
            Err(error) if error.is_nx_domain() => Lookup::NoSuchName,
            Err(error) if error.is_no_records_found() => Lookup::NoRecords,
            Err(error) => Lookup::Trouble(format!("DNS gave no answer for {kind} {name}: {error}")),
        };
        (lookup, Dnssec::Insecure)
    }

    fn proof_of(&self, answer: &Answer, question: &Name) -> Dnssec {
        let message = answer.message();
        // Where a server left the target of an alias to us, hickory asks on and gives out the last answer
        // alone: its AD bit says nothing of the alias.
        let whole = message
            .queries
            .first()
            .is_some_and(|query| query.name() == question);
        match self.believes_ad() && message.metadata.authentic_data && whole {
            true => Dnssec::Secure,
            false => Dnssec::Insecure,
        }
    }
}

impl Resolver for HickoryResolver {
    fn mx<'a>(&'a self, domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
        Box::pin(self.ask(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some(MxRecord {
                preference: mx.preference,
                exchange: plain(&mx.exchange),
            }),
            _ => None,
        }))
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Later<'a, Lookup<IpAddr>> {
        Box::pin(async move {
            let address = |data: &RData| data.ip_addr();
            let (v4, v6) = tokio::join!(
                self.ask(host, RecordType::A, address),
                self.ask(host, RecordType::AAAA, address)
            );
            both(v4, v6)
        })
    }

    fn txt<'a>(&'a self, name: &'a str) -> Later<'a, Lookup<String>> {
        Box::pin(self.ask(name, RecordType::TXT, |data| match data {
            // The pieces of a record are one text (RFC 7208 section 3.3).
            RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
            _ => None,
        }))
    }

    fn ptr(&self, address: IpAddr) -> Later<'_, Lookup<String>> {
        Box::pin(async move {
            let name = Name::from(address).to_ascii();
            self.ask(&name, RecordType::PTR, |data| match data {
                RData::PTR(name) => Some(plain(name)),
                _ => None,
            })
            .await
        })
    }

    fn tlsa<'a>(&'a self, mx_of: Option<&'a str>, host: &'a str, port: u16) -> Later<'a, Tlsa> {
        Box::pin(self.find_tlsa(mx_of, host, port))
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(
        address.ip(),
        true,
        vec![
            at_port(ConnectionConfig::udp()),
            at_port(ConnectionConfig::tcp()),
        ],
    )
}

/// The records of the wanted type. CNAMEs and their target come in no fixed order, so an answer may
/// hold other records, too, or, where the CNAME leads nowhere, nothing else.
fn picked<T>(
    answer: &Answer,
    name: &str,
    kind: RecordType,
    pick: impl Fn(&Name, &RData) -> Option<T>,
) -> Lookup<T> {
    let found: Vec<T> = answer
        .answers()
        .iter()
        .filter_map(|record| pick(&record.name, &record.data))
        .collect();
    if !found.is_empty() {
        return Lookup::Found(found);
    }
    match answer.message().metadata.response_code {
        ResponseCode::NXDomain => Lookup::NoSuchName,
        ResponseCode::NoError => Lookup::NoRecords,
        code => Lookup::Trouble(format!("DNS answered {code} for {kind} {name}")),
    }
}

/// One usable family is enough. "There is none" is said only if both questions were answered so.
fn both(v4: Lookup<IpAddr>, v6: Lookup<IpAddr>) -> Lookup<IpAddr> {
    match (v4, v6) {
        (Lookup::Found(mut found), Lookup::Found(more)) => {
            found.extend(more);
            Lookup::Found(found)
        }
        (Lookup::Found(found), Lookup::NoRecords | Lookup::NoSuchName | Lookup::Trouble(_))
        | (Lookup::NoRecords | Lookup::NoSuchName | Lookup::Trouble(_), Lookup::Found(found)) => {
            Lookup::Found(found)
        }
        (Lookup::Trouble(words), Lookup::NoRecords | Lookup::NoSuchName | Lookup::Trouble(_))
        | (Lookup::NoRecords | Lookup::NoSuchName, Lookup::Trouble(words)) => {
            Lookup::Trouble(words)
        }
        (Lookup::NoSuchName, Lookup::NoSuchName) => Lookup::NoSuchName,
        // A name that does not exist has no type at all: where servers contradict themselves, the
        // weaker word is the safer one.
        (Lookup::NoRecords, Lookup::NoRecords | Lookup::NoSuchName)
        | (Lookup::NoSuchName, Lookup::NoRecords) => Lookup::NoRecords,
    }
}

/// Lower case, no trailing dot; the root is "".
fn plain(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use hickory_resolver::proto::op::{Message, OpCode, Query};
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR};
    use tokio::net::UdpSocket;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// What the test's zone says.
    fn zone(query: &Query) -> (ResponseCode, Vec<RData>) {
        let asked = query.name().to_ascii().to_ascii_lowercase();
        let mx = |preference, host| RData::MX(MX::new(preference, name(host)));
        match (asked.as_str(), query.query_type()) {
            ("two.test.", RecordType::MX) => (
                ResponseCode::NoError,
                vec![mx(20, "Backup.two.test."), mx(10, "mx.two.test.")],
            ),
            ("null.test.", RecordType::MX) => (ResponseCode::NoError, vec![mx(0, ".")]),
            ("alias.test.", RecordType::MX) => (
                ResponseCode::NoError,
                vec![RData::CNAME(CNAME(name("null.test.")))],
            ),
            ("broken.test.", _) => (ResponseCode::ServFail, vec![]),
            ("v4.test.", RecordType::A) => (
                ResponseCode::NoError,
                vec![
                    RData::A(A::new(192, 0, 2, 1)),
                    RData::A(A::new(192, 0, 2, 2)),
                ],
            ),
            ("v6.test.", RecordType::AAAA) => (
                ResponseCode::NoError,
                vec![RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))],
            ),
            ("7.2.0.192.in-addr.arpa.", RecordType::PTR) => (
                ResponseCode::NoError,
                vec![RData::PTR(PTR(name("Mail.v4.test.")))],
            ),
            ("v4.test." | "v6.test." | "bare.test.", _) => (ResponseCode::NoError, vec![]),
            _ => (ResponseCode::NXDomain, vec![]),
        }
    }

    /// Answers from [`zone`] over UDP on a free port; counts the questions.
    async fn serve() -> (SocketAddr, Arc<AtomicU32>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0u8; 1500];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                let (code, records) = zone(&query);
                let mut reply = Message::response(question.metadata.id, OpCode::Query);
                reply.metadata.response_code = code;
                for data in records {
                    reply.add_answer(Record::from_rdata(query.name().clone(), 300, data));
                }
                reply.add_query(query);
                let bytes = reply.to_vec().unwrap();
                socket.send_to(&bytes, peer).await.unwrap();
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn the_answers_of_a_real_server_become_lookups() {
        let (server, _) = serve().await;
        let resolver = HickoryResolver::new(&[server], AdBit::Ignored).unwrap();
        let mx = |preference, exchange: &str| MxRecord {
            preference,
            exchange: exchange.to_owned(),
        };
        let Lookup::Found(mut two) = resolver.mx("two.test").await else {
            panic!("two.test has two MX");
        };
        two.sort_by_key(|record| record.preference);
        assert_eq!(two, [mx(10, "mx.two.test"), mx(20, "backup.two.test")]);
        let null = Lookup::Found(vec![mx(0, "")]);
        assert_eq!(resolver.mx("null.test").await, null);
        assert_eq!(resolver.mx("alias.test").await, null);
        assert_eq!(resolver.mx("bare.test").await, Lookup::NoRecords);
        assert_eq!(resolver.mx("nowhere.test").await, Lookup::NoSuchName);
        let Lookup::Trouble(words) = resolver.mx("broken.test").await else {
            panic!("SERVFAIL is trouble");
        };
        assert!(words.contains("MX broken.test"), "{words}");
    }

    #[tokio::test]
    async fn one_address_family_is_enough() {
        let (server, _) = serve().await;
        let resolver = HickoryResolver::new(&[server], AdBit::Ignored).unwrap();
        let Lookup::Found(v4) = resolver.addresses("v4.test").await else {
            panic!("v4.test has addresses");
        };
        assert_eq!(v4.len(), 2);
        assert_eq!(
            resolver.addresses("v6.test").await,
            Lookup::Found(vec!["2001:db8::1".parse().unwrap()])
        );
        assert_eq!(resolver.addresses("bare.test").await, Lookup::NoRecords);
        assert_eq!(resolver.addresses("none.test").await, Lookup::NoSuchName);
        assert!(matches!(
            resolver.addresses("broken.test").await,
            Lookup::Trouble(_)
        ));
    }

    #[tokio::test]
    async fn an_address_is_asked_for_its_names() {
        let (server, _) = serve().await;
        let resolver = HickoryResolver::new(&[server], AdBit::Ignored).unwrap();
        let named = Lookup::Found(vec!["mail.v4.test".to_owned()]);
        assert_eq!(resolver.ptr([192, 0, 2, 7].into()).await, named);
        assert_eq!(
            resolver.ptr([192, 0, 2, 8].into()).await,
            Lookup::NoSuchName
        );
    }

    #[tokio::test]
    async fn an_answer_is_asked_for_once_and_never_by_the_search_list() {
        let (server, asked) = serve().await;
        let resolver = HickoryResolver::new(&[server], AdBit::Ignored).unwrap();
        for _ in 0..3 {
            assert!(matches!(resolver.mx("two.test").await, Lookup::Found(_)));
            assert_eq!(resolver.mx("single").await, Lookup::NoSuchName);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn trouble_with_one_family_is_not_taken_for_absence() {
        let trouble = || Lookup::Trouble("SERVFAIL".to_owned());
        assert_eq!(both(trouble(), Lookup::NoRecords), trouble());
        assert_eq!(both(Lookup::NoSuchName, trouble()), trouble());
        let found = || Lookup::Found(vec![IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(both(found(), trouble()), found());
    }
}
