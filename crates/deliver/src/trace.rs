//! The dialogue of sessions for whoever watches: every line as it passes, without secrets and without
//! messages. Nobody watches most of the time, and then it costs one look at a counter for each session.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relay_policy::Decision;
use relay_smtp::NextHop;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// One line of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Counted over all sessions that were watched since the start.
    pub session: u64,
    /// Since the session began.
    pub at_ms: u64,
    pub side: Side,
    pub text: String,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Client,
    Server,
    /// What happens to the connection: whom it leads to, what TLS came to.
    Connection,
    /// What the policy made of a reply.
    Decision,
    /// The session is over.
    End,
}

/// Lines that wait for a slow watcher; what is more is left out, and that is said. Delivery waits for nobody.
const LINES_WAITING: usize = 1024;
/// Longer lines are cut: hosts choose their length.
const LINE_MAX: usize = 1000;

/// Everybody who watches.
#[derive(Default)]
pub struct Watchers {
    /// As long as `all`, so that sessions need no lock to see that there is nobody.
    count: AtomicUsize,
    sessions: AtomicU64,
    all: Mutex<Vec<Watcher>>,
}

struct Watcher {
    /// A domain, a host, or the name of a site.
    of: String,
    sessions_left: u32,
    to: mpsc::Sender<TraceLine>,
}

impl Watchers {
    /// The lines of the next `sessions` sessions that are opened for `of`: a domain, one of its hosts, or the
    /// name of a site. They end when the last of these has ended.
    pub fn watch(&self, of: &str, sessions: u32) -> mpsc::Receiver<TraceLine> {
        let (to, lines) = mpsc::channel(LINES_WAITING);
        let mut all = self.lock();
        all.push(Watcher {
            of: bare(of.trim_end_matches('.')),
            sessions_left: sessions.max(1),
            to,
        });
        self.count.store(all.len(), Ordering::Relaxed);
        lines
    }

    /// For a session that is about to be opened; None: nobody watches it.
    pub(crate) fn tap(&self, hop: &NextHop, host: &str) -> Option<Tap> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut to = Vec::new();
        let mut all = self.lock();
        all.retain_mut(|watcher| {
            if watcher.to.is_closed() {
                return false;
            }
            if watcher.is_meant(hop, host) {
                to.push(watcher.to.clone());
                watcher.sessions_left -= 1;
            }
            watcher.sessions_left > 0
        });
        self.count.store(all.len(), Ordering::Relaxed);
        if to.is_empty() {
            return None;
        }
        let dialogue = Dialogue {
            to,
            session: self.sessions.fetch_add(1, Ordering::Relaxed) + 1,
            began: Instant::now(),
            partly_heard: Vec::new(),
            secret: Secret::No,
            left_out: 0,
        };
        Some(Tap(Arc::new(Mutex::new(dialogue))))
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    fn is_meant(&self, hop: &NextHop, host: &str) -> bool {
        let host = bare(host);
        // The name of a site is those of its hosts.
        self.of.split(',').any(|name| name == host)
            || match hop {
                NextHop::Domain(domain) => domain.to_ascii().eq_ignore_ascii_case(&self.of),
                NextHop::Relay(name) => name.eq_ignore_ascii_case(&self.of),
                NextHop::Address(address) => address.to_string() == self.of,
            }
    }
}

/// In lower case; a host that is an address has brackets, which nobody wants to write.
fn bare(name: &str) -> String {
    name.replace(['[', ']'], "").to_ascii_lowercase()
}

/// Of one session, in the hands of all who take part in it.
#[derive(Clone)]
pub(crate) struct Tap(Arc<Mutex<Dialogue>>);

/// What passes. Tells its end when the last hand lets go.
pub(crate) struct Dialogue {
    to: Vec<mpsc::Sender<TraceLine>>,
    session: u64,
    began: Instant,
    /// A reply whose line end has not come.
    partly_heard: Vec<u8>,
    secret: Secret,
    /// Lines that a slow watcher did not get.
    left_out: u64,
}

/// Whether what we say next is part of a login (RFC 4954 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    No,
    /// The server has answered AUTH with a challenge.
    Next,
}

