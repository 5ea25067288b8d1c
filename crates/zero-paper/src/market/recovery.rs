//! What a start finds in the records of earlier processes.
//!
//! With a journal, the state is the fold of its cycles, and the bus must begin with exactly the
//! events that the journal has. What it lacks at its end is appended. Without a journal, the state
//! is the fold of the cycles on the bus; the events that follow from the last cycle's record are
//! appended if they are missing, and an observation without a record is decided again.

use std::path::{Path, PathBuf};

use serde::Serialize;
use zero_bus::{Bus, Event, Events, Json, Reader, Value, event_id};

use crate::candle::{Bar, Candle};
use crate::cycle::cycle_of_trace;
use crate::cycle_settings::CycleSettings;
use crate::error::{Error, Mismatch, Result};
use crate::event_types::{CYCLE, OBSERVATION, OPERATOR_APPLIED};
use crate::field::{Field, Problem};
use crate::line_file::{FileStart, LineFile};
use crate::operator::{Action, CommandCursor};
use crate::reconcile::replace_journal;
use crate::start_checkpoint::{Companions, key_index_id};

use super::events::{TypedPayload, after_record, of_cycle};
use super::journal::{CycleEvents, MarketJournal};
use super::reader::{CycleReader, EventClass, PendingObservation, first_held_cycle};
use super::record::{RecordedBar, RecordedCycle, read_candle};
use super::run_file::RunFile;
use super::state::RunState;

/// Where the recovery begins: after a complete cycle. The default is the start of the records.
#[derive(Default)]
pub(super) struct Basis {
    /// State and history at that place; `None` before the first cycle.
    pub(super) state: Option<(RunState, History)>,
    /// The place after the cycle in the journal.
    pub(super) journal: FileStart,
    /// A later place on the bus, at which the state contains every command.
    pub(super) cursor: CommandCursor,
}

/// The state that the records describe, and what is to be done about them.
pub(super) struct Recovered {
    pub(super) state: RunState,
    pub(super) history: History,
    pub(super) command_cursor: CommandCursor,
    /// The first cycle that the bus lacks in part or as a whole.
    pub(super) unpublished: Option<Unpublished>,
    /// The observation of the next cycle, if the bus ends with it.
    pub(super) pending: Option<PendingObservation>,
    pub(super) warnings: Vec<String>,
}

/// What a start needs to know about the recorded cycles.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// The symbols of the first bar.
    pub(super) symbols: Option<Vec<String>>,
    /// The last bar with candles.
    pub(super) last_bar: Option<Bar>,
    /// The settings of the last cycle, and its number; `None` if they are those of the start-up
    /// checkpoint, which are those of the run.
    pub(super) settings: Option<(u64, CycleSettings)>,
}

impl History {
    /// Adds a bar.
    pub(super) fn add(&mut self, bar: &Bar) {
        if !bar.candles.is_empty() {
            let symbols = || bar.candles.iter().map(|candle| candle.symbol.clone()).collect();
            self.symbols.get_or_insert_with(symbols);
            self.last_bar = Some(bar.clone());
        }
    }

    /// Returns the form that a start-up checkpoint keeps.
    pub(super) fn to_json(&self) -> Result<Json> {
        #[derive(Serialize)]
        struct Form<'a> {
            last_bar: Option<BarForm<'a>>,
            symbols: &'a Option<Vec<String>>,
        }
        #[derive(Serialize)]
        struct BarForm<'a> {
            candles: &'a [Candle],
            interval_s: f64,
            ts: f64,
        }
        let last_bar = self.last_bar.as_ref();
        let last_bar =
            last_bar.map(|bar| BarForm { candles: &bar.candles, interval_s: bar.interval_s, ts: bar.ts });
        Ok(Json::of(&Form { last_bar, symbols: &self.symbols })?)
    }

    /// Reads that form.
    pub(super) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let symbols = field.optional_unless_null("symbols").map(|symbols| {
            symbols.items()?.map(|symbol| Ok(symbol.text()?.to_owned())).collect::<Result<_, Problem>>()
        });
        let last_bar = field.optional_unless_null("last_bar").map(|bar| {
            let candles = bar.required("candles")?;
            let candles = candles.items()?.map(|candle| read_candle(&candle)).collect::<Result<_, _>>()?;
            let number = |key| bar.required(key)?.number();
            Ok::<_, Problem>(Bar { ts: number("ts")?, interval_s: number("interval_s")?, candles })
        });
        Ok(Self { symbols: symbols.transpose()?, last_bar: last_bar.transpose()?, settings: None })
    }
}

