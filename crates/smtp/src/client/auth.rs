//! AUTH of the client (RFC 4954): SCRAM-SHA-256, PLAIN and LOGIN with a password, OAUTHBEARER and XOAUTH2
//! with a token.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ClearAuth, Encryption, End, Expect, Secret, Session, State};
use crate::failure::Failure;
use crate::phase::Phase;
use crate::reply::{Reply, ReplyClass};
use crate::scram::First;

/// In the order in which they are tried: the password itself is only said where nothing better is offered.
const WITH_PASSWORD: [Mechanism; 3] = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];
const WITH_TOKEN: [Mechanism; 2] = [Mechanism::OauthBearer, Mechanism::Xoauth2];

/// How a name and a secret are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    ScramSha256,
    Plain,
    Login,
    /// RFC 7628
    OauthBearer,
    /// Its older form, which Google and Microsoft speak.
    Xoauth2,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::OauthBearer => "OAUTHBEARER",
            Mechanism::Xoauth2 => "XOAUTH2",
        }
    }
}

/// Where the exchange stands: what the next reply answers.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Exchange {
    /// After AUTH PLAIN: the response, if a 334 asks for it once more.
    Plain(Option<String>),
    /// After AUTH LOGIN or its user name: what is still to be said.
    Login(VecDeque<String>),
    Scram(First),
    /// After our proof: the server's is to come.
    Proof(crate::scram::Last),
    /// Both have proved themselves.
    Proved,
    /// After the token: what is to be said to a 334, which has the reason of a refusal.
    Token(&'static str),
    Refused,
}

