//! A scripted MX: a receiving server that says what the script tells it to, remembers every line
//! and every message, and complains loudly about a command it did not expect.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::identity::Identity;
use crate::wait::PATIENCE;

/// A message that this MX took over with a 250.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// What the client called itself in EHLO or HELO.
    pub hello: String,
    pub from: String,
    pub to: Vec<String>,
    /// Dots unstuffed, CRLF line ends.
    pub data: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Where the client connected from.
    pub client: IpAddr,
    /// Which session brought it, counted from 1.
    pub session: usize,
}

/// The running server. Stops when dropped.
#[derive(Debug)]
pub struct Mx {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    /// How many scripts there have been: those who are on hold look at the next one.
    scripts: AtomicUsize,
    tls: Option<Arc<ServerConfig>>,
    stop: AtomicBool,
    sessions: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    log: Mutex<Vec<String>>,
    /// Commands with the address they came from.
    said: Mutex<Vec<(String, IpAddr)>>,
    mail: Mutex<Vec<Mail>>,
}

/// One line of a script.
#[derive(Debug)]
struct Rule {
    /// What the command begins with, upper case; `CONNECT`, `.` and `BODY` are the moments without one.
    when: String,
    /// Only for clients that connect from there.
    from: Option<IpAddr>,
    holds: Holds,
    then: Then,
}

/// How often a rule holds.
#[derive(Debug)]
enum Holds {
    Always,
    /// So many times more.
    Left(u32),
    /// Once for each different line; these it has answered.
    OnceEach(HashSet<String>),
    /// While more sessions than these are open.
    Above(usize),
}

impl Holds {
    fn take(&mut self, moment: &str, open: usize) -> bool {
        match self {
            Holds::Always => true,
            Holds::Left(0) => false,
            Holds::Left(left) => {
                *left -= 1;
                true
            }
            Holds::OnceEach(answered) => answered.insert(moment.to_owned()),
            Holds::Above(most) => open > *most,
        }
    }
}

#[derive(Clone, Debug)]
enum Then {
    Say(String),
    SayAndClose(String),
    /// Reads on and answers nothing more.
    SayAndStall(String),
    Close,
    /// Nothing, until there is another script, which then decides.
    Hold,
}

impl Mx {
    /// The script has one rule a line, the first that fits counts:
    /// `RCPT TO:<b@ => 550 5.1.1 No such user`, `first 1 RCPT => 451 4.7.1 come back in 1 seconds`,
    /// `once each RCPT => 450 4.2.0 later` (greylisting: the first time that this very line comes),
    /// `from 127.0.0.9 RCPT => 550 No` (clients there only), `above 2 CONNECT => 421 too many & close`
    /// (while more sessions than two are open),
    /// `STARTTLS => 220 go & stall` (not a word more in this session),
    /// `CONNECT => 554 No`, `first 1 . => 421 4.3.2 busy & close`, `BODY => close` (while the body
    /// comes in), `MAIL => hold` (says nothing until [`Mx::rescript`]), `EHLO => 502 what?`. `\n` in a reply makes several lines. Whatever no rule speaks of is accepted.
    pub fn start(address: SocketAddr, script: &str) -> Mx {
        Mx::launch(address, script, None)
    }

    /// Offers STARTTLS too.
    pub fn start_with_tls(address: SocketAddr, script: &str) -> Mx {
        Mx::start_as(address, script, &Identity::self_signed("mx.test"))
    }

    /// Offers STARTTLS with this certificate.
    pub fn start_as(address: SocketAddr, script: &str, identity: &Identity) -> Mx {
        Mx::launch(address, script, Some(identity.config.clone()))
    }

