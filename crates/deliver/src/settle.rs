//! From outcomes to settlements: ask the policy, compose DSNs, write once.
