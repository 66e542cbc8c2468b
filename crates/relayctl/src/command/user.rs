//! `relayctl user hash`: what stands in `password_hash`.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;

use crate::outcome::{Done, Outcome, Trouble};
use crate::prompt;

#[derive(clap::Subcommand)]
pub enum User {
    /// Print the argon2id hash of a password, read from the terminal or from standard input
    Hash,
}

impl User {
    pub fn run(self) -> Outcome {
        match self {
            User::Hash => {
                let password = prompt::new_password()
                    .map_err(|error| Trouble::NotWell(format!("no password: {error}")))?;
                println!("{}", hash(&password)?);
                Ok(Done::Well)
            }
        }
    }
}

/// A PHC string with a fresh salt.
fn hash(password: &str) -> Result<String, Trouble> {
    if password.is_empty() {
        return Err(Trouble::Usage(
            "the password is empty; write it as the first line of standard input".to_owned(),
        ));
    }
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| Trouble::NotWell(format!("the password cannot be hashed: {error}")))
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordVerifier, phc::PasswordHash};

    use super::*;

    #[test]
    fn a_hash_is_argon2id_salted_and_verifies() {
        let first = hash("secret").unwrap();
        assert!(first.starts_with("$argon2id$v=19$"), "{first}");
        assert_ne!(first, hash("secret").unwrap());
        let parsed = PasswordHash::new(&first).unwrap();
        let verify = |password: &[u8]| Argon2::default().verify_password(password, &parsed);
        assert!(verify(b"secret").is_ok());
        assert!(verify(b"Secret").is_err());
        assert_eq!(hash("").unwrap_err().status(), 2);
    }
}
