//! The start-up checkpoint: the state of a runtime after a cycle, so that a start need not read all
//! records.
//!
//! It is a companion of the records and never evidence about them. It names the last event of the
//! bus and the last line of each journal that its state follows from. A start uses it only if all
//! of them are still there; otherwise it reads and compares all records. Deleting it loses nothing.
//!
//! A checkpoint is written as a whole and synced, after every [`CHECKPOINT_CYCLES`] cycles and at
//! the end of a run. The keys that were used before it are in a key index next to it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use zero_bus::storage::{Access, Storage, replace};
use zero_bus::{Checksum, Head, Json, Reader, Value};

use crate::error::{Error, Result};
use crate::field::{Field, Problem};
use crate::key_index::{IndexIdentity, KeyIndex};
use crate::line_file::{FileHead, LineFile};
use crate::operator::{CommandCursor, CommandsInForce};
use crate::used_keys::UsedKeys;

/// Cycles from one checkpoint to the next. A start reads at most about this many.
pub const CHECKPOINT_CYCLES: u64 = 256;

/// The name of the checkpoint in a bus directory. Without a bus, the name of the journal and a dot
/// precede it.
pub const CHECKPOINT: &str = "start-checkpoint.json";

/// The name of the key index in a bus directory, as that of [`CHECKPOINT`].
pub const KEY_INDEX: &str = "key-index";

/// The `schema_version` of a checkpoint.
pub const CHECKPOINT_SCHEMA: &str = "zero.runtime.start-checkpoint.v1";

/// The longest name of a file on the usual file systems.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// A checkpoint is at most this long. The state of a strategy and what it remembers fit.
const MAX_BYTES: u64 = 32 << 20;

/// How a runtime uses start-up checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Read and compare all records on start, whatever the checkpoint says.
    pub full_check: bool,
    /// Cycles from one checkpoint to the next, at least 1. A run without a checkpoint gets its
    /// first one after as many.
    pub every_cycles: u64,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self { full_check: false, every_cycles: CHECKPOINT_CYCLES }
    }
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StartCheckpoint {
    /// What the run is: its kind, name, limits and rules. With others, the records are compared in
    /// full.
    pub(crate) run: Json,
    /// The last cycle that the state contains.
    pub(crate) cycle_id: u64,
    /// The last event of the bus that the state contains, and the commands in force there.
    pub(crate) bus: Option<CommandCursor>,
    /// The last line of the journal that the state contains.
    pub(crate) journal: Option<FileHead>,
    /// The last line of the cycle journal.
    pub(crate) cycle_journal: Option<FileHead>,
    /// The key index when the checkpoint was written.
    pub(crate) key_index: IndexIdentity,
    /// The state, in the form of the kind of run.
    pub(crate) state: Json,
}

/// The keys that were used before a checkpoint.
#[derive(Default)]
pub(crate) struct EarlierKeys {
    pub(crate) used: UsedKeys,
    /// Number of keys that the index has in addition. A process that ended before it had written
    /// its checkpoint leaves them, and then the records after the checkpoint have them as well.
    pub(crate) later: u64,
}

impl EarlierKeys {
    /// What to say if the records do not have the keys: they were replaced by older ones.
    pub(crate) const UNEXPLAINED: &str = "the key index has keys that the records do not have";
}

/// Where the checkpoint and the key index of a runtime are.
#[derive(Clone)]
pub(crate) struct Companions {
    storage: Arc<dyn Storage>,
    prefix: String,
}

/// When a runtime writes its checkpoints.
pub(crate) struct Checkpoints {
    /// `None` if the runtime keeps no records.
    pub(crate) companions: Option<Companions>,
    pub(crate) options: CheckpointOptions,
    /// The cycle of the checkpoint that the start began with; 0 if it read all records.
    pub(crate) started_after: u64,
    /// The cycle of the last checkpoint; 0 without one.
    pub(crate) last_cycle_id: u64,
    /// Why the last one could not be written.
    pub(crate) problem: Option<String>,
}

