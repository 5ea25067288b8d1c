//! A mirroring process that can be killed at any moment: another run of this test program.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use zero_bus::{Checksum, Head};
use zero_mirror::{CancelHandle, Mirror, Record, Result, catch_up};

use super::{open, plan};

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    Never,
    /// Before it sends its n-th batch.
    Before(u32),
    /// This long after it began to send its n-th batch.
    During(u32, Duration),
    /// After the destination stored its n-th batch, before `append` returns.
    After(u32),
}

/// The environment variables that carry the process's arguments.
const ARGUMENTS: [&str; 4] =
    ["ZERO_TEST_MIRROR_LOG", "ZERO_TEST_MIRROR_URL", "ZERO_TEST_MIRROR_BATCH", "ZERO_TEST_MIRROR_DEATH"];

/// Starts a process that mirrors the current events of a log.
pub(crate) fn start(log: &Path, url: &str, batch_events: usize, death: Death) -> Child {
    command(log, url, batch_events, death).spawn().unwrap()
}

/// The command that [`start`] runs.
pub(crate) fn command(log: &Path, url: &str, batch_events: usize, death: Death) -> Command {
    let (batch, death) = (batch_events.to_string(), encode(death));
    let values = [log.to_str().unwrap(), url, &batch, &death];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["contract::process::the_mirroring_process", "--exact", "--nocapture"])
        .envs(ARGUMENTS.into_iter().zip(values))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a process until it ends. It must have been killed if `death` names a batch boundary.
pub(crate) fn run(log: &Path, url: &str, batch_events: usize, death: Death) {
    let mut child = start(log, url, batch_events, death);
    let mut stderr = String::new();
    if let Death::During(n, after) = death {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let announcement = format!("sending {n}");
        // No batch is announced if the destination already has every event.
        if lines.any(|line| line.unwrap().contains(&announcement)) {
            let start = Instant::now();
            while start.elapsed() < after {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
        }
    }
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let status = child.wait().unwrap();
    match death {
        Death::Never => assert!(status.success(), "{status}: {stderr}"),
        Death::Before(_) | Death::After(_) => assert_eq!(status.code(), None, "{status}: {stderr}"),
        // It may have finished before the kill.
        Death::During(..) => assert!(status.success() || status.code().is_none(), "{status}: {stderr}"),
    }
}

/// Not a test: the process that the contract starts and kills. Does nothing without the environment
/// variables.
#[test]
fn the_mirroring_process() {
    mirroring_process();
}

/// The body of the process. Returns at once without the environment variables.
pub(crate) fn mirroring_process() {
    let [Ok(log), Ok(url), Ok(batch), Ok(death)] = ARGUMENTS.map(std::env::var) else { return };
    let mut mirror = Mortal { mirror: open(&url), death, batches: 0 };
    let batch = batch.parse().unwrap();
    catch_up(Path::new(&log), &mut mirror, &plan(batch), &CancelHandle::default(), &mut |_| {}).unwrap();
}

fn encode(death: Death) -> String {
    match death {
        Death::Never => String::new(),
        Death::Before(n) => format!("before {n}"),
        Death::During(..) => "during".to_owned(),
        Death::After(n) => format!("after {n}"),
    }
}

/// A mirror that kills its process at the planned batch.
struct Mortal {
    mirror: Box<dyn Mirror>,
    death: String,
    batches: u32,
}

impl Mortal {
    fn die_if_planned(&self, when: &str) {
        if self.death == format!("{when} {}", self.batches) {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    }
}

impl Mirror for Mortal {
    fn name(&self) -> String {
        self.mirror.name()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        self.mirror.buses()
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        self.mirror.head(bus)
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        self.batches += 1;
        self.die_if_planned("before");
        if self.death == "during" {
            let mut out = std::io::stdout().lock();
            writeln!(out, "sending {}", self.batches).and_then(|()| out.flush()).unwrap();
        }
        self.mirror.append(bus, after, batch)?;
        self.die_if_planned("after");
        Ok(())
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.mirror.lines(bus, from)
    }
}
