//! Runs the runtime: quickly to generate its records, and as an operator does to measure a start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use zero_bus::Reader;
use zero_bus::storage::{Directory, Storage};
use zero_paper::start_checkpoint::CheckpointOptions;
use zero_paper::{Clock, PauseEnd, RecordPaths, Runtime, Scenario};

use crate::unsynced::{JOURNAL, Unsynced};

const SCENARIO: &str = include_str!("../../../examples/paper-trading/scenario.json");

/// Seconds between two cycles.
const INTERVAL: f64 = 5.0;

/// A clock that is an interval later with each reading.
struct Steps {
    begin: f64,
    steps: std::sync::atomic::AtomicU64,
}

impl Clock for Steps {
    fn now(&self) -> f64 {
        let steps = self.steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.begin + INTERVAL * steps as f64
    }
}

fn clock(begin: f64) -> Arc<dyn Clock> {
    Arc::new(Steps { begin, steps: Default::default() })
}

/// Returns the time of the last event.
pub(crate) fn last_time(dir: &Path) -> Result<f64> {
    let reader = Reader::open(dir)?;
    Ok(reader.event(reader.head()?.index)?.context("the log is empty")?.as_of)
}

fn scenario() -> Result<Scenario> {
    Scenario::parse(SCENARIO).map_err(|problem| anyhow!(problem))
}

/// Generates a bus and its journal in one directory. The runtime writes them as always, but on a
/// storage that does not sync; the system does that at the end.
pub(crate) fn generate(dir: &Path, cycles: u64) -> Result<()> {
    let unsynced = Arc::new(Unsynced::new(Directory::create(dir)?));
    let storage: Arc<dyn Storage> = Arc::clone(&unsynced) as _;
    let mut runtime = Runtime::start_in(scenario()?, &storage, clock(1_777_593_600.0))?;
    run(&mut runtime, cycles)?;
    drop(runtime);
    unsynced.write_rest()?;
    ensure!(std::process::Command::new("sync").arg("-f").arg(dir).status()?.success(), "sync failed");
    Ok(())
}

/// Starts a runtime whose last cycle was at the time `last`.
fn start(dir: &Path, last: f64, full_check: bool) -> Result<Runtime> {
    let records = RecordPaths {
        journal: Some(dir.join(JOURNAL)),
        runtime_bus: Some(dir.to_owned()),
        checkpoint: CheckpointOptions { full_check, ..CheckpointOptions::default() },
        ..RecordPaths::default()
    };
    let runtime = Runtime::start(scenario()?, &records, clock(last + INTERVAL))?;
    ensure!(full_check || runtime.started_after() > 0, "{:?}", runtime.warnings());
    Ok(runtime)
}

fn run(runtime: &mut Runtime, cycles: u64) -> Result<()> {
    runtime.run(Some(cycles), Duration::ZERO, |_| PauseEnd::Elapsed)?;
    Ok(())
}

/// Starts as `zero-engine-run --once` does.
pub(crate) fn run_one_cycle(dir: &Path, last: f64, full_check: bool) -> Result<()> {
    run(&mut start(dir, last, full_check)?, 1)
}

/// Runs cycles without a checkpoint at the end.
pub(crate) fn run_and_die(dir: &Path, cycles: u64) -> Result<()> {
    let mut runtime = start(dir, last_time(dir)?, false)?;
    (0..cycles).try_for_each(|_| runtime.run_cycle().map(drop))?;
    Ok(())
}
