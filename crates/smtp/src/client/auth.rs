//! AUTH of the client: PLAIN and LOGIN (RFC 4954, RFC 4616).

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ClearAuth, Encryption, End, Expect, Session, State};
use crate::failure::Failure;
use crate::phase::Phase;
use crate::reply::{Reply, ReplyClass};

impl Session {
    pub(super) fn authenticate(&mut self) {
        let Some(login) = &self.setup.login else {
            self.state = State::Ready;
            return;
        };
        if self.encryption == Encryption::Off && self.setup.clear_auth == ClearAuth::Never {
            return self
                .no_auth("the session is not encrypted and the password is not sent in clear");
        }
        if self.extensions.has_mechanism("PLAIN") {
            // RFC 4616 section 2, with the initial response of RFC 4954 section 4.
            let response = format!("\0{}\0{}", login.username, login.password);
            let response = STANDARD.encode(response);
            self.say_auth_plain(response);
        } else if self.extensions.has_mechanism("LOGIN") {
            self.say_auth_login();
        } else if self.extensions.auth.is_empty() {
            self.no_auth("the host does not offer AUTH");
        } else {
            let offered = self.extensions.auth.join(" ");
            self.no_auth(&format!(
                "the host offers only AUTH {offered}; PLAIN and LOGIN are known here"
            ));
        }
    }

    fn say_auth_plain(&mut self, response: String) {
        // A command line has at most 512 octets (RFC 5321 section 4.5.3.1.4): a long response
        // waits for the 334.
        if response.len() > 490 {
            self.say("AUTH PLAIN", Expect::AuthPlain(Some(response)));
        } else {
            let command = format!("AUTH PLAIN {response}");
            self.say(&command, Expect::AuthPlain(Some(response)));
        }
    }

    pub(super) fn plain_answered(&mut self, response: Option<String>, reply: Reply) {
        match (reply.class(), response) {
            (ReplyClass::Positive, _) => self.state = State::Ready,
            (ReplyClass::Intermediate, Some(response)) => {
                self.say(&response, Expect::AuthPlain(None));
            }
            (ReplyClass::Intermediate, None) => self.wrong(Phase::Auth, &reply),
            (ReplyClass::Transient | ReplyClass::Permanent, _) => {
                // 504: this mechanism, though offered, is not to be had (RFC 4954 section 4).
                if reply.code == 504 && self.extensions.has_mechanism("LOGIN") {
                    self.say_auth_login();
                } else {
                    self.give_up(Phase::Auth, reply);
                }
            }
        }
    }

    fn say_auth_login(&mut self) {
        let Some(login) = &self.setup.login else {
            return;
        };
        let left = VecDeque::from([
            STANDARD.encode(&login.username),
            STANDARD.encode(&login.password),
        ]);
        self.say("AUTH LOGIN", Expect::AuthLogin(left));
    }

    pub(super) fn login_answered(&mut self, mut left: VecDeque<String>, reply: Reply) {
        match reply.class() {
            ReplyClass::Positive => self.state = State::Ready,
            ReplyClass::Intermediate => match left.pop_front() {
                Some(response) => self.say(&response, Expect::AuthLogin(left)),
                None => self.wrong(Phase::Auth, &reply),
            },
            ReplyClass::Transient | ReplyClass::Permanent => self.give_up(Phase::Auth, reply),
        }
    }

    fn no_auth(&mut self, words: &str) {
        self.leave(End::Failed {
            phase: Phase::Auth,
            failure: Failure::AuthNotOffered,
            words: words.to_owned(),
        });
    }
}
