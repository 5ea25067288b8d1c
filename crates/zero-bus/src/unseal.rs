//! Writes the whole log as one plain file, from its segments and its active file.

use std::io::{self, Write};

use crate::durable_log::OpenedLog;
use crate::error::{Error, Result};
use crate::integrity::Progress;
use crate::reader::Reader;
use crate::storage::read_exact_at;

/// Bytes written at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// Why a log was not written as a plain file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// The bus cannot be read, or one of its segments is damaged.
    #[error(transparent)]
    Bus(#[from] Error),
    /// The file cannot be written.
    #[error("cannot write the log: {0}")]
    Write(#[source] io::Error),
}

impl Reader {
    /// Writes every byte of the log that is durable now, as it was before it was sealed, apart from
    /// retired events. Returns the number of bytes. The segments are checked, but not the chain;
    /// [`Reader::verify`] does that.
    ///
    /// # Errors
    /// [`UnsealError`], which tells whether reading or writing failed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, SealOptions};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for step in 1..=10 {
    ///     bus.append(Draft::new("step.done", 0.0, &BTreeMap::from([("step", step)]))?)?;
    /// }
    /// let (mut before, mut after) = (Vec::new(), Vec::new());
    /// bus.reader().unseal(&mut before, &mut |_| {})?;
    /// bus.seal(SealOptions::default().up_to(5), &mut |_| {})?;
    /// bus.reader().unseal(&mut after, &mut |_| {})?;
    /// assert_eq!(before, after);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unseal(
        &self,
        mut out: impl Write,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, UnsealError> {
        let OpenedLog::Present(log) = self.durable_log()? else { return Ok(0) };
        let mut block = vec![0; BLOCK_BYTES as usize];
        let start = log.file.start().offset;
        let mut offset = start;
        while offset < log.end {
            let length = (log.end - offset).min(BLOCK_BYTES);
            let block = &mut block[..length as usize];
            read_exact_at(&log.file, block, offset).map_err(Error::io("read it", &self.log_path()))?;
            out.write_all(block).map_err(UnsealError::Write)?;
            offset += length;
            progress(Progress { bytes: offset - start, bytes_total: log.end - start });
        }
        out.flush().map_err(UnsealError::Write)?;
        Ok(log.end - start)
    }
}
