//! The runtime: cycles one behind the other, each on record before the next begins.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zero_bus::{Bus, SetAside};

use crate::clock::Clock;
use crate::cycle::{self, CycleRecord, Recovery};
use crate::engine::Engine;
use crate::error::Result;
use crate::journal::{Journal, LineFile};
use crate::publish::publish;
use crate::scenario::Scenario;

/// Where a runtime keeps its records. What is not named is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The decision journal.
    pub journal: Option<PathBuf>,
    /// The cycle records, one a line.
    pub cycle_journal: Option<PathBuf>,
    /// The bus directory.
    pub runtime_bus: Option<PathBuf>,
}

/// A runtime that has its state and its files.
pub struct Runtime {
    scenario: Scenario,
    clock: Clock,
    engine: Engine,
    recovery: Recovery,
    cycle_journal: Option<LineFile>,
    bus: Option<Bus>,
}

impl Runtime {
    /// Opens the records and recovers the state. Where this fails, what it made is taken away again.
    ///
    /// # Errors
    /// What is wrong with the records, naming file and place.
    pub fn start(scenario: Scenario, records: &Records, clock: Clock) -> Result<Self> {
        let made = Made::look(records);
        let started = Self::open(scenario, records, clock);
        if started.is_err() {
            made.undo();
        }
        started
    }

    fn open(scenario: Scenario, records: &Records, clock: Clock) -> Result<Self> {
        let (journal, was_there) = match &records.journal {
            Some(path) => Journal::open(path)?,
            None => (Journal::Memory(Vec::new()), false),
        };
        let engine = Engine::recover(scenario.limits, journal)?;
        let recovery = match &records.journal {
            Some(path) if was_there => Recovery::recovered(&engine, path.to_string_lossy().into_owned()),
            _ => Recovery::ephemeral(),
        };
        let cycle_journal = records.cycle_journal.as_deref().map(LineFile::open).transpose()?;
        let bus = records.runtime_bus.as_deref().map(Bus::open).transpose()?;
        Ok(Self { scenario, clock, engine, recovery, cycle_journal, bus })
    }

    /// Goes through one cycle and puts it on record: the decision durably before it takes effect, then the
    /// cycle record, then the events durably, then the snapshot.
    ///
    /// # Errors
    /// What stands in the way. The runtime should be started anew then, so that its records are looked at.
    pub fn run_cycle(&mut self) -> Result<CycleRecord> {
        let cycle = cycle::run(&mut self.engine, &self.scenario, &self.recovery, self.clock.now())?;
        if let Some(journal) = &mut self.cycle_journal {
            journal.append(&cycle)?;
        }
        if let Some(bus) = &self.bus {
            publish(bus, &self.engine, &self.recovery, &cycle)?;
        }
        Ok(cycle)
    }

    /// Runs cycles until there were enough, or until `pause`, which is called between two of them with the
    /// interval, says that it is time to stop. Then makes everything durable. Gives the last cycle.
    ///
    /// # Errors
    /// As [`Runtime::run_cycle`].
    pub fn run(
        &mut self,
        max_cycles: Option<u64>,
        interval: Duration,
        mut pause: impl FnMut(Duration) -> Pause,
    ) -> Result<Option<CycleRecord>> {
        let mut last = None;
        let mut cycles = 0;
        while max_cycles.is_none_or(|most| cycles < most) {
            // Before the first cycle there is nothing to wait for, but somebody may have said stop.
            let wait = if cycles == 0 { Duration::ZERO } else { interval };
            if pause(wait) == Pause::Stop {
                break;
            }
            last = Some(self.run_cycle()?);
            cycles += 1;
        }
        self.sync()?;
        Ok(last)
    }

    /// Makes the cycle journal durable; the decision journal and the bus are after every cycle.
    ///
    /// # Errors
    /// What the system reports.
    pub fn sync(&mut self) -> Result<()> {
        self.cycle_journal.as_mut().map_or(Ok(()), LineFile::sync)
    }

    /// The engine and its state.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The bus, where there is one.
    pub fn bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    /// What starting had to mend, for the operator: a line for each unfinished line that was set aside.
    pub fn mended(&self) -> Vec<String> {
        let journals = [self.engine.journal().file(), self.cycle_journal.as_ref()];
        let journals =
            journals.into_iter().flatten().map(|file| (file.path().to_owned(), file.set_aside().cloned()));
        let on_bus = self
            .bus
            .iter()
            .flat_map(|bus| bus.set_aside().into_iter().map(|set_aside| (bus.log_path(), Some(set_aside))));
        let line = |(path, set_aside): (PathBuf, Option<SetAside>)| {
            let SetAside { bytes, file, .. } = set_aside?;
            Some(format!(
                "{}: an unfinished last line of {bytes} bytes was set aside in {file}",
                path.display()
            ))
        };
        journals.chain(on_bus).filter_map(line).collect()
    }
}

/// What a runtime is told between two cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The time is over: go on.
    GoOn,
    /// Make an end.
    Stop,
}

/// What was not there before a start, so that a start that fails leaves nothing behind.
struct Made {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Made {
    fn look(records: &Records) -> Self {
        let is_missing = |path: &Path| fs::symlink_metadata(path).is_err();
        let mut made = Self { files: Vec::new(), directories: Vec::new() };
        let bus = records.runtime_bus.as_deref();
        for path in [&records.journal, &records.cycle_journal].into_iter().flatten() {
            made.files.push(path.clone());
            made.directories.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
        if let Some(bus) = bus {
            made.files.extend([zero_bus::LOG, zero_bus::LOCK].map(|name| bus.join(name)));
            made.directories.extend(bus.ancestors().map(Path::to_owned));
        }
        made.directories.retain(|path| path.as_os_str() != OsStr::new(""));
        made.files.retain(|path| is_missing(path));
        made.directories.retain(|path| is_missing(path));
        // The innermost first.
        made.directories.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        made.directories.dedup();
        made
    }

    fn undo(&self) {
        // Only what is empty goes, so that nothing can be lost. Where that fails, the error that is about
        // to be told matters more.
        for file in &self.files {
            if fs::symlink_metadata(file).is_ok_and(|file| file.is_file() && file.len() == 0) {
                let _ = fs::remove_file(file);
            }
        }
        for directory in &self.directories {
            let _ = fs::remove_dir(directory);
        }
    }
}
