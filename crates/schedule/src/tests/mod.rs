//! Scripts in virtual time, random operations, and what a million jobs cost.

mod random;
mod script;
mod size;
