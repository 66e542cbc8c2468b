//! Hosts that misbehave: plays the scripts of tests/transcripts/hostile, each against a whole session.
//!
//! A case is `== what it does`, its script, and what must come of it. `S:` is a line of the host, `B:` bytes
//! without a line end (`\r \n \0 \xHH`), `D:` a line in single bytes, `C:` how our next line must begin (`[body]`:
//! a message to its dot, `[part]`: a little of one, `[chunk]`: what the last BDAT said). `X:` is an act: `close`, `reset`, `stay`, `wait SECONDS`, `endless TEXT` (lines),
//! `flood TEXT` (no line end), `drip TEXT` (a byte a minute, for ever), `lines N TEXT`. `--` begins the script of the
//! next connection; the last one is for all that follow. `! large` is a message of 600 KB, `! to NAME NAME` are other recipients.
//!
//! `= STATE.. PHASE RULE` is what must come of it where all hosts are like this, `= then STATE..` where the next one is well,
//! `= within SECONDS` how much time the first may take, `= words TEXT` what the operator must be able to read.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use relay_queue::State;
use relay_smtp::QueueId;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream, DuplexStream,
    ReadBuf,
};

use super::large;
use super::scene::{Heard, Scene, Script};
use crate::dial::Stream;

/// Fewer would mean that files were not found.
const CASES_MIN: usize = 115;