/// The first cycle whose events are not all on the bus.
pub(super) struct Unpublished {
    /// Its events and its time; `None` if the journal has them.
    pub(super) cycle: Option<CycleEvents>,
    pub(super) cycle_id: u64,
    /// How many of its events are on the bus.
    pub(super) published: usize,
}

/// Applies recorded cycles to a state, and checks that they belong to the run.
struct Fold<'a> {
    run: &'a RunFile,
    state: RunState,
    history: History,
    companions: Option<&'a Companions>,
}

impl<'a> Fold<'a> {
    fn after(basis: &mut Basis, run: &'a RunFile, companions: Option<&'a Companions>) -> Self {
        let start = || (RunState::new(run.start_cash_usd), History::default());
        let (state, history) = basis.state.take().unwrap_or_else(start);
        Self { run, state, history, companions }
    }

    /// Moves the keys out of memory if there are many.
    fn move_keys(&mut self) -> Result<()> {
        if let Some(companions) = self.companions.filter(|_| self.state.keys_mut().is_large()) {
            let id = key_index_id(&Json::of(&self.run.name)?, None, None);
            self.state.keys_mut().move_to_index(|| companions.create_key_index(id))?;
        }
        Ok(())
    }

    /// Applies the next cycle. The error says what is wrong with it.
    fn apply(&mut self, bar: &RecordedBar, cycle: &RecordedCycle) -> Result<(), String> {
        let expected = self.state.last_cycle_id() + 1;
        if cycle.cycle_id != expected || bar.cycle_id != expected {
            return Err(format!("is cycle {}, but cycle {expected} must follow", cycle.cycle_id));
        }
        if cycle.scenario != self.run.name {
            return Err(format!(
                "cycle {expected} belongs to the run `{}`, but this run is `{}`; use the old name, or name other \
                 records",
                cycle.scenario, self.run.name
            ));
        }
        if expected == 1 && cycle.cash_usd != self.run.start_cash_usd {
            return Err(format!(
                "the run began with {} USD, but start_cash_usd is {}; use the old value, or name other records",
                cycle.cash_usd, self.run.start_cash_usd
            ));
        }
        self.state.apply(&bar.bar, cycle);
        self.history.add(&bar.bar);
        self.history.settings = Some((expected, cycle.settings.clone()));
        Ok(())
    }
}

/// Recovers from a journal, from `basis` on, and compares the bus with it. Keys that memory should
/// not hold go to `companions`.
///
/// # Errors
/// The journal is invalid or belongs to another run; the bus has a cycle that the journal lacks, or
/// one that differs. Nothing is changed.
pub(super) fn from_journal(
    run: &RunFile,
    mut basis: Basis,
    companions: Option<&Companions>,
    journal: &mut MarketJournal,
    bus: Option<&Reader>,
) -> Result<Recovered> {
    let path = journal.file().path().to_owned();
    let mut fold = Fold::after(&mut basis, run, companions);
    let cursor = std::mem::take(&mut basis.cursor);
    let mut comparison = bus.map(|reader| Comparison::after(cursor, reader, &path)).transpose()?;
    let mut unpublished = None;
    journal.read_after(basis.journal, |line| {
        let (bar, recorded) = line.recorded()?;
        fold.apply(&bar, &recorded).map_err(|problem| line.problem(problem))?;
        fold.move_keys()?;
        if let Some(comparison) = &mut comparison {
            let cycle = line.events()?;
            let published = comparison.match_cycle(&cycle)?;
            if published < cycle.events.len() && unpublished.is_none() {
                unpublished = Some(Unpublished { cycle: None, cycle_id: cycle.cycle_id, published });
            }
        }
        Ok(())
    })?;
    let Fold { mut state, history, .. } = fold;
    let (mut pending, mut command_cursor) = (None, CommandCursor::default());
    if let Some(comparison) = comparison {
        let resumed;
        (pending, command_cursor, resumed) = comparison.finish(state.last_cycle_id())?;
        if resumed {
            state.resume();
        }
    }
    Ok(Recovered { state, history, command_cursor, unpublished, pending, warnings: Vec::new() })
}

/// Compares the events of a bus with the journal's, one by one.
pub(super) struct Comparison {
    events: Events,
    log: PathBuf,
    journal: PathBuf,
    command_cursor: CommandCursor,
    /// The last cycle that had events on the bus when a resume was applied.
    resumed_after: Option<u64>,
    /// Cycles before this one are retired: the log of the bus starts later.
    first_held_cycle: u64,
}

