//! Checks across keys: an open relay, a missing key file, a policy table with a wrong rule.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use relay_policy::{Schedule, Table, TlsRequirement};

use crate::assemble::{Locality, is_local};
use crate::login;
use crate::parse::Mistake;
use crate::section::Section;
use crate::settings::{
    AuthDemand, Config, Limit, ListenAddress, Listener, ListenerTls, PolicyFiles, Relay,
    ReportsFrom, Route, SourceAddress,
};
use crate::value::{path, text};

/// What must be known of files that keys point at. `relayd` and `relayctl` bring the real one.
pub trait Files {
    /// The file's text (certificates, keys, password files, policy tables).
    fn read(&self, path: &Path) -> Result<String, String>;
    /// The files that a pattern such as `/etc/relayd/policy.d/*.toml` names, sorted. A path without
    /// `*` is its own answer, whether the file is there or not.
    fn expand(&self, pattern: &str) -> Vec<String>;
    /// Whether the text is a certificate chain in PEM; Err says what is wrong and the fix.
    fn check_certificate(&self, pem: &str) -> Result<(), String>;
    /// Whether the text is a private key for TLS in PEM.
    fn check_tls_key(&self, pem: &str) -> Result<(), String>;
    /// Whether the text is a private key that DKIM can sign with.
    fn check_dkim_key(&self, pem: &str) -> Result<(), String>;
    /// Whether the log can be filtered by this level.
    fn check_log_level(&self, level: &str) -> Result<(), String>;
}

/// No files at all: for the defaults and for tests.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _path: &Path) -> Result<String, String> {
        Err("no such file".to_owned())
    }

    fn expand(&self, pattern: &str) -> Vec<String> {
        match pattern.contains('*') {
            true => Vec::new(),
            false => vec![pattern.to_owned()],
        }
    }

    fn check_certificate(&self, _pem: &str) -> Result<(), String> {
        Ok(())
    }

    fn check_tls_key(&self, _pem: &str) -> Result<(), String> {
        Ok(())
    }

    fn check_dkim_key(&self, _pem: &str) -> Result<(), String> {
        Ok(())
    }

    fn check_log_level(&self, _level: &str) -> Result<(), String> {
        Ok(())
    }
}

