//! Brings a directory of Parquet files up to date with a log.
//!
//! Each table has a subdirectory. A file there holds the rows of a range of events, which its name
//! gives: `fills/000000000001-000001000000.parquet`. A file appears by its rename, complete and
//! synced, and never changes. So the names alone tell what is exported: an export continues each
//! table after its last file, wherever an earlier one was killed.
//!
//! `export.json` binds the directory to the log. It names the event that the export may reach, and
//! is written before the first file that reaches it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use serde::Serialize;
use thiserror::Error;
use zero_bus::storage::{Access, Directory, Storage, StorageFile, replace};
use zero_bus::{Head, Json, LOG, Reader, Value};

use crate::batch::Batch;
use crate::extract::Extractor;
use crate::parquet_file::ParquetFile;
use crate::table::Table;

/// The file that binds an export to its log.
pub const STATE: &str = "export.json";

/// The `schema_version` of [`STATE`].
pub const EXPORT_SCHEMA: &str = "zero.bus.export.v1";

/// The events that a file covers at most, unless the caller has another wish.
pub const EVENTS_PER_FILE: NonZeroU64 = NonZeroU64::new(1_000_000).unwrap();

/// The name under which a file is written, in the directory of its table.
const TEMPORARY: &str = "new.tmp";

/// Longest state that is read.
const MAX_STATE_BYTES: usize = 4096;

/// Why an export failed. What was exported before is complete; a later export continues there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Bus(#[from] zero_bus::Error),
    /// The system refused a file operation.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("{}: cannot write it", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library reports.
        source: ParquetError,
    },
    /// The log is not the exported one, or no longer holds what was exported.
    #[error(
        "{}: the export reaches event {} with the checksum {}, which this log does not hold: it is another log, or was \
         cut or rewritten. Name a new directory",
        path.display(), head.index, head.checksum.map_or_else(String::new, |checksum| checksum.to_string())
    )]
    NotExtended {
        /// The directory of the export.
        path: PathBuf,
        /// The event that the log should hold.
        head: Head,
    },
    /// The directory is in use by another export.
    #[error("{}: another export writes to it; wait until that has ended", path.display())]
    Locked {
        /// The directory of the export.
        path: PathBuf,
    },
    /// The directory is not what an export leaves, or may not hold one.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The caller asked to stop.
    #[error("the export was stopped")]
    Stopped,
}

/// What an export has added.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// Events of the log that the exported tables cover now.
    pub events: u64,
    /// What was added to each table, by name.
    pub tables: BTreeMap<&'static str, ExportedTable>,
}

/// What an export has added to a table.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ExportedTable {
    /// New files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
}

/// Opens the directory of an export, and creates it (0700) if it is missing. Until it is dropped,
/// other exports to this directory are refused.
///
/// # Errors
/// [`ExportError::Invalid`] if the directory is inside the bus or holds a bus,
/// [`ExportError::Locked`], [`ExportError::Io`].
pub fn open_directory(path: &Path, bus: &Path) -> Result<Directory, ExportError> {
    let io_error = |action| move |source| ExportError::Io { path: path.to_owned(), action, source };
    let bus = bus.canonicalize().map_err(io_error("look up the bus for"))?;
    let absolute = std::path::absolute(path).map_err(io_error("look it up"))?;
    let existing = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    if existing.is_some_and(|existing| existing.starts_with(bus)) {
        let problem = "is inside the bus; name a directory elsewhere".to_owned();
        return Err(ExportError::Invalid { path: path.to_owned(), problem });
    }
    if path.join(LOG).exists() {
        let problem = "holds a bus; name a directory of its own".to_owned();
        return Err(ExportError::Invalid { path: path.to_owned(), problem });
    }
    let directory = Directory::create(path).map_err(io_error("open the directory"))?;
    match directory.try_lock_directory().map_err(io_error("lock the directory"))? {
        true => Ok(directory),
        false => Err(ExportError::Locked { path: path.to_owned() }),
    }
}

