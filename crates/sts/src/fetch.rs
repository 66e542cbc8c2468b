//! Reads a domain's policy over HTTPS (RFC 8461 section 3.3): no redirects, nothing but 200 and
//! text/plain, a bounded body within a bounded time, a certificate for the policy host from a trusted root.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode, header};
use relay_https::{Https, HttpsError, Scheme, Target};

use crate::trouble::{Trouble, Why};

/// Boxed, so that a reader can stand behind `Arc<dyn Fetch>`.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<String, Trouble>> + Send + 'a>>;

/// The text of a domain's policy.
pub trait Fetch: Send + Sync + 'static {
    fn fetch<'a>(&'a self, domain: &'a str) -> Fetching<'a>;
}

/// Over the network.
pub struct HttpsFetch {
    https: Arc<Https>,
    port: u16,
}

/// From the first question to the last byte; RFC 8461 section 3.3 suggests one minute. Mail waits for it.
const WITHIN: Duration = Duration::from_secs(60);
/// The bound that RFC 8461 section 3.3 suggests.
const BYTES_MAX: usize = 64 * 1024;
const PATH: &str = "/.well-known/mta-sts.txt";

impl HttpsFetch {
    /// `port`: 443.
    pub fn new(https: Arc<Https>, port: u16) -> HttpsFetch {
        HttpsFetch { https, port }
    }

    async fn read(&self, domain: &str) -> Result<String, Trouble> {
        let host = format!("mta-sts.{domain}");
        let request = Request::get(PATH)
            .header(header::HOST, &host)
            .header(header::ACCEPT, "text/plain")
            .body(Full::new(Bytes::new()))
            .map_err(|error| fetching(error.to_string()))?;
        let target = Target {
            host: &host,
            port: self.port,
            scheme: Scheme::Https,
        };
        let exchange = self.https.exchange(target, request, WITHIN, BYTES_MAX);
        let answer = exchange.await.map_err(|error| Trouble {
            why: match error {
                HttpsError::Certificate(_) => Why::Certificate,
                HttpsError::Other(_) => Why::Fetch,
            },
            words: error.words().to_owned(),
        })?;
        text_of(&answer).map_err(|words| fetching(format!("{host} {words}")))
    }
}

impl Fetch for HttpsFetch {
    fn fetch<'a>(&'a self, domain: &'a str) -> Fetching<'a> {
        Box::pin(self.read(domain))
    }
}

fn text_of(answer: &Response<Bytes>) -> Result<String, String> {
    // A redirect is not followed: it would let another host speak for this one (section 3.3).
    if answer.status() != StatusCode::OK {
        return Err(format!("answered {}", answer.status()));
    }
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("text/plain") {
        return Err(format!("answered {kind:?}, which is not text/plain"));
    }
    let text = String::from_utf8(answer.body().to_vec());
    text.map_err(|_| "gave a policy that is no text".to_owned())
}

fn fetching(words: String) -> Trouble {
    Trouble {
        why: Why::Fetch,
        words,
    }
}
