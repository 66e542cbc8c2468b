//! Opening connections. Behind a trait, so that the sandbox and simulations bring their own network.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;

use relay_smtp::Failure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

/// Anything that bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A failed connection, with words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialError {
    pub failure: Failure,
    pub words: String,
}

/// Boxed, so that a dialer can stand behind `Arc<dyn Dialer>`.
pub type Dialing<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, DialError>> + Send + 'a>>;

pub trait Dialer: Send + Sync + 'static {
    /// Connects within the caller's time-out. `host` is the name behind the address, `source` the
    /// local address to use.
    fn dial<'a>(
        &'a self,
        host: &'a str,
        address: SocketAddr,
        source: Option<IpAddr>,
    ) -> Dialing<'a>;
}

/// Real connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        address: SocketAddr,
        source: Option<IpAddr>,
    ) -> Dialing<'a> {
        Box::pin(async move {
            let stream = connect(address, source)
                .await
                .map_err(|error| in_words(&error, host, address, source))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
) -> Result<tokio::net::TcpStream, io::Error> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    // A command group, and the body with its final dot, are each one write: nothing is gained by
    // holding back the last segment of them.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn in_words(
    error: &io::Error,
    host: &str,
    address: SocketAddr,
    source: Option<IpAddr>,
) -> DialError {
    let failure = match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::Unreachable,
    };
    let from = match source {
        Some(source) => format!(" from {source}"),
        None => String::new(),
    };
    DialError {
        failure,
        words: format!(
            "connecting to {host} [{}] port {}{from}: {error}",
            address.ip(),
            address.port()
        ),
    }
}

/// Whether an address belongs to nobody on the internet: an MX record that points there would make
/// us speak to our own machine or network (the sender of the mail chooses the domain).
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private_v4(v4),
            None => is_private_v6(v6),
        },
    }
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_multicast()
        || v4.octets()[0] == 0
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_unique_local()
        || v6.is_unicast_link_local()
        || v6.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_our_own_network_are_told_from_public_ones() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["192.0.2.1", "8.8.8.8", "2001:db8::1", "172.32.0.1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_says_who_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = TcpDialer
            .dial("mx.example", address, None)
            .await
            .err()
            .unwrap();
        assert_eq!(error.failure, Failure::Refused);
        assert!(
            error.words.contains("mx.example [127.0.0.1]"),
            "{}",
            error.words
        );
    }
}
