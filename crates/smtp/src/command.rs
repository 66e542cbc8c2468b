//! Commands and their parameters, read from a line and written to one (RFC 5321 section 4.1.1).
