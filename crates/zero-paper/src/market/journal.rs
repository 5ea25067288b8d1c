//! The journal of a run on market data: one line per cycle with all of its events, written and
//! synced before anything of the cycle reaches the bus.

use std::path::Path;

use serde::Serialize;
use zero_bus::{Json, Value};

use crate::cycle::trace_id;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::event_types;
use crate::field::{Field, Problem};
use crate::journal::MARKET_JOURNAL_SCHEMA;
use crate::line_file::{FileStart, LineFile, LinePosition};

use super::events::TypedPayload;
use super::record::{RecordedBar, RecordedCycle};

/// The `schema_version` of a journal line.
pub const JOURNAL_SCHEMA: &str = MARKET_JOURNAL_SCHEMA;

/// A cycle as the journal has it: exactly the events that the cycle appends to the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct CycleEvents {
    /// Time of the cycle, in seconds since the Unix epoch.
    pub as_of: f64,
    /// Number of the cycle.
    pub cycle_id: u64,
    /// Its events, in order.
    pub events: Vec<TypedPayload>,
}

#[derive(Serialize)]
struct Line<'a> {
    as_of: f64,
    cycle_id: u64,
    events: Vec<LineEvent<'a>>,
    schema_version: &'a str,
    trace_id: String,
}

#[derive(Serialize)]
struct LineEvent<'a> {
    event_type: &'a str,
    payload: &'a Json,
}

/// The types of the events that a cycle can have.
const TYPES: [&str; 10] = [
    event_types::OBSERVATION,
    event_types::CYCLE,
    event_types::STRATEGY_FAILED,
    event_types::FILL,
    event_types::ORDER_EXPIRED,
    event_types::DECISION,
    event_types::REJECTION,
    event_types::ORDER_OPEN,
    event_types::POSITIONS,
    event_types::HEALTH,
];

impl CycleEvents {
    /// Reads a journal line.
    ///
    /// # Errors
    /// The path of the invalid field and the problem with it.
    pub fn from_value(line: &Value) -> Result<Self, String> {
        let root = Field::root(line);
        root.check_schema(JOURNAL_SCHEMA)?;
        let cycle_id = root.required("cycle_id")?.count()?;
        let trace = root.required("trace_id")?;
        if trace.text()? != trace_id(cycle_id) {
            return Err(trace.problem("is not that of the cycle"));
        }
        let events = root.required("events")?;
        let events = events.items()?.map(|event| read_event(&event)).collect::<Result<_, _>>()?;
        Ok(Self { as_of: root.required("as_of")?.number()?, cycle_id, events })
    }

    /// Appends the cycle as a line. It is durable once the file is synced.
    pub(super) fn append_to(&self, file: &mut LineFile) -> Result<u64> {
        let events = self.events.iter();
        let events = events.map(|(event_type, payload)| LineEvent { event_type, payload }).collect();
        let Self { as_of, cycle_id, .. } = *self;
        let trace_id = trace_id(cycle_id);
        file.append(&Line { as_of, cycle_id, events, schema_version: JOURNAL_SCHEMA, trace_id })
    }
}

fn read_event(event: &Field<'_>) -> Result<TypedPayload, Problem> {
    let event_type = event.required("event_type")?;
    let name = event_type.text()?;
    let known = TYPES.into_iter().find(|known| *known == name);
    let known = known.ok_or_else(|| event_type.problem(&format!("`{name}` is not an event of a cycle")))?;
    Ok((known, event.required("payload")?.json()?))
}

/// A line of a journal.
pub(super) struct JournalLine<'a> {
    path: &'a Path,
    position: LinePosition,
    value: &'a Value,
}

