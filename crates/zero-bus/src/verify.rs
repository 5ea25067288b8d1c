//! Verifies a bus: the chain of its log, and whether the snapshot matches it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::Serialize;

use crate::chunk;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::integrity::{Integrity, Progress};
use crate::reader::Reader;
use crate::retired::Retired;
use crate::snapshot::{LogAtSnapshot, Snapshot, SnapshotIntegrity};

/// The verdicts of a verification: one for the log, one for the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The verdict of the log.
    pub integrity: Integrity,
    /// The verdict of the snapshot.
    pub snapshot_integrity: SnapshotIntegrity,
    /// The events before the first one of the log, which were not verified. `None` if the log
    /// starts at event 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retired>,
}

impl Verdict {
    /// What [`Verdict::ok`] covers and what it does not, in one line for a person to read.
    ///
    /// `--expect` is the option of `zero-bus verify`; [`Reader::contains`] is the same check in
    /// code.
    pub const SCOPE: &str = "ok means: every event is unmodified, in order and linked, from the first to the \
        last. An unanchored chain cannot show that its end was cut off at an event boundary or that the whole \
        log was rewritten. To detect that, keep a checksum elsewhere and pass it with --expect INDEX:CHECKSUM.";

    /// Returns whether the log is valid to its end and the snapshot matches it. See
    /// [`Verdict::SCOPE`].
    pub fn ok(&self) -> bool {
        self.integrity.ok() && self.snapshot_integrity.consistent
    }
}

impl Reader {
    /// Verifies the whole log and the snapshot. What is wrong is in the verdict, not in the error.
    ///
    /// Costs one pass over the log, on as many threads as the machine runs in parallel, at most 16.
    /// Each thread needs memory for 1 MiB and one line, and for the canonical form of a line that
    /// is not canonical.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the files cannot be read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Reader};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// bus.append(Draft::new("door.opened", 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    ///
    /// let verdict = Reader::open(dir.path())?.verify()?;
    /// assert!(verdict.ok());
    /// assert_eq!(verdict.integrity.head, bus.head());
    /// assert_eq!(verdict.integrity.reason(), "ok");
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn verify(&self) -> Result<Verdict> {
        self.verify_with_progress(&mut |_| {})
    }

    /// Like [`Reader::verify`], and reports progress about once per mebibyte.
    ///
    /// # Errors
    /// As [`Reader::verify`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let bus = zero_bus::Bus::open(dir.path())?;
    /// let verdict = bus.reader().verify_with_progress(&mut |progress| {
    ///     eprintln!("{} of {} bytes", progress.bytes, progress.bytes_total);
    /// })?;
    /// assert!(verdict.ok());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn verify_with_progress(&self, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Verdict> {
        self.verify_on_threads(chunk::available_threads(), progress)
    }

    /// Like [`Reader::verify_with_progress`], on at most this many threads. Use it to leave
    /// processors to other programs, such as the producer of a live bus.
    ///
    /// # Errors
    /// As [`Reader::verify`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::num::NonZeroUsize;
    ///
    /// let bus = zero_bus::Bus::open(dir.path())?;
    /// assert!(bus.reader().verify_on_threads(NonZeroUsize::MIN, &mut |_| {})?.ok());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn verify_on_threads(
        &self,
        threads: NonZeroUsize,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Verdict> {
        loop {
            let size_before = self.size_bytes()?;
            let verdict = match self.verify_once(threads, progress) {
                // Events were retired while they were read.
                Err(Error::Retired { .. }) => continue,
                verdict => verdict?,
            };
            // During the scan, an appender may have quarantined a torn tail and written an event in
            // its place. Then the size has changed, and the verdict may mix both states.
            if verdict.ok() || self.size_bytes()? == size_before {
                return Ok(verdict);
            }
        }
    }

    /// Returns only the verdict of the snapshot. Finds its event by bisection, so the cost grows
    /// little with the log. The events before that one are not verified.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the snapshot's event or the one before it is not valid,
    /// [`Error::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::{Bus, Json};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// assert!(!bus.reader().verify_snapshot()?.present);
    /// bus.write_snapshot(1777593600.0, None, &Json::empty_object())?;
    /// assert!(bus.reader().verify_snapshot()?.consistent);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn verify_snapshot(&self) -> Result<SnapshotIntegrity> {
        let snapshot = Snapshot::read(self.storage())?;
        let at_snapshot = match self.event(snapshot.event_count()) {
            Ok(Some(event)) => {
                LogAtSnapshot { events: event.index, checksum: Some(event.checksum), start: Head::default() }
            }
            Ok(None) | Err(Error::Missing { .. }) => LogAtSnapshot::default(),
            Err(Error::Retired { retired, .. }) => {
                LogAtSnapshot { start: retired.head(), ..LogAtSnapshot::default() }
            }
            Err(error) => return Err(error),
        };
        Ok(snapshot.integrity(&at_snapshot))
    }

    fn verify_once(
        &self,
        threads: NonZeroUsize,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Verdict> {
        // Read before the log, so that the log holds every event that the snapshot refers to.
        let snapshot = Snapshot::read(self.storage())?;
        let event_count = snapshot.event_count();
        let mut at_snapshot = LogAtSnapshot::default();
        let (integrity, retired) = self.scan(
            threads,
            |located: &mut LogAtSnapshot, number, line, _| located.observe(event_count, number, line),
            |located, _| {
                at_snapshot.merge(std::mem::take(located));
                Ok(())
            },
            progress,
        )?;
        at_snapshot.start = retired.as_ref().map_or(Head::default(), |retired| retired.head());
        let snapshot_integrity = snapshot.integrity(&at_snapshot);
        Ok(Verdict { integrity, snapshot_integrity, retired: retired.map(Arc::unwrap_or_clone) })
    }
}
