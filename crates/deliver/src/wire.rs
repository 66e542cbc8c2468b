//! Drives one client session over one stream: writes what it says, reads within its time-outs,
//! sends the body. What the replies mean is not known here.

use std::future::Future;
use std::time::Duration;

use relay_config::Timeouts;
use relay_smtp::client::{Session, Setup, Step, Wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::dial::Stream;
use crate::tls::TlsError;

/// A stream and the session that is held over it.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    pub session: Session,
    timeouts: Timeouts,
}

/// Where the session waits for a decision of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Ready,
    StartTls,
    Over,
}

/// How long a peer that stopped reading is listened to for its reason.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The body's time-out holds for each piece of this many bytes.
const BODY_PIECE_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 4096;

impl Wire {
    pub fn new(stream: Box<dyn Stream>, setup: Setup, timeouts: Timeouts) -> Wire {
        Wire {
            stream,
            session: Session::new(setup),
            timeouts,
        }
    }

    /// Goes on until the session is ready for a message, wants TLS, or is over. `body`: what is
    /// sent when the session asks for it, dots stuffed, final dot included.
    pub async fn run(&mut self, body: &[u8]) -> Pause {
        loop {
            match self.session.step() {
                Step::Write(bytes) => self.write(&bytes).await,
                Step::Read(wait) => self.read(wait).await,
                Step::Body => self.write_body(body).await,
                Step::StartTls => return Pause::StartTls,
                Step::Ready => return Pause::Ready,
                Step::Over => return Pause::Over,
            }
        }
    }

    /// Encrypts the stream: `handshake` makes a new one out of it. A failed or stalled one leaves
    /// nothing to go on with.
    pub async fn encrypt<F>(
        self,
        handshake: impl FnOnce(Box<dyn Stream>) -> F,
    ) -> Result<(Wire, String), TlsError>
    where
        F: Future<Output = Result<(Box<dyn Stream>, String), TlsError>>,
    {
        let (stream, agreed) = handshake(self.stream).await?;
        let mut session = self.session;
        session.tls_started();
        let wire = Wire {
            stream,
            session,
            timeouts: self.timeouts,
        };
        Ok((wire, agreed))
    }

    /// Resolves once an idle session is over, since the peer has closed it. May be dropped at any
    /// time without loss.
    pub async fn closed_by_peer(&mut self) {
        let mut buffer = [0; READ_BYTES];
        while self.session.step() == Step::Ready {
            let read = self.stream.read(&mut buffer).await;
            self.received(read, &buffer);
        }
    }

    /// Says QUIT where the session is ready for it, and closes.
    pub async fn quit(mut self) {
        if self.session.step() == Step::Ready {
            self.session.quit();
            self.run(&[]).await;
        }
        // The peer may have closed already: that is what was asked for.
        let _ = timeout(LAST_WORDS, self.stream.shutdown()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        // Commands are small: a peer that takes none for so long answers none either.
        match timeout(self.timeouts.mail, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.broken(&error).await,
            Err(_) => self.session.timed_out(),
        }
    }

    async fn write_body(&mut self, body: &[u8]) {
        for piece in body.chunks(BODY_PIECE_BYTES) {
            match timeout(self.timeouts.body, self.stream.write_all(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.broken(&error).await,
                Err(_) => return self.session.timed_out(),
            }
        }
        // From here on the peer may have all of it.
        self.session.body_sent();
        match timeout(self.timeouts.body, self.stream.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.broken(&error).await,
            Err(_) => self.session.timed_out(),
        }
    }

    /// A failed write: the peer may have said why before it stopped reading.
    async fn broken(&mut self, error: &std::io::Error) {
        let mut buffer = [0; READ_BYTES];
        while let Ok(Ok(count @ 1..)) = timeout(LAST_WORDS, self.stream.read(&mut buffer)).await {
            self.session
                .receive(buffer.get(..count).unwrap_or_default());
            if self.session.end().is_some() {
                return;
            }
        }
        self.session
            .lost(&format!("the connection broke ({error})"));
    }

    async fn read(&mut self, wait: Wait) {
        let mut buffer = [0; READ_BYTES];
        let time = self.time_for(wait);
        match timeout(time, self.stream.read(&mut buffer)).await {
            Ok(read) => self.received(read, &buffer),
            Err(_) => self.session.timed_out(),
        }
    }

    fn received(&mut self, read: std::io::Result<usize>, buffer: &[u8]) {
        match read {
            Ok(0) => self.session.lost("the peer closed the connection"),
            Ok(count) => self
                .session
                .receive(buffer.get(..count).unwrap_or_default()),
            Err(error) => self
                .session
                .lost(&format!("the connection broke ({error})")),
        }
    }

    fn time_for(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Banner => self.timeouts.banner,
            Wait::Ehlo => self.timeouts.ehlo,
            Wait::Starttls => self.timeouts.starttls,
            Wait::Auth => self.timeouts.auth,
            Wait::Mail => self.timeouts.mail,
            Wait::Rcpt => self.timeouts.rcpt,
            Wait::Data => self.timeouts.data,
            Wait::FinalDot => self.timeouts.final_dot,
            Wait::Rset => self.timeouts.rset,
            Wait::Quit => self.timeouts.quit,
        }
    }
}
