//! An HTTPS client for short exchanges, also with hosts that strangers name: addresses that may be reached, a
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Made once; every exchange has a connection of its own.
pub struct Https {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
    reach: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub host: &'a str,
    pub port: u16,
    pub scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Https,
    /// In clear, and so to this host only, whatever a name leads to.
    Http,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

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
    /// `reach`: which addresses may be connected to; whoever sends mail may choose the domain.
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
        target: Target<'_>,
        request: Request<Full<Bytes>>,
        within: Duration,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, HttpsError> {
        let host = target.host;
        let exchange = async {
            let stream = self.connect(target).await?;
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

    async fn connect(&self, target: Target<'_>) -> Result<Box<dyn Stream>, HttpsError> {
        let stream = self.dial(target).await.map_err(HttpsError::Other)?;
        match target.scheme {
            Scheme::Http => Ok(Box::new(stream)),
            Scheme::Https => {
                let name = ServerName::try_from(target.host.to_owned()).map_err(other)?;
                match self.tls.connect(name, stream).await {
                    Ok(encrypted) => Ok(Box::new(encrypted)),
                    Err(error) => Err(of_handshake(target.host, &error)),
                }
            }
        }
    }

    async fn dial(&self, target: Target<'_>) -> Result<TcpStream, String> {
        let Target { host, port, scheme } = target;
        let mut last = format!("{host} has no address");
        for address in self.addresses(host).await? {
            if !(self.reach)(address) {
                last = format!("{host} has no address that may be connected to");
                continue;
            }
            if scheme == Scheme::Http && !address.is_loopback() {
                last = format!("{host} [{address}] is not this host, and the address is no https");
                continue;
            }
            let connecting = TcpStream::connect(SocketAddr::new(address, port));
            match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = format!("connecting to {host} [{address}]: {error}"),
                Err(_) => last = format!("connecting to {host} [{address}]: no answer"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use relay_route::resolver::{Later, MxRecord};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Every name leads there.
    struct To(Vec<IpAddr>);

    impl Resolver for To {
        fn mx<'a>(&'a self, _domain: &'a str) -> Later<'a, Lookup<MxRecord>> {
            Box::pin(std::future::ready(Lookup::NoRecords))
        }

        fn addresses<'a>(&'a self, _host: &'a str) -> Later<'a, Lookup<IpAddr>> {
            Box::pin(std::future::ready(Lookup::Found(self.0.clone())))
        }
    }

    async fn get(
        https: &Https,
        host: &str,
        port: u16,
        scheme: Scheme,
    ) -> Result<Bytes, HttpsError> {
        let request = Request::get("/").body(Full::new(Bytes::new())).unwrap();
        let target = Target { host, port, scheme };
        let within = Duration::from_secs(20);
        let answer = https.exchange(target, request, within, 16).await?;
        Ok(answer.into_body())
    }

    fn client(addresses: &[&str], reach: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Https {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        Https::new(Arc::new(To(addresses)), RootCertStore::empty(), reach).unwrap()
    }

    /// Answers each connection with this, in clear.
    async fn host(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn in_clear_only_this_host_is_asked_whatever_the_name_leads_to() {
        let port = host("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let far = client(&["192.0.2.1"], |_| true);
        let refused = get(&far, "token.example", port, Scheme::Http).await;
        let words = refused.unwrap_err().words().to_owned();
        assert_eq!(
            words,
            "token.example [192.0.2.1] is not this host, and the address is no https"
        );
        assert_eq!(
            get(&far, "localhost", port, Scheme::Http).await.unwrap(),
            "ok"
        );
        let near = client(&["192.0.2.1", "127.0.0.1"], |_| true);
        assert_eq!(
            get(&near, "token.example", port, Scheme::Http)
                .await
                .unwrap(),
            "ok"
        );
    }

    #[tokio::test]
    async fn an_address_that_may_not_be_reached_is_not_connected_to() {
        let port = host("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let https = client(&["127.0.0.1"], |address| !address.is_loopback());
        for name in ["policy.example", "localhost", "127.0.0.1"] {
            let refused = get(&https, name, port, Scheme::Http).await;
            let words = refused.unwrap_err().words().to_owned();
            let expected = format!("{name} has no address that may be connected to");
            assert_eq!(words, expected);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_or_no_http_is_an_error() {
        let https = client(&["127.0.0.1"], |_| true);
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n12345678901234567",
            "220 smtp.example ESMTP\r\n",
        ] {
            let port = host(answer).await;
            assert!(get(&https, "a.example", port, Scheme::Http).await.is_err());
        }
    }
}
