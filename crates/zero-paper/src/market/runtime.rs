//! The runtime of runs on market data: recovers its state from its records, runs cycles, and
//! records each one before the next.
//!
//! The writes of a cycle happen in this order: the journal line (synced), the events on the bus
//! (one append, synced), the snapshot. A start completes what a crash left unfinished, see
//! `recovery.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use zero_bus::storage::{Access, Storage};
use zero_bus::{AmbiguousTail, Bus, Draft, Event, Json, LOG, Reader};

use crate::account::MarkedPosition;
use crate::bus_lock::{BusLock, remove_empty_bus};
use crate::candle::Bar;
use crate::clock::Clock;
use crate::cycle::{describe_completed, trace_id};
use crate::error::{Error, Result};
use crate::event_types::{CYCLE, HEALTH, STRATEGY_FAILED};
use crate::line_file::LineFile;
use crate::opening_bus::{OpeningBus, warnings_of};
use crate::operator::{Action, Command, CommandCursor};
use crate::record_paths::RecordPaths;
use crate::risk::TradingMode;
use crate::start_checkpoint::{
    CheckpointOptions, Checkpoints, Companions, EarlierKeys, StartCheckpoint, Unusable, key_index_id,
};
use crate::strategy::{Answer, Failure, Observation, StrategyIdentity};

use super::checkpoint::{self, Found, StrategyMemory, run_settings, state_json};
use super::cycle::{CycleInput, Decided, Rules, run};
use super::events::{TypedPayload, after_record, failed, observation, of_cycle};
use super::journal::{CycleEvents, MarketJournal};
use super::reader::PendingObservation;
use super::record::{Act, FailureRecord, MarketCycle, RecordedBar, RecordedCycle};
use super::recovery::{self, History, Place, Recovered, Unpublished, missing_events};
use super::state::RunState;

/// A started runtime. It owns its state and its records.
pub struct MarketRuntime {
    rules: Rules,
    clock: Arc<dyn Clock>,
    state: RunState,
    history: History,
    checkpoints: Checkpoints,
    /// The checkpoint that the process started from, and what the strategy remembered there.
    place: Place,
    memory: Option<StrategyMemory>,
    journal: Option<MarketJournal>,
    bus: Option<Bus>,
    /// Reads the operator's commands from the bus.
    command_cursor: CommandCursor,
    trading_mode: TradingMode,
    /// Index of the flatten command that the next cycle carries out.
    flatten: Option<u64>,
    /// Where the bus is, if this process created it.
    new_bus: Option<Arc<dyn Storage>>,
    // Dropped after the bus is closed.
    _bus_lock: Option<BusLock>,
    pending: Option<PendingObservation>,
    /// A cycle started and was not recorded completely. While it is set no cycle may run: only a
    /// restart can tell which of its writes are durable.
    failed: bool,
}

/// The opened records.
struct OpenRecords {
    bus_lock: Option<BusLock>,
    bus: Option<Arc<dyn Storage>>,
    on_ambiguous_tail: AmbiguousTail,
    journal: Option<MarketJournal>,
}

/// What a cycle is about.
#[derive(Clone, Copy, Debug)]
pub struct NewCycle<'a> {
    /// Where the bar comes from.
    pub source: &'a str,
    /// The bar.
    pub bar: &'a Bar,
    /// The price that was submitted with an order, see [`CycleInput::price`].
    pub price: Option<(&'a str, f64)>,
    /// Time of everything the cycle records, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Time between the bar's end and now, in seconds, if that has a meaning.
    pub data_age_s: Option<f64>,
    /// The greatest age at which the bar is not stale, in seconds.
    pub max_data_age_s: Option<f64>,
    /// Whether the cycle's observation is on the bus already.
    pub observed: bool,
}

