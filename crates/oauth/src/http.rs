//! One POST to a token endpoint: over TLS with a certificate from a trusted root, or in clear to this host
//! alone; no redirects, bounded in time and size.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use relay_config::{Endpoint, Scheme};
use relay_route::{Lookup, Resolver};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The status and the whole body.
pub struct HttpAnswer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Boxed, so that it can stand behind `Arc<dyn Endpoints>`.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<HttpAnswer, String>> + Send + 'a>>;

/// Who asks token endpoints. Err: words for the operator.
pub trait Endpoints: Send + Sync + 'static {
    /// Sends a form.
    fn post<'a>(&'a self, endpoint: &'a Endpoint, form: String) -> Asking<'a>;
}

/// Over the network.
pub struct Http {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
}

/// From the first question to the last byte. Mail waits for it.
const WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Http {
    pub fn new(resolver: Arc<dyn Resolver>, roots: RootCertStore) -> Result<Http, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Http {
            resolver,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn exchange(&self, endpoint: &Endpoint, form: String) -> Result<HttpAnswer, String> {
        let stream = self.connect(endpoint).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Ends with the sender, or with the peer.
        let driving = tokio::spawn(connection);
        let answer = ask(&mut sender, endpoint, form).await;
        driving.abort();
        answer
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Box<dyn Stream>, String> {
        let stream = self.dial(endpoint).await?;
        match endpoint.scheme {
            Scheme::Http => Ok(Box::new(stream)),
            Scheme::Https => {
                let name = ServerName::try_from(endpoint.host.clone());
                let name = name.map_err(|error| error.to_string())?;
                let encrypted = self.tls.connect(name, stream).await;
                encrypted
                    .map(|stream| Box::new(stream) as Box<dyn Stream>)
                    .map_err(|error| format!("TLS: {error}"))
            }
        }
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<TcpStream, String> {
        let mut last = "its host has no address".to_owned();
        for address in self.addresses(&endpoint.host).await? {
            // The configuration allows a secret in clear to this host only; a name could be anybody's.
            if endpoint.scheme == Scheme::Http && !address.is_loopback() {
                last = format!("{address} is not this host, and the endpoint is no https");
                continue;
            }
            let connecting = TcpStream::connect(SocketAddr::new(address, endpoint.port));
            match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = format!("connecting to {address}: {error}"),
                Err(_) => last = format!("connecting to {address}: no answer"),
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if host == "localhost" {
            return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        match self.resolver.addresses(host).await {
            Lookup::Found(addresses) => Ok(addresses),
            Lookup::NoRecords | Lookup::NoSuchName => Ok(Vec::new()),
            Lookup::Trouble(words) => Err(words),
        }
    }
}

impl Endpoints for Http {
    fn post<'a>(&'a self, endpoint: &'a Endpoint, form: String) -> Asking<'a> {
        Box::pin(async move {
            let exchange = timeout(WITHIN, self.exchange(endpoint, form)).await;
            exchange.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())))
        })
    }
}

async fn ask(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    endpoint: &Endpoint,
    form: String,
) -> Result<HttpAnswer, String> {
    let request = Request::post(&endpoint.path)
        .header(header::HOST, endpoint.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), BYTES_MAX).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(HttpAnswer {
        status,
        body: body.to_vec(),
    })
}