impl Checkpoints {
    pub(crate) fn new(companions: Option<Companions>, options: CheckpointOptions) -> Self {
        Self { companions, options, started_after: 0, last_cycle_id: 0, problem: None }
    }

    /// Notes that the start began with the checkpoint of a cycle.
    pub(crate) fn start_after(&mut self, cycle_id: u64) {
        self.started_after = cycle_id;
        self.last_cycle_id = cycle_id;
    }

    /// Whether a checkpoint is due after a cycle.
    pub(crate) fn is_due(&self, cycle_id: u64) -> bool {
        let cycles = cycle_id.saturating_sub(self.last_cycle_id);
        self.companions.is_some() && cycles >= self.options.every_cycles
    }

    /// Whether one is due when a run ends. A run that is too short for a checkpoint gets none.
    pub(crate) fn is_due_at_end(&self, cycle_id: u64) -> bool {
        let is_long = cycle_id >= self.options.every_cycles;
        self.companions.is_some() && is_long && cycle_id > self.last_cycle_id
    }

    /// Notes that one was written after a cycle, or why not. The next one is due later.
    pub(crate) fn note(&mut self, cycle_id: u64, written: Result<()>) {
        self.last_cycle_id = cycle_id;
        self.problem = written.err().map(|error| error.to_string());
    }
}

/// Why a start does not use a checkpoint.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// There is none.
    Missing,
    /// There is one, but it has this problem.
    Problem(String),
}

impl Unusable {
    /// Returns what to tell the operator after a start has read all records. A missing checkpoint
    /// of a run that is too short for one is nothing to tell of.
    pub(crate) fn warning(&self, checkpoints: &Checkpoints, cycles: u64) -> Option<String> {
        let problem = match self {
            Self::Missing if cycles < checkpoints.options.every_cycles => return None,
            Self::Missing => "is missing",
            Self::Problem(problem) => problem,
        };
        let path = checkpoints.companions.as_ref()?.path();
        Some(format!("{}: not used: {problem}; the start compared all {cycles} cycles", path.display()))
    }
}

impl Companions {
    /// Returns the companions of a runtime; `None` if it keeps no records, or if the name of an old
    /// journal leaves no room for theirs.
    pub(crate) fn of(bus: Option<&Arc<dyn Storage>>, journal: Option<&LineFile>) -> Option<Self> {
        match (bus, journal) {
            (Some(storage), _) => Some(Self { storage: Arc::clone(storage), prefix: String::new() }),
            (None, Some(journal)) => {
                let (storage, name) = journal.storage();
                // A file is replaced through a longer name.
                let longest = format!("{name}.{CHECKPOINT}.tmp").len();
                (longest <= MAX_NAME_BYTES).then(|| Self { storage, prefix: format!("{name}.") })
            }
            (None, None) => None,
        }
    }

    fn checkpoint_name(&self) -> String {
        format!("{}{CHECKPOINT}", self.prefix)
    }

    fn key_index_name(&self) -> String {
        format!("{}{KEY_INDEX}", self.prefix)
    }

