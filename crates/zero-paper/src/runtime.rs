//! The runtime: recovers its state from its records, then runs cycles one after the other.
//!
//! A cycle is durable before the next one starts. Its writes happen in this order: the decision in
//! the decision journal (synced), the events on the bus (synced), the snapshot, the cycle record in
//! the cycle journal. A start reconciles the records (see `crate::recovery`) and completes what a
//! crash left unfinished. After some cycles the runtime writes a start-up checkpoint (see
//! [`crate::start_checkpoint`]), so that a start need not read all records.
//!
//! The runtime holds exclusive locks on its journals and on its bus directory, so no second runtime
//! can use them. Other programs may still append to the bus.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zero_bus::storage::Storage;
use zero_bus::{Bus, Json};

use crate::bus_lock::BusLock;
use crate::clock::Clock;
use crate::cycle::{self, CycleRecord, RunLabels};
use crate::engine::Engine;
use crate::error::{Error, Result, UnsupportedIntent};
use crate::event_types::OPERATOR_COMMAND;
use crate::line_file::LineFile;
use crate::operator::{Action, Command, CommandCursor};
use crate::order_source::{CycleContext, Intent, Run};
use crate::publish::{EVENTS_PER_CYCLE, publish};
use crate::reconcile::{LastCycle, Reconciliation};
use crate::record_paths::RecordPaths;
use crate::recovery::{OpenRecords, Recovered, run_settings};
use crate::risk::TradingMode;
use crate::scenario::{Order, Side};
use crate::start_checkpoint::{CheckpointOptions, Checkpoints, StartCheckpoint, key_index_id};

/// A started runtime. It owns its state and its records.
pub struct Runtime {
    run: Run,
    clock: Arc<dyn Clock>,
    engine: Engine,
    /// Where the state came from, repeated in every cycle record of this process.
    recovery: Json,
    bus: Option<Bus>,
    /// Reads the operator's commands from the bus.
    command_cursor: CommandCursor,
    // Fields are dropped in order: the bus is closed before its directory is unlocked, and a
    // directory that the bus created is removed before the one that the cycle journal created
    // around it.
    _bus_lock: Option<BusLock>,
    cycle_journal: Option<LineFile>,
    checkpoints: Checkpoints,
    warnings: Vec<String>,
    /// A cycle started and was not recorded completely. Set before the first write of a cycle,
    /// cleared after the last. While it is set no cycle may run: only a restart can tell which of
    /// the writes are durable.
    failed: bool,
    /// Called after each cycle.
    cycle_observer: Option<CycleObserver>,
}

type CycleObserver = Box<dyn FnMut(&CycleRecord) + Send>;

impl Runtime {
    /// Opens the records and recovers the state. A start that fails leaves no new records, and
    /// changes nothing but a journal that was to be rebuilt and the companions of the records.
    ///
    /// # Errors
    /// [`Error::Killed`] while the operator's kill is in force; any error of opening, reading or
    /// reconciling the records.
    pub fn start(run: impl Into<Run>, records: &RecordPaths, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::start_with_warnings(run, records, clock, &mut Vec::new())
    }

