//! Scenarios: the real relayd and relayctl against scripted servers and a fake DNS on loopback.
//! One file a scenario, named as what happens in it.

// A test ends by panicking.
#![allow(clippy::unwrap_used)]

mod a_site_teaches_its_limits;
mod accepts_only_from_those_it_trusts;
mod body_lost_halfway;
mod bounces_one_of_three;
mod busy_421_in_mid_session;
mod chunks_between_relays;
mod config_refused;
mod dane;
mod dead_host_is_remembered;
mod delivers;
mod disk_full;
mod dkim_tools;
mod dkim_verifies_elsewhere;
mod doctor;
mod first_mx_refuses_connection;
mod flush_forces_sending;
mod greylisted_with_hint;
mod killed_after_250;
mod limits_by_kind;
mod many_refused_alike;
mod moved;
mod mta_sts;
mod no_mail_accepted_there;
mod operator_holds_and_bounces;
mod policy_explains_offline;
mod policy_reloaded_under_traffic;
mod priority;
mod queue_stops_and_relayd_ends;
mod relayctl_answers_scripts;
mod relays_of_a_route;
mod reload_keeps_the_old_on_error;
mod reports_come_back;
mod requiretls;
mod rerouted;
mod retries_on_schedule;
mod route_with_login;
mod route_with_token;
mod show_says_why;
mod smtp_sink_misbehaves;
mod source_is_suspended;
mod sources_and_limits;
mod stops_in_order;
mod submission_by_python;
mod thousands_by_smtp_source;
mod tls_failures;
mod tls_reports;
mod tls_to_next_hop;
mod traced;
mod under_systemd;
mod unknown_user_is_suppressed;
mod verified;
mod what_happened_is_told;

use relay_testkit::{Client, Network, Relay};

/// A message as an application writes it.
const MESSAGE: &str = "From: App <app@sender.example>\nTo: you@rcpt.example\nSubject: hello\n\nFirst line.\n..two dots\nLast line.";

/// The domain of the recipients at 127.0.0.2, that of the sender at 127.0.0.3.
const ZONE: &str = "
    rcpt.example        MX 10 mx.rcpt.example
    mx.rcpt.example     A 127.0.0.2
    sender.example      MX 10 mx.sender.example
    mx.sender.example   A 127.0.0.3
";

fn network() -> Network {
    Network::with_zone(ZONE)
}

/// The real relayd in front of this network, with `more` in its configuration.
fn relay(network: &Network, more: &str) -> Relay {
    Relay::start(env!("CARGO_BIN_EXE_relayd"), network, more)
}

fn submit(relay: &Relay, from: &str, to: &[&str]) -> String {
    Client::connect(relay.submission).submit(from, to, MESSAGE)
}

/// A certificate that nobody vouches for: `cert.pem` and `key.pem` there.
fn write_certificate(dir: &std::path::Path) {
    let made = rcgen::generate_simple_self_signed(vec!["relay.test".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

/// The text of a program's answer, for assertions.
fn text(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A retry schedule for tests that wait for a second try.
const QUICK_RETRY: &str = "[retry.default]\nsteps = [\"1s\"]\n";