    /// The path of the checkpoint, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.storage.path(&self.checkpoint_name())
    }

    /// Reads the checkpoint and checks that it matches the records. Returns it with the keys that
    /// were used before it.
    ///
    /// # Errors
    /// [`Error::Io`]; any error of reading a journal.
    pub(crate) fn find(
        &self,
        run: &Json,
        bus: Option<&Reader>,
        journal: Option<&LineFile>,
        cycle_journal: Option<&LineFile>,
    ) -> Result<Result<(StartCheckpoint, EarlierKeys), Unusable>> {
        let checkpoint = match self.read()? {
            Ok(checkpoint) => checkpoint,
            Err(unusable) => return Ok(Err(unusable)),
        };
        if let Err(problem) = checkpoint.check(run, bus, journal, cycle_journal)? {
            return Ok(Err(Unusable::Problem(problem)));
        }
        let (storage, name) = (Arc::clone(&self.storage), self.key_index_name());
        let opened = KeyIndex::open(storage, name, checkpoint.key_index.id)?;
        let index = match opened {
            Ok(index) => index,
            Err(problem) => return Ok(Err(Unusable::Problem(format!("the key index {problem}")))),
        };
        let expected = checkpoint.key_index.entries;
        Ok(match index.identity().entries.checked_sub(expected) {
            Some(later) => Ok((checkpoint, EarlierKeys { used: UsedKeys::in_index(index), later })),
            None => Err(Unusable::Problem("the key index has fewer keys than it names".to_owned())),
        })
    }

    /// Reads the checkpoint and checks its seal.
    fn read(&self) -> Result<Result<StartCheckpoint, Unusable>> {
        let path = self.path();
        let file = match self.storage.open(&self.checkpoint_name(), Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(Unusable::Missing)),
            Err(error) => return Err(Error::io("open it", &path)(error)),
        };
        let size = file.size().map_err(Error::io("read its size", &path))?;
        if size > MAX_BYTES {
            return Ok(Err(Unusable::Problem(format!("it is longer than {MAX_BYTES} bytes"))));
        }
        let (mut bytes, mut filled) = (vec![0; size as usize], 0);
        while filled < bytes.len() {
            let read = file.read_at(&mut bytes[filled..], filled as u64);
            match read.map_err(Error::io("read it", &path))? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(unseal(&bytes).map_err(Unusable::Problem))
    }

    /// Replaces the checkpoint, durably.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, checkpoint: &StartCheckpoint) -> Result<()> {
        let content = checkpoint.to_json()?;
        let seal = Checksum::of(content.as_str().as_bytes());
        let text = format!("{{\"checkpoint\":{content},\"seal\":\"{seal}\"}}\n");
        replace(&*self.storage, &self.checkpoint_name(), text.as_bytes())
            .map_err(Error::io("replace it", &self.path()))
    }

    /// Empties the checkpoint, so that no start uses it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn discard(&self) -> Result<()> {
        match self.storage.open(&self.checkpoint_name(), Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => drop(opened.map_err(Error::io("open it", &self.path()))?),
        }
        replace(&*self.storage, &self.checkpoint_name(), b"").map_err(Error::io("empty it", &self.path()))
    }

    /// Creates an empty key index. The checkpoint of the one before is discarded first.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn create_key_index(&self, id: u64) -> Result<KeyIndex> {
        self.discard()?;
        KeyIndex::create(Arc::clone(&self.storage), self.key_index_name(), id)
    }
}

/// Returns the operator's commands in force at the event that the start-up checkpoint of a bus
/// names, and the index of that event. Without a checkpoint that matches the log, no command, and
/// index 0: the caller applies the events that follow. Reads only the checkpoint and that event.
///
/// # Errors
/// [`Error::Io`].
pub fn recorded_commands(bus: Arc<dyn Storage>, reader: &Reader) -> Result<(CommandsInForce, u64)> {
    let checkpoint = Companions { storage: bus, prefix: String::new() }.read()?;
    let cursor = checkpoint.ok().and_then(|checkpoint| checkpoint.bus);
    // An error there is for whoever reads on.
    let cursor = cursor.filter(|cursor| reader.contains(cursor.last()).unwrap_or(false));
    Ok(cursor.map_or_else(Default::default, |cursor| (cursor.commands_in_force.clone(), cursor.last().index)))
}

