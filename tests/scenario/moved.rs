//! A queue moves to another machine, or comes from Postfix.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use relay_testkit::client::Offer;
use relay_testkit::{Client, Network, Relay, until};
use serde_json::Value;

use crate::{MESSAGE, ZONE, network, relay, submit, text};

#[test]
fn an_exported_queue_is_the_same_on_another_machine_and_comes_there_once() {
    let network = network();
    let mut old = relay(&network, "");
    let first = submit(
        &old,
        "app@sender.example",
        &["a@rcpt.example", "b@rcpt.example"],
    );
    old.recipient_becomes("deferred");
    submit(&old, "app@sender.example", &["c@rcpt.example"]);
    old.relayctl(&["queue", "hold", "--recipient", "c@rcpt.example"]);
    old.relayctl(&["queue", "reroute", "--recipient", "b@rcpt.example", "--mx"]);
    old.relayctl(&["queue", "hold", "--id", &first]);
    let file = old.dir().join("queue.ndjson");
    let name = file.to_str().unwrap().to_owned();
    let done = old.relayctl(&["queue", "export", &name]);
    assert!(done.status.success(), "{}", text(&done));
    let again = old.relayctl(&["queue", "export", &name]);
    assert_eq!(again.status.code(), Some(1), "it overwrites nothing");
    let before = old.json(&["queue", "list"]);
    // What a stopped relayd has is the same.
    old.stop();
    let state = old.dir().join("state");
    let offline = old.relayctl(&["queue", "export", "-", "--offline", state.to_str().unwrap()]);
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().skip(1).map(str::to_owned).collect()
    };
    let exported = std::fs::read(&file).unwrap();
    assert_eq!(
        lines(&offline.stdout),
        lines(&exported),
        "{}",
        text(&offline)
    );

    let mut new = relay(&network, "");
    let done = new.relayctl(&["queue", "import", &name]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(
        text(&done).contains("2 messages imported"),
        "{}",
        text(&done)
    );
    new.restart();
    let after = new.json(&["queue", "list"]);
    assert_eq!(without_ids(&after), without_ids(&before));
    let id = after[0]["id"].as_str().unwrap();
    let shown = text(&new.relayctl(&["queue", "show", id]));
    for words in [format!("it was {first}"), "Connection refused".to_owned()] {
        assert!(shown.contains(&words), "{words} is missing in:\n{shown}");
    }
    // Delivered meanwhile, and imported once more: nothing comes twice.
    let mx = network.mx(2, "");
    new.relayctl(&["queue", "release", "--all"]);
    until("all have it", || (mx.recipients().len() == 3).then_some(()));
    new.drained();
    new.restart();
    let repeated = new.relayctl(&["queue", "import", &name]);
    assert!(
        text(&repeated).contains("0 messages imported, 2 known"),
        "{}",
        text(&repeated)
    );
    assert_eq!(mx.recipients().len(), 3);
    assert!(mx.mail()[0].data.contains("First line."));
}

