//! relayd: a resilient outbound SMTP relay. Reads the configuration, wires the parts, runs until told
//! to stop. No logic of its own.

mod memory;
mod notify;
mod prepare;
mod reload;
mod sandbox;
mod settings;
mod sockets;
mod stop;
mod tls_reports;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use relay_config::LogFormat;
use relay_observe::log::Format;

use wire::StartError;

/// sysexits.h EX_CONFIG: the configuration is refused. systemd does not restart on it.
const EXIT_CONFIG: u8 = 78;

/// A resilient outbound SMTP relay.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; `conf.d/*.toml` beside it is read too [default: /etc/relayd/relayd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong, start nothing
    #[arg(long)]
    check_config: bool,
    /// Try it out: no configuration, a simulator in place of the internet, everything in ./relayd-sandbox
    #[arg(long, conflicts_with = "config")]
    sandbox: bool,
    /// Where the queue lives (state.dir)
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    memory::small_heaps();
    let arguments = Arguments::parse();
    let origin = settings::Origin::of(
        arguments.config,
        arguments.sandbox.into(),
        arguments.state_dir,
    );
    if arguments.check_config {
        return match origin.load() {
            Ok(_) => {
                println!("{}: ok", origin.name());
                ExitCode::SUCCESS
            }
            Err(mistakes) => refuse(&mistakes),
        };
    }
    let early = match origin.read() {
        Ok(early) => early,
        Err(mistakes) => return refuse(&mistakes),
    };
    relay_observe::log::init(log_format(early.config.log.format), &early.config.log.level);
    for warning in &early.warnings {
        tracing::warn!("{warning}");
    }
    match wire::run(origin, early) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Mistakes(mistakes)) => refuse(&mistakes),
        Err(error) => {
            tracing::error!("{error}");
            eprintln!("relayd: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// A line for each mistake.
fn refuse(mistakes: &[String]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    ExitCode::from(EXIT_CONFIG)
}

/// The configuration is pure and does not know the log; both name the same three.
fn log_format(format: LogFormat) -> Format {
    match format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}
