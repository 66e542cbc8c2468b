//! Tokens by client: fetched once for all sessions that wait for it, fetched anew before they expire or
//! when a relay has refused one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use relay_config::OauthClient;

use crate::answer::{Granted, question, read};
use crate::http::Endpoints;
use crate::kept::Kept;

/// Shared by all sessions.
#[derive(Default)]
pub struct Tokens {
    endpoints: Option<Arc<dyn Endpoints>>,
    /// Where refresh tokens that were exchanged are kept; None: nowhere.
    dir: Option<PathBuf>,
    clients: Mutex<BTreeMap<OauthClient, Arc<tokio::sync::Mutex<Client>>>>,
}

/// Why there is no token, for the operator. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToken(pub String);

#[derive(Default)]
struct Client {
    token: Option<Token>,
    /// The one that a relay has refused; never given out again.
    refused: Option<String>,
    failed: Option<Failed>,
}

struct Token {
    text: String,
    /// From then on another one is fetched.
    renew: Timestamp,
    expires: Timestamp,
}

struct Failed {
    words: String,
    /// The endpoint is left alone until then.
    until: Timestamp,
    /// In a row.
    count: u32,
}

/// How long before its end a token is renewed; at most a fifth of its life.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// How long an endpoint is left alone after a failure, doubled by each further one. Sessions that want a
/// token meanwhile get the words of the last failure.
const FAILED_FIRST: Duration = Duration::from_secs(5);
const FAILED_MAX: Duration = Duration::from_secs(300);

impl Tokens {
    pub fn new(endpoints: Arc<dyn Endpoints>, dir: Option<PathBuf>) -> Tokens {
        Tokens {
            endpoints: Some(endpoints),
            dir,
            clients: Mutex::default(),
        }
    }

    /// A token that is good at this time. Whoever comes while one is fetched waits for that one.
    pub async fn token(&self, client: &OauthClient, now: Timestamp) -> Result<String, NoToken> {
        let shared = self.client(client);
        let mut state = shared.lock().await;
        if let Some(token) = &state.token
            && now < token.renew
        {
            return Ok(token.text.clone());
        }
        if let Some(failed) = &state.failed
            && now < failed.until
        {
            return state.old(now).ok_or_else(|| NoToken(failed.words.clone()));
        }
        match self.fetch(client).await {
            Ok(granted) if state.refused.as_ref() == Some(&granted.access_token) => {
                let words = "its answer is the token again that the relay has refused";
                Err(state.fail(client, words, now))
            }
            Ok(granted) => Ok(state.take(granted, now)),
            Err(words) => {
                let error = state.fail(client, &words, now);
                state.old(now).ok_or(error)
            }
        }
    }

    /// A relay did not take this token: the next one is another one.
    pub async fn refused(&self, client: &OauthClient, text: &str) {
        let shared = self.client(client);
        let mut state = shared.lock().await;
        // Else another session has seen to it already.
        if state.token.as_ref().is_some_and(|token| token.text == text) {
            state.token = None;
            state.refused = Some(text.to_owned());
        }
    }

    async fn fetch(&self, client: &OauthClient) -> Result<Granted, String> {
        let Some(endpoints) = &self.endpoints else {
            return Err("there is no network here to ask it by".to_owned());
        };
        let kept = Kept::of(self.dir.as_deref(), client);
        let refresh = kept.read().or_else(|| client.refresh_token.clone());
        let form = question(client, refresh.as_deref());
        let answer = endpoints.post(&client.endpoint, form).await?;
        let granted = read(&answer)?;
        if let Some(new) = granted
            .refresh_token
            .as_ref()
            .filter(|new| Some(*new) != refresh.as_ref())
            && let Err(error) = kept.write(new)
        {
            tracing::warn!(
                "the refresh token that {} gave in place of the last could not be kept, and after a \
                 restart a login may be needed: {error}",
                client.endpoint
            );
        }
        Ok(granted)
    }

    fn client(&self, client: &OauthClient) -> Arc<tokio::sync::Mutex<Client>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        match clients.get(client) {
            Some(shared) => Arc::clone(shared),
            None => Arc::clone(clients.entry(client.clone()).or_default()),
        }
    }
}

impl Client {
    fn take(&mut self, granted: Granted, now: Timestamp) -> String {
        let after = |span: Duration| now.checked_add(span).unwrap_or(Timestamp::MAX);
        let early = RENEW_BEFORE.min(granted.lifetime / 5);
        self.failed = None;
        self.token = Some(Token {
            text: granted.access_token.clone(),
            renew: after(granted.lifetime - early),
            expires: after(granted.lifetime),
        });
        granted.access_token
    }

    /// The one that should have been renewed and still holds.
    fn old(&self, now: Timestamp) -> Option<String> {
        let token = self.token.as_ref().filter(|token| now < token.expires);
        token.map(|token| token.text.clone())
    }