/// Adds the events to a directory of Parquet files that it does not hold yet. The caller keeps
/// other exports off the directory, see [`open_directory`].
///
/// A file covers at most `events_per_file` events and ends at a multiple of that, or at the end of
/// the log. Reads the log once for all tables that are equally far. Needs memory for one batch per
/// table, at most 32 MiB each. Calls `progress` with the index of the present event and that of the
/// last one; the export stops when it returns false.
///
/// # Errors
/// [`ExportError`]. Files that were complete before the error stay.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let (bus_path, target) = (dir.path().join("bus"), dir.path().join("tables"));
/// use std::collections::BTreeMap;
/// use zero_bus::{Bus, Draft};
/// use zero_tables::{Table, export};
///
/// let bus = Bus::open(&bus_path)?;
/// let fill = BTreeMap::from([("price", 64000.5)]);
/// bus.append(Draft::new("fill.record", 1777593600.0, &fill)?)?;
/// let directory = export::open_directory(&target, &bus_path)?;
/// let fills = [Table::named("fills").unwrap()];
/// let mut export_fills = || {
///     let per_file = export::EVENTS_PER_FILE;
///     export::export(&bus.reader(), &directory, &fills, per_file, &mut |_, _| true)
/// };
/// assert_eq!(export_fills()?.tables["fills"].rows, 1);
/// assert!(target.join("fills/000000000001-000000000001.parquet").exists());
/// assert_eq!(export_fills()?.tables["fills"].files, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn export(
    reader: &Reader,
    storage: &dyn Storage,
    tables: &[&'static Table],
    events_per_file: NonZeroU64,
    progress: &mut (dyn FnMut(u64, u64) -> bool + Send),
) -> Result<Exported, ExportError> {
    let head = reader.head()?;
    let recorded = read_state(storage)?;
    if let Some(recorded) = recorded.filter(|recorded| *recorded != head)
        && !reader.contains(recorded)?
    {
        return Err(ExportError::NotExtended { path: storage.path(""), head: recorded });
    }
    let mut exported = Exported { events: head.index, tables: BTreeMap::new() };
    let mut by_position: BTreeMap<u64, Vec<&'static Table>> = BTreeMap::new();
    for table in tables {
        let position = last_exported(storage, table, recorded)?;
        by_position.entry(position).or_default().push(table);
        exported.tables.insert(table.name, ExportedTable::default());
    }
    if recorded != Some(head) && head.index > 0 {
        write_state(storage, head)?;
    }
    for (position, tables) in by_position.into_iter().filter(|(position, _)| *position < head.index) {
        let range = Range { first: position + 1, last: head.index, events_per_file };
        Pass::begin(storage, &tables, range, &mut exported)?.run(reader, progress)?;
    }
    Ok(exported)
}

/// Events to export.
#[derive(Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
    events_per_file: NonZeroU64,
}

impl Range {
    /// The last event of the file that begins with the first one.
    fn last_of_file(self) -> u64 {
        self.first.checked_next_multiple_of(self.events_per_file.get()).unwrap_or(u64::MAX).min(self.last)
    }
}

/// One pass over the log, for tables that are equally far.
struct Pass<'a> {
    storage: &'a dyn Storage,
    /// What is left: the open files begin with its first event.
    range: Range,
    files: Vec<OpenFile<'a>>,
    exported: &'a mut Exported,
}

/// The file of a table that is being written.
struct OpenFile<'a> {
    table: &'static Table,
    extractor: Extractor,
    batch: Batch,
    file: ParquetFile<Appender<'a>>,
    rows: u64,
}

/// Why the log is not read further.
enum Stop {
    /// The last event was read.
    Ended,
    Failed(ExportError),
}

