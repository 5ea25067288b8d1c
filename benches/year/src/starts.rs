//! Start and one cycle of a runtime, after a short run and after a long one.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result};
use zero_paper::start_checkpoint::CHECKPOINT_CYCLES;

use crate::figures::{Bar, Spread, Table, run};

/// The resident memory that a runtime may take.
const MAX_MEMORY_MIB: f64 = 64.0;

/// A measured start.
#[derive(Clone, Copy, Debug)]
struct Start {
    ms: f64,
    memory_mib: f64,
}

/// Measures starts on both runs. `dirs` are the short one and the long one.
pub(crate) fn measure(table: &Table, dirs: [&Path; 2], rounds: u16, has_full_check: bool) -> Result<()> {
    let after_stop = compare(dirs, rounds, |dir| start(dir, false))?;
    let memory = Spread::of(after_stop[1].iter().map(|start| start.memory_mib).collect());
    row(table, "start and one cycle / the same at 1,000 cycles", Bar::AtMost(1.5), &after_stop);
    let memory_row = "peak memory of the runtime, MiB";
    table.row(memory_row, Bar::AtMost(MAX_MEMORY_MIB), memory.median, &memory.text());
    let after_kill = compare(dirs, rounds.min(3), |dir| {
        let count = (CHECKPOINT_CYCLES - 2).to_string();
        run_self(&["cycles".as_ref(), dir.as_os_str(), count.as_ref()])?;
        start(dir, false)
    })?;
    row(table, "the same after a kill, 254 cycles after the checkpoint", Bar::None, &after_kill);
    if has_full_check {
        let full = start(dirs[1], true)?;
        let details = format!("{:.0} MiB", full.memory_mib);
        table.row("start with --full-check, s", Bar::None, full.ms / 1e3, &details);
    }
    Ok(())
}

/// Measures both runs in alternating order.
fn compare(
    dirs: [&Path; 2],
    rounds: u16,
    measure: impl Fn(&Path) -> Result<Start>,
) -> Result<[Vec<Start>; 2]> {
    let mut measured = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (dir, starts) in dirs.iter().zip(&mut measured) {
            starts.push(measure(dir)?);
        }
    }
    Ok(measured)
}

fn row(table: &Table, what: &str, bar: Bar, starts: &[Vec<Start>; 2]) {
    let [short, long] =
        starts.each_ref().map(|starts| Spread::of(starts.iter().map(|start| start.ms).collect()));
    let details = format!("{} ms / {} ms", long.text(), short.text());
    table.row(what, bar, long.median / short.median, &details);
}

fn start(dir: &Path, full_check: bool) -> Result<Start> {
    let mut arguments = vec![OsStr::new("start"), dir.as_os_str()];
    arguments.extend(full_check.then(|| OsStr::new("--full-check")));
    let output = run_self(&arguments)?;
    let (ms, memory_kib) = output.trim().split_once(' ').context("unexpected output")?;
    Ok(Start { ms: ms.parse()?, memory_mib: memory_kib.parse::<f64>()? / 1024.0 })
}

fn run_self(arguments: &[&OsStr]) -> Result<String> {
    run(&std::env::current_exe()?, arguments)
}