impl Comparison {
    pub(super) fn after(cursor: CommandCursor, reader: &Reader, journal: &Path) -> Result<Self> {
        let (mut from, mut first_cycle) = (cursor.last().index + 1, 0);
        if from == 1
            && let Some(cycle_id) = first_held_cycle(reader)?
        {
            (from, first_cycle) = (reader.first_index()?, cycle_id);
        }
        Ok(Self {
            events: reader.events(from)?,
            log: reader.log_path(),
            journal: journal.to_owned(),
            command_cursor: cursor,
            resumed_after: None,
            first_held_cycle: first_cycle,
        })
    }

    fn differs(&self, problem: String) -> Error {
        Error::reconcile(self.log.clone(), Mismatch::CyclesDiffer { problem })
    }

    /// Returns the next event, after `cycle_id` was the last cycle with events.
    fn next(&mut self, cycle_id: u64) -> Result<Option<Event>> {
        let Some(event) = self.events.next().transpose()? else { return Ok(None) };
        self.command_cursor.apply(&event);
        if is_applied_resume(&event) {
            self.resumed_after = Some(cycle_id);
        }
        if is_scenario_cycle(&event) {
            return Err(other_kind_of_run(&self.log, &event));
        }
        Ok(Some(event))
    }

    /// Advances over the events of a cycle. Returns how many of them the bus has. Fewer than all
    /// means that the bus ends there.
    pub(super) fn match_cycle(&mut self, cycle: &CycleEvents) -> Result<usize> {
        if cycle.cycle_id < self.first_held_cycle {
            return Ok(cycle.events.len());
        }
        let mut matched = 0;
        while let Some((event_type, payload)) = cycle.events.get(matched) {
            let last_cycle_id = if matched == 0 { cycle.cycle_id - 1 } else { cycle.cycle_id };
            let Some(event) = self.next(last_cycle_id)? else { break };
            let Some(traced) = cycle_of_trace(event.trace_id.as_deref()) else { continue };
            if traced == cycle.cycle_id
                && *event_type == event.event_type
                && *payload == event.payload
                && cycle.as_of == event.as_of
            {
                matched += 1;
                continue;
            }
            // An event of another program may have the trace of a cycle; one that begins a cycle
            // may not.
            if event.event_type == OBSERVATION && traced >= cycle.cycle_id {
                let (id, journal) = (event.id(), self.journal.display());
                return Err(self.differs(if traced == cycle.cycle_id {
                    format!(
                        "{id} is not the observation that {journal} has for cycle {traced}; name the journal of this \
                         bus, or rebuild it from the bus with --rebuild-journal"
                    )
                } else {
                    format!(
                        "has {matched} of the {} events that {journal} has for cycle {}, but continues with cycle \
                         {traced} in {id}; name the journal of this bus, or another bus",
                        cycle.events.len(),
                        cycle.cycle_id
                    )
                }));
            }
        }
        Ok(matched)
    }

    /// Reads the events after the last cycle of the journal. Returns an observation without a
    /// record at the end, the commands, and whether a resume was applied after the last cycle.
    pub(super) fn finish(
        mut self,
        last_cycle_id: u64,
    ) -> Result<(Option<PendingObservation>, CommandCursor, bool)> {
        let mut pending: Option<PendingObservation> = None;
        while let Some(event) = self.next(last_cycle_id)? {
            let Some(traced) = cycle_of_trace(event.trace_id.as_deref()) else { continue };
            let is_start = [OBSERVATION, CYCLE].contains(&event.event_type.as_str());
            if !is_start || traced <= last_cycle_id {
                continue;
            }
            let observation = RecordedBar::from_value(&event.payload.value());
            match observation {
                Ok(bar) if traced == last_cycle_id + 1 && pending.is_none() => {
                    let (index, as_of, payload) = (event.index, event.as_of, event.payload.clone());
                    pending = Some(PendingObservation { index, as_of, payload, bar });
                }
                _ => {
                    return Err(self.differs(format!(
                        "{} belongs to cycle {traced}, but {} ends with cycle {last_cycle_id}: the bus is ahead; \
                         restore the journal, or rebuild it from the bus with --rebuild-journal",
                        event.id(),
                        self.journal.display()
                    )));
                }
            }
        }
        Ok((pending, self.command_cursor, self.resumed_after == Some(last_cycle_id)))
    }
}

