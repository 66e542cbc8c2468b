//! A wrong configuration is refused with file, line, key and fix; exit status 78.

use std::process::Command;

fn refused(settings: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = dir.path().join("relayd.toml");
    std::fs::write(&path, settings).expect("the configuration can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_relayd"))
        .arg("--check-config")
        .arg("--config")
        .arg(&path)
        .output()
        .expect("relayd runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("relayd.toml:"), "names file and line: {said}");
    said
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let said = refused("hostname = \"relay.test\"\n[delivery]\nprot = 25\n");
    assert!(
        said.contains("relayd.toml:3") && said.contains("delivery.prot") && said.contains("port"),
        "{said}"
    );
}

#[test]
fn a_bad_duration_says_how_to_write_one() {
    let said = refused("hostname = \"relay.test\"\n[retry.default]\nmax_age = \"5 days\"\n");
    assert!(
        said.contains("relayd.toml:3")
            && said.contains("max_age")
            && said.contains("5 days")
            && said.contains("5d"),
        "{said}"
    );
}

#[test]
fn a_missing_key_file_is_named() {
    let said = refused(
        "hostname = \"relay.test\"\n[[dkim]]\ndomain = \"example.com\"\nselector = \"s\"\nkey = \"/nonexistent/k.pem\"\n",
    );
    assert!(
        said.contains("relayd.toml:5") && said.contains("/nonexistent/k.pem"),
        "{said}"
    );
}

#[test]
fn a_listener_open_to_the_world_is_refused() {
    let said = refused(
        "hostname = \"relay.test\"\n[[listener]]\naddress = \"0.0.0.0:2525\"\ntrusted = [\"0.0.0.0/0\"]\n",
    );
    assert!(
        said.contains("trusted") && said.contains("0.0.0.0/0"),
        "{said}"
    );
}

#[test]
fn a_key_whose_part_is_not_built_is_refused_by_name() {
    let said = refused("hostname = \"relay.test\"\n[[webhook]]\nurl = \"https://a.example/\"\n");
    assert!(
        said.contains("webhook") && said.contains("not built"),
        "{said}"
    );
}

#[test]
fn check_config_says_ok_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relayd.toml");
    std::fs::write(
        &path,
        "hostname = \"relay.test\"\n[state]\ndir = \"/nonexistent/state\"\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_relayd"))
        .arg("--check-config")
        .arg("--config")
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
