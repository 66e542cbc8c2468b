//! EHLO keywords (RFC 5321 section 4.1.1.1): what the other side offers, what we offer.
