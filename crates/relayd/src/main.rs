//! relayd: a resilient outbound SMTP relay. Reads the configuration, wires the parts, runs until told
//! to stop. No logic of its own.

mod memory;
mod notify;
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
    let settings = match origin.load() {
        Ok(settings) => settings,
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{mistake}");
            }
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if arguments.check_config {
        println!("{}: ok", origin.name());
        return ExitCode::SUCCESS;
    }
    relay_observe::log::init(
        log_format(settings.config.log.format),
        &settings.config.log.level,
    );
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    match wire::run(origin, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            eprintln!("relayd: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// The configuration is pure and does not know the log; both name the same three.
fn log_format(format: LogFormat) -> Format {
    match format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}
