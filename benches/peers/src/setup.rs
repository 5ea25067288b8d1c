//! What a run is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

/// What a run is asked to do.
pub struct Setup {
    /// Where all files go.
    pub dir: PathBuf,
    pub rounds: usize,
    /// How long each appender appends, in a round.
    pub budget: Duration,
    pub quick: bool,
    /// How long the long log is.
    pub log_bytes: u64,
    /// The longest log of the contest `growth`, in events.
    pub growth_max: u64,
    pub huge: bool,
    /// Where the real binaries are.
    pub programs: PathBuf,
    /// What the runtime trades.
    pub scenario: PathBuf,
}

impl Setup {
    /// A directory for one contest, gone when it ends.
    pub fn place(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(&self.dir)?)
    }

    /// A number of times: fewer in a quick run.
    pub fn times(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// The long log's name in the table.
    pub fn log_size(&self) -> String {
        size(self.log_bytes)
    }

    pub fn describe(&self) -> String {
        let warning = if self.quick { "A quick run: whether it works, not how fast. " } else { "" };
        format!(
            "{warning}Contenders took turns, in {} rounds of alternating order; a ratio is the median of the rounds' \
             ratios, with the least and the greatest, and the two figures behind it are medians of their own. Appending, \
             each had {} s a round, in ten turns.",
            self.rounds,
            self.budget.as_secs_f64(),
        )
    }
}

/// A length, as it stands in the table.
pub fn size(bytes: u64) -> String {
    match bytes >> 20 {
        mib if mib >= 1024 && mib % 1024 == 0 => format!("{} GiB", mib / 1024),
        mib => format!("{mib} MiB"),
    }
}
