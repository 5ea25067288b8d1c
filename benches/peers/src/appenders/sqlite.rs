//! SQLite in WAL mode with `synchronous=FULL`, so that a committed transaction survives a power
//! cut.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rusqlite::{Connection, params};

use super::{Appender, Lines, line, produce};
use crate::stats::rate;

pub const INSERT: &str = "INSERT INTO events (id, line) VALUES (?1, ?2)";

/// Opens a database and creates the table of lines if it is missing.
pub fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, line TEXT NOT NULL)")?;
    Ok(connection)
}

const WAITS_FOR: &str = "`fdatasync` of the write-ahead log (WAL, `synchronous=FULL`)";

/// One producer that inserts one line per transaction.
pub struct One {
    connection: Connection,
    lines: Lines,
    next: u64,
}

impl One {
    pub fn open(dir: &Path, lines: &Lines) -> Result<Self> {
        let connection = open(&dir.join("one.sqlite"))?;
        Ok(Self { connection, lines: lines.clone(), next: 1 })
    }
}

impl Appender for One {
    fn name(&self) -> String {
        "SQLite, one insert per transaction".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        WAITS_FOR
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let mut insert = self.connection.prepare(INSERT)?;
        rate(budget, || {
            insert.execute(params![self.next as i64, line(&self.lines, self.next).trim_end()])?;
            self.next += 1;
            Ok(1)
        })
    }
}

/// Several producers and one writer thread, which commits all waiting lines in one transaction.
pub struct Batching {
    connection: Connection,
    lines: Lines,
    producers: usize,
    numbers: AtomicU64,
}

impl Batching {
    pub fn open(dir: &Path, lines: &Lines, producers: usize) -> Result<Self> {
        let connection = open(&dir.join("batching.sqlite"))?;
        Ok(Self { connection, lines: lines.clone(), producers, numbers: AtomicU64::new(1) })
    }
}

/// A line to insert: its number, its text, and the channel of the waiting producer.
type Job<'a> = (u64, &'a str, mpsc::SyncSender<()>);

impl Appender for Batching {
    fn name(&self) -> String {
        "SQLite, one batching writer thread".to_owned()
    }

    fn waits_for(&self) -> &'static str {
        WAITS_FOR
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let Self { connection, lines, producers, numbers } = self;
        let lines = &*lines;
        let (sender, jobs) = mpsc::channel::<Job<'_>>();
        thread::scope(|scope| {
            let writer = scope.spawn(move || write(connection, &jobs));
            // Each producer has one channel for its acknowledgements.
            let mut producers: Vec<_> =
                (0..*producers).map(|_| (sender.clone(), mpsc::sync_channel(1))).collect();
            drop(sender);
            let rate = produce(&mut producers, numbers, budget, |producer, number| {
                let (sender, (acknowledge, acknowledged)) = producer;
                sender
                    .send((number, line(lines, number).trim_end(), acknowledge.clone()))
                    .map_err(|_| anyhow!("the writer is gone"))?;
                acknowledged.recv().context("the writer is gone")
            });
            drop(producers);
            // The error of the writer comes first: it explains the errors of the producers.
            writer.join().map_err(|_| anyhow!("the writer panicked"))??;
            rate
        })
    }
}

fn write(connection: &mut Connection, jobs: &mpsc::Receiver<Job<'_>>) -> Result<()> {
    let mut batch = Vec::new();
    while let Ok(first) = jobs.recv() {
        batch.push(first);
        batch.extend(jobs.try_iter());
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for (number, line, _) in &batch {
                insert.execute(params![*number as i64, line])?;
            }
        }
        transaction.commit()?;
        for (_, _, acknowledge) in batch.drain(..) {
            acknowledge.send(())?;
        }
    }
    Ok(())
}
