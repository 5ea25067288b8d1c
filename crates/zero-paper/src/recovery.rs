//! Opens the records of a scenario run and recovers its state from them.
//!
//! With a start-up checkpoint, the state is that of the checkpoint and of the records after it.
//! Otherwise, and whenever the checkpoint does not match, all records are read and compared.

use std::sync::Arc;

use serde::Serialize;
use zero_bus::storage::Storage;
use zero_bus::{AmbiguousTail, Bus, Json, Reader};

use crate::bus_lock::BusLock;
use crate::clock::Clock;
use crate::cycle::{CYCLE_SCHEMA, Recovery, cycle_of_trace};
use crate::cycle_sequence::CycleSequence;
use crate::engine::{Engine, EngineState, Origin};
use crate::error::Result;
use crate::field::Field;
use crate::journal::Journal;
use crate::line_file::{FileStart, LineFile};
use crate::opening_bus::{OpeningBus, warnings_of};
use crate::order_source::Run;
use crate::reconcile::{
    ReconcileStart, Reconciliation, read_decisions, read_decisions_after, rebuild_journal, reconcile,
};
use crate::record_paths::RecordPaths;
use crate::scenario::Limits;
use crate::start_checkpoint::{
    CheckpointOptions, Checkpoints, Companions, EarlierKeys, StartCheckpoint, Unusable, key_index_id,
};

/// The opened records.
pub(crate) struct OpenRecords {
    // Fields are dropped in order, which is the reverse order of their opening: directories that
    // were created are removed from the inside out.
    journal: Option<LineFile>,
    bus: Option<Arc<dyn Storage>>,
    bus_lock: Option<BusLock>,
    cycle_journal: Option<LineFile>,
    on_ambiguous_tail: AmbiguousTail,
    /// The journal was just rebuilt from the bus.
    rebuilt: bool,
}

/// What the records hold, before a crash's gaps between them are closed.
pub(crate) struct Recovered {
    pub(crate) engine: Engine,
    /// Where the state came from, for the cycle records.
    pub(crate) recovery: Json,
    // Fields are dropped in order, see `Runtime`.
    pub(crate) bus: Option<Bus>,
    pub(crate) bus_lock: Option<BusLock>,
    pub(crate) cycle_journal: Option<LineFile>,
    pub(crate) reconciliation: Reconciliation,
    pub(crate) checkpoints: Checkpoints,
}

/// Where the recovery begins. The default is the start of all records.
#[derive(Default)]
struct Basis {
    start: ReconcileStart,
    state: EngineState,
    keys: EarlierKeys,
    cycle_journal: FileStart,
}

/// What was read of the records after the basis.
struct Gathered {
    journal: Journal,
    /// The first cycle whose record the cycle journal lacks. A file that was just created starts
    /// with the next cycle, so the bus's earlier records are not copied into it.
    first_missing_record: Option<u64>,
    reconciliation: Reconciliation,
    warnings: Vec<String>,
}

/// Returns what must be equal for a checkpoint to be used.
pub(crate) fn run_settings(run: &Run) -> Result<Json> {
    #[derive(Serialize)]
    struct Settings<'a> {
        kind: &'a str,
        limits: &'a Limits,
        name: &'a str,
        reduce_only_rule: &'a str,
    }
    let Run { name, limits, reduce_only_rule, .. } = run;
    let reduce_only_rule = reduce_only_rule.name();
    Ok(Json::of(&Settings { kind: "scenario", limits, name, reduce_only_rule })?)
}

impl OpenRecords {
    /// Opens the records. Rebuilds the journal from the bus if that was requested or it is missing.
    pub(crate) fn open(records: &RecordPaths, warnings: &mut Vec<String>) -> Result<Self> {
        records.check()?;
        // Locals are dropped in reverse order, so directories that were created are removed from
        // the inside out.
        let cycle_journal = records.cycle_journal.as_deref().map(LineFile::open).transpose()?;
        let bus_lock = records.runtime_bus.as_deref().map(BusLock::acquire).transpose()?;
        let reader = bus_lock.as_ref().map(|BusLock(directory)| Reader::open_in(directory.clone()));
        let rebuilt = rebuild_journal_if_needed(records, reader.as_ref(), warnings)?;
        let journal = records.journal.as_deref().map(LineFile::open).transpose()?;
        let bus = bus_lock.as_ref().map(|BusLock(directory)| directory.clone() as Arc<dyn Storage>);
        let on_ambiguous_tail = records.on_ambiguous_tail;
        Ok(Self { cycle_journal, bus_lock, bus, on_ambiguous_tail, journal, rebuilt })
    }

