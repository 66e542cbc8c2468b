//! An HTTPS client for short exchanges with hosts that strangers name: addresses that may be reached, a
//! certificate from a trusted root, no redirects, bounded time, bounded answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use relay_route::{Lookup, Resolver};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Made once; every exchange has a connection of its own.
pub struct Https {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
    reach: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// Why there was no exchange, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpsError {
    /// The certificate does not do.
    Certificate(String),
    /// Anything else: DNS, network, time, HTTP.
    Other(String),
}

const CONNECT_WITHIN: Duration = Duration::from_secs(15);

impl Https {
    /// `reach`: which addresses may be connected to; whoever sends mail chooses the domain.
    pub fn new(
        resolver: Arc<dyn Resolver>,
        roots: RootCertStore,
        reach: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<Https, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Https {
            resolver,
            tls: TlsConnector::from(Arc::new(config)),
            reach: Box::new(reach),
        })
    }

    /// One request, and its answer with the whole body, which has no more than `bytes_max`.
    pub async fn exchange(
        &self,
        host: &str,
        port: u16,
        request: Request<Full<Bytes>>,
        within: Duration,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, HttpsError> {
        let exchange = async {
            let stream = self.connect(host, port).await?;
            let io = TokioIo::new(stream);
            let shaken = hyper::client::conn::http1::handshake(io).await;
            let (mut sender, connection) = shaken.map_err(other)?;
            // Ends with the sender, or with the peer.
            let driving = tokio::spawn(connection);
            let answered = match sender.send_request(request).await {
                Ok(answer) => whole(answer, bytes_max).await,
                Err(error) => Err(error.to_string()),
            };
            driving.abort();
            answered.map_err(|words| HttpsError::Other(format!("{host}: {words}")))
        };
        let ended = timeout(within, exchange).await;
        ended.unwrap_or_else(|_| {
            let words = format!("{host}: not done within {} s", within.as_secs());
            Err(HttpsError::Other(words))
        })
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, HttpsError> {
        let addresses = match self.resolver.addresses(host).await {
            Lookup::Found(addresses) => addresses,
            Lookup::NoRecords | Lookup::NoSuchName => {
                return Err(HttpsError::Other(format!("{host} has no address")));
            }
            Lookup::Trouble(words) => return Err(HttpsError::Other(words)),
        };
        let name = ServerName::try_from(host.to_owned()).map_err(other)?;
        let mut last = format!("{host} has no address that may be connected to");
        for address in addresses.into_iter().filter(|a| (self.reach)(*a)) {
            let connecting = TcpStream::connect(SocketAddr::new(address, port));
            match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(stream)) => {
                    let encrypted = self.tls.connect(name.clone(), stream).await;
                    return encrypted.map_err(|error| of_handshake(host, &error));
                }
                Ok(Err(error)) => last = format!("connecting to {host} [{address}]: {error}"),
                Err(_) => last = format!("connecting to {host} [{address}]: no answer"),
            }
        }
        Err(HttpsError::Other(last))
    }
}

async fn whole(answer: Response<Incoming>, bytes_max: usize) -> Result<Response<Bytes>, String> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, bytes_max).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

impl HttpsError {
    pub fn words(&self) -> &str {
        match self {
            HttpsError::Certificate(words) | HttpsError::Other(words) => words,
        }
    }
}

fn other(error: impl std::fmt::Display) -> HttpsError {
    HttpsError::Other(error.to_string())
}

fn of_handshake(host: &str, error: &std::io::Error) -> HttpsError {
    let words = format!("TLS with {host}: {error}");
    let tls = error.get_ref();
    match tls.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => HttpsError::Certificate(words),
        Some(_) | None => HttpsError::Other(words),
    }
}