impl Config {
    /// The compiled policy table: the operator's files, then the default rules.
    pub fn policy_table(&self, files: &dyn Files) -> Result<Table, Vec<Mistake>> {
        let mut texts = Vec::new();
        let mut mistakes = Vec::new();
        for pattern in &self.policy.files {
            for file in files.expand(pattern) {
                match files.read(Path::new(&file)) {
                    Ok(text) => texts.push((file, text)),
                    Err(error) => mistakes.push(Mistake(format!("{file}: {error}"))),
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Table::with_files(&texts).map_err(|errors| {
            errors
                .iter()
                .map(|error| Mistake(error.to_string()))
                .collect()
        })
    }
}

/// A file that a key names can be read and is what it should be.
pub(crate) fn file(
    table: &Section<'_>,
    key: &str,
    path: &Path,
    files: &dyn Files,
    good: impl Fn(&str) -> Result<(), String>,
) {
    let checked = files.read(path).and_then(|text| good(&text));
    if let Err(error) = checked {
        table.refuse(key, &error);
    }
}

/// From `password_hash` or `password_file`: exactly one of them.
pub(crate) fn password_hash(table: &Section<'_>, files: &dyn Files) -> Option<String> {
    let hash = table.optional("password_hash", text);
    let file = table.optional("password_file", path);
    if table.has("password_hash") && table.has("password_file") {
        table.refuse(
            "password_file",
            "there is a password_hash, too; remove one of them",
        );
        return None;
    }
    if let Some(path) = file {
        let hash = secret(table, "password_file", &path, files)?;
        return match argon2_fields(&hash) {
            Some(()) => Some(hash),
            None => {
                table.refuse(
                    "password_file",
                    "its first line is not an Argon2 hash; make one with `relayctl user hash`",
                );
                None
            }
        };
    }
    if !table.has("password_hash") {
        table.refuse_table(
            "password_hash is missing; make one with `relayctl user hash`, or name a password_file",
        );
    }
    let hash = hash?;
    if argon2_fields(&hash).is_none() {
        table.refuse(
            "password_hash",
            "not an Argon2 hash; make one with `relayctl user hash`",
        );
        return None;
    }
    Some(hash)
}

/// `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`; whether the numbers are good is the verifier's part.
fn argon2_fields(hash: &str) -> Option<()> {
    let fields: Vec<&str> = hash.split('$').collect();
    match fields.as_slice() {
        ["", "argon2id" | "argon2i" | "argon2d", _, _, salt, hash]
            if !salt.is_empty() && !hash.is_empty() =>
        {
            Some(())
        }
        _ => None,
    }
}

/// The first line of a file with a secret.
pub(crate) fn secret(
    table: &Section<'_>,
    key: &str,
    path: &Path,
    files: &dyn Files,
) -> Option<String> {
    match files.read(path) {
        Ok(text) => {
            let line = text.lines().next().unwrap_or("").trim_end_matches('\r');
            if line.is_empty() {
                table.refuse(key, "its first line is empty; write the secret there");
                return None;
            }
            Some(line.to_owned())
        }
        Err(error) => {
            table.refuse(key, &error);
            None
        }
    }
}

pub(crate) fn tls_has_certificate(
    root: &Section<'_>,
    table: &Section<'_>,
    tls: Option<ListenerTls>,
) {
    match tls {
        Some(ListenerTls::Starttls | ListenerTls::Implicit) => {
            if !root.section("tls").is_given() {
                table.refuse(
                    "tls",
                    "there is no certificate; add [tls] with certificate and key",
                );
            }
        }
        Some(ListenerTls::None) | None => {}
    }
}

pub(crate) fn auth_has_users(root: &Section<'_>, table: &Section<'_>, auth: Option<AuthDemand>) {
    match auth {
        Some(AuthDemand::Optional | AuthDemand::Required) => {
            if root.each("user").is_empty() {
                table.refuse("auth", "there is nobody to log in; add a [[user]]");
            }
        }
        Some(AuthDemand::None) | None => {}
    }
}

/// An open relay is found within hours and blocked by everybody within days.
pub(crate) fn not_open_to_the_world(table: &Section<'_>, listener: &Listener) {
    if is_local(&listener.address) == Locality::ThisMachine {
        return;
    }
    for net in listener.trusted.iter().filter(|net| holds_the_world(net)) {
        table.refuse(
            "trusted",
            &format!(
                "{net} lets everybody relay through {}: an open relay; name your own networks, or \
                 listen on 127.0.0.1",
                table_address(listener)
            ),
        );
    }
}

/// Wider than /8 (IPv4) or /16 (IPv6) and not a private range.
fn holds_the_world(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() < 8,
        IpNet::V6(net) => {
            let address = net.network();
            // ::ffff:0:0/96 is IPv4 in other words, so a prefix of up to 96 + 7 is wide.
            if address.to_ipv4_mapped().is_some() && net.prefix_len() >= 96 {
                return net.prefix_len() < 96 + 8;
            }
            let private = address.is_unique_local() && net.prefix_len() >= 7
                || address.is_unicast_link_local() && net.prefix_len() >= 10;
            let mapped_inside = net.contains(&std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
            (net.prefix_len() < 16 && !private) || mapped_inside
        }
    }
}

/// Not wrong, but nobody would set it up on purpose.
pub(crate) fn somebody_may_relay(table: &Section<'_>, listener: &Listener) {
    let closed = listener.reports == ReportsFrom::Known;
    if closed && listener.trusted.is_empty() && listener.auth == AuthDemand::None {
        table.warn(
            "trusted",
            &format!(
                "nobody may relay through {}; name networks in trusted, or add a [[user]]",
                table_address(listener)
            ),
        );
    }
}

/// Without one, strangers could hand in nothing at all there.
pub(crate) fn reports_have_an_address(
    root: &Section<'_>,
    table: &Section<'_>,
    reports: ReportsFrom,
) {
    match reports {
        ReportsFrom::Known => {}
        ReportsFrom::Anybody if root.section("reports").has("addresses") => {}
        ReportsFrom::Anybody => table.refuse(
            "reports",
            "there is no address that reports come to; add [reports] with addresses",
        ),
    }
}

pub(crate) fn address_is_free(table: &Section<'_>, listener: &Listener, others: &[Listener]) {
    // Port 0 lets the system choose, so two of them are two ports.
    let chosen = matches!(&listener.address, ListenAddress::Tcp(address) if address.port() == 0);
    if !chosen && others.iter().any(|other| other.address == listener.address) {
        table.refuse(
            "address",
            "there is already a [[listener]] on this address; remove one",
        );
    }
}

fn table_address(listener: &Listener) -> String {
    match &listener.address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

pub(crate) fn route(table: &Section<'_>, route: &Route, others: &[Route]) {
    if route.via.is_empty() {
        for key in ["tls", "balance"].into_iter().chain(login::KEYS) {
            if table.has(key) {
                table.refuse(
                    key,
                    "there is no relay in via; remove it, or set tls in a [[limit]]",
                );
            }
        }
        return;
    }
    if others.iter().any(|other| other.name == route.name) {
        table.refuse(
            "via",
            "there is already a [[route]] by these relays; add its domains to the other one's to",
        );
    }
    let in_clear = match route.tls {
        TlsRequirement::None | TlsRequirement::Opportunistic => true,
        TlsRequirement::Require | TlsRequirement::Dane | TlsRequirement::Verify => false,
    };
    let foreign = route.via.iter().find(|relay| !relay.is_loopback());
    if let (true, true, Some(relay)) = (in_clear, table.has("username"), foreign) {
        table.refuse(
            "tls",
            &format!(
                "the password could go to {} in clear text; write \"verify\" or \"require\"",
                relay.host
            ),
        );
    }
}

/// The addresses and relays that a limit names are there, and what it sets can be kept.
pub(crate) fn limit(
    table: &Section<'_>,
    limit: &Limit,
    sources: &[SourceAddress],
    routes: &[Route],
) {
    let unknown = |address: &&IpAddr| !sources.iter().any(|one| one.address == **address);
    for address in limit.source.iter().filter(unknown) {
        table.refuse(
            "source",
            &format!(
                "there is no [[source]] with the address {address}; add it, or correct this one"
            ),
        );
    }
    let relays = || routes.iter().flat_map(|route| &route.via);
    let unknown = |wanted: &&Relay| !relays().any(|relay| relay == *wanted);
    for relay in limit.route.iter().filter(unknown) {
        table.refuse(
            "route",
            &format!("no [[route]] goes by {relay}; write a relay as its via has it"),
        );
    }
    if limit.source.is_empty() {
        return;
    }
    // A session's host and its TLS are not known when its address is chosen.
    for key in [
        "messages_per_connection",
        "recipients_per_transaction",
        "tls",
    ] {
        if table.has(key) {
            table.refuse(
                key,
                "with source only rate and connections can be set; write it in a [[limit]] without source",
            );
        }
    }
}

/// What the operator wrote must make sense together. A default that a shorter max_age has overtaken
/// is no mistake of his: it just never comes to bear.
pub(crate) fn schedule(table: &Section<'_>, schedule: &Schedule) {
    if table.has("steps") && schedule.steps.iter().any(|step| *step > schedule.max_age) {
        table.refuse(
            "steps",
            "a step is longer than max_age; shorten it, or lengthen max_age",
        );
    }
    if schedule.steps.windows(2).any(|pair| pair[1] < pair[0]) {
        table.warn(
            "steps",
            "a step is shorter than the one before it; waits should grow",
        );
    }
    if table.has("warn_after")
        && schedule
            .warn_after
            .is_some_and(|after| after >= schedule.max_age)
    {
        table.refuse(
            "warn_after",
            "not before max_age, so nobody would be warned; write a shorter time or \"never\"",
        );
    }
}

/// The operator's rules and the names in limits. Without either there is nothing to read: that the
/// default table is right is proved by the tests of the policy.
pub(crate) fn policy(
    root: &Section<'_>,
    settings: &PolicyFiles,
    retry: &BTreeMap<String, Schedule>,
    files: &dyn Files,
) {
    let section = root.section("policy");
    let limits = root.each("limit");
    let mut texts = Vec::new();
    for file in settings
        .files
        .iter()
        .flat_map(|pattern| files.expand(pattern))
    {
        match files.read(Path::new(&file)) {
            Ok(text) => texts.push((file, text)),
            Err(error) => section.refuse("files", &format!("{file}: {error}")),
        }
    }
    if texts.is_empty() && !limits.iter().any(|limit| limit.has("provider")) {
        return;
    }
    let table = match Table::with_files(&texts) {
        Ok(table) => table,
        Err(errors) => {
            for error in errors {
                root.refuse_elsewhere(&format!("{}:{}", error.file, error.line), &error.message);
            }
            return;
        }
    };
    for limit in limits {
        let names: Vec<String> = limit
            .optional("provider", crate::value::list(text))
            .unwrap_or_default();
        for name in names.iter().filter(|name| !table.knows_provider(name)) {
            limit.refuse(
                "provider",
                &format!("the policy table has no [[provider]] {name:?}; `relayctl policy list` shows them"),
            );
        }
    }
    let own = |place: &str| {
        let file = place.rsplit_once(':').map_or(place, |(file, _)| file);
        texts.iter().any(|(name, _)| name == file)
    };
    for row in table.rules().filter(|row| own(&row.rule.place)) {
        let unknown = |name: &&String| !retry.contains_key(*name);
        if let Some(name) = row.rule.retry.as_ref().filter(unknown) {
            let text = format!(
                "rule {}: there is no [retry.{name}]; add it, or remove retry",
                row.rule.name
            );
            root.refuse_elsewhere(&row.rule.place, &text);
        }
    }
}
