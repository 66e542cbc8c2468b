//! `relayctl dkim`: make a key, show the record to publish, compare DNS with it. Needs no daemon: keys and
//! resolvers are those of the configuration.

mod generate;

use std::path::PathBuf;

use clap::Subcommand;
use relay_admin::files::{self, DEFAULT_PATH};
use relay_config::{Config, TrustAd};
use relay_message::dkim::{Signer, record};
use relay_route::{AdBit, HickoryResolver};
use relay_smtp::Domain;
use serde::Serialize;

use crate::Output;
use crate::command::findings;
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{Format, Screen, json_line};

#[derive(Subcommand)]
pub enum Dkim {
    /// Make a key for a domain; prints what to write into the configuration and into DNS
    Generate(generate::Generate),
    /// Print the DNS record of each configured key of a domain
    Record(OfDomain),
    /// Ask DNS for the records of a domain's keys and tell what differs; status 1 if something does
    Check(OfDomain),
}

#[derive(clap::Args)]
pub struct OfDomain {
    domain: String,
    /// The main file; conf.d beside it and RELAYD__* variables are read, too
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Dkim {
    pub async fn run(self, screen: &Screen) -> Outcome {
        match self {
            Dkim::Generate(generate) => generate.run(),
            Dkim::Record(asked) => asked.record(),
            Dkim::Check(asked) => asked.check(screen).await,
        }
    }
}

impl OfDomain {
    fn record(&self) -> Outcome {
        let (_, signers) = self.keys()?;
        for (place, signer) in signers.iter().enumerate() {
            match self.output.format() {
                Format::Json => println!("{}", json_line(&Published::of(signer))),
                Format::Text if place > 0 => print!("\n{}", for_people(signer)),
                Format::Text => print!("{}", for_people(signer)),
            }
        }
        Ok(Done::Well)
    }

    async fn check(&self, screen: &Screen) -> Outcome {
        let (config, signers) = self.keys()?;
        let resolver = resolver(&config)?;
        let mut found = Vec::new();
        for signer in &signers {
            found.extend(relay_doctor::dkim::check(&resolver, signer).await);
        }
        Ok(findings::print(&found, self.output.format(), screen))
    }

    /// The configuration and the domain's keys, of which there is at least one.
    fn keys(&self) -> Result<(Config, Vec<Signer>), Trouble> {
        let domain = domain(&self.domain)?;
        let config = configuration(&self.config)?;
        let keys: Vec<_> = config
            .dkim
            .iter()
            .filter(|key| key.domain == domain)
            .cloned()
            .collect();
        if keys.is_empty() {
            return Err(Trouble::NotWell(format!(
                "{} has no [[dkim]] with domain = \"{domain}\"; make a key with: relayctl dkim generate {domain}",
                self.config.display()
            )));
        }
        let signers = files::signers(&keys).map_err(refused)?;
        Ok((config, signers))
    }
}

/// The configuration on disk, checked as relayd does.
pub fn configuration(path: &std::path::Path) -> Result<Config, Trouble> {
    let loaded = files::load_from_disk(Some(path), &[]);
    loaded
        .map(|(config, _)| config)
        .map_err(|mistakes| refused(mistakes.iter().map(ToString::to_string).collect()))
}

fn refused(mistakes: Vec<String>) -> Trouble {
    Trouble::Configuration(mistakes.join("\n  "))
}

/// The resolver that relayd would ask.
pub fn resolver(config: &Config) -> Result<HickoryResolver, Trouble> {
    let proof = match config.dns.trust_ad {
        TrustAd::Yes => AdBit::Trusted,
        TrustAd::No => AdBit::Ignored,
        TrustAd::OnLoopback => AdBit::TrustedOnLoopback,
    };
    HickoryResolver::new(&config.dns.servers, proof)
        .map_err(|error| Trouble::Configuration(error.to_string()))
}

pub fn domain(text: &str) -> Result<Domain, Trouble> {
    Domain::parse(text)
        .map_err(|error| Trouble::Usage(format!("{text:?} is no domain name ({error})")))
}

/// What is to be published of a key.
#[derive(Serialize)]
struct Published {
    domain: String,
    selector: String,
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    record: String,
    zone: String,
}

impl Published {
    fn of(signer: &Signer) -> Published {
        Published {
            domain: signer.domain().to_string(),
            selector: signer.selector().to_owned(),
            kind: signer.kind(),
            name: signer.record_name(),
            record: signer.public_record(),
            zone: record::zone_line(signer),
        }
    }
}

fn for_people(signer: &Signer) -> String {
    format!(
        "For a form: a TXT record\n  name   {}\n  value  {}\n\nFor a zone file:\n{}\n",
        signer.record_name(),
        signer.public_record(),
        record::zone_line(signer)
    )
}