    /// Opens bus, decision journal and cycle journal in one storage.
    pub(crate) fn in_storage(storage: &Arc<dyn Storage>) -> Result<Self> {
        let open = |name| LineFile::open_in(Arc::clone(storage), name);
        Ok(Self {
            cycle_journal: Some(open("cycles.jsonl")?),
            bus_lock: None,
            bus: Some(Arc::clone(storage)),
            on_ambiguous_tail: AmbiguousTail::Refuse,
            journal: Some(open("decisions.jsonl")?),
            rebuilt: false,
        })
    }

    /// Recovers the state. All checks come first; then the tails of the records are repaired.
    pub(crate) fn recover(
        mut self,
        run: &Run,
        options: CheckpointOptions,
        clock: &Arc<dyn Clock>,
        warnings: &mut Vec<String>,
    ) -> Result<Recovered> {
        let persistent = self.bus.is_some() || self.journal.is_some();
        let rebuilt = self.rebuilt;
        let mut opening = OpeningBus::new(self.bus.clone(), self.on_ambiguous_tail, clock)?;
        let companions = Companions::of(self.bus.as_ref(), self.journal.as_ref());
        let mut checkpoints = Checkpoints::new(companions, options);
        let settings = run_settings(run)?;
        let (mut basis, mut unusable) = match &checkpoints.companions {
            Some(companions) if !options.full_check => match self.find_basis(companions, &settings)? {
                Ok(basis) => (basis, None),
                Err(unusable) => (Basis::default(), Some(unusable)),
            },
            _ => (Basis::default(), None),
        };
        let gathered = loop {
            match self.gather(&basis)? {
                Ok(gathered) => break gathered,
                Err(problem) => {
                    basis = Basis::default();
                    unusable = Some(Unusable::Problem(problem.to_owned()));
                }
            }
        };
        let Gathered { journal, first_missing_record, mut reconciliation, warnings: noticed } = gathered;
        warnings.extend(noticed);
        warnings.append(&mut reconciliation.warnings);
        let Self { mut cycle_journal, bus_lock, .. } = self;
        let mut misplaced = None;
        checkpoints.start_after(basis.start.cycle_id);
        let origin = Origin { state: basis.state, start: basis.start.journal };
        let mut engine =
            Engine::recover_from(run.limits, journal, origin, basis.keys.used, |position, entry, keys| {
                let trace_id = entry.decision.trace_id.as_deref();
                if cycle_of_trace(trace_id).is_some_and(|cycle_id| cycle_id != position) {
                    misplaced.get_or_insert((entry.line, position));
                }
                if let Some(companions) = checkpoints.companions.as_ref().filter(|_| keys.is_large()) {
                    let id = key_index_id(&settings, None, None);
                    keys.move_to_index(|| companions.create_key_index(id))?;
                }
                Ok(())
            })?;
        engine.set_reduce_only_rule(run.reduce_only_rule);
        if let Some((line, position)) = misplaced {
            warnings.push(format!(
                "{}: line {line} belongs to another cycle than {position}: lines are missing or were moved",
                engine.journal().path().display()
            ));
        }
        let decisions = engine.counts().decisions;
        warnings.extend(unusable.and_then(|unusable| unusable.warning(&checkpoints, decisions)));
        let recovery = match engine.journal().file() {
            Some(file) if file.existed() && !rebuilt => {
                Recovery::recovered(&engine, file.path().to_string_lossy().into_owned())
            }
            _ if decisions > 0 => Recovery::from_bus(&engine),
            _ => Recovery::ephemeral(),
        };
        let recovery = Json::of(&recovery)?;
        if let (Some(file), Some(first)) = (&cycle_journal, first_missing_record)
            && first > decisions + 1
            && persistent
        {
            warnings.push(format!(
                "{}: ends with cycle {}, but there are only {decisions} decisions: the file belongs to another run, or \
                 the other records were restored from an older copy",
                file.path().display(),
                first - 1
            ));
        }
        let bus = opening.open()?;
        warnings.extend(bus.iter().flat_map(warnings_of));
        // Every check passed. From here on the records are changed.
        engine.repair_journal_tail()?;
        warnings.extend(engine.journal().file().and_then(quarantine_warning));
        if let Some(file) = &mut cycle_journal {
            file.repair_tail()?;
            warnings.extend(quarantine_warning(file));
            reconciliation.missing_records.iter().try_for_each(|record| file.append(record).map(drop))?;
            file.sync()?;
        }
        Ok(Recovered { engine, recovery, bus, bus_lock, cycle_journal, reconciliation, checkpoints })
    }

    fn reader(&self) -> Option<Reader> {
        self.bus.clone().map(Reader::open_in)
    }

