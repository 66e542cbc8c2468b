//! Reads a domain's policy over HTTPS (RFC 8461 section 3.3): no redirects, nothing but 200 and
//! text/plain, a bounded body within a bounded time, a certificate for the policy host from a trusted root.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use relay_route::{Lookup, Resolver};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Boxed, so that a reader can stand behind `Arc<dyn Fetch>`.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// The text of a domain's policy; Err: words for the operator.
pub trait Fetch: Send + Sync + 'static {
    fn fetch<'a>(&'a self, domain: &'a str) -> Fetching<'a>;
}

/// Over the network.
pub struct HttpsFetch {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
    port: u16,
    reach: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// From the first question to the last byte; RFC 8461 section 3.3 suggests one minute. Mail waits for it.
const WITHIN: Duration = Duration::from_secs(60);
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// The bound that RFC 8461 section 3.3 suggests.
const BYTES_MAX: usize = 64 * 1024;
const PATH: &str = "/.well-known/mta-sts.txt";

impl HttpsFetch {
    /// `port`: 443. `reach`: which addresses may be connected to; whoever sends mail chooses the domain.
    pub fn new(
        resolver: Arc<dyn Resolver>,
        roots: RootCertStore,
        port: u16,
        reach: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<HttpsFetch, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(HttpsFetch {
            resolver,
            tls: TlsConnector::from(Arc::new(config)),
            port,
            reach: Box::new(reach),
        })
    }

    async fn read(&self, domain: &str) -> Result<String, String> {
        let host = format!("mta-sts.{domain}");
        let stream = self.connect(&host).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Ends with the sender, or with the peer.
        let driving = tokio::spawn(connection);
        let answer = ask(&mut sender, &host).await;
        driving.abort();
        answer
    }

    async fn connect(&self, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let addresses = match self.resolver.addresses(host).await {
            Lookup::Found(addresses) => addresses,
            Lookup::NoRecords | Lookup::NoSuchName => return Err(format!("{host} has no address")),
            Lookup::Trouble(words) => return Err(words),
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let mut last = format!("{host} has no address that may be connected to");
        for address in addresses.into_iter().filter(|a| (self.reach)(*a)) {
            let connecting = TcpStream::connect(SocketAddr::new(address, self.port));
            match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(stream)) => {
                    let encrypted = self.tls.connect(name.clone(), stream).await;
                    return encrypted.map_err(|error| format!("TLS with {host}: {error}"));
                }
                Ok(Err(error)) => last = format!("connecting to {host} [{address}]: {error}"),
                Err(_) => last = format!("connecting to {host} [{address}]: no answer"),
            }
        }
        Err(last)
    }
}

impl Fetch for HttpsFetch {
    fn fetch<'a>(&'a self, domain: &'a str) -> Fetching<'a> {
        Box::pin(async move {
            let read = timeout(WITHIN, self.read(domain)).await;
            read.unwrap_or_else(|_| Err(format!("not read within {} s", WITHIN.as_secs())))
        })
    }
}

async fn ask(
    sender: &mut hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    host: &str,
) -> Result<String, String> {
    let request = Request::get(PATH)
        .header(header::HOST, host)
        .header(header::ACCEPT, "text/plain")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|error| format!("{host}: {error}"))?;
    // A redirect is not followed: it would let another host speak for this one (section 3.3).
    if answer.status() != StatusCode::OK {
        return Err(format!("{host} answered {}", answer.status()));
    }
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("text/plain") {
        return Err(format!("{host} answered {kind:?}, which is not text/plain"));
    }
    let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("{host}: {error}"))?.to_bytes();
    String::from_utf8(body.to_vec()).map_err(|_| format!("{host}: the policy is no text"))
}
