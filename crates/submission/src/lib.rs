//! Accepts mail: listens, drives the server session, checks logins and limits, and says 250 only
//! after the queue's commit has returned.
//!
//! It never delivers, never decides about a retry and reads no file: what is accepted is handed to
//! [`Accepted`], certificates and users come in through [`World`].

mod auth;
mod held;
mod limits;
pub mod listener;
mod session;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tls;
mod wire;
pub mod world;

pub use listener::{Bound, Socket, serve};
pub use world::{Accepted, CameBack, Reports, Settings, Understood, World};
