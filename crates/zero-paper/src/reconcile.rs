//! Whether journal and bus tell the same story. They are written one after the other, so a crash leaves the journal ahead
//! by a decision, or the bus in the middle of a cycle; anything else is nobody's crash.

use std::path::{Path, PathBuf};

use zero_bus::{Event, Events, Json, Reader, Value};

use crate::cycle::{CYCLE_SCHEMA, trace_id};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalEntry};
use crate::line_file::LineFile;
use crate::operator::CommandCursor;
use crate::publish;

/// How many events a cycle has.
pub(crate) const CYCLE_EVENTS: usize = 5;

/// What comparing the two came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reconciliation {
    /// The last cycle on the bus, and how many of its events are there; `None` where the bus has no cycles.
    pub(crate) last: Option<Published>,
    /// The last cycle that the cycle journal has afterwards, where it has one.
    pub(crate) cycles_to: Option<u64>,
    /// The records of the cycles behind `cycles_from`, as the bus has them.
    pub(crate) cycles: Vec<Json>,
    /// What the operator has said on the bus.
    pub(crate) command_cursor: CommandCursor,
    /// What somebody should know, though it is in nobody's way.
    pub(crate) warnings: Vec<String>,
}

/// A cycle on the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Published {
    pub(crate) cycle_id: u64,
    /// How many of its [`CYCLE_EVENTS`].
    pub(crate) events: usize,
    /// How its process came by its state, as its record says.
    pub(crate) recovery: Json,
}

/// The decisions that are on a bus, those of its last run of cycles from the first on, in their order.
///
/// # Errors
/// What keeps the bus from being read; a bus that lacks one of them.
pub(crate) fn decisions_on(reader: &Reader) -> Result<Vec<Decision>> {
    let mut cycles = Cycles::default();
    let mut decisions: Vec<(u64, Decision)> = Vec::new();
    for event in reader.events(1)? {
        // The first event of a cycle holds its decision, and may be all that is there of it.
        let Met::Begun(begun) = cycles.meet(&event?) else { continue };
        if begun.anew {
            decisions.clear();
        }
        decisions.push((begun.cycle_id, begun.decision));
    }
    if let Some(position) =
        decisions.iter().zip(1..).position(|((cycle_id, _), expected)| *cycle_id != expected)
    {
        let problem = format!(
            "lacks the decision of cycle {}, so no state can be made from it; name the journal that has it, or another bus",
            position + 1
        );
        return Err(Error::Refused { path: log(reader), problem });
    }
    Ok(decisions.into_iter().map(|(_, decision)| decision).collect())
}

/// Holds the journal against the bus, decision by decision, gathers the cycle records from a cycle on, and hears what the
/// operator said: the bus is read once.
///
/// # Errors
/// [`Error::Refused`] naming both places where they disagree, or where the bus has decisions that the journal lacks.
pub(crate) fn compare(
    journal: &Journal,
    reader: &Reader,
    cycles_from: Option<u64>,
) -> Result<Reconciliation> {
    compare_with(journal, reader, reader.events(1)?, cycles_from)
}

/// How a journal stands to a bus, both of which may be written to meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalCheck {
    /// Decisions in the journal.
    pub decisions: u64,
    /// Decisions behind the last cycle of the bus; one is on its way while a runtime is in the middle of a cycle.
    pub decisions_ahead: u64,
    /// What somebody should know, though it is in nobody's way.
    pub warnings: Vec<String>,
    /// Bytes of an unfinished line at the end of the journal.
    pub unfinished_bytes: u64,
}

/// Holds a journal against a bus without locking or changing either.
///
/// # Errors
/// [`Error::Refused`] naming both places where they disagree, or where the bus has decisions that the journal lacks;
/// what keeps one of them from being read.
pub fn check_journal(journal: &Path, reader: &Reader) -> Result<JournalCheck> {
    // What is on the bus by now, was in the journal before.
    let events = reader.events(1)?;
    let journal = Journal::File(LineFile::read_only(journal)?);
    let agreement = compare_with(&journal, reader, events, None)?;
    let mut decisions = 0;
    for decision in journal.decisions() {
        decision?;
        decisions += 1;
    }
    let published = agreement.last.map_or(0, |last| last.cycle_id);
    Ok(JournalCheck {
        decisions,
        decisions_ahead: decisions.saturating_sub(published),
        warnings: agreement.warnings,
        unfinished_bytes: journal.file().map_or(0, LineFile::unfinished_bytes),
    })
}

