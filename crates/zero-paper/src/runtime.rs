//! The runtime: cycles one behind the other, each on record before the next begins.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zero_bus::storage::{Directory, Storage};
use zero_bus::{Bus, Json, Reader, SetAside, Value};

use crate::agree::{self, Agreement, CYCLE_EVENTS, Published, compare};
use crate::clock::Clock;
use crate::cycle::{self, CYCLE_SCHEMA, CycleRecord, Recovery};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::line_file::{LineFile, Place};
use crate::operator::{Action, COMMAND, Command, Ear};
use crate::publish::publish;
use crate::risk::Stance;
use crate::scenario::{Order, Scenario, Side};

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
        let (Some(path), Some(reader)) = (&self.journal, reader) else { return Ok(false) };
        // Also a link that leads nowhere is something that is there.
        let there = path.symlink_metadata().is_ok();
        if there && !self.rebuild_journal {
            return Ok(false);
        }
        // Nobody else may be writing the one that is there.
        let _old = there.then(|| LineFile::open(path)).transpose()?;
        let decisions = agree::decisions_on(reader)?;
        if decisions.is_empty() && !self.rebuild_journal {
            return Ok(false);
        }
        let kept = agree::rebuild(path, &decisions)?;
        remarks.push(format!("{}: made from the bus, {} decisions", path.display(), decisions.len()));
        remarks.extend(kept);
        Ok(true)
    }

    /// Whether each file has a name of its own, and what the others are to be made from is there.
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
        if bus.exists() && !bus.is_dir() {
            let reason = "it is a file, not a directory".to_owned();
            return Err(zero_bus::Error::NotABus { path: bus.clone(), reason }.into());
        }
        if self.rebuild_journal && !bus.is_dir() {
            let problem = "there is no bus to make the journal from; name the right one".to_owned();
            return Err(Error::Refused { path: bus.clone(), problem });
        }
        let same = |one: &Path, other: &Path| {
            one == other
                || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
        };
        for journal in journals.into_iter().flatten() {
            // What stands beside one of them under a longer name (`.tmp`, `.torn-at-7`) is the bus's too.
            let name = journal.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let its_own =
                [zero_bus::LOG, zero_bus::LOCK, zero_bus::SNAPSHOT].iter().any(|own| name.starts_with(own));
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
    bus: Option<Bus>,
    /// Hears what the operator says on it.
    ear: Ear,
    _claim: Option<Claim>,
    cycle_journal: Option<LineFile>,
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
        // What is opened first is dropped last, and directories are unmade from the inside.
        let cycle_journal = records.cycle_journal.as_deref().map(LineFile::open).transpose()?;
        let claim = records.runtime_bus.as_deref().map(Claim::new).transpose()?;
        let reader = claim.as_ref().map(|Claim(directory)| Reader::open_in(directory.clone()));
        let mut remarks = Vec::new();
        let rebuilt = records.rebuild(reader.as_ref(), &mut remarks)?;
        let journal = match (&records.journal, &reader) {
            (Some(path), _) => Journal::open(path)?,
            (None, Some(reader)) => Journal::Memory(agree::decisions_on(reader)?),
            (None, None) => Journal::Memory(Vec::new()),
        };
        let bus = claim.as_ref().map(|Claim(directory)| directory.clone() as Arc<dyn Storage>);
        let files = Files { cycle_journal, claim, bus, journal, rebuilt, remarks };
        Self::begin(scenario, files, clock)
    }

    /// The same with all records in one storage: the bus, the decision journal as `decisions.jsonl`, the cycle records as
    /// `cycles.jsonl`. For tests on a [simulated disk](zero_bus::sim).
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_in(scenario: Scenario, storage: &Arc<dyn Storage>, clock: Clock) -> Result<Self> {
        let open = |name| LineFile::open_in(Arc::clone(storage), name);
        let files = Files {
            cycle_journal: Some(open("cycles.jsonl")?),
            claim: None,
            bus: Some(Arc::clone(storage)),
            journal: Journal::File(open("decisions.jsonl")?),
            rebuilt: false,
            remarks: Vec::new(),
        };
        Self::begin(scenario, files, clock)
    }

    fn begin(scenario: Scenario, files: Files, clock: Clock) -> Result<Self> {
        let Files { mut cycle_journal, claim, bus, journal, rebuilt, mut remarks } = files;
        // From where on the cycle records are taken from the bus. A new file begins with what is still to come.
        let mut cycles_from = None;
        if let Some(file) = cycle_journal.as_mut().filter(|file| file.was_there()) {
            let mut order = CycleOrder::default();
            file.read_records(CYCLE_SCHEMA, bus.is_none(), |place, record| order.see(place, &record))?;
            cycles_from = Some(order.last.saturating_add(1));
            remarks.extend(order.remark(file.path()));
        }
        let mut agreement = Agreement { cycles_to: cycles_from.map(|from| from - 1), ..Agreement::default() };
        if let Some(bus) = &bus {
            // Before it is opened for appending, which may change it.
            let reader = Reader::open_in(Arc::clone(bus));
            agreement = compare(&journal, &reader, cycles_from)?;
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
        let decisions = engine.counts().decisions;
        if let (Some(file), Some(from)) = (&cycle_journal, cycles_from)
            && from > decisions + 1
            && (bus.is_some() || engine.journal().file().is_some())
        {
            remarks.push(format!(
                "{}: ends with cycle {}, but there are only {decisions} decisions: it is another run's, or the others were \
                 restored from an older copy",
                file.path().display(),
                from - 1
            ));
        }
        let bus = bus.map(Bus::open_in).transpose()?;
        // Only now that everything is there.
        engine.mend()?;
        if let Some(file) = &mut cycle_journal {
            file.mend()?;
            // What a crash kept from it.
            agreement.cycles.iter().try_for_each(|cycle| file.append(cycle).map(drop))?;
            file.sync()?;
        }
        let mut runtime = Self {
            scenario,
            clock,
            engine,
            recovery,
            bus,
            ear: std::mem::take(&mut agreement.ear),
            _claim: claim,
            cycle_journal,
            remarks,
            failed: false,
        };
        runtime.complete_the_bus(agreement)?;
        if let Some(bus) = &runtime.bus {
            runtime.ear.listen(bus)?;
        }
        if runtime.killed_by().is_some() {
            // Said, so that a resume finds it obeyed.
            runtime.obey()?;
            let command = runtime.killed_by().map_or_else(String::new, Command::describe);
            return Err(runtime.refused(&format!(
                "the runtime was stopped ({command}); to start it again, give it a resume: zero-bus command DIR resume"
            )));
        }
        Ok(runtime)
    }

    /// Publishes what the journal has and the bus lacks behind its last event: what a crash kept from it.
    fn complete_the_bus(&mut self, agreement: Agreement) -> Result<()> {
        self.remarks.extend(agreement.remarks);
        let decisions = self.engine.counts().decisions;
        if self.bus.is_none() {
            return self.complete_the_cycle_journal(agreement.cycles_to, decisions);
        }
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
            if let Some(bus) = &self.bus {
                publish(bus, &engine, &cycle, there)?;
            }
            let recorded = agreement.cycles_to.is_some_and(|last| cycle.cycle_id <= last);
            if !recorded {
                self.keep(&cycle)?;
            }
            self.remarks.push(format!("cycle {} was completed on the bus from the journal", cycle.cycle_id));
            there = 0;
        }
        Ok(())
    }

    /// Without a bus: keeps the record of the last decision's cycle where that alone is missing, as it is when the process
    /// died between the two.
    fn complete_the_cycle_journal(&mut self, cycles_to: Option<u64>, decisions: u64) -> Result<()> {
        if cycles_to.and_then(|last| last.checked_add(1)) != Some(decisions) {
            return Ok(());
        }
        let (mut engine, rest) = self.engine.before(decisions)?;
        for decision in rest {
            // Another run's file, or the scenario was renamed: then there is nothing to make it from.
            if let Ok(cycle) = cycle::run_again(&mut engine, &self.scenario, &self.recovery, decision) {
                self.keep(&cycle)?;
                self.remarks.push(format!("cycle {} was completed from the journal", cycle.cycle_id));
            }
        }
        Ok(())
    }

    /// Goes through one cycle and puts it on record: the decision durably before it takes effect, then the
    /// events durably, then the snapshot, then the cycle record.
    ///
    /// # Errors
    /// What stands in the way. The runtime takes no more then: start it anew, so that its records are looked at.
    pub fn run_cycle(&mut self) -> Result<CycleRecord> {
        if self.obey()? == Stance::Killed {
            return Err(self.refused("the operator has stopped the runtime; start it again after a resume"));
        }
        self.next_cycle(None)
    }

    fn refused(&self, problem: &str) -> Error {
        let path = self.bus.as_ref().map(Bus::log_path).unwrap_or_default();
        Error::Refused { path, problem: problem.to_owned() }
    }

    /// Goes through a cycle, with the order whose turn it is or with another one.
    fn next_cycle(&mut self, other: Option<Order>) -> Result<CycleRecord> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(self.refused("an earlier cycle could not be put on record; start anew"));
        }
        let other = other.map(|order| self.scenario.with(order));
        let scenario = other.as_ref().unwrap_or(&self.scenario);
        let cycle = cycle::run(&mut self.engine, scenario, &self.recovery, self.clock.now())?;
        if let Some(bus) = &self.bus {
            self.ear.pass(&publish(bus, &self.engine, &cycle, 0)?);
        }
        // Last, since all of it is on the bus.
        self.keep(&cycle)?;
        self.failed = false;
        Ok(cycle)
    }

    /// Hears what the operator said, obeys, and says so on the bus. Gives how the runtime is bound now.
    ///
    /// # Errors
    /// As [`Runtime::run_cycle`].
    fn obey(&mut self) -> Result<Stance> {
        let Some(bus) = &self.bus else { return Ok(Stance::Open) };
        self.ear.listen(bus)?;
        while let Some(command) = self.ear.standing.pending().cloned() {
            let stance = self.bind();
            if command.action == Some(Action::Flatten) && stance != Stance::Killed {
                self.flatten()?;
            }
            let Some(bus) = &self.bus else { break };
            bus.append(self.ear.standing.applied(&command, self.clock.now())?)?;
            // Its own word, and what else was said in the meantime.
            self.ear.listen(bus)?;
        }
        Ok(self.bind())
    }

    /// Binds the engine to what stands.
    fn bind(&mut self) -> Stance {
        let stance = self.ear.standing.stance();
        self.engine.set_stance(stance);
        stance
    }

    /// Closes every open position at the last known price, each with a cycle of its own.
    fn flatten(&mut self) -> Result<()> {
        let mut open: Vec<Order> = self
            .engine
            .book()
            .iter()
            .filter(|(_, position)| position.quantity != 0.0)
            .map(|(symbol, position)| Order {
                symbol: symbol.to_owned(),
                side: if position.quantity > 0.0 { Side::Sell } else { Side::Buy },
                quantity: position.quantity.abs(),
                price: self.engine.last_price(symbol).unwrap_or(position.avg_price),
                confidence: 1.0,
                reduce_only: true,
            })
            .collect();
        // At a price at which it cannot be told what it is worth, nothing would ever be closed.
        for order in open.iter_mut().filter(|order| order.check().is_err()) {
            order.price = self.engine.book().position(&order.symbol).avg_price;
        }
        open.into_iter().try_for_each(|order| self.next_cycle(Some(order)).map(drop))
    }

    /// The command that stopped the runtime, if one did.
    pub fn killed_by(&self) -> Option<&Command> {
        let standing = &self.ear.standing;
        standing.binding().filter(|_| standing.stance() == Stance::Killed)
    }

    /// Calls `wake` whenever there is a command on the bus, from a thread that lives as long as the process: for whoever
    /// waits between two cycles, to answer with [`Pause::Look`]. Without a bus nothing is called. Called with an error, it is
    /// the last time: commands are then seen before the next cycle, and not sooner.
    ///
    /// # Errors
    /// What keeps the bus from being followed.
    pub fn on_command(&self, wake: impl Fn(Result<()>) + Send + 'static) -> Result<()> {
        let Some(bus) = &self.bus else { return Ok(()) };
        let mut follow = bus.reader().follow(bus.head().index.saturating_add(1))?;
        let listening = move || {
            loop {
                match follow.next(Duration::MAX) {
                    Ok(Some(event)) if event.event_type == COMMAND => wake(Ok(())),
                    Ok(_) => {}
                    Err(error) => return wake(Err(error.into())),
                }
            }
        };
        let spawned = std::thread::Builder::new().name("operator".to_owned()).spawn(listening);
        spawned.map(drop).map_err(Error::io("begin a thread that follows it", &bus.log_path()))
    }

    /// Appends to the cycle journal. It is synced where nothing else has its records; and its first record is, so that
    /// after a power cut the file is known for what it is.
    fn keep(&mut self, cycle: &CycleRecord) -> Result<()> {
        let Some(journal) = &mut self.cycle_journal else { return Ok(()) };
        let first = journal.append(cycle)? == 0;
        if first || self.bus.is_none() { journal.sync() } else { Ok(()) }
    }

    /// Runs cycles until there were enough, or until `pause`, which is called between two of them with the
    /// interval, says that it is time to stop, or until the operator does ([`Runtime::killed_by`]). Then makes everything
    /// durable. Gives the last cycle.
    ///
    /// # Errors
    /// As [`Runtime::run_cycle`].
    pub fn run(
        &mut self,
        max_cycles: Option<u64>,
        interval: Duration,
        mut pause: impl FnMut(Duration) -> Pause,
    ) -> Result<Option<CycleRecord>> {
        let ran = self.run_until_stopped(max_cycles, interval, &mut pause);
        // Also what an error ended.
        let synced = self.sync();
        ran.and_then(|last| synced.map(|()| last))
    }

    fn run_until_stopped(
        &mut self,
        max_cycles: Option<u64>,
        interval: Duration,
        pause: &mut dyn FnMut(Duration) -> Pause,
    ) -> Result<Option<CycleRecord>> {
        let mut last = None;
        let mut cycles = 0;
        while max_cycles.is_none_or(|most| cycles < most) {
            // Before the first cycle there is nothing to wait for, but somebody may have said stop.
            let wait = if cycles == 0 { Duration::ZERO } else { interval };
            let mut said = pause(wait);
            while let Pause::Look(left) = said {
                // Killed, it has nothing to wait for.
                let left = if self.obey()? == Stance::Killed { Duration::ZERO } else { left };
                said = pause(left);
            }
            if said == Pause::Stop || self.obey()? == Stance::Killed {
                break;
            }
            last = Some(self.next_cycle(None)?);
            cycles += 1;
        }
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

/// Whether the records of a cycle journal follow each other.
#[derive(Default)]
struct CycleOrder {
    last: u64,
    /// How often one does not, and the first of them: its line, its cycle and the one before.
    breaks: u64,
    first: Option<(u64, u64, u64)>,
}

impl CycleOrder {
    fn see(&mut self, place: Place, record: &Value) {
        let cycle_id = record.get("cycle_id").and_then(Value::as_u64).unwrap_or_default();
        // A new file begins anywhere, and a new run with 1.
        if self.last > 0 && cycle_id != 1 && Some(cycle_id) != self.last.checked_add(1) {
            self.breaks += 1;
            self.first.get_or_insert((place.line, cycle_id, self.last));
        }
        self.last = cycle_id;
    }

    fn remark(&self, path: &Path) -> Option<String> {
        let (line, cycle_id, before) = self.first?;
        let more = match self.breaks {
            1 => String::new(),
            breaks => format!(", and {} more breaks behind it", breaks - 1),
        };
        let path = path.display();
        Some(format!(
            "{path}: line {line} is cycle {cycle_id} behind cycle {before}{more}; to have it made again from the bus, empty it"
        ))
    }
}

/// The records, opened. In an order in which each can be dropped before those that stand before it.
struct Files {
    cycle_journal: Option<LineFile>,
    claim: Option<Claim>,
    bus: Option<Arc<dyn Storage>>,
    journal: Journal,
    /// The journal was just made from the bus.
    rebuilt: bool,
    remarks: Vec<String>,
}

/// Keeps other runtimes off a bus: a lock on its directory, which appenders do not mind. Takes away a directory that it
/// made and that is still empty.
struct Claim(Arc<Directory>);

impl Claim {
    fn new(bus: &Path) -> Result<Self> {
        let directory = Directory::create(bus).map_err(Error::io("open the directory", bus))?;
        let claim = Self(Arc::new(directory));
        if claim.0.try_claim().map_err(Error::io("lock the directory", bus))? {
            return Ok(claim);
        }
        let problem = "is in use by another runtime; stop that one, or name another bus".to_owned();
        Err(Error::Refused { path: bus.to_owned(), problem })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.unmake();
    }
}

/// What a runtime is told between two cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The time is over: go on.
    GoOn,
    /// There is a command: look at it, and wait on for what is left of the time.
    Look(Duration),
    /// Make an end.
    Stop,
}
