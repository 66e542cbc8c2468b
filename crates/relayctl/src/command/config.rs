//! `relayctl config`: is the configuration right, what is in force, what could be set. Needs no
//! daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use relay_admin::files::{self, DEFAULT_PATH};
use relay_config::effective::{Effective, effective};
use relay_config::{ListenAddress, Mistake, render};

/// Configuration error, as in sysexits.h.
const EXIT_CONFIG: u8 = 78;

#[derive(Subcommand)]
pub enum Config {
    /// Read the configuration as relayd would, and tell every mistake with file, line and fix
    Check {
        /// The main file; conf.d beside it and RELAYD__* variables are read, too
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Print the values in force and where each comes from
    Show {
        /// The main file; conf.d beside it and RELAYD__* variables are read, too
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
        /// One JSON object a line: key, value, from
        #[arg(long)]
        json: bool,
    },
    /// Print every option with its type, default and meaning
    Reference,
}

impl Config {
    pub fn run(self) -> ExitCode {
        let done = match self {
            Config::Check { config } => check(&config),
            Config::Show { config, json: true } => show(&config, json_line),
            Config::Show {
                config,
                json: false,
            } => show(&config, text_line),
            Config::Reference => {
                print!("{}", render::reference());
                Ok(())
            }
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(mistakes) => {
                for mistake in mistakes {
                    eprintln!("{mistake}");
                }
                ExitCode::from(EXIT_CONFIG)
            }
        }
    }
}

fn check(path: &Path) -> Result<(), Vec<Mistake>> {
    let (config, warnings) = files::load_from_disk(Some(path), &[])?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    println!("{}: ok", path.display());
    for line in summary(&config) {
        println!("  {line}");
    }
    Ok(())
}

/// What a person would look at to see that the right file was read.
fn summary(config: &relay_config::Config) -> Vec<String> {
    let addresses: Vec<String> = config
        .listeners
        .iter()
        .map(|listener| match &listener.address {
            ListenAddress::Tcp(address) => address.to_string(),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        })
        .collect();
    let counts = [
        (config.users.len(), "user"),
        (config.routes.len(), "route"),
        (config.limits.len(), "limit"),
        (config.dkim.len(), "DKIM key"),
        (config.retry.len(), "retry schedule"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .map(|(count, name)| match count {
            1 => format!("1 {name}"),
            _ => format!("{count} {name}s"),
        })
        .collect();
    vec![
        format!("says EHLO {}", config.hostname),
        format!("listens on {}", addresses.join(", ")),
        counts.join(", "),
        format!("queue in {}", config.state.dir.display()),
    ]
}

fn show(path: &Path, line: fn(&Effective) -> String) -> Result<(), Vec<Mistake>> {
    // What is wrong is told by the check, with the fix.
    files::load_from_disk(Some(path), &[])?;
    let texts = files::read_texts(Some(path))?;
    for value in effective(&texts.sources, &texts.environment, &[])? {
        println!("{}", line(&value));
    }
    Ok(())
}

fn text_line(value: &Effective) -> String {
    let Effective { key, value, from } = value;
    format!("{key} = {value}  # {from}")
}

fn json_line(value: &Effective) -> String {
    let Effective { key, value, from } = value;
    serde_json::json!({ "key": key, "value": value, "from": from }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_in_plain_words() {
        let config = relay_config::Config::default_for("relay.example.com");
        let lines = summary(&config);
        assert_eq!(lines[0], "says EHLO relay.example.com");
        assert_eq!(lines[1], "listens on 127.0.0.1:2525");
        assert_eq!(
            lines[2],
            "0 users, 0 routes, 0 limits, 0 DKIM keys, 1 retry schedule"
        );
    }

    #[test]
    fn a_shown_value_says_where_it_comes_from() {
        let value = Effective {
            key: "delivery.port".to_owned(),
            value: "2525".to_owned(),
            from: "relayd.toml:3".to_owned(),
        };
        assert_eq!(text_line(&value), "delivery.port = 2525  # relayd.toml:3");
        assert!(json_line(&value).contains("\"from\":\"relayd.toml:3\""));
    }
}
