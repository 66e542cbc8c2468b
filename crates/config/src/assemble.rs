//! From the merged tree to the [`Config`], table by table; the checks that need more than one key
//! are asked of [`crate::check`] as soon as their table has been read.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use relay_policy::{Schedule, TlsRequirement};
use relay_smtp::Domain;

use crate::check::{self, Files};
use crate::login::login;
use crate::section::Section;
use crate::settings::*;
use crate::value::{
    count, date, dns_server, domain, domain_pattern, duration, duration_or_never, field_name,
    host_port, ip_address, list, listen_address, mailbox, net, path, percentage, rate, selector,
    sender_pattern, size, socket_address, text, truth, word,
};

/// Reads everything. None where something that must be given is missing or wrong: then a mistake
/// has been noted.
pub(crate) fn config(
    root: &Section<'_>,
    system_hostname: &str,
    files: &dyn Files,
) -> Option<Config> {
    // Each part is read before any `?`, so that all mistakes are found.
    let hostname = hostname(root, system_hostname);
    let state = StateSettings {
        dir: root.section("state").value("dir", path),
    };
    let submission = submission(&root.section("submission"));
    let queue = queue(&root.section("queue"));
    let tls = tls_files(&root.section("tls"), files);
    let users = users(root, files);
    let listeners = listeners(root);
    let dns = dns(&root.section("dns"));
    let mut delivery = delivery(&root.section("delivery"), files);
    let sources = sources(root, &mut delivery);
    let mta_sts = mta_sts(&root.section("mta_sts"));
    let routes = routes(root, files);
    let limits = limits(root, &sources, &routes);
    let retry = schedules(root);
    let policy = PolicyFiles {
        files: root.section("policy").value("files", list(text)),
    };
    check::policy(root, &policy, &retry, files);
    let suppression = root.section("suppression");
    let suppression = Suppression {
        mode: suppression.value("mode", word),
        keep: suppression.value("keep", duration_or_never),
    };
    let dkim = dkim_keys(root, files);
    let dsn = root.section("dsn");
    let dsn_from = dsn.optional("from", mailbox);
    let copies_to = dsn.optional("copies_to", mailbox);
    let double_bounces_to = dsn.optional("double_bounces_to", mailbox);
    let admin = admin(&root.section("admin"));
    let coming_back = root.section("reports");
    let reports = ReportSettings {
        addresses: coming_back.value("addresses", list(mailbox)),
        unread_to: coming_back
            .optional("unread_to", mailbox)
            .or_else(|| double_bounces_to.clone()),
    };
    let blocklists: Vec<Domain> = root.section("doctor").value("blocklists", list(domain));
    let log = log(&root.section("log"), files);
    let tls_rpt = tls_rpt(&root.section("tls_rpt"));
    let hostname = hostname?;
    let tls_rpt = tls_rpt.named(hostname.to_ascii());
    let dsn = Dsn {
        from: dsn_from.unwrap_or_else(|| format!("postmaster@{hostname}")),
        copies_to,
        double_bounces_to,
    };
    Some(Config {
        hostname: hostname.to_ascii(),
        state,
        listeners,
        submission,
        queue,
        tls: tls?,
        users,
        dns,
        delivery,
        mta_sts,
        tls_rpt,
        sources,
        routes,
        limits,
        retry,
        policy,
        suppression,
        dkim,
        dsn,
        admin,
        reports,
        doctor: DoctorSettings {
            blocklists: blocklists.iter().map(Domain::to_ascii).collect(),
        },
        log,
        warnings: Vec::new(),
    })
}

fn hostname(root: &Section<'_>, system_hostname: &str) -> Option<Domain> {
    let name = if root.has("hostname") {
        root.optional("hostname", domain)?
    } else {
        match Domain::parse(system_hostname) {
            Ok(name) => name,
            Err(error) => {
                root.refuse_table(&format!(
                    "hostname: the system's name {system_hostname:?} is no domain name ({error}); \
                     set hostname = \"relay.example.com\""
                ));
                return None;
            }
        }
    };
    if !name.as_str().contains('.') {
        root.warn(
            "hostname",
            &format!(
                "{name} has no dot; many servers refuse mail from a name that is not in DNS; set \
                 hostname = \"relay.example.com\""
            ),
        );
    }
    Some(name)
}

