//! The runtime: cycles one behind the other, each on record before the next begins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zero_bus::storage::Directory;
use zero_bus::{Bus, Json, Reader, SetAside, Value};

use crate::agree::{self, Agreement, CYCLE_EVENTS, Published, compare};
use crate::clock::Clock;
use crate::cycle::{self, CYCLE_SCHEMA, CycleRecord, Recovery};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::line_file::{LineFile, last_record};
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
    /// Make the journal again from the bus, keeping the old one.
    pub rebuild_journal: bool,
}

impl Records {
    /// Makes the journal from the bus where that was asked for, or where there is a bus but no journal yet. Tells whether
    /// it did.
    fn rebuild(&self, reader: Option<&Reader>, remarks: &mut Vec<String>) -> Result<bool> {
        if let (true, None, Some(bus)) = (self.rebuild_journal, reader, &self.runtime_bus) {
            let problem = "there is no bus to make the journal from; name the right one".to_owned();
            return Err(Error::Refused { path: bus.clone(), problem });
        }
        let (Some(path), Some(reader)) = (&self.journal, reader) else { return Ok(false) };
        if path.exists() && !self.rebuild_journal {
            return Ok(false);
        }
        // Nobody else may be writing the one that is there.
        let _old = path.exists().then(|| LineFile::open(path)).transpose()?;
        let decisions = agree::decisions_on(reader)?;
        if decisions.is_empty() && !self.rebuild_journal {
            return Ok(false);
        }
        let kept = agree::rebuild(path, &decisions)?;
        remarks.push(format!("{}: made from the bus, {} decisions", path.display(), decisions.len()));
        remarks.extend(kept);
        Ok(true)
    }

    /// Whether each file has a name of its own.
    fn check(&self) -> Result<()> {
        let refused = |path: &Path, problem: &str| {
            Err(Error::Refused { path: path.to_owned(), problem: format!("{problem}; name another file") })
        };
        let journals = [&self.journal, &self.cycle_journal];
        if let (Some(journal), Some(cycles)) = (&self.journal, &self.cycle_journal)
            && journal == cycles
        {
            return refused(journal, "is named as both journals");
        }
        let Some(bus) = &self.runtime_bus else { return Ok(()) };
        let same = |one: &Path, other: &Path| {
            one == other
                || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
        };
        for journal in journals.into_iter().flatten() {
            let its_own = [zero_bus::LOG, zero_bus::LOCK, zero_bus::SNAPSHOT]
                .into_iter()
                .any(|name| journal.file_name().is_some_and(|file| file == name));
            if its_own && journal.parent().is_some_and(|parent| same(parent, bus)) {
                return refused(journal, "is a file of the bus");
            }
        }
        Ok(())
    }
}

/// A runtime that has its state and its files.
pub struct Runtime {
    scenario: Scenario,
    clock: Clock,
    engine: Engine,
    recovery: Json,
    cycle_journal: Option<LineFile>,
    bus: Option<Bus>,
    /// One runtime a bus: held as long as this one lives.
    _claim: Option<Directory>,
    remarks: Vec<String>,
    /// A cycle could not be put on record.
    failed: bool,
}

impl Runtime {
    /// Opens the records and recovers the state. Where this fails, nothing is left behind, and
    /// nothing was changed but a journal that was to be made again.
    ///
    /// # Errors
    /// What is wrong with the records, naming file and place.
    pub fn start(scenario: Scenario, records: &Records, clock: Clock) -> Result<Self> {
        records.check()?;
        // Before the journal, as what is opened first is dropped last, and directories are unmade from the inside.
        let mut cycle_journal = records.cycle_journal.as_deref().map(LineFile::open).transpose()?;
        let last = cycle_journal.as_ref().map_or(Ok(None), |file| last_record(file, CYCLE_SCHEMA))?;
        let last_cycle = last.as_ref().and_then(|record| record.get("cycle_id")).and_then(Value::as_u64);
        // Looked at before it is opened for appending, which may change it.
        let claim = records.runtime_bus.as_deref().filter(|path| path.is_dir()).map(claim).transpose()?;
        let reader =
            records.runtime_bus.as_deref().filter(|path| path.is_dir()).map(Reader::open).transpose()?;
        let mut remarks = Vec::new();
        let rebuilt = records.rebuild(reader.as_ref(), &mut remarks)?;
        let journal = match (&records.journal, &reader) {
            (Some(path), _) => Journal::open(path)?,
            (None, Some(reader)) => Journal::Memory(agree::decisions_on(reader)?),
            (None, None) => Journal::Memory(Vec::new()),
        };
        let mut agreement = Agreement::default();
        if let Some(reader) = &reader {
            agreement = compare(&journal, reader, last_cycle.map(|last| last + 1))?;
        }
        let mut engine = Engine::recover(scenario.limits, journal)?;
        let recovery = match engine.journal().file() {
            Some(file) if file.was_there() && !rebuilt => {
                Recovery::recovered(&engine, file.path().to_string_lossy().into_owned())
            }
            _ if engine.counts().decisions > 0 => Recovery::from_bus(&engine),
            _ => Recovery::ephemeral(),
        };
        let recovery = Json::of(&recovery)?;
        let bus = records.runtime_bus.as_deref().map(Bus::open).transpose()?;
        let claim = match (claim, &records.runtime_bus) {
            (None, Some(path)) => Some(self::claim(path)?),
            (claim, _) => claim,
        };
        // Only now that everything is there.
        engine.mend()?;
        if let Some(file) = &mut cycle_journal {
            file.mend()?;
            // What a crash kept from it.
            agreement.cycles.iter().try_for_each(|cycle| file.append(cycle).map(drop))?;
        }
        let mut runtime = Self {
            scenario,
            clock,
            engine,
            recovery,
            cycle_journal,
            bus,
            _claim: claim,
            remarks,
            failed: false,
        };
        runtime.complete_the_bus(agreement)?;
        Ok(runtime)
    }