impl From<zero_bus::Error> for Stop {
    fn from(error: zero_bus::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ExportError> for Stop {
    fn from(error: ExportError) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Pass<'a> {
    fn begin(
        storage: &'a dyn Storage,
        tables: &[&'static Table],
        range: Range,
        exported: &'a mut Exported,
    ) -> Result<Self, ExportError> {
        for table in tables {
            let create = storage.create_directory(table.name).and_then(|()| storage.sync());
            create.map_err(io_error(storage, table.name, "create the directory"))?;
        }
        let files = tables.iter().map(|table| OpenFile::create(storage, table)).collect::<Result<_, _>>()?;
        Ok(Self { storage, range, files, exported })
    }

    fn run(
        &mut self,
        reader: &Reader,
        progress: &mut (dyn FnMut(u64, u64) -> bool + Send),
    ) -> Result<(), ExportError> {
        let types: Vec<_> = self.files.iter().map(|file| file.table.event_type).collect();
        let Range { first, last, .. } = self.range;
        let mut seen = 0_u64;
        let read = reader.select(
            first,
            |event_type, _| types.iter().any(|wanted| wanted.is_none_or(|wanted| wanted == event_type)),
            |event| {
                if event.index > last {
                    return Err(Stop::Ended);
                }
                seen += 1;
                if seen % 1024 == 1 && !progress(event.index, last) {
                    return Err(ExportError::Stopped.into());
                }
                while event.index > self.range.last_of_file() {
                    self.next_files()?;
                }
                let files = self.files.iter_mut();
                for file in files.filter(|file| file.table.event_type.is_none_or(|of| of == event.event_type))
                {
                    file.extractor.push(&event, &mut file.batch);
                    if file.batch.is_full() {
                        file.write_batch(self.storage)?;
                    }
                }
                Ok(())
            },
        );
        match read {
            Err(Stop::Failed(error)) => return Err(error),
            Ok(_) | Err(Stop::Ended) => {}
        }
        while self.range.last_of_file() < last {
            self.next_files()?;
        }
        self.finish_files()
    }

    /// Completes the open files and begins the next ones.
    fn next_files(&mut self) -> Result<(), ExportError> {
        let tables: Vec<_> = self.files.iter().map(|file| file.table).collect();
        self.finish_files()?;
        self.range.first = self.range.last_of_file() + 1;
        self.files =
            tables.iter().map(|table| OpenFile::create(self.storage, table)).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Completes the open files and gives them their names.
    fn finish_files(&mut self) -> Result<(), ExportError> {
        for file in self.files.drain(..) {
            let (table, storage) = (file.table, self.storage);
            let rows = file.finish(storage)?;
            let (first, last) = (self.range.first, self.range.last_of_file());
            let name = format!("{}/{first:012}-{last:012}.parquet", table.name);
            let renamed =
                storage.rename(&temporary(table), &name).and_then(|()| storage.sync_directory(table.name));
            renamed.map_err(io_error(storage, &name, "give a file this name"))?;
            let added = self.exported.tables.entry(table.name).or_default();
            added.files += 1;
            added.rows += rows;
        }
        Ok(())
    }
}

impl<'a> OpenFile<'a> {
    fn create(storage: &'a dyn Storage, table: &'static Table) -> Result<Self, ExportError> {
        let name = temporary(table);
        let file =
            storage.open(&name, Access::Truncate).map_err(io_error(storage, &name, "create the file"))?;
        let file = ParquetFile::create(Appender::new(file), table);
        Ok(Self {
            table,
            extractor: Extractor::new(table),
            batch: Batch::new(table),
            file: file.map_err(parquet_error(storage, table))?,
            rows: 0,
        })
    }

    fn write_batch(&mut self, storage: &dyn Storage) -> Result<(), ExportError> {
        let batch = std::mem::replace(&mut self.batch, Batch::new(self.table));
        self.rows += batch.rows() as u64;
        self.file.write(batch).map_err(parquet_error(storage, self.table))
    }

    /// Completes and syncs the file. Returns its rows.
    fn finish(mut self, storage: &dyn Storage) -> Result<u64, ExportError> {
        if self.batch.rows() > 0 {
            self.write_batch(storage)?;
        }
        let appender = self.file.finish().map_err(parquet_error(storage, self.table))?;
        let synced = appender.file.sync();
        synced.map_err(io_error(storage, &temporary(self.table), "sync the file"))?;
        Ok(self.rows)
    }
}

/// Writes to the end of a file.
struct Appender<'a> {
    file: Box<dyn StorageFile + 'a>,
}

impl Appender<'_> {
    fn new(file: Box<dyn StorageFile>) -> Self {
        Self { file }
    }
}

impl Write for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn temporary(table: &Table) -> String {
    format!("{}/{TEMPORARY}", table.name)
}

/// Returns the index of the last event that the files of a table cover, or 0 without files.
/// Checks that no file is missing between the first one and the last one.
fn last_exported(storage: &dyn Storage, table: &Table, recorded: Option<Head>) -> Result<u64, ExportError> {
    let names = storage.list(table.name).map_err(io_error(storage, table.name, "list the directory"))?;
    let mut ranges: Vec<(u64, u64)> = names.iter().filter_map(|name| range_of(name)).collect();
    ranges.sort_unstable();
    let invalid = |problem| Err(ExportError::Invalid { path: storage.path(table.name), problem });
    for pair in ranges.windows(2) {
        let ((_, last), (first, _)) = (pair[0], pair[1]);
        if first != last + 1 {
            return invalid(format!(
                "a file ends with event {last}, and the next one begins with event {first}. Restore what is missing, or \
                 export to a new directory"
            ));
        }
    }
    let last = ranges.last().map_or(0, |(_, last)| *last);
    match recorded {
        None if last > 0 => invalid(format!(
            "has files, but {STATE}, which binds them to a log, is missing. Export to a new directory"
        )),
        Some(recorded) if last > recorded.index => invalid(format!(
            "a file ends with event {last}, but {STATE} ends with event {}. Export to a new directory",
            recorded.index
        )),
        _ => Ok(last),
    }
}

/// The first and the last event that the name of a file gives.
fn range_of(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".parquet")?.split_once('-')?;
    let is_index = |text: &str| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    let range = (first.parse().ok()?, last.parse().ok()?);
    (is_index(first) && is_index(last) && 1 <= range.0 && range.0 <= range.1).then_some(range)
}

#[derive(Serialize)]
struct State<'a> {
    event_count: u64,
    last_checksum: String,
    schema_version: &'a str,
}

