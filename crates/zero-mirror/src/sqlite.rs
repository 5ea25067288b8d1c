//! A mirror in an SQLite file, for queries without a server.
//!
//! The file is in WAL mode with `synchronous=FULL`, so a committed batch survives a power failure
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>). A batch is one immediate transaction:
//! it compares the cursor, inserts the rows and moves the cursor, or changes nothing.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};
use zero_bus::{Checksum, Event, Head, LOCK, LOG, MAX_LINE_BYTES, SNAPSHOT};

use crate::error::{Error, Result};
use crate::mirror::{Mirror, PAGE_BYTES, Record};

/// `PRAGMA application_id` of a mirror: "ZBUS". It distinguishes a mirror from other programs'
/// files.
const APPLICATION_ID: i64 = 0x5A42_5553;

/// Each script migrates the schema from one version to the next, the first from an empty file to
/// version 1. `PRAGMA user_version` is the version of a file.
const MIGRATIONS: [&str; 3] = [
    include_str!("sqlite/schema.sql"),
    // Version 2 changed the views only, and version 3 replaces all of them.
    "",
    include_str!("sqlite/views-3.sql"),
];

/// The longest suffix that SQLite adds to the path of a database.
const LONGEST_SUFFIX: &str = "-journal";

/// The longest path that SQLite opens.
const MAX_PATH_BYTES: usize = 512;

/// How long to wait for another connection that is writing to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a value that SQLite reads into memory. A canonical payload can be six times as
/// long as its line.
const MAX_VALUE_BYTES: i32 = 8 * MAX_LINE_BYTES as i32;

const INSERT_EVENT: &str = "INSERT INTO events (bus, event_index, event_type, trace_id, as_of, checksum, payload, line) \
                            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// A mirror in an SQLite file.
pub struct Sqlite {
    path: PathBuf,
    read_only: bool,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    /// The open file. If it is opened as immutable, its content too.
    identity: Identity,
}

/// Identifies a file.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Size, and time of the last change in seconds and nanoseconds, of a file that is opened as
    /// immutable: SQLite does not notice its changes.
    content: Option<(u64, i64, i64)>,
}

impl Identity {
    fn read(path: &Path, is_immutable: bool) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let content = is_immutable.then(|| (metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), content })
    }
}