impl JournalLine<'_> {
    /// Reads the observation and the cycle record.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub(super) fn recorded(&self) -> Result<(RecordedBar, RecordedCycle)> {
        let read = || -> Result<_, Problem> {
            let root = Field::root(self.value);
            let cycle_id = root.required("cycle_id")?;
            let events = root.required("events")?;
            let mut events = events.items()?;
            let mut next = |expected: &str| match events.next() {
                Some(event) if event.required("event_type")?.text()? == expected => {
                    Ok::<_, Problem>(event.required("payload")?)
                }
                _ => Err("does not begin with an observation and a cycle record".to_owned()),
            };
            let bar = RecordedBar::from_value(next(event_types::OBSERVATION)?.value())?;
            let cycle = RecordedCycle::from_value(next(event_types::CYCLE)?.value())?;
            match cycle.cycle_id == cycle_id.count()? {
                true => Ok((bar, cycle)),
                false => Err("has the record of another cycle".to_owned()),
            }
        };
        read().map_err(|problem| self.problem(problem))
    }

    /// Reads all events.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub(super) fn events(&self) -> Result<CycleEvents> {
        CycleEvents::from_value(self.value).map_err(|problem| self.problem(problem))
    }

    /// Returns an error that names the line.
    pub(super) fn problem(&self, problem: String) -> Error {
        let LinePosition { line, byte_offset } = self.position;
        Error::Journal { path: self.path.to_owned(), line, byte_offset, problem }
    }
}

/// The journal, in a file.
pub struct MarketJournal(LineFile);

impl MarketJournal {
    /// Opens and locks a journal. Creates it if it is missing.
    ///
    /// # Errors
    /// As [`LineFile::open`]; [`Error::Refused`] for the journal of a scenario run.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(LineFile::open(path)?)
    }

    /// Takes an opened file as a journal.
    ///
    /// # Errors
    /// [`Error::Refused`] for the journal of a scenario run.
    pub fn of(file: LineFile) -> Result<Self> {
        // An unreadable first line is for `read` to report.
        let first = file.lines().next().ok().flatten();
        if first.is_some_and(|(_, text)| Decision::parse(&text).is_ok()) {
            let problem = "is the journal of a scenario run; name another journal".to_owned();
            return Err(Error::Refused { path: file.path().to_owned(), problem });
        }
        Ok(Self(file))
    }

    /// Passes each line after a place to `each`, in order. An incomplete or spoiled last line,
    /// which a crash can leave, is left for [`LineFile::repair_tail`].
    ///
    /// # Errors
    /// Any error of reading the file, or of `each`.
    pub(super) fn read_after(
        &mut self,
        start: FileStart,
        mut each: impl FnMut(&JournalLine<'_>) -> Result<()>,
    ) -> Result<()> {
        let path = self.0.path().to_owned();
        let mut result = Ok(());
        self.0.read_records_after(start, JOURNAL_SCHEMA, true, |position, value| {
            if result.is_ok() {
                result = each(&JournalLine { path: &path, position, value: &value });
            }
        })?;
        result
    }

    /// Reads the record of a cycle, which bisection finds; `None` if the journal does not have it.
    ///
    /// # Errors
    /// [`Error::Journal`] if a line that it meets is not a cycle.
    pub(super) fn cycle(&self, cycle_id: u64) -> Result<Option<RecordedCycle>> {
        // The cycle begins at or after `low` and before `high`.
        let (mut low, mut high) = (0, self.0.complete_bytes());
        while low < high {
            let middle = low + (high - low) / 2;
            let Some((byte_offset, text)) = self.0.first_line_from(middle, low)? else {
                high = middle;
                continue;
            };
            if byte_offset >= high {
                high = middle;
                continue;
            }
            let position = LinePosition { line: 0, byte_offset };
            let value = Value::parse(&text).unwrap_or(Value::Null);
            let line = JournalLine { path: self.0.path(), position, value: &value };
            let found = Field::root(&value).required("cycle_id").and_then(|id| id.count());
            match found.map_err(|problem| line.problem(problem))? {
                found if found == cycle_id => return line.recorded().map(|(_, cycle)| Some(cycle)),
                found if found < cycle_id => low = byte_offset + text.len() as u64,
                _ => high = middle,
            }
        }
        Ok(None)
    }

    /// Appends a cycle and syncs it. Returns the byte offset of its line. This is the commit point
    /// of a cycle: nothing of it may reach the bus before.
    ///
    /// # Errors
    /// As [`LineFile::append`].
    pub fn append(&mut self, cycle: &CycleEvents) -> Result<u64> {
        let byte_offset = cycle.append_to(&mut self.0)?;
        self.0.sync()?;
        Ok(byte_offset)
    }

    /// Returns the file.
    pub fn file(&self) -> &LineFile {
        &self.0
    }

    /// Returns the file, for repairs and syncs.
    pub(super) fn file_mut(&mut self) -> &mut LineFile {
        &mut self.0
    }
}
