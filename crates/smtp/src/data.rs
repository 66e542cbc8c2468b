//! Dots: stuffing on the way out, unstuffing and the end of data on the way in (RFC 5321 section 4.5.2).
