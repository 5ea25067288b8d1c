//! Work that needs its own process: this program starts itself again.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use zero_bus::Reader;

/// The work of a child process.
#[derive(Debug, clap::Subcommand)]
pub enum Work {
    /// Verify a bus and print the peak memory
    #[command(hide = true)]
    VerifyMemory { bus: PathBuf },
    /// Write the audit document and print the peak memory
    #[command(hide = true)]
    AuditMemory { bus: PathBuf, to: PathBuf },
    /// Follow a bus and print the monotonic time of each event, in ns
    #[command(hide = true)]
    Follow { bus: PathBuf, count: u64 },
}

/// Runs in the child process.
pub fn run(work: &Work) -> Result<()> {
    match work {
        Work::VerifyMemory { bus } => {
            ensure!(Reader::open(bus)?.verify()?.ok(), "the log is not valid");
            println!("{}", peak_memory_bytes()?);
        }
        Work::AuditMemory { bus, to } => {
            let out = std::fs::File::create(to)?;
            let (verdict, _) = Reader::open(bus)?.audit(BufWriter::new(out), &mut |_| {})?;
            ensure!(verdict.ok(), "the log is not valid");
            println!("{}", peak_memory_bytes()?);
        }
        Work::Follow { bus, count } => {
            let mut follower = Reader::open(bus)?.follow(1)?;
            println!("ready");
            let mut delivered = Vec::new();
            while (delivered.len() as u64) < *count {
                let event =
                    follower.next_timeout(Duration::from_secs(30))?.context("no event came for 30 s")?;
                delivered.push((event.index, now_ns()));
            }
            let mut out = std::io::stdout().lock();
            for (index, at) in delivered {
                writeln!(out, "{index} {at}")?;
            }
        }
    }
    Ok(())
}

/// The command that starts a child. The caller adds the arguments.
pub fn command(work: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(work);
    Ok(command)
}

/// The monotonic clock, which is the same in all processes.
pub fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// The high water mark of resident memory in `/proc`.
fn peak_memory_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?.parse()?;
    Ok(kib << 10)
}
