//! The concurrency window of a site: 1/N feedback.