/// Returns an id for a new key index that differs from that of other records.
pub(crate) fn key_index_id(run: &Json, bus: Option<Head>, journal: Option<FileHead>) -> u64 {
    let text = format!("{run} {bus:?} {journal:?}");
    let checksum = Checksum::of(text.as_bytes());
    checksum.as_bytes().iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

impl StartCheckpoint {
    fn to_json(&self) -> Result<Json> {
        #[derive(Serialize)]
        struct Form<'a> {
            bus: Option<Json>,
            cycle_id: u64,
            cycle_journal: Option<FileHead>,
            journal: Option<FileHead>,
            key_index: IndexIdentity,
            run: &'a Json,
            schema_version: &'a str,
            state: &'a Json,
        }
        Ok(Json::of(&Form {
            bus: self.bus.as_ref().map(CommandCursor::to_json).transpose()?,
            cycle_id: self.cycle_id,
            cycle_journal: self.cycle_journal,
            journal: self.journal,
            key_index: self.key_index,
            run: &self.run,
            schema_version: CHECKPOINT_SCHEMA,
            state: &self.state,
        })?)
    }

    fn read(field: &Field<'_>) -> Result<Self, Problem> {
        field.check_schema(CHECKPOINT_SCHEMA)?;
        let key_index = field.required("key_index")?;
        let head = |key| field.optional_unless_null(key).map(|head| FileHead::read(&head)).transpose();
        Ok(Self {
            run: field.required("run")?.json()?,
            cycle_id: field.required("cycle_id")?.count()?,
            bus: field.optional_unless_null("bus").map(|bus| CommandCursor::read(&bus)).transpose()?,
            journal: head("journal")?,
            cycle_journal: head("cycle_journal")?,
            key_index: IndexIdentity {
                entries: key_index.required("entries")?.count()?,
                id: key_index.required("id")?.count()?,
            },
            state: field.required("state")?.json()?,
        })
    }

    /// Checks that the records are those that the checkpoint was made of: the same run, and each of
    /// them still holds the event or line that the checkpoint names. Returns what differs.
    ///
    /// # Errors
    /// Any error of reading a journal. The bus is read by whoever uses the checkpoint, and an error
    /// there only makes it unusable here.
    pub(crate) fn check(
        &self,
        run: &Json,
        bus: Option<&Reader>,
        journal: Option<&LineFile>,
        cycle_journal: Option<&LineFile>,
    ) -> Result<Result<(), String>> {
        let differs = |what: &str| Ok(Err(what.to_owned()));
        if self.run != *run {
            return differs("the run has another kind, name, limits or rules");
        }
        match (&self.bus, bus) {
            (None, None) => {}
            (Some(cursor), Some(reader)) => match reader.contains(cursor.last()) {
                Ok(true) => {}
                Ok(false) => return differs("the bus does not have its last event"),
                Err(error) => return Ok(Err(format!("the bus cannot be read there: {error}"))),
            },
            _ => return differs("it was made with a bus, or without one"),
        }
        match (self.journal, journal) {
            (None, None) => {}
            (Some(head), Some(file)) if file.has_head(head)? => {}
            (Some(_), Some(_)) => return differs("the journal does not have its last line"),
            _ => return differs("it was made with a journal, or without one"),
        }
        match (self.cycle_journal, cycle_journal.filter(|file| file.existed())) {
            (_, None) => {}
            (Some(head), Some(file)) if file.has_head(head)? => {}
            (Some(_), Some(_)) => return differs("the cycle journal does not have its last line"),
            (None, Some(_)) => return differs("it was made without the cycle journal"),
        }
        Ok(Ok(()))
    }
}

fn unseal(bytes: &[u8]) -> Result<StartCheckpoint, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let parse = || Value::parse(std::str::from_utf8(bytes).ok()?).ok();
    let document = parse().ok_or("it is not JSON")?;
    let root = Field::root(&document);
    let content = root.required("checkpoint")?;
    let seal = Checksum::of(content.json()?.as_str().as_bytes());
    if root.required("seal")?.text()? != seal.to_string() {
        return Err("it does not have the checksum that it names".to_owned());
    }
    StartCheckpoint::read(&content)
}