impl MarketRuntime {
    /// Opens the records and recovers the state. `warnings` gets what was repaired or noticed, one
    /// line each. A start that fails leaves no new records, and changes nothing but a journal that
    /// was to be rebuilt and the companions of the records.
    ///
    /// # Errors
    /// [`Error::Killed`] while the operator's kill is in force; [`Error::Refused`] if the records
    /// contradict each other or belong to another run; any error of opening or reading them.
    pub fn start(
        rules: Rules,
        records: &RecordPaths,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        records.check()?;
        if let Some(path) = &records.cycle_journal {
            let problem =
                "a run on market data keeps no cycle journal, because its journal has the cycle records; \
                           use --journal"
                    .to_owned();
            return Err(Error::Refused { path: path.clone(), problem });
        }
        // Locals are dropped in reverse order, so directories that were created are removed from
        // the inside out.
        let bus_lock = records.runtime_bus.as_deref().map(BusLock::acquire).transpose()?;
        let reader = bus_lock.as_ref().map(|BusLock(directory)| Reader::open_in(directory.clone()));
        if let (Some(path), Some(reader)) = (&records.journal, &reader) {
            recovery::rebuild_journal_if_needed(&rules.run, path, records.rebuild_journal, reader, warnings)?;
        }
        let journal = records.journal.as_deref().map(MarketJournal::open).transpose()?;
        let bus = bus_lock.as_ref().map(|BusLock(directory)| directory.clone() as Arc<dyn Storage>);
        let options = records.checkpoint;
        let records = OpenRecords { bus_lock, bus, on_ambiguous_tail: records.on_ambiguous_tail, journal };
        Self::recover(rules, records, options, clock, warnings)
    }

    /// Like [`MarketRuntime::start`], with a bus and, if `journal` says so, the journal
    /// `cycles.jsonl` in one storage. For tests on a simulated disk (`zero_bus::sim`).
    ///
    /// # Errors
    /// As [`MarketRuntime::start`].
    pub fn start_in(
        rules: Rules,
        storage: &Arc<dyn Storage>,
        journal: bool,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        Self::start_in_with(rules, storage, journal, CheckpointOptions::default(), clock, warnings)
    }

    /// Like [`MarketRuntime::start_in`], with options for start-up checkpoints.
    ///
    /// # Errors
    /// As [`MarketRuntime::start`].
    pub fn start_in_with(
        rules: Rules,
        storage: &Arc<dyn Storage>,
        journal: bool,
        checkpoint: CheckpointOptions,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let open = || MarketJournal::of(LineFile::open_in(Arc::clone(storage), "cycles.jsonl")?);
        let journal = journal.then(open).transpose()?;
        let (bus, on_ambiguous_tail) = (Some(Arc::clone(storage)), AmbiguousTail::Refuse);
        let records = OpenRecords { bus_lock: None, bus, on_ambiguous_tail, journal };
        Self::recover(rules, records, checkpoint, clock, warnings)
    }