impl Sqlite {
    /// A mirror in the file at a path. The first call but [`Mirror::head`] creates the file (mode
    /// 0600) if it does not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read_only: false, open: None }
    }

    /// A mirror that is only read. The file must exist. The right to read is enough, unless a
    /// process was killed while it wrote to the file.
    pub fn read_only(path: impl Into<PathBuf>) -> Self {
        Self { read_only: true, ..Self::new(path) }
    }

    fn connection(&mut self) -> Result<&mut Connection> {
        let open = match self.open.take() {
            Some(open) => {
                self.check_identity(&open)?;
                open
            }
            None => self.connect()?,
        };
        Ok(&mut self.open.insert(open).connection)
    }

    /// Checks that the path still refers to the open file: whatever is written to another one would
    /// be lost.
    fn check_identity(&self, open: &Open) -> Result<()> {
        let content = open.identity.content;
        match Identity::read(&self.path, content.is_some()) {
            Ok(identity) if identity == open.identity => Ok(()),
            Ok(Identity { device, inode, .. })
                if (device, inode) == (open.identity.device, open.identity.inode) =>
            {
                Err(Error::unavailable(self.name(), "read it", "it was changed meanwhile"))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.inspection_failed(&error)),
            _ => Err(self.refused("was moved away or replaced while it was in use; mirror to it again")),
        }
    }

    /// Whether there is no file yet, and the directory in which it would be created is there.
    fn can_be_created(&self) -> bool {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        fs::symlink_metadata(&self.path).is_err_and(is_missing) && directory.is_none_or(Path::is_dir)
    }

    fn connect(&self) -> Result<Open> {
        let name = self.path.as_os_str().as_bytes();
        if name.is_empty() || name == b":memory:" || name.starts_with(b"file:") {
            return Err(self.refused(
                "is a special name of SQLite, not the path of a file; write sqlite:PATH, and sqlite:./NAME for a \
                 file of this name",
            ));
        }
        let is_missing = match fs::metadata(&self.path) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(self.refused("is not a file; name a file for the mirror"));
            }
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(self.inspection_failed(&error)),
        };
        let file_name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        if is_missing
            && [LOG, LOCK, SNAPSHOT].iter().any(|name| file_name.as_deref().unwrap_or("").starts_with(name))
        {
            return Err(self.refused("has the name of a file of a bus; choose another name"));
        }
        if is_missing && self.read_only {
            return Err(self.refused("there is no such file"));
        }
        self.check_name_length()?;
        let mut is_created = false;
        if is_missing {
            // Created here to set the mode, which SQLite copies to the -wal and -shm files.
            let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
            is_created = created.is_ok();
            match created {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(self.refused(format!("cannot create it: {error}")));
                }
                _ => {}
            }
        }
        let opened = match self.open_connection(false) {
            Ok(connection) => self.prepare(&connection).map(|prepared| prepared.map(|()| connection)),
            Err(error) => {
                // No process can have opened the file under a path that SQLite refuses.
                if is_created {
                    let _ = fs::remove_file(&self.path);
                }
                Err(error)
            }
        };
        let (connection, is_immutable) = match opened {
            Ok(prepared) => (prepared?, false),
            Err(error) if self.read_only && needs_write_access(&error) => {
                (self.open_immutable(&error)?, true)
            }
            Err(error) => return Err(self.classify("open it", error)),
        };
        let identity =
            Identity::read(&self.path, is_immutable).map_err(|error| self.inspection_failed(&error))?;
        Ok(Open { connection, identity })
    }

    /// SQLite adds suffixes to the path, and would say only that it cannot open the file.
    fn check_name_length(&self) -> Result<()> {
        let mut companion = self.path.clone().into_os_string();
        companion.push(LONGEST_SUFFIX);
        match fs::symlink_metadata(&companion) {
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Err(self.refused(format!(
                "its name is too long, since SQLite adds `{LONGEST_SUFFIX}` to it ({error}); name a file with a \
                 shorter name"
            ))),
            _ => Ok(()),
        }
    }

    /// Opens the file under exactly this path. SQLite gives some names another meaning; the path
    /// that it gets here has none.
    fn open_connection(&self, is_immutable: bool) -> rusqlite::Result<Connection> {
        let access =
            if self.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if !is_immutable {
            // A leading `./` does not change an ordinary relative path. The result begins with `/`
            // or `.`, so it has no special meaning.
            let path =
                if self.path.is_absolute() { self.path.clone() } else { Path::new(".").join(&self.path) };
            return Connection::open_with_flags(path, flags);
        }
        let mut uri = "file:".to_owned();
        if self.path.is_relative() {
            uri.push_str("./");
        }
        for byte in self.path.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                    uri.push(char::from(*byte))
                }
                _ => uri.push_str(&format!("%{byte:02X}")),
            }
        }
        uri.push_str("?immutable=1");
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
    }

    /// Opens a file that cannot be locked, because nothing may be created next to it. That is
    /// correct as long as no process writes to it: its `-wal` file must be missing or empty.
    fn open_immutable(&self, error: &rusqlite::Error) -> Result<Connection> {
        for suffix in ["-wal", "-journal"] {
            let mut companion = self.path.clone().into_os_string();
            companion.push(suffix);
            if fs::metadata(&companion).is_ok_and(|metadata| metadata.len() > 0) {
                let (path, companion) = (self.path.display(), companion.display());
                return Err(self.refused(format!(
                    "cannot be read without write access to its directory ({error}), since a process that writes to it \
                     is running or was killed: copy {path} and {companion} together into a directory of your own, and \
                     read the copy"
                )));
            }
        }
        let connection = self.open_connection(true).map_err(|error| self.classify("open it", error))?;
        self.prepare(&connection).map_err(|error| self.classify("open it", error))??;
        Ok(connection)
    }

    /// The error of a path that the system cannot look up: the file system may be gone for now.
    fn inspection_failed(&self, error: &io::Error) -> Error {
        use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, PermissionDenied};
        match error.kind() {
            InvalidFilename | InvalidInput | NotADirectory | PermissionDenied => {
                self.refused(format!("cannot look it up: {error}"))
            }
            _ => Error::unavailable(self.name(), "look it up", error.to_string()),
        }
    }

    /// Configures the connection and migrates the schema to this program's version.
    fn prepare(&self, connection: &Connection) -> rusqlite::Result<Result<()>> {
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let read_transaction = Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
        let version = self.schema_version(&read_transaction)?;
        drop(read_transaction);
        if self.read_only {
            return Ok(version.and_then(|version| match version {
                0 => Err(self.refused("is empty: nothing was mirrored to it")),
                // The tables are those of version 1; later versions change the views only.
                _ => Ok(()),
            }));
        }
        // The check comes before the first write, so that another program's file stays untouched.
        if let Err(refused) = version {
            return Ok(Err(refused));
        }
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Racing mirrors serialize here: the first creates the tables, the others find the current
        // version.
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let version = match self.schema_version(&transaction)? {
            Ok(version) => version,
            Err(refused) => return Ok(Err(refused)),
        };
        for migration in &MIGRATIONS[version..] {
            transaction.execute_batch(migration)?;
        }
        if version < MIGRATIONS.len() {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        }
        transaction.commit().map(Ok)
    }

    /// The version of the schema; 0 for an empty file. Requires a transaction, so that the three
    /// reads see one state even while another mirror creates the tables.
    fn schema_version(&self, transaction: &Transaction<'_>) -> rusqlite::Result<Result<usize>> {
        let number = |query: &str| transaction.query_row(query, [], |row| row.get::<_, i64>(0));
        let (application_id, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
        if application_id == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
            return Ok(Ok(0));
        }
        let newest = MIGRATIONS.len();
        Ok(match usize::try_from(version) {
            _ if application_id != APPLICATION_ID => {
                Err(self.refused("is another program's database; name another file for the mirror"))
            }
            Ok(version) if (1..=newest).contains(&version) => Ok(version),
            _ => Err(self.refused(format!(
                "has tables of version {version}, but this program supports versions up to {newest}: use a newer one"
            ))),
        })
    }

    fn refused(&self, problem: impl Into<String>) -> Error {
        Error::refused(self.name(), problem)
    }

    /// Classifies an SQLite error by what the caller does next.
    fn classify(&self, action: &'static str, error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => Error::unavailable(self.name(), action, error),
            Some(ErrorCode::NotADatabase) => {
                self.refused("is not an SQLite database; name another file for the mirror")
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                self.refused(format!("is damaged ({error}); move it away, and mirror the bus again"))
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                self.refused(format!("is not writable ({error}); correct its permissions"))
            }
            Some(ErrorCode::CannotOpen) if self.absolute_path_bytes() > MAX_PATH_BYTES => {
                let bytes = self.absolute_path_bytes();
                self.refused(format!(
                    "cannot {action}: its path has {bytes} bytes, and SQLite opens paths of at most {MAX_PATH_BYTES}; \
                     name a file with a shorter path"
                ))
            }
            _ => self.refused(format!("cannot {action}: {error}")),
        }
    }

    fn absolute_path_bytes(&self) -> usize {
        std::path::absolute(&self.path).map_or(0, |path| path.as_os_str().len())
    }

    /// The number that stands for a bus in this file, and its cursor.
    fn cursor(&self, connection: &Connection, bus: Checksum) -> Result<Option<(i64, Head)>> {
        let mut select = connection
            .prepare_cached("SELECT bus, head_index, head_checksum FROM buses WHERE id = ?1")
            .map_err(|error| self.classify("read it", error))?;
        let row = select
            .query_row([bus.to_string()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })
            .optional()
            .map_err(|error| self.classify("read it", error))?;
        let Some((number, index, checksum)) = row else { return Ok(None) };
        match (u64::try_from(index), Checksum::parse(&checksum)) {
            (Ok(index), Some(checksum)) => Ok(Some((number, Head { index, checksum: Some(checksum) }))),
            _ => {
                let problem = "its cursor is invalid".to_owned();
                Err(Error::Corrupt { destination: self.name(), bus, index: 0, problem })
            }
        }
    }

    /// Appends a batch in one transaction.
    fn append_batch(
        &self,
        connection: &Connection,
        bus: Checksum,
        after: Head,
        batch: &[Record],
    ) -> Result<()> {
        let classify = |error| self.classify("write to it", error);
        // Immediate: the write lock is taken before the cursor is read, so no other mirror can move
        // it in between.
        let transaction =
            Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(classify)?;
        let cursor = self.cursor(&transaction, bus)?;
        if cursor.map(|(_, head)| head).unwrap_or_default() != after {
            return Err(Error::CursorMoved { destination: self.name() });
        }
        let Some(last) = batch.last() else { return Ok(()) };
        let write = || -> rusqlite::Result<()> {
            let (index, checksum) = (last.event.index as i64, last.event.checksum.to_string());
            let number = match cursor {
                Some((number, _)) => number,
                None => {
                    let insert = "INSERT INTO buses (id, head_index, head_checksum) VALUES (?1, ?2, ?3)";
                    transaction.execute(insert, params![bus.to_string(), index, checksum])?;
                    transaction.last_insert_rowid()
                }
            };
            let mut insert = transaction.prepare_cached(INSERT_EVENT)?;
            for Record { event, line } in batch {
                insert.execute(params![
                    number,
                    event.index as i64,
                    event.event_type,
                    event.trace_id,
                    event.as_of,
                    event.checksum.to_string(),
                    event.payload.as_str(),
                    line,
                ])?;
            }
            let update = "UPDATE buses SET head_index = ?2, head_checksum = ?3 WHERE bus = ?1";
            transaction.prepare_cached(update)?.execute(params![number, index, checksum])?;
            Ok(())
        };
        write().map_err(classify)?;
        transaction.commit().map_err(classify)
    }
}

