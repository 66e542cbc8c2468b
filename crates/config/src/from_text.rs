//! A configuration from the text of its file, for tests.

use crate::{Config, NoFiles, Source, load};

pub(crate) fn config(text: &str) -> Config {
    let source = Source {
        name: "relayd.toml".to_owned(),
        text: text.to_owned(),
    };
    match load(&[source], &[], &[], "relay.example.com", &NoFiles) {
        Ok(config) => config,
        Err(mistakes) => panic!("{mistakes:?}"),
    }
}