    /// Publishes what the journal has and the bus lacks behind its last event: what a crash kept from it.
    fn complete_the_bus(&mut self, agreement: Agreement) -> Result<()> {
        self.remarks.extend(agreement.remarks);
        let Some(bus) = &self.bus else { return Ok(()) };
        let decisions = self.engine.counts().decisions;
        let first = Published { cycle_id: 0, events: CYCLE_EVENTS.len(), recovery: self.recovery.clone() };
        // One decision and nothing on the bus is what a crash in the first cycle leaves.
        let Some(last) = agreement.last.or((decisions == 1).then_some(first)) else {
            if decisions > 0 {
                self.remarks.push(format!(
                    "the bus begins with cycle {}; those before it are in the journal",
                    decisions + 1
                ));
            }
            return Ok(());
        };
        let whole = last.events == CYCLE_EVENTS.len();
        let from = if whole { last.cycle_id + 1 } else { last.cycle_id };
        if from > decisions {
            return Ok(());
        }
        let (mut engine, rest) = self.engine.before(from)?;
        let mut there = if whole { 0 } else { last.events };
        for decision in rest {
            // What is there of a cycle says how its process came by its state; what is not there is published by us.
            let recovery = if there > 0 { &last.recovery } else { &self.recovery };
            let cycle = cycle::run_again(&mut engine, &self.scenario, recovery, decision).map_err(
                |error| match error {
                    Error::Refused { problem, .. } => {
                        Error::Refused { path: self.engine.journal().path(), problem }
                    }
                    error => error,
                },
            )?;
            publish(bus, &engine, &cycle, there)?;
            let recorded = agreement.cycles_to.is_some_and(|last| cycle.cycle_id <= last);
            if let Some(journal) = self.cycle_journal.as_mut().filter(|_| !recorded) {
                journal.append(&cycle)?;
            }
            self.remarks.push(format!("cycle {} was completed on the bus from the journal", cycle.cycle_id));
            there = 0;
        }
        Ok(())
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
            publish(bus, &self.engine, &cycle, 0)?;
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

    /// What starting had to mend or noticed, for the operator, a line each.
    pub fn remarks(&self) -> Vec<String> {
        let journals = [self.engine.journal().file(), self.cycle_journal.as_ref()];
        let journals =
            journals.into_iter().flatten().map(|file| (file.path().to_owned(), file.set_aside().cloned()));
        let line = |(path, set_aside): (PathBuf, Option<SetAside>)| {
            Some(format!("{}: {}", path.display(), set_aside?))
        };
        let of_bus = self.bus.iter().flat_map(Bus::warnings);
        journals.filter_map(line).chain(of_bus).chain(self.remarks.iter().cloned()).collect()
    }
}

/// Keeps other runtimes off a bus: a lock on its directory, which appenders do not mind.
fn claim(bus: &Path) -> Result<Directory> {
    let directory = Directory::open(bus).map_err(Error::io("open the directory", bus))?;
    if directory.try_claim().map_err(Error::io("lock the directory", bus))? {
        return Ok(directory);
    }
    let problem = "is in use by another runtime; stop that one, or name another bus".to_owned();
    Err(Error::Refused { path: bus.to_owned(), problem })
}

/// What a runtime is told between two cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The time is over: go on.
    GoOn,
    /// Make an end.
    Stop,
}
