//! A small HTTP client over relayd's unix socket: one connection a request.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use relay_admin::view::ErrorView;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::find;
use crate::outcome::Trouble;

/// A summary of a million messages takes seconds; longer than this is no answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

pub struct Client {
    candidates: Vec<PathBuf>,
}

/// The pairs of a query.
pub type Pairs = Vec<(&'static str, String)>;

impl Client {
    pub fn new(named: Option<PathBuf>) -> Client {
        Client {
            candidates: find::candidates(named),
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, pairs: &Pairs) -> Result<T, Trouble> {
        let target = target(path, pairs);
        self.ask(Method::GET, target, "application/json", Bytes::new())
            .await
    }

    /// An answer that is no JSON.
    pub async fn get_text(&self, path: &str) -> Result<String, Trouble> {
        let target = target(path, &Pairs::new());
        let (status, body) = self
            .exchange(Method::GET, target, "text/plain", Bytes::new())
            .await?;
        match status.is_success() {
            true => Ok(String::from_utf8_lossy(&body).into_owned()),
            false => Err(refusal(status, &body)),
        }
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        command: &impl Serialize,
    ) -> Result<T, Trouble> {
        let body = serde_json::to_vec(command)
            .map_err(|error| Trouble::NotWell(format!("the command cannot be said: {error}")))?;
        let target = target(path, &Pairs::new());
        self.ask(Method::POST, target, "application/json", body.into())
            .await
    }

    /// An answer in lines, read while they come.
    pub async fn lines(&self, path: &str, command: &impl Serialize) -> Result<Lines, Trouble> {
        let body = serde_json::to_vec(command)
            .map_err(|error| Trouble::NotWell(format!("the command cannot be said: {error}")))?;
        let target = target(path, &Pairs::new());
        let stream = self.connect().await?;
        let body = Full::new(Bytes::from(body));
        let asked = ask(stream, Method::POST, target, "application/json", body);
        let answer = in_time(asked).await??;
        let (status, mut lines) = (answer.status(), Lines::of(answer.into_body()));
        match status.is_success() {
            true => Ok(lines),
            false => Err(refusal(status, &lines.next().await?.unwrap_or_default())),
        }
    }

    /// Hands over lines one after the other.
    pub async fn upload(&self, path: &str) -> Result<Upload, Trouble> {
        let target = target(path, &Pairs::new());
        let stream = self.connect().await?;
        let (to, body) = Channel::new(1);
        let answer = tokio::spawn(async move {
            let asked = ask(stream, Method::POST, target, "application/x-ndjson", body);
            let answer = asked.await?;
            whole(answer).await
        });
        Ok(Upload { to, answer })
    }

    /// Hands over a whole message.
    pub async fn post_message<T: DeserializeOwned>(
        &self,
        path: &str,
        pairs: &Pairs,
        message: Vec<u8>,
    ) -> Result<T, Trouble> {
        let target = target(path, pairs);
        self.ask(Method::POST, target, "message/rfc822", message.into())
            .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        target: String,
        kind: &str,
        body: Bytes,
    ) -> Result<T, Trouble> {
        let (status, body) = self.exchange(method, target, kind, body).await?;
        understood(status, &body)
    }

    async fn exchange(
        &self,
        method: Method,
        target: String,
        kind: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Trouble> {
        let stream = self.connect().await?;
        let asked = ask(stream, method, target, kind, Full::new(body));
        in_time(async { whole(asked.await?).await }).await?
    }

    /// The first socket that somebody listens on. One that is there but may not be used ends the
    /// search: the next would be another daemon's.
    async fn connect(&self) -> Result<UnixStream, Trouble> {
        for path in &self.candidates {
            match UnixStream::connect(path).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Trouble::Unreachable(format!(
                        "{}: permission denied; become a member of the group relayd, or root",
                        path.display()
                    )));
                }
                Err(_) => {}
            }
        }
        let tried: Vec<String> = self
            .candidates
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Err(Trouble::Unreachable(format!(
            "relayd cannot be reached: nobody listens on {}\n\
             Start it with `systemctl start relayd`, or to try it out with `relayd --sandbox`; \
             if its socket is elsewhere, name it with --socket or RELAYD_SOCKET.",
            tried.join(", ")
        )))
    }
}

fn lost(why: impl std::fmt::Display) -> Trouble {
    Trouble::Unreachable(format!(
        "relayd took the connection but did not answer: {why}"
    ))
}

async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, Trouble> {
    tokio::time::timeout(ANSWER_WITHIN, answer)
        .await
        .map_err(|_| lost("no answer for two minutes"))
}

