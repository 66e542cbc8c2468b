//! One series: a state directory that sees many lives of relayd, each ended by a kill, until the last one
//! may drain the queue.

use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_observe::CrashPoint;
use relay_observe::crash::{SMALL_FILES, VARIABLE};
use relay_testkit::{Mx, Network, Relay, Started, within_patience};

use crate::KILLS_PER_SERIES;
use crate::history::{History, Life, Offered, hostname};
use crate::load::{self, domain};

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By SIGKILL from outside, so long after the load began.
    After(Duration),
    /// By SIGKILL from outside, so long after it was started: before or while it gets ready.
    Starting(Duration),
    /// By its own hand, when it comes by this point for the nth time.
    At(CrashPoint, u32),
}

/// Runs `kills` lives and a last one.
pub fn run(seed: u64, kills: u64) -> History {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::start();
    let mut relay = world.relay();
    let mut history = History::default();
    let mut life: Life = 1;
    // Series have numbers that follow each other: so they go through the points in turn.
    let offset = (seed % CrashPoint::ALL.len() as u64) * KILLS_PER_SERIES;
    for kill in 0..kills {
        let end = end(kill + offset, &mut rng);
        set_files(&mut relay, end, &mut rng);
        live(&mut relay, end, seed, life, &mut history);
        rename(&relay, life);
        life += 1;
    }
    finish(&mut relay, life, &mut history);
    world.tell(&mut history);
    history
}

/// Every second life ends at a named point, all of them in turn.
fn end(turn: u64, rng: &mut StdRng) -> End {
    let points = CrashPoint::ALL;
    let point = points[(turn / 2) as usize % points.len()];
    if turn.is_multiple_of(2) || !cfg!(debug_assertions) {
        // Beyond a second, so that the index has been brought up to date in between.
        return match rng.random_ratio(1, 4) {
            true => End::Starting(Duration::from_micros(rng.random_range(1_000..300_000))),
            false => End::After(Duration::from_micros(rng.random_range(1_000..1_600_000))),
        };
    }
    let nth_max = match point {
        CrashPoint::BodyStored | CrashPoint::Committed => 150,
        CrashPoint::PeerSaid250 => 80,
        CrashPoint::DsnCommitted => 20,
        CrashPoint::HalfOfRecovery => 15,
        CrashPoint::HalfOfReclaim => 6,
        // Before the copy is in use, and after.
        CrashPoint::HalfOfCompaction => 2,
        // Some three for each large body.
        CrashPoint::HalfOfLargeBody => 20,
    };
    End::At(point, rng.random_range(1..=nth_max))
}

/// In small files, segments are given back, the index is compacted and bodies get files of their own all the time; in others hardly ever.
fn set_files(relay: &mut Relay, end: End, rng: &mut StdRng) {
    let small = match end {
        End::At(
            CrashPoint::HalfOfReclaim | CrashPoint::HalfOfCompaction | CrashPoint::HalfOfLargeBody,
            _,
        ) => true,
        End::At(_, _) | End::After(_) | End::Starting(_) => rng.random(),
    };
    match small {
        true => relay.set_variables(&[(SMALL_FILES, "1")]),
        false => relay.set_variables(&[]),
    }
}

/// One life: start, load, death.
fn live(relay: &mut Relay, end: End, seed: u64, life: Life, history: &mut History) {
    match end {
        End::Starting(pause) => relay.launch_and_kill_after(pause),
        End::After(pause) => {
            relay.restart();
            let applications = Applications::start(relay, seed, life);
            relay.kill_after(pause);
            applications.finish(history);
        }
        End::At(point, nth) => {
            let plan = format!("{}:{nth}", point.name());
            match relay.try_launch(&[(VARIABLE, &plan)]) {
                Started::Ended(status) => killed(relay, status, life),
                // There was less to replay than that.
                Started::Listening if point == CrashPoint::HalfOfRecovery => {
                    relay.kill();
                    return history.add_log(life, &relay.log());
                }
                Started::Listening => {
                    let applications = Applications::start(relay, seed, life);
                    let what = format!("relayd comes by {point:?} {nth} times in life {life}");
                    let status = relay.ends_by_itself(&what);
                    killed(relay, status.expect("it was running"), life);
                    applications.finish(history);
                }
            }
            history.reached.push(point);
        }
    }
    history.add_log(life, &relay.log());
}

