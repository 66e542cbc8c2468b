//! Never an open relay.

use relay_testkit::{Client, Relay};

fn untrusting(more: &str) -> Relay {
    let settings = format!(
        "hostname = \"relay.test\"\n[state]\ndir = \"DIR/state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = []\n\
         [admin]\nsocket = \"DIR/relayd.sock\"\n[log]\nformat = \"json\"\n{more}"
    );
    Relay::start_with(env!("CARGO_BIN_EXE_relayd"), &settings)
}

#[test]
fn without_trust_or_login_every_recipient_is_refused() {
    let relay = untrusting("");
    let mut client = Client::connect(relay.submission);
    client.say("EHLO app.test");
    client.say("MAIL FROM:<a@x.example>");
    let reply = client.say("RCPT TO:<b@y.example>");
    assert!(
        reply.starts_with("550 5.7.1") || reply.starts_with("530 5.7.0"),
        "{reply}"
    );
    let reply = client.say("DATA");
    assert!(reply.starts_with('5'), "{reply}");
}

#[test]
fn data_ends_only_at_crlf_dot_crlf_and_bare_line_ends_are_refused() {
    let relay = untrusting("").restarted_with_trust();
    let mut client = Client::connect(relay.submission);
    for smuggled in [
        "x\n.\nMAIL FROM:<evil@x.example>\r\n",
        "x\n.\r\nMAIL FROM:<evil@x.example>\r\n",
        "x\r.\r\nMAIL FROM:<evil@x.example>\r\n",
    ] {
        client.say("EHLO app.test");
        client.say("MAIL FROM:<a@x.example>");
        client.say("RCPT TO:<b@y.example>");
        assert!(client.say("DATA").starts_with("354"));
        client.send(smuggled.as_bytes());
        let reply = client.say("still the body\r\n.");
        assert!(reply.starts_with("554 5.6.0"), "{smuggled:?}: {reply}");
    }
    assert!(relay.json(&["queue", "list"]).is_empty());
}

trait Trusting {
    fn restarted_with_trust(self) -> Relay;
}

impl Trusting for Relay {
    fn restarted_with_trust(mut self) -> Relay {
        self.edit_settings("trusted = []", "trusted = [\"127.0.0.0/8\"]");
        self.restart();
        self
    }
}