fn write_state(storage: &dyn Storage, head: Head) -> Result<(), ExportError> {
    let last_checksum = head.checksum.map_or_else(String::new, |checksum| checksum.to_string());
    let state = State { event_count: head.index, last_checksum, schema_version: EXPORT_SCHEMA };
    let write = Json::of(&state).map_err(io::Error::other);
    let write = write.and_then(|state| replace(storage, STATE, format!("{state}\n").as_bytes()));
    write.map_err(io_error(storage, STATE, "write it"))
}

/// The event that the directory is bound to; `None` if it is not bound yet.
fn read_state(storage: &dyn Storage) -> Result<Option<Head>, ExportError> {
    let file = match storage.open(STATE, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io_error(storage, STATE, "read it"))?,
    };
    let mut bytes = [0; MAX_STATE_BYTES];
    let mut length = 0;
    loop {
        let read = file.read_at(&mut bytes[length..], length as u64);
        match read.map_err(io_error(storage, STATE, "read it"))? {
            0 => break,
            read => length += read,
        }
    }
    let head = std::str::from_utf8(&bytes[..length]).ok().and_then(|text| {
        let state = Value::parse(text).ok()?;
        let schema = state.get("schema_version")?.as_str()?;
        let checksum = state.get("last_checksum")?.as_str()?.parse().ok()?;
        let index = state.get("event_count")?.as_u64()?;
        (schema == EXPORT_SCHEMA && index > 0).then_some(Head { index, checksum: Some(checksum) })
    });
    let invalid = || ExportError::Invalid {
        path: storage.path(STATE),
        problem: format!("is not the state of an export ({EXPORT_SCHEMA}). Export to a new directory"),
    };
    head.map(Some).ok_or_else(invalid)
}

fn io_error(
    storage: &dyn Storage,
    name: &str,
    action: &'static str,
) -> impl FnOnce(io::Error) -> ExportError {
    let path = storage.path(name);
    move |source| ExportError::Io { path, action, source }
}

fn parquet_error(storage: &dyn Storage, table: &Table) -> impl FnOnce(ParquetError) -> ExportError {
    let path = storage.path(&temporary(table));
    move |error| match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => ExportError::Io { path, action: "write it", source: *source },
            Err(source) => ExportError::Parquet { path, source: ParquetError::External(source) },
        },
        source => ExportError::Parquet { path, source },
    }
}