impl Mirror for Sqlite {
    fn name(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(Vec::new()) };
        let select = || -> rusqlite::Result<Vec<String>> {
            connection.prepare("SELECT id FROM buses ORDER BY id")?.query_map([], |row| row.get(0))?.collect()
        };
        let ids = select().map_err(|error| self.classify("read it", error))?;
        let invalid = |id: &str| self.refused(format!("holds an invalid bus id: `{}`", id.escape_debug()));
        ids.iter().map(|id| Checksum::parse(id).ok_or_else(|| invalid(id))).collect()
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        // Without a file: the log may be refused for what this mirror lacks.
        if self.open.is_none() && !self.read_only && self.can_be_created() {
            return Ok(Head::default());
        }
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(Head::default()) };
        Ok(self.cursor(connection, bus)?.map(|(_, head)| head).unwrap_or_default())
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(()) };
        self.append_batch(connection, bus, after, batch)
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(Vec::new()) };
        let Some((number, _)) = self.cursor(connection, bus)? else { return Ok(Vec::new()) };
        let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
        let classify = |error| self.classify("read it", error);
        let select =
            "SELECT event_index, line FROM events WHERE bus = ?1 AND event_index >= ?2 ORDER BY event_index";
        let mut select = connection.prepare_cached(select).map_err(classify)?;
        let mut rows = select.query(params![number, from]).map_err(classify)?;
        let (mut page, mut page_bytes) = (Vec::new(), 0);
        while let Some(row) = if page_bytes < PAGE_BYTES { rows.next().map_err(classify)? } else { None } {
            let index: i64 = row.get(0).map_err(classify)?;
            let line =
                row.get_ref(1).map_err(classify)?.as_bytes().map_err(|error| classify(error.into()))?;
            // Invalid UTF-8 is replaced here; the caller's verification then refuses the line.
            let line = String::from_utf8_lossy(line).into_owned();
            page_bytes += line.len();
            page.push((index as u64, line));
        }
        Ok(page)
    }

    fn first_mismatch(&mut self, bus: Checksum, events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(None) };
        let Some((number, _)) = self.cursor(connection, bus)? else { return Ok(None) };
        let compare = || -> rusqlite::Result<_> {
            let select = "SELECT event_type, trace_id, as_of, checksum, payload FROM events \
                          WHERE bus = ?1 AND event_index = ?2";
            let mut select = connection.prepare_cached(select)?;
            for event in events {
                let mut rows = select.query(params![number, event.index as i64])?;
                let column =
                    rows.next()?.map_or(Ok(Some("event_index")), |row| mismatched_column(row, event))?;
                if let Some(column) = column {
                    return Ok(Some((event.index, column)));
                }
            }
            Ok(None)
        };
        compare().map_err(|error| self.classify("read it", error))
    }
}

/// Whether SQLite could not open the file for want of write access: it creates a `-shm` file next
/// to a database in WAL mode.
fn needs_write_access(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
    )
}

/// The first column of a row that does not match the event.
fn mismatched_column(row: &rusqlite::Row<'_>, event: &Event) -> rusqlite::Result<Option<&'static str>> {
    let text = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_bytes_or_null()?);
    let is = |column, expected: &str| Ok::<_, rusqlite::Error>(text(column)? == Some(expected.as_bytes()));
    Ok(if !is(0, &event.event_type)? {
        Some("event_type")
    } else if text(1)? != event.trace_id.as_deref().map(str::as_bytes) {
        Some("trace_id")
    } else if row.get::<_, f64>(2)? != event.as_of {
        // Compared as numbers: SQLite stores an integral number as an integer, so -0.0 becomes 0.0.
        Some("as_of")
    } else if !is(3, &event.checksum.to_string())? {
        Some("checksum")
    } else if !is(4, event.payload.as_str())? {
        Some("payload")
    } else {
        None
    })
}
