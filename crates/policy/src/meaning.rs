//! What a code means by itself, in an operator's words: the basic codes with those that programs make up, and the enhanced ones.

use relay_smtp::EnhancedStatus;

/// What a basic code means; None: nobody uses it, only its first digit says something.
pub fn of_basic(code: u16) -> Option<&'static str> {
    BASIC
        .iter()
        .find(|(known, _)| *known == code)
        .map(|(_, meaning)| *meaning)
}

/// The basic codes in use.
pub(crate) fn basic() -> impl Iterator<Item = (u16, &'static str)> {
    BASIC.iter().copied()
}

/// Subject, detail and meaning of the enhanced codes in use.
pub(crate) fn enhanced() -> impl Iterator<Item = (u16, u16, &'static str)> {
    ENHANCED.iter().copied()
}

/// What the first digit of a basic code says.
pub fn of_digit(code: u16) -> &'static str {
    match code / 100 {
        1 => {
            "no reply of a server: programs show numbers of the operating system or of their own so"
        }
        2 => "done",
        3 => "go on: the server waits for more",
        4 => "not now: the same may work later",
        5 => "no: the same will not work later either",
        _ => "no reply code",
    }
}

/// What subject and detail of an enhanced code mean; None: the detail is not registered.
pub fn of_enhanced(code: EnhancedStatus) -> Option<&'static str> {
    ENHANCED
        .iter()
        .find(|(subject, detail, _)| (*subject, *detail) == (code.subject, code.detail))
        .map(|(_, _, meaning)| *meaning)
}

/// What the second number of an enhanced code speaks of (RFC 3463 section 3).
pub fn of_subject(subject: u16) -> &'static str {
    match subject {
        0 => "nothing in particular",
        1 => "an address: the recipient's or the sender's",
        2 => "the mailbox",
        3 => "the mail system of the receiving side",
        4 => "the network, DNS or the route",
        5 => "the SMTP dialogue",
        6 => "the content of the message",
        7 => "security or policy",
        _ => "a subject that is not registered",
    }
}

/// Codes of RFC 5321 and its extensions, and those that gateways, clients and lists of codes use besides.
const BASIC: &[(u16, &str)] = &[
    (
        101,
        "the connection could not be opened; a number some clients show, no server sends it",
    ),
    (
        111,
        "connection refused; the operating system's number for it, no server sends it",
    ),
    (211, "status or help"),
    (214, "help"),
    (220, "the greeting, or go ahead with TLS"),
    (221, "the server closes the session; normal after QUIT"),
    (235, "the login is accepted"),
    (240, "goodbye; an unusual answer to QUIT"),
    (
        250,
        "done; after the body it means that the server has taken the message over",
    ),
    (251, "accepted, and forwarded to another address"),
    (
        252,
        "accepted, though the address could not be checked beforehand",
    ),
    (334, "the login goes on"),
    (354, "send the message now"),
    (
        420,
        "the session timed out; a gateway's own number, no server sends it",
    ),
    (
        421,
        "the server ends the session: shutdown, load, too many connections, a rate, or greylisting",
    ),
    (
        422,
        "the mailbox is full, or the message too large for it; used by Exchange and gateways",
    ),
    (
        431,
        "disk or memory of the receiving side is short; used by Exchange",
    ),
    (
        432,
        "the receiving queue was stopped (Exchange); at AUTH: a new password is needed (RFC 4954)",
    ),
    (
        441,
        "the server does not answer; a number programs show, no server sends it",
    ),
    (
        442,
        "the connection broke during the session; a number programs show, no server sends it",
    ),
    (
        446,
        "too many hops, the message goes in circles; a number programs show",
    ),
    (
        447,
        "the message timed out before it could be delivered; a number programs show",
    ),
    (
        449,
        "a routing error inside Exchange; a number programs show",
    ),
    (
        450,
        "not now: mailbox busy, greylisting, a policy, or a check that is still running",
    ),
    (
        451,
        "not now: a fault, overload, DNS trouble, greylisting or a filter of the receiving side",
    ),
    (
        452,
        "not now: disk or memory is short, too many recipients, a full mailbox, or a rate: the text tells which",
    ),
    (
        453,
        "not now: the server takes no mail for a while, or has none to hand out",
    ),
    (
        454,
        "TLS or the login is not available for the moment; at RCPT some servers mean that they do not relay",
    ),
    (
        455,
        "the server cannot honour a parameter of MAIL or RCPT now",
    ),
    (458, "the server cannot queue messages for this node"),
    (459, "the server does not allow this node"),
    (
        465,
        "the receiving side lacks the character set of the message; used by Exchange",
    ),
    (471, "a filter or greylisting of the receiving side"),
    (
        500,
        "the command is not known or too long; often a firewall or virus scanner changes the session",
    ),
    (501, "an argument is wrong, mostly an address"),
    (502, "the command is known and switched off"),
    (
        503,
        "the order of commands is wrong; often only the echo of refused recipients, or a login is wanted first",
    ),
    (504, "a parameter or login mechanism is not offered"),
    (510, "the address is wrong; made up by gateways"),
    (511, "the address is wrong; made up by gateways"),
    (
        512,
        "the recipient's domain cannot be found; made up by gateways",
    ),
    (
        513,
        "the address is written wrongly; some servers mean that they do not relay",
    ),
    (515, "the address is wrong; made up by gateways"),
    (517, "the sender is refused; used by Courier"),
    (521, "the host takes no mail at all (RFC 7504)"),
    (
        523,
        "encryption is needed (RFC 5248); Exchange lists read it as too large for the recipient",
    ),
    (
        524,
        "TLS is required for this login; or the list cannot be expanded",
    ),
    (525, "the account is disabled"),
    (
        530,
        "a login, or TLS, is required first; some servers use it for barred hosts",
    ),
    (531, "the receiving side is out of space"),
    (
        533,
        "the server does not serve this recipient, or lacks a capability",
    ),
    (
        534,
        "the login mechanism is too weak, or the provider wants a stronger one",
    ),
    (535, "the login is wrong"),
    (538, "the login is allowed over TLS only"),
    (540, "the recipient is blocked or unknown"),
    (541, "the recipient's filter refuses the message"),
    (
        550,
        "refused: the mailbox does not exist, or policy, a block list, authentication, relaying: the text tells which",
    ),
    (
        551,
        "the recipient is not here; an address that is named is not to be followed",
    ),
    (
        552,
        "the mailbox is full or the message too large; after accepted recipients: too many recipients",
    ),
    (
        553,
        "the mailbox name, or the sender, is not allowed; some servers use it for block lists and relaying",
    ),
    (
        554,
        "failed, mostly a filter or block list; as a greeting: no mail is taken from here",
    ),
    (
        555,
        "a parameter of MAIL or RCPT, or an address, is not understood",
    ),
    (556, "the domain takes no mail (RFC 7504, RFC 7505)"),
    (
        571,
        "refused for policy: the address of this host, its reverse DNS, or relaying",
    ),
    (585, "the login is wrong; an unusual number"),
    (
        591,
        "the sending host or address is on a list; used by CommuniGate",
    ),
];

