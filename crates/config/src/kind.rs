//! The kinds of values that options take: what is allowed, in words and in bounds.

use std::time::Duration;

use relay_policy::TlsRequirement;

use crate::settings::{
    AddressFamily, AuthDemand, AuthInClear, Balance, BareLineEnds, Chunking, HistoryKept,
    ListenerTls, LogFormat, Pipelining, PrivateAddresses, SuppressionMode,
};

/// What an option takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text but the empty one.
    Text,
    /// A text that is never shown.
    Secret,
    Path,
    /// A path in whose last part `*` stands for any characters.
    PathPattern,
    Domain,
    Mailbox,
    /// `192.0.2.1:25`, `[2001:db8::1]:25` or `unix:/path`.
    ListenAddress,
    /// `127.0.0.1:8025`
    SocketAddress,
    /// An address, with port 53 where none is given.
    DnsServer,
    IpAddress,
    /// `2026-11-01`
    Date,
    Net,
    /// `example.com`, `*.example.com`, `*`.
    DomainPattern,
    /// `*@example.com` or `user@example.com`.
    SenderPattern,
    /// `smtp.example.com:587`
    HostPort,
    /// `https://login.example.com/oauth2/token`
    Endpoint,
    /// `bounces+{id}-{recipient}@bounce.example.com`
    Verp,
    DkimSelector,
    /// `Content-Type`
    FieldName,
    Rate,
    /// 0% to so many per cent.
    Percentage {
        most: u32,
    },
    Count {
        least: u64,
        most: u64,
    },
    /// Bytes.
    Size {
        least: u64,
        most: u64,
    },
    Duration {
        least: Duration,
        most: Duration,
    },
    DurationOrNever {
        least: Duration,
        most: Duration,
    },
    /// One of these words.
    Word {
        words: fn() -> Vec<&'static str>,
        /// Words that a later version takes, each with what it waits for.
        not_yet: &'static [(&'static str, &'static str)],
    },
    /// `true` or `false`.
    Truth,
    List(&'static Kind),
    /// A list with at least one item.
    ListOfSome(&'static Kind),
    /// A whole table that a later version takes.
    Table,
}

impl Kind {
    /// For people: the type and its range.
    pub fn describe(&self) -> String {
        match self {
            Kind::Text => "text".into(),
            Kind::Secret => "text, never shown".into(),
            Kind::Path => "path".into(),
            Kind::PathPattern => "path, `*` allowed in its last part".into(),
            Kind::Domain => "domain name".into(),
            Kind::Mailbox => "mail address".into(),
            Kind::ListenAddress => "address and port, or `unix:` and a path".into(),
            Kind::SocketAddress => "address and port".into(),
            Kind::DnsServer => "address, or address and port".into(),
            Kind::IpAddress => "IP address".into(),
            Kind::Date => "date such as `2026-11-01`".into(),
            Kind::Net => "network such as `10.0.0.0/8`, or IP address".into(),
            Kind::DomainPattern => "domain, `*.domain` (subdomains) or `*` (all)".into(),
            Kind::SenderPattern => "mail address, or `*@domain`".into(),
            Kind::HostPort => "host and port".into(),
            Kind::Verp => {
                "mail address with `{id}`, `{recipient}`, `{local}`, `{domain}` in it".into()
            }
            Kind::Endpoint => "URL, `https://`, or `http://` to this host".into(),
            Kind::DkimSelector => "DNS labels".into(),
            Kind::FieldName => "name of a header field".into(),
            Kind::Rate => "rate such as `20/s`, `100/min`, `5000/h`, `10000/d`".into(),
            Kind::Percentage { most } => format!("percentage, `0%` to `{most}%`"),
            Kind::Count { least, most } => format!("number, {least} to {most}"),
            Kind::Size { least, most } => {
                format!("size, `{}` to `{}`", size_text(*least), size_text(*most))
            }
            Kind::Duration { least, most } => {
                let (least, most) = (duration_text(*least), duration_text(*most));
                format!("duration, `{least}` to `{most}`")
            }
            Kind::DurationOrNever { least, most } => {
                let (least, most) = (duration_text(*least), duration_text(*most));
                format!("duration, `{least}` to `{most}`, or `never`")
            }
            Kind::Word { words, .. } => {
                let words: Vec<String> = words().iter().map(|word| format!("`{word}`")).collect();
                words.join(", ")
            }
            Kind::Truth => "`true` or `false`".into(),
            Kind::List(item) => format!("list of: {}", item.describe()),
            Kind::ListOfSome(item) => format!("list, not empty, of: {}", item.describe()),
            Kind::Table => "table".into(),
        }
    }

    /// Whether the value may be given without quotes in the environment and is still a text.
    pub fn is_text(&self) -> bool {
        match self {
            Kind::Count { .. }
            | Kind::Truth
            | Kind::List(_)
            | Kind::ListOfSome(_)
            | Kind::Table => false,
            Kind::Text
            | Kind::Secret
            | Kind::Path
            | Kind::PathPattern
            | Kind::Domain
            | Kind::Mailbox
            | Kind::ListenAddress
            | Kind::SocketAddress
            | Kind::DnsServer
            | Kind::IpAddress
            | Kind::Date
            | Kind::Net
            | Kind::DomainPattern
            | Kind::SenderPattern
            | Kind::HostPort
            | Kind::Endpoint
            | Kind::Verp
            | Kind::DkimSelector
            | Kind::FieldName
            | Kind::Rate
            | Kind::Percentage { .. }
            | Kind::Size { .. }
            | Kind::Duration { .. }
            | Kind::DurationOrNever { .. }
            | Kind::Word { .. } => true,
        }
    }
}

/// An enum whose values have words in the configuration.
pub(crate) trait Word: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// The words of an enum, for [`Kind::Word`].
pub(crate) fn words_of<T: Word>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

impl Word for ListenerTls {
    const WORDS: &'static [(&'static str, ListenerTls)] = &[
        ("none", ListenerTls::None),
        ("starttls", ListenerTls::Starttls),
        ("implicit", ListenerTls::Implicit),
    ];
}