fn dns(table: &Section<'_>) -> Dns {
    Dns {
        servers: table.value("servers", list(dns_server)),
        trust_ad: match table.optional("trust_ad", truth) {
            Some(true) => TrustAd::Yes,
            Some(false) => TrustAd::No,
            None => TrustAd::OnLoopback,
        },
    }
}

fn submission(table: &Section<'_>) -> Submission {
    Submission {
        message_bytes_max: table.value("message_bytes_max", size),
        recipients_max: table.value("recipients_max", count),
        sessions_max: table.value("sessions_max", count),
        sessions_per_address_max: table.value("sessions_per_address_max", count),
        idle_timeout: table.value("idle_timeout", duration),
        errors_max: table.value("errors_max", count),
        bare_line_ends: table.value("bare_line_ends", word),
        auth_in_clear: table.value("auth_in_clear", word),
        received_headers_max: table.value("received_headers_max", count),
    }
}

fn queue(table: &Section<'_>) -> Queue {
    let percent = |key| (table.value(key, percentage) * 100.0).round() as u8;
    Queue {
        messages_max: table.value("messages_max", count),
        bytes_max: table.optional("bytes_max", size),
        reserve_bytes: table.value("reserve_bytes", size),
        reserve_percent: percent("reserve_percent"),
        close_percent: percent("close_percent"),
        share_percent: percent("share_percent"),
        ballast_bytes: table.value("ballast_bytes", size),
        busy_after: table.value("busy_after", duration),
        body_cache_bytes: table.value("body_cache_bytes", size),
        index_cache_bytes: table.value("index_cache_bytes", size),
    }
}

fn admin(table: &Section<'_>) -> Admin {
    Admin {
        socket: table.value("socket", path),
        http: table.optional("http", socket_address),
        http_from: table.value("http_from", list(net)),
    }
}

/// The outer None: a mistake. The inner one: not given.
fn tls_files(table: &Section<'_>, files: &dyn Files) -> Option<Option<TlsFiles>> {
    if !table.is_given() {
        return Some(None);
    }
    let certificate = table.required("certificate", path);
    let key = table.required("key", path);
    if let Some(path) = &certificate {
        check::file(table, "certificate", path, files, |pem| {
            files.check_certificate(pem)
        });
    }
    if let Some(path) = &key {
        check::file(table, "key", path, files, |pem| files.check_tls_key(pem));
    }
    Some(Some(TlsFiles {
        certificate: certificate?,
        key: key?,
    }))
}

fn users(root: &Section<'_>, files: &dyn Files) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    for table in root.each("user") {
        let name = table.required("name", text);
        let password_hash = check::password_hash(&table, files);
        let senders = table.value("senders", list(sender_pattern));
        let rate = table.optional("rate", rate);
        let (Some(name), Some(password_hash)) = (name, password_hash) else {
            continue;
        };
        if users.iter().any(|user| user.name == name) {
            table.refuse(
                "name",
                "there is already a [[user]] of this name; remove one",
            );
        }
        users.push(User {
            name,
            password_hash,
            senders,
            rate,
        });
    }
    users
}

