//! The runtime: cycles one behind the other, each on record before the next begins.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zero_bus::storage::{Directory, Storage};
use zero_bus::{Bus, Json, Reader, Value};

use crate::clock::Clock;
use crate::cycle::{self, CYCLE_SCHEMA, CycleRecord, Recovery};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::line_file::{LineFile, LinePosition};
use crate::operator::{Action, COMMAND, Command, CommandCursor};
use crate::publish::publish;
use crate::reconcile::{self, CYCLE_EVENTS, Published, Reconciliation, compare, cycle_of_trace};
use crate::risk::TradingMode;
use crate::scenario::{Order, Scenario, Side};

/// Where a runtime keeps its records. What is not named is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPaths {
    /// The decision journal.
    pub journal: Option<PathBuf>,
    /// The cycle records, one a line.
    pub cycle_journal: Option<PathBuf>,
    /// The bus directory.
    pub runtime_bus: Option<PathBuf>,
    /// Make the journal again from the bus, keeping the old one.
    pub rebuild_journal: bool,
}

impl RecordPaths {
    /// Makes the journal from the bus where that was asked for, or where there is a bus but no journal yet. Tells whether
    /// it did.
    fn rebuild(&self, reader: Option<&Reader>, warnings: &mut Vec<String>) -> Result<bool> {
        let (Some(path), Some(reader)) = (&self.journal, reader) else { return Ok(false) };
        // Also a link that leads nowhere is something that is there.
        let there = path.symlink_metadata().is_ok();
        if there && !self.rebuild_journal {
            return Ok(false);
        }
        // Nobody else may be writing the one that is there.
        let _old = there.then(|| LineFile::open(path)).transpose()?;
        let decisions = reconcile::decisions_on(reader)?;
        if decisions.is_empty() && !self.rebuild_journal {
            return Ok(false);
        }
        let kept = reconcile::rebuild(path, &decisions)?;
        warnings.push(format!("{}: made from the bus, {} decisions", path.display(), decisions.len()));
        warnings.extend(kept);
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
        let bus_place = place_of(bus);
        let file_of = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        for journal in journals.into_iter().flatten() {
            // What stands beside one of them under a longer name (`.tmp`, `.torn-at-7`) is the bus's too.
            let name = journal.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let its_own =
                [zero_bus::LOG, zero_bus::LOCK, zero_bus::SNAPSHOT].iter().any(|own| name.starts_with(own));
            let beside = place_of(journal.parent().unwrap_or(Path::new("")));
            let same_place =
                beside == bus_place || file_of(&beside).is_some_and(|file| Some(file) == file_of(bus));
            // Under another name too.
            let is_one = [zero_bus::LOG, zero_bus::LOCK, zero_bus::SNAPSHOT]
                .iter()
                .any(|own| file_of(journal).is_some_and(|file| Some(file) == file_of(&bus.join(own))));
            if is_one || (its_own && same_place) {
                return refused(journal, "is a file of the bus");
            }
        }
        Ok(())
    }
}

/// Where a path leads, also where not all of it is there yet: what is missing of it will be made as it is written.
fn place_of(path: &Path) -> PathBuf {
    let mut place = PathBuf::from(".").canonicalize().unwrap_or_default();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            Component::CurDir => {}
            part => place.push(part),
        }
        place = place.canonicalize().unwrap_or(place);
    }
    place
}

/// A runtime that has its state and its files.
pub struct Runtime {
    scenario: Scenario,
    clock: Clock,
    engine: Engine,
    recovery: Json,
    bus: Option<Bus>,
    /// Hears what the operator says on it.
    command_cursor: CommandCursor,
    _claim: Option<Claim>,
    cycle_journal: Option<LineFile>,
    warnings: Vec<String>,
    /// A cycle could not be put on record.
    failed: bool,
}

impl Runtime {
    /// Opens the records and recovers the state. Where this fails, nothing is left behind, and
    /// nothing was changed but a journal that was to be made again.
    ///
    /// # Errors
    /// What is wrong with the records, naming file and place.
    pub fn start(scenario: Scenario, records: &RecordPaths, clock: Clock) -> Result<Self> {
        Self::start_with_warnings(scenario, records, clock, &mut Vec::new())
    }

