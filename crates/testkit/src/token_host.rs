//! A token endpoint on loopback (RFC 6749), in clear: says what it is told to, one answer a request.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait::PATIENCE;

/// The running server. Stops when dropped.
#[derive(Debug)]
pub struct TokenHost {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Status and body; the last one is repeated.
    answers: Mutex<VecDeque<(u16, String)>>,
    /// The forms that have come.
    asked: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl TokenHost {
    /// `answers`: status and body, at least one.
    pub fn start(answers: &[(u16, &str)]) -> TokenHost {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener can poll");
        let address = listener.local_addr().expect("it is bound");
        let own = |(status, body): &(u16, &str)| (*status, (*body).to_owned());
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers.iter().map(own).collect()),
            asked: Mutex::default(),
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
        TokenHost {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// The forms that have come so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared
            .asked
            .lock()
            .expect("no request panicked")
            .clone()
    }
}

impl Drop for TokenHost {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    let form = String::from_utf8_lossy(&form).into_owned();
    shared.asked.lock().expect("no request panicked").push(form);
    let (status, body) = {
        let mut answers = shared.answers.lock().expect("no request panicked");
        match answers.len() {
            1 => answers.front().cloned(),
            _ => answers.pop_front(),
        }
        .expect("at least one answer")
    };
    let stream = reader.get_mut();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    stream.flush()
}
