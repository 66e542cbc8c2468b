//! What `--sandbox` stands for: a configuration of its own, in the same words as a file.

/// Everything in one directory, so that it is easily looked at and thrown away. Retries come soon:
/// someone is watching.
pub const SETTINGS: &str = r#"
hostname = "sandbox.localhost"

[state]
dir = "relayd-sandbox/state"

[[listener]]
address = "127.0.0.1:2525"
trusted = ["127.0.0.0/8"]

[delivery]
private_addresses = "allowed"

[retry.default]
steps = ["30s", "1m", "5m", "15m", "30m", "1h"]

[admin]
socket = "relayd-sandbox/relayd.sock"
"#;

/// For messages about the text above.
pub const NAME: &str = "the sandbox's own settings";

/// Told on the terminal once it is up.
pub const WELCOME: &str = "\
relayd sandbox: a real relay with a real queue, and a simulator in place of the internet.
  submit mail     SMTP on 127.0.0.1:2525, no login, any recipient
  try             relayctl send --to ok@example.com        (also: bounce@ defer@ greylist@ code-550-5.7.26@ ...)
  look            relayctl queue list      relayctl status      relayctl queue show ID
  files           ./relayd-sandbox         Ctrl-C stops
";
