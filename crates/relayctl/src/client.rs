//! A small HTTP client over relayd's unix socket: one connection a request.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use relay_admin::view::ErrorView;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

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

    /// Hands over lines of JSON.
    pub async fn post_lines<T: DeserializeOwned>(
        &self,
        path: &str,
        lines: Vec<u8>,
    ) -> Result<T, Trouble> {
        let target = target(path, &Pairs::new());
        self.ask(Method::POST, target, "application/x-ndjson", lines.into())
            .await
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
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                Trouble::NotWell(format!(
                    "relayd's answer is not understood ({error}); are relayctl and relayd of the same version?"
                ))
            });
        }
        Err(refusal(status, &body))
    }

    async fn exchange(
        &self,
        method: Method,
        target: String,
        kind: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Trouble> {
        let stream = self.connect().await?;
        let exchanged = exchange(stream, method, target, kind, body);
        tokio::time::timeout(ANSWER_WITHIN, exchanged)
            .await
            .map_err(|_| lost("no answer for two minutes"))?
            .map_err(lost)
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

async fn exchange(
    stream: UnixStream,
    method: Method,
    target: String,
    kind: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "relayd")
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(body))?;
    // Its errors reach the request, too; it ends by itself once the sender is dropped.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, body))
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
