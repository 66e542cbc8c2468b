//! Limits.
use relay_config::User;
#[derive(Default)]
pub struct Counts;
pub struct UserRates;
impl UserRates {
    pub fn new(_users: &[User]) -> UserRates {
        UserRates
    }
}
