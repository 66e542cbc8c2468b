//! Drives one client session over one stream: writes what it says, reads within its time-outs,
//! sends the body. What the replies mean is not known here.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use relay_config::Timeouts;
use relay_smtp::client::{Session, Setup, Step, Wait};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::dial::Stream;
use crate::outgoing::Outgoing;
use crate::tls::{Agreed, TlsError};
use crate::trace::{Tap, Watched};

/// A stream and the session that is held over it.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    pub session: Session,
    timeouts: Timeouts,
    pub tap: Option<Tap>,
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
/// The body's time-out holds for each part of about this many bytes.
const BODY_PIECE_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 4096;

impl Wire {
    pub fn new(
        stream: Box<dyn Stream>,
        setup: Setup,
        timeouts: Timeouts,
        tap: Option<Tap>,
    ) -> Wire {
        Wire {
            stream,
            session: Session::new(setup),
            timeouts,
            tap,
        }
    }

    /// Goes on until the session is ready for a message, wants TLS, or is over.
    pub async fn run(&mut self) -> Pause {
        self.go_on(None).await
    }

    /// The same after a transaction has begun. `message`: what is sent when the session asks for it.
    pub async fn send(&mut self, message: Outgoing) -> Pause {
        self.go_on(Some(message)).await
    }

    async fn go_on(&mut self, mut message: Option<Outgoing>) -> Pause {
        loop {
            match self.session.step() {
                Step::Write(bytes) => self.write(&bytes).await,
                Step::Read(wait) => self.read(wait).await,
                Step::Body(form) => {
                    let message = message.take();
                    let message = message.expect("a session asks for a body once, after begin");
                    self.write_body(message.in_form(form)).await;
                }
                Step::StartTls => return Pause::StartTls,
                Step::Ready => {
                    self.hear().await;
                    if self.session.end().is_none() {
                        return Pause::Ready;
                    }
                }
                Step::Over => return Pause::Over,
            }
        }
    }

    /// Encrypts the stream: `handshake` makes a new one out of it. A failed or stalled one leaves
    /// nothing to go on with.
    pub async fn encrypt<F>(
        self,
        handshake: impl FnOnce(Box<dyn Stream>) -> F,
    ) -> Result<(Wire, Agreed), TlsError>
    where
        F: Future<Output = Result<(Box<dyn Stream>, Agreed), TlsError>>,
    {
        let shaken = handshake(self.stream).await;
        self.tap.tell(|tap| {
            tap.connection(match &shaken {
                Ok((_, agreed)) => agreed.words.clone(),
                Err(error) => error.words.clone(),
            });
        });
        let (stream, agreed) = shaken?;
        let mut session = self.session;
        session.tls_started();
        let wire = Wire {
            stream,
            session,
            timeouts: self.timeouts,
            tap: self.tap,
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

    /// Takes what the peer has said unasked, without waiting: a reply too many, or why it closes. Left
    /// unread it would pass for the answer to the next command.
    pub async fn hear(&mut self) {
        let mut buffer = [0; READ_BYTES];
        while self.session.end().is_none() {
            let heard = poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut buffer);
                let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
                Poll::Ready(match read {
                    Poll::Ready(read) => Some(read.map(|()| buffer.filled().len())),
                    Poll::Pending => None,
                })
            });
            match heard.await {
                Some(read) => self.received(read, &buffer),
                None => return,
            }
        }
    }

    /// Says QUIT where the session is ready for it, and closes.
    pub async fn quit(mut self) {
        if self.session.step() == Step::Ready {
            self.session.quit();
            self.run().await;
        }
        // The peer may have closed already: that is what was asked for.
        let _ = timeout(LAST_WORDS, self.stream.shutdown()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.tap.tell(|tap| tap.said(bytes));
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

    async fn write_body(&mut self, mut message: Outgoing) {
        let mut until = Instant::now() + self.timeouts.body;
        let (mut bytes, mut sent) = (0, 0);
        loop {
            let piece = match message.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // The connection is closed in the middle of the data: the peer has nothing.
                Err(error) => {
                    let words = format!("our own queue did not give the message out: {error}");
                    return self.session.lost(&words);
                }
            };
            if bytes >= BODY_PIECE_BYTES {
                (until, bytes) = (Instant::now() + self.timeouts.body, 0);
            }
            bytes += piece.len();
            sent += piece.len() as u64;
            // "250" before the final dot is no word about this message.
            self.hear().await;
            match timeout_at(until, self.write_piece(&piece)).await {
                // The peer has spoken before it had all of it.
                Ok(Ok(())) if self.session.end().is_some() => return,
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.broken(&error).await,
                Err(_) => return self.session.timed_out(),
            }
        }
        self.tap.tell(|tap| tap.body(sent));
        // From here on the peer may have all of it.
        self.session.body_sent();
        match timeout(self.timeouts.body, self.stream.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.broken(&error).await,
            Err(_) => self.session.timed_out(),
        }
    }

    /// Writes all of it, unless the session ends meanwhile: a peer that refuses in the middle of a
    /// message stops reading, and would be waited for in vain if nobody listened to it.
    async fn write_piece(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() && self.session.end().is_none() {
            let mut buffer = [0; READ_BYTES];
            match write_or_read(&mut self.stream, piece, &mut buffer).await {
                Moved::Written(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Moved::Written(count) => piece = piece.get(count?..).unwrap_or_default(),
                Moved::Read(read) => self.received(read, &buffer),
            }
        }
        Ok(())
    }

    /// A failed write: the peer may have said why before it stopped reading.
    async fn broken(&mut self, error: &io::Error) {
        let listen = async {
            let mut buffer = [0; READ_BYTES];
            while self.session.end().is_none()
                && let Ok(count @ 1..) = self.stream.read(&mut buffer).await
            {
                let heard = buffer.get(..count).unwrap_or_default();
                self.tap.tell(|tap| tap.heard(heard));
                self.session.receive(heard);
            }
        };
        // Time over: what has been heard counts.
        let _ = timeout(LAST_WORDS, listen).await;
        if self.session.end().is_none() {
            self.session
                .lost(&format!("the connection broke ({error})"));
        }
    }

    /// Waits for one whole reply: one that comes a byte at a time has no more time than any other.
    async fn read(&mut self, wait: Wait) {
        let until = Instant::now() + self.time_for(wait);
        let before = self.session.replies();
        let mut buffer = [0; READ_BYTES];
        while self.session.replies() == before && self.session.end().is_none() {
            match timeout_at(until, self.stream.read(&mut buffer)).await {
                Ok(read) => self.received(read, &buffer),
                Err(_) => self.session.timed_out(),
            }
        }
    }

    fn received(&mut self, read: io::Result<usize>, buffer: &[u8]) {
        match read {
            Ok(0) => self.session.lost("the peer closed the connection"),
            Ok(count) => {
                let heard = buffer.get(..count).unwrap_or_default();
                self.tap.tell(|tap| tap.heard(heard));
                self.session.receive(heard);
            }
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

enum Moved {
    Written(io::Result<usize>),
    Read(io::Result<usize>),
}

/// Writes; reads only while the peer takes nothing.
async fn write_or_read(stream: &mut Box<dyn Stream>, out: &[u8], heard: &mut [u8]) -> Moved {
    poll_fn(|context| {
        if let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(context, out) {
            return Poll::Ready(Moved::Written(written));
        }
        let mut buffer = ReadBuf::new(heard);
        let read = Pin::new(&mut *stream).poll_read(context, &mut buffer);
        read.map(|read| Moved::Read(read.map(|()| buffer.filled().len())))
    })
    .await
}