fn listeners(root: &Section<'_>) -> Vec<Listener> {
    let tables = root.each("listener");
    if tables.is_empty() {
        return vec![default_listener(root)];
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for table in tables {
        let address = table.required("address", listen_address);
        let tls = table.optional("tls", word);
        let auth = table.optional("auth", word);
        let trusted = table.optional("trusted", list(net));
        check::tls_has_certificate(root, &table, tls);
        check::auth_has_users(root, &table, auth);
        let reports = match table.value("reports", truth) {
            true => ReportsFrom::Anybody,
            false => ReportsFrom::Known,
        };
        check::reports_have_an_address(root, &table, reports);
        let Some(address) = address else {
            continue;
        };
        let listener = Listener {
            reports,
            tls: tls.unwrap_or_else(|| default_tls(root)),
            auth: auth.unwrap_or_else(|| default_auth(root)),
            trusted: trusted.unwrap_or_else(|| match is_local(&address) {
                Locality::ThisMachine => loopback_nets(),
                Locality::Others => Vec::new(),
            }),
            address,
        };
        check::not_open_to_the_world(&table, &listener);
        check::somebody_may_relay(&table, &listener);
        check::address_is_free(&table, &listener, &listeners);
        listeners.push(listener);
    }
    listeners
}

fn default_listener(root: &Section<'_>) -> Listener {
    Listener {
        address: ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 2525))),
        tls: default_tls(root),
        auth: default_auth(root),
        trusted: loopback_nets(),
        reports: ReportsFrom::Known,
    }
}

fn default_tls(root: &Section<'_>) -> ListenerTls {
    match root.section("tls").is_given() {
        true => ListenerTls::Starttls,
        false => ListenerTls::None,
    }
}

fn default_auth(root: &Section<'_>) -> AuthDemand {
    match root.each("user").is_empty() {
        true => AuthDemand::None,
        false => AuthDemand::Optional,
    }
}

/// Who can reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locality {
    ThisMachine,
    Others,
}

pub(crate) fn is_local(address: &ListenAddress) -> Locality {
    match address {
        ListenAddress::Tcp(address) if address.ip().to_canonical().is_loopback() => {
            Locality::ThisMachine
        }
        ListenAddress::Tcp(_) => Locality::Others,
        ListenAddress::Unix(_) => Locality::ThisMachine,
    }
}

fn loopback_nets() -> Vec<IpNet> {
    let v4 = IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8);
    let v6 = IpNet::new_assert(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128);
    vec![v4, v6]
}

fn mta_sts(table: &Section<'_>) -> MtaSts {
    MtaSts {
        enabled: match table.value("enabled", truth) {
            true => MtaStsUse::On,
            false => MtaStsUse::Off,
        },
        port: table.value("port", count),
    }
}

/// As written; what is left out comes from the hostname.
struct TlsRptWritten {
    enabled: TlsRptUse,
    organization: Option<String>,
    contact: Option<String>,
    from: Option<String>,
    spread: Duration,
}

fn tls_rpt(table: &Section<'_>) -> TlsRptWritten {
    TlsRptWritten {
        enabled: match table.value("enabled", truth) {
            true => TlsRptUse::On,
            false => TlsRptUse::Off,
        },
        organization: table.optional("organization", text),
        contact: table.optional("contact", text),
        from: table.optional("from", mailbox),
        spread: table.value("spread", duration),
    }
}

impl TlsRptWritten {
    fn named(self, hostname: String) -> TlsRpt {
        let from = self
            .from
            .unwrap_or_else(|| format!("postmaster@{hostname}"));
        TlsRpt {
            enabled: self.enabled,
            organization: self.organization.unwrap_or(hostname),
            contact: self.contact.unwrap_or_else(|| from.clone()),
            from,
            spread: self.spread,
        }
    }
}

fn delivery(table: &Section<'_>, files: &dyn Files) -> Delivery {
    let timeouts = table.section("timeouts");
    let tls_roots = table.optional("tls_roots", path);
    if let Some(path) = &tls_roots {
        check::file(table, "tls_roots", path, files, |pem| {
            files.check_certificate(pem)
        });
    }
    Delivery {
        port: table.value("port", count),
        source_addresses: table.value("source_addresses", list(ip_address)),
        address_family: table.value("address_family", word),
        private_addresses: table.value("private_addresses", word),
        sessions_max: table.value("sessions_max", count),
        idle: table.value("idle", duration),
        pipelining: table.value("pipelining", word),
        chunking: table.value("chunking", word),
        tls_roots,
        verp: verp(table),
        timeouts: Timeouts {
            connect: timeouts.value("connect", duration),
            banner: timeouts.value("banner", duration),
            ehlo: timeouts.value("ehlo", duration),
            starttls: timeouts.value("starttls", duration),
            auth: timeouts.value("auth", duration),
            mail: timeouts.value("mail", duration),
            rcpt: timeouts.value("rcpt", duration),
            data: timeouts.value("data", duration),
            body: timeouts.value("body", duration),
            final_dot: timeouts.value("final_dot", duration),
            rset: timeouts.value("rset", duration),
            quit: timeouts.value("quit", duration),
        },
    }
}