/// The registry of RFC 5248, with the details that large providers use besides.
const ENHANCED: &[(u16, u16, &str)] = &[
    (0, 0, "nothing more is known"),
    (1, 0, "something is wrong with an address"),
    (1, 1, "the mailbox does not exist"),
    (1, 2, "the domain of the address does not exist"),
    (1, 3, "the address is written wrongly"),
    (1, 4, "the address could stand for several mailboxes"),
    (1, 5, "the address is valid"),
    (1, 6, "the mailbox has moved"),
    (1, 7, "the sender's address is written wrongly"),
    (
        1,
        8,
        "the sender's domain does not exist or takes no answers",
    ),
    (
        1,
        9,
        "the message was relayed to a system that gives no reports",
    ),
    (1, 10, "the domain takes no mail: it has a null MX"),
    (1, 20, "the message has several From addresses (Microsoft)"),
    (
        1,
        90,
        "the account has sent to as many recipients as it may a day (Microsoft)",
    ),
    (
        1,
        351,
        "a server behind this one does not know the recipient (Microsoft)",
    ),
    (2, 0, "something is wrong with the mailbox"),
    (2, 1, "the mailbox is closed, or takes no mail now"),
    (2, 2, "the mailbox is full"),
    (2, 3, "the message is larger than the mailbox may have"),
    (2, 4, "the mailing list could not be expanded"),
    (
        2,
        121,
        "this sender has sent the mailbox as much as it may an hour (Microsoft)",
    ),
    (
        2,
        122,
        "the mailbox has had as much as it may an hour (Microsoft)",
    ),
    (3, 0, "something is wrong with the receiving system"),
    (3, 1, "the receiving system is out of space"),
    (3, 2, "the system takes no mail now"),
    (3, 3, "the system cannot do what the message needs"),
    (3, 4, "the message is larger than the system takes"),
    (3, 5, "the system is configured wrongly"),
    (3, 6, "the priority was changed"),
    (4, 0, "something is wrong with the network or the route"),
    (4, 1, "the host does not answer"),
    (4, 2, "the connection broke"),
    (4, 3, "DNS or a directory of the receiving side has trouble"),
    (4, 4, "no way to the domain is known"),
    (
        4,
        5,
        "congestion: a rate or a quota (Google: the day's sending quota)",
    ),
    (4, 6, "the message goes in circles"),
    (4, 7, "the message became too old"),
    (4, 14, "the message goes in circles (Microsoft)"),
    (
        4,
        310,
        "the recipient's domain does not exist at the provider (Microsoft)",
    ),
    (
        4,
        312,
        "a DNS question of the receiving side failed (Microsoft)",
    ),
    (
        4,
        316,
        "a server behind this one refuses connections (Microsoft)",
    ),
    (5, 0, "something is wrong with the dialogue"),
    (5, 1, "the command is not known, or not now"),
    (5, 2, "the command is written wrongly"),
    (5, 3, "too many recipients in one transaction"),
    (5, 4, "an argument of the command is wrong"),
    (5, 5, "the two sides speak different versions"),
    (5, 6, "a line of the login is too long"),
    (6, 0, "something is wrong with the content"),
    (6, 1, "the kind of content is not supported"),
    (
        6,
        2,
        "the content would have to be converted, which is not allowed",
    ),
    (
        6,
        3,
        "the content would have to be converted, which is not supported",
    ),
    (6, 4, "the content was converted, with losses"),
    (6, 5, "the content could not be converted"),
    (6, 6, "the content cannot be had"),
    (6, 7, "addresses beyond ASCII are not taken"),
    (6, 8, "a reply in UTF-8 is needed, and not allowed"),
    (6, 9, "headers in UTF-8 cannot be passed on"),
    (6, 10, "a reply in UTF-8 is needed, and not allowed"),
    (
        6,
        11,
        "the content has characters or line ends that are not allowed (Microsoft)",
    ),
    (7, 0, "a matter of security or policy"),
    (
        7,
        1,
        "not allowed, for whatever reason: relaying, spam, a block list, authentication, a policy: the text tells which",
    ),
    (7, 2, "the list does not take mail from this sender"),
    (
        7,
        3,
        "the security of the message would have to be converted",
    ),
    (7, 4, "a security feature is not supported"),
    (7, 5, "cryptography failed"),
    (7, 6, "the cryptographic algorithm is not supported"),
    (7, 7, "the message was changed on its way"),
    (7, 8, "the login is wrong"),
    (
        7,
        9,
        "the login mechanism is too weak; at Yahoo: the sender is not authenticated",
    ),
    (7, 10, "encryption is needed"),
    (7, 11, "encryption is needed for this login"),
    (7, 12, "a new password is needed"),
    (7, 13, "the account is disabled"),
    (7, 14, "a login with a relation of trust is needed"),
    (7, 15, "the priority is too low"),
    (7, 16, "the message is too large for its priority"),
    (7, 17, "the mailbox belongs to somebody else now"),
    (7, 18, "the domain belongs to somebody else now"),
    (7, 19, "whether the owner has changed cannot be checked"),
    (7, 20, "no DKIM signature passes"),
    (7, 21, "no DKIM signature is acceptable"),
    (7, 22, "no DKIM signature fits the author"),
    (7, 23, "SPF does not allow this host"),
    (7, 24, "SPF could not be checked"),
    (7, 25, "the reverse DNS of this host fails"),
    (
        7,
        26,
        "several authentication checks fail: SPF, DKIM, DMARC",
    ),
    (
        7,
        27,
        "the sender's domain has a null MX; at Google: SPF does not pass",
    ),
    (7, 28, "too much mail of this kind, IP or domain"),
    (
        7,
        29,
        "ARC fails; at Google: the message did not come over TLS",
    ),
    (7, 30, "REQUIRETLS is needed; at Google: DKIM does not pass"),
    (7, 31, "the From domain does not pass DMARC (Google)"),
    (
        7,
        32,
        "the From domain is not aligned with SPF or DKIM (Google)",
    ),
    (7, 40, "the From domain has no DMARC record (Google)"),
    (
        7,
        321,
        "the host must offer STARTTLS and does not (Microsoft)",
    ),
    (
        7,
        322,
        "the certificate of the host has expired (Microsoft)",
    ),
    (7, 323, "the TLSA record of the host is wrong (Microsoft)"),
    (
        7,
        324,
        "DNSSEC of the recipient's domain is wrong (Microsoft)",
    ),
    (
        7,
        500,
        "the address of this host is refused or limited for now (Microsoft)",
    ),
    (
        7,
        509,
        "the From domain fails DMARC and asks for refusal (Microsoft)",
    ),
    (
        7,
        515,
        "the From domain lacks the authentication that is asked for (Microsoft)",
    ),
    (
        7,
        606,
        "the address of this host is banned (Microsoft, 5.7.606 to 5.7.649)",
    ),
    (
        7,
        650,
        "the address of this host is limited for its reputation (Microsoft)",
    ),
    (
        7,
        700,
        "the tenant has sent more than it may (Microsoft, 5.7.700 to 5.7.749)",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_once() {
        for (at, (code, _)) in BASIC.iter().enumerate() {
            assert!(BASIC[..at].iter().all(|(other, _)| other < code), "{code}");
        }
        for (at, (subject, detail, _)) in ENHANCED.iter().enumerate() {
            let before = |other: &&(u16, u16, &str)| (other.0, other.1) >= (*subject, *detail);
            assert!(
                !ENHANCED[..at].iter().any(|other| before(&other)),
                "{subject}.{detail}"
            );
        }
    }
}
