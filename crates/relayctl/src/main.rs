//! The operator's command line: talks to relayd over its unix socket; the policy, configuration
//! and user commands need no daemon.
//!
//! Exit status: 0 done, 1 what was asked about is not well, 2 usage, 69 relayd cannot be reached,
//! 78 configuration error.

mod client;
mod command;
mod find;
mod outcome;
mod pipe;
mod prompt;
mod source;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::client::Client;
use crate::command::{queue::Queue, send::Send, user::User};
use crate::outcome::{Done, Outcome};
use crate::text::{Format, Screen};

/// Look at relayd and tell it what to do
#[derive(Parser)]
#[command(name = "relayctl", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done; 1 what was asked about is not well; 2 usage; \
    69 relayd cannot be reached; 78 configuration error."
)]
struct Cli {
    /// relayd's socket [default: the configured one, else /run/relayd/relayd.sock, else the
    /// sandbox's ./relayd-sandbox/relayd.sock]
    #[arg(long, global = true, env = "RELAYD_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One screen: health, queue, rates, sites in trouble, alerts
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Every counter and state, as Prometheus is told; docs/metrics.md explains them
    Metrics {
        #[command(flatten)]
        output: Output,
    },
    /// Look at messages and act on them
    Queue {
        #[command(subcommand)]
        command: Queue,
    },
    /// What happened to a message, also after it has gone; or the history of a selection
    Log(command::log::Log),
    /// The sites that mail goes to: how they are, why, until when
    Site {
        #[command(subcommand)]
        command: command::site::Site,
    },
    /// Addresses that are not to be tried again
    Suppression {
        #[command(subcommand)]
        command: command::suppression::Suppression,
    },
    /// Send a message through relayd's queue
    Send(Send),
    /// Test and read the reply policy; try another one on the replies that came
    Policy {
        #[command(subcommand)]
        command: command::policy::Policy,
    },
    /// Check and read the configuration; needs no daemon
    Config {
        #[command(subcommand)]
        command: command::config::Config,
    },
    /// The dialogue of the next sessions with a site, live
    Trace(command::trace::Trace),
    /// Look at a domain's MX hosts, or at what others see of us; asks relayd, or looks itself without it
    Doctor(command::doctor::Examine),
    /// What is counted of the TLS with other hosts, and when their domains are told (RFC 8460)
    TlsReport {
        #[command(subcommand)]
        command: command::tls_report::TlsReport,
    },
    /// Make DKIM keys, show what to publish in DNS, compare it with what DNS says; needs no daemon
    Dkim {
        #[command(subcommand)]
        command: command::dkim::Dkim,
    },
    /// Make what the configuration needs for users; needs no daemon
    User {
        #[command(subcommand)]
        command: User,
    },
    /// Tell relayd to read its configuration again; a bad one is refused and the old one stays
    Reload,
    /// Print a completion script for a shell
    Completions { shell: Shell },
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Output {
    /// One JSON object a line, with stable keys
    #[arg(long)]
    json: bool,
}

impl Output {
    pub fn format(self) -> Format {
        if self.json {
            Format::Json
        } else {
            Format::Text
        }
    }
}

fn main() -> ExitCode {
    pipe::end_with_the_reader();
    let cli = Cli::parse();
    let client = || Client::new(cli.socket.clone());
    let screen = Screen::of_stdout();
    let outcome = match cli.command {
        Command::Policy { command } => return command.run(&client(), &screen),
        Command::Config { command } => return command.run(),
        Command::User { command } => command.run(),
        Command::Trace(trace) => online(trace.run(&client(), &screen)),
        Command::TlsReport { command } => online(command.run(&client(), &screen)),
        Command::Doctor(examine) => online(examine.run(&client(), &screen)),
        Command::Dkim { command } => online(command.run(&screen)),
        Command::Completions { shell } => {
            let name = "relayctl";
            clap_complete::generate(shell, &mut Cli::command(), name, &mut std::io::stdout());
            Ok(Done::Well)
        }
        Command::Status { output } => {
            online(command::status::run(&client(), output.format(), &screen))
        }
        Command::Metrics { output } => online(command::metrics::run(&client(), output.format())),
        Command::Queue { command } => online(command.run(&client(), &screen)),
        Command::Log(log) => online(log.run(&client(), &screen)),
        Command::Site { command } => online(command.run(&client(), &screen)),
        Command::Suppression { command } => online(command.run(&client(), &screen)),
        Command::Send(send) => online(send.run(&client(), &screen)),
        Command::Reload => online(command::reload::run(&client())),
    };
    outcome::exit(outcome)
}

/// Runs a command that talks to relayd.
fn online(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| outcome::Trouble::NotWell(format!("no runtime: {error}")))?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_refused_with_status_2() {
        for line in [
            "relayctl",
            "relayctl queue reroute --all",
            "relayctl queue reroute --all --mx --default",
            "relayctl queue list --limit few",
            "relayctl queue list --older-than soon",
            "relayctl send",
        ] {
            let Err(error) = Cli::try_parse_from(line.split(' ')) else {
                panic!("{line} was taken");
            };
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
