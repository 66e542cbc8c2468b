//! Where mail goes, how fast, and when it is tried again.

use std::time::Duration;

use super::{DAY, TLS, seconds};
use crate::kind::{Kind, words_of};
use crate::login::Mechanisms;
use crate::row::{Default, Row, built};
use crate::settings::Balance;

pub(super) const ROWS: &[Row] = &[
    built(
        "route[].to",
        Kind::ListOfSome(&Kind::DomainPattern),
        Default::Required,
        "[\"example.net\", \"*.example.org\", \"*\"]",
        "Which recipient domains. `*` takes address literals, too.",
    ),
    built(
        "route[].via",
        Kind::List(&Kind::HostPort),
        Default::Required,
        "[\"smtp.upstream.example:587\", \"smtp2.upstream.example:465\"]",
        "The relays; on port 465 TLS starts at once (RFC 8314). Empty: by the \
         domain's own MX, an exception from a wider route.",
    ),
    built(
        "route[].balance",
        Kind::Word {
            words: words_of::<Balance>,
            not_yet: &[],
        },
        Default::Is("\"in_order\""),
        "\"even\"",
        "In which order the relays are tried. `in_order`: as `via` has them, the next one where one cannot be \
         used. `even`: each session begins with another one, and the others stand in for it.",
    ),
    built(
        "route[].tls",
        TLS,
        Default::Otherwise("`verify` with a login, else `opportunistic`"),
        "\"verify\"",
        "The least that is required. `opportunistic`: where offered, any certificate. `require`: \
         always, any certificate. `dane`: always, with a certificate that the relay's TLSA records \
         name. `verify`: always, with a certificate valid for the relay's name. Where TLSA records \
         are found, `opportunistic` and `require` ask for what they say, too.",
    ),
    built(
        "route[].username",
        Kind::Text,
        Default::Otherwise("no login"),
        "\"app\"",
        "The name to log in to the relays with (RFC 4954).",
    ),
    built(
        "route[].password_file",
        Kind::Path,
        Default::Otherwise("no login"),
        "\"/etc/relayd/secrets.d/upstream\"",
        "A file whose first line is the password for `username`.",
    ),
    built(
        "route[].auth",
        Kind::Word {
            words: words_of::<Mechanisms>,
            not_yet: &[],
        },
        Default::Is("\"auto\""),
        "\"plain\"",
        "The mechanism of the login. `auto`: the best one that the relay offers: with a password SCRAM-SHA-256, \
         PLAIN, LOGIN, with a token OAUTHBEARER, XOAUTH2.",
    ),
    built(
        "route[].token_file",
        Kind::Path,
        Default::Otherwise("no login"),
        "\"/run/relayd/secrets/upstream-token\"",
        "A file whose first line is an OAuth 2.0 access token for `username`, in place of a password. It is read \
         for each session: another program keeps it fresh.",
    ),
    built(
        "route[].token_endpoint",
        Kind::Endpoint,
        Default::Otherwise("no login"),
        "\"https://login.upstream.example/oauth2/token\"",
        "Where access tokens for `username` are fetched (RFC 6749), before one expires and when the relay refuses \
         one. With `refresh_token_file` by that token, without it in the client's own name.",
    ),
    built(
        "route[].client_id",
        Kind::Text,
        Default::Otherwise("no login"),
        "\"relayd\"",
        "Our name at `token_endpoint`.",
    ),
    built(
        "route[].client_secret_file",
        Kind::Path,
        Default::Otherwise("none"),
        "\"/etc/relayd/secrets.d/upstream-client\"",
        "A file whose first line is the secret of `client_id`.",
    ),
    built(
        "route[].refresh_token_file",
        Kind::Path,
        Default::Otherwise("none"),
        "\"/etc/relayd/secrets.d/upstream-refresh\"",
        "A file whose first line is a refresh token. Where the endpoint gives another one in its place, that \
         one is kept in state.dir, and used until another one stands in this file.",
    ),
    built(
        "route[].scope",
        Kind::Text,
        Default::Otherwise("none"),
        "\"https://outlook.office365.com/.default\"",
        "What the token is to be good for, in the endpoint's words; several parted by spaces.",
    ),
    built(
        "limit[].to",
        Kind::List(&Kind::DomainPattern),
        Default::Is("[]"),
        "[\"gmail.com\", \"*.example.org\"]",
        "By recipient domain; `*` is for all.",
    ),
    built(
        "limit[].provider",
        Kind::List(&Kind::Text),
        Default::Is("[]"),
        "[\"google\"]",
        "By provider, a named group of sites in the policy table.",
    ),
    built(
        "limit[].mx",
        Kind::List(&Kind::DomainPattern),
        Default::Is("[]"),
        "[\"*.google.com\"]",
        "By the name of an MX host.",
    ),
    built(
        "limit[].route",
        Kind::List(&Kind::HostPort),
        Default::Is("[]"),
        "[\"smtp.upstream.example:587\"]",
        "By a relay of a [[route]], as its `via` has it.",
    ),
    built(
        "limit[].source",
        Kind::List(&Kind::IpAddress),
        Default::Is("[]"),
        "[\"192.0.2.10\"]",
        "What goes out from each of these addresses: to all sites together that the other names take \
         in, or, without any, everywhere. Of such tables, too, the narrowest wins. Only `rate` and \
         `connections`.",
    ),
    built(
        "limit[].rate",
        Kind::Rate,
        Default::Otherwise("no limit"),
        "\"20/s\"",
        "Messages to the site in so much time.",
    ),
    built(
        "limit[].connections",
        Kind::Count {
            least: 1,
            most: 10_000,
        },
        Default::Otherwise("10"),
        "20",
        "Sessions at once with the site.",
    ),
    built(
        "limit[].messages_per_connection",
        Kind::Count {
            least: 1,
            most: 1_000_000,
        },
        Default::Otherwise("100"),
        "20",
        "Messages in one session; then a new one is made. One to many recipients counts as often as it is sent.",
    ),
    built(
        "limit[].recipients_per_transaction",
        Kind::Count {
            least: 1,
            most: 100_000,
        },
        Default::Otherwise("100"),
        "50",
        "Recipients of one transaction. Every server must take 100 (RFC 5321 section 4.5.3.1.8).",
    ),
    built(
        "limit[].tls",
        TLS,
        Default::Otherwise("`opportunistic`"),
        "\"verify\"",
        "The least that is required, as for a [[route]].",
    ),
    built(
        "retry.*.steps",
        Kind::ListOfSome(&Kind::Duration {
            least: Duration::from_millis(100),
            most: seconds(7 * DAY),
        }),
        Default::Is("[\"1m\", \"5m\", \"15m\", \"30m\", \"1h\", \"2h\", \"4h\"]"),
        "[\"30s\", \"5m\", \"30m\", \"2h\"]",
        "How long to wait after the first, second... attempt; the last one repeats. RFC 5321 section \
         4.5.4.1 asks for 30 minutes in the long run; the short first steps pass greylisting.",
    ),
    built(
        "retry.*.jitter",
        Kind::Percentage { most: 50 },
        Default::Is("\"10%\""),
        "\"20%\"",
        "Each wait is made longer or shorter by up to this much, so that mail that was deferred \
         together does not come back together.",
    ),
    built(
        "retry.*.max_age",
        Kind::Duration {
            least: seconds(1),
            most: seconds(30 * DAY),
        },
        Default::Is("\"5d\""),
        "\"2d\"",
        "From arrival to giving up; the last try comes at the deadline. RFC 5321 section 4.5.4.1 asks \
         for 4 to 5 days.",
    ),
    built(
        "retry.*.warn_after",
        Kind::DurationOrNever {
            least: seconds(1),
            most: seconds(30 * DAY),
        },
        Default::Is("\"4h\""),
        "\"never\"",
        "The sender gets a report that the message is late after this long; `never`: no such report.",
    ),
];
