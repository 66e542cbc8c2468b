//! What a server offers: its EHLO reply, read into the extensions that we know (RFC 5321 section
//! 4.1.1.1). Unknown keywords and parameters are passed over.

use crate::reply::Reply;

/// The extensions of one session. After a STARTTLS they are asked for anew (RFC 3207 section 4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920
    pub pipelining: Offered,
    /// RFC 1870
    pub size: Size,
    /// RFC 6152
    pub eight_bit_mime: Offered,
    /// RFC 6531
    pub smtputf8: Offered,
    /// RFC 3461
    pub dsn: Offered,
    /// RFC 3207
    pub starttls: Offered,
    /// RFC 2034
    pub enhanced_status_codes: Offered,
    /// RFC 3030
    pub chunking: Offered,
    /// RFC 8689
    pub require_tls: Offered,
    /// RFC 6710
    pub mt_priority: Offered,
    /// The mechanisms of AUTH (RFC 4954), upper case, in the server's order; empty: none.
    pub auth: Vec<String>,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offered {
    Yes,
    #[default]
    No,
}

/// SIZE of RFC 1870.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    #[default]
    NotOffered,
    /// Offered without a number, or with 0: no fixed limit.
    NoLimit,
    /// Bytes.
    Max(u64),
}

/// LIMITS of RFC 9422; None: not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in a session.
    pub mail_max: Option<u32>,
    /// Recipients in a transaction.
    pub rcpt_max: Option<u32>,
    /// Different recipient domains in a session.
    pub rcpt_domain_max: Option<u32>,
}

/// Peers choose the number of words.
const AUTH_MECHANISMS_MAX: usize = 32;

impl Extensions {
    /// Reads the reply to EHLO. Its first line is the greeting.
    pub fn of(reply: &Reply) -> Extensions {
        let mut extensions = Extensions::default();
        for line in reply.lines.iter().skip(1) {
            extensions.read_line(line);
        }
        extensions
    }

    fn read_line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next().map(str::to_ascii_uppercase) else {
            return;
        };
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = Offered::Yes,
            "8BITMIME" => self.eight_bit_mime = Offered::Yes,
            "SMTPUTF8" => self.smtputf8 = Offered::Yes,
            "DSN" => self.dsn = Offered::Yes,
            "STARTTLS" => self.starttls = Offered::Yes,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = Offered::Yes,
            "REQUIRETLS" => self.require_tls = Offered::Yes,
            // What may follow names a profile: who knows none uses the numbers as they are.
            "MT-PRIORITY" => self.mt_priority = Offered::Yes,
            "CHUNKING" => self.chunking = Offered::Yes,
            "SIZE" => {
                self.size = match words.next().map(str::parse) {
                    Some(Ok(max)) if max > 0 => Size::Max(max),
                    Some(_) | None => Size::NoLimit,
                }
            }
            "AUTH" => self.add_mechanisms(words),
            "LIMITS" => self.limits.read(words),
            // "AUTH=LOGIN PLAIN", as servers wrote it for clients older than RFC 2554.
            other => {
                if let Some(first) = other.strip_prefix("AUTH=") {
                    self.add_mechanisms(std::iter::once(first).chain(words));
                }
            }
        }
    }

    fn add_mechanisms<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            let mechanism = word.to_ascii_uppercase();
            let known = mechanism.is_empty() || self.auth.contains(&mechanism);
            if !known && self.auth.len() < AUTH_MECHANISMS_MAX {
                self.auth.push(mechanism);
            }
        }
    }

    /// Whether AUTH may be tried with this mechanism (upper case).
    pub fn has_mechanism(&self, mechanism: &str) -> bool {
        self.auth.iter().any(|offered| offered == mechanism)
    }
}

impl Limits {
    fn read<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                continue;
            };
            // 0 would forbid all mail: a mistake of the server's.
            let value = value.parse().ok().filter(|value| *value > 0);
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => self.mail_max = value,
                "RCPTMAX" => self.rcpt_max = value,
                "RCPTDOMAINMAX" => self.rcpt_domain_max = value,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Extensions {
        Extensions::of(&Reply {
            code: 250,
            enhanced: None,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        })
    }

    #[test]
    fn every_known_extension_is_found_in_any_case() {
        let extensions = read(&[
            "mx.example greets you",
            "pipelining",
            "SIZE 35882577",
            "8BITMIME",
            "SmtpUtf8",
            "DSN",
            "STARTTLS",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
            "requiretls",
            "MT-PRIORITY MIXER",
            "AUTH PLAIN login XOAUTH2",
            "AUTH=LOGIN CRAM-MD5",
            "LIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1",
            "X-OTHER 1 2",
        ]);
        assert_eq!(
            extensions,
            Extensions {
                pipelining: Offered::Yes,
                size: Size::Max(35_882_577),
                eight_bit_mime: Offered::Yes,
                smtputf8: Offered::Yes,
                dsn: Offered::Yes,
                starttls: Offered::Yes,
                enhanced_status_codes: Offered::Yes,
                chunking: Offered::Yes,
                require_tls: Offered::Yes,
                mt_priority: Offered::Yes,
                auth: ["PLAIN", "LOGIN", "XOAUTH2", "CRAM-MD5"]
                    .map(str::to_owned)
                    .to_vec(),
                limits: Limits {
                    mail_max: Some(5),
                    rcpt_max: Some(20),
                    rcpt_domain_max: Some(1),
                },
            }
        );
    }

    #[test]
    fn the_greeting_is_no_extension_and_odd_values_do_no_harm() {
        assert_eq!(read(&["PIPELINING"]), Extensions::default());
        assert_eq!(read(&["x", "SIZE"]).size, Size::NoLimit);
        assert_eq!(read(&["x", "SIZE 0"]).size, Size::NoLimit);
        assert_eq!(read(&["x", "SIZE -1"]).size, Size::NoLimit);
        assert_eq!(
            read(&["x", "LIMITS RCPTMAX=0 x ="]).limits,
            Limits::default()
        );
        assert_eq!(read(&["x", "AUTH", "", "AUTH="]).auth, Vec::<String>::new());
    }
}
