//! Reconciles the decision journal with the bus when a runtime starts.
//!
//! The runtime writes a decision to the journal first and publishes the cycle on the bus second. A
//! crash can therefore leave the journal ahead of the bus by one decision, or leave the last cycle
//! on the bus without some of its events. `reconcile` measures that gap, and the runtime closes
//! it from the journal. It also tolerates cycles that the bus lacks, because a run may have been
//! without its bus for a while.
//!
//! Two contradictions have no safe repair and are refused with both places named: a decision that
//! differs ([`Mismatch::DecisionDiffers`]) and a bus that is ahead of the journal
//! ([`Mismatch::BusAhead`]).

use std::path::{Path, PathBuf};

use zero_bus::{Event, Events, Json, Reader, Value};

use crate::cycle::MARKET_CYCLE_SCHEMA;
use crate::cycle_events::{CycleClassifier, CycleStart, EventClass, recovery_of};
use crate::decision::Decision;
use crate::error::{Error, Mismatch, Result};
use crate::journal::{Journal, JournalEntry};
use crate::line_file::{FileStart, LineFile};
use crate::operator::CommandCursor;
use crate::publish::EVENTS_PER_CYCLE;

/// What one pass over the bus found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reconciliation {
    /// The last cycle on the bus; `None` if the bus has no cycles.
    pub(crate) last_cycle: Option<LastCycle>,
    /// The cycle records that the cycle journal lacks, as the bus has them.
    pub(crate) missing_records: Vec<Json>,
    /// The last cycle that the cycle journal has once it holds `missing_records`; `None` without a
    /// cycle journal.
    pub(crate) cycle_journal_end: Option<u64>,
    /// The operator's commands up to the end of the bus.
    pub(crate) command_cursor: CommandCursor,
    /// Irregularities that do not prevent a start, one line each.
    pub(crate) warnings: Vec<String>,
    /// A new run begins after the place where the comparison began. Then the comparison must begin
    /// with the first event.
    pub(crate) has_new_run: bool,
}

/// Where a comparison begins: after a cycle that journal and bus have, which is complete on the
/// bus. The default is the start of both.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ReconcileStart {
    pub(crate) cycle_id: u64,
    /// The place after its decision in the journal.
    pub(crate) journal: FileStart,
    /// A later place on the bus, at which the state contains every command.
    pub(crate) cursor: CommandCursor,
}

/// The last cycle on the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LastCycle {
    pub(crate) cycle_id: u64,
    /// How many of its events are on the bus.
    pub(crate) published_events: usize,
    /// The recovery part of its cycle record.
    pub(crate) recovery: Json,
}

/// Reads the decisions of the last run on a bus, in order.
///
/// # Errors
/// Any error of reading the bus; [`Mismatch::CycleMissing`] if the run on the bus is incomplete.
pub(crate) fn read_decisions(reader: &Reader) -> Result<Vec<Decision>> {
    read_decisions_up_to(reader, u64::MAX)
}

/// As [`read_decisions`], from the events up to the one with index `last`.
pub(crate) fn read_decisions_up_to(reader: &Reader, last: u64) -> Result<Vec<Decision>> {
    Ok(read_decisions_between(reader, &ReconcileStart::default(), last)?.unwrap_or_default())
}

/// Like [`read_decisions`], for the decisions after a place. Returns `None` if a new run begins
/// after it.
///
/// # Errors
/// As [`read_decisions`].
pub(crate) fn read_decisions_after(reader: &Reader, start: &ReconcileStart) -> Result<Option<Vec<Decision>>> {
    read_decisions_between(reader, start, u64::MAX)
}

fn read_decisions_between(
    reader: &Reader,
    start: &ReconcileStart,
    last: u64,
) -> Result<Option<Vec<Decision>>> {
    let mut classifier = CycleClassifier::after(start.cycle_id);
    let mut decisions: Vec<(u64, Decision)> = Vec::new();
    for event in reader.events(start.cursor.last().index + 1)? {
        // The cycle record contains the decision, so a cycle whose other events are missing counts
        // as well.
        let event = event?;
        if event.index > last {
            break;
        }
        let cycle = match classifier.classify(&event) {
            EventClass::CycleStart(cycle) => cycle,
            EventClass::Foreign(_) => {
                check_not_market_cycle(reader, &event)?;
                continue;
            }
            _ => continue,
        };
        if cycle.new_run && start.cycle_id > 0 {
            return Ok(None);
        }
        if cycle.new_run {
            decisions.clear();
        }
        decisions.push((cycle.cycle_id, cycle.decision));
    }
    let missing =
        (start.cycle_id + 1..).zip(&decisions).find(|(expected, (cycle_id, _))| expected != cycle_id);
    if let Some((cycle_id, _)) = missing {
        return Err(Error::reconcile(reader.log_path(), Mismatch::CycleMissing { cycle_id }));
    }
    Ok(Some(decisions.into_iter().map(|(_, decision)| decision).collect()))
}