    /// Recovers the state. All checks come first; then the tails of the records are repaired, and
    /// then the bus gets what it lacks.
    fn recover(
        rules: Rules,
        records: OpenRecords,
        options: CheckpointOptions,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let OpenRecords { bus_lock, bus, on_ambiguous_tail, mut journal } = records;
        let mut opening = OpeningBus::new(bus.clone(), on_ambiguous_tail, &clock)?;
        // Before the bus is opened for appending, because that may repair its tail.
        let reader = bus.clone().map(Reader::open_in);
        let new_bus = bus.clone().filter(|bus| bus.open(LOG, Access::Read).is_err());
        let companions = Companions::of(bus.as_ref(), journal.as_ref().map(MarketJournal::file));
        let (mut found, mut unusable) = match &companions {
            Some(companions) if !options.full_check => {
                match checkpoint::find(companions, &rules, reader.as_ref(), journal.as_ref())? {
                    Ok(found) => (found, None),
                    Err(unusable) => (Found::default(), Some(unusable)),
                }
            }
            _ => (Found::default(), None),
        };
        let (run, large) = (&rules.run, companions.as_ref());
        let recovered = loop {
            let basis = std::mem::take(&mut found.basis);
            let recovered = match (&mut journal, &reader) {
                (Some(journal), reader) => {
                    recovery::from_journal(run, basis, large, journal, reader.as_ref())?
                }
                (None, Some(reader)) => recovery::from_bus(run, basis, large, reader, |_| Ok(()))?,
                (None, None) => Recovered::empty(run),
            };
            if recovered.state.recent_keys() >= found.later_keys {
                break recovered;
            }
            found = Found::default();
            unusable = Some(Unusable::Problem(EarlierKeys::UNEXPLAINED.to_owned()));
        };
        let Found { place, memory, .. } = found;
        let Recovered { state, mut history, command_cursor, unpublished, pending, .. } = recovered;
        warnings.extend(recovered.warnings);
        if let Some((cycle_id, settings)) = history.settings.take() {
            warnings.extend(checkpoint::settings_warning(&rules, cycle_id, &settings)?);
        }
        let mut checkpoints = Checkpoints::new(companions, options);
        checkpoints.start_after(place.cycle_id);
        let cycles = state.last_cycle_id();
        warnings.extend(unusable.and_then(|unusable| unusable.warning(&checkpoints, cycles)));
        let bus = opening.open()?;
        warnings.extend(bus.iter().flat_map(warnings_of));
        // Every check passed. From here on the records are changed.
        if let Some(journal) = &mut journal {
            journal.file_mut().repair_tail()?;
            let file = journal.file();
            let quarantined = file.quarantined().map(|tail| format!("{}: {tail}", file.path().display()));
            warnings.extend(quarantined);
        }
        let mut runtime = Self {
            rules,
            clock,
            state,
            history,
            checkpoints,
            place,
            memory,
            journal,
            bus,
            command_cursor,
            trading_mode: TradingMode::Open,
            flatten: None,
            new_bus,
            _bus_lock: bus_lock,
            pending,
            failed: false,
        };
        if let Some(unpublished) = unpublished {
            runtime.publish_missing(unpublished, warnings)?;
        }
        if let Some(bus) = &runtime.bus {
            runtime.command_cursor.catch_up(bus)?;
        }
        if runtime.killed_by().is_some() {
            // Confirms the kill, so that a resume appended from now on revokes it.
            runtime.apply_commands()?;
            return Err(runtime.killed());
        }
        Ok(runtime)
    }

    /// Appends to the bus what a crash kept from it.
    fn publish_missing(&mut self, unpublished: Unpublished, warnings: &mut Vec<String>) -> Result<()> {
        let Unpublished { cycle, cycle_id: first, published } = unpublished;
        let Some(bus) = &self.bus else { return Ok(()) };
        let state = &self.state;
        let mut last = first;
        let mut publish = |cycle: CycleEvents, published: usize| -> Result<()> {
            let cycle_id = cycle.cycle_id;
            last = cycle_id;
            let as_of = cycle.as_of;
            let record = payload(&cycle.events, CYCLE);
            let health = payload(&cycle.events, HEALTH);
            let events = append(bus, as_of, cycle_id, missing_events(cycle, published))?;
            if cycle_id == state.last_cycle_id() {
                write_snapshot(bus, as_of, &events, &record, &health, state)?;
            }
            Ok(())
        };
        match (cycle, &mut self.journal) {
            (Some(cycle), _) => publish(cycle, published)?,
            (None, Some(journal)) => journal.read_after(self.place.journal, |line| {
                let cycle = line.events()?;
                match cycle.cycle_id {
                    cycle_id if cycle_id < first => Ok(()),
                    cycle_id => publish(cycle, if cycle_id == first { published } else { 0 }),
                }
            })?,
            (None, None) => return Ok(()),
        }
        warnings.push(format!("{} on the bus", describe_completed(first, last)));
        Ok(())
    }

