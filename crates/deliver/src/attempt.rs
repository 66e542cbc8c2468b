//! One session: dial, TLS, EHLO, AUTH, then dispatch after dispatch.