impl Word for AuthDemand {
    const WORDS: &'static [(&'static str, AuthDemand)] = &[
        ("none", AuthDemand::None),
        ("optional", AuthDemand::Optional),
        ("required", AuthDemand::Required),
    ];
}

impl Word for BareLineEnds {
    const WORDS: &'static [(&'static str, BareLineEnds)] = &[
        ("reject", BareLineEnds::Reject),
        ("normalize", BareLineEnds::Normalize),
    ];
}

impl Word for AuthInClear {
    const WORDS: &'static [(&'static str, AuthInClear)] = &[
        ("loopback_only", AuthInClear::LoopbackOnly),
        ("anywhere", AuthInClear::Anywhere),
    ];
}

impl Word for AddressFamily {
    const WORDS: &'static [(&'static str, AddressFamily)] = &[
        ("ipv4_first", AddressFamily::Ipv4First),
        ("ipv6_first", AddressFamily::Ipv6First),
        ("ipv4_only", AddressFamily::Ipv4Only),
        ("ipv6_only", AddressFamily::Ipv6Only),
    ];
}

impl Word for Balance {
    const WORDS: &'static [(&'static str, Balance)] =
        &[("in_order", Balance::InOrder), ("even", Balance::Even)];
}

impl Word for PrivateAddresses {
    const WORDS: &'static [(&'static str, PrivateAddresses)] = &[
        ("refused", PrivateAddresses::Refused),
        ("allowed", PrivateAddresses::Allowed),
    ];
}

impl Word for SuppressionMode {
    const WORDS: &'static [(&'static str, SuppressionMode)] = &[
        ("refuse", SuppressionMode::Refuse),
        ("bounce", SuppressionMode::Bounce),
        ("off", SuppressionMode::Off),
    ];
}

impl Word for Chunking {
    const WORDS: &'static [(&'static str, Chunking)] = &[
        ("where_offered", Chunking::WhereOffered),
        ("never", Chunking::Never),
    ];
}

impl Word for Pipelining {
    const WORDS: &'static [(&'static str, Pipelining)] = &[
        ("where_offered", Pipelining::WhereOffered),
        ("never", Pipelining::Never),
    ];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, LogFormat)] = &[
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
    ];
}

impl Word for HistoryKept {
    const WORDS: &'static [(&'static str, HistoryKept)] = &[
        ("full", HistoryKept::Full),
        ("domains", HistoryKept::Domains),
        ("off", HistoryKept::Off),
    ];
}

impl Word for TlsRequirement {
    const WORDS: &'static [(&'static str, TlsRequirement)] = &[
        ("none", TlsRequirement::None),
        ("opportunistic", TlsRequirement::Opportunistic),
        ("require", TlsRequirement::Require),
        ("dane", TlsRequirement::Dane),
        ("verify", TlsRequirement::Verify),
    ];
}

/// A duration in the largest unit that fits: `5d`, `90s`, `1500ms`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ];
    match units
        .iter()
        .find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// A size in the largest binary unit that fits: `50MiB`, `512B`.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}
