//! How a `[[route]]` logs in to its relays: with a password, with a token from a file, or with tokens that
//! are fetched.

use std::fmt;
use std::path::PathBuf;

use relay_smtp::client::Mechanism;

use crate::check::{Files, secret};
use crate::endpoint::OauthClient;
use crate::kind::Word;
use crate::section::Section;
use crate::value::{endpoint, path, text, word};

/// A login with a relay (RFC 4954).
#[derive(Clone)]
pub struct Login {
    pub username: String,
    pub secret: LoginSecret,
    pub mechanisms: Mechanisms,
}

#[derive(Clone)]
pub enum LoginSecret {
    /// Read from `password_file`.
    Password(String),
    /// `token_file`, which somebody else renews: read when it is needed.
    TokenFile(PathBuf),
    /// Fetched from `token_endpoint`.
    Oauth(OauthClient),
}

/// `auth`: which mechanisms may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanisms {
    /// The best one of those that the relay offers and that fit the secret.
    Auto,
    Only(Mechanism),
}

impl Word for Mechanisms {
    const WORDS: &'static [(&'static str, Mechanisms)] = &[
        ("auto", Mechanisms::Auto),
        ("plain", Mechanisms::Only(Mechanism::Plain)),
        ("login", Mechanisms::Only(Mechanism::Login)),
        ("scram-sha-256", Mechanisms::Only(Mechanism::ScramSha256)),
        ("oauthbearer", Mechanisms::Only(Mechanism::OauthBearer)),
        ("xoauth2", Mechanisms::Only(Mechanism::Xoauth2)),
    ];
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The keys that make no sense without a login.
pub(crate) const KEYS: [&str; 9] = [
    "username",
    "password_file",
    "auth",
    "token_file",
    "token_endpoint",
    "client_id",
    "client_secret_file",
    "refresh_token_file",
    "scope",
];

const SECRETS: [&str; 3] = ["password_file", "token_file", "token_endpoint"];
const OF_ENDPOINT: [&str; 4] = [
    "client_id",
    "client_secret_file",
    "refresh_token_file",
    "scope",
];

/// Exactly one secret beside `username`, and what belongs to it.
pub(crate) fn login(table: &Section<'_>, files: &dyn Files) -> Option<Login> {
    let username = table.optional("username", text);
    let mechanisms = table.value("auth", word::<Mechanisms>);
    let given: Vec<&str> = SECRETS.into_iter().filter(|key| table.has(key)).collect();
    match (table.has("username"), given.as_slice()) {
        (true, []) => table.refuse(
            "username",
            "its password is missing; add password_file = \"...\"",
        ),
        (false, [key, ..]) => {
            table.refuse(key, "whose password is it? Add username = \"...\"");
        }
        (true, [first, second, ..]) => table.refuse(
            second,
            &format!("there is {first} already; remove one of them"),
        ),
        (true, [_]) | (false, []) => {}
    }
    if !table.has("token_endpoint") {
        for key in OF_ENDPOINT.into_iter().filter(|key| table.has(key)) {
            table.refuse(key, "it is for token_endpoint, which is missing");
        }
    }
    let secret = match given.first().copied()? {
        "password_file" => LoginSecret::Password(first_line(table, "password_file", files)?),
        "token_file" => {
            // It may be renewed before it is used; that it cannot be read now is told now.
            first_line(table, "token_file", files)?;
            LoginSecret::TokenFile(table.optional("token_file", path)?)
        }
        _ => LoginSecret::Oauth(oauth_client(table, files)?),
    };
    check_mechanism(table, mechanisms, &secret);
    Some(Login {
        username: username?,
        secret,
        mechanisms,
    })
}

fn oauth_client(table: &Section<'_>, files: &dyn Files) -> Option<OauthClient> {
    let endpoint = table.optional("token_endpoint", endpoint);
    let client_id = table.optional("client_id", text);
    if !table.has("client_id") {
        table.refuse("token_endpoint", "who asks there? Add client_id = \"...\"");
    }
    if !table.has("client_secret_file") && !table.has("refresh_token_file") {
        table.refuse(
            "token_endpoint",
            "nothing proves who asks; add refresh_token_file or client_secret_file",
        );
        return None;
    }
    let of = |key| match table.has(key) {
        true => first_line(table, key, files).map(Some),
        false => Some(None),
    };
    let (client_secret, refresh_token) = (of("client_secret_file"), of("refresh_token_file"));
    Some(OauthClient {
        endpoint: endpoint?,
        client_id: client_id?,
        client_secret: client_secret?,
        refresh_token: refresh_token?,
        scope: table.optional("scope", text),
    })
}

fn first_line(table: &Section<'_>, key: &str, files: &dyn Files) -> Option<String> {
    let file = table.optional(key, path)?;
    secret(table, key, &file, files)
}

fn check_mechanism(table: &Section<'_>, mechanisms: Mechanisms, secret: &LoginSecret) {
    let Mechanisms::Only(mechanism) = mechanisms else {
        return;
    };
    match (mechanism, secret) {
        (
            Mechanism::Plain | Mechanism::Login | Mechanism::ScramSha256,
            LoginSecret::Password(_),
        )
        | (
            Mechanism::OauthBearer | Mechanism::Xoauth2,
            LoginSecret::TokenFile(_) | LoginSecret::Oauth(_),
        ) => {}
        (Mechanism::OauthBearer | Mechanism::Xoauth2, LoginSecret::Password(_)) => table.refuse(
            "auth",
            "it wants a token, and there is a password; write token_file or token_endpoint",
        ),
        (
            Mechanism::Plain | Mechanism::Login | Mechanism::ScramSha256,
            LoginSecret::TokenFile(_) | LoginSecret::Oauth(_),
        ) => table.refuse(
            "auth",
            "it wants a password, and there is a token; write password_file",
        ),
    }
}
