//! `[[route]]` with OAuth 2.0: tokens are fetched, exchanged when the relay refuses one, and their want is
//! told.

use relay_testkit::{Mx, Network, Relay, TokenHost, until};

use crate::{relay, submit};

/// Takes the token `two` only, in either form of the login.
const RELAY: &str = "EHLO => 250 smart.test\\nPIPELINING\\nAUTH PLAIN LOGIN XOAUTH2\n\
    AUTH XOAUTH2 dXNlcj1hcHABYXV0aD1CZWFyZXIgdHdvAQE= => 235 2.7.0 welcome\n\
    AUTH => 535 5.7.8 token refused";

fn granted(token: &str) -> String {
    format!(r#"{{"token_type":"Bearer","access_token":"{token}","expires_in":3600}}"#)
}

struct Scene {
    network: Network,
    smarthost: Mx,
    secrets: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let network = Network::with_zone("");
        let smarthost = network.mx(2, RELAY);
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(secrets.path().join("refresh"), "r3fresh-s3cret\n").unwrap();
        Scene {
            network,
            smarthost,
            secrets,
        }
    }

    fn relay(&self, keys: &str) -> Relay {
        let port = self.network.port;
        relay(
            &self.network,
            &format!(
                "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.2:{port}\"]\ntls = \"none\"\nusername = \"app\"\n{keys}"
            ),
        )
    }

    fn with_endpoint(&self, host: &TokenHost) -> Relay {
        self.relay(&format!(
            "token_endpoint = \"http://{}/token\"\nclient_id = \"relayd\"\nrefresh_token_file = \"{}\"\n",
            host.address,
            self.secrets.path().join("refresh").display()
        ))
    }
}

fn no_secret_in(relay: &Relay, secrets: &[&str]) {
    for line in relay.log() {
        for secret in secrets {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_token_is_fetched_and_exchanged_once_when_the_relay_refuses_it() {
    let scene = Scene::new();
    let (one, two) = (granted("one"), granted("two"));
    let host = TokenHost::start(&[(200, &one), (200, &two)]);
    let relay = scene.with_endpoint(&host);
    submit(&relay, "app@sender.example", &["a@one.example"]);
    until("the smarthost has it", || scene.smarthost.mail().pop());
    submit(&relay, "app@sender.example", &["b@two.example"]);
    until("and the second", || {
        (scene.smarthost.mail().len() == 2).then_some(())
    });
    relay.drained();
    let asked = "grant_type=refresh_token&refresh_token=r3fresh-s3cret&client_id=relayd";
    assert_eq!(host.asked(), [asked, asked], "the second token serves on");
    no_secret_in(
        &relay,
        &[
            "r3fresh-s3cret",
            "dXNlcj1hcHABYXV0aD1CZWFyZXIgdHdvAQE",
            "Bearer",
        ],
    );
}

#[test]
fn without_a_token_mail_waits_and_is_told_why() {
    let scene = Scene::new();
    let refused = r#"{"error":"invalid_grant","error_description":"the grant was taken back"}"#;
    let host = TokenHost::start(&[(400, refused)]);
    let relay = scene.with_endpoint(&host);
    submit(&relay, "app@sender.example", &["a@one.example"]);
    let recipient = relay.recipient_becomes("deferred");
    assert_eq!(recipient["rule"], "no-token", "{recipient}");
    let words = recipient["last_reply"].as_str().unwrap();
    assert!(
        words.contains("400 invalid_grant: the grant was taken back"),
        "{words}"
    );
    assert_eq!(
        scene.smarthost.sessions(),
        0,
        "no connection without a token"
    );
    no_secret_in(&relay, &["r3fresh-s3cret"]);
}

#[test]
fn a_token_file_is_read_anew_for_each_session() {
    let scene = Scene::new();
    let file = scene.secrets.path().join("token");
    std::fs::write(&file, "one\n").unwrap();
    let relay = scene.relay(&format!("token_file = \"{}\"\n", file.display()));
    submit(&relay, "app@sender.example", &["a@one.example"]);
    let recipient = relay.recipient_becomes("deferred");
    assert_eq!(recipient["category"], "smtp-auth", "{recipient}");
    std::fs::write(&file, "two\n").unwrap();
    relay.relayctl(&["queue", "flush"]);
    until("the smarthost has it", || scene.smarthost.mail().pop());
}