fn compare_with(
    journal: &Journal,
    reader: &Reader,
    events: Events,
    cycles_from: Option<u64>,
) -> Result<Reconciliation> {
    let mut agreement =
        Reconciliation { cycles_to: cycles_from.map(|from| from - 1), ..Reconciliation::default() };
    let mut decisions = journal.decisions();
    let mut position = 0;
    let mut cycles = Cycles::default();
    // Where the journal differs from a run that turns out not to be the last one, it is another run's.
    let mut differs = None;
    for event in events {
        let event = event?;
        agreement.command_cursor.hear(&event);
        match cycles.meet(&event) {
            Met::Nothing => {}
            Met::Foreign(warning) => agreement.warnings.push(warning),
            Met::Begun(begun) => {
                let Begun { cycle_id, decision, record, anew } = *begun;
                if anew {
                    agreement.warnings.push(format!("the cycles begin anew at {}", event.id()));
                    decisions = journal.decisions();
                    (position, differs) = (0, None);
                    agreement.cycles.clear();
                }
                if differs.is_none() {
                    let caught_up = catch_up(
                        &mut decisions,
                        &mut position,
                        (cycle_id, &decision),
                        &event.id(),
                        journal,
                        reader,
                    );
                    match caught_up {
                        Ok(skipped) => agreement.warnings.extend(skipped),
                        Err(error @ Error::Refused { .. }) => differs = Some(error),
                        Err(error) => return Err(error),
                    }
                }
                if cycles_from.is_some_and(|from| cycle_id >= from) {
                    agreement.cycles_to = Some(cycle_id);
                    agreement.cycles.push(event.payload.clone());
                }
                let recovery = record.get("observe").and_then(|observe| observe.get("recovery"));
                let recovery = recovery.and_then(|recovery| Json::try_from(recovery).ok());
                agreement.last = Some(Published {
                    cycle_id,
                    events: 1,
                    recovery: recovery.unwrap_or_else(Json::empty_object),
                });
            }
            Met::Further => {
                if let Some(last) = &mut agreement.last {
                    last.events += 1;
                }
            }
        }
    }
    differs.map_or(Ok(agreement), Err)
}

/// Tells the runtime's own events on a bus from others under their names.
#[derive(Default)]
pub(crate) struct Cycles {
    /// The cycle that was met last, and its trace.
    last: u64,
    trace: Option<String>,
    /// What its other events hold, as its record says.
    rest: Vec<(&'static str, Json)>,
    /// How many of them were met.
    met: usize,
}

/// What an event is to the cycles.
pub(crate) enum Met {
    /// None of their events, also where it has the trace of one.
    Nothing,
    /// It calls itself a cycle.
    Foreign(String),
    /// The first event of a cycle.
    Begun(Box<Begun>),
    /// The next one of the cycle that was begun last.
    Further,
}

/// The first event of a cycle.
pub(crate) struct Begun {
    pub(crate) cycle_id: u64,
    pub(crate) decision: Decision,
    /// Its payload.
    pub(crate) record: Value,
    /// Numbered anew from 1: what stands before is another run's.
    pub(crate) anew: bool,
}

impl Cycles {
    /// Looks at the next event.
    pub(crate) fn meet(&mut self, event: &Event) -> Met {
        let Some(cycle_id) = cycle_of(event) else { return Met::Nothing };
        if event.event_type == "runtime.cycle" {
            return self.begin(cycle_id, event);
        }
        let next = self.rest.get(self.met).filter(|_| self.trace == event.trace_id);
        match next {
            Some((event_type, payload)) if *event_type == event.event_type && *payload == event.payload => {
                self.met += 1;
                Met::Further
            }
            _ => Met::Nothing,
        }
    }