    fn fail(&mut self, client: &OauthClient, words: &str, now: Timestamp) -> NoToken {
        let count = self.failed.as_ref().map_or(0, |failed| failed.count) + 1;
        let pause = FAILED_FIRST * (1 << (count - 1).min(6));
        let words = format!("no access token from {}: {words}", client.endpoint);
        self.failed = Some(Failed {
            words: words.clone(),
            until: now
                .checked_add(pause.min(FAILED_MAX))
                .unwrap_or(Timestamp::MAX),
            count,
        });
        NoToken(words)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use relay_config::Endpoint;

    use super::*;
    use crate::http::{Asking, HttpAnswer};

    /// Answers one after the other, each after a second.
    #[derive(Default)]
    struct Scripted {
        answers: Mutex<VecDeque<(u16, String)>>,
        asked: Mutex<Vec<String>>,
    }

    impl Endpoints for Scripted {
        fn post<'a>(&'a self, _endpoint: &'a Endpoint, form: String) -> Asking<'a> {
            self.asked.lock().unwrap().push(form);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                match self.answers.lock().unwrap().pop_front() {
                    Some((status, body)) => Ok(HttpAnswer {
                        status,
                        body: body.into(),
                    }),
                    None => Err("connecting: refused".to_owned()),
                }
            })
        }
    }

    fn client() -> OauthClient {
        OauthClient {
            endpoint: "https://login.example/token".parse().unwrap(),
            client_id: "app".to_owned(),
            client_secret: None,
            refresh_token: Some("r0".to_owned()),
            scope: None,
        }
    }

    fn good(token: &str) -> (u16, String) {
        (
            200,
            format!(r#"{{"access_token":"{token}","expires_in":1000}}"#),
        )
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn tokens(answers: Vec<(u16, String)>) -> (Arc<Scripted>, Arc<Tokens>) {
        let scripted = Arc::new(Scripted::default());
        *scripted.answers.lock().unwrap() = answers.into();
        (scripted.clone(), Arc::new(Tokens::new(scripted, None)))
    }

    fn count(scripted: &Scripted) -> usize {
        scripted.asked.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_serves_all_sessions_until_shortly_before_the_token_ends() {
        let (scripted, tokens) = tokens(vec![good("one"), good("two")]);
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let tokens = tokens.clone();
            waiting.spawn(async move { tokens.token(&client(), at(0)).await });
        }
        while let Some(token) = waiting.join_next().await {
            assert_eq!(token.unwrap(), Ok("one".to_owned()));
        }
        assert_eq!(tokens.token(&client(), at(799)).await, Ok("one".to_owned()));
        assert_eq!(count(&scripted), 1);
        assert_eq!(tokens.token(&client(), at(800)).await, Ok("two".to_owned()));
        assert_eq!(count(&scripted), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_cannot_be_renewed_is_used_to_its_end() {
        let (scripted, tokens) = tokens(vec![good("one"), (500, String::new())]);
        assert_eq!(tokens.token(&client(), at(0)).await, Ok("one".to_owned()));
        assert_eq!(tokens.token(&client(), at(900)).await, Ok("one".to_owned()));
        // The endpoint is not asked again at once.
        assert_eq!(tokens.token(&client(), at(901)).await, Ok("one".to_owned()));
        assert_eq!(count(&scripted), 2);
        let error = tokens.token(&client(), at(1000)).await.unwrap_err();
        assert!(
            error.0.contains("https://login.example/token: connecting"),
            "{error:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_is_left_alone_for_longer_each_time() {
        let (scripted, tokens) = tokens(vec![]);
        let mut now = 0;
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
            let before = count(&scripted);
            assert!(tokens.token(&client(), at(now)).await.is_err());
            assert!(tokens.token(&client(), at(now + pause - 1)).await.is_err());
            assert_eq!(count(&scripted), before + 1);
            now += pause;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_replaced_once_and_never_given_out_again() {
        let (scripted, tokens) = tokens(vec![good("one"), good("two"), good("two")]);
        assert_eq!(tokens.token(&client(), at(0)).await, Ok("one".to_owned()));
        tokens.refused(&client(), "one").await;
        // A second session, which was refused with the same token, comes late.
        assert_eq!(tokens.token(&client(), at(1)).await, Ok("two".to_owned()));
        tokens.refused(&client(), "one").await;
        assert_eq!(tokens.token(&client(), at(2)).await, Ok("two".to_owned()));
        tokens.refused(&client(), "two").await;
        let error = tokens.token(&client(), at(3)).await.unwrap_err();
        assert!(error.0.contains("the relay has refused"), "{error:?}");
        assert_eq!(count(&scripted), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_token_that_was_exchanged_outlives_a_restart_until_another_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Some(dir.path().join("oauth"));
        let scripted = Arc::new(Scripted::default());
        let exchanged = r#"{"access_token":"a","expires_in":1,"refresh_token":"r1"}"#;
        scripted
            .answers
            .lock()
            .unwrap()
            .push_back((200, exchanged.to_owned()));
        let tokens = Tokens::new(scripted.clone(), dir.clone());
        tokens.token(&client(), at(0)).await.unwrap();
        let restarted = Tokens::new(scripted.clone(), dir);
        let _ = restarted.token(&client(), at(10)).await;
        let configured = OauthClient {
            refresh_token: Some("r9".to_owned()),
            ..client()
        };
        let _ = restarted.token(&configured, at(20)).await;
        let asked = scripted.asked.lock().unwrap().clone();
        let used: Vec<&str> = asked
            .iter()
            .filter_map(|form| form.split('&').nth(1))
            .collect();
        assert_eq!(
            used,
            ["refresh_token=r0", "refresh_token=r1", "refresh_token=r9"]
        );
    }
}