    /// Like [`Runtime::start`]. If the start fails, `warnings` has what was repaired or noticed
    /// until then; otherwise [`Runtime::warnings`] has it.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_with_warnings(
        run: impl Into<Run>,
        records: &RecordPaths,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let opened = OpenRecords::open(records, warnings)?;
        Self::recover(run.into(), opened, records.checkpoint, clock, warnings)
    }

    /// Like [`Runtime::start`], with all records in one storage: the bus, the decision journal as
    /// `decisions.jsonl`, the cycle journal as `cycles.jsonl`. For tests on a simulated
    /// disk (`zero_bus::sim`).
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_in(run: impl Into<Run>, storage: &Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::start_in_with(run, storage, CheckpointOptions::default(), clock)
    }

    /// Like [`Runtime::start_in`], with options for start-up checkpoints.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_in_with(
        run: impl Into<Run>,
        storage: &Arc<dyn Storage>,
        checkpoint: CheckpointOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Self::recover(run.into(), OpenRecords::in_storage(storage)?, checkpoint, clock, &mut Vec::new())
    }

    fn recover(
        run: Run,
        records: OpenRecords,
        options: CheckpointOptions,
        clock: Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let Recovered { engine, recovery, bus, bus_lock, cycle_journal, mut reconciliation, checkpoints } =
            records.recover(&run, options, &clock, warnings)?;
        let mut runtime = Self {
            run,
            clock,
            engine,
            recovery,
            bus,
            command_cursor: std::mem::take(&mut reconciliation.command_cursor),
            _bus_lock: bus_lock,
            cycle_journal,
            checkpoints,
            warnings: Vec::new(),
            failed: false,
            cycle_observer: None,
        };
        runtime.complete_records(&reconciliation, warnings)?;
        if let Some(bus) = &runtime.bus {
            runtime.command_cursor.catch_up(bus)?;
        }
        if runtime.killed_by().is_some() {
            // Confirms the kill, so that a resume appended from now on revokes it.
            runtime.apply_commands()?;
            return Err(runtime.killed());
        }
        runtime.warnings = std::mem::take(warnings);
        Ok(runtime)
    }

    /// Completes what a crash left unfinished: publishes decisions that are in the journal but not
    /// on the bus, and writes the cycle records that are missing because of it.
    fn complete_records(
        &mut self,
        reconciliation: &Reconciliation,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let decisions = self.engine.counts().decisions;
        let cycle_journal_end = reconciliation.cycle_journal_end;
        if self.bus.is_none() {
            return self.complete_cycle_journal(cycle_journal_end, warnings);
        }
        if let Some(last) = &reconciliation.last_cycle {
            return self.publish_after(last, cycle_journal_end, warnings);
        }
        // The bus has no cycle, but the journal may have decisions. A crash in the first cycle on
        // this bus leaves its decision unpublished. Nothing distinguishes that from a journal that
        // was used without this bus, so the last decision is published if it can be, and the
        // earlier ones are not.
        let Some(before_last) = decisions.checked_sub(1) else { return Ok(()) };
        let last = LastCycle {
            cycle_id: before_last,
            published_events: EVENTS_PER_CYCLE,
            recovery: self.recovery.clone(),
        };
        let first_on_bus = match self.publish_after(&last, cycle_journal_end, warnings) {
            Ok(()) => decisions,
            Err(Error::Reconcile { .. }) => decisions + 1,
            Err(error) => return Err(error),
        };
        if first_on_bus > 1 {
            warnings.push(format!(
                "the bus begins with cycle {first_on_bus}; earlier cycles are only in the journal"
            ));
        }
        Ok(())
    }

    /// Publishes the missing events of the last cycle on the bus, and all cycles after it that the
    /// journal has.
    fn publish_after(
        &mut self,
        last: &LastCycle,
        cycle_journal_end: Option<u64>,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let complete = last.published_events == EVENTS_PER_CYCLE;
        let first = if complete { last.cycle_id + 1 } else { last.cycle_id };
        if first > self.engine.counts().decisions {
            return Ok(());
        }
        let journal = self.engine.journal().path();
        let (mut engine, unpublished) = self.engine.rewind(first)?;
        // Only the first of these cycles can have events on the bus.
        let mut already_published = if complete { 0 } else { last.published_events };
        let mut last_completed = None;
        for decision in unpublished {
            let labels = labels(&self.run);
            let cycle = if already_published > 0 {
                // The cycle record is on the bus. It states the limits and the recovery of its
                // process, and the other events must match it.
                cycle::rerun_recorded(&mut engine, labels, &last.recovery, decision, &journal)?
            } else {
                cycle::check_current_limits(&engine, &decision, &journal)?;
                cycle::rerun_recorded(&mut engine, labels, &self.recovery, decision, &journal)?
            };
            if let Some(bus) = &self.bus {
                publish(bus, &engine, &cycle, already_published)?;
            }
            if cycle_journal_end.is_none_or(|end| cycle.cycle_id > end) {
                self.append_cycle_record(&cycle)?;
            }
            last_completed = Some(cycle.cycle_id);
            already_published = 0;
        }
        warnings.extend(last_completed.map(|last| {
            let completed = cycle::describe_completed(first, last);
            format!("{completed} on the bus from the journal")
        }));
        Ok(())
    }

    /// Without a bus: writes the record of the last decision's cycle if it alone is missing, which
    /// is what a crash between the two leaves. An empty cycle journal does not tell whether it is,
    /// so it gets the record in any case.
    fn complete_cycle_journal(
        &mut self,
        cycle_journal_end: Option<u64>,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let decisions = self.engine.counts().decisions;
        let lacks_only_last = |end: u64| end == 0 || end.checked_add(1) == Some(decisions);
        if decisions == 0 || !cycle_journal_end.is_some_and(lacks_only_last) {
            return Ok(());
        }
        let journal = self.engine.journal().path();
        let (mut engine, last) = self.engine.rewind(decisions)?;
        for decision in last {
            let rerun = cycle::check_current_limits(&engine, &decision, &journal).and_then(|()| {
                cycle::rerun_recorded(&mut engine, labels(&self.run), &self.recovery, decision, &journal)
            });
            let cycle = match rerun {
                Ok(cycle) => cycle,
                // The decision belongs to another run or to other limits, so its record cannot be
                // rebuilt.
                Err(Error::Reconcile { .. }) => continue,
                Err(error) => return Err(error),
            };
            self.append_cycle_record(&cycle)?;
            warnings.push(format!("cycle {} was completed from the journal", cycle.cycle_id));
        }
        Ok(())
    }

    /// Applies the operator's commands, then asks the order source and runs one cycle.
    ///
    /// # Errors
    /// [`Error::Killed`] while the operator's kill is in force. [`Error::OrderSource`] and
    /// [`Error::UnsupportedIntent`]: nothing of the cycle was recorded, and the runtime can run it
    /// again. After any other error the runtime runs no more cycles:
    /// start it again, so that its records are reconciled.
    pub fn run_cycle(&mut self) -> Result<CycleRecord> {
        if self.apply_commands()? == TradingMode::Killed {
            return Err(self.killed());
        }
        self.run_next_order()
    }

    /// The path that messages about the whole runtime name: the log, or the journal without a bus.
    fn path(&self) -> PathBuf {
        self.bus.as_ref().map_or_else(|| self.engine.journal().path(), Bus::log_path)
    }

    fn refused(&self, problem: &str) -> Error {
        Error::Refused { path: self.path(), problem: problem.to_owned() }
    }

    fn killed(&self) -> Error {
        let command = self.killed_by().map_or_else(String::new, Command::describe);
        Error::Killed { path: self.path(), command }
    }

    /// Runs a cycle with the order source's next order.
    fn run_next_order(&mut self) -> Result<CycleRecord> {
        self.check_not_failed()?;
        let as_of = self.clock.now();
        let cycle_id = self.engine.counts().decisions + 1;
        let context = CycleContext { cycle_id, as_of, engine: &self.engine };
        let intent = self.run.orders.intent(&context);
        let order = match intent.map_err(|source| Error::OrderSource { cycle_id, source })? {
            Intent::Orders(mut orders) if orders.len() == 1 => orders.remove(0),
            Intent::Orders(orders) => {
                let intent = UnsupportedIntent::Orders { count: orders.len() };
                return Err(Error::UnsupportedIntent { cycle_id, intent });
            }
            Intent::Hold { reason } => {
                let intent = UnsupportedIntent::Hold { reason };
                return Err(Error::UnsupportedIntent { cycle_id, intent });
            }
        };
        self.run_order(&order, as_of)
    }

    /// Runs a cycle with this order and records it.
    fn run_order(&mut self, order: &Order, as_of: f64) -> Result<CycleRecord> {
        self.check_not_failed()?;
        self.failed = true;
        let cycle = cycle::run(&mut self.engine, labels(&self.run), order, &self.recovery, as_of)?;
        if let Some(bus) = &self.bus {
            let published = publish(bus, &self.engine, &cycle, 0)?;
            self.command_cursor.skip_own_events(&published);
        }
        // Last, because the bus can restore a lost cycle record.
        self.append_cycle_record(&cycle)?;
        self.failed = false;
        if self.checkpoints.is_due(cycle.cycle_id) {
            self.write_checkpoint();
        }
        if let Some(observe) = &mut self.cycle_observer {
            observe(&cycle);
        }
        Ok(cycle)
    }

    fn check_not_failed(&self) -> Result<()> {
        if self.failed {
            return Err(self.refused("an earlier cycle could not be recorded; restart the runtime"));
        }
        Ok(())
    }

    /// Reads the operator's new commands, applies each one and confirms it on the bus. Returns the
    /// trading mode.
    ///
    /// # Errors
    /// As [`Runtime::run_cycle`].
    fn apply_commands(&mut self) -> Result<TradingMode> {
        let Some(bus) = &self.bus else { return Ok(TradingMode::Open) };
        self.command_cursor.catch_up(bus)?;
        while let Some(command) = self.command_cursor.commands_in_force.first_pending().cloned() {
            let trading_mode = self.update_trading_mode();
            if command.action == Some(Action::Flatten) && trading_mode != TradingMode::Killed {
                self.flatten()?;
            }
            let Some(bus) = &self.bus else { break };
            bus.append(self.command_cursor.commands_in_force.confirmation(&command, self.clock.now())?)?;
            // Reads the confirmation itself, and commands that arrived in the meantime.
            self.command_cursor.catch_up(bus)?;
        }
        Ok(self.update_trading_mode())
    }

    /// Sets the engine's trading mode to that of the commands in force.
    fn update_trading_mode(&mut self) -> TradingMode {
        let trading_mode = self.command_cursor.commands_in_force.trading_mode();
        self.engine.set_trading_mode(trading_mode);
        trading_mode
    }

    /// Closes every open position at its last known price. Each closing order is an ordinary cycle.
    /// After a crash in between, the command is still pending, and the next start closes the
    /// remaining positions.
    fn flatten(&mut self) -> Result<()> {
        let mut closing_orders: Vec<Order> = self
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
        // The engine refuses an order whose notional is not finite, and the position would stay
        // open.
        for order in closing_orders.iter_mut().filter(|order| order.check().is_err()) {
            order.price = self.engine.book().position(&order.symbol).avg_price;
        }
        closing_orders.iter().try_for_each(|order| {
            let as_of = self.clock.now();
            self.run_order(order, as_of).map(drop)
        })
    }

    /// Returns the command that stopped the runtime, if there is one.
    pub fn killed_by(&self) -> Option<&Command> {
        self.command_cursor.commands_in_force.killed_by()
    }

    /// Calls `notify` for every operator command that arrives on the bus, from a thread of its own.
    /// The thread runs until the process ends. Without a bus this does nothing.
    ///
    /// It lets a caller end its pause early with [`PauseEnd::Command`]. The runtime does not depend
    /// on it: it reads new commands before every decision. If `notify` gets an error, it is the
    /// last call. Returns why the thread has to poll, if it does, and what the operator can do.
    ///
    /// # Errors
    /// Any error of following the bus, or [`Error::Io`] if the thread cannot be started.
    pub fn notify_on_command(&self, notify: impl Fn(Result<()>) + Send + 'static) -> Result<Option<String>> {
        let Some(bus) = &self.bus else { return Ok(None) };
        let follow = bus.reader().follow(bus.head().index.saturating_add(1))?;
        let warning = follow.warning().map(str::to_owned);
        let watch = move || {
            for event in follow {
                match event {
                    Ok(event) if event.event_type == OPERATOR_COMMAND => notify(Ok(())),
                    Ok(_) => {}
                    Err(error) => return notify(Err(error.into())),
                }
            }
        };
        let spawned = std::thread::Builder::new().name("operator".to_owned()).spawn(watch);
        spawned.map(|_| warning).map_err(Error::io("start a thread that follows it", &bus.log_path()))
    }

    /// Calls `observer` after each recorded cycle, including the cycles that flatten positions.
    /// Replaces an earlier observer. The next cycle starts when it returns.
    pub fn observe_cycles(&mut self, observer: impl FnMut(&CycleRecord) + Send + 'static) {
        self.cycle_observer = Some(Box::new(observer));
    }

    /// Appends to the cycle journal. With a bus the record needs no sync, because a start restores
    /// it from the bus. The first record is always synced: it identifies the file as a cycle
    /// journal after a power cut.
    fn append_cycle_record(&mut self, cycle: &CycleRecord) -> Result<()> {
        let Some(journal) = &mut self.cycle_journal else { return Ok(()) };
        let first = journal.append(cycle)? == 0;
        if first || self.bus.is_none() { journal.sync() } else { Ok(()) }
    }

    /// Runs cycles until `max_cycles` have run, until `pause` returns [`PauseEnd::Stop`], or until
    /// the operator stops the runtime ([`Runtime::killed_by`]). Then syncs the records. Returns the
    /// last cycle.
    ///
    /// `pause` is called before every cycle with the time to wait: zero before the first cycle, and
    /// `interval` before every other.
    ///
    /// # Errors
    /// As [`Runtime::run_cycle`].
    pub fn run(
        &mut self,
        max_cycles: Option<u64>,
        interval: Duration,
        mut pause: impl FnMut(Duration) -> PauseEnd,
    ) -> Result<Option<CycleRecord>> {
        let result = self.run_until_stopped(max_cycles, interval, &mut pause);
        // Also after an error.
        let synced = self.sync();
        if self.checkpoints.is_due_at_end(self.engine.counts().decisions) {
            self.write_checkpoint();
        }
        result.and_then(|last| synced.map(|()| last))
    }

    /// Replaces the start-up checkpoint. A failure is no failure of the run: the next start reads
    /// more of the records. [`Runtime::checkpoint_problem`] tells of it.
    fn write_checkpoint(&mut self) {
        if self.failed {
            return;
        }
        let cycle_id = self.engine.counts().decisions;
        let written = self.try_write_checkpoint(cycle_id);
        self.checkpoints.note(cycle_id, written);
    }

    fn try_write_checkpoint(&mut self, cycle_id: u64) -> Result<()> {
        let Some(companions) = &self.checkpoints.companions else { return Ok(()) };
        if let Some(bus) = &self.bus {
            // The state contains all cycles, so it must not be bound to an earlier event.
            self.command_cursor.catch_up(bus)?;
        }
        if let Some(file) = &mut self.cycle_journal {
            file.sync()?;
        }
        let run = run_settings(&self.run)?;
        let bus = self.bus.as_ref().map(|_| self.command_cursor.clone());
        let journal = self.engine.journal().file().map(LineFile::head).transpose()?;
        let cycle_journal = self.cycle_journal.as_ref().map(LineFile::head).transpose()?;
        let new_id = key_index_id(&run, bus.as_ref().map(CommandCursor::last), journal);
        let key_index = self.engine.keys_mut().move_to_index(|| companions.create_key_index(new_id))?;
        let state = self.engine.state().to_json()?;
        companions.write(&StartCheckpoint {
            run,
            cycle_id,
            bus,
            journal,
            cycle_journal,
            key_index,
            state,
        })?;
        self.engine.forget_published();
        Ok(())
    }

    /// Returns the last cycle of the start-up checkpoint that the start began with; 0 if it read
    /// all records.
    pub fn started_after(&self) -> u64 {
        self.checkpoints.started_after
    }

    /// Returns why the last start-up checkpoint could not be written, if that is so.
    pub fn checkpoint_problem(&self) -> Option<&str> {
        self.checkpoints.problem.as_deref()
    }

    fn run_until_stopped(
        &mut self,
        max_cycles: Option<u64>,
        interval: Duration,
        pause: &mut dyn FnMut(Duration) -> PauseEnd,
    ) -> Result<Option<CycleRecord>> {
        let mut last = None;
        let mut cycles = 0;
        while max_cycles.is_none_or(|max| cycles < max) {
            let wait = if cycles == 0 { Duration::ZERO } else { interval };
            let mut pause_end = pause(wait);
            while let PauseEnd::Command { remaining } = pause_end {
                // A killed runtime does not wait out its pause.
                let killed = self.apply_commands()? == TradingMode::Killed;
                pause_end = pause(if killed { Duration::ZERO } else { remaining });
            }
            if pause_end == PauseEnd::Stop || self.apply_commands()? == TradingMode::Killed {
                break;
            }
            last = Some(self.run_next_order()?);
            cycles += 1;
        }
        Ok(last)
    }

    /// Syncs the cycle journal. The decision journal and the bus are synced after every cycle
    /// anyway.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.cycle_journal.as_mut().map_or(Ok(()), LineFile::sync)
    }

    /// Returns the engine with its state.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the bus; `None` if the runtime has none.
    pub fn bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    /// Returns what the start repaired or noticed, one line each, for the operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Why a pause between two cycles ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseEnd {
    /// The time is over: the next cycle runs.
    Elapsed,
    /// An operator command arrived: the runtime applies it, then pauses for the remaining time.
    Command {
        /// What is left of the pause.
        remaining: Duration,
    },
    /// The run ends.
    Stop,
}

fn labels(run: &Run) -> RunLabels<'_> {
    RunLabels { name: &run.name, market_source: run.orders.market_source() }
}
