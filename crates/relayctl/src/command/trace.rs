//! `relayctl trace`: the dialogue of the next sessions with a site, while it is held.

use std::io::Write;

use relay_admin::trace::Watch;
use relay_deliver::trace::{Side, TraceLine};

use crate::Output;
use crate::client::Client;
use crate::outcome::{Done, Outcome, Trouble};
use crate::text::{Format, Screen, Tone, harmless};

#[derive(clap::Args)]
pub struct Trace {
    /// A domain, one of its hosts, or the name of a site as in `relayctl site list`
    site: String,
    /// How many sessions to tell of, then it ends
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    #[command(flatten)]
    output: Output,
}

impl Trace {
    pub async fn run(&self, client: &Client, screen: &Screen) -> Outcome {
        let watch = Watch {
            site: self.site.clone(),
            sessions: self.count,
        };
        let mut lines = client.lines("/v1/trace", &watch).await?;
        let format = self.output.format();
        if format == Format::Text {
            eprintln!(
                "Waiting for the next session with {}; Ctrl-C ends. `relayctl queue flush --to DOMAIN` \
                 in another terminal makes one, if there is mail.",
                harmless(&self.site)
            );
        }
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                _ = tokio::signal::ctrl_c() => None,
            };
            let Some(line) = line else {
                return Ok(Done::Well);
            };
            // It only says that relayd is still there.
            if line.is_empty() {
                continue;
            }
            let shown = match format {
                Format::Json => String::from_utf8_lossy(&line).into_owned(),
                Format::Text => {
                    let line: TraceLine = serde_json::from_slice(&line).map_err(|error| {
                        Trouble::NotWell(format!(
                            "relayd's answer is not understood ({error}); are relayctl and relayd of \
                             the same version?"
                        ))
                    })?;
                    text(&line, screen)
                }
            };
            // Whoever reads may have enough of it: `| head`.
            if writeln!(std::io::stdout(), "{shown}").is_err() {
                return Ok(Done::Well);
            }
        }
    }
}

/// `1 +0.012  S: 220 mx ready`
fn text(line: &TraceLine, screen: &Screen) -> String {
    let (mark, tone) = match line.side {
        Side::Client => ("C:", None),
        Side::Server => ("S:", None),
        Side::Connection => ("*", Some(Tone::Faint)),
        Side::Decision => ("=", Some(Tone::Strong)),
        Side::End => ("*", Some(Tone::Faint)),
    };
    let (seconds, millis) = (line.at_ms / 1000, line.at_ms % 1000);
    let said = format!("{mark:<2} {}", harmless(&line.text));
    let said = tone.map_or(said.clone(), |tone| screen.paint(&said, tone));
    format!("{} +{seconds}.{millis:03}  {said}", line.session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_session_the_time_and_who_spoke() {
        let line = |side, text: &str| TraceLine {
            session: 3,
            at_ms: 12_045,
            side,
            text: text.to_owned(),
        };
        let screen = Screen::plain();
        let server = text(&line(Side::Server, "220 mx"), &screen);
        assert_eq!(server, "3 +12.045  S: 220 mx");
        let decision = text(&line(Side::Decision, "a@b: deferred"), &screen);
        assert_eq!(decision, "3 +12.045  =  a@b: deferred");
    }
}