    /// Runs a cycle and records it. Calls `decide` once, with what the strategy sees.
    /// [`MarketRuntime::apply_commands`] comes before.
    ///
    /// # Errors
    /// An error of `decide`, which leaves the cycle unrecorded, or the cycle could not be recorded.
    /// After that the runtime runs no more cycles: start it again, so that its records are
    /// reconciled.
    pub fn run_cycle(
        &mut self,
        new: &NewCycle<'_>,
        strategy: &StrategyIdentity,
        decide: impl FnOnce(&Observation<'_>) -> Result<Decided>,
    ) -> Result<MarketCycle> {
        if self.failed {
            let problem = "an earlier cycle could not be recorded; restart the runtime".to_owned();
            return Err(Error::Refused { path: self.path(), problem });
        }
        self.failed = true;
        let NewCycle { source, bar, price, as_of, data_age_s, max_data_age_s, observed } = *new;
        let (trading_mode, flatten) = (self.trading_mode, self.flatten);
        let input = CycleInput {
            source,
            bar,
            price,
            as_of,
            data_age_s,
            max_data_age_s,
            trading_mode,
            flatten,
            strategy,
        };
        let mut error = None;
        let cycle = run(&mut self.state, &self.rules, &input, |observation| {
            decide(observation).unwrap_or_else(|failed| {
                error = Some(failed);
                Ok(Answer::default())
            })
        });
        if let Some(error) = error {
            return Err(error);
        }
        self.state.check_keys()?;
        self.history.add(bar);
        if self.has_records() {
            self.record(source, bar, &cycle, usize::from(observed))?;
        }
        self.failed = false;
        Ok(cycle)
    }

    fn record(&mut self, source: &str, bar: &Bar, cycle: &MarketCycle, published: usize) -> Result<()> {
        let (as_of, cycle_id) = (cycle.as_of, cycle.cycle_id);
        let failure = cycle.decide.failure.as_ref();
        let after = after_record(&self.state, &cycle.act, &cycle.decide.strategy, failure)?;
        let record = Json::of(cycle)?;
        let health = after.last().map_or_else(Json::empty_object, |(_, payload)| payload.clone());
        let events = of_cycle(observation(source, cycle_id, bar)?, record.clone(), after);
        let mut events = CycleEvents { as_of, cycle_id, events };
        if let Some(journal) = &mut self.journal {
            // The commit point: after this the cycle has happened.
            journal.append(&events)?;
        }
        if let Some(bus) = &self.bus {
            events.events.drain(..published);
            let appended = append(bus, as_of, cycle_id, events.events)?;
            self.command_cursor.skip_own_events(&appended);
            write_snapshot(bus, as_of, &appended, &record, &health, &self.state)?;
        }
        Ok(())
    }

    /// Replaces the start-up checkpoint if that is due after the last cycle, or at the end of the
    /// run. `memory` is what the strategy remembers of the bars until then. A failure is no failure
    /// of the run, see [`MarketRuntime::checkpoint_problem`].
    pub(super) fn write_checkpoint_if_due(&mut self, memory: Option<Json>, at_end: bool) {
        let cycle_id = self.state.last_cycle_id();
        let is_due = self.checkpoints.is_due(cycle_id);
        if self.failed || !(is_due || at_end && self.checkpoints.is_due_at_end(cycle_id)) {
            return;
        }
        let written = self.write_checkpoint(cycle_id, memory);
        self.checkpoints.note(cycle_id, written);
    }

    fn write_checkpoint(&mut self, cycle_id: u64, memory: Option<Json>) -> Result<()> {
        let Some(companions) = &self.checkpoints.companions else { return Ok(()) };
        if let Some(bus) = &self.bus {
            // The state contains all cycles, so it must not be bound to an earlier event.
            self.command_cursor.catch_up(bus)?;
        }
        let run = run_settings(&self.rules)?;
        let bus = self.bus.as_ref().map(|_| self.command_cursor.clone());
        let journal = self.journal.as_ref().map(|journal| journal.file().head()).transpose()?;
        let new_id = key_index_id(&run, bus.as_ref().map(CommandCursor::last), journal);
        let key_index = self.state.keys_mut().move_to_index(|| companions.create_key_index(new_id))?;
        let identity = self.state.strategy().cloned();
        let memory = identity.zip(memory).map(|(identity, memory)| StrategyMemory { identity, memory });
        let state = state_json(&self.state, &self.history, memory.as_ref())?;
        let cycle_journal = None;
        companions.write(&StartCheckpoint { run, cycle_id, bus, journal, cycle_journal, key_index, state })
    }

    /// Returns why the last start-up checkpoint could not be written, if that is so.
    pub fn checkpoint_problem(&self) -> Option<&str> {
        self.checkpoints.problem.as_deref()
    }

    /// Returns the last cycle of the start-up checkpoint that the start began with; 0 if it read
    /// all records.
    pub fn started_after(&self) -> u64 {
        self.checkpoints.started_after
    }

    /// Returns what a strategy remembered at the checkpoint that the process started from. It has
    /// seen the bars up to there.
    pub(super) fn take_memory(&mut self, identity: &StrategyIdentity) -> Option<Json> {
        self.memory.take().filter(|memory| memory.identity == *identity).map(|memory| memory.memory)
    }

    /// Reads the operator's new commands, applies each one and confirms it on the bus. Returns the
    /// trading mode.
    ///
    /// A flatten command stays unconfirmed until the account is flat. Until then, cycles close what
    /// is open.
    ///
    /// # Errors
    /// Any error of the bus.
    pub fn apply_commands(&mut self) -> Result<TradingMode> {
        let Some(bus) = &self.bus else { return Ok(TradingMode::Open) };
        self.flatten = None;
        self.command_cursor.catch_up(bus)?;
        while let Some(command) = self.command_cursor.commands_in_force.first_pending().cloned() {
            self.trading_mode = self.command_cursor.commands_in_force.trading_mode();
            let account = self.state.account();
            let is_flat = account.book().open_positions() == 0 && account.open_orders().is_empty();
            if command.action == Some(Action::Flatten) && self.trading_mode != TradingMode::Killed && !is_flat
            {
                self.flatten = Some(command.index);
                break;
            }
            if command.action == Some(Action::Resume) {
                self.state.resume();
            }
            bus.append(self.command_cursor.commands_in_force.confirmation(&command, self.clock.now())?)?;
            // Reads the confirmation itself, and commands that arrived in the meantime.
            self.command_cursor.catch_up(bus)?;
        }
        self.trading_mode = self.command_cursor.commands_in_force.trading_mode();
        Ok(self.trading_mode)
    }

    /// Records on the bus that the strategy answered something after the last cycle. The event
    /// belongs to no cycle.
    pub(super) fn record_failure_at_end(
        &mut self,
        strategy: &StrategyIdentity,
        failure: &Failure,
    ) -> Result<()> {
        let Some(bus) = &self.bus else { return Ok(()) };
        let Failure { kind, reason } = failure.clone();
        let failure = FailureRecord { kind, on_failure: self.rules.on_failure, reason };
        let payload = failed(self.state.last_cycle_id(), strategy, &failure)?;
        let (event_type, as_of) = (STRATEGY_FAILED.to_owned(), self.clock.now());
        bus.append(Draft { event_type, as_of, payload, trace_id: None })?;
        Ok(())
    }

    /// Whether the cycles are recorded.
    pub(super) fn has_records(&self) -> bool {
        self.journal.is_some() || self.bus.is_some()
    }

    /// Passes each recorded cycle to `each`, in order. With `after_checkpoint`, only those after
    /// the checkpoint that the process started from.
    ///
    /// # Errors
    /// Any error of reading the records, or of `each`.
    pub(super) fn for_each_recorded(
        &mut self,
        after_checkpoint: bool,
        each: impl FnMut(RecordedBar, RecordedCycle) -> Result<()>,
    ) -> Result<()> {
        let reader = self.bus.as_ref().map(Bus::reader);
        let place = if after_checkpoint { self.place } else { Place::default() };
        recovery::for_each_cycle(place, self.journal.as_mut(), reader.as_ref(), each)
    }

    /// Returns the error of a start or a run that the operator's kill ends.
    pub fn killed(&self) -> Error {
        let command = self.killed_by().map_or_else(String::new, Command::describe);
        Error::Killed { path: self.path(), command }
    }

    /// Returns the command that stopped the runtime, if there is one.
    pub fn killed_by(&self) -> Option<&Command> {
        self.command_cursor.commands_in_force.killed_by()
    }

    /// The path that messages about the whole runtime name: the log, or else the journal.
    pub(super) fn path(&self) -> PathBuf {
        let journal = || self.journal.as_ref().map(|journal| journal.file().path().to_owned());
        let memory = || PathBuf::from("memory");
        self.bus.as_ref().map(Bus::log_path).or_else(journal).unwrap_or_else(memory)
    }

    /// Returns the state after the last cycle.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Returns what stays the same during the run.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns the bus; `None` if the runtime has none.
    pub fn bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    /// Returns the start of the last recorded bar, in seconds since the Unix epoch: a live feed
    /// continues after it.
    pub fn last_bar_ts(&self) -> Option<f64> {
        let pending = self.pending.as_ref().map(|pending| pending.bar.bar.ts);
        pending.or(self.history.last_bar.as_ref().map(|bar| bar.ts))
    }

    /// Whether the next cycle is to close what is open.
    pub(super) fn has_pending_flatten(&self) -> bool {
        self.flatten.is_some()
    }

    /// Reads the act phase of a recorded cycle.
    pub(super) fn recorded_act(&self, cycle_id: u64) -> Result<Act> {
        let cycle = recovery::recorded_cycle(self.journal.as_ref(), self.bus.as_ref(), cycle_id)?;
        let problem = || format!("cycle {cycle_id} is not where it was; the records were changed");
        let missing = || Error::Refused { path: self.path(), problem: problem() };
        cycle.map(|cycle| cycle.act).ok_or_else(missing)
    }

    /// Ends a run that has failed. A bus that was created for it is removed if it is still empty.
    pub fn discard_if_unused(mut self) {
        // Closes the bus.
        self.bus = None;
        if let Some(storage) = self.new_bus.take() {
            remove_empty_bus(&*storage);
        }
    }

    /// Returns an error if a search for an idempotency key has failed.
    pub(super) fn check_keys(&self) -> Result<()> {
        self.state.check_keys()
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Returns an observation that the bus ends with, whose cycle has not been decided. The caller
    /// runs that cycle next.
    pub(super) fn take_pending(&mut self) -> Option<PendingObservation> {
        self.pending.take()
    }
}

/// Appends events of a cycle to the bus, with one sync.
fn append(bus: &Bus, as_of: f64, cycle_id: u64, events: Vec<TypedPayload>) -> Result<Vec<Event>> {
    let trace_id = trace_id(cycle_id);
    let drafts = events.into_iter().map(|(event_type, payload)| Draft {
        event_type: event_type.to_owned(),
        as_of,
        payload,
        trace_id: Some(trace_id.clone()),
    });
    Ok(bus.append_batch(drafts.collect())?)
}

fn write_snapshot(
    bus: &Bus,
    as_of: f64,
    events: &[Event],
    record: &Json,
    health: &Json,
    state: &RunState,
) -> Result<()> {
    #[derive(Serialize)]
    struct State<'a> {
        cycle: &'a Json,
        health: &'a Json,
        positions: &'a [MarkedPosition],
    }
    let snapshot = State { cycle: record, health, positions: &state.account().positions() };
    let source_event_id = events.last().map(Event::id);
    bus.write_snapshot(as_of, source_event_id.as_deref(), &snapshot)?;
    Ok(())
}

/// Returns the payload of the last event of a type.
fn payload(events: &[TypedPayload], event_type: &str) -> Json {
    let found = events.iter().rev().find(|(found, _)| *found == event_type);
    found.map_or_else(Json::empty_object, |(_, payload)| payload.clone())
}