    fn begin(&mut self, cycle_id: u64, event: &Event) -> Met {
        let foreign = |why: &str| {
            Met::Foreign(format!(
                "{} on the bus calls itself cycle {cycle_id} and {why}; it is passed over",
                event.id()
            ))
        };
        let record = event.payload.value();
        let Some((decision, rest)) = read(cycle_id, &record) else { return foreign("is no record of one") };
        if cycle_id <= self.last && cycle_id != 1 {
            return foreign(&format!("stands behind cycle {}", self.last));
        }
        let anew = self.last > 0 && cycle_id == 1;
        (self.last, self.trace, self.rest, self.met) = (cycle_id, event.trace_id.clone(), rest.into(), 0);
        Met::Begun(Box::new(Begun { cycle_id, decision, record, anew }))
    }
}

/// What a cycle record holds: its decision, and what its other events hold. `None` where it is no record of this cycle.
fn read(cycle_id: u64, record: &Value) -> Option<(Decision, [(&'static str, Json); 4])> {
    let is_its_own = record.get("schema_version").and_then(Value::as_str) == Some(CYCLE_SCHEMA)
        && record.get("cycle_id").and_then(Value::as_u64) == Some(cycle_id)
        && cycle_id > 0;
    let decision = record.get("act")?.get("decision").filter(|_| is_its_own)?;
    let decision = Decision::read_value(decision).ok()?;
    let rest = publish::rest_of(record, &decision)?;
    Some((decision, rest))
}

/// Goes on in the journal to the decision of a cycle, and holds it against the one on the bus. Gives a warning where the
/// bus lacks some before it.
fn catch_up(
    decisions: &mut dyn Iterator<Item = Result<JournalEntry>>,
    position: &mut u64,
    (cycle_id, decided): (u64, &Decision),
    event_id: &str,
    journal: &Journal,
    reader: &Reader,
) -> Result<Option<String>> {
    let first = *position + 1;
    let recorded = loop {
        let Some(recorded) = decisions.next().transpose()? else {
            let path = journal.path();
            let rest = match journal.file().map_or(0, LineFile::unfinished_bytes) {
                0 => String::new(),
                bytes => format!(" and {bytes} bytes of an unfinished line"),
            };
            let problem = format!(
                "ends with decision {position}{rest}, but {event_id} in {} is decision {cycle_id}: the bus is ahead; restore the journal, or \
                 make it again from the bus with --rebuild-journal",
                log(reader).display()
            );
            return Err(Error::Refused { path, problem });
        };
        *position += 1;
        if *position >= cycle_id {
            break recorded;
        }
    };
    if recorded.decision != *decided {
        let problem = format!(
            "line {} (byte {}) and {event_id} in {} are both decision {cycle_id}, and differ; restore the one that is wrong, or make \
             the journal again from the bus with --rebuild-journal",
            recorded.line,
            recorded.at,
            log(reader).display()
        );
        return Err(Error::Refused { path: journal.path(), problem });
    }
    Ok((first < cycle_id)
        .then(|| format!("the bus lacks the cycles {first} to {}, which are in the journal", cycle_id - 1)))
}

/// The cycle that an event belongs to.
fn cycle_of(event: &Event) -> Option<u64> {
    cycle_of_trace(event.trace_id.as_deref())
}

/// The cycle of a trace.
pub(crate) fn cycle_of_trace(trace: Option<&str>) -> Option<u64> {
    let trace = trace?;
    let cycle_id = trace.strip_prefix("runtime-cycle-")?.parse().ok()?;
    (trace_id(cycle_id) == trace).then_some(cycle_id)
}

fn log(reader: &Reader) -> PathBuf {
    reader.log_path()
}

/// Writes a journal from decisions, keeping what was in its place under another name. Nothing that is there is removed.
///
/// # Errors
/// What the system reports; the old journal is in its place then, or beside it.
pub(crate) fn rebuild(path: &Path, decisions: &[Decision]) -> Result<Option<String>> {
    let io = |action| Error::io(action, path);
    let fresh = free_name(path, "rebuilt");
    let mut file = LineFile::open(&fresh)?;
    for decision in decisions {
        file.append(decision)?;
    }
    file.sync()?;
    let kept = if path.symlink_metadata().is_ok() {
        let kept = free_name(path, "before-rebuild");
        std::fs::rename(path, &kept).map_err(io("keep the old journal"))?;
        Some(format!("the old journal is kept in {}", kept.display()))
    } else {
        None
    };
    std::fs::rename(&fresh, path).map_err(io("put the new journal in its place"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(io("sync the directory of"))?;
    Ok(kept)
}

/// The first name beside a file, numbered, under which there is nothing.
fn free_name(path: &Path, kind: &str) -> PathBuf {
    let mut names = (1..=u64::MAX).map(|n| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{kind}-{n}"));
        PathBuf::from(name)
    });
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| path.to_owned())
}
