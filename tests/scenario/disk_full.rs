//! The disk is full to the last byte, more than once: new mail is refused and says why, deliveries go on and are
//! written down, the history leaves the last of the space to the queue, all goes on by itself, nothing is lost.
//!
//! On a tmpfs of 256 MiB in a mount namespace of a child's own; where this machine allows none, the output says so.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use relay_testkit::client::Offer;
use relay_testkit::{Client, Mx, Network, Relay, Started, until};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::{MESSAGE, network, relay, text};

/// Where the tmpfs is, in the child that plays on it.
const VARIABLE: &str = "RELAY_SCENARIO_DISK";
const MIB: u64 = 1 << 20;
/// Of 256 MiB a tenth is kept from new mail, half of that from sessions, a twentieth from the history.
const NO_MAIL: u64 = 18 * MIB;
const NO_SESSIONS: u64 = 8 * MIB;
/// A reply that fills index and journal: it is kept with each attempt.
const BUSY: &str = "RCPT => 450 4.2.0 Mailbox busy, and here is why at some length: ";
const SETTINGS: &str = "[retry.default]\nsteps = [\"1h\"]\n[queue]\nballast_bytes = \"16MiB\"\nindex_cache_bytes = \"1MiB\"\n";

#[test]
fn a_full_disk_refuses_mail_delivers_on_and_goes_on_by_itself() {
    on_a_small_disk(
        "disk_full::a_full_disk_refuses_mail_delivers_on_and_goes_on_by_itself",
        |disk| {
            let mut scene = Scene::start(disk, &[]);
            scene.mail_is_refused_and_deliveries_go_on();
            scene.sessions_are_refused_and_the_history_is_silent();
            scene.a_body_half_way_is_refused();
            scene.the_index_cannot_be_written_and_all_is_told();
            scene.outcomes_are_written_all_the_same();
            scene.space_comes_back();
            scene.killed_on_a_full_disk();
            scene.nothing_is_lost();
        },
    );
}

#[test]
fn outcomes_that_a_full_disk_does_not_take_wait_and_are_written_once() {
    on_a_small_disk(
        "disk_full::outcomes_that_a_full_disk_does_not_take_wait_and_are_written_once",
        |disk| {
            let mut scene = Scene::start(disk, &[("RELAYD_SMALL_FILES", "1")]);
            scene.the_journal_cannot_grow();
            scene.space_comes_back();
            scene.killed_on_a_full_disk();
            scene.nothing_is_lost();
        },
    );
}

struct Scene<'a> {
    disk: &'a Disk,
    _network: Network,
    /// Has much to say against this mail at first.
    mx: Mx,
    senders_mx: Mx,
    relay: Relay,
    /// A name for each recipient that relayd has answered for with 250.
    promised: Vec<String>,
    /// Their ids, in the same order.
    ids: Vec<String>,
    bounced: Option<String>,
}

