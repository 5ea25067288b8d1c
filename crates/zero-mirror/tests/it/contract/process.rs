//! A process that mirrors, and that can be killed at any moment: this test program once more.

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
    /// When it is about to hand over its n-th batch.
    Before(u32),
    /// So long after it began to hand over its n-th batch.
    During(u32, Duration),
    /// When its n-th batch is there, and it doesn't know yet.
    Behind(u32),
}

/// What the process is told.
const WORK: [&str; 4] =
    ["ZERO_TEST_MIRROR_LOG", "ZERO_TEST_MIRROR_URL", "ZERO_TEST_MIRROR_BATCH", "ZERO_TEST_MIRROR_DEATH"];

/// Starts a process that mirrors a log as it is now.
pub(crate) fn start(log: &Path, url: &str, batch_events: usize, death: Death) -> Child {
    command(log, url, batch_events, death).spawn().unwrap()
}

/// The same, not started yet.
pub(crate) fn command(log: &Path, url: &str, batch_events: usize, death: Death) -> Command {
    let (batch, death) = (batch_events.to_string(), tell(death));
    let values = [log.to_str().unwrap(), url, &batch, &death];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["contract::process::the_mirroring_process", "--exact", "--nocapture"])
        .envs(WORK.into_iter().zip(values))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs one to its end, which must be its death where that was told.
pub(crate) fn run(log: &Path, url: &str, batch_events: usize, death: Death) {
    let mut child = start(log, url, batch_events, death);
    let mut said = String::new();
    if let Death::During(n, after) = death {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let taking = format!("taking {n}");
        // A batch is announced unless all was there already.
        if lines.any(|line| line.unwrap().contains(&taking)) {
            let begin = Instant::now();
            while begin.elapsed() < after {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
        }
    }
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    match death {
        Death::Never => assert!(status.success(), "{status}: {said}"),
        Death::Before(_) | Death::Behind(_) => assert_eq!(status.code(), None, "{status}: {said}"),
        // It may have come to its end first.
        Death::During(..) => assert!(status.success() || status.code().is_none(), "{status}: {said}"),
    }
}

/// Not a test: the process that the contract starts and kills. It does nothing unless the environment asks for it.
#[test]
fn the_mirroring_process() {
    mirroring_process();
}

/// What the process does. Without being told, nothing.
pub(crate) fn mirroring_process() {
    let [Ok(log), Ok(url), Ok(batch), Ok(death)] = WORK.map(std::env::var) else { return };
    let mut mirror = Mortal { mirror: open(&url), death, batches: 0 };
    let batch = batch.parse().unwrap();
    catch_up(Path::new(&log), &mut mirror, &plan(batch), &CancelHandle::default(), &mut |_| {}).unwrap();
}

fn tell(death: Death) -> String {
    match death {
        Death::Never => String::new(),
        Death::Before(n) => format!("before {n}"),
        Death::During(..) => "during".to_owned(),
        Death::Behind(n) => format!("behind {n}"),
    }
}

/// A mirror whose process dies at a certain batch.
struct Mortal {
    mirror: Box<dyn Mirror>,
    death: String,
    batches: u32,
}

impl Mortal {
    fn perhaps_die(&self, when: &str) {
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
        self.perhaps_die("before");
        if self.death == "during" {
            let mut out = std::io::stdout().lock();
            writeln!(out, "taking {}", self.batches).and_then(|()| out.flush()).unwrap();
        }
        self.mirror.append(bus, after, batch)?;
        self.perhaps_die("behind");
        Ok(())
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.mirror.lines(bus, from)
    }
}
