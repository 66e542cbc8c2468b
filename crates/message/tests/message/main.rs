//! What others make of our bytes: an independent verifier of DKIM, and DSNs compared octet by octet.

mod dkim_verified;
