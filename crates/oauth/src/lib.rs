//! OAuth 2.0 access tokens for relays with a login: fetched from the token endpoint, refreshed, kept.
//!
//! How a token is said to a relay is `smtp`'s part, and which relay wants one stands in the
//! configuration. Tokens and secrets are in no log and in no error.

mod answer;
mod http;
mod kept;
mod tokens;

pub use http::{Asking, Endpoints, HttpAnswer, HttpsEndpoints};
pub use tokens::{NoToken, Tokens};
