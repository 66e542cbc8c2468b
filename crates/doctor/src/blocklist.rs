//! Whether a public list names one of our addresses (RFC 5782).

use std::net::IpAddr;

use relay_route::Lookup;

use crate::examine::Doctor;
use crate::finding::Finding;

pub(crate) async fn check(doctor: &Doctor, address: IpAddr, list: &str) -> Finding {
    const CHECK: &str = "blocklist";
    let subject = address.to_string();
    let name = format!("{}.{list}", backwards(address));
    let answers = match doctor.resolver.addresses(&name).await {
        Lookup::Found(answers) => answers,
        Lookup::NoRecords | Lookup::NoSuchName => {
            return Finding::ok(CHECK, &subject, format!("not on {list}"));
        }
        Lookup::Trouble(words) => return Finding::unknown(CHECK, &subject, &words),
    };
    let shown: Vec<String> = answers.iter().map(IpAddr::to_string).collect();
    let begins = |answer: &IpAddr, with: &[u8]| match answer {
        IpAddr::V4(v4) => v4.octets().starts_with(with),
        IpAddr::V6(_) => false,
    };
    // Some lists answer 127.255 to resolvers that they do not serve; and what is not in 127/8 is no answer of a
    // list (section 2.1) but of a resolver that finds everything. Neither says anything of the address.
    let refused = |answer: &IpAddr| begins(answer, &[127, 255]) || !begins(answer, &[127]);
    if answers.iter().any(refused) {
        let found = format!("{list} does not answer our resolver ({})", shown.join(", "));
        let fix = "ask by a resolver of your own (dns.servers), not by a public one";
        return Finding::warn(CHECK, &subject, found, fix);
    }
    let why = match doctor.resolver.txt(&name).await {
        Lookup::Found(texts) => texts.into_iter().next(),
        Lookup::NoRecords | Lookup::NoSuchName | Lookup::Trouble(_) => None,
    };
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let found = format!("on {list} ({}){why}", shown.join(", "));
    let fix = format!("find out why at {list}, stop it, and ask there to be taken off");
    Finding::fail(CHECK, &subject, found, fix)
}

/// `7.2.0.192`, or the nibbles of an IPv6 address in reverse (section 2.4).
fn backwards(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev();
            let nibbles = nibbles.flat_map(|octet| [octet & 15, octet >> 4]);
            let nibbles: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            nibbles.join(".")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_backwards() {
        let of = |text: &str| backwards(text.parse().unwrap());
        assert_eq!(of("192.0.2.7"), "7.2.0.192");
        let v6 = of("2001:db8::1");
        assert!(v6.starts_with("1.0.0.0."), "{v6}");
        assert!(v6.ends_with(".8.b.d.0.1.0.0.2"), "{v6}");
    }
}