fn verp(table: &Section<'_>) -> Option<Verp> {
    let senders = table.value("verp_senders", list(sender_pattern));
    if !table.has("verp") && table.has("verp_senders") {
        table.refuse("verp_senders", "it is for verp, which is missing");
    }
    Some(Verp {
        template: table.optional("verp", crate::value::verp)?,
        senders,
    })
}

fn routes(root: &Section<'_>, files: &dyn Files) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for table in root.each("route") {
        let to = table.required("to", list(domain_pattern));
        let via = table.required("via", list(host_port));
        let tls: Option<TlsRequirement> = table.optional("tls", word);
        let balance = table.value("balance", word);
        let login = login(&table, files);
        let (Some(to), Some(via)) = (to, via) else {
            continue;
        };
        let default_tls = match table.has("username") {
            // A password is told to nobody but the relay itself.
            true => TlsRequirement::Verify,
            false => TlsRequirement::Opportunistic,
        };
        let names: Vec<String> = via.iter().map(Relay::to_string).collect();
        let route = Route {
            to,
            name: Arc::from(names.join(",")),
            via,
            balance,
            tls: tls.unwrap_or(default_tls),
            login,
        };
        check::route(&table, &route, &routes);
        routes.push(route);
    }
    routes
}

/// Those with a table of their own first.
fn sources(root: &Section<'_>, delivery: &mut Delivery) -> Vec<SourceAddress> {
    let mut sources: Vec<SourceAddress> = Vec::new();
    for table in root.each("source") {
        let start = table.optional("warm_up_start", date);
        let daily: Option<Vec<u32>> = table.optional("warm_up_daily", list(count));
        match (table.has("warm_up_start"), table.has("warm_up_daily")) {
            (true, false) => table.refuse("warm_up_start", "add warm_up_daily = [200, 500, 1000]"),
            (false, true) => {
                table.refuse(
                    "warm_up_daily",
                    "add warm_up_start = \"2026-11-01\", its first day",
                );
            }
            (true, true) | (false, false) => {}
        }
        let source = SourceAddress {
            address: match table.required("address", ip_address) {
                Some(address) => address,
                None => continue,
            },
            weight: table.value("weight", count),
            ehlo_name: table
                .optional("ehlo_name", domain)
                .map(|name| name.to_ascii()),
            warm_up: start.zip(daily).map(|(start, daily)| WarmUp {
                start,
                daily: Arc::from(daily),
            }),
        };
        if sources.iter().any(|other| other.address == source.address) {
            table.refuse(
                "address",
                "there is already a [[source]] with it; remove one",
            );
        }
        sources.push(source);
    }
    for address in &delivery.source_addresses {
        if !sources.iter().any(|source| source.address == *address) {
            sources.push(SourceAddress {
                address: *address,
                weight: 1,
                ehlo_name: None,
                warm_up: None,
            });
        }
    }
    delivery.source_addresses = sources.iter().map(|source| source.address).collect();
    sources
}