#[tokio::test(start_paused = true)]
async fn hosts_that_misbehave_cost_their_time_and_no_mail() {
    let cases = cases();
    assert!(cases.len() >= CASES_MIN, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        for what in case.run().await {
            wrong.push(format!("{}: {}: {what}", case.file, case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// One misbehaviour.
#[derive(Default)]
struct Case {
    file: String,
    name: String,
    /// By connection.
    scripts: Vec<String>,
    recipients: Vec<String>,
    body: Option<String>,
    /// `deferred banner not-smtp`.
    alone: String,
    /// `delivered`.
    then: String,
    within: i64,
    words: Option<String>,
}

fn cases() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/hostile");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        for part in text.split("== ").skip(1) {
            cases.push(Case::parse(&name, part));
        }
    }
    cases
}

impl Case {
    fn parse(file: &str, text: &str) -> Case {
        let (name, lines) = text.split_once('\n').unwrap();
        let mut case = Case {
            file: file.to_owned(),
            name: name.to_owned(),
            scripts: vec![String::new()],
            recipients: vec!["b@r.example".to_owned()],
            ..Case::default()
        };
        for line in lines.lines().filter(|line| !line.is_empty()) {
            match line.split_once(' ') {
                None if line == "--" => case.scripts.push(String::new()),
                Some(("!", "large")) => case.body = Some(large()),
                Some(("!", option)) => {
                    let names = option.strip_prefix("to ").expect("an option that is known");
                    let address = |name: &str| format!("{name}@r.example");
                    case.recipients = names.split(' ').map(address).collect();
                }
                Some(("=", wanted)) => case.want(wanted),
                _ => {
                    let script = case.scripts.last_mut().unwrap();
                    *script += line;
                    *script += "\n";
                }
            }
        }
        assert!(case.within > 0 && !case.alone.is_empty() && !case.then.is_empty());
        case
    }

    fn want(&mut self, wanted: &str) {
        match wanted.split_once(' ') {
            Some(("then", states)) => self.then = states.to_owned(),
            Some(("within", seconds)) => self.within = seconds.parse().unwrap(),
            Some(("words", words)) => self.words = Some(words.to_owned()),
            _ => self.alone = wanted.to_owned(),
        }
    }

    async fn run(&self) -> Vec<String> {
        let mut wrong = self.run_alone().await;
        wrong.extend(self.run_beside_a_good_host().await);
        wrong
    }

    /// Where every host is like this: the decision, its time, and that relayd is as well as before.
    async fn run_alone(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut scene = Scene::new(self.connections());
        let before = scene.world.clock.now();
        let id = self.send(&mut scene).await;
        let took = scene.world.clock.now().duration_since(before).as_secs();
        if took > self.within {
            wrong.push(format!("took {took} s, wanted within {}", self.within));
        }
        let states = scene.states(id).await;
        let last = scene.last_attempt(id).await;
        let came = format!("{} {} {}", words_of(&states), last.phase, last.rule);
        if came != self.alone {
            wrong.push(format!(
                "wanted {}, came {came}: {}",
                self.alone, last.reply
            ));
        }
        if let Some(words) = &self.words
            && !last.reply.contains(words)
        {
            wrong.push(format!("wanted {words:?} in {:?}", last.reply));
        }
        if last.reply.chars().any(char::is_control) {
            wrong.push(format!("control characters: {:?}", last.reply));
        }
        let told = usize::from(states.contains(&State::Bounced));
        if scene.accepted.len() != told {
            wrong.push(format!("{} reports, wanted {told}", scene.accepted.len()));
        }
        wrong.extend(scene.net.wrong());
        wrong.extend(still_well(&mut scene).await);
        wrong
    }

    /// Where the next connection meets a good host: the message is not lost to this one.
    async fn run_beside_a_good_host(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut scripts = vec![Script::Hostile(self.scripts[0].clone())];
        scripts.extend((0..9).map(|_| Script::Good));
        let mut scene = Scene::new(scripts);
        let id = self.send(&mut scene).await;
        let came = words_of(&scene.states(id).await);
        if came != self.then {
            wrong.push(format!(
                "beside a good host: wanted {}, came {came}",
                self.then
            ));
        }
        wrong
    }

    fn connections(&self) -> Vec<Script> {
        let last = self.scripts.last().cloned().unwrap_or_default();
        let scripts = self.scripts.iter().cloned();
        let all = scripts.chain(std::iter::repeat(last));
        all.take(9).map(Script::Hostile).collect()
    }

    async fn send(&self, scene: &mut Scene) -> QueueId {
        let recipients: Vec<&str> = self.recipients.iter().map(String::as_str).collect();
        let id = match &self.body {
            Some(body) => scene.accept_body(&recipients, body.clone()).await,
            None => scene.accept(&recipients).await,
        };
        scene.work(id).await;
        id
    }
}

/// The next message, to hosts that are well, is delivered, by the session that is open or by another.
async fn still_well(scene: &mut Scene) -> Option<String> {
    // Time for an idle session to be heard.
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.net.expect((0..9).map(|_| Script::Good).collect());
    let id = scene.accept(&["next@r.example"]).await;
    scene.work(id).await;
    let states = scene.states(id).await;
    (states != [State::Delivered]).then(|| format!("the next message: {}", words_of(&states)))
}

fn words_of(states: &[State]) -> String {
    let words: Vec<String> = states
        .iter()
        .map(|state| format!("{state:?}").to_lowercase())
        .collect();
    words.join(" ")
}

/// A host that takes everything.
pub(super) async fn take_all(stream: DuplexStream, heard: &Mutex<Heard>) -> Option<()> {
    let mut stream = BufStream::new(stream);
    let mut reply = "220 good\r\n";
    loop {
        stream.write_all(reply.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        let mut line = String::new();
        stream
            .read_line(&mut line)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        reply = match line.get(..4)? {
            "EHLO" => "250-good\r\n250 PIPELINING\r\n",
            "DATA" => {
                stream.write_all(b"354 go\r\n").await.ok()?;
                stream.flush().await.ok()?;
                let body = message(&mut stream).await?;
                heard.lock().unwrap().bodies.push(body);
                "250 2.0.0 taken\r\n"
            }
            _ => "250 ok\r\n",
        };
    }
}

/// A message to its final dot.
async fn message<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>) -> Option<String> {
    let mut body = String::new();
    while !body.ends_with("\r\n.\r\n") {
        let read = stream.read_line(&mut body).await;
        read.ok().filter(|count| *count > 0)?;
    }
    Some(body)
}

/// Our end of a connection to a host that plays `script`.
pub(super) fn stream(
    ours: DuplexStream,
    theirs: DuplexStream,
    script: String,
    heard: Arc<Mutex<Heard>>,
) -> Box<dyn Stream> {
    let reset = Arc::new(AtomicBool::new(false));
    let stream = Resettable {
        inner: ours,
        reset: Arc::clone(&reset),
    };
    tokio::spawn(async move {
        let mut host = Host {
            stream: BufStream::new(theirs),
            reset,
            heard,
            chunk: 0,
        };
        for line in script.lines() {
            if host.play(line).await.is_none() {
                break;
            }
        }
    });
    Box::new(stream)
}

/// A host that plays a script.
struct Host {
    stream: BufStream<DuplexStream>,
    reset: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    /// The size that the last BDAT gave.
    chunk: usize,
}

impl Host {
    /// None: it is over.
    async fn play(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "S:" => self.write(&[&unescape(rest)[..], b"\r\n"].concat()).await,
            "B:" => self.write(&unescape(rest)).await,
            "D:" => {
                for byte in unescape(rest).iter().chain(b"\r\n") {
                    self.write(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
                Some(())
            }
            "C:" => self.hear(rest).await,
            "X:" => self.act(rest).await,
            other => panic!("{other:?} in a script"),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()?;
        self.stream.flush().await.ok()
    }

    async fn hear(&mut self, wanted: &str) -> Option<()> {
        let mut said = String::new();
        match wanted {
            "[body]" => {
                let body = message(&mut self.stream).await?;
                self.heard.lock().unwrap().bodies.push(body);
            }
            "[chunk]" => {
                let mut chunk = vec![0; self.chunk];
                self.stream.read_exact(&mut chunk).await.ok()?;
            }
            "[part]" => {
                let mut part = [0; 10];
                self.stream.read_exact(&mut part).await.ok()?;
            }
            _ => {
                self.stream.read_line(&mut said).await.ok()?;
                if !said.starts_with(wanted) {
                    let wrong = format!("wanted {wanted:?}, heard {said:?}");
                    self.heard.lock().unwrap().wrong.push(wrong);
                    return None;
                }
                if let Some(size) = said.strip_prefix("BDAT ") {
                    let size = size.split_whitespace().next().unwrap_or_default();
                    self.chunk = size.parse().expect("BDAT says a size");
                }
            }
        }
        Some(())
    }

    async fn act(&mut self, act: &str) -> Option<()> {
        let (verb, rest) = act.split_once(' ').unwrap_or((act, ""));
        match verb {
            "close" => None,
            "reset" => {
                self.reset.store(true, Ordering::SeqCst);
                None
            }
            "stay" => std::future::pending().await,
            "wait" => {
                let seconds = rest.parse().expect("seconds");
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Some(())
            }
            "endless" => loop {
                self.write(&[rest.as_bytes(), b"\r\n"].concat()).await?;
            },
            "flood" => loop {
                self.write(rest.as_bytes()).await?;
            },
            "drip" => loop {
                for byte in rest.as_bytes() {
                    self.write(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
            },
            "lines" => {
                let (count, text) = rest.split_once(' ').expect("a number and a text");
                let line = format!("{text}\r\n");
                let count = count.parse().expect("a number");
                self.write(line.repeat(count).as_bytes()).await
            }
            other => panic!("{other:?} is no act"),
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = match escape.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b'0' => (0, 1),
            b'x' => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
            other => panic!("escape {other}"),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A stream whose end may be a reset.
struct Resettable {
    inner: DuplexStream,
    reset: Arc<AtomicBool>,
}

impl Resettable {
    fn was_reset(&self) -> bool {
        self.reset.load(Ordering::SeqCst)
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        match read {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && self.was_reset() => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(context, bytes) {
            Poll::Ready(Err(_)) if self.was_reset() => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
