//! Long logs, built without syncs and shared by all contests that read them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use zero_bus::{Bus, Draft, LOG, MAX_LINE_BYTES};

use crate::event;
use crate::setup::Setup;
use crate::storage::NoSync;

/// Events in a batch while a log is built.
const BATCH: u64 = 10_000;

/// A bus with a long log.
#[derive(Clone)]
pub struct Log {
    pub bus: PathBuf,
    /// The file of the log.
    pub file: PathBuf,
    pub events: u64,
}

/// Builds the long log on first use.
pub struct Logs {
    dir: PathBuf,
    bytes: u64,
    long: Option<Log>,
}

impl Logs {
    pub fn new(setup: &Setup) -> Self {
        Self { dir: setup.dir.clone(), bytes: setup.log_bytes, long: None }
    }

    /// The long log. It is in the page cache.
    pub fn long(&mut self) -> Result<Log> {
        if let Some(log) = &self.long {
            return Ok(log.clone());
        }
        let log = of_size(&self.dir.join("long"), self.bytes)?;
        self.long = Some(log.clone());
        Ok(log)
    }
}

/// Builds a log of at least this size.
pub fn of_size(bus: &Path, bytes: u64) -> Result<Log> {
    let mut builder = LogBuilder::new(bus)?;
    eprintln!("  building a log of {} MiB", bytes >> 20);
    while builder.bytes()? < bytes {
        // Estimates the number of missing events; an event has a little less than 660 bytes.
        let missing = (bytes - builder.bytes()?).div_ceil(660);
        builder.grow_to(builder.events + missing.min(BATCH))?;
    }
    builder.finish()
}

/// Builds a log of lines that are close to the maximum length.
pub fn of_longest_lines(bus: &Path, lines: u64) -> Result<PathBuf> {
    let opened = Bus::open_in(Arc::new(NoSync::create(bus)?))?;
    let note = "x".repeat(MAX_LINE_BYTES - 1024);
    for nth in 0..lines {
        opened.append(Draft::new("note", nth as f64, &BTreeMap::from([("text", &note)]))?)?;
    }
    Ok(bus.to_owned())
}

/// Builds a log step by step.
pub struct LogBuilder {
    bus: PathBuf,
    pub events: u64,
}

impl LogBuilder {
    pub fn new(bus: &Path) -> Result<Self> {
        Ok(Self { bus: bus.to_owned(), events: 0 })
    }

    fn file(&self) -> PathBuf {
        self.bus.join(LOG)
    }

    fn bytes(&self) -> Result<u64> {
        Ok(self.file().metadata().map_or(0, |metadata| metadata.len()))
    }

    /// Appends events without syncs until the log has this many.
    pub fn grow_to(&mut self, events: u64) -> Result<()> {
        let bus = Bus::open_in(Arc::new(NoSync::create(&self.bus)?))?;
        self.events = bus.head().index;
        while self.events < events {
            let to = events.min(self.events + BATCH);
            bus.append_batch(event::drafts(self.events + 1, to)?)?;
            self.events = to;
        }
        Ok(())
    }

    /// Syncs the log, so that the disk is idle afterwards, and reads it into the page cache.
    pub fn finish(&self) -> Result<Log> {
        let file = self.file();
        let mut opened = File::open(&file).context("cannot open the log that was built")?;
        opened.sync_all()?;
        let mut block = vec![0; 1 << 20];
        while opened.read(&mut block)? > 0 {}
        Ok(Log { bus: self.bus.clone(), file, events: self.events })
    }
}
