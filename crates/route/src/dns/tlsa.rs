//! Which TLSA records hold for a host (RFC 7672 section 2.2): only those to which a validated chain leads.

use hickory_resolver::proto::rr::{RData, RecordType};

use super::{HickoryResolver, plain};
use crate::resolver::{Dnssec, Lookup, Tlsa, TlsaRecord};

impl HickoryResolver {
    pub(super) async fn find_tlsa(&self, mx_of: Option<&str>, host: &str, port: u16) -> Tlsa {
        if !self.believes_ad() {
            return Tlsa::None;
        }
        // An MX record that anybody could have forged leads to a host that anybody could have named:
        // its own records prove nothing (RFC 7672 section 2.2.1).
        if let Some(domain) = mx_of {
            match self.ask_for_proof(domain, RecordType::MX, any).await {
                (Lookup::Trouble(words), _) => return Tlsa::Trouble(words),
                (Lookup::Found(_), Dnssec::Secure) => {}
                (Lookup::Found(_) | Lookup::NoRecords | Lookup::NoSuchName, _) => {
                    return Tlsa::None;
                }
            }
        }
        let bases = match self.bases(host).await {
            Ok(bases) => bases,
            Err(words) => return Tlsa::Trouble(words),
        };
        for base in bases {
            let owner = format!("_{port}._tcp.{base}");
            match self.ask_for_proof(&owner, RecordType::TLSA, tlsa).await {
                (Lookup::Found(records), Dnssec::Secure) => return Tlsa::Found { base, records },
                (Lookup::Found(_), Dnssec::Insecure) => {}
                (Lookup::NoRecords | Lookup::NoSuchName, _) => {}
                (Lookup::Trouble(words), _) => return Tlsa::Trouble(words),
            }
        }
        Tlsa::None
    }

    /// Where the records of a host may stand, in the order in which they are looked for: at the name that
    /// its aliases lead to, then at its own (RFC 7672 section 2.2.2). Empty: at neither. A host with
    /// unsigned addresses is not asked for TLSA: many name servers of such zones fail at the question, and
    /// mail to them would wait in vain.
    async fn bases(&self, host: &str) -> Result<Vec<String>, String> {
        let address = |name: &_, data: &RData| data.ip_addr().map(|_| plain(name));
        let (v4, v6) = tokio::join!(
            self.ask_for_proof(host, RecordType::A, address),
            self.ask_for_proof(host, RecordType::AAAA, address)
        );
        let mut owners = Vec::new();
        let mut all = Dnssec::Secure;
        for (found, dnssec) in [v4, v6] {
            if let Lookup::Found(names) = found {
                owners.extend(names);
                if dnssec == Dnssec::Insecure {
                    all = Dnssec::Insecure;
                }
            }
        }
        // No address: nobody is going to be connected to.
        let Some(target) = owners.into_iter().next() else {
            return Ok(Vec::new());
        };
        let own = host.to_ascii_lowercase();
        match (all, target == own) {
            (Dnssec::Secure, true) => Ok(vec![own]),
            (Dnssec::Secure, false) => Ok(vec![target, own]),
            (Dnssec::Insecure, true) => Ok(Vec::new()),
            // The alias leads out of signed zones; if the alias itself is signed, records beside it hold.
            (Dnssec::Insecure, false) => {
                match self.ask_for_proof(&own, RecordType::CNAME, any).await {
                    (Lookup::Found(_), Dnssec::Secure) => Ok(vec![own]),
                    (Lookup::Trouble(words), _) => Err(words),
                    (Lookup::Found(_) | Lookup::NoRecords | Lookup::NoSuchName, _) => {
                        Ok(Vec::new())
                    }
                }
            }
        }
    }
}

fn any(_: &hickory_resolver::proto::rr::Name, _: &RData) -> Option<()> {
    Some(())
}

fn tlsa(_: &hickory_resolver::proto::rr::Name, data: &RData) -> Option<TlsaRecord> {
    match data {
        RData::TLSA(record) => Some(TlsaRecord {
            usage: record.cert_usage.into(),
            selector: record.selector.into(),
            matching: record.matching.into(),
            data: record.cert_data.clone(),
        }),
        _ => None,
    }
}
