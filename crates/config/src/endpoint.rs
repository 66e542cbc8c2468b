//! `token_endpoint`: the URL where access tokens for a relay are fetched, and what is said there.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use relay_smtp::Domain;

/// `https://login.example.com/oauth2/token`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub scheme: Scheme,
    /// A name in A-labels, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// With the query, from its `/` on.
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Https,
    /// To this host only.
    Http,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Scheme::Https => 443,
            Scheme::Http => 80,
        }
    }
}

/// What is wrong, and the fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoEndpoint(&'static str);

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, NoEndpoint> {
        const WRONG: NoEndpoint =
            NoEndpoint("not a URL; write https://login.example.com/oauth2/token");
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(_) | None => return Err(WRONG),
        };
        // A fragment is never sent, and a user's name has no place in a URL with a secret of its own.
        if !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains(['#', '@', '\\']) {
            return Err(WRONG);
        }
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes().get(at) == Some(&b'/') => rest.split_at(at),
            Some(_) => return Err(WRONG),
            None => (rest, "/"),
        };
        let bracketed = authority.starts_with('[');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !bracketed || host.ends_with(']') => (
                host,
                port.parse().ok().filter(|port| *port > 0).ok_or(WRONG)?,
            ),
            Some(_) | None => (authority, scheme.port()),
        };
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(inner) => inner.parse::<IpAddr>().map_err(|_| WRONG)?.to_string(),
            None => match host.parse::<IpAddr>() {
                Ok(address) => address.to_string(),
                Err(_) => Domain::parse(host).map_err(|_| WRONG)?.to_ascii(),
            },
        };
        let endpoint = Endpoint {
            scheme,
            host,
            port,
            path: path.to_owned(),
        };
        match (endpoint.scheme, endpoint.is_loopback()) {
            (Scheme::Http, false) => Err(NoEndpoint(
                "the secret would go in clear text; write https:// (http:// is for 127.0.0.1 only)",
            )),
            (Scheme::Http, true) | (Scheme::Https, _) => Ok(endpoint),
        }
    }
}

impl Endpoint {
    /// A loopback address or `localhost`.
    fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// For the Host field.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == self.scheme.port() {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }
}

/// As a URL without its query, which some fill with keys.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

/// Who asks for tokens, and by what right.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OauthClient {
    pub endpoint: Endpoint,
    pub client_id: String,
    pub client_secret: Option<String>,
    /// None: the client asks in its own name (RFC 6749 section 4.4).
    pub refresh_token: Option<String>,
    pub scope: Option<String>,
}

impl fmt::Debug for OauthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthClient")
            .field("endpoint", &self.endpoint)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_endpoint_is_https_or_on_this_host() {
        for (text, shown, authority) in [
            (
                "https://login.example/token",
                "https://login.example/token",
                "login.example",
            ),
            (
                "https://login.example:8443",
                "https://login.example:8443/",
                "login.example:8443",
            ),
            (
                "https://login.example/t?key=s",
                "https://login.example/t",
                "login.example",
            ),
            (
                "http://127.0.0.1:90/t",
                "http://127.0.0.1:90/t",
                "127.0.0.1:90",
            ),
            ("http://localhost/t", "http://localhost/t", "localhost"),
            (
                "https://[2001:db8::1]:444/t",
                "https://[2001:db8::1]:444/t",
                "[2001:db8::1]:444",
            ),
            ("http://[::1]/t", "http://[::1]/t", "[::1]"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(endpoint.authority(), authority);
        }
        for text in [
            "",
            "login.example",
            "ftp://login.example/",
            "https://",
            "https:///token",
            "https://login.example:0/",
            "https://login.example:x/",
            "https://user@login.example/",
            "https://login.example/a b",
            "https://login.example?x",
            "https://[login]/",
            "http://login.example/token",
            "http://192.0.2.1/token",
            "http://127.0.0.1.example/token",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