    /// The same, with what was mended or noticed told also where the start fails. Where it does not, that is in
    /// [`Runtime::warnings`].
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_with_warnings(
        scenario: Scenario,
        records: &RecordPaths,
        clock: Clock,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        records.check()?;
        // What is opened first is dropped last, and directories are unmade from the inside.
        let cycle_journal = records.cycle_journal.as_deref().map(LineFile::open).transpose()?;
        let claim = records.runtime_bus.as_deref().map(Claim::new).transpose()?;
        let reader = claim.as_ref().map(|Claim(directory)| Reader::open_in(directory.clone()));
        let rebuilt = records.rebuild(reader.as_ref(), warnings)?;
        let journal = match (&records.journal, &reader) {
            (Some(path), _) => Journal::open(path)?,
            (None, Some(reader)) => Journal::Memory(reconcile::decisions_on(reader)?),
            (None, None) => Journal::Memory(Vec::new()),
        };
        let bus = claim.as_ref().map(|Claim(directory)| directory.clone() as Arc<dyn Storage>);
        let files = Files { cycle_journal, claim, bus, journal, rebuilt };
        Self::begin(scenario, files, clock, warnings)
    }

    /// The same with all records in one storage: the bus, the decision journal as `decisions.jsonl`, the cycle records as
    /// `cycles.jsonl`. For tests on a simulated disk (`zero_bus::sim`).
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
        };
        Self::begin(scenario, files, clock, &mut Vec::new())
    }

    fn begin(scenario: Scenario, files: Files, clock: Clock, warnings: &mut Vec<String>) -> Result<Self> {
        let Files { mut cycle_journal, claim, bus, journal, rebuilt } = files;
        let lasting = bus.is_some() || journal.file().is_some();
        // From where on the cycle records are taken from the bus. A new file begins with what is still to come.
        let mut cycles_from = None;
        if let Some(file) = cycle_journal.as_mut().filter(|file| file.was_there()) {
            let mut order = CycleOrder { lasting, ..CycleOrder::default() };
            file.read_records(CYCLE_SCHEMA, bus.is_none(), |place, record| order.see(place, &record))?;
            cycles_from = Some(order.reached.saturating_add(1));
            warnings.extend(order.warning(file.path()));
        }
        let mut agreement =
            Reconciliation { cycles_to: cycles_from.map(|from| from - 1), ..Reconciliation::default() };
        if let Some(bus) = &bus {
            // Before it is opened for appending, which may change it.
            let reader = Reader::open_in(Arc::clone(bus));
            agreement = compare(&journal, &reader, cycles_from)?;
            warnings.append(&mut agreement.warnings);
        }
        let mut misplaced = None;
        let mut engine = Engine::recover_seeing(scenario.limits, journal, |position, recorded| {
            let trace = recorded.decision.trace_id.as_deref();
            if cycle_of_trace(trace).is_some_and(|cycle_id| cycle_id != position) {
                misplaced.get_or_insert((recorded.line, position));
            }
        })?;
        if let Some((line, position)) = misplaced {
            let path = engine.journal().path();
            warnings.push(format!(
                "{}: line {line} is of another cycle than {position}: lines are missing, or moved",
                path.display()
            ));
        }
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
            && lasting
        {
            warnings.push(format!(
                "{}: ends with cycle {}, but there are only {decisions} decisions: it is another run's, or the others were \
                 restored from an older copy",
                file.path().display(),
                from - 1
            ));
        }
        let bus = bus.map(Bus::open_in).transpose()?;
        warnings.extend(bus.iter().flat_map(Bus::warnings));
        // Only now that everything is there.
        engine.mend()?;
        warnings.extend(engine.journal().file().and_then(what_was_set_aside));
        if let Some(file) = &mut cycle_journal {
            file.mend()?;
            warnings.extend(what_was_set_aside(file));
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
            command_cursor: std::mem::take(&mut agreement.command_cursor),
            _claim: claim,
            cycle_journal,
            warnings: Vec::new(),
            failed: false,
        };
        runtime.complete_the_bus(agreement, warnings)?;
        if let Some(bus) = &runtime.bus {
            runtime.command_cursor.listen(bus)?;
        }
        if runtime.killed_by().is_some() {
            // Said, so that a resume finds it obeyed.
            runtime.obey()?;
            let command = runtime.killed_by().map_or_else(String::new, Command::describe);
            return Err(runtime.refused(&format!(
                "the runtime was stopped ({command}); to start it again, give it a resume: zero-bus command DIR resume"
            )));
        }
        runtime.warnings = std::mem::take(warnings);
        Ok(runtime)
    }

    /// Publishes what the journal has and the bus lacks behind its last event: what a crash kept from it.
    fn complete_the_bus(&mut self, agreement: Reconciliation, warnings: &mut Vec<String>) -> Result<()> {
        let decisions = self.engine.counts().decisions;
        if self.bus.is_none() {
            return self.complete_the_cycle_journal(agreement.cycles_to, decisions, warnings);
        }
        let Some(last) = agreement.last else {
            // Whether the last decision was made beside this bus, in a first cycle that a crash cut short, cannot be told:
            // so it is published in any case, if it can be.
            let Some(before) = decisions.checked_sub(1) else { return Ok(()) };
            let first = Published { cycle_id: before, events: CYCLE_EVENTS, recovery: self.recovery.clone() };
            let published = self.publish_behind(&first, agreement.cycles_to, warnings);
            let begins = match published {
                Ok(()) => decisions,
                Err(Error::Refused { .. }) => decisions + 1,
                Err(error) => return Err(error),
            };
            if begins > 1 {
                warnings
                    .push(format!("the bus begins with cycle {begins}; those before it are in the journal"));
            }
            return Ok(());
        };
        self.publish_behind(&last, agreement.cycles_to, warnings)
    }

    /// Publishes what the journal has behind the last cycle of the bus, and the rest of that.
    fn publish_behind(
        &mut self,
        last: &Published,
        cycles_to: Option<u64>,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let decisions = self.engine.counts().decisions;
        let whole = last.events == CYCLE_EVENTS;
        let from = if whole { last.cycle_id + 1 } else { last.cycle_id };
        if from > decisions {
            return Ok(());
        }
        let (mut engine, rest) = self.engine.before(from)?;
        let mut there = if whole { 0 } else { last.events };
        for decision in rest {
            // What is there of a cycle says how its process came by its state; what is not there is published by us.
            let recovery = if there > 0 { &last.recovery } else { &self.recovery };
            let path = self.engine.journal().path();
            // A record that is there has the limits of its time; one that is made now has today's.
            let held = if there > 0 { Ok(()) } else { cycle::check_current_limits(&engine, &decision) };
            let cycle = held
                .and_then(|()| cycle::rerun_recorded(&mut engine, &self.scenario, recovery, decision))
                .map_err(|error| match error {
                    Error::Refused { problem, .. } => Error::Refused { path, problem },
                    error => error,
                })?;
            if let Some(bus) = &self.bus {
                publish(bus, &engine, &cycle, there)?;
            }
            let recorded = cycles_to.is_some_and(|last| cycle.cycle_id <= last);
            if !recorded {
                self.keep(&cycle)?;
            }
            warnings.push(format!("cycle {} was completed on the bus from the journal", cycle.cycle_id));
            there = 0;
        }
        Ok(())
    }

    /// Without a bus: keeps the record of the last decision's cycle where that alone is missing, as it is when the process
    /// died between the two. Of an empty file nobody can tell whether it is, so the last one is kept there in any case.
    fn complete_the_cycle_journal(
        &mut self,
        cycles_to: Option<u64>,
        decisions: u64,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let is_next = |last: u64| last == 0 || last.checked_add(1) == Some(decisions);
        if decisions == 0 || !cycles_to.is_some_and(is_next) {
            return Ok(());
        }
        let (mut engine, rest) = self.engine.before(decisions)?;
        for decision in rest {
            // Another run's file, or another scenario: then there is nothing to make it from.
            let again = cycle::check_current_limits(&engine, &decision)
                .and_then(|()| cycle::rerun_recorded(&mut engine, &self.scenario, &self.recovery, decision));
            if let Ok(cycle) = again {
                self.keep(&cycle)?;
                warnings.push(format!("cycle {} was completed from the journal", cycle.cycle_id));
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
        if self.obey()? == TradingMode::Killed {
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
            self.command_cursor.pass(&publish(bus, &self.engine, &cycle, 0)?);
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
    fn obey(&mut self) -> Result<TradingMode> {
        let Some(bus) = &self.bus else { return Ok(TradingMode::Open) };
        self.command_cursor.listen(bus)?;
        while let Some(command) = self.command_cursor.commands_in_force.pending().cloned() {
            let trading_mode = self.bind();
            if command.action == Some(Action::Flatten) && trading_mode != TradingMode::Killed {
                self.flatten()?;
            }
            let Some(bus) = &self.bus else { break };
            bus.append(self.command_cursor.commands_in_force.applied(&command, self.clock.now())?)?;
            // Its own word, and what else was said in the meantime.
            self.command_cursor.listen(bus)?;
        }
        Ok(self.bind())
    }

    /// Binds the engine to what stands.
    fn bind(&mut self) -> TradingMode {
        let trading_mode = self.command_cursor.commands_in_force.trading_mode();
        self.engine.set_trading_mode(trading_mode);
        trading_mode
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
        let commands_in_force = &self.command_cursor.commands_in_force;
        commands_in_force.binding().filter(|_| commands_in_force.trading_mode() == TradingMode::Killed)
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
                let left = if self.obey()? == TradingMode::Killed { Duration::ZERO } else { left };
                said = pause(left);
            }
            if said == Pause::Stop || self.obey()? == TradingMode::Killed {
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
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What mending a file set aside of it, for the operator.
fn what_was_set_aside(file: &LineFile) -> Option<String> {
    Some(format!("{}: {}", file.path().display(), file.quarantined()?))
}

/// Whether the records of a cycle journal follow each other.
#[derive(Default)]
struct CycleOrder {
    /// Journal or bus count on from run to run, so that no cycle comes twice.
    lasting: bool,
    last: u64,
    /// The latest cycle that is there.
    reached: u64,
    /// How often one does not, and the first of them: its line, its cycle and the one before.
    breaks: u64,
    first: Option<(u64, u64, u64)>,
}

impl CycleOrder {
    fn see(&mut self, place: LinePosition, record: &Value) {
        let cycle_id = record.get("cycle_id").and_then(Value::as_u64).unwrap_or_default();
        // A new file begins anywhere, and a new run with 1 where nothing lasts.
        let follows = Some(cycle_id) == self.last.checked_add(1) && cycle_id > 0;
        let begins = place.line == 1 && cycle_id > 0 || cycle_id == 1 && !self.lasting;
        if !follows && !begins {
            self.breaks += 1;
            self.first.get_or_insert((place.line, cycle_id, self.last));
        }
        self.last = cycle_id;
        self.reached = if begins { cycle_id } else { self.reached.max(cycle_id) };
    }

    fn warning(&self, path: &Path) -> Option<String> {
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
}

/// Keeps other runtimes off a bus: a lock on its directory, which appenders do not mind. Takes away a directory that it
/// made and that is still empty.
struct Claim(Arc<Directory>);

impl Claim {
    fn new(bus: &Path) -> Result<Self> {
        let directory = Directory::create(bus).map_err(Error::io("open the directory", bus))?;
        let claim = Self(Arc::new(directory));
        if claim.0.try_lock_directory().map_err(Error::io("lock the directory", bus))? {
            return Ok(claim);
        }
        let problem = "is in use by another runtime; stop that one, or name another bus".to_owned();
        Err(Error::Refused { path: bus.to_owned(), problem })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.remove_created();
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