impl Scene<'_> {
    fn start<'a>(disk: &'a Disk, variables: &[(&str, &str)]) -> Scene<'a> {
        let network = network();
        let mx = network.mx(2, &busy());
        let senders_mx = network.mx(3, "");
        let mut relay = relay(&network, SETTINGS);
        relay.set_variables(variables);
        relay.restart();
        let mut scene = Scene {
            disk,
            _network: network,
            mx,
            senders_mx,
            relay,
            promised: Vec::new(),
            ids: Vec::new(),
            bounced: None,
        };
        for _ in 0..60 {
            assert_eq!(scene.offer(), None);
        }
        until("all are deferred", || {
            (scene.gauge("relayd_queue_recipients_deferred") == 60.0).then_some(())
        });
        scene
    }

    /// One message more to a recipient of its own. Some: the refusal.
    fn offer(&mut self) -> Option<String> {
        let to = format!("r{}@rcpt.example", self.promised.len());
        let Some(mut client) = Client::try_connect(self.relay.submission) else {
            return Some("421".to_owned());
        };
        let message = format!(
            "{}\r\n",
            MESSAGE.replace("\n..", "\n").replace('\n', "\r\n")
        );
        match client.offer("app@sender.example", std::slice::from_ref(&to), &message) {
            Offer::Promised(id) => {
                self.promised.push(to);
                self.ids.push(id);
                None
            }
            Offer::Refused(reply) => Some(reply),
            Offer::Lost => panic!("relayd broke off"),
        }
    }

    fn mail_is_refused_and_deliveries_go_on(&mut self) {
        self.disk.leave(NO_MAIL);
        let refusal = until("mail is refused", || self.offer());
        assert!(
            refusal.starts_with("452 4.3.1 the queue is full: the disk has"),
            "{refusal}"
        );
        let status = text(&self.relay.relayctl(&["status"]));
        let words = "new mail is refused with 452: the disk has";
        assert!(status.contains(words), "{status}");
        let (free, kept) = (
            self.gauge("relayd_queue_free_bytes"),
            self.gauge("relayd_queue_reserve_bytes"),
        );
        assert!(free < kept, "{free} of {kept}");
        assert_eq!(self.gauge("relayd_queue_accepting"), 0.0);
        assert_eq!(self.gauge("relayd_queue_well"), 1.0, "that is no fault");
        assert!(self.gauge("relayd_queue_refusals_total") > 0.0);
        self.deliver(0..5);
    }

    fn sessions_are_refused_and_the_history_is_silent(&mut self) {
        self.disk.leave(NO_SESSIONS);
        let greeting = until("sessions are refused", || {
            let greeting = greeting(&self.relay);
            (!greeting.starts_with("220")).then_some(greeting)
        });
        assert!(
            greeting.starts_with("421 4.3.2 the queue is full: the disk is nearly full"),
            "{greeting}"
        );
        let history = self.relay.dir().join("state/log");
        // It looks at the space now and then, not at each entry.
        let lost = until("the history loses something", || {
            self.flush();
            Some(self.gauge("relayd_history_lost_total")).filter(|lost| *lost > 0.0)
        });
        let before = bytes_below(&history);
        assert!(before > 0);
        self.flush();
        until("the loss is counted", || {
            (self.gauge("relayd_history_lost_total") >= lost + 55.0).then_some(())
        });
        assert_eq!(
            bytes_below(&history),
            before,
            "it leaves the rest to the queue"
        );
        self.deliver(5..10);
    }

    /// A session that was let in while there was space, and a large body that the disk takes the half of.
    fn a_body_half_way_is_refused(&mut self) {
        self.disk.leave(100 * MIB);
        until("sessions begin again", || {
            greeting(&self.relay).starts_with("220").then_some(())
        });
        let mut client = Client::connect(self.relay.submission);
        client.say("EHLO app.test");
        for line in [
            "MAIL FROM:<app@sender.example>",
            "RCPT TO:<never@rcpt.example>",
        ] {
            let reply = until("there is space", || {
                let reply = client.say(line);
                reply.starts_with("250").then_some(reply)
            });
            assert!(reply.starts_with("250"), "{reply}");
        }
        assert!(client.say("DATA").starts_with("354"));
        let line = "a line of text that is seventy octets long, for messages of some length\r\n";
        let half = line.repeat(20_000);
        client.send(half.as_bytes());
        let big = self.relay.dir().join("state/big");
        until("the body goes into a file", || {
            (bytes_below(&big) > 0).then_some(())
        });
        self.disk.leave(0);
        client.send(half.as_bytes());
        let reply = client.say(".");
        assert!(reply.starts_with("452 4.3.1 "), "{reply}");
        assert_eq!(bytes_below(&big), 0, "its space is given back at once");
    }

    fn the_index_cannot_be_written_and_all_is_told(&mut self) {
        until("the index is frozen", || {
            self.disk.leave(0);
            self.flush();
            self.logged("index_frozen").then_some(())
        });
        self.disk.leave(0);
        let status = self.relay.relayctl(&["status"]);
        assert_eq!(status.status.code(), Some(1));
        let said = text(&status);
        for words in ["unwell", "the index cannot be used"] {
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(self.gauge("relayd_indexes_frozen_total"), 1.0);
        assert_eq!(self.gauge("relayd_queue_well"), 1.0);
        let listed = self.relay.json(&["queue", "list"]);
        let ids: Vec<&str> = listed
            .iter()
            .filter_map(|message| message["id"].as_str())
            .collect();
        assert_eq!(ids, self.ids[10..], "all is read from the journal");
        let shown = text(&self.relay.relayctl(&["queue", "show", &self.ids[30]]));
        assert!(
            shown.contains("r30@rcpt.example") && shown.contains("Mailbox busy"),
            "{shown}"
        );
    }

    fn outcomes_are_written_all_the_same(&mut self) {
        self.deliver(10..20);
        let bounced = self.promised[20].clone();
        self.mx.rescript(&format!(
            "RCPT TO:<{bounced}> => 550 5.1.1 No such user\n{}",
            busy()
        ));
        assert!(
            self.relay
                .relayctl(&["queue", "flush", "--recipient", &bounced])
                .status
                .success()
        );
        let report = until("the report comes", || self.senders_mx.mail().pop());
        assert!(
            report.data.contains("550 5.1.1 No such user"),
            "{}",
            report.data
        );
        self.bounced = Some(bounced);
        assert!(
            self.logged("index_frozen") && !self.logged("index_rebuilt"),
            "still frozen"
        );
    }

    /// With files of 256 KiB the journal needs a new one soon, and then another.
    fn the_journal_cannot_grow(&mut self) {
        let ballast = self.relay.dir().join("state/ballast");
        assert!(ballast.exists());
        until("an outcome cannot be written", || {
            self.disk.leave(0);
            self.make_due();
            self.logged("the outcome is not written yet").then_some(())
        });
        assert!(!ballast.exists(), "it went first");
        assert_eq!(self.gauge("relayd_queue_well"), 1.0);
        assert_eq!(self.gauge("relayd_queue_stops_total"), 0.0);
        self.mx.rescript("");
    }

    fn space_comes_back(&mut self) {
        self.disk.leave(u64::MAX);
        until("mail is taken again", || {
            self.offer().is_none().then_some(())
        });
        until("the index is there again", || {
            (self.gauge("relayd_queue_index_behind_records") == 0.0).then_some(())
        });
        assert_eq!(self.gauge("relayd_queue_accepting"), 1.0);
        let status = self.relay.json(&["status"]);
        assert_eq!(status[0]["queue"]["refusing"], serde_json::Value::Null);
        assert_eq!(self.gauge("relayd_queue_stops_total"), 0.0);
    }

    fn killed_on_a_full_disk(&mut self) {
        // A delivery that the kill comes upon would be one of the few that may come twice.
        self.mx.rescript(&busy());
        for _ in 0..5 {
            assert_eq!(self.offer(), None);
        }
        self.disk.leave(0);
        self.make_due();
        self.relay.kill();
        for _ in 0..2 {
            // It starts if it finds the little that it needs, else systemd tries again.
            if let Started::Listening = self.relay.try_launch(&[]) {
                self.relay.kill();
            }
        }
        self.disk.leave(u64::MAX);
        self.relay.restart();
        until("mail is taken again", || {
            self.offer().is_none().then_some(())
        });
    }

    fn nothing_is_lost(&mut self) {
        self.mx.rescript("");
        self.flush();
        self.relay.drained();
        let mut expected = self.promised.clone();
        expected.retain(|to| Some(to) != self.bounced.as_ref());
        expected.sort();
        assert_eq!(self.mx.recipients(), expected, "each once");
        let reports = usize::from(self.bounced.is_some());
        assert_eq!(self.senders_mx.mail().len(), reports);
        assert_eq!(self.gauge("relayd_queue_quarantine_files"), 0.0);
        let verified = self.relay.relayctl(&["queue", "verify"]);
        assert!(verified.status.success(), "{}", text(&verified));
    }

    /// These leave the queue, the others are not tried.
    fn deliver(&self, numbers: std::ops::Range<usize>) {
        self.mx.rescript("");
        for to in &self.promised[numbers] {
            let flushed = self
                .relay
                .relayctl(&["queue", "flush", "--recipient", to, "--wait"]);
            assert!(flushed.status.success(), "{}", text(&flushed));
        }
        self.mx.rescript(&busy());
        let left = self.promised.len() - self.mx.recipients().len();
        until("that is written down", || {
            (self.gauge("relayd_queue_messages") == left as f64).then_some(())
        });
    }

    /// Everything is tried once.
    fn flush(&self) {
        let flushed = self.relay.relayctl(&["queue", "flush", "--wait"]);
        assert!(flushed.status.success(), "{}", text(&flushed));
    }

    /// The same without waiting: not all may be tried while the disk is full.
    fn make_due(&self) {
        let flushed = self.relay.relayctl(&["queue", "flush"]);
        assert!(flushed.status.success(), "{}", text(&flushed));
    }

    fn logged(&self, words: &str) -> bool {
        self.relay.log().iter().any(|line| line.contains(words))
    }

    /// A number of /metrics; all series of a name together.
    fn gauge(&self, name: &str) -> f64 {
        let series = self.relay.json(&["metrics"]);
        let fits = series.iter().filter(|series| series["name"] == name);
        let values: Vec<f64> = fits.filter_map(|series| series["value"].as_f64()).collect();
        assert!(!values.is_empty(), "{name}");
        values.iter().sum()
    }
}

