//! A resolver that answers from a few lines of zone, for tests.

use std::collections::HashMap;
use std::future::ready;
use std::net::IpAddr;

use relay_route::resolver::Later;
use relay_route::{Lookup, MxRecord, Resolver};

/// `NAME TXT text`, `NAME A ADDRESS`, `NAME MX HOST`, `NAME PTR HOST`, `NAME SERVFAIL`; other names do not
/// exist. The name before PTR is the address itself.
pub struct Zone(HashMap<String, Vec<(String, String)>>);

impl Zone {
    pub fn new(text: &str) -> Zone {
        let mut zone: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, rest) = line.split_once(' ').unwrap();
            let (kind, value) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
            let record = (kind.to_owned(), value.trim().to_owned());
            zone.entry(name.to_owned()).or_default().push(record);
        }
        Zone(zone)
    }

    fn ask<T>(&self, name: &str, kind: &str, read: impl Fn(&str) -> T) -> Later<'static, Lookup<T>>
    where
        T: Send + 'static,
    {
        let lookup = match self.0.get(name) {
            None => Lookup::NoSuchName,
            Some(records) if records.iter().any(|(kind, _)| kind == "SERVFAIL") => {
                Lookup::Trouble("SERVFAIL".to_owned())
            }
            Some(records) => {
                let fitting = records.iter().filter(|(had, _)| had == kind);
                let found: Vec<T> = fitting.map(|(_, value)| read(value)).collect();
                match found.is_empty() {
                    true => Lookup::NoRecords,
                    false => Lookup::Found(found),
                }
            }
        };
        Box::pin(ready(lookup))
    }
}

impl Resolver for Zone {
    fn mx<'a>(&'a self, domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
        self.ask(domain, "MX", |host| MxRecord {
            preference: 10,
            exchange: host.trim_matches('.').to_owned(),
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Later<'a, Lookup<IpAddr>> {
        self.ask(host, "A", |address| address.parse().unwrap())
    }

    fn txt<'a>(&'a self, name: &'a str) -> Later<'a, Lookup<String>> {
        self.ask(name, "TXT", str::to_owned)
    }

    fn ptr(&self, address: IpAddr) -> Later<'_, Lookup<String>> {
        self.ask(&address.to_string(), "PTR", str::to_owned)
    }
}
