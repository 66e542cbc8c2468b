//! What may be asked, and who answers it.

use std::sync::Arc;

use jiff::Timestamp;
use relay_config::Config;
use relay_deliver::dial::Dialer;
use relay_deliver::tls::TlsClient;
use relay_message::dkim::Signer;
use relay_route::Resolver;
use relay_smtp::Domain;
use relay_sts::Sts;
use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::{domain, us};

/// Made once; what it looks with is what delivery uses.
pub struct Doctor {
    pub resolver: Arc<dyn Resolver>,
    pub dialer: Arc<dyn Dialer>,
    pub tls: TlsClient,
    /// None: MTA-STS is not looked for.
    pub sts: Option<Arc<Sts>>,
    pub internet: Internet,
}

/// What resolver and dialer lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Internet {
    Real,
    /// A simulator: nobody sees this machine.
    Simulated,
}

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// A domain that mail goes to. None: ourselves.
    pub domain: Option<Domain>,
    /// Whose mail we send. None: of every domain that we have a key for.
    pub sender: Option<Domain>,
    pub blocklists: Blocklists,
}

/// Whether public lists are asked about our addresses: each question tells them that we are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocklists {
    Asked,
    LeftAlone,
}

/// The state of things when it was asked.
pub(crate) struct Patient<'a> {
    pub config: &'a Config,
    pub signers: &'a [Signer],
    pub now: Timestamp,
}

impl Doctor {
    /// Takes as long as the slowest host: half a minute at most.
    pub async fn examine(
        self: &Arc<Doctor>,
        question: &Question,
        config: &Config,
        signers: &[Signer],
        now: Timestamp,
    ) -> Vec<Finding> {
        let patient = Patient {
            config,
            signers,
            now,
        };
        match &question.domain {
            Some(domain) => domain::examine(self, &patient, domain).await,
            None => us::examine(self, &patient, question).await,
        }
    }
}
