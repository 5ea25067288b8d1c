//! The settings of a run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

/// The settings of a run.
pub struct Setup {
    /// The directory of all files.
    pub dir: PathBuf,
    pub rounds: usize,
    /// The time of each appender in a round.
    pub budget: Duration,
    pub quick: bool,
    /// The size of the long log.
    pub log_bytes: u64,
    /// The longest log of the contest `growth`, in events.
    pub growth_max: u64,
    pub huge: bool,
    /// The directory of the release binaries.
    pub programs: PathBuf,
    /// The scenario of the runtime.
    pub scenario: PathBuf,
}

impl Setup {
    /// Creates a directory for one contest. It is removed when the value is dropped.
    pub fn temp_dir(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(&self.dir)?)
    }

    /// Chooses the number of repetitions for a full or a quick run.
    pub fn times(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// The size of the long log in the table.
    pub fn log_size(&self) -> String {
        size(self.log_bytes)
    }

    pub fn describe(&self) -> String {
        let warning = if self.quick { "A quick run, whose figures do not count.\n" } else { "" };
        format!(
            "{warning}The contenders ran in alternating order, in {} rounds. A ratio is the median of the ratios of \
             the rounds,\nfollowed by their range. *Ours* and *theirs* are the medians of each side. An appender had \
             {} s in each round,\ndivided into ten turns.",
            self.rounds,
            self.budget.as_secs_f64(),
        )
    }
}

/// Formats a size for the table.
pub fn size(bytes: u64) -> String {
    match bytes >> 20 {
        mib if mib >= 1024 && mib % 1024 == 0 => format!("{} GiB", mib / 1024),
        mib => format!("{mib} MiB"),
    }
}