    fn launch(address: SocketAddr, script: &str, tls: Option<Arc<ServerConfig>>) -> Mx {
        let listener = TcpListener::bind(address).expect("the MX's address is free");
        listener.set_nonblocking(true).expect("a listener can poll");
        let shared = Arc::new(Shared {
            rules: Mutex::new(parse(script)),
            scripts: AtomicUsize::new(1),
            tls,
            stop: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            log: Mutex::default(),
            said: Mutex::default(),
            mail: Mutex::default(),
        });
        let inside = shared.clone();
        let thread = std::thread::spawn(move || accept(&listener, &inside));
        Mx {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Commands that begin so, and from where each came.
    pub fn clients_of(&self, begin: &str) -> Vec<(String, IpAddr)> {
        let said = self.shared.said.lock().expect("no session panicked");
        let fits = |(line, _): &&(String, IpAddr)| line.starts_with(begin);
        said.iter().filter(fits).cloned().collect()
    }

    /// Every message taken so far.
    pub fn mail(&self) -> Vec<Mail> {
        self.shared
            .mail
            .lock()
            .expect("no session panicked")
            .clone()
    }

    /// Every recipient of every message taken so far, sorted.
    pub fn recipients(&self) -> Vec<String> {
        let mut all: Vec<String> = self.mail().into_iter().flat_map(|mail| mail.to).collect();
        all.sort();
        all
    }

    /// Every line, as `1 C: EHLO ...`, `1 S: 250 ...`: session number, side, text.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().expect("no session panicked").clone()
    }

    /// Sessions so far.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// The most sessions that were open at once.
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::Relaxed)
    }

    /// Sessions that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// From now on this script.
    pub fn rescript(&self, script: &str) {
        let mut rules = self.shared.rules.lock().expect("no session panicked");
        *rules = parse(script);
        self.shared.scripts.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Mx {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn parse(script: &str) -> Vec<Rule> {
    let lines = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (when, then) = line
                .split_once(" => ")
                .unwrap_or_else(|| panic!("no ` => ` in: {line}"));
            let (from, when) = match when.strip_prefix("from ").and_then(|w| w.split_once(' ')) {
                Some((from, rest)) => (Some(from.parse().expect("`from` has an address")), rest),
                None => (None, when),
            };
            let (holds, when) = how_often(when);
            let then = match then.rsplit_once(" & ") {
                _ if then == "close" => Then::Close,
                _ if then == "hold" => Then::Hold,
                Some((reply, "close")) => Then::SayAndClose(reply.trim().to_owned()),
                Some((reply, "stall")) => Then::SayAndStall(reply.trim().to_owned()),
                Some(_) | None => Then::Say(then.to_owned()),
            };
            Rule {
                when: when.to_ascii_uppercase(),
                from,
                holds,
                then,
            }
        })
        .collect()
}

