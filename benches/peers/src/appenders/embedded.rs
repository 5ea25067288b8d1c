//! Stores that are libraries like zero-bus. None of them links its entries into a chain.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Result;
use fjall::{KeyspaceCreateOptions, PersistMode};
use okaywal::{LogVoid, WriteAheadLog};
use redb::{Durability, TableDefinition};

use super::{Appender, Lines, line, produce};

/// A binary log with checksums and group commit, with default settings.
pub struct OkayWal {
    log: WriteAheadLog,
    lines: Lines,
    producers: usize,
    numbers: AtomicU64,
}

impl OkayWal {
    pub fn open(dir: &Path, lines: &Lines, producers: usize) -> Result<Self> {
        let log = WriteAheadLog::recover(dir.join("okaywal"), LogVoid)?;
        Ok(Self { log, lines: lines.clone(), producers, numbers: AtomicU64::new(1) })
    }
}

impl Appender for OkayWal {
    fn name(&self) -> String {
        "okaywal".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        "`fdatasync` of a preallocated segment, shared by concurrent producers"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let Self { log, lines, producers, numbers } = self;
        produce(&mut vec![(); *producers], numbers, budget, |(), number| {
            let mut entry = log.begin_entry()?;
            entry.write_chunk(line(lines, number).trim_end().as_bytes())?;
            entry.commit()?;
            Ok(())
        })
    }
}

/// A copy-on-write B-tree. Each event is one transaction.
pub struct Redb {
    database: redb::Database,
    lines: Lines,
    producers: usize,
    numbers: AtomicU64,
}

const TABLE: TableDefinition<'_, u64, &str> = TableDefinition::new("events");

impl Redb {
    pub fn open(dir: &Path, lines: &Lines, producers: usize) -> Result<Self> {
        let database = redb::Database::create(dir.join("events.redb"))?;
        Ok(Self { database, lines: lines.clone(), producers, numbers: AtomicU64::new(1) })
    }
}

impl Appender for Redb {
    fn name(&self) -> String {
        "redb, `Durability::Immediate`".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        "`fdatasync` of the database file"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let Self { database, lines, producers, numbers } = self;
        produce(&mut vec![(); *producers], numbers, budget, |(), number| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.open_table(TABLE)?.insert(number, line(lines, number).trim_end())?;
            transaction.commit()?;
            Ok(())
        })
    }
}

/// A log-structured merge tree.
pub struct Fjall {
    database: fjall::Database,
    events: fjall::Keyspace,
    lines: Lines,
    producers: usize,
    numbers: AtomicU64,
}

impl Fjall {
    pub fn open(dir: &Path, lines: &Lines, producers: usize) -> Result<Self> {
        let database = fjall::Database::builder(dir.join("fjall")).open()?;
        let events = database.keyspace("events", KeyspaceCreateOptions::default)?;
        Ok(Self { database, events, lines: lines.clone(), producers, numbers: AtomicU64::new(1) })
    }
}

impl Appender for Fjall {
    fn name(&self) -> String {
        "fjall, `persist(SyncAll)`".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        "`fsync` of the journal"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let Self { database, events, lines, producers, numbers } = self;
        produce(&mut vec![(); *producers], numbers, budget, |(), number| {
            events.insert(number.to_be_bytes(), line(lines, number).trim_end())?;
            database.persist(PersistMode::SyncAll)?;
            Ok(())
        })
    }
}
