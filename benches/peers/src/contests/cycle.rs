//! Cycles of the runtime with all their records: late compared with early cycles, and with the bare
//! syncs of a cycle.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use zero_bus::storage::{Directory, Storage};
use zero_bus::{LOG, SNAPSHOT};
use zero_paper::{Runtime, Scenario, SystemClock};

use crate::log::Logs;
use crate::report::{Report, Row, Unit};
use crate::setup::Setup;
use crate::stats::seconds;
use crate::storage::NoSync;

/// Cycles that a contender runs in one turn.
const BLOCK: u64 = 10;

pub fn run(setup: &Setup, _: &mut Logs, report: &mut Report) -> Result<()> {
    let temp_dir = setup.temp_dir()?;
    let scenario = Scenario::load(&setup.scenario)?;
    let (early, late) = (100, setup.times(10_000, 1_000) as u64);
    let cycles = setup.times(200, 20) as u64;

    let mut late_runtime = runtime(&scenario, &temp_dir.path().join("late"), late)?;
    let mut bare = Bare::like(&temp_dir.path().join("late"), &temp_dir.path().join("bare"), late)?;
    let (mut early_rates, mut late_rates, mut bare_rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..setup.rounds {
        let fresh = temp_dir.path().join(format!("early-{round}"));
        let mut early_runtime = runtime(&scenario, &fresh, early)?;
        let (mut early_s, mut late_s, mut bare_s) = (0.0, 0.0, 0.0);
        // Syncs take most of the time. Turns are short, so that all contenders see the same disk.
        for _ in 0..cycles / BLOCK {
            early_s += seconds(|| run_block(&mut early_runtime))?;
            bare_s += seconds(|| (0..BLOCK).try_for_each(|_| bare.cycle()))?;
            late_s += seconds(|| run_block(&mut late_runtime))?;
        }
        early_rates.push(cycles as f64 / early_s);
        late_rates.push(cycles as f64 / late_s);
        bare_rates.push(cycles as f64 / bare_s);
        drop(early_runtime);
        fs::remove_dir_all(fresh)?;
    }
    let work = format!("runtime cycles, starting at cycle {late}");
    let compared_with = format!("the same, starting at cycle {early}");
    let row = Row::ratio(&work, compared_with, Unit::Rate, (&late_rates, &early_rates))?;
    report.rows.push(row.at_least(0.95, 0.95));
    let row = Row::ratio(&work, "the three bare syncs of a cycle", Unit::Rate, (&late_rates, &bare_rates))?;
    report.rows.push(row.at_least(0.85, 0.85));
    report.waits_for(
        "a cycle of the runtime",
        "`fdatasync` of journal, log, and the snapshot's temporary file",
    );
    Ok(())
}

/// Returns a runtime after this many cycles. They ran without syncs; later cycles are synced.
fn runtime(scenario: &Scenario, dir: &Path, cycles: u64) -> Result<Runtime> {
    let unsynced: Arc<dyn Storage> = Arc::new(NoSync::create(dir)?);
    let mut runtime = Runtime::start_in(scenario.clone(), &unsynced, Arc::new(SystemClock))?;
    for _ in 0..cycles {
        runtime.run_cycle()?;
    }
    drop(runtime);
    for entry in fs::read_dir(dir)? {
        File::open(entry?.path())?.sync_all()?;
    }
    let synced: Arc<dyn Storage> = Arc::new(Directory::open(dir)?);
    let mut runtime = Runtime::start_in(scenario.clone(), &synced, Arc::new(SystemClock))?;
    // The first cycle on new handles takes longer.
    runtime.run_cycle()?;
    Ok(runtime)
}

fn run_block(runtime: &mut Runtime) -> Result<()> {
    for _ in 0..BLOCK {
        runtime.run_cycle()?;
    }
    Ok(())
}

/// Makes the system calls that a cycle needs to be durable, with the same number of bytes.
struct Bare {
    journal: (File, Vec<u8>),
    log: (File, Vec<u8>),
    cycles: (File, Vec<u8>),
    snapshot: Vec<u8>,
    temporary: PathBuf,
    current: PathBuf,
}

impl Bare {
    fn like(model: &Path, dir: &Path, cycles: u64) -> Result<Self> {
        fs::create_dir(dir)?;
        // A cycle writes the average number of bytes.
        let open = |name: &str| -> Result<(File, Vec<u8>)> {
            let bytes = model.join(name).metadata().with_context(|| format!("no {name}"))?.len() / cycles;
            let file = File::options().append(true).create(true).open(dir.join(name))?;
            Ok((file, vec![b'x'; bytes as usize]))
        };
        Ok(Self {
            journal: open("decisions.jsonl")?,
            log: open(LOG)?,
            cycles: open("cycles.jsonl")?,
            snapshot: fs::read(model.join(SNAPSHOT))?,
            temporary: dir.join("snapshot.tmp"),
            current: dir.join(SNAPSHOT),
        })
    }

    fn cycle(&mut self) -> Result<()> {
        for (file, bytes) in [&mut self.journal, &mut self.log] {
            file.write_all(bytes)?;
            file.sync_data()?;
        }
        let mut temporary = File::create(&self.temporary)?;
        temporary.write_all(&self.snapshot)?;
        temporary.sync_data()?;
        fs::rename(&self.temporary, &self.current)?;
        let (file, bytes) = &mut self.cycles;
        file.write_all(bytes)?;
        Ok(())
    }
}
