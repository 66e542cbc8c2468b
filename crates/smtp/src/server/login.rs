//! The two logins, PLAIN (RFC 4616) and LOGIN (an old draft, but what many clients speak), up to
//! user and password. Whether they are right is the driver's business.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reply;
use crate::command::Secret;
use crate::reply::Reply;

/// What the next line will be.
pub(super) enum Login {
    Plain,
    User,
    Password { user: String },
}

/// What comes next.
pub(super) enum Step {
    /// Say 334 and wait for a line.
    Challenge(Login, &'static str),
    Check {
        user: String,
        password: Secret,
    },
    Failed(Reply),
}

/// "Username:" and "Password:" in base64: some clients wait for exactly these.
const ASK_USER: &str = "VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

impl Login {
    /// After AUTH. An initial response `=` is an empty one (RFC 4954 section 4).
    pub(super) fn begin(mechanism: &str, initial: Option<Secret>) -> Step {
        let initial = initial.map(|Secret(text)| if text == "=" { String::new() } else { text });
        let (login, challenge) = match mechanism {
            "PLAIN" => (Login::Plain, ""),
            // The draft knows no initial response for LOGIN; clients that send one mean the user.
            "LOGIN" => (Login::User, ASK_USER),
            _ => return Step::Failed(reply(504, 5, 4, "mechanisms here: PLAIN LOGIN")),
        };
        match initial {
            None => Step::Challenge(login, challenge),
            Some(text) => login.response(&text),
        }
    }

    /// The client's line after a 334.
    pub(super) fn go_on(self, line: &[u8]) -> Step {
        match std::str::from_utf8(line) {
            Ok("*") => Step::Failed(reply(501, 7, 0, "login cancelled")),
            Ok(text) => self.response(text),
            Err(_) => Step::Failed(undecodable()),
        }
    }

    fn response(self, text: &str) -> Step {
        let decoded = STANDARD.decode(text).ok();
        let Some(decoded) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return Step::Failed(undecodable());
        };
        match self {
            Login::Plain => plain(&decoded),
            Login::User => match user_name(&decoded) {
                Some(user) => Step::Challenge(Login::Password { user }, ASK_PASSWORD),
                None => Step::Failed(malformed()),
            },
            Login::Password { user } => Step::Check {
                user,
                password: Secret(decoded),
            },
        }
    }
}

/// `[authzid] NUL authcid NUL passwd`
fn plain(message: &str) -> Step {
    let parts: Vec<&str> = message.split('\0').collect();
    let [acting_as, user, password] = parts.as_slice() else {
        return Step::Failed(malformed());
    };
    let Some(user) = user_name(user) else {
        return Step::Failed(malformed());
    };
    if !acting_as.is_empty() && **acting_as != user {
        return Step::Failed(reply(535, 7, 8, "one user cannot act as another here"));
    }
    Step::Check {
        user,
        password: Secret((*password).to_owned()),
    }
}

/// It goes into the log, so it is text of one line.
fn user_name(text: &str) -> Option<String> {
    let fits = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn undecodable() -> Reply {
    reply(501, 5, 2, "that is not base64 of UTF-8 text")
}

fn malformed() -> Reply {
    reply(501, 5, 2, "that is not a response of this mechanism")
}

/// A password may be half said already: nothing is shown.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}
