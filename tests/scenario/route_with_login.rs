//! `[[route]] via` a relay with a login: all mail goes there, and we log in first.

use relay_testkit::{Network, until};

use crate::{relay, submit};

#[test]
fn mail_goes_by_the_relay_after_auth_whatever_the_domain() {
    let network = Network::with_zone("");
    let smarthost = network.mx_with_tls(
        2,
        "EHLO => 250 smart.test\\nPIPELINING\\nSTARTTLS\\nAUTH PLAIN LOGIN\nAUTH PLAIN AGFwcABzM2NyZXQ= => 235 2.7.0 welcome",
    );
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret\n").unwrap();
    let relay = relay(
        &network,
        &format!(
            "[[route]]\nto = [\"*\"]\nvia = [\"127.0.0.2:{}\"]\ntls = \"require\"\nusername = \"app\"\npassword_file = \"{}\"\n",
            network.port,
            secret.path().display()
        ),
    );
    submit(
        &relay,
        "app@sender.example",
        &["a@one.example", "b@two.example"],
    );
    let mail = until("the smarthost has it", || smarthost.mail().pop());
    assert_eq!(
        mail.to,
        ["a@one.example", "b@two.example"],
        "one transaction for all domains of a route"
    );
    assert!(mail.tls);
    relay.drained();
    assert!(
        !relay
            .log()
            .iter()
            .any(|line| line.contains("s3cret") || line.contains("AGFwcABzM2NyZXQ")),
        "no secrets in logs"
    );
}
