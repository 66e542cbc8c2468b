//! What a token endpoint answers (RFC 6749 sections 5.1 and 5.2), and what is asked of it.

use std::time::Duration;

use relay_config::OauthClient;
use serde::Deserialize;

use crate::http::HttpAnswer;

/// A token without a lifetime is taken to be good for so long: it is "recommended" only to say it.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// No endpoint's word makes a token live longer than this here.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// A token has no more characters: it must fit into a line of AUTH (RFC 4954 section 4).
const TOKEN_CHARS_MAX: usize = 8_000;
/// So much of what an endpoint says in words of its own is shown.
const WORDS_MAX: usize = 200;

pub(crate) struct Granted {
    pub access_token: String,
    pub lifetime: Duration,
    /// In place of the one that was used (RFC 6749 section 6).
    pub refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Good {
    access_token: String,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
    #[serde(default)]
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Bad {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// The body of the request. With a refresh token it is used (RFC 6749 section 6), without one the client
/// speaks for itself (section 4.4).
pub(crate) fn question(client: &OauthClient, refresh_token: Option<&str>) -> String {
    let mut form = Vec::new();
    match refresh_token {
        Some(token) => {
            form.push(("grant_type", "refresh_token"));
            form.push(("refresh_token", token));
        }
        None => form.push(("grant_type", "client_credentials")),
    }
    form.push(("client_id", &client.client_id));
    // In the body and not as Basic: the large providers take both, smaller ones often this alone.
    if let Some(secret) = &client.client_secret {
        form.push(("client_secret", secret));
    }
    if let Some(scope) = &client.scope {
        form.push(("scope", scope));
    }
    let pairs = form
        .iter()
        .map(|(key, value)| format!("{key}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// As application/x-www-form-urlencoded.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            b' ' => text.push('+'),
            other => text += &format!("%{other:02X}"),
        }
    }
    text
}

/// Err: in words, without a secret.
pub(crate) fn read(answer: &HttpAnswer) -> Result<Granted, String> {
    if answer.status != 200 {
        return Err(match serde_json::from_slice::<Bad>(&answer.body) {
            Ok(bad) => {
                let more = bad
                    .error_description
                    .map(|words| format!(": {}", plain(&words)));
                let error = plain(&bad.error);
                format!(
                    "it answered {} {error}{}",
                    answer.status,
                    more.unwrap_or_default()
                )
            }
            Err(_) => format!("it answered {}", answer.status),
        });
    }
    // What serde says of a wrong answer may repeat a part of it.
    let good: Good = serde_json::from_slice(&answer.body)
        .map_err(|_| "its answer is no JSON with an access_token".to_owned())?;
    if !is_token(&good.access_token) {
        return Err("its access_token is none that can be said to a relay".to_owned());
    }
    let seconds = match &good.expires_in {
        Some(serde_json::Value::Number(number)) => number.as_u64(),
        // Against RFC 6749, and common.
        Some(serde_json::Value::String(text)) => text.parse().ok(),
        Some(_) | None => None,
    };
    let lifetime = seconds.map_or(LIFETIME_DEFAULT, Duration::from_secs);
    Ok(Granted {
        access_token: good.access_token,
        lifetime: lifetime.min(LIFETIME_MAX),
        refresh_token: good.refresh_token.filter(|token| !token.is_empty()),
    })
}

/// Printable, so that it cannot break out of what it is said in (RFC 6750 section 2.1).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TOKEN_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn plain(words: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    words.chars().map(clean).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(secret: Option<&str>) -> OauthClient {
        OauthClient {
            endpoint: "https://login.example/token".parse().unwrap(),
            client_id: "app id".to_owned(),
            client_secret: secret.map(str::to_owned),
            refresh_token: None,
            scope: Some("https://mail.example/".to_owned()),
        }
    }

    fn answer(status: u16, body: &str) -> Result<Granted, String> {
        read(&HttpAnswer {
            status,
            body: body.to_owned().into(),
        })
    }

    #[test]
    fn the_question_is_a_form_that_no_value_breaks_out_of() {
        assert_eq!(
            question(&client(Some("a&b=c")), Some("r/1")),
            "grant_type=refresh_token&refresh_token=r%2F1&client_id=app+id\
             &client_secret=a%26b%3Dc&scope=https%3A%2F%2Fmail.example%2F"
        );
        assert!(
            question(&client(None), None).starts_with("grant_type=client_credentials&client_id=")
        );
    }

    #[test]
    fn a_token_is_read_with_its_lifetime_in_either_form() {
        for (body, seconds) in [
            (r#"{"access_token":"t","expires_in":100}"#, 100),
            (r#"{"access_token":"t","expires_in":"100"}"#, 100),
            (r#"{"access_token":"t"}"#, 3600),
            (r#"{"access_token":"t","expires_in":99999999}"#, 86_400),
        ] {
            let granted = answer(200, body).unwrap();
            assert_eq!(granted.lifetime.as_secs(), seconds, "{body}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_without_showing_it() {
        for (status, body, words) in [
            (
                400,
                r#"{"error":"invalid_grant","error_description":"expired\nx"}"#,
                "400 invalid_grant: expired x",
            ),
            (503, "<html>", "it answered 503"),
            (200, "secret-token", "no JSON"),
            (200, r#"{"token":"secret"}"#, "no JSON"),
            (
                200,
                r#"{"access_token":"secret\r\nMAIL"}"#,
                "none that can be said",
            ),
            (200, r#"{"access_token":""}"#, "none that can be said"),
        ] {
            let error = answer(status, body).map(|_| ()).unwrap_err();
            assert!(
                error.contains(words) && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
