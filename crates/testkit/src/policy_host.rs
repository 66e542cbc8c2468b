//! A web server on loopback that hands out an MTA-STS policy over HTTPS, and takes what is posted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::identity::Identity;
use crate::wait::PATIENCE;

/// One request with a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Its media type.
    pub kind: String,
    pub body: Vec<u8>,
}

/// The running server. Stops when dropped.
#[derive(Debug)]
pub struct PolicyHost {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    tls: Arc<ServerConfig>,
    /// The whole answer: status line, header, body.
    answer: Mutex<String>,
    /// Request line and host of each request.
    asked: Mutex<Vec<String>>,
    posted: Mutex<Vec<Posted>>,
    stop: AtomicBool,
}

impl PolicyHost {
    /// Answers every request with this policy.
    pub fn start(address: SocketAddr, identity: &Identity, policy: &str) -> PolicyHost {
        let listener = TcpListener::bind(address).expect("the policy host's address is free");
        listener.set_nonblocking(true).expect("a listener can poll");
        let shared = Arc::new(Shared {
            tls: identity.config.clone(),
            answer: Mutex::new(answer(policy)),
            asked: Mutex::default(),
            posted: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let inside = shared.clone();
        let thread = std::thread::spawn(move || {
            while !inside.stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // One after the other is enough.
                    Ok((stream, _)) => drop(serve(stream, &inside)),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        PolicyHost {
            shared,
            thread: Some(thread),
        }
    }

    /// From now on this answer, as it goes over the wire.
    pub fn answer_with(&self, answer: &str) {
        *self.shared.answer.lock().expect("no request panicked") = answer.replace('\n', "\r\n");
    }

    /// `GET PATH HOST` of each request so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared
            .asked
            .lock()
            .expect("no request panicked")
            .clone()
    }

    /// What was posted so far.
    pub fn posted(&self) -> Vec<Posted> {
        let posted = self.shared.posted.lock();
        posted.expect("no request panicked").clone()
    }
}

impl Drop for PolicyHost {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(policy: &str) -> String {
    let policy = policy.replace('\n', "\r\n");
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{policy}",
        policy.len()
    )
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(shared.tls.clone()).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut asked = String::new();
    let mut posted = Posted::default();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (first, rest) = line.trim().split_once(' ').unwrap_or_default();
        match first.to_ascii_lowercase().as_str() {
            "get" => asked = format!("GET {}", rest.split(' ').next().unwrap_or_default()),
            "post" => asked = format!("POST {}", rest.split(' ').next().unwrap_or_default()),
            "content-type:" => posted.kind = rest.to_owned(),
            "content-length:" => length = rest.parse().unwrap_or_default(),
            "host:" => asked = format!("{asked} {rest}"),
            _ => {}
        }
    }
    if asked.starts_with("POST") {
        posted.body = vec![0; length];
        reader.read_exact(&mut posted.body)?;
        let mut all = shared.posted.lock().expect("no request panicked");
        all.push(posted);
    }
    shared
        .asked
        .lock()
        .expect("no request panicked")
        .push(asked);
    let answer = shared.answer.lock().expect("no request panicked").clone();
    let stream = reader.get_mut();
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}