impl Dialogue {
    /// Commands that go out.
    pub fn said(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = match std::mem::replace(&mut self.secret, Secret::No) {
                Secret::Next => "*** (login)".to_owned(),
                Secret::No => without_login(text_of(line)),
            };
            self.tell(Side::Client, text);
        }
    }

    /// Bytes that came in, wherever they are cut.
    pub fn heard(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX.saturating_sub(self.partly_heard.len());
            let kept = piece.get(..room).unwrap_or(piece);
            self.partly_heard.extend_from_slice(kept);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partly_heard);
                if line.starts_with(b"334") {
                    self.secret = Secret::Next;
                }
                self.tell(Side::Server, text_of(&line));
            }
        }
    }

    /// The message went out, in place of its bytes.
    pub fn body(&mut self, bytes: u64) {
        self.tell(Side::Client, format!("({bytes} bytes)"));
    }

    pub fn connection(&mut self, words: String) {
        self.tell(Side::Connection, words);
    }

    pub fn decision(&mut self, words: String) {
        self.tell(Side::Decision, words);
    }

    fn tell(&mut self, side: Side, text: String) {
        if self.left_out > 0 {
            let words = format!("({} lines were left out: read faster)", self.left_out);
            if self.give(Side::Connection, words) {
                self.left_out = 0;
            }
        }
        if !self.give(side, text) {
            self.left_out += 1;
        }
    }

    /// Whether everybody has it who still watches.
    fn give(&mut self, side: Side, text: String) -> bool {
        let at_ms = self.began.elapsed().as_millis();
        let line = TraceLine {
            session: self.session,
            at_ms: u64::try_from(at_ms).unwrap_or(u64::MAX),
            side,
            text,
        };
        let mut all = true;
        self.to.retain(|to| match to.try_send(line.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                all = false;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        all
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        if !self.partly_heard.is_empty() {
            let line = std::mem::take(&mut self.partly_heard);
            self.tell(Side::Server, text_of(&line));
        }
        self.tell(Side::End, "the connection is closed".to_owned());
    }
}

/// `AUTH PLAIN ...` without what stands behind the mechanism: an initial response (RFC 4954 section 4).
fn without_login(line: String) -> String {
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some(auth), Some(mechanism), Some(_)) if auth.eq_ignore_ascii_case("AUTH") => {
            format!("{auth} {mechanism} *** (login)")
        }
        (_, _, _) => line,
    }
}

/// In one line, cut, and nothing that could move a terminal's cursor.
fn text_of(line: &[u8]) -> String {
    let line = line.trim_ascii_end();
    let cut = line.get(..LINE_MAX).unwrap_or(line);
    let text = String::from_utf8_lossy(cut);
    let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(harmless).collect()
}

/// What the policy made of it, about `whom` or of what was said.
pub(crate) fn decided(whom: &str, decision: &Decision) -> String {
    let (action, category) = (decision.action, decision.category);
    format!(
        "{whom}: {action}, {category}, by rule {}",
        decision.rule.name
    )
}

/// Where there is somebody who watches.
pub(crate) trait Watched {
    fn tell(&self, words: impl FnOnce(&mut Dialogue));
}