/// Those that hand in mail.
struct Applications(Vec<JoinHandle<Vec<Offered>>>);

impl Applications {
    fn start(relay: &Relay, seed: u64, life: Life) -> Applications {
        let address = relay.submission;
        let start =
            |number| std::thread::spawn(move || load::application(address, seed, life, number));
        Applications((0..load::CLIENTS).map(start).collect())
    }

    /// They end when relayd has gone.
    fn finish(self, history: &mut History) {
        for application in self.0 {
            let offered = application.join();
            history
                .offered
                .extend(offered.expect("an application has no reason to panic"));
        }
    }
}

/// relayd must not end for another reason, such as a panic.
fn killed(relay: &Relay, status: std::process::ExitStatus, life: Life) {
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(
        status.signal(),
        Some(9),
        "life {life}: relayd ended with {status}:\n{}",
        relay.log().join("\n")
    );
}

/// The next life has another name.
fn rename(relay: &Relay, life: Life) {
    relay.edit_settings(&hostname(life), &hostname(life + 1));
}

/// The last life drains. One more after it shows that nothing comes back that had gone.
fn finish(relay: &mut Relay, last: Life, history: &mut History) {
    for life in [last, last + 1] {
        relay.restart();
        // If it does not, the judge sees what is left, and with it perhaps why.
        let list = || relay.json(&["queue", "list"]);
        let _ = within_patience(|| list().is_empty().then_some(()));
        relay.kill();
        history.add_log(life, &relay.log());
        rename(relay, life);
    }
    relay.restart();
    history.add_queue(&relay.json(&["queue", "list"]));
    relay.kill();
    let quarantine = std::fs::read_dir(relay.dir().join("state/quarantine"));
    let names = quarantine.into_iter().flatten().flatten();
    history.quarantined = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
}

/// The other side: a DNS and one MX for each domain.
struct World {
    network: Network,
    hosts: Vec<Mx>,
}

impl World {
    fn start() -> World {
        let scripts = [
            (domain::TAKES, ""),
            (domain::LATER, "once each RCPT => 451 4.3.0 Try again later"),
            (domain::NOBODY, "RCPT => 550 5.1.1 No such user here"),
            (domain::SENDER, ""),
        ];
        let rows = scripts.iter().zip(2u8..);
        let zone: String = rows
            .clone()
            .map(|((domain, _), last)| {
                format!("{domain} MX 10 mx.{domain}\nmx.{domain} A 127.0.0.{last}\n")
            })
            .collect();
        let network = Network::with_zone(&zone);
        let hosts = rows
            .map(|((_, script), last)| network.mx(last, script))
            .collect();
        World { network, hosts }
    }

    fn relay(&self) -> Relay {
        let settings = format!(
            "hostname = \"{}\"\n\
             [state]\ndir = \"DIR/state\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\"]\n\
             [dns]\nservers = [\"{}\"]\n\
             [delivery]\nport = {}\nprivate_addresses = \"allowed\"\n\
             [admin]\nsocket = \"DIR/relayd.sock\"\n\
             [log]\nformat = \"json\"\nlevel = \"info\"\n\
             [retry.default]\nsteps = [\"500ms\"]\n",
            hostname(1),
            self.network.dns.address,
            self.network.port
        );
        Relay::prepare(env!("CARGO_BIN_EXE_relayd"), &settings)
    }

    fn tell(&self, history: &mut History) {
        for host in &self.hosts {
            history.add_mail(&host.mail());
            history.add_refusals(&host.log());
        }
    }
}