/// The answer's head; its body is still to be read.
async fn ask<B>(
    stream: UnixStream,
    method: Method,
    target: String,
    kind: &str,
    body: B,
) -> Result<Response<Incoming>, Trouble>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(lost)?;
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "relayd")
        .header(header::CONTENT_TYPE, kind)
        .body(body)
        .map_err(lost)?;
    // Its errors reach the request, too; it ends by itself once the sender is dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(lost)
}

async fn whole(answer: Response<Incoming>) -> Result<(StatusCode, Bytes), Trouble> {
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(lost)?;
    Ok((status, body.to_bytes()))
}

fn understood<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, Trouble> {
    if !status.is_success() {
        return Err(refusal(status, body));
    }
    serde_json::from_slice(body).map_err(|error| {
        Trouble::NotWell(format!(
            "relayd's answer is not understood ({error}); are relayctl and relayd of the same version?"
        ))
    })
}

/// See [`Client::lines`].
pub struct Lines {
    body: Incoming,
    /// Come, and not given out.
    rest: BytesMut,
}

impl Lines {
    fn of(body: Incoming) -> Lines {
        let rest = BytesMut::new();
        Lines { body, rest }
    }

    /// Without its end; also a last one that has none. None: that was all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let mut looked = 0;
        loop {
            let end = self.rest.iter().skip(looked).position(|&b| b == b'\n');
            if let Some(end) = end {
                let mut line = self.rest.split_to(looked + end + 1);
                line.truncate(looked + end);
                return Ok(Some(line.freeze()));
            }
            looked = self.rest.len();
            match in_time(self.body.frame()).await? {
                Some(frame) => {
                    let data = frame.map_err(lost)?.into_data().unwrap_or_default();
                    self.rest.extend_from_slice(&data);
                }
                None if looked == 0 => return Ok(None),
                None => return Ok(Some(self.rest.split().freeze())),
            }
        }
    }
}

/// See [`Client::upload`].
pub struct Upload {
    to: Sender<Bytes>,
    answer: JoinHandle<Result<(StatusCode, Bytes), Trouble>>,
}

/// Whether the other side still listens; if not, it has answered already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    On,
    NoMore,
}

impl Upload {
    /// Adds the line's end.
    pub async fn line(&mut self, line: &[u8]) -> Result<Listens, Trouble> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        Ok(match in_time(self.to.send_data(bytes.into())).await? {
            Ok(()) => Listens::On,
            Err(_) => Listens::NoMore,
        })
    }

    /// There are no more lines: what is answered?
    pub async fn end<T: DeserializeOwned>(self) -> Result<T, Trouble> {
        drop(self.to);
        let (status, body) = in_time(self.answer).await?.map_err(lost)??;
        understood(status, &body)
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Trouble {
    let view: ErrorView = serde_json::from_slice(body).unwrap_or_else(|_| ErrorView {
        error: format!(
            "relayd answered {status}: {}",
            String::from_utf8_lossy(body)
        ),
        mistakes: Vec::new(),
    });
    match status {
        StatusCode::BAD_REQUEST => Trouble::Usage(view.error),
        StatusCode::UNPROCESSABLE_ENTITY if !view.mistakes.is_empty() => {
            let mut lines = vec![view.error];
            lines.extend(view.mistakes);
            Trouble::Configuration(lines.join("\n  "))
        }
        _ => Trouble::NotWell(view.error),
    }
}

fn target(path: &str, pairs: &Pairs) -> String {
    let query: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", percent_encoded(value)))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

/// Everything but the unreserved characters of RFC 3986 section 2.3.
pub fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_so_that_no_address_can_end_the_query() {
        let pairs = vec![
            ("to", "a+b&c=d@ü.test".to_owned()),
            ("limit", "5".to_owned()),
        ];
        assert_eq!(
            target("/v1/queue", &pairs),
            "/v1/queue?to=a%2Bb%26c%3Dd%40%C3%BC.test&limit=5"
        );
    }

    #[test]
    fn refusals_become_the_exit_status_that_fits() {
        let status = |code: u16, body: &str| {
            refusal(StatusCode::from_u16(code).unwrap(), body.as_bytes()).status()
        };
        assert_eq!(status(400, r#"{"error":"id: no"}"#), 2);
        assert_eq!(status(404, r#"{"error":"no message"}"#), 1);
        assert_eq!(status(422, r#"{"error":"x","mistakes":["y"]}"#), 78);
        assert_eq!(status(503, "no JSON"), 1);
    }

    #[tokio::test]
    async fn an_absent_daemon_is_status_69_and_the_words_say_how_to_start_it() {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::new(Some(directory.path().join("none.sock")));
        let answer: Result<serde_json::Value, Trouble> =
            client.get("/v1/status", &Pairs::new()).await;
        let trouble = answer.unwrap_err();
        assert_eq!(trouble.status(), 69);
        assert!(trouble.words().contains("relayd --sandbox"));
    }
}
