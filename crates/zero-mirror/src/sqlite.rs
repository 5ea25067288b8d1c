//! A mirror in an SQLite file: nothing to install, and made for questions.
//!
//! The file is in WAL mode with `synchronous=FULL`, so what was committed survives a power cut
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>). A batch is one immediate transaction: the cursor is compared,
//! the rows are put in, the cursor is moved, or nothing of it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};
use zero_bus::{Checksum, Event, Head, MAX_LINE_BYTES};

use crate::error::{Error, Result};
use crate::mirror::{Mirror, PAGE_BYTES, Record};

/// `PRAGMA application_id`: "ZBUS", so that no other program's file is taken for a mirror.
const APPLICATION: i64 = 0x5A42_5553;

/// What brings a file from each version of the tables to the next, an empty one to version 1 first. `PRAGMA user_version`
/// says which version a file has.
const MIGRATIONS: [&str; 1] = [include_str!("sqlite/schema.sql")];

/// How long another connection is waited for that writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of one value that SQLite reads into memory. A canonical payload can be six times its line.
const MAX_VALUE_BYTES: i32 = 8 * MAX_LINE_BYTES as i32;

/// A mirror in an SQLite file.
pub struct Sqlite {
    path: PathBuf,
    read_only: bool,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    /// Device and inode of the file that was opened.
    identity: (u64, u64),
}

impl Sqlite {
    /// A mirror in the file at a path, which is made (0600) with the first call that needs it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read_only: false, open: None }
    }

    /// The same without the right to write, for a file that must be there.
    pub fn read_only(path: impl Into<PathBuf>) -> Self {
        Self { read_only: true, ..Self::new(path) }
    }

    fn connection(&mut self) -> Result<&mut Connection> {
        let open = match self.open.take() {
            // What is written to a file that nobody finds any more is lost.
            Some(open) if identity(&self.path).ok() != Some(open.identity) => {
                let problem = "was moved away or replaced while it was in use; mirror to it again";
                return Err(self.refused(problem));
            }
            Some(open) => open,
            None => self.connect()?,
        };
        Ok(&mut self.open.insert(open).connection)
    }

    fn connect(&self) -> Result<Open> {
        let metadata = fs::metadata(&self.path);
        if metadata.as_ref().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(self.refused("is no file; name a file for the mirror"));
        }
        let absent = metadata.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if absent && self.read_only {
            return Err(self.refused("there is no such file"));
        }
        if absent {
            // Made here for its mode, which the files beside it get from it.
            let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(self.refused(format!("cannot make it: {error}")));
                }
                _ => {}
            }
        }
        let access =
            if self.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let connection = Connection::open_with_flags(&self.path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| self.failed("open it", error))?;
        self.prepare(&connection).map_err(|error| self.failed("open it", error))??;
        let identity =
            identity(&self.path).map_err(|error| self.refused(format!("cannot look at it: {error}")))?;
        Ok(Open { connection, identity })
    }

    /// Sets the connection up, and brings the tables to this program's version.
    fn prepare(&self, connection: &Connection) -> rusqlite::Result<Result<()>> {
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let reading = Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
        let found = self.version(&reading)?;
        drop(reading);
        if self.read_only {
            return Ok(found.and_then(|version| match version {
                0 => Err(self.refused("is empty: nothing was mirrored to it")),
                version if version < MIGRATIONS.len() => {
                    Err(self
                        .refused(format!("has tables of version {version}: mirror to it once to renew them")))
                }
                _ => Ok(()),
            }));
        }
        // Judged before the first byte is written: another program's file is left as it is.
        if let Err(refused) = found {
            return Ok(Err(refused));
        }
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Who gets the lock first makes the tables, and the others find them.
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        let version = match self.version(&transaction)? {
            Ok(version) => version,
            Err(refused) => return Ok(Err(refused)),
        };
        for migration in &MIGRATIONS[version..] {
            transaction.execute_batch(migration)?;
        }
        if version < MIGRATIONS.len() {
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        }
        transaction.commit().map(Ok)
    }

    /// The version of the tables; 0 for an empty file. In a transaction, so that who makes them at the same time is not met
    /// in the middle of it.
    fn version(&self, connection: &Transaction<'_>) -> rusqlite::Result<Result<usize>> {
        let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
        if application == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
            return Ok(Ok(0));
        }
        let known = MIGRATIONS.len();
        Ok(match usize::try_from(version) {
            _ if application != APPLICATION => {
                Err(self.refused("is another program's database; name another file for the mirror"))
            }
            Ok(version) if (1..=known).contains(&version) => Ok(version),
            _ => Err(self.refused(format!(
                "has tables of version {version}, and this program knows them up to {known}: use a newer one"
            ))),
        })
    }

    fn refused(&self, problem: impl Into<String>) -> Error {
        Error::Refused { destination: self.name(), problem: problem.into() }
    }

    /// What the caller does next about what SQLite reports.
    fn failed(&self, action: &'static str, error: rusqlite::Error) -> Error {
        let code = error.sqlite_error_code();
        match code {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => Error::Unavailable { destination: self.name(), action, source: Box::new(error) },
            Some(ErrorCode::NotADatabase) => {
                self.refused("is no SQLite database; name another file for the mirror")
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                self.refused(format!("is damaged ({error}); move it away, and mirror the bus anew"))
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                self.refused(format!("may not be written to ({error}); mend its rights"))
            }
            _ => self.refused(format!("cannot {action}: {error}")),
        }
    }

    /// A bus's number in the file, and its cursor.
    fn cursor(&self, connection: &Connection, bus: Checksum) -> Result<Option<(i64, Head)>> {
        let mut find = connection
            .prepare_cached("SELECT bus, head_index, head_checksum FROM buses WHERE id = ?1")
            .map_err(|error| self.failed("read it", error))?;
        let found = find
            .query_row([bus.to_string()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })
            .optional()
            .map_err(|error| self.failed("read it", error))?;
        let Some((number, index, checksum)) = found else { return Ok(None) };
        match (u64::try_from(index), Checksum::parse(&checksum)) {
            (Ok(index), Some(checksum)) => Ok(Some((number, Head { index, checksum: Some(checksum) }))),
            _ => {
                let problem = "its cursor is none".to_owned();
                Err(Error::Corrupt { destination: self.name(), bus, index: 0, problem })
            }
        }
    }

    /// One batch in one transaction.
    fn put(&self, connection: &Connection, bus: Checksum, behind: Head, batch: &[Record]) -> Result<()> {
        let failed = |error| self.failed("write to it", error);
        let transaction =
            Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(failed)?;
        let cursor = self.cursor(&transaction, bus)?;
        if cursor.map(|(_, head)| head).unwrap_or_default() != behind {
            return Err(Error::CursorMoved { destination: self.name() });
        }
        let Some(last) = batch.last() else { return Ok(()) };
        let written = || -> rusqlite::Result<()> {
            let (index, checksum) = (last.event.index as i64, last.event.checksum.to_string());
            let number = match cursor {
                Some((number, _)) => number,
                None => {
                    let insert = "INSERT INTO buses (id, head_index, head_checksum) VALUES (?1, ?2, ?3)";
                    transaction.execute(insert, params![bus.to_string(), index, checksum])?;
                    transaction.last_insert_rowid()
                }
            };
            let mut insert = transaction.prepare_cached(INSERT)?;
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
        written().map_err(failed)?;
        transaction.commit().map_err(failed)
    }
}

