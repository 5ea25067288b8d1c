//! Measures what a year of running costs: start, memory and verification, after 1,000 cycles and
//! after many.
//!
//! Each start is measured in a process of its own, on files that the system has in its cache. The
//! median of several rounds is printed, and the lowest and the highest of them.

#![forbid(unsafe_code)]

mod records;
mod unsynced;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use zero_bus::Reader;
use zero_paper::start_checkpoint::{CHECKPOINT, CHECKPOINT_CYCLES, KEY_INDEX};

/// A year of cycles, one every five seconds.
const YEAR_CYCLES: u64 = 6_307_200;

/// The run that a year is compared with.
const SHORT_CYCLES: u64 = 1_000;

/// Measure a runtime with a long history against one with 1,000 cycles
#[derive(Debug, Parser)]
#[command(after_help = "\
Examples:
  cargo run --release
  cargo run --release -- --cycles 1000000 --dir /data
  cargo run --release -- --year --dir /data

A cycle takes 4.9 kB on the disk, a year 31 GB. The files are removed at the end.")]
struct Arguments {
    #[command(subcommand)]
    step: Option<Step>,
    /// Generate N cycles
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..))]
    cycles: u64,
    /// Generate a year: 6,307,200 cycles
    #[arg(long, conflicts_with = "cycles")]
    year: bool,
    /// Measure each start N times
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Create the files in a new directory in DIR
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// The steps that run in a process of their own.
#[derive(Clone, Debug, Subcommand)]
enum Step {
    /// Start, run one cycle and print the milliseconds and the peak memory in KiB
    #[command(hide = true)]
    Start {
        dir: PathBuf,
        #[arg(long)]
        full_check: bool,
    },
    /// Run cycles and end without a checkpoint, as a killed process does
    #[command(hide = true)]
    Cycles { dir: PathBuf, count: u64 },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.step {
        Some(Step::Start { dir, full_check }) => {
            let begin = Instant::now();
            records::run_one_cycle(dir, *full_check)?;
            let elapsed = begin.elapsed();
            println!("{} {}", elapsed.as_secs_f64() * 1e3, peak_memory_kib()?);
            Ok(())
        }
        Some(Step::Cycles { dir, count }) => records::run_and_die(dir, *count),
        None => measure(&arguments),
    }
}

/// A measured start.
#[derive(Clone, Copy, Debug)]
struct Start {
    ms: f64,
    memory_kib: f64,
}

fn measure(arguments: &Arguments) -> Result<()> {
    let cycles = if arguments.year { YEAR_CYCLES } else { arguments.cycles };
    let files = tempfile::tempdir_in(&arguments.dir)?;
    let (short, long) = (files.path().join("short"), files.path().join("long"));
    let begin = Instant::now();
    for (dir, cycles) in [(&short, SHORT_CYCLES), (&long, cycles)] {
        records::generate(dir, cycles)?;
    }
    let size = |name: &str| Ok::<_, anyhow::Error>(long.join(name).metadata()?.len());
    println!("{cycles} cycles generated in {:.0} s", begin.elapsed().as_secs_f64());
    println!(
        "log {} MB, journal {} MB, key index {} kB, checkpoint {} kB",
        size("events.jsonl")? / 1_000_000,
        size("decisions.jsonl")? / 1_000_000,
        size(KEY_INDEX)? / 1_000,
        size(CHECKPOINT)? / 1_000
    );
    println!("load average {}", std::fs::read_to_string("/proc/loadavg")?.trim());

    println!("\n| what | 1,000 cycles | {cycles} cycles | ratio |\n|---|---|---|---|");
    let after_stop = |dir: &Path| start(dir, false);
    compare("start + one cycle, ms", arguments.rounds, [&short, &long], after_stop)?;
    let after_kill = |dir: &Path| {
        let count = (CHECKPOINT_CYCLES - 2).to_string();
        run_self(&["cycles".as_ref(), dir.as_os_str(), count.as_ref()])?;
        start(dir, false)
    };
    compare("the same after a kill, 254 cycles after the checkpoint, ms", 3, [&short, &long], after_kill)?;

    let full = start(&long, true)?;
    println!("\nstart with --full-check: {:.0} ms, {:.0} MiB", full.ms, full.memory_kib / 1024.0);
    let reader = Reader::open(&long)?;
    let whole = timed(|| Ok(drop(reader.verify_since_last(&mut |_| {})?)))?;
    reader.remember_verified(reader.head()?)?;
    let new = timed(|| Ok(drop(reader.verify_since_last(&mut |_| {})?)))?;
    println!("verify: {:.1} ms; --since-last with nothing new: {:.1} ms", whole * 1e3, new * 1e3);
    Ok(())
}

/// Measures both runs in alternating order and prints a row for the times and one for the memory.
fn compare(
    what: &str,
    rounds: u16,
    dirs: [&Path; 2],
    measure: impl Fn(&Path) -> Result<Start>,
) -> Result<()> {
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (dir, starts) in dirs.iter().zip(&mut measured) {
            starts.push(measure(dir)?);
        }
    }
    let [short, long] = measured;
    let row = |what: &str, value: fn(&Start) -> f64| {
        let [short, long] = [&short, &long].map(|starts| spread(starts.iter().map(value).collect()));
        println!("| {what} | {} | {} | {:.2} |", short.text(), long.text(), long.median / short.median);
    };
    row(what, |start| start.ms);
    row("peak memory, MiB", |start| start.memory_kib / 1024.0);
    Ok(())
}

struct Spread {
    lowest: f64,
    median: f64,
    highest: f64,
}

impl Spread {
    fn text(&self) -> String {
        format!("{:.1} ({:.1} to {:.1})", self.median, self.lowest, self.highest)
    }
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    Spread { lowest: at(0), median: at(values.len() / 2), highest: at(values.len().saturating_sub(1)) }
}

fn start(dir: &Path, full_check: bool) -> Result<Start> {
    let mut arguments = vec![OsStr::new("start"), dir.as_os_str()];
    arguments.extend(full_check.then(|| OsStr::new("--full-check")));
    let output = run_self(&arguments)?;
    let (ms, memory_kib) = output.trim().split_once(' ').context("unexpected output")?;
    Ok(Start { ms: ms.parse()?, memory_kib: memory_kib.parse()? })
}

fn run_self(arguments: &[&OsStr]) -> Result<String> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().max(Duration::from_nanos(1)).as_secs_f64())
}

/// The most memory that this process has had resident.
fn peak_memory_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
