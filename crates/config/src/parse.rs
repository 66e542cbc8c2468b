//! From texts to a checked [`Config`]: defaults, file, conf.d, environment, command line, in that
//! order. Every mistake is named with file, line, key, what was found and the fix.

use crate::assemble;
use crate::check::Files;
use crate::known::keep_known;
use crate::layer::{self, Layer, Tree};
use crate::section::{Mistakes, Section};
use crate::settings::Config;

/// One text of the configuration.
#[derive(Clone, Debug)]
pub struct Source {
    /// For messages: the file's path.
    pub name: String,
    /// TOML.
    pub text: String,
}

/// One mistake. Display: `etc/relayd.toml:14: retry.default.max_age = "5 days": not a duration; write 5d or 120h`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0)]
pub struct Mistake(pub String);

/// Reads and checks everything. `sources`: the main file, then conf.d in order. `environment`: pairs
/// whose name starts with `RELAYD__`; others are passed over. `overrides`: from the command line, as
/// (key, TOML value). `system_hostname`: for `hostname`, where it is not given.
pub fn load(
    sources: &[Source],
    environment: &[(String, String)],
    overrides: &[(String, String)],
    system_hostname: &str,
    files: &dyn Files,
) -> Result<Config, Vec<Mistake>> {
    let mistakes = Mistakes::default();
    let tree = merged(sources, environment, overrides, &mistakes)?;
    let config = assemble::config(&Section::root(&tree, &mistakes), system_hostname, files);
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let (found, warnings) = mistakes.into_parts(&names);
    match config {
        Some(config) if found.is_empty() => Ok(Config { warnings, ..config }),
        Some(_) | None => Err(found),
    }
}

/// All layers over each other. A text that is not TOML ends it here: whatever else could be said
/// would follow from that.
pub(crate) fn merged(
    sources: &[Source],
    environment: &[(String, String)],
    overrides: &[(String, String)],
    mistakes: &Mistakes,
) -> Result<Tree, Vec<Mistake>> {
    let mut files = Vec::new();
    let mut broken = Vec::new();
    for source in sources {
        match layer::from_file(source) {
            Ok(layer) => files.push(layer),
            Err(mistake) => broken.push(mistake),
        }
    }
    if !broken.is_empty() {
        return Err(broken);
    }
    let environment = environment
        .iter()
        .filter_map(|(name, text)| layer::from_environment(name, text));
    let overrides = overrides
        .iter()
        .map(|(key, text)| layer::from_override(key, text));
    let mut above: Vec<Layer> = environment.chain(overrides).collect();
    for layer in files.iter_mut().chain(&mut above) {
        keep_known(layer, mistakes);
    }
    layer::merge(files, above).map_err(|mistake| vec![mistake])
}
