//! Measures what a year of running costs: start, memory, disk, reading, verification and sealing.
//!
//! The steps follow each other, so that the plain log of a year is on the disk only once. What is
//! measured in a process is measured in a new one each time, on files that the system has in its
//! cache if they fit. A figure is the median of several rounds, followed by their range.

#![forbid(unsafe_code)]

mod appends;
mod before;
mod figures;
mod records;
mod sealed;
mod starts;
mod unsynced;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use zero_bus::LOG;
use zero_paper::start_checkpoint::{CHECKPOINT, KEY_INDEX};

use crate::figures::{Table, peak_memory_kib};
use crate::unsynced::JOURNAL;

/// A year of cycles, one every five seconds.
const YEAR_CYCLES: u64 = 6_307_200;

/// The run that a year is compared with.
const SHORT_CYCLES: u64 = 1_000;

/// The run for what does not depend on the length of the log.
const MIDDLE_CYCLES: u64 = 50_000;

/// A start with --full-check of a longer run takes many minutes.
const MAX_FULL_CHECK_CYCLES: u64 = 1_000_000;

/// Measure a runtime and its log after a long time
#[derive(Debug, Parser)]
#[command(after_help = "\
Examples:
  cargo run --release
  cargo run --release -- --cycles 20000 --rounds 3
  cargo run --release -- --before old/zero-bus
  cargo run --release -- --year --dir /data

A cycle takes 4.9 kB on the disk: a year takes 31 GB, and 3 GB more while it is sealed. The files are removed at the end.
Build the program first: `cargo build --profile dist -p zero-cli` in the checkout.")]
struct Arguments {
    #[command(subcommand)]
    step: Option<Step>,
    /// Generate N cycles
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(5000..))]
    cycles: u64,
    /// Generate a year: 6,307,200 cycles
    #[arg(long, conflicts_with = "cycles")]
    year: bool,
    /// Measure in N rounds
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Create the files in a new directory in DIR
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Use this zero-bus [default: target/dist/zero-bus of the checkout]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Also compare with an earlier zero-bus on a bus that was never sealed
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
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
            let last = records::last_time(dir)?;
            let begin = Instant::now();
            records::run_one_cycle(dir, last, *full_check)?;
            let elapsed = begin.elapsed();
            println!("{} {}", elapsed.as_secs_f64() * 1e3, peak_memory_kib()?);
            Ok(())
        }
        Some(Step::Cycles { dir, count }) => records::run_and_die(dir, *count),
        None => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let cycles = if arguments.year { YEAR_CYCLES } else { arguments.cycles };
    let checkout = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let program = arguments.program.clone().unwrap_or_else(|| checkout.join("target/dist/zero-bus"));
    ensure!(
        program.is_file(),
        "{}: there is no such program: run `cargo build --profile dist -p zero-cli`, or name it with --program",
        program.display()
    );
    let files = tempfile::tempdir_in(&arguments.dir)?;
    let dir = |name: &str| files.path().join(name);
    println!("load average {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    let rounds = arguments.rounds;

    let (short, middle, long) = (dir("short"), dir("middle"), dir("long"));
    generate(&short, SHORT_CYCLES)?;
    generate(&middle, MIDDLE_CYCLES.min(cycles))?;
    let table = Table::begin();
    if let Some(before) = &arguments.before {
        before::measure(&table, &middle, &program, before, rounds)?;
    }
    appends::measure(&table, &middle, rounds)?;
    std::fs::remove_dir_all(&middle)?;

    println!();
    generate(&long, cycles)?;
    let table = Table::begin();
    starts::measure(&table, [&short, &long], rounds, cycles <= MAX_FULL_CHECK_CYCLES)?;
    sealed::measure(&table, &long, &program, rounds)
}

/// Generates a run and prints its size.
fn generate(dir: &Path, cycles: u64) -> Result<()> {
    let begin = Instant::now();
    records::generate(dir, cycles)?;
    let seconds = begin.elapsed().as_secs_f64();
    let size = |name: &str| Ok::<_, anyhow::Error>(dir.join(name).metadata()?.len() / 1_000);
    println!(
        "{cycles} cycles generated in {seconds:.1} s, {:.0} a second: log {} kB, journal {} kB, key index {} kB, \
         checkpoint {} kB",
        cycles as f64 / seconds,
        size(LOG)?,
        size(JOURNAL)?,
        size(KEY_INDEX)?,
        size(CHECKPOINT)?
    );
    Ok(())
}
