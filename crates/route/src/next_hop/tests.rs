//! RFC 5321 section 5.1 and RFC 7505 against a zone in a map.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::resolver::Later;
use crate::settings::Relays;

/// A zone: `example.test MX 10 mx.example.test`, `NAME A ADDRESS`, `NAME FAILS`, `NAME EXISTS`.
#[derive(Default)]
struct Zone {
    mx: BTreeMap<String, Vec<MxRecord>>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    exists: Vec<String>,
    fails: Vec<String>,
    questions: AtomicU32,
}

impl Zone {
    fn of(lines: &[&str]) -> Arc<Zone> {
        let mut zone = Zone::default();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let name = words[0].to_owned();
            match words[1..] {
                ["MX", preference, exchange] => zone.mx.entry(name).or_default().push(MxRecord {
                    preference: preference.parse().unwrap(),
                    exchange: exchange.trim_end_matches('.').to_owned(),
                }),
                ["A", address] => zone
                    .addresses
                    .entry(name)
                    .or_default()
                    .push(address.parse().unwrap()),
                ["FAILS"] => zone.fails.push(name),
                ["EXISTS"] => zone.exists.push(name),
                _ => panic!("{line}"),
            }
        }
        Arc::new(zone)
    }

    fn answer<T: Clone>(&self, name: &str, map: &BTreeMap<String, Vec<T>>) -> Lookup<T> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let name = name.to_owned();
        if self.fails.contains(&name) {
            return Lookup::Trouble(format!("SERVFAIL for {name}"));
        }
        match map.get(&name) {
            Some(found) => Lookup::Found(found.clone()),
            None if self.mx.contains_key(&name)
                || self.addresses.contains_key(&name)
                || self.exists.contains(&name) =>
            {
                Lookup::NoRecords
            }
            None => Lookup::NoSuchName,
        }
    }
}

impl Resolver for Zone {
    fn mx<'a>(&'a self, domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
        Box::pin(async move { self.answer(domain, &self.mx) })
    }
    fn addresses<'a>(&'a self, host: &'a str) -> Later<'a, Lookup<IpAddr>> {
        Box::pin(async move { self.answer(host, &self.addresses) })
    }
}

fn settings() -> RouteSettings {
    let mut settings = RouteSettings::for_host("Relay.ours.test");
    settings.relays.insert(
        "up.test:587,192.0.2.9:465".to_owned(),
        Relays {
            hosts: vec![("Up.test".to_owned(), 587), ("192.0.2.9".to_owned(), 465)],
            balance: Balance::InOrder,
        },
    );
    settings
}

fn router(zone: &Arc<Zone>) -> Router {
    Router::with_seed(Arc::clone(zone) as Arc<dyn Resolver>, settings(), 1)
}

fn domain(name: &str) -> NextHop {
    NextHop::Domain(Domain::parse(name).unwrap())
}

/// The hosts in order, or the failure's word.
async fn check(zone: &[&str], name: &str, expected: &str) {
    let router = router(&Zone::of(zone));
    let found = match router.plan(&domain(name)).await {
        Ok(plan) => {
            let hosts: Vec<String> = plan.candidates.into_iter().map(|c| c.host).collect();
            let mut sorted = hosts.clone();
            sorted.sort();
            assert_eq!(plan.site, sorted.join(","), "{name}");
            hosts.join(" ")
        }
        Err(NoPlan { failure, words }) => {
            assert!(!words.is_empty());
            failure.word().to_owned()
        }
    };
    assert_eq!(found, expected, "{name} in {zone:?}");
}

