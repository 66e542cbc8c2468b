//! `relayctl doctor`: what a deliverability check site would tell, of a domain or of ourselves.

use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;
use jiff::Timestamp;
use relay_admin::files;
use relay_config::{Config, MtaStsUse, PrivateAddresses};
use relay_deliver::dial::{TcpDialer, is_private};
use relay_deliver::tls::{TlsClient, roots};
use relay_doctor::{Blocklists, Doctor, Finding, Internet, Question};
use relay_https::Https;
use relay_route::Resolver;
use relay_sts::{HttpsFetch, Sts};

use super::dkim::{configuration, domain, resolver};
use super::findings;
use crate::Output;
use crate::client::Client;
use crate::outcome::{Outcome, Trouble};
use crate::text::Screen;

#[derive(clap::Args)]
pub struct Examine {
    /// A domain that mail goes to; without it: ourselves, as receivers see us
    domain: Option<String>,
    /// The domain that we send for [default: each that has a DKIM key]
    #[arg(long, value_name = "DOMAIN", conflicts_with = "domain")]
    sender: Option<String>,
    /// Also ask the block lists of doctor.blocklists about our addresses
    #[arg(long, conflicts_with = "domain")]
    blocklists: bool,
    /// Look from here by this configuration, not by way of relayd
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Examine {
    pub async fn run(&self, client: &Client, screen: &Screen) -> Outcome {
        let question = self.question()?;
        let busy = ProgressBar::new_spinner().with_message("asking DNS and hosts");
        busy.enable_steady_tick(std::time::Duration::from_millis(120));
        let found = self.ask(&question, client).await;
        busy.finish_and_clear();
        Ok(findings::print(&found?, self.output.format(), screen))
    }

    fn question(&self) -> Result<Question, Trouble> {
        let read = |text: &Option<String>| text.as_deref().map(domain).transpose();
        Ok(Question {
            domain: read(&self.domain)?,
            sender: read(&self.sender)?,
            blocklists: match self.blocklists {
                true => Blocklists::Asked,
                false => Blocklists::LeftAlone,
            },
        })
    }

    /// relayd sees what mail will meet; without it this program looks in the same way.
    async fn ask(&self, question: &Question, client: &Client) -> Result<Vec<Finding>, Trouble> {
        if let Some(path) = &self.config {
            return look(question, &configuration(path)?).await;
        }
        let asked: Result<Vec<Finding>, Trouble> = client.post("/v1/doctor", question).await;
        let unreachable = match asked {
            Err(Trouble::Unreachable(words)) => words,
            answered => return answered,
        };
        let default = PathBuf::from(files::DEFAULT_PATH);
        if !default.exists() {
            return Err(Trouble::Unreachable(format!(
                "{unreachable}\nOr name a configuration with --config, to look from here."
            )));
        }
        look(question, &configuration(&default)?).await
    }
}

async fn look(question: &Question, config: &Config) -> Result<Vec<Finding>, Trouble> {
    let signers = files::signers(&config.dkim);
    let signers = signers.map_err(|mistakes| Trouble::Configuration(mistakes.join("\n  ")))?;
    let doctor = Arc::new(doctor(config)?);
    let now = Timestamp::now();
    Ok(doctor.examine(question, config, &signers, now).await)
}

fn doctor(config: &Config) -> Result<Doctor, Trouble> {
    let resolver: Arc<dyn Resolver> = Arc::new(resolver(config)?);
    let extra = match &config.delivery.tls_roots {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Trouble::Configuration(format!("{}: {error}", path.display())))?,
        None => String::new(),
    };
    let roots = roots(&extra);
    let private = config.delivery.private_addresses;
    let reach = move |address| match private {
        PrivateAddresses::Allowed => true,
        PrivateAddresses::Refused => !is_private(address),
    };
    let sts = match config.mta_sts.enabled {
        MtaStsUse::Off => None,
        MtaStsUse::On => {
            let https = Https::new(resolver.clone(), roots.clone(), reach);
            let https = Arc::new(https.map_err(Trouble::NotWell)?);
            let fetch = HttpsFetch::new(https, config.mta_sts.port);
            let now = Timestamp::now();
            Some(Arc::new(Sts::open(
                None,
                resolver.clone(),
                Arc::new(fetch),
                now,
            )))
        }
    };
    Ok(Doctor {
        resolver,
        dialer: Arc::new(TcpDialer),
        tls: TlsClient::with_roots(roots).map_err(Trouble::NotWell)?,
        sts,
        internet: Internet::Real,
    })
}