/// Not for logs: most of it is secret.
impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

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
        let fitting: &[Mechanism] = match login.secret {
            Secret::Password(_) => &WITH_PASSWORD,
            Secret::Token(_) => &WITH_TOKEN,
        };
        let wanted = |one: &Mechanism| login.only.is_none_or(|only| only == *one);
        let known: Vec<Mechanism> = fitting.iter().copied().filter(wanted).collect();
        self.mechanisms = self.offered_of(&known);
        if self.mechanisms.is_empty() {
            return self.nothing_offered(&known);
        }
        self.next_mechanism();
    }

    fn offered_of(&self, known: &[Mechanism]) -> VecDeque<Mechanism> {
        let offered = |mechanism: &Mechanism| self.extensions.has_mechanism(mechanism.name());
        known.iter().copied().filter(offered).collect()
    }

    fn nothing_offered(&mut self, known: &[Mechanism]) {
        if self.extensions.auth.is_empty() {
            return self.no_auth("the host does not offer AUTH");
        }
        let offered = self.extensions.auth.join(" ");
        let known: Vec<&str> = known.iter().map(|mechanism| mechanism.name()).collect();
        self.no_auth(&format!(
            "the host offers only AUTH {offered}; with this secret {} can be used here",
            known.join(" and ")
        ));
    }

    fn next_mechanism(&mut self) {
        let (Some(mechanism), Some(login)) = (self.mechanisms.pop_front(), &self.setup.login)
        else {
            return;
        };
        let username = &login.username;
        let (Secret::Password(secret) | Secret::Token(secret)) = &login.secret;
        match mechanism {
            Mechanism::ScramSha256 => {
                let (first, message) = First::new(username, secret, &login.nonce);
                self.say_auth(mechanism, &message, Exchange::Scram(first));
            }
            // RFC 4616 section 2
            Mechanism::Plain => {
                let response = format!("\0{username}\0{secret}");
                self.say_auth_plain(&response);
            }
            Mechanism::Login => {
                let left = VecDeque::from([STANDARD.encode(username), STANDARD.encode(secret)]);
                self.say("AUTH LOGIN", Expect::Auth(Exchange::Login(left)));
            }
            // RFC 7628 section 3.1; a refusal is answered by an octet 01 (section 3.2.3).
            Mechanism::OauthBearer => {
                let response = format!("n,a={username},\x01auth=Bearer {secret}\x01\x01");
                self.say_auth(mechanism, &response, Exchange::Token("AQ=="));
            }
            Mechanism::Xoauth2 => {
                let response = format!("user={username}\x01auth=Bearer {secret}\x01\x01");
                self.say_auth(mechanism, &response, Exchange::Token(""));
            }
        }
    }

    /// With the response in the same line: AUTH makes lines of 12288 octets legal (RFC 4954 section 4).
    fn say_auth(&mut self, mechanism: Mechanism, response: &str, login: Exchange) {
        let command = format!("AUTH {} {}", mechanism.name(), STANDARD.encode(response));
        self.say(&command, Expect::Auth(login));
    }

    fn say_auth_plain(&mut self, response: &str) {
        let response = STANDARD.encode(response);
        // Many servers stop at 512 octets all the same (RFC 5321 section 4.5.3.1.4): a long response
        // waits for the 334.
        let command = match response.len() > 490 {
            true => "AUTH PLAIN".to_owned(),
            false => format!("AUTH PLAIN {response}"),
        };
        self.say(&command, Expect::Auth(Exchange::Plain(Some(response))));
    }

    pub(super) fn auth_answered(&mut self, login: Exchange, reply: Reply) {
        match reply.class() {
            ReplyClass::Positive => match login {
                Exchange::Plain(_) | Exchange::Login(_) | Exchange::Proved | Exchange::Token(_) => {
                    self.state = State::Ready;
                }
                Exchange::Scram(_) | Exchange::Proof(_) => {
                    self.no_login("it did not prove that it knows the password");
                }
                Exchange::Refused => self.wrong(Phase::Auth, &reply),
            },
            ReplyClass::Intermediate => self.asked(login, &reply),
            // This mechanism, though offered, is not to be had (RFC 4954 section 4).
            ReplyClass::Transient | ReplyClass::Permanent
                if reply.code == 504 && !self.mechanisms.is_empty() =>
            {
                self.next_mechanism();
            }
            ReplyClass::Transient | ReplyClass::Permanent => self.give_up(Phase::Auth, reply),
        }
    }

    /// A 334.
    fn asked(&mut self, login: Exchange, reply: &Reply) {
        match login {
            Exchange::Plain(Some(response)) => {
                self.say(&response, Expect::Auth(Exchange::Plain(None)));
            }
            Exchange::Login(mut left) => match left.pop_front() {
                Some(response) => self.say(&response, Expect::Auth(Exchange::Login(left))),
                None => self.wrong(Phase::Auth, reply),
            },
            Exchange::Scram(first) => match challenge(reply).map(|text| first.answer(&text)) {
                Some(Ok((last, message))) => {
                    let message = STANDARD.encode(message);
                    self.say(&message, Expect::Auth(Exchange::Proof(last)));
                }
                Some(Err(error)) => self.no_login(&error.to_string()),
                None => self.no_login("its SCRAM challenge cannot be read"),
            },
            Exchange::Proof(last) => {
                let said = challenge(reply).unwrap_or_default();
                match last.check(&said) {
                    Ok(()) => self.say("", Expect::Auth(Exchange::Proved)),
                    // It says why the password is wrong, and then so in a reply (RFC 5802 section 7).
                    Err(_) if said.starts_with("e=") => {
                        self.say("", Expect::Auth(Exchange::Refused));
                    }
                    Err(error) => self.no_login(&error.to_string()),
                }
            }
            Exchange::Token(word) => self.say(word, Expect::Auth(Exchange::Refused)),
            Exchange::Plain(None) | Exchange::Proved | Exchange::Refused => {
                self.wrong(Phase::Auth, reply);
            }
        }
    }

    fn no_auth(&mut self, words: &str) {
        self.leave(End::Failed {
            phase: Phase::Auth,
            failure: Failure::AuthNotOffered,
            words: words.to_owned(),
        });
    }

    /// The server is not the one that it should be, or not well. In the middle of an exchange nothing more
    /// is said to it.
    fn no_login(&mut self, what: &str) {
        self.over(End::Failed {
            phase: Phase::Auth,
            failure: Failure::LoginFailed,
            words: format!("the host cannot be logged in to: {what}"),
        });
    }
}

/// The text of a 334.
fn challenge(reply: &Reply) -> Option<String> {
    let bytes = STANDARD.decode(reply.text().trim()).ok()?;
    String::from_utf8(bytes).ok()
}
