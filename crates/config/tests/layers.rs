//! Which layer wins, and how the values in force tell where they come from.

#![allow(clippy::unwrap_used)]

use relay_config::effective::{Effective, effective};
use relay_config::{
    AuthDemand, Config, ListenAddress, ListenerTls, Mistake, NoFiles, Source, load,
};

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn loaded(sources: &[Source], environment: &[(String, String)]) -> Config {
    load(sources, environment, &[], "relay.example.com", &NoFiles).unwrap()
}

#[test]
fn the_command_line_beats_the_environment_beats_conf_d_beats_the_file() {
    let main = source(
        "relayd.toml",
        "[delivery]\nport = 1\nsessions_max = 1\nidle = \"1s\"\n",
    );
    let more = source("conf.d/a.toml", "[delivery]\nport = 2\nsessions_max = 2\n");
    let environment = [
        pair("RELAYD__DELIVERY__PORT", "3"),
        pair("RELAYD__HOSTNAME", "env.example.com"),
        pair("RELAYD__RETRY__DEFAULT__STEPS", "[\"1s\", \"2s\"]"),
        pair("RELAYD_SOCKET", "/run/relayd/relayd.sock"),
        pair("PATH", "/bin"),
    ];
    let overrides = [
        pair("delivery.port", "4"),
        pair("state.dir", "\"/srv/queue\""),
    ];
    let config = load(
        &[main, more],
        &environment,
        &overrides,
        "relay.example.com",
        &NoFiles,
    )
    .unwrap();
    assert_eq!(config.delivery.port, 4);
    assert_eq!(config.delivery.sessions_max, 2);
    assert_eq!(config.delivery.idle.as_secs(), 1);
    assert_eq!(config.hostname, "env.example.com");
    assert_eq!(config.state.dir.to_str(), Some("/srv/queue"));
    assert_eq!(config.schedule(None).steps.len(), 2);
}

#[test]
fn arrays_of_tables_are_put_one_after_the_other_and_lists_are_replaced() {
    let main = source(
        "relayd.toml",
        "[dns]\nservers = [\"127.0.0.1\"]\n[[route]]\nto = [\"a.example\"]\nvia = [\"r1.example:25\"]\n",
    );
    let more = source(
        "conf.d/a.toml",
        "[dns]\nservers = [\"127.0.0.2\"]\n[[route]]\nto = [\"b.example\"]\nvia = [\"r2.example:25\"]\n",
    );
    let config = loaded(&[main.clone(), more], &[]);
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.dns.servers.len(), 1);
    assert_eq!(config.dns.servers[0].to_string(), "127.0.0.2:53");

    let only = r#"[{ to = ["c.example"], via = ["r3.example:25"] }]"#;
    let config = loaded(&[main], &[pair("RELAYD__ROUTE", only)]);
    assert_eq!(config.routes.len(), 1);
    assert_eq!(&*config.routes[0].name, "r3.example:25");
}

#[test]
fn an_empty_file_listens_for_this_machine_only() {
    let config = loaded(&[source("relayd.toml", "")], &[]);
    let listener = &config.listeners[0];
    let address = "127.0.0.1:2525".parse().unwrap();
    assert_eq!(listener.address, ListenAddress::Tcp(address));
    assert_eq!(
        (listener.tls, listener.auth),
        (ListenerTls::None, AuthDemand::None)
    );
    assert_eq!(listener.trusted.len(), 2);
    assert_eq!(config.dsn.from, "postmaster@relay.example.com");
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn a_listener_that_others_reach_trusts_nobody_until_told() {
    let text = "[[listener]]\naddress = \"0.0.0.0:587\"\n";
    let config = loaded(&[source("relayd.toml", text)], &[]);
    assert!(config.listeners[0].trusted.is_empty());
    assert_eq!(
        config.warnings,
        [
            "relayd.toml:1: listener.trusted: nobody may relay through 0.0.0.0:587; name networks in \
          trusted, or add a [[user]]"
        ]
    );
}

#[test]
fn a_name_without_a_dot_is_a_warning() {
    let config = load(&[], &[], &[], "relay", &NoFiles).unwrap();
    assert_eq!(config.warnings.len(), 1);
    let error = load(&[], &[], &[], "my_host!", &NoFiles).unwrap_err();
    assert!(
        error[0]
            .to_string()
            .starts_with("hostname: the system's name \"my_host!\"")
    );
}

#[test]
fn each_value_in_force_tells_where_it_comes_from() {
    let main = source(
        "relayd.toml",
        "[delivery]\nport = 26\n[[user]]\nname = \"u\"\npassword_hash = \"hunter2\"\n\
         [retry.fast]\nsteps = [\"1s\", \"2s\"]\n",
    );
    let environment = [pair("RELAYD__LOG__LEVEL", "debug")];
    let overrides = [pair("state.dir", "/srv/queue")];
    let all = effective(&[main], &environment, &overrides).unwrap();
    let one = |key: &str| {
        let found: Vec<&Effective> = all.iter().filter(|one| one.key == key).collect();
        assert_eq!(found.len(), 1, "{key}");
        (found[0].value.clone(), found[0].from.clone())
    };
    let is = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    assert_eq!(one("delivery.port"), is("26", "relayd.toml:2"));
    assert_eq!(one("delivery.idle"), is("\"3s\"", "default"));
    assert_eq!(
        one("log.level"),
        is("\"debug\"", "environment RELAYD__LOG__LEVEL")
    );
    assert_eq!(one("state.dir"), is("\"/srv/queue\"", "command line"));
    assert_eq!(
        one("user[0].password_hash"),
        is("(not shown)", "relayd.toml:5")
    );
    assert_eq!(
        one("retry.fast.steps"),
        is("[\"1s\", \"2s\"]", "relayd.toml:7")
    );
    assert_eq!(one("retry.default.max_age"), is("\"5d\"", "default"));
    assert_eq!(one("hostname"), is("(the system's name)", "default"));
}

#[test]
fn no_text_of_an_operator_makes_the_reader_panic() {
    let texts = [
        "= 1",
        "a.b.c = 1",
        "\"\" = 1",
        "\"a.b\" = 1",
        "\"listener[0]\" = 1",
        "[[retry]]",
        "retry = 1",
        "retry.default = 1",
        "delivery.port = 99999999999999999999999",
        "delivery.port = nan",
        "delivery.port = 1979-05-27",
        "delivery = {}",
        "listener = [[]]",
        "listener = [1]",
        "user = [{}]",
        "dkim = [{}]",
        "route = [{ to = [], via = [\"\"] }]",
        "limit = [{ rate = \"/\" }]",
        "hostname = \"\"",
        "retry.default.steps = [[]]",
        "retry.default.jitter = \"%\"",
        "submission.message_bytes_max = \"MiB\"",
        "retry.default.max_age = \"\u{e9}d\"",
        "route = [{ to = [\"*.\"], via = [\":1\"] }]",
        "tls = {}",
        "retry.\"\u{e9}\".jitter = \"1%\"",
    ];
    for text in texts {
        let refused: Result<Config, Vec<Mistake>> = load(
            &[source("relayd.toml", text)],
            &[],
            &[],
            "relay.example.com",
            &NoFiles,
        );
        if let Err(mistakes) = refused {
            for mistake in mistakes {
                assert!(
                    mistake.to_string().starts_with("relayd.toml:1"),
                    "{text}: {mistake}"
                );
            }
        }
    }
}