/// Recovers from the bus alone, from `basis` on. Passes the events of each cycle to `each`.
///
/// # Errors
/// The bus belongs to another run, or its cycles are incomplete in the middle. Nothing is changed.
pub(super) fn from_bus(
    run: &RunFile,
    mut basis: Basis,
    companions: Option<&Companions>,
    reader: &Reader,
    mut each: impl FnMut(&CycleEvents) -> Result<()>,
) -> Result<Recovered> {
    let log = reader.log_path();
    let refused = |problem: String| Error::Refused { path: log.clone(), problem };
    let mut fold = Fold::after(&mut basis, run, companions);
    let mut cycles = CycleReader::after(fold.state.last_cycle_id());
    let (mut command_cursor, mut warnings) = (std::mem::take(&mut basis.cursor), Vec::new());
    let mut resumed_after = None;
    let mut open: Option<OpenCycle> = None;
    for event in reader.events(command_cursor.last().index + 1)? {
        let event = event?;
        command_cursor.apply(&event);
        if is_applied_resume(&event) {
            resumed_after = Some(cycles.last_cycle_id());
        }
        match cycles.classify(&event) {
            EventClass::Unrelated => {}
            EventClass::Foreign(warning) => warnings.push(warning),
            EventClass::ScenarioCycle => return Err(other_kind_of_run(&log, &event)),
            EventClass::Gap { cycle_id } => {
                let missing = cycles.last_cycle_id() + 1;
                let id = event.id();
                return Err(refused(format!(
                    "{id} begins cycle {cycle_id}, but cycle {missing} is missing, so the state cannot be rebuilt; \
                     name the journal that has it, or another bus"
                )));
            }
            EventClass::Observation => {
                if let Some(open) = open.take() {
                    open.check_complete().map_err(refused)?;
                }
            }
            EventClass::Record(start) => {
                let cycle_id = start.cycle.cycle_id;
                let id = event_id(start.index);
                let applied = fold.apply(&start.bar, &start.cycle);
                applied.map_err(|problem| refused(format!("{id} {problem}")))?;
                fold.move_keys()?;
                let cycle = &start.cycle;
                let after = after_record(&fold.state, &cycle.act, &cycle.strategy, cycle.failure.as_ref())?;
                let [observation, record] = start.payloads;
                let events = of_cycle(observation, record, after);
                let cycle = CycleEvents { as_of: start.as_of, cycle_id, events };
                each(&cycle)?;
                open = Some(OpenCycle { cycle, published: 2, first_other: None });
            }
            EventClass::OfCycle(cycle_id) => {
                if let Some(open) = open.as_mut().filter(|open| open.cycle.cycle_id == cycle_id) {
                    open.match_event(&event);
                }
            }
        }
    }
    let Fold { mut state, history, .. } = fold;
    if resumed_after == Some(state.last_cycle_id()) {
        state.resume();
    }
    let unpublished = match open.filter(|open| open.published < open.cycle.events.len()) {
        Some(open) if open.first_other.is_some() => return Err(refused(open.incomplete())),
        open => open.map(|OpenCycle { cycle, published, .. }| Unpublished {
            cycle_id: cycle.cycle_id,
            cycle: Some(cycle),
            published,
        }),
    };
    let pending = cycles.pending().cloned();
    Ok(Recovered { state, history, command_cursor, unpublished, pending, warnings })
}

/// The last cycle on a bus, and how many of its events were seen.
struct OpenCycle {
    cycle: CycleEvents,
    published: usize,
    /// The first event with the cycle's trace that is not the next one.
    first_other: Option<u64>,
}

impl OpenCycle {
    fn match_event(&mut self, event: &Event) {
        match self.cycle.events.get(self.published) {
            Some((event_type, payload)) if *event_type == event.event_type && *payload == event.payload => {
                self.published += 1;
            }
            Some(_) => drop(self.first_other.get_or_insert(event.index)),
            None => {}
        }
    }

    fn check_complete(&self) -> Result<(), String> {
        if self.published == self.cycle.events.len() { Ok(()) } else { Err(self.incomplete()) }
    }

    fn incomplete(&self) -> String {
        let (cycle_id, published) = (self.cycle.cycle_id, self.published);
        let expected = self.cycle.events.get(published).map_or("event", |(event_type, _)| event_type);
        let found = self.first_other.map_or_else(
            || "it is missing".to_owned(),
            |index| format!("{} is not what the record implies", event_id(index)),
        );
        format!(
            "cycle {cycle_id} lacks its {expected}: {found}; name the journal of this run, or another bus"
        )
    }
}

fn is_applied_resume(event: &Event) -> bool {
    event.event_type == OPERATOR_APPLIED
        && event.payload.value().get("action").and_then(Value::as_str) == Some(Action::Resume.name())
}

fn is_scenario_cycle(event: &Event) -> bool {
    event.event_type == CYCLE && matches!(CycleReader::default().classify(event), EventClass::ScenarioCycle)
}