#[tokio::test(start_paused = true)]
async fn hosts_are_found_as_the_rfcs_say() {
    let rows: &[(&[&str], &str, &str)] = &[
        // by preference, whatever the order of the answer
        (
            &["d.test MX 20 b.test", "d.test MX 10 a.test"],
            "d.test",
            "a.test b.test",
        ),
        // without MX the domain's own address
        (&["d.test A 192.0.2.1"], "d.test", "d.test"),
        // with MX never, even if no host has an address
        (
            &["d.test A 192.0.2.1", "d.test MX 10 gone.test"],
            "d.test",
            "gone.test",
        ),
        (&["d.test EXISTS"], "d.test", "no-address"),
        (&[], "d.test", "no-such-domain"),
        (&["d.test FAILS"], "d.test", "dns-trouble"),
        (&["d.test MX 0 ."], "d.test", "null-mx"),
        // a null MX beside others is ignored
        (&["d.test MX 0 .", "d.test MX 5 a.test"], "d.test", "a.test"),
        // our own name cuts the list there and below
        (
            &[
                "d.test MX 10 a.test",
                "d.test MX 20 relay.OURS.test",
                "d.test MX 20 same.test",
                "d.test MX 30 c.test",
            ],
            "d.test",
            "a.test",
        ),
        (
            &["d.test MX 10 relay.ours.test", "d.test MX 20 b.test"],
            "d.test",
            "mx-loop",
        ),
        (
            &["relay.ours.test A 192.0.2.1"],
            "relay.ours.test",
            "mx-loop",
        ),
        // a host named twice is tried once, at its best preference
        (
            &[
                "d.test MX 10 a.test",
                "d.test MX 20 A.test",
                "d.test MX 30 b.test",
            ],
            "d.test",
            "a.test b.test",
        ),
        // U-labels are asked for as A-labels
        (
            &["xn--bcher-kva.test MX 10 a.test"],
            "bücher.test",
            "a.test",
        ),
    ];
    for (zone, name, expected) in rows {
        check(zone, name, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn equal_hosts_are_shuffled_and_groups_stay_in_order() {
    let zone = Zone::of(&[
        "d.test MX 10 a.test",
        "d.test MX 10 b.test",
        "d.test MX 10 c.test",
        "d.test MX 20 z.test",
    ]);
    let router = router(&zone);
    let mut first = BTreeMap::new();
    for _ in 0..300 {
        let plan = router.plan(&domain("d.test")).await.unwrap();
        assert_eq!(plan.site, "a.test,b.test,c.test,z.test");
        assert_eq!(plan.candidates[3].host, "z.test");
        *first.entry(plan.candidates[0].host.clone()).or_insert(0) += 1;
    }
    assert!(first.values().all(|&count| count > 60), "{first:?}");
    assert_eq!(first.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_long_list_is_cut_to_the_best_hosts() {
    let lines: Vec<String> = (0..50)
        .map(|n| format!("d.test MX {n} h{n}.test"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let plan = router(&Zone::of(&lines))
        .plan(&domain("d.test"))
        .await
        .unwrap();
    assert_eq!(plan.candidates.len(), HOSTS_MAX);
    assert_eq!(plan.candidates[19].host, "h19.test");
}

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_for_a_while_and_forgotten_at_a_reload() {
    let zone = Zone::of(&["d.test MX 10 a.test", "down.test FAILS"]);
    let router = router(&zone);
    let asked = || zone.questions.load(Ordering::Relaxed);
    for _ in 0..3 {
        router.plan(&domain("d.test")).await.unwrap();
        router.plan(&domain("down.test")).await.unwrap_err();
    }
    assert_eq!(asked(), 2);
    tokio::time::advance(Duration::from_secs(31)).await;
    router.plan(&domain("d.test")).await.unwrap();
    router.plan(&domain("down.test")).await.unwrap_err();
    assert_eq!(asked(), 3, "only the failure has expired");
    router.reload(settings());
    router.plan(&domain("d.test")).await.unwrap();
    assert_eq!(asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn balanced_relays_take_the_first_place_about_equally_often() {
    let mut settings = settings();
    let hosts = ["a.test", "b.test", "c.test"];
    let relays = Relays {
        hosts: hosts.map(|host| (host.to_owned(), 587)).to_vec(),
        balance: Balance::Even,
    };
    settings.relays.insert("three".to_owned(), relays);
    let router = Router::with_seed(Zone::of(&[]), settings, 1);
    let mut first = std::collections::BTreeMap::new();
    for _ in 0..300 {
        let plan = router.plan(&NextHop::Relay("three".into())).await.unwrap();
        assert_eq!(
            (plan.site.as_str(), plan.candidates.len()),
            ("relay:three", 3)
        );
        *first.entry(plan.candidates[0].host.clone()).or_insert(0) += 1;
    }
    assert!(hosts.iter().all(|host| first[*host] > 70), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn relays_and_literals_need_no_mx() {
    let zone = Zone::of(&[]);
    let router = router(&zone);
    let relay = NextHop::Relay("up.test:587,192.0.2.9:465".into());
    let plan = router.plan(&relay).await.unwrap();
    assert_eq!(plan.site, "relay:up.test:587,192.0.2.9:465");
    assert_eq!(plan.candidates[0].host, "up.test");
    assert_eq!(plan.candidates[0].port, 587);
    assert_eq!(plan.candidates[0].tls, TlsStart::Starttls);
    assert_eq!(plan.candidates[1].host, "[192.0.2.9]");
    assert_eq!(plan.candidates[1].address, Some([192, 0, 2, 9].into()));
    assert_eq!(plan.candidates[1].tls, TlsStart::Implicit);
    let gone = router
        .plan(&NextHop::Relay("gone".into()))
        .await
        .unwrap_err();
    assert_eq!(gone.failure, Failure::NoAddress);
    let gone = NextHop::Relay("gone.test:25,down.test:25".into());
    assert!(router.plan(&gone).await.is_err());

    let named = NextHop::Relay("other.test:2525".into());
    let plan = router.plan(&named).await.unwrap();
    assert_eq!(plan.site, "relay:other.test:2525");
    let candidate = &plan.candidates[0];
    assert_eq!(
        (candidate.host.as_str(), candidate.port),
        ("other.test", 2525)
    );

    let literal = NextHop::Address([192, 0, 2, 7].into());
    let plan = router.plan(&literal).await.unwrap();
    assert_eq!(plan.site, "[192.0.2.7]");
    assert_eq!(plan.candidates[0].address, Some([192, 0, 2, 7].into()));
    assert_eq!(plan.candidates[0].port, 25);
    assert_eq!(zone.questions.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn addresses_come_in_the_order_of_the_configured_family() {
    let zone = Zone::of(&[
        "h.test A 2001:db8::1",
        "h.test A 192.0.2.1",
        "h.test A 192.0.2.2",
        "bad.test FAILS",
    ]);
    let rows = [
        (AddressFamily::Ipv4First, "192.0.2.1 192.0.2.2 2001:db8::1"),
        (AddressFamily::Ipv6First, "2001:db8::1 192.0.2.1 192.0.2.2"),
        (AddressFamily::Ipv4Only, "192.0.2.1 192.0.2.2"),
        (AddressFamily::Ipv6Only, "2001:db8::1"),
    ];
    for (family, expected) in rows {
        let router = router(&zone);
        router.reload(RouteSettings {
            family,
            ..settings()
        });
        let found = router.addresses("h.test").await.unwrap();
        let found: Vec<String> = found.iter().map(IpAddr::to_string).collect();
        assert_eq!(found.join(" "), expected);
        let failure = |result: Result<Vec<IpAddr>, NoPlan>| result.unwrap_err().failure;
        assert_eq!(
            failure(router.addresses("bad.test").await),
            Failure::DnsTrouble
        );
        assert_eq!(
            failure(router.addresses("none.test").await),
            Failure::NoAddress
        );
    }
    let v4 = Zone::of(&["h.test A 192.0.2.1"]);
    let router = router(&v4);
    router.reload(RouteSettings {
        family: AddressFamily::Ipv6Only,
        ..settings()
    });
    let none = router.addresses("h.test").await.unwrap_err();
    assert!(
        none.words.contains("delivery.address_family"),
        "{}",
        none.words
    );
    let literal = router.addresses("[192.0.2.3]").await.unwrap();
    assert_eq!(literal, [IpAddr::from([192, 0, 2, 3])]);
}

#[test]
fn the_name_of_a_site_tells_its_servers_with_their_ports() {
    let servers = |site: &str| -> Vec<String> {
        let servers = servers_of_site(site, 25).into_iter();
        servers
            .map(|(host, port)| format!("{host}={port}"))
            .collect()
    };
    assert_eq!(servers("a.test,b.test"), ["a.test=25", "b.test=25"]);
    assert_eq!(servers("[192.0.2.7]"), ["[192.0.2.7]=25"]);
    assert_eq!(
        servers("relay:UP.test:587,192.0.2.9:465,[2001:db8::1]:2525"),
        ["up.test=587", "[192.0.2.9]=465", "[2001:db8::1]=2525"],
        "as candidates are called"
    );
}
