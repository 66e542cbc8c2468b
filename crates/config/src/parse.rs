//! From texts to a checked [`Config`]: defaults, file, conf.d, environment, command line, in that
//! order. Every mistake is named with file, line, key, what was found and the fix.

use crate::check::Files;
use crate::settings::Config;

/// One text of the configuration.
#[derive(Clone, Debug)]
pub struct Source {
    /// For messages: the file's path, or `environment`, or `command line`.
    pub name: String,
    /// TOML.
    pub text: String,
}

/// One mistake. Display: `etc/relayd.toml:14: delivery.retry_max = "5 days": not a duration; write 5d or 120h`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0)]
pub struct Mistake(pub String);

/// Reads and checks everything. `sources`: the main file, then conf.d in order. `environment`: the
/// pairs whose name starts with `RELAYD__`. `overrides`: from the command line, as (key, TOML value).
pub fn load(
    sources: &[Source],
    environment: &[(String, String)],
    overrides: &[(String, String)],
    system_hostname: &str,
    files: &dyn Files,
) -> Result<Config, Vec<Mistake>> {
    let _ = (sources, environment, overrides, system_hostname, files);
    todo!()
}