    /// Returns the basis that the checkpoint gives, or why there is none.
    fn find_basis(&self, companions: &Companions, settings: &Json) -> Result<Result<Basis, Unusable>> {
        let (reader, journal) = (self.reader(), self.journal.as_ref());
        let found = companions.find(settings, reader.as_ref(), journal, self.cycle_journal.as_ref())?;
        let (checkpoint, keys) = match found {
            Ok(found) => found,
            Err(unusable) => return Ok(Err(unusable)),
        };
        let StartCheckpoint { cycle_id, bus, journal, cycle_journal, state, .. } = checkpoint;
        let problem = match EngineState::read(&Field::root(&state.value())) {
            Ok(_) if self.rebuilt => "the journal was rebuilt".to_owned(),
            Ok(state) if state.counts().decisions == cycle_id => {
                let journal = journal.map(|head| head.start()).unwrap_or_default();
                let start = ReconcileStart { cycle_id, journal, cursor: bus.unwrap_or_default() };
                let cycle_journal = cycle_journal.map(|head| head.start()).unwrap_or_default();
                return Ok(Ok(Basis { start, state, keys, cycle_journal }));
            }
            Ok(_) => "its state is that of another cycle".to_owned(),
            Err(problem) => problem,
        };
        Ok(Err(Unusable::Problem(problem)))
    }

    /// Reads what the records hold after the basis, and compares them. The inner error is why that
    /// cannot be done from this basis on; from the start of the records it always can.
    fn gather(&mut self, basis: &Basis) -> Result<Result<Gathered, &'static str>> {
        const NEW_RUN: &str = "a new run begins after it";
        let (mut first_missing_record, mut warnings) = (None, Vec::new());
        let persistent = self.bus.is_some() || self.journal.is_some();
        let each_synced = self.bus.is_none();
        if let Some(file) = self.cycle_journal.as_mut().filter(|file| file.existed()) {
            let is_partial = basis.cycle_journal != FileStart::default();
            let previous = if is_partial { basis.start.cycle_id } else { 0 };
            let mut sequence = CycleSequence::after(previous, persistent);
            file.read_records_after(basis.cycle_journal, CYCLE_SCHEMA, each_synced, |position, record| {
                sequence.check(position, &record);
            })?;
            first_missing_record = Some(sequence.highest().saturating_add(1));
            warnings.extend(sequence.warning(file.path()));
        }
        let reader = self.reader();
        let journal = match (self.journal.take(), &reader) {
            (Some(file), _) => Journal::File(file),
            (None, None) => Journal::Memory(Vec::new()),
            (None, Some(reader)) => match read_decisions_after(reader, &basis.start)? {
                Some(decisions) => Journal::OnBus { forgotten: basis.start.cycle_id, decisions },
                None => return Ok(Err(NEW_RUN)),
            },
        };
        let mut reconciliation = Reconciliation {
            cycle_journal_end: first_missing_record.map(|first| first - 1),
            ..Reconciliation::default()
        };
        if let Some(reader) = &reader {
            // Before the bus is opened for appending, because that may repair its tail.
            reconciliation = reconcile(&journal, reader, &basis.start, first_missing_record)?;
        }
        // Each decision has at most one key.
        let later = basis.keys.later as usize;
        let problem = if reconciliation.has_new_run {
            NEW_RUN
        } else if journal.entries_after(basis.start.journal).take(later).count() < later {
            EarlierKeys::UNEXPLAINED
        } else {
            return Ok(Ok(Gathered { journal, first_missing_record, reconciliation, warnings }));
        };
        if let Journal::File(file) = journal {
            self.journal = Some(file);
        }
        Ok(Err(problem))
    }
}

fn quarantine_warning(file: &LineFile) -> Option<String> {
    Some(format!("{}: {}", file.path().display(), file.quarantined()?))
}

/// Rebuilds the decision journal from the bus if that was requested, or if the bus has decisions
/// and there is no journal file yet. Returns whether it did.
fn rebuild_journal_if_needed(
    records: &RecordPaths,
    reader: Option<&Reader>,
    warnings: &mut Vec<String>,
) -> Result<bool> {
    let (Some(path), Some(reader)) = (&records.journal, reader) else { return Ok(false) };
    // `symlink_metadata` also sees a dangling link, which `exists` does not.
    let exists = path.symlink_metadata().is_ok();
    if exists && !records.rebuild_journal {
        return Ok(false);
    }
    // Holds the old journal's lock meanwhile, so that no other runtime appends to it.
    let _old_journal = exists.then(|| LineFile::open(path)).transpose()?;
    let decisions = read_decisions(reader)?;
    if decisions.is_empty() && !records.rebuild_journal {
        return Ok(false);
    }
    let kept = rebuild_journal(path, &decisions)?;
    warnings.push(format!("{}: rebuilt from the bus: {} decisions", path.display(), decisions.len()));
    warnings.extend(kept);
    Ok(true)
}
