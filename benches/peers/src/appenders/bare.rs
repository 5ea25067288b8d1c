//! Bare `write` and `fdatasync` on a growing file: the limit of the disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{Appender, Lines};
use crate::stats::rate;

pub struct Bare {
    file: File,
    /// The batches, each with its lines in one string.
    batches: Vec<String>,
    batch: usize,
    next: usize,
}

impl Bare {
    pub fn open(dir: &Path, lines: &Lines, batch: usize) -> Result<Self> {
        let file = File::options().append(true).create(true).open(dir.join("bare.jsonl"))?;
        let batches = lines.chunks_exact(batch).map(|lines| lines.concat()).collect();
        Ok(Self { file, batches, batch, next: 0 })
    }

    /// Writes and syncs the next batch.
    pub fn append(&mut self) -> Result<()> {
        self.file.write_all(self.batches[self.next % self.batches.len()].as_bytes())?;
        self.file.sync_data()?;
        self.next += 1;
        Ok(())
    }
}

impl Appender for Bare {
    fn name(&self) -> String {
        match self.batch {
            1 => "bare `write` + `fdatasync`".to_owned(),
            batch => format!("bare batches of {batch}: `write` + `fdatasync`"),
        }
    }

    fn waits_for(&self) -> &'static str {
        "`fdatasync` of the file"
    }

    fn run(&mut self, budget: Duration) -> Result<f64> {
        let batch = self.batch as u64;
        rate(budget, || self.append().map(|()| batch))
    }
}