const INSERT: &str = "INSERT INTO events (bus, event_index, event_type, trace_id, as_of, checksum, payload, line) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

impl Mirror for Sqlite {
    fn name(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(Vec::new()) };
        let all = || -> rusqlite::Result<Vec<String>> {
            connection.prepare("SELECT id FROM buses ORDER BY id")?.query_map([], |row| row.get(0))?.collect()
        };
        let ids = all().map_err(|error| self.failed("read it", error))?;
        let no_bus = |id: &str| self.refused(format!("names a bus `{}`, which is none", id.escape_debug()));
        ids.iter().map(|id| Checksum::parse(id).ok_or_else(|| no_bus(id))).collect()
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(Head::default()) };
        Ok(self.cursor(connection, bus)?.map(|(_, head)| head).unwrap_or_default())
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(()) };
        self.put(connection, bus, after, batch)
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(Vec::new()) };
        let Some((number, _)) = self.cursor(connection, bus)? else { return Ok(Vec::new()) };
        let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
        let failed = |error| self.failed("read it", error);
        let select =
            "SELECT event_index, line FROM events WHERE bus = ?1 AND event_index >= ?2 ORDER BY event_index";
        let mut select = connection.prepare_cached(select).map_err(failed)?;
        let mut rows = select.query(params![number, from]).map_err(failed)?;
        let (mut page, mut bytes) = (Vec::new(), 0);
        while let Some(row) = if bytes < PAGE_BYTES { rows.next().map_err(failed)? } else { None } {
            let index: i64 = row.get(0).map_err(failed)?;
            let line = row.get_ref(1).map_err(failed)?.as_bytes().map_err(|error| failed(error.into()))?;
            // What is no text is no line, which whoever reads it will find.
            let line = String::from_utf8_lossy(line).into_owned();
            bytes += line.len();
            page.push((index as u64, line));
        }
        Ok(page)
    }

    fn first_mismatch(&mut self, bus: Checksum, events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        self.connection()?;
        let Some(Open { connection, .. }) = &self.open else { return Ok(None) };
        let Some((number, _)) = self.cursor(connection, bus)? else { return Ok(None) };
        let compared = || -> rusqlite::Result<_> {
            let select = "SELECT event_type, trace_id, as_of, checksum, payload FROM events \
                          WHERE bus = ?1 AND event_index = ?2";
            let mut select = connection.prepare_cached(select)?;
            for event in events {
                let mut rows = select.query(params![number, event.index as i64])?;
                let column = rows.next()?.map_or(Ok(Some("event_index")), |row| differs(row, event))?;
                if let Some(column) = column {
                    return Ok(Some((event.index, column)));
                }
            }
            Ok(None)
        };
        compared().map_err(|error| self.failed("read it", error))
    }
}

/// The column in which a row says something else than its event.
fn differs(row: &rusqlite::Row<'_>, event: &Event) -> rusqlite::Result<Option<&'static str>> {
    let text = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_bytes_or_null()?);
    let is = |column, wanted: &str| Ok::<_, rusqlite::Error>(text(column)? == Some(wanted.as_bytes()));
    Ok(if !is(0, &event.event_type)? {
        Some("event_type")
    } else if text(1)? != event.trace_id.as_deref().map(str::as_bytes) {
        Some("trace_id")
    } else if row.get::<_, f64>(2)?.total_cmp(&event.as_of).is_ne() {
        Some("as_of")
    } else if !is(3, &event.checksum.to_string())? {
        Some("checksum")
    } else if !is(4, event.payload.as_str())? {
        Some("payload")
    } else {
        None
    })
}

/// Which file a path leads to: device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
