//! Opening connections. Behind a trait, so that the sandbox and simulations bring their own network.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use relay_smtp::Failure;
use tokio::io::{AsyncRead, AsyncWrite};

/// Anything that bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A failed connection, with words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialError {
    pub failure: Failure,
    pub words: String,
}

pub trait Dialer: Send + Sync + 'static {
    /// Connects within the caller's time-out. `host` is the name behind the address, `source` the
    /// local address to use.
    fn dial<'a>(
        &'a self,
        host: &'a str,
        address: SocketAddr,
        source: Option<IpAddr>,
    ) -> Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, DialError>> + Send + 'a>>;
}
