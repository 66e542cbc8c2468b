//! The bytes' way: clear, or TLS once it has been started.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) enum Wire<S> {
    Clear(S),
    Tls(Box<TlsStream<S>>),
    /// A handshake has failed: what was half encrypted can carry nothing any more.
    Broken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// 0: the other side has closed. Nothing is lost when it is cancelled.
    pub(crate) async fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Clear(stream) => stream.read(chunk).await,
            Wire::Tls(stream) => stream.read(chunk).await,
            Wire::Broken => Ok(0),
        }
    }

    /// All of it, out of every buffer of ours.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Clear(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Wire::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Wire::Broken => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Nothing more will be sent; under TLS the other side is told so.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Wire::Clear(stream) => stream.shutdown().await,
            Wire::Tls(stream) => stream.shutdown().await,
            Wire::Broken => Ok(()),
        }
    }

    /// The server's side of the handshake, in place of clear text.
    pub(crate) async fn start_tls(&mut self, acceptor: TlsAcceptor) -> io::Result<()> {
        let stream = match std::mem::replace(self, Wire::Broken) {
            Wire::Clear(stream) => stream,
            other => {
                *self = other;
                return Err(io::Error::other("TLS is active already"));
            }
        };
        *self = Wire::Tls(Box::new(acceptor.accept(stream).await?));
        Ok(())
    }
}
