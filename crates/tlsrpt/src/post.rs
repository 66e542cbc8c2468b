//! Posts a report to an `https:` address (RFC 8460 section 3): no redirects, any 2xx is a receipt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, header};
use relay_https::{Https, Scheme, Target};

use crate::record::Url;

pub type Posting<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// The seam to HTTPS. Err: words for the operator.
pub trait Post: Send + Sync + 'static {
    fn post<'a>(&'a self, to: &'a Url, gzip: Vec<u8>) -> Posting<'a>;
}

/// Over the network, to hosts with a certificate from a trusted root.
pub struct HttpsPost {
    https: Arc<Https>,
}

const WITHIN: Duration = Duration::from_secs(60);
/// What of the answer is read; nothing depends on it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

impl HttpsPost {
    pub fn new(https: Arc<Https>) -> HttpsPost {
        HttpsPost { https }
    }

    async fn send(&self, to: &Url, gzip: Vec<u8>) -> Result<(), String> {
        let Url { host, port, path } = to;
        let named = match port {
            443 => host.clone(),
            port => format!("{host}:{port}"),
        };
        let request = Request::post(path)
            .header(header::HOST, named)
            .header(header::CONTENT_TYPE, "application/tlsrpt+gzip")
            .body(Full::new(Bytes::from(gzip)))
            .map_err(|error| error.to_string())?;
        let target = Target {
            host,
            port: *port,
            scheme: Scheme::Https,
        };
        let exchange = self
            .https
            .exchange(target, request, WITHIN, ANSWER_BYTES_MAX);
        let answer = exchange.await.map_err(|error| error.words().to_owned())?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("{host} answered {}", answer.status())),
        }
    }
}

impl Post for HttpsPost {
    fn post<'a>(&'a self, to: &'a Url, gzip: Vec<u8>) -> Posting<'a> {
        Box::pin(self.send(to, gzip))
    }
}