fn busy() -> String {
    format!("{BUSY}{}", "busy ".repeat(60))
}

/// The first thing that relayd says.
fn greeting(relay: &Relay) -> String {
    let mut line = String::new();
    let stream = TcpStream::connect(relay.submission).unwrap();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

/// Of all files in it.
fn bytes_below(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

/// The tmpfs, with a file that takes what is to be taken.
struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Makes it so that so many bytes are free; with 0 not one, until something gives a block back.
    fn leave(&self, bytes: u64) {
        let path = self.root.join("filler");
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        let now = statvfs(&self.root).unwrap();
        let free = now.f_bavail * now.f_frsize;
        let size = file.metadata().unwrap().len();
        match bytes < free {
            true => {
                // What cannot be taken in one piece is taken in small ones.
                if fallocate(&file, FallocateFlags::empty(), size, free - bytes).is_ok() {
                    return;
                }
                let block = [0; 4096];
                while bytes == 0 && file.write_all(&block).is_ok() {}
            }
            false => file.set_len(size.saturating_sub(bytes - free)).unwrap(),
        }
    }
}

/// Plays the story of this test in a child whose temporary directory is a tmpfs.
fn on_a_small_disk(test: &str, story: impl FnOnce(&Disk)) {
    if let Some(mounted) = std::env::var_os(VARIABLE) {
        return story(&Disk {
            root: PathBuf::from(mounted),
        });
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256m,mode=700 tmpfs \"$1\" || exit 77; shift; exec \"$@\"";
    let played = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, directory.path())
        .env("TMPDIR", directory.path())
        .output();
    match played {
        Ok(played) if played.status.success() => {
            let said = String::from_utf8_lossy(&played.stdout).into_owned();
            assert!(said.contains("1 passed"), "{said}");
            eprintln!("played on a tmpfs of 256 MiB");
        }
        // unshare says 1 where it may not, our script 77; a test that fails says 101.
        Ok(played) if played.status.code() != Some(101) => eprintln!(
            "not played: no namespace is allowed here ({})",
            String::from_utf8_lossy(&played.stderr).trim()
        ),
        Ok(played) => panic!("{}", text(&played)),
        Err(error) => eprintln!("not played: unshare: {error}"),
    }
}
