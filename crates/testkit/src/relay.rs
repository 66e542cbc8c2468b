//! A temporary relay: the real relayd in a directory of its own, with its relayctl.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::network::Network;
use crate::wait::until;

/// The running relay. Killed when dropped; its directory goes with it.
#[derive(Debug)]
pub struct Relay {
    program: PathBuf,
    dir: TempDir,
    child: Option<Child>,
    /// Of the environment, at every start.
    variables: Vec<(String, String)>,
    log: Arc<Mutex<Vec<String>>>,
    /// Reads the log of `child`; ends when relayd has.
    reader: Option<JoinHandle<()>>,
    /// Where it takes mail.
    pub submission: SocketAddr,
}

/// What came of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It takes mail.
    Listening,
    /// It ended before it said so.
    Ended(ExitStatus),
}

impl Relay {
    /// Starts `program` (the path of relayd) in front of `network`. `more` is appended to the configuration.
    pub fn start(program: &str, network: &Network, more: &str) -> Relay {
        Relay::start_at(program, network.dns.address, network.port, more)
    }

    /// The same with more keys of `[delivery]`, too: whole lines.
    pub fn start_delivering(program: &str, network: &Network, delivery: &str, more: &str) -> Relay {
        let settings = settings(network.dns.address, network.port, delivery, more);
        Relay::start_with(program, &settings)
    }

    /// The same with any resolver.
    pub fn start_at(program: &str, resolver: SocketAddr, port: u16, more: &str) -> Relay {
        Relay::start_with(program, &settings(resolver, port, "", more))
    }

    /// Starts with this whole configuration; `DIR` in it stands for the relay's directory.
    pub fn start_with(program: &str, settings: &str) -> Relay {
        let mut relay = Relay::prepare(program, settings);
        relay.launch();
        relay
    }

    /// The same without starting it yet.
    pub fn prepare(program: &str, settings: &str) -> Relay {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let settings = settings.replace("DIR", &dir.path().display().to_string());
        std::fs::write(dir.path().join("relayd.toml"), settings)
            .expect("the configuration can be written");
        Relay {
            program: PathBuf::from(program),
            dir,
            child: None,
            variables: Vec::new(),
            log: Arc::default(),
            reader: None,
            submission: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Rewrites the configuration file by replacing a piece of it; a reload or restart is the test's.
    pub fn edit_settings(&self, old: &str, new: &str) {
        let path = self.dir().join("relayd.toml");
        let text = std::fs::read_to_string(&path).expect("the configuration is there");
        assert!(text.contains(old), "the configuration has no {old:?}");
        std::fs::write(path, text.replace(old, new)).expect("the configuration can be written");
    }

    /// Variables of the environment for every start from now on; those set before are forgotten.
    pub fn set_variables(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.variables = variables.iter().map(owned).collect();
    }

    /// SIGKILL: nothing is tidied up.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.read_last_lines();
    }

    /// The same after this long: for tests in which the moment is a matter of chance.
    pub fn kill_after(&mut self, pause: Duration) {
        std::thread::sleep(pause);
        self.kill();
    }

    /// Waits until relayd has ended without being asked to.
    pub fn ends_by_itself(&mut self, why: &str) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let status = until(why, || child.try_wait().ok().flatten());
        self.read_last_lines();
        Some(status)
    }

    /// Nothing of the log is still under way when this returns.
    fn read_last_lines(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// SIGTERM, and waits for the end: the exit status.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        self.signal_to(&child, Signal::TERM);
        until("relayd stops after SIGTERM", || {
            child.try_wait().ok().flatten()
        })
        .code()
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            self.signal_to(child, signal);
        }
    }

    fn signal_to(&self, child: &Child, signal: Signal) {
        let pid = Pid::from_child(child);
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Starts again in the same directory.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    fn launch(&mut self) {
        if let Started::Ended(status) = self.try_launch(&[]) {
            panic!("relayd ended with {status}:\n{}", self.log().join("\n"));
        }
    }

    /// Starts it with these environment variables; killed before if it still runs.
    pub fn try_launch(&mut self, variables: &[(&str, &str)]) -> Started {
        self.spawn(variables);
        self.wait_for_listener()
    }

    /// Starts it and kills it so soon that it may not even be ready.
    pub fn launch_and_kill_after(&mut self, pause: Duration) {
        self.spawn(&[]);
        self.kill_after(pause);
    }

    fn spawn(&mut self, variables: &[(&str, &str)]) {
        self.kill();
        self.log.lock().expect("the reader never panics").clear();
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(self.dir().join("relayd.toml"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("relayd starts");
        let stderr = child.stderr.take().expect("stderr was piped");
        let log = self.log.clone();
        self.reader = Some(std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock()
                    .expect("no test panics with the log locked")
                    .push(line);
            }
        }));
        self.child = Some(child);
    }

    fn wait_for_listener(&mut self) -> Started {
        let started = until("relayd listens", || {
            let child = self.child.as_mut()?;
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(status));
            }
            let log = self.log();
            log.iter()
                .any(|line| line.contains("\"started\""))
                .then_some(())?;
            log.iter().find_map(|line| listening_address(line)).map(Ok)
        });
        match started {
            Ok(address) => {
                self.submission = address;
                Started::Listening
            }
            Err(status) => {
                self.child = None;
                self.read_last_lines();
                Started::Ended(status)
            }
        }
    }

    /// Every line relayd has logged since its last start.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("the reader never panics").clone()
    }

    /// The resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let pid = self.child.as_ref().map_or(0, Child::id);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0)
    }

    /// Runs relayctl against this relay.
    pub fn relayctl(&self, arguments: &[&str]) -> Output {
        let program = self.program.with_file_name("relayctl");
        assert!(
            program.exists(),
            "{} is missing: run `cargo build --bins` first",
            program.display()
        );
        Command::new(program)
            .arg("--socket")
            .arg(self.dir().join("relayd.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("relayctl runs")
    }

    /// Runs `relayctl ... --json`: one value a line.
    pub fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let output = self.relayctl(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
            })
            .collect()
    }

    /// Waits until the queue is empty.
    pub fn drained(&self) {
        until("the queue drains", || {
            self.json(&["queue", "list"]).is_empty().then_some(())
        });
    }

    /// Waits until the only recipient of the only message is in this state; returns that recipient.
    pub fn recipient_becomes(&self, state: &str) -> serde_json::Value {
        until(&format!("a recipient becomes {state}"), || {
            let list = self.json(&["queue", "list"]);
            let recipients = list.first()?.get("recipients")?.as_array()?.clone();
            recipients
                .into_iter()
                .find(|recipient| recipient["state"] == state)
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self
                .log
                .lock()
                .map(|log| log.join("\n"))
                .unwrap_or_default();
            eprintln!("relayd's log:\n{log}");
        }
        self.kill();
    }
}

/// The address in a log line that tells where relayd listens for TCP.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = value.get("fields").unwrap_or(&value);
    if fields.get("event")?.as_str()? != "listening" {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}

fn settings(resolver: SocketAddr, port: u16, delivery: &str, more: &str) -> String {
    format!(
        "hostname = \"relay.test\"\n\
         [state]\ndir = \"DIR/state\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
         [dns]\nservers = [\"{resolver}\"]\n\
         [delivery]\nport = {port}\nprivate_addresses = \"allowed\"\n{delivery}\
         [admin]\nsocket = \"DIR/relayd.sock\"\n\
         [log]\nformat = \"json\"\nlevel = \"debug\"\n{more}\n"
    )
}
