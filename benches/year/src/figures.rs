//! What is measured, as figures: medians, ratios, rows of a table.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// The values of several rounds.
pub(crate) struct Spread {
    lowest: f64,
    pub(crate) median: f64,
    highest: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        Self { lowest: at(0), median: at(values.len() / 2), highest: at(values.len().saturating_sub(1)) }
    }

    pub(crate) fn text(&self) -> String {
        let digits = if self.median < 10.0 { 2 } else { 0 };
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.lowest, self.highest)
    }
}

/// A bar, and on which side of it a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
    None,
}

/// The rows of the table. Each is printed at once, also for a run that is interrupted.
pub(crate) struct Table;

impl Table {
    pub(crate) fn begin() -> Self {
        println!("\n| what | bar | measured | details |\n|---|---|---|---|");
        Self
    }

    /// Prints a row. `details` is what the figure was computed from.
    pub(crate) fn row(&self, what: &str, bar: Bar, value: f64, details: &str) {
        let (bar, verdict) = match bar {
            Bar::AtMost(bar) => (format!("≤ {bar}"), if value <= bar { ", reached" } else { ", **missed**" }),
            Bar::AtLeast(bar) => {
                (format!("≥ {bar}"), if value >= bar { ", reached" } else { ", **missed**" })
            }
            Bar::None => (String::new(), ""),
        };
        let digits = if value < 100.0 { 2 } else { 0 };
        println!("| {what} | {bar} | {value:.digits$}{verdict} | {details} |");
    }
}

/// Calls a function in several rounds and returns what it returns.
pub(crate) fn rounds(count: u16, mut measure: impl FnMut() -> Result<f64>) -> Result<Spread> {
    Ok(Spread::of((0..count).map(|_| measure()).collect::<Result<_>>()?))
}

/// Returns how many seconds some work takes.
pub(crate) fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Runs a program to its end and returns its output.
pub(crate) fn run(program: &Path, arguments: &[&OsStr]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {arguments:?}: {}: {message}", program.display(), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The most memory that this process has had resident.
pub(crate) fn peak_memory_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Bytes of the files in a directory, subdirectories included.
pub(crate) fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