/// Compares the decisions of the last run on the bus that come after `start` with the journal. In
/// the same pass it collects the cycle records from `first_missing_record` on and the operator's
/// commands. Changes nothing.
///
/// # Errors
/// [`Error::Reconcile`] if a decision differs, or if the bus has a decision that the journal lacks.
pub(crate) fn reconcile(
    journal: &Journal,
    reader: &Reader,
    start: &ReconcileStart,
    first_missing_record: Option<u64>,
) -> Result<Reconciliation> {
    let events = reader.events(first_index(reader, start)?)?;
    reconcile_events(journal, reader, events, start, first_missing_record)
}

/// Returns where a comparison reads the bus. Cycles before the start of its log are retired; the
/// journal has them.
fn first_index(reader: &Reader, start: &ReconcileStart) -> Result<u64> {
    Ok(match start.cursor.last().index {
        0 => reader.first_index()?,
        last => last + 1,
    })
}

/// The state of a decision journal relative to a bus. A runtime may be writing to both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalCheck {
    /// Number of decisions in the journal.
    pub decisions: u64,
    /// Number of decisions after the last cycle on the bus. A runtime that is in the middle of a
    /// cycle has one.
    pub decisions_ahead: u64,
    /// Irregularities that do not prevent a start, one line each.
    pub warnings: Vec<String>,
    /// Length of the unfinished line at the end of the journal.
    pub unfinished_bytes: u64,
}

/// Compares a journal with a bus without locking or changing either.
///
/// # Errors
/// [`Error::Reconcile`] if a decision differs, or if the bus has a decision that the journal lacks;
/// any error of reading one of them.
pub fn check_journal(journal: &Path, reader: &Reader) -> Result<JournalCheck> {
    // The end of the bus is fixed before the journal is read. A runtime writes the journal first,
    // so the journal has every decision up to that end.
    let events = reader.events(reader.first_index()?)?;
    let journal = Journal::File(LineFile::read_only(journal)?);
    let reconciliation = reconcile_events(&journal, reader, events, &ReconcileStart::default(), None)?;
    let mut decisions = 0;
    for entry in journal.entries() {
        entry?;
        decisions += 1;
    }
    let published = reconciliation.last_cycle.map_or(0, |last| last.cycle_id);
    Ok(JournalCheck {
        decisions,
        decisions_ahead: decisions.saturating_sub(published),
        warnings: reconciliation.warnings,
        unfinished_bytes: journal.file().map_or(0, LineFile::unfinished_bytes),
    })
}

fn reconcile_events(
    journal: &Journal,
    reader: &Reader,
    events: Events,
    start: &ReconcileStart,
    first_missing_record: Option<u64>,
) -> Result<Reconciliation> {
    let mut result = Reconciliation {
        cycle_journal_end: first_missing_record.map(|first| first - 1),
        command_cursor: start.cursor.clone(),
        last_cycle: LastCycle::complete(start.cycle_id),
        ..Reconciliation::default()
    };
    let mut classifier = CycleClassifier::after(start.cycle_id);
    let mut comparison = Comparison::after(start, journal, reader);
    // A mismatch counts only if no new run starts after it: the journal belongs to the last run on
    // the bus.
    let mut mismatch = None;
    for event in events {
        let event = event?;
        result.command_cursor.apply(&event);
        match classifier.classify(&event) {
            EventClass::Unrelated => {}
            EventClass::Foreign(warning) => {
                check_not_market_cycle(reader, &event)?;
                result.warnings.push(warning);
            }
            EventClass::CycleStart(cycle) => {
                if cycle.new_run && start.cycle_id > 0 {
                    result.has_new_run = true;
                    return Ok(result);
                }
                if cycle.new_run {
                    result.warnings.push(format!("the cycle numbers restart at {}", event.id()));
                    comparison = Comparison::after(start, journal, reader);
                    mismatch = None;
                    result.missing_records.clear();
                }
                if mismatch.is_none() {
                    match comparison.compare(&cycle, &event) {
                        Ok(warning) => result.warnings.extend(warning),
                        Err(error @ Error::Reconcile { .. }) => mismatch = Some(error),
                        Err(error) => return Err(error),
                    }
                }
                let CycleStart { cycle_id, record, .. } = *cycle;
                if first_missing_record.is_some_and(|first| cycle_id >= first) {
                    result.cycle_journal_end = Some(cycle_id);
                    result.missing_records.push(event.payload.clone());
                }
                let recovery = recovery_of(&record);
                result.last_cycle = Some(LastCycle { cycle_id, published_events: 1, recovery });
            }
            EventClass::CycleContinuation => {
                if let Some(last) = &mut result.last_cycle {
                    last.published_events += 1;
                }
            }
        }
    }
    mismatch.map_or(Ok(result), Err)
}

