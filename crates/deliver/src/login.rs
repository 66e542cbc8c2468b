//! What is said to a relay to log in: a password, or a token that is good now. A token that the relay
//! refuses is exchanged for another one, once.

use std::path::Path;

use relay_config::{Config, LoginSecret, Mechanisms};
use relay_oauth::NoToken;
use relay_smtp::client::{Login, Secret};
use relay_smtp::reply::ReplyClass;
use relay_smtp::{NextHop, Phase};

use crate::open::Refusal;
use crate::settle::Said;
use crate::world::World;

/// For one session.
pub(crate) struct Credentials<'a> {
    login: &'a relay_config::Login,
    said: Secret,
}

/// For the relays of this next hop. None: they want no login.
pub(crate) async fn credentials<'a>(
    world: &World,
    config: &'a Config,
    hop: &NextHop,
) -> Result<Option<Credentials<'a>>, NoToken> {
    let route = match hop {
        NextHop::Relay(name) => config.route(name),
        NextHop::Domain(_) | NextHop::Address(_) => None,
    };
    match route.and_then(|route| route.login.as_ref()) {
        None => Ok(None),
        Some(login) => Ok(Some(Credentials {
            login,
            said: now(world, login).await?,
        })),
    }
}

async fn now(world: &World, login: &relay_config::Login) -> Result<Secret, NoToken> {
    match &login.secret {
        LoginSecret::Password(password) => Ok(Secret::Password(password.clone())),
        LoginSecret::TokenFile(file) => from_file(file).await.map(Secret::Token),
        LoginSecret::Oauth(client) => {
            let token = world.tokens.token(client, world.clock.now()).await;
            token.map(Secret::Token)
        }
    }
}

async fn from_file(file: &Path) -> Result<String, NoToken> {
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|error| NoToken(format!("token_file {}: {error}", file.display())))?;
    let token = text.lines().next().unwrap_or_default().trim();
    // It must not break out of what it is said in.
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(NoToken(format!(
            "token_file {}: its first line is no token",
            file.display()
        ))),
    }
}

impl Credentials<'_> {
    pub fn login(&self) -> Login {
        Login {
            username: self.login.username.clone(),
            secret: self.said.clone(),
            only: match self.login.mechanisms {
                Mechanisms::Auto => None,
                Mechanisms::Only(mechanism) => Some(mechanism),
            },
            nonce: nonce(),
        }
    }

    /// After a refusal by the relay: others that may do better, where there are any. A token may be taken
    /// back long before its time.
    pub async fn after(self, refusal: &Refusal, world: &World) -> Option<Self> {
        let Secret::Token(refused) = &self.said else {
            return None;
        };
        let for_good = match &refusal.said {
            Said::Reply(reply) => reply.class() == ReplyClass::Permanent,
            Said::Failure { .. } => false,
        };
        if refusal.phase != Phase::Auth || !for_good {
            return None;
        }
        if let LoginSecret::Oauth(client) = &self.login.secret {
            world.tokens.refused(client, refused).await;
        }
        match now(world, self.login).await {
            Ok(Secret::Token(token)) if token != *refused => Some(Credentials {
                login: self.login,
                said: Secret::Token(token),
            }),
            // What the relay has said stands; why there is no other token is told by the next session.
            Ok(_) | Err(_) => None,
        }
    }
}

/// For SCRAM: 128 bits that nobody can guess, as text without a comma.
fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}