fn limits(root: &Section<'_>, sources: &[SourceAddress], routes: &[Route]) -> Vec<Limit> {
    let read = |table: Section<'_>| {
        let limit = Limit {
            to: table.value("to", list(domain_pattern)),
            provider: table.value("provider", list(text)),
            mx: table.value("mx", list(domain_pattern)),
            route: table.value("route", list(host_port)),
            source: table.value("source", list(ip_address)),
            place: Arc::from(table.place_shown()),
            rate: table.optional("rate", rate),
            connections: table.optional("connections", count),
            messages_per_connection: table.optional("messages_per_connection", count),
            recipients_per_transaction: table.optional("recipients_per_transaction", count),
            tls: table.optional("tls", word),
        };
        check::limit(&table, &limit, sources, routes);
        let names = ["to", "provider", "mx", "route", "source"];
        if limit.to.is_empty()
            && limit.provider.is_empty()
            && limit.mx.is_empty()
            && limit.route.is_empty()
            && limit.source.is_empty()
        {
            // After a mistake in one of them the list is empty, too; that has been told.
            if !names.iter().any(|key| table.has(key)) {
                table.refuse_table(
                    "it does not say for whom; add to = [\"*\"] or to = [\"example.com\"]",
                );
            }
        }
        limit
    };
    root.each("limit").into_iter().map(read).collect()
}

/// What `[retry.NAME]` does not set comes from `[retry.default]`.
fn schedules(root: &Section<'_>) -> BTreeMap<String, Schedule> {
    let named = root.named("retry");
    let default = named
        .iter()
        .find(|(name, _)| *name == "default")
        .map_or_else(
            || root.absent("retry.default", "retry.*"),
            |(_, table)| table.clone(),
        );
    let base = schedule(&default, None);
    let mut schedules = BTreeMap::new();
    for (name, table) in named.iter().filter(|(name, _)| *name != "default") {
        schedules.insert((*name).to_owned(), schedule(table, Some(&base)));
    }
    schedules.insert("default".to_owned(), base);
    schedules
}

fn schedule(table: &Section<'_>, base: Option<&Schedule>) -> Schedule {
    let steps = list(duration);
    let read = match base {
        None => Schedule {
            steps: table.value("steps", steps),
            jitter: table.value("jitter", percentage),
            max_age: table.value("max_age", duration),
            warn_after: table.value("warn_after", duration_or_never),
        },
        Some(base) => Schedule {
            steps: table
                .optional("steps", steps)
                .unwrap_or_else(|| base.steps.clone()),
            jitter: table.optional("jitter", percentage).unwrap_or(base.jitter),
            max_age: table.optional("max_age", duration).unwrap_or(base.max_age),
            warn_after: table
                .optional("warn_after", duration_or_never)
                .unwrap_or(base.warn_after),
        },
    };
    check::schedule(table, &read);
    read
}

fn dkim_keys(root: &Section<'_>, files: &dyn Files) -> Vec<DkimKey> {
    let mut keys: Vec<DkimKey> = Vec::new();
    for table in root.each("dkim") {
        let domain = table.required("domain", domain);
        let selector = table.required("selector", selector);
        let key = table.required("key", path);
        if let Some(path) = &key {
            check::file(&table, "key", path, files, |pem| files.check_dkim_key(pem));
        }
        let strangers = match table.value("default", truth) {
            true => DkimStrangers::Signed,
            false => DkimStrangers::Unsigned,
        };
        let headers = table.value("headers", list(field_name));
        let oversign = table.value("oversign", list(field_name));
        let (Some(domain), Some(selector), Some(key)) = (domain, selector, key) else {
            continue;
        };
        let twice = |other: &DkimKey| other.domain == domain && other.selector == selector;
        if keys.iter().any(twice) {
            table.refuse(
                "selector",
                "there is already a [[dkim]] of this domain and selector; remove one",
            );
        }
        keys.push(DkimKey {
            domain,
            selector,
            key,
            strangers,
            headers,
            oversign,
        });
    }
    keys
}

fn log(table: &Section<'_>, files: &dyn Files) -> Log {
    let level = table.value("level", text);
    if let Err(error) = files.check_log_level(&level) {
        table.refuse("level", &error);
    }
    Log {
        format: table.value("format", word),
        level,
        history: History {
            kept: table.value("history", word),
            dir: table.optional("history_dir", path),
            max_age: table.value("history_max_age", duration),
            bytes_max: table.value("history_bytes_max", size),
        },
    }
}
