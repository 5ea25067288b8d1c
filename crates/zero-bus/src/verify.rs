//! Both verdicts over a bus: the log's and the snapshot's.

use std::num::NonZeroUsize;

use serde::Serialize;

use crate::chunk;
use crate::error::Result;
use crate::integrity::{Integrity, Progress};
use crate::reader::Reader;
use crate::snapshot::{LogAtSnapshot, Snapshot, SnapshotIntegrity};

/// Both verdicts over a bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The log's.
    pub integrity: Integrity,
    /// The snapshot's.
    pub snapshot_integrity: SnapshotIntegrity,
}

impl Verdict {
    /// Whether the log is sound and the snapshot agrees with it.
    pub fn ok(&self) -> bool {
        self.integrity.ok() && self.snapshot_integrity.consistent
    }
}

impl Reader {
    /// Walks the whole log and judges it and the snapshot. What is wrong is in the verdict, not an error.
    ///
    /// Costs one pass over the log, shared by as many threads as the machine runs at once, but no more than 16; memory for
    /// a mebibyte, the rest of a line, the canonical form of one that is spelled differently, and the shapes of some
    /// payloads each.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where the files cannot be read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::{Bus, Draft, Reader};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// bus.append(Draft::new("door.opened", 1777593600.0, &())?)
    ///     .expect_err("a payload must be an object");
    ///
    /// let verdict = Reader::open(dir.path())?.verify(&mut |_| {})?;
    /// assert!(verdict.ok());
    /// assert_eq!(verdict.integrity.reason(), "ok");
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn verify(&self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Verdict> {
        self.verify_with(chunk::all_threads(), progress)
    }

    /// The same on a number of threads: [`Reader::verify`] chooses one itself.
    ///
    /// # Errors
    /// As [`Reader::verify`].
    pub fn verify_with(
        &self,
        threads: NonZeroUsize,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Verdict> {
        loop {
            let size_before = self.size_bytes()?;
            let verdict = self.judge(threads, progress)?;
            // While it was read a torn tail may have been set aside, and another event put in its place.
            if verdict.ok() || self.size_bytes()? == size_before {
                return Ok(verdict);
            }
        }
    }

    fn judge(&self, threads: NonZeroUsize, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Verdict> {
        // The snapshot first: it is taken of a log that was there before it.
        let snapshot = Snapshot::read(self.storage())?;
        let mut at_snapshot = LogAtSnapshot::default();
        let wanted = snapshot.event_count();
        let integrity = self.walk(
            threads,
            |seen: &mut LogAtSnapshot, nth, line, _| seen.observe(wanted, nth, line),
            |seen, _| {
                at_snapshot.merge(std::mem::take(seen));
                Ok(())
            },
            progress,
        )?;
        let snapshot_integrity = snapshot.integrity(&at_snapshot);
        Ok(Verdict { integrity, snapshot_integrity })
    }
}