fn other_kind_of_run(log: &Path, event: &Event) -> Error {
    let problem = format!(
        "{} is a cycle of a scenario run, and a run on market data cannot continue it; name another bus",
        event.id()
    );
    Error::Refused { path: log.to_owned(), problem }
}

/// Rebuilds the journal from the bus if that was requested, or if the bus has cycles and there is
/// no journal file yet.
pub(super) fn rebuild_journal_if_needed(
    run: &RunFile,
    path: &Path,
    requested: bool,
    reader: &Reader,
    warnings: &mut Vec<String>,
) -> Result<()> {
    // `symlink_metadata` also sees a dangling link, which `exists` does not.
    let exists = path.symlink_metadata().is_ok();
    if exists && !requested {
        return Ok(());
    }
    // Holds the old journal's lock meanwhile, so that no other runtime appends to it.
    let _old_journal = exists.then(|| LineFile::open(path)).transpose()?;
    let recovered = from_bus(run, Basis::default(), None, reader, |_| Ok(()))?;
    let cycles = recovered.state.last_cycle_id();
    if cycles == 0 && !requested {
        return Ok(());
    }
    let kept = replace_journal(path, |file| {
        let basis = Basis::default();
        from_bus(run, basis, None, reader, |cycle| cycle.append_to(file).map(drop)).map(drop)
    })?;
    warnings.push(format!("{}: rebuilt from the bus: {cycles} cycles", path.display()));
    warnings.extend(kept);
    Ok(())
}

/// A place in the records: after a cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) cycle_id: u64,
    /// In the journal.
    pub(super) journal: FileStart,
    /// The last event before it on the bus.
    pub(super) event_index: u64,
}

/// Passes each recorded cycle after a place to `each`, in order: from the journal, or else from the
/// bus.
///
/// # Errors
/// Any error of reading, or of `each`.
pub(super) fn for_each_cycle(
    place: Place,
    journal: Option<&mut MarketJournal>,
    bus: Option<&Reader>,
    mut each: impl FnMut(RecordedBar, RecordedCycle) -> Result<()>,
) -> Result<()> {
    if let Some(journal) = journal {
        return journal
            .read_after(place.journal, |line| line.recorded().and_then(|(bar, cycle)| each(bar, cycle)));
    }
    let Some(reader) = bus else { return Ok(()) };
    let mut cycles = CycleReader::after(place.cycle_id);
    for event in reader.events(place.event_index + 1)? {
        if let EventClass::Record(start) = cycles.classify(&event?) {
            each(start.bar, start.cycle)?;
        }
    }
    Ok(())
}

/// Finds the record of a cycle by bisection: in the journal, or else on the bus. `None` if it is
/// not there.
///
/// # Errors
/// Any error of reading.
pub(super) fn recorded_cycle(
    journal: Option<&MarketJournal>,
    bus: Option<&Bus>,
    cycle_id: u64,
) -> Result<Option<RecordedCycle>> {
    if let Some(journal) = journal {
        return journal.cycle(cycle_id);
    }
    let Some(bus) = bus else { return Ok(None) };
    // The record is at or after `low` and before `high`.
    let (mut low, mut high) = (bus.reader().first_index()?, bus.head().index + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match first_record(&bus.reader(), middle, high)? {
            Some((_, cycle)) if cycle.cycle_id == cycle_id => return Ok(Some(cycle)),
            Some((index, cycle)) if cycle.cycle_id < cycle_id => low = index + 1,
            _ => high = middle,
        }
    }
    Ok(None)
}

/// Returns the first cycle record from an index on and before another, with its index.
fn first_record(reader: &Reader, from: u64, before: u64) -> Result<Option<(u64, RecordedCycle)>> {
    for event in reader.events(from)? {
        let event = event?;
        if event.index >= before {
            break;
        }
        let traced = cycle_of_trace(event.trace_id.as_deref()).filter(|_| event.event_type == CYCLE);
        let record = traced.and_then(|_| RecordedCycle::from_value(&event.payload.value()).ok());
        if let Some(cycle) = record.filter(|cycle| Some(cycle.cycle_id) == traced) {
            return Ok(Some((event.index, cycle)));
        }
    }
    Ok(None)
}

/// Returns the events that follow a number of published ones.
pub(super) fn missing_events(cycle: CycleEvents, published: usize) -> Vec<TypedPayload> {
    cycle.events.into_iter().skip(published).collect()
}

impl Recovered {
    /// The state of a run without records.
    pub(super) fn empty(run: &RunFile) -> Self {
        Self {
            state: RunState::new(run.start_cash_usd),
            history: History::default(),
            command_cursor: CommandCursor::default(),
            unpublished: None,
            pending: None,
            warnings: Vec::new(),
        }
    }
}