/// Takes `first N ` or `once each ` off the front.
fn how_often(when: &str) -> (Holds, &str) {
    if let Some(rest) = when.strip_prefix("once each ") {
        return (Holds::OnceEach(HashSet::new()), rest);
    }
    if let Some((most, rest)) = when.strip_prefix("above ").and_then(|w| w.split_once(' ')) {
        return (
            Holds::Above(most.parse().expect("`above N` has a number")),
            rest,
        );
    }
    match when
        .strip_prefix("first ")
        .and_then(|rest| rest.split_once(' '))
    {
        Some((count, rest)) => (
            Holds::Left(count.parse().expect("`first N` has a number")),
            rest,
        ),
        None => (Holds::Always, when),
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((stream, client)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let number = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let open = shared.open.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_open.fetch_max(open, Ordering::Relaxed);
        let shared = shared.clone();
        std::thread::spawn(move || {
            let mut session = Session {
                number,
                client: client.ip(),
                shared: &shared,
                tls: false,
                hello: String::new(),
                from: String::new(),
                to: Vec::new(),
            };
            session.run(Box::new(stream));
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

struct Session<'a> {
    number: usize,
    client: IpAddr,
    shared: &'a Shared,
    tls: bool,
    hello: String,
    from: String,
    to: Vec<String>,
}

/// Whether the session goes on.
enum Flow {
    On,
    Over,
    StartTls,
}

impl Session<'_> {
    fn run(&mut self, stream: Box<TcpStream>) {
        let raw = stream.try_clone();
        let mut wire: BufReader<Box<dyn Wire>> = BufReader::new(stream);
        if let Flow::Over = self.answer(&mut wire, "CONNECT", "220 mx.test ESMTP") {
            return;
        }
        while let Some(line) = read_line(&mut wire) {
            self.note("C", &line);
            let mut said = self.shared.said.lock().expect("no session panicked");
            said.push((line.clone(), self.client));
            drop(said);
            match self.command(&mut wire, &line) {
                Flow::On => {}
                Flow::Over => return,
                Flow::StartTls => {
                    let (Some(tls), Ok(raw)) = (&self.shared.tls, &raw) else {
                        return;
                    };
                    let (Ok(mut connection), Ok(mut raw)) =
                        (ServerConnection::new(tls.clone()), raw.try_clone())
                    else {
                        return;
                    };
                    while connection.is_handshaking() {
                        if let Err(error) = connection.complete_io(&mut raw) {
                            self.note("TLS", &format!("failed: {error}"));
                            return;
                        }
                    }
                    self.note("TLS", connection.server_name().unwrap_or("no name"));
                    self.tls = true;
                    wire = BufReader::new(Box::new(StreamOwned::new(connection, raw)));
                }
            }
        }
    }

    fn command(&mut self, wire: &mut BufReader<Box<dyn Wire>>, line: &str) -> Flow {
        let verb = line
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        if matches!(verb.as_str(), "EHLO" | "HELO") {
            self.hello = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        match verb.as_str() {
            "EHLO" => {
                let starttls = if self.shared.tls.is_some() && !self.tls {
                    "\nSTARTTLS"
                } else {
                    ""
                };
                let offer = format!(
                    "250 mx.test\nPIPELINING\nSIZE 52428800\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES{starttls}"
                );
                self.answer(wire, line, &offer)
            }
            "HELO" => self.answer(wire, line, "250 mx.test"),
            "STARTTLS" if self.shared.tls.is_some() => {
                match self.answer(wire, line, "220 2.0.0 go ahead") {
                    Flow::On => Flow::StartTls,
                    over => over,
                }
            }
            "MAIL" => {
                self.from = path(line);
                self.to.clear();
                self.answer(wire, line, "250 2.1.0 sender ok")
            }
            "RCPT" => self.rcpt(wire, line),
            "DATA" if self.to.is_empty() => {
                self.answer(wire, line, "554 5.5.1 no valid recipients")
            }
            "DATA" => self.data(wire, line),
            "RSET" => {
                self.to.clear();
                self.answer(wire, line, "250 2.0.0 reset")
            }
            "QUIT" => {
                self.answer(wire, line, "221 2.0.0 bye");
                Flow::Over
            }
            _ => match self.then(line) {
                Some(then) => self.act(wire, then),
                None => {
                    self.note("!", &format!("unexpected command: {line}"));
                    self.act(wire, Then::Say("502 5.5.1 not in this script".to_owned()))
                }
            },
        }
    }

    fn rcpt(&mut self, wire: &mut BufReader<Box<dyn Wire>>, line: &str) -> Flow {
        let then = self
            .then(line)
            .unwrap_or(Then::Say("250 2.1.5 recipient ok".to_owned()));
        if let Then::Say(reply) = &then
            && reply.starts_with('2')
        {
            self.to.push(path(line));
        }
        self.act(wire, then)
    }

    fn data(&mut self, wire: &mut BufReader<Box<dyn Wire>>, line: &str) -> Flow {
        match self.then(line) {
            Some(then @ Then::Say(_)) if !matches!(&then, Then::Say(reply) if reply.starts_with('3')) =>
            {
                return self.act(wire, then);
            }
            Some(then @ (Then::Close | Then::SayAndClose(_) | Then::SayAndStall(_))) => {
                return self.act(wire, then);
            }
            Some(Then::Say(_) | Then::Hold) | None => {}
        }
        self.act(wire, Then::Say("354 go on".to_owned()));
        if let Some(then) = self.then("BODY") {
            let mut some = [0u8; 64];
            let _ = wire.read(&mut some);
            return self.act(wire, then);
        }
        let mut data = String::new();
        loop {
            let Some(line) = read_line(wire) else {
                return Flow::Over;
            };
            if line == "." {
                break;
            }
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
            data.push_str("\r\n");
        }
        self.note("C", ".");
        let then = self
            .then(".")
            .unwrap_or(Then::Say("250 2.0.0 taken".to_owned()));
        if let Then::Say(reply) = &then
            && reply.starts_with('2')
        {
            let mail = Mail {
                hello: self.hello.clone(),
                from: self.from.clone(),
                to: std::mem::take(&mut self.to),
                data,
                tls: self.tls,
                client: self.client,
                session: self.number,
            };
            self.shared
                .mail
                .lock()
                .expect("no session panicked")
                .push(mail);
        }
        self.act(wire, then)
    }

    /// What the script says at this moment, or the next one after a hold.
    fn then(&self, moment: &str) -> Option<Then> {
        loop {
            let script = self.shared.scripts.load(Ordering::Acquire);
            match self.looked_up(moment) {
                Some(Then::Hold) => {}
                then => return then,
            }
            while self.shared.scripts.load(Ordering::Acquire) == script {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return Some(Then::Close);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    fn looked_up(&self, moment: &str) -> Option<Then> {
        let moment = moment.to_ascii_uppercase();
        let mut rules = self.shared.rules.lock().expect("no session panicked");
        let open = self.shared.open.load(Ordering::Relaxed);
        let from = |rule: &&mut Rule| rule.from.is_none_or(|from| from == self.client);
        let fitting = rules.iter_mut().filter(from);
        let fitting = fitting.filter(|rule| match rule.when.as_str() {
            "." => moment == ".",
            when => moment.starts_with(when),
        });
        for rule in fitting {
            if rule.holds.take(&moment, open) {
                return Some(rule.then.clone());
            }
        }
        None
    }

    fn answer(
        &mut self,
        wire: &mut BufReader<Box<dyn Wire>>,
        moment: &str,
        otherwise: &str,
    ) -> Flow {
        let then = self
            .then(moment)
            .unwrap_or_else(|| Then::Say(otherwise.to_owned()));
        self.act(wire, then)
    }

    fn act(&mut self, wire: &mut BufReader<Box<dyn Wire>>, then: Then) -> Flow {
        match then {
            Then::Close | Then::Hold => Flow::Over,
            Then::Say(reply) => match self.say(wire, &reply) {
                Ok(()) => Flow::On,
                Err(_) => Flow::Over,
            },
            Then::SayAndClose(reply) => {
                let _ = self.say(wire, &reply);
                Flow::Over
            }
            Then::SayAndStall(reply) => {
                let _ = self.say(wire, &reply);
                let _ = std::io::copy(wire, &mut std::io::sink());
                Flow::Over
            }
        }
    }

    /// `250 a\nb` becomes `250-a` and `250 b`.
    fn say(&self, wire: &mut BufReader<Box<dyn Wire>>, reply: &str) -> std::io::Result<()> {
        self.note("S", reply);
        let reply = reply.replace("\\n", "\n");
        let (code, text) = reply.split_at(reply.len().min(3));
        let lines: Vec<&str> = text.split('\n').collect();
        let mut bytes = String::new();
        for (place, line) in lines.iter().enumerate() {
            let mark = if place + 1 < lines.len() { '-' } else { ' ' };
            let line = line.strip_prefix([' ', '-']).unwrap_or(line);
            bytes.push_str(&format!("{code}{mark}{line}\r\n"));
        }
        wire.get_mut().write_all(bytes.as_bytes())?;
        wire.get_mut().flush()
    }

    fn note(&self, side: &str, text: &str) {
        let mut log = self.shared.log.lock().expect("no session panicked");
        log.push(format!("{} {side}: {text}", self.number));
    }
}

fn read_line(wire: &mut BufReader<Box<dyn Wire>>) -> Option<String> {
    let mut line = Vec::new();
    match wire.read_until(b'\n', &mut line) {
        Err(_) => None,
        // A line that was cut off, too: a dot without its CRLF ends no body.
        Ok(_) if line.last() != Some(&b'\n') => None,
        Ok(_) => {
            while line
                .last()
                .is_some_and(|byte| matches!(byte, b'\r' | b'\n'))
            {
                line.pop();
            }
            Some(String::from_utf8_lossy(&line).into_owned())
        }
    }
}

/// What stands between < and >.
fn path(line: &str) -> String {
    let start = line.find('<').map_or(line.len(), |at| at + 1);
    let end = line[start..].find('>').map_or(line.len(), |at| start + at);
    line[start..end].to_owned()
}
