//! SCRAM-SHA-256 for a client (RFC 5802, RFC 7677): the password is never sent, and the server must prove
//! that it knows it, too.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The server chooses the number: with fewer rounds a password that was stolen from it could be guessed
/// (RFC 7677 section 4), with more it would keep our processor busy.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=300_000;
const SALT_BYTES_MAX: usize = 1024;

/// Why the server is not answered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("its SCRAM challenge cannot be read")]
    Unreadable,
    /// A peer in the middle, or a reply to somebody else's session.
    #[error("its SCRAM challenge does not begin with our nonce")]
    Nonce,
    #[error("it asks for fewer than 4096 or more than 300000 SCRAM rounds")]
    Rounds,
    #[error("it did not prove that it knows the password")]
    Signature,
}

/// Our side after the first message.
#[derive(Clone, PartialEq, Eq)]
pub struct First {
    password: String,
    nonce: String,
    /// The first message without its GS2 header.
    bare: String,
}

/// Our side after the last message: what the server must say.
#[derive(Clone, PartialEq, Eq)]
pub struct Last {
    server_signature: [u8; 32],
}

/// No channel binding: nothing of it is known here (RFC 5802 section 6).
const GS2_HEADER: &str = "n,,";

impl First {
    /// `nonce`: printable, without a comma, never used before. Returns the message to say.
    pub fn new(username: &str, password: &str, nonce: &str) -> (First, String) {
        // "=" and "," have a meaning here (RFC 5802 section 5.1).
        let name = username.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let message = format!("{GS2_HEADER}{bare}");
        let first = First {
            password: password.to_owned(),
            nonce: nonce.to_owned(),
            bare,
        };
        (first, message)
    }

    /// The answer to the server's challenge.
    pub fn answer(&self, challenge: &str) -> Result<(Last, String), ScramError> {
        let mut fields = challenge.split(',');
        let mut field = |name: &str| {
            let value = fields.next()?.strip_prefix(name)?;
            value.strip_prefix('=')
        };
        // What begins with m= is an extension that we would have to know (RFC 5802 section 5.1).
        let nonce = field("r").ok_or(ScramError::Unreadable)?;
        let salt = field("s").and_then(|salt| STANDARD.decode(salt).ok());
        let rounds = field("i").and_then(|rounds| rounds.parse::<u32>().ok());
        let salt = salt.filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
        let (Some(salt), Some(rounds)) = (salt, rounds) else {
            return Err(ScramError::Unreadable);
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let rounds = NonZeroU32::new(rounds).filter(|rounds| ROUNDS.contains(&rounds.get()));
        let rounds = rounds.ok_or(ScramError::Rounds)?;
        let binding = STANDARD.encode(GS2_HEADER);
        let without_proof = format!("c={binding},r={nonce}");
        let auth_message = format!("{},{challenge},{without_proof}", self.bare);
        let salted = salted(&self.password, &salt, rounds);
        let (proof, server_signature) = proofs(&salted, auth_message.as_bytes());
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        Ok((Last { server_signature }, message))
    }
}

impl Last {
    /// The server's last word. Only after this is it known to be the right one.
    pub fn check(&self, last: &str) -> Result<(), ScramError> {
        let verifier = last
            .split(',')
            .next()
            .and_then(|field| field.strip_prefix("v="));
        let said = verifier.and_then(|text| STANDARD.decode(text).ok());
        let said = said.ok_or(ScramError::Signature)?;
        constant_time::verify_slices_are_equal(&said, &self.server_signature)
            .map_err(|_| ScramError::Signature)
    }
}

/// Secrets are not for logs.
impl std::fmt::Debug for First {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("scram::First")
    }
}

impl std::fmt::Debug for Last {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("scram::Last")
    }
}

fn salted(password: &str, salt: &[u8], rounds: NonZeroU32) -> [u8; 32] {
    let mut out = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt,
        password.as_bytes(),
        &mut out,
    );
    out
}

/// ClientProof and ServerSignature (RFC 5802 section 3).
fn proofs(salted: &[u8; 32], auth_message: &[u8]) -> ([u8; 32], [u8; 32]) {
    let client_key = mac(salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let signature = mac(stored_key.as_ref(), auth_message);
    let server_key = mac(salted, b"Server Key");
    let mut proof = client_key;
    for (byte, mask) in proof.iter_mut().zip(signature) {
        *byte ^= mask;
    }
    (proof, mac(&server_key, auth_message))
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    for (byte, of_tag) in out.iter_mut().zip(tag.as_ref()) {
        *byte = *of_tag;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The example of RFC 7677 section 3.
    #[test]
    fn the_published_example_comes_out() {
        let (first, message) = First::new("user", "pencil", NONCE);
        assert_eq!(message, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, message) = first.answer(CHALLENGE).unwrap();
        assert_eq!(
            message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            last.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
        for wrong in [
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=",
            "v=",
            "",
            "e=invalid-proof",
        ] {
            assert_eq!(last.check(wrong), Err(ScramError::Signature), "{wrong}");
        }
    }

    #[test]
    fn a_challenge_that_is_not_for_us_or_too_dear_is_not_answered() {
        let (first, _) = First::new("a=b,c", "secret", "abc");
        for (challenge, why) in [
            (
                "r=abcX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
                ScramError::Rounds,
            ),
            (
                "r=abcX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=300001",
                ScramError::Rounds,
            ),
            ("r=abcX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0", ScramError::Rounds),
            ("r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", ScramError::Nonce),
            (
                "r=xyzX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                ScramError::Nonce,
            ),
            ("r=abcX,s=,i=4096", ScramError::Unreadable),
            ("r=abcX,s=?,i=4096", ScramError::Unreadable),
            (
                "m=x,r=abcX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                ScramError::Unreadable,
            ),
            ("", ScramError::Unreadable),
        ] {
            assert_eq!(first.answer(challenge).unwrap_err(), why, "{challenge}");
        }
    }

    #[test]
    fn a_name_is_escaped_and_nothing_secret_is_shown() {
        let (first, message) = First::new("a=b,c", "secret", "abc");
        assert_eq!(message, "n,,n=a=3Db=2Cc,r=abc");
        assert!(!format!("{first:?}").contains("secret"));
    }
}