#[test]
fn a_large_message_is_moved_in_pieces_and_one_that_was_changed_on_the_way_is_refused() {
    let network = network();
    let old = relay(&network, "");
    submit(&old, "app@sender.example", &["small@rcpt.example"]);
    let line = "a line of text that is seventy octets long, for messages of some length\r\n";
    let message = format!("Subject: large\r\n\r\n{}", line.repeat(30_000));
    let offered = Client::try_connect(old.submission).unwrap().offer(
        "app@sender.example",
        &["large@rcpt.example".to_owned()],
        &message,
    );
    assert!(matches!(offered, Offer::Promised(_)), "{offered:?}");
    old.relayctl(&["queue", "hold", "--all"]);
    let exported = old.relayctl(&["queue", "export", "-"]);
    assert!(exported.status.success(), "{}", text(&exported));
    let exported = String::from_utf8(exported.stdout).unwrap();
    let lines: Vec<&str> = exported.lines().collect();
    let is_piece = |line: &&&str| line.starts_with("{\"piece");
    assert!(lines.iter().filter(is_piece).count() > 20);
    assert!(
        lines.iter().all(|line| line.len() < 100_000),
        "none is long"
    );

    let new = relay(&network, "");
    let import = |name: &str, lines: &[&str]| {
        let file = new.dir().join(name);
        std::fs::write(&file, lines.join("\n")).unwrap();
        text(&new.relayctl(&["queue", "import", file.to_str().unwrap()]))
    };
    let place = lines.iter().position(|line| is_piece(&line)).unwrap() + 3;
    let mut missing = lines.clone();
    missing.remove(place);
    let mut changed = lines.clone();
    let other = changed[place].replacen("seventy", "sixty-9", 1);
    changed[place] = &other;
    for (name, lines, words) in [
        ("missing", missing, "bytes of its pieces are missing"),
        ("changed", changed, "its pieces have another checksum"),
    ] {
        let said = import(name, &lines);
        assert!(said.contains("line 3: ") && said.contains(words), "{said}");
        assert!(said.contains("1 refused"), "{said}");
    }
    let big = || {
        std::fs::read_dir(new.dir().join("state/big"))
            .unwrap()
            .count()
    };
    assert_eq!(big(), 0, "nothing is left behind");
    let said = import("good", &lines);
    assert!(
        said.contains("1 message imported, 1 known already, 0 refused"),
        "{said}"
    );
    assert_eq!(big(), 1);
    let said = import("again", &lines);
    assert!(said.contains("0 messages imported, 2 known"), "{said}");

    // As an older relayctl has written it: all of a message in one line.
    let values = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (pieces, mut rest): (Vec<Value>, Vec<Value>) =
        values.partition(|value| value["piece"].is_string());
    let whole: String = pieces
        .iter()
        .filter_map(|value| value["piece"].as_str())
        .collect();
    rest[0]["version"] = 1.into();
    let head = rest[2].as_object_mut().unwrap();
    head.remove("pieces_checksum").unwrap();
    head.insert("message".to_owned(), whole.into());
    let older = relay(&network, "");
    let file = older.dir().join("older");
    let written: Vec<String> = rest.iter().map(Value::to_string).collect();
    std::fs::write(&file, written.join("\n")).unwrap();
    let said = text(&older.relayctl(&["queue", "import", file.to_str().unwrap()]));
    assert!(said.contains("2 messages imported"), "{said}");
    let bodies = |relay: &Relay| -> Vec<u64> {
        let listed = relay.json(&["queue", "list"]);
        let mut sizes: Vec<u64> = listed.iter().filter_map(|m| m["size"].as_u64()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(bodies(&older), bodies(&old));

    let mx = network.mx(2, "");
    new.relayctl(&["queue", "release", "--all"]);
    until("both arrive", || (mx.mail().len() == 2).then_some(()));
    let mail = mx.mail();
    let large = mail.iter().find(|mail| mail.to == ["large@rcpt.example"]);
    let (_, body) = message.split_once("\r\n\r\n").unwrap();
    let data = &large.unwrap().data;
    assert!(
        data.ends_with(&format!("\r\n\r\n{body}")),
        "octet for octet"
    );
}

fn without_ids(list: &[Value]) -> Vec<Value> {
    let mut list = list.to_vec();
    for message in &mut list {
        message["id"] = Value::Null;
        message["recipients"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|recipient| {
                // Expiry hangs on arrival, and that is compared.
                recipient["expires"] = Value::Null;
            });
    }
    list
}

#[test]
fn bad_lines_are_told_with_their_number_and_a_file_that_was_cut_off_is_noticed() {
    let network = network();
    let old = relay(&network, "");
    let mut client = Client::connect(old.submission);
    for _ in 0..3 {
        client.submit("app@sender.example", &["a@rcpt.example"], MESSAGE);
    }
    old.relayctl(&["queue", "hold", "--all"]);
    let exported = old.relayctl(&["queue", "export", "-"]);
    let mut lines: Vec<String> = String::from_utf8(exported.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 5);
    lines[2] = lines[2].replace("First line.", "First");
    lines.truncate(4);
    let new = relay(&network, "");
    let file = new.dir().join("cut.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let done = new.relayctl(&["queue", "import", file.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    for words in [
        "line 3: size = ",
        "the file was cut off",
        "2 messages imported, 0 known already, 2 refused",
    ] {
        assert!(
            text(&done).contains(words),
            "{words} is missing in:\n{}",
            text(&done)
        );
    }
    let other = new.dir().join("other.json");
    std::fs::write(&other, "{}\n").unwrap();
    let refused = new.relayctl(&["queue", "import", other.to_str().unwrap()]);
    assert!(
        text(&refused).contains("not an export"),
        "{}",
        text(&refused)
    );
}

#[test]
fn the_queue_of_a_postfix_is_taken_over_with_every_byte() {
    let network = Network::with_zone(ZONE);
    let relay = relay(&network, "");
    let postfix = Postfix::start();
    let body = b"From: a@from.example\nSubject: =?utf-8?q?x?=\n\nbody \xe9\xff\n..dots\n.\nlast\n";
    let to = ["x@rcpt.example", "y@rcpt.example"];
    postfix.send(
        "a@from.example",
        &["-N", "never", "-V", "env", "-R", "full"],
        &to,
        body,
    );
    postfix.send(
        "",
        &[],
        &["z@rcpt.example"],
        b"Subject: report\n\nfrom nobody\n",
    );
    postfix.send(
        "b@from.example",
        &[],
        &["held@rcpt.example"],
        b"Subject: h\n\nheld\n",
    );
    until("all are deferred", || {
        (postfix.files("deferred").len() == 3).then_some(())
    });
    let to_hold = postfix
        .files("deferred")
        .into_iter()
        .find(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).contains("held@"))
        .unwrap();
    postfix.run(
        "postsuper",
        &["-h", to_hold.file_name().unwrap().to_str().unwrap()],
    );
    let spool = postfix.spool();
    let import = || relay.relayctl(&["queue", "import", "--postfix", spool.to_str().unwrap()]);
    let running = import();
    assert_eq!(running.status.code(), Some(1));
    assert!(
        text(&running).contains("postfix stop"),
        "{}",
        text(&running)
    );
    postfix.stop();
    let done = import();
    assert!(done.status.success(), "{}", text(&done));
    assert!(
        text(&done).contains("3 messages imported"),
        "{}",
        text(&done)
    );
    let repeated = import();
    assert!(
        text(&repeated).contains("0 messages imported, 3 known"),
        "{}",
        text(&repeated)
    );
    let list = relay.json(&["queue", "list", "--sender", "b@from.example"]);
    assert_eq!(list[0]["recipients"][0]["state"], "held");
    let exported = relay.relayctl(&["queue", "export", "-", "--sender", "a@from.example"]);
    let exported = String::from_utf8(exported.stdout).unwrap();
    let message: Value = serde_json::from_str(exported.lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        (&message["envid"], &message["ret"]),
        (&"env".into(), &"full".into())
    );
    assert_eq!(message["recipients"][1]["notify"], "never");
    assert_eq!(message["eight_bit"], true);
    let mx = network.mx(2, "");
    relay.relayctl(&["queue", "release", "--all"]);
    relay.relayctl(&["queue", "flush"]);
    until("all arrive", || (mx.recipients().len() == 4).then_some(()));
    relay.drained();
    let mail = mx.mail();
    let first = mail.iter().find(|mail| mail.to == to).unwrap();
    assert!(
        first.data.contains("\n..dots") || first.data.contains("\n.dots"),
        "{}",
        first.data
    );
    assert!(mail.iter().any(|mail| mail.from.is_empty()));
}

/// A Postfix of our own that defers everything, in a directory of its own.
struct Postfix {
    directory: tempfile::TempDir,
}

impl Postfix {
    fn start() -> Postfix {
        let directory = tempfile::Builder::new()
            .prefix("postfix")
            .tempdir_in("/tmp")
            .unwrap();
        let postfix = Postfix { directory };
        let root = postfix.directory.path();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(root, mode).unwrap();
        for name in ["etc", "spool", "data"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::copy(
            "/usr/share/postfix/master.cf.dist",
            root.join("etc/master.cf"),
        )
        .unwrap();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {0}/spool\ndata_directory = {0}/data\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
             myhostname = px.example\nmydestination =\ninet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\ndefer_transports = smtp\nmaillog_file = {0}/spool/log\n\
             maillog_file_prefixes = /tmp\n",
            root.display()
        );
        std::fs::write(root.join("etc/main.cf"), main).unwrap();
        let chowned = Command::new("chown")
            .arg("postfix")
            .arg(root.join("data"))
            .status();
        assert!(chowned.unwrap().success());
        postfix.run("postconf", &["-F", "*/*/chroot=n"]);
        postfix.run("postconf", &["-MX", "smtp/inet"]);
        postfix.run("postfix", &["start"]);
        postfix
    }

    fn spool(&self) -> std::path::PathBuf {
        self.directory.path().join("spool")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new("/usr/sbin").join(program));
        command.env("MAIL_CONFIG", self.directory.path().join("etc"));
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", text(&output));
    }

    fn send(&self, from: &str, more: &[&str], to: &[&str], body: &[u8]) {
        let mut command = self.command("sendmail");
        command.args(["-i", "-f", from]).args(more).args(to);
        let mut sendmail = command.stdin(Stdio::piped()).spawn().unwrap();
        sendmail.stdin.take().unwrap().write_all(body).unwrap();
        assert!(sendmail.wait().unwrap().success());
    }

    fn files(&self, queue: &str) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.spool().join(queue)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push(path),
                }
            }
        }
        found
    }

    fn stop(&self) {
        let _ = self.command("postfix").arg("stop").output();
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.stop();
    }
}
