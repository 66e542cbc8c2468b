//! One line of the doctor's: what was looked at, whether it is well, what was found, and the fix.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable word for scripts: `mx`, `dkim`, `starttls`.
    pub check: String,
    /// The name or address that it is about.
    pub subject: String,
    pub state: State,
    pub found: String,
    /// None: there is nothing to do.
    pub fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// Mail goes, and could go better; or it could not be found out.
    Warn,
    Fail,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

impl Finding {
    pub fn ok(check: &str, subject: &str, found: impl Into<String>) -> Finding {
        Finding {
            check: check.to_owned(),
            subject: subject.to_owned(),
            state: State::Ok,
            found: found.into(),
            fix: None,
        }
    }

    pub fn warn(
        check: &str,
        subject: &str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding {
            state: State::Warn,
            fix: Some(fix.into()),
            ..Finding::ok(check, subject, found)
        }
    }

    pub fn fail(
        check: &str,
        subject: &str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding {
            state: State::Fail,
            ..Finding::warn(check, subject, found, fix)
        }
    }

    /// DNS gave no answer: nothing is known, which is no reason to call it well.
    pub fn unknown(check: &str, subject: &str, words: &str) -> Finding {
        let fix =
            "ask again; if it stays so, look at dns.servers and at the name servers of the domain";
        Finding::warn(check, subject, words, fix)
    }
}
