//! The runtime: cycles one behind the other, each on record before the next begins.

use std::path::PathBuf;
use std::time::Duration;

use zero_bus::{Bus, SetAside};

use crate::clock::Clock;
use crate::cycle::{self, CYCLE_SCHEMA, CycleRecord, Recovery};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::line_file::{LineFile, must_hold};
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

impl Records {
    /// Whether each file has a name of its own.
    fn check(&self) -> Result<()> {
        match (&self.journal, &self.cycle_journal) {
            (Some(journal), Some(cycles)) if journal == cycles => Err(Error::Refused {
                path: journal.clone(),
                problem: "is named as both journals; name two files".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// A runtime that has its state and its files.
pub struct Runtime {
    scenario: Scenario,
    clock: Clock,
    engine: Engine,
    recovery: Recovery,
    cycle_journal: Option<LineFile>,
    bus: Option<Bus>,
    /// A cycle could not be put on record.
    failed: bool,
}

impl Runtime {
    /// Opens the records and recovers the state. Where this fails, nothing was changed, and nothing is left behind.
    ///
    /// # Errors
    /// What is wrong with the records, naming file and place.
    pub fn start(scenario: Scenario, records: &Records, clock: Clock) -> Result<Self> {
        records.check()?;
        let journal = match &records.journal {
            Some(path) => Journal::open(path)?,
            None => Journal::Memory(Vec::new()),
        };
        let mut engine = Engine::recover(scenario.limits, journal)?;
        let recovery = match engine.journal().file().filter(|file| file.was_there()) {
            Some(file) => Recovery::recovered(&engine, file.path().to_string_lossy().into_owned()),
            None => Recovery::ephemeral(),
        };
        let mut cycle_journal = records.cycle_journal.as_deref().map(LineFile::open).transpose()?;
        if let Some(file) = &cycle_journal {
            must_hold(file, CYCLE_SCHEMA)?;
        }
        let bus = records.runtime_bus.as_deref().map(Bus::open).transpose()?;
        // Only now that everything is there.
        engine.mend()?;
        cycle_journal.as_mut().map_or(Ok(()), LineFile::mend)?;
        Ok(Self { scenario, clock, engine, recovery, cycle_journal, bus, failed: false })
    }

    /// Goes through one cycle and puts it on record: the decision durably before it takes effect, then the
    /// events durably, then the snapshot, then the cycle record.
    ///
    /// # Errors
    /// What stands in the way. The runtime takes no more then: start it anew, so that its records are looked at.
    pub fn run_cycle(&mut self) -> Result<CycleRecord> {
        if std::mem::replace(&mut self.failed, true) {
            let path = self.bus.as_ref().map(Bus::log_path).unwrap_or_default();
            let problem = "an earlier cycle could not be put on record; start anew".to_owned();
            return Err(Error::Refused { path, problem });
        }
        let cycle = cycle::run(&mut self.engine, &self.scenario, &self.recovery, self.clock.now())?;
        if let Some(bus) = &self.bus {
            publish(bus, &self.engine, &self.recovery, &cycle)?;
        }
        // Last, since all of it is on the bus.
        if let Some(journal) = &mut self.cycle_journal {
            journal.append(&cycle)?;
        }
        self.failed = false;
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
            Some(format!("{}: {}", path.display(), set_aside?))
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
