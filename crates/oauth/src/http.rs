//! One POST to a token endpoint: over TLS with a certificate from a trusted root, or in clear to this host alone.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, header};
use relay_config::{Endpoint, Scheme};
use relay_https::{Https, Target};

/// The status and the whole body.
pub struct HttpAnswer {
    pub status: u16,
    pub body: Bytes,
}

/// Boxed, so that it can stand behind `Arc<dyn Endpoints>`.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<HttpAnswer, String>> + Send + 'a>>;

/// Who asks token endpoints. Err: words for the operator.
pub trait Endpoints: Send + Sync + 'static {
    /// Sends a form.
    fn post<'a>(&'a self, endpoint: &'a Endpoint, form: String) -> Asking<'a>;
}

/// Over the network.
pub struct HttpsEndpoints {
    https: Https,
}

/// From the first question to the last byte. Mail waits for it.
const WITHIN: Duration = Duration::from_secs(30);
const BYTES_MAX: usize = 64 * 1024;

impl HttpsEndpoints {
    pub fn new(https: Https) -> HttpsEndpoints {
        HttpsEndpoints { https }
    }

    async fn send(&self, endpoint: &Endpoint, form: String) -> Result<HttpAnswer, String> {
        let request = Request::post(&endpoint.path)
            .header(header::HOST, endpoint.authority())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))
            .map_err(|error| error.to_string())?;
        let target = Target {
            host: &endpoint.host,
            port: endpoint.port,
            scheme: match endpoint.scheme {
                Scheme::Https => relay_https::Scheme::Https,
                // The configuration allows a secret in clear to this host only.
                Scheme::Http => relay_https::Scheme::Http,
            },
        };
        let exchange = self.https.exchange(target, request, WITHIN, BYTES_MAX);
        let answer = exchange.await.map_err(|error| error.words().to_owned())?;
        Ok(HttpAnswer {
            status: answer.status().as_u16(),
            body: answer.into_body(),
        })
    }
}

impl Endpoints for HttpsEndpoints {
    fn post<'a>(&'a self, endpoint: &'a Endpoint, form: String) -> Asking<'a> {
        Box::pin(self.send(endpoint, form))
    }
}
