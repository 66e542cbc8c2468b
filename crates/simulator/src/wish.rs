//! From a recipient's local part to what the simulated host does with it.

use std::time::Duration;

use relay_smtp::{EnhancedStatus, Reply, StatusClass};

/// What happens to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// RCPT and message are accepted.
    Accept,
    /// RCPT gets this reply. A 421 also ends the session (RFC 5321 section 3.8).
    AtRcpt(Reply),
    /// The final dot gets this reply.
    AtBody(Reply),
    /// Refused the first time, accepted from [`GREYLIST`] later on.
    Greylist,
    /// Accepted, but the reply to the final dot takes [`SLOW`].
    Slow,
    /// The connection ends after the final dot, without a reply.
    Disconnect,
}

/// How long `greylist@` refuses, and says so.
pub const GREYLIST: Duration = Duration::from_secs(30);
/// How long `slow@` takes.
pub const SLOW: Duration = Duration::from_secs(5);

/// What the local part asks for. What follows a `+` does not count, so that one wish can have many
/// addresses (`bounce+1@`, `bounce+2@`). Upper and lower case are the same here.
pub fn wish(local_part: &str) -> Wish {
    let name = local_part.trim_matches('"').to_ascii_lowercase();
    let name = name.split('+').next().unwrap_or_default();
    match name {
        "bounce" => at_rcpt(550, "5.1.1", "The email account does not exist"),
        "defer" => at_rcpt(451, "4.3.0", "Temporary lookup failure, try again later"),
        "greylist" => Wish::Greylist,
        "mailboxfull" => at_rcpt(452, "4.2.2", "The mailbox is over its quota"),
        "ratelimit" => at_rcpt(
            421,
            "4.7.28",
            "Our system has detected an unusual rate of mail from your IP address",
        ),
        "blocked" => at_rcpt(
            550,
            "5.7.1",
            "Service unavailable; client host is listed on the block list dnsbl.example.net",
        ),
        "spam" => Wish::AtBody(reply(
            550,
            "5.7.1",
            "This message was classified as spam and may not be delivered",
        )),
        "slow" => Wish::Slow,
        "disconnect" => Wish::Disconnect,
        other => asked_code(other).unwrap_or(Wish::Accept),
    }
}

fn at_rcpt(code: u16, enhanced: &str, text: &str) -> Wish {
    Wish::AtRcpt(reply(code, enhanced, text))
}

fn reply(code: u16, enhanced: &str, text: &str) -> Reply {
    Reply::new(code, enhanced.parse().ok(), text)
}

/// `code-550-5.7.26`, `code-451`, and with `-body` behind it the same at the final dot.
fn asked_code(name: &str) -> Option<Wish> {
    let asked = name.strip_prefix("code-")?;
    let (asked, at_body) = match asked.strip_suffix("-body") {
        Some(rest) => (rest, true),
        None => (asked, false),
    };
    let (code, enhanced) = match asked.split_once('-') {
        Some((code, enhanced)) => (code, Some(enhanced.parse::<EnhancedStatus>().ok()?)),
        None => (asked, None),
    };
    let code: u16 = code.parse().ok()?;
    let refused = (400..=599).contains(&code);
    let contradicts = |status: EnhancedStatus| match status.class {
        StatusClass::Success => true,
        StatusClass::Transient | StatusClass::Permanent => false,
    };
    if !refused || enhanced.is_some_and(contradicts) {
        return None;
    }
    let reply = Reply::new(code, enhanced, "As the address asks");
    Some(if at_body {
        Wish::AtBody(reply)
    } else {
        Wish::AtRcpt(reply)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_of_the_documentation_has_its_answer() {
        let text = |local_part| match wish(local_part) {
            Wish::AtRcpt(reply) => format!("rcpt {reply}"),
            Wish::AtBody(reply) => format!("body {reply}"),
            other => format!("{other:?}"),
        };
        for (local_part, starts) in [
            ("ok", "Accept"),
            ("jane.doe", "Accept"),
            ("bounce", "rcpt 550 5.1.1 "),
            ("Bounce+7", "rcpt 550 5.1.1 "),
            ("defer", "rcpt 451 4.3.0 "),
            ("greylist", "Greylist"),
            ("mailboxfull", "rcpt 452 4.2.2 "),
            ("ratelimit", "rcpt 421 4.7.28 "),
            ("blocked", "rcpt 550 5.7.1 "),
            ("spam", "body 550 5.7.1 "),
            ("slow", "Slow"),
            ("disconnect", "Disconnect"),
            ("code-550-5.7.26", "rcpt 550 5.7.26 "),
            ("code-451", "rcpt 451 As"),
            ("code-552-5.3.4-body", "body 552 5.3.4 "),
            ("code-250", "Accept"),
            ("code-550-2.0.0", "Accept"),
            ("code-nonsense", "Accept"),
        ] {
            assert!(
                text(local_part).starts_with(starts),
                "{local_part}: {}",
                text(local_part)
            );
        }
    }
}