impl Watched for Option<Tap> {
    fn tell(&self, words: impl FnOnce(&mut Dialogue)) {
        if let Some(Tap(dialogue)) = self {
            // Nothing panics while it is held.
            words(&mut dialogue.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Shared by all sessions.
pub type SharedWatchers = Arc<Watchers>;

#[cfg(test)]
mod tests {
    use super::*;
    use relay_smtp::Domain;

    fn hop(domain: &str) -> NextHop {
        NextHop::Domain(Domain::parse(domain).unwrap())
    }

    fn lines(from: &mut mpsc::Receiver<TraceLine>) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = from.try_recv() {
            let side = match line.side {
                Side::Client => "C",
                Side::Server => "S",
                Side::Connection => "*",
                Side::Decision => "=",
                Side::End => ".",
            };
            lines.push(format!("{} {side}: {}", line.session, line.text));
        }
        lines
    }

    #[tokio::test]
    async fn a_dialogue_is_told_without_logins_and_without_the_message() {
        let watchers = Watchers::default();
        let mut heard = watchers.watch("R.example", 1);
        let tap = watchers.tap(&hop("r.example"), "mx.r.example");
        tap.tell(|tap| tap.heard(b"220 mx re"));
        tap.tell(|tap| tap.heard(b"ady\r\n"));
        tap.tell(|tap| tap.said(b"EHLO us\r\n"));
        tap.tell(|tap| tap.heard(b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n"));
        tap.tell(|tap| tap.said(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n"));
        tap.tell(|tap| tap.heard(b"535 no\r\n"));
        tap.tell(|tap| tap.said(b"AUTH LOGIN\r\n"));
        for secret in [&b"YXBw\r\n"[..], b"c2VjcmV0\r\n"] {
            tap.tell(|tap| tap.heard(b"334 VXNlcm5hbWU6\r\n"));
            tap.tell(|tap| tap.said(secret));
        }
        tap.tell(|tap| tap.heard(b"235 ok\r\n"));
        tap.tell(|tap| tap.said(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"));
        tap.tell(|tap| tap.body(1234));
        tap.tell(|tap| tap.heard(b"250 tak\x1b[2Jen\r\n421 b"));
        drop(tap);
        let told = lines(&mut heard);
        let wanted = "1 S: 220 mx ready\n1 C: EHLO us\n1 S: 250-mx\n1 S: 250 AUTH PLAIN LOGIN\n\
            1 C: AUTH PLAIN *** (login)\n1 S: 535 no\n1 C: AUTH LOGIN\n1 S: 334 VXNlcm5hbWU6\n\
            1 C: *** (login)\n1 S: 334 VXNlcm5hbWU6\n1 C: *** (login)\n1 S: 235 ok\n\
            1 C: MAIL FROM:<a@b>\n1 C: RCPT TO:<c@d>\n1 C: DATA\n1 C: (1234 bytes)\n\
            1 S: 250 tak\u{fffd}[2Jen\n1 S: 421 b\n1 .: the connection is closed";
        assert_eq!(told.join("\n"), wanted);
        assert!(heard.recv().await.is_none());
    }

    #[test]
    fn only_the_sessions_that_were_asked_for_are_told_and_only_so_many() {
        let watchers = Watchers::default();
        assert!(watchers.tap(&hop("r.example"), "mx1.r.example").is_none());
        for of in ["r.example", "mx1.r.example", "mx1.r.example,mx2.r.example"] {
            let mut heard = watchers.watch(of, 2);
            assert!(watchers.tap(&hop("other.example"), "mx.other").is_none());
            let first = watchers.tap(&hop("r.example"), "mx1.r.example");
            let second = watchers.tap(&hop("r.example"), "mx1.r.example");
            assert!(first.is_some() && second.is_some(), "{of}");
            assert!(watchers.tap(&hop("r.example"), "mx1.r.example").is_none());
            drop((first, second));
            assert_eq!(lines(&mut heard).len(), 2, "{of}");
        }
        let _heard = watchers.watch("192.0.2.1", 1);
        let relay = NextHop::Relay("smtp.test:25".into());
        assert!(watchers.tap(&relay, "[192.0.2.1]").is_some());
        // One who has gone is forgotten at the next session.
        drop(watchers.watch("r.example", 1));
        assert!(watchers.tap(&hop("r.example"), "mx").is_none());
        assert_eq!(watchers.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_slow_watcher_misses_lines_and_is_told_so() {
        let watchers = Watchers::default();
        let mut heard = watchers.watch("r.example", 1);
        let tap = watchers.tap(&hop("r.example"), "mx");
        for _ in 0..LINES_WAITING + 10 {
            tap.tell(|tap| tap.said(b"NOOP\r\n"));
        }
        assert_eq!(lines(&mut heard).len(), LINES_WAITING);
        tap.tell(|tap| tap.said(b"QUIT\r\n"));
        assert_eq!(
            lines(&mut heard),
            ["1 *: (10 lines were left out: read faster)", "1 C: QUIT"]
        );
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let watchers = Watchers::default();
        let mut heard = watchers.watch("r.example", 1);
        let tap = watchers.tap(&hop("r.example"), "mx");
        for _ in 0..100 {
            tap.tell(|tap| tap.heard(&[b'x'; 4096]));
        }
        tap.tell(|tap| tap.heard(b"\r\n"));
        assert_eq!(lines(&mut heard)[0].len(), LINE_MAX + "1 S: ".len());
    }
}
