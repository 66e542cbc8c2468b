//! Scripts in virtual time, random operations, and what a job costs.

mod health;
mod paths;
mod random;
mod script;
mod shared;
mod size;
