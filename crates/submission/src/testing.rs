//! What the tests of this crate share.

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use relay_config::User;

/// A user without restrictions, with a hash that costs little.
pub(crate) fn user(name: &str, password: &str) -> User {
    let params = Params::new(Params::MIN_M_COST, 1, 1, None).expect("valid");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password.as_bytes(), b"salt of tests");
    User {
        name: name.to_owned(),
        password_hash: hash.expect("hashes").to_string(),
        senders: Vec::new(),
        rate: None,
    }
}