impl LastCycle {
    /// Returns a cycle that is complete on the bus; `None` for cycle 0.
    fn complete(cycle_id: u64) -> Option<Self> {
        let recovery = Json::empty_object();
        (cycle_id > 0).then_some(Self { cycle_id, published_events: EVENTS_PER_CYCLE, recovery })
    }
}

/// Refuses a bus with a cycle of a run on market data.
fn check_not_market_cycle(reader: &Reader, event: &Event) -> Result<()> {
    let record = event.payload.value();
    if record.get("schema_version").and_then(Value::as_str) != Some(MARKET_CYCLE_SCHEMA) {
        return Ok(());
    }
    let problem = format!(
        "{} is a cycle of a run on market data, and a scenario run cannot continue it; name another bus",
        event.id()
    );
    Err(Error::Refused { path: reader.log_path(), problem })
}

/// Compares the decisions of one run on the bus with a journal, in order. Each journal entry is
/// read once.
struct Comparison<'a> {
    journal: &'a Journal,
    reader: &'a Reader,
    entries: Box<dyn Iterator<Item = Result<JournalEntry>> + 'a>,
    /// Number of the last journal entry that was read.
    position: u64,
}

impl<'a> Comparison<'a> {
    fn after(start: &ReconcileStart, journal: &'a Journal, reader: &'a Reader) -> Self {
        Self { journal, reader, entries: journal.entries_after(start.journal), position: start.cycle_id }
    }

    /// Advances the journal to a cycle and compares the two decisions. Returns a warning if the bus
    /// lacks cycles before this one.
    fn compare(&mut self, start: &CycleStart, event: &Event) -> Result<Option<String>> {
        let cycle_id = start.cycle_id;
        let first_skipped = self.position + 1;
        let entry = self.advance_to(cycle_id, event)?;
        if entry.decision != start.decision {
            return Err(self.mismatch(Mismatch::DecisionDiffers {
                line: entry.line,
                byte_offset: entry.location,
                log: self.reader.log_path(),
                event_index: event.index,
                cycle_id,
            }));
        }
        Ok((first_skipped < cycle_id).then(|| {
            format!("the bus lacks the cycles {first_skipped} to {}, which are in the journal", cycle_id - 1)
        }))
    }

    fn advance_to(&mut self, cycle_id: u64, event: &Event) -> Result<JournalEntry> {
        loop {
            let Some(entry) = self.entries.next().transpose()? else {
                return Err(self.mismatch(Mismatch::BusAhead {
                    decisions: self.position,
                    unfinished_bytes: self.journal.file().map_or(0, LineFile::unfinished_bytes),
                    log: self.reader.log_path(),
                    event_index: event.index,
                    cycle_id,
                }));
            };
            self.position += 1;
            if self.position >= cycle_id {
                return Ok(entry);
            }
        }
    }

    fn mismatch(&self, mismatch: Mismatch) -> Error {
        Error::reconcile(self.journal.path(), mismatch)
    }
}

/// Writes a new journal at `path` that has these decisions, see [`replace_journal`].
///
/// # Errors
/// As [`replace_journal`].
pub(crate) fn rebuild_journal(path: &Path, decisions: &[Decision]) -> Result<Option<String>> {
    replace_journal(path, |file| decisions.iter().try_for_each(|decision| file.append(decision).map(drop)))
}

/// Writes a new journal at `path`, with what `write` appends to it. An existing journal is renamed,
/// never removed; returns a message with its new name.
///
/// # Errors
/// [`Error::Io`], or the error of `write`. The old journal is then still at `path`, or under its
/// new name.
pub(crate) fn replace_journal(
    path: &Path,
    write: impl FnOnce(&mut LineFile) -> Result<()>,
) -> Result<Option<String>> {
    let io = |action| Error::io(action, path);
    let temporary = unused_name(path, "rebuilt");
    let mut file = LineFile::open(&temporary)?;
    write(&mut file)?;
    file.sync()?;
    // `symlink_metadata` also sees a dangling link, which `exists` does not.
    let kept = if path.symlink_metadata().is_ok() {
        let kept = unused_name(path, "before-rebuild");
        std::fs::rename(path, &kept).map_err(io("rename the old journal"))?;
        Some(format!("the old journal is kept in {}", kept.display()))
    } else {
        None
    };
    std::fs::rename(&temporary, path).map_err(io("rename the new journal to it"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(io("sync the directory of"))?;
    Ok(kept)
}

/// Returns the first unused name of the form `PATH.KIND-N`.
fn unused_name(path: &Path, kind: &str) -> PathBuf {
    let mut names = (1..=u64::MAX).map(|n| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{kind}-{n}"));
        PathBuf::from(name)
    });
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| path.to_owned())
}
