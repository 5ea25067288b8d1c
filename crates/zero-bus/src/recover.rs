//! Recovery: finds the end of a log that appends can continue from, and repairs what a crash left
//! after it.
//!
//! A crash can lose or tear bytes that were never synced. It cannot change synced bytes. The *sync
//! mark* in `bus.lock` says up to which byte the log is known to be synced, and names the event
//! that ends there. Recovery compares the log with it:
//!
//! - *Damage*: the log does not hold that event at that place, so synced bytes changed. Recovery
//!   changes nothing and refuses.
//! - *Torn tail*: after the mark, there is an invalid line, and no valid event in it or after it.
//!   Recovery copies these bytes to a file next to the log and cuts them off (*quarantine*). Then
//!   it continues.
//! - *Ambiguous tail*: after the mark, there is an invalid line, and a valid event in it or after
//!   it. A crash or tampering could have left it. Recovery changes nothing and refuses, unless
//!   [`AmbiguousTail`] says otherwise.
//! - *Missing events*: the log ends before the mark. Recovery refuses, with two exceptions. If only
//!   the last line break is missing, recovery continues, and the next append writes it. If the log
//!   ends with a part of the marked event, recovery quarantines that part and continues. It reports
//!   that no crash of a program explains this.
//!
//! "Valid event" here means a line with its own correct checksum, whether it links to the event
//! before it or not.
//!
//! Without a sync mark (a log copied from elsewhere, or a deleted lock file), the last lines
//! decide: an incomplete last line is a torn tail, and any other invalid line is damage.
//!
//! An open also refuses a log with fewer events than its snapshot records.
//!
//! Recovery reads the line that ends at the mark and those after it or, without a mark, at most the
//! last three lines. It does not verify the log before them. If it finds damage or missing events,
//! a scan from the start finds the first fault, for the error message.
//!
//! [`recover`] needs the exclusive lock on `bus.lock`. [`head`] only reads. It needs no lock,
//! because its callers pass an end up to which the log is durable.

use std::io;

use crate::chain::{Head, Line, is_unfinished};
use crate::chunk;
use crate::error::{Error, Result};
use crate::event::MAX_LINE_BYTES;
use crate::integrity::{self, Finding, Integrity, matches_log};
use crate::lines::{Lines, after_last_newline, last_line_before};
use crate::log_file::{LOCK, LOG, LogFile};
use crate::quarantine::{
    PendingRecord, QuarantineReason, QuarantinedTail, copy_before_record, cut_before_record, rewrite_and_sync,
};
use crate::snapshot::{SNAPSHOT, Snapshot, missing_events};
use crate::storage::{Storage, StorageFile};
use crate::sync_mark::SyncMark;

/// The end of the valid part of a log: where the next event goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) head: Head,
    /// Length of the valid part, in bytes.
    pub(crate) offset: u64,
    /// The last event is complete but lacks its line break, which the next append must write first.
    pub(crate) unterminated: bool,
}

/// Why [`recover`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A handle is being opened.
    Open,
    /// An open handle found bytes after its own end: another handle has appended, or crashed while
    /// it did.
    Refresh,
}

/// What opening a bus for appending does about an ambiguous tail: an invalid line after the sync
/// mark with valid events after it, which a crash or tampering could have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AmbiguousTail {
    /// Refuse it with [`Error::Ambiguous`] and change nothing, until an operator decides.
    #[default]
    Refuse,
    /// Quarantine it, wherever it starts. For a program that must start without an operator.
    ///
    /// The tail holds acknowledged events only if two faults meet: the sync mark is older than
    /// these events, as after a power cut, and synced bytes after the mark were lost or changed.
    Quarantine,
    /// Quarantine it if it starts at this byte, by decision of an operator who has seen it; refuse
    /// any other.
    QuarantineFrom(u64),
}

impl AmbiguousTail {
    fn is_quarantined_at(self, byte_offset: u64) -> bool {
        match self {
            Self::Refuse => false,
            Self::Quarantine => true,
            Self::QuarantineFrom(expected) => expected == byte_offset,
        }
    }
}

/// Finds the end of the valid part of a log, quarantines the bytes after it, and makes the bytes
/// before it durable. Refuses a log with any other fault, without changing it.
///
/// Returns the end, and the quarantined tail if there was one. Then the log still holds one
/// placeholder byte after the end. The caller must overwrite that byte with the record of the
/// quarantine before it appends anything else.
///
/// The caller holds the exclusive lock on `lock_file`, so no other handle appends meanwhile.
pub(crate) fn recover(
    storage: &dyn Storage,
    file: &LogFile,
    lock_file: &dyn StorageFile,
    purpose: Purpose,
    on_ambiguous_tail: AmbiguousTail,
) -> Result<(End, Option<QuarantinedTail>)> {
    let path = storage.path(LOG);
    let length = file.size().map_err(Error::io("read the size of", &path))?;
    let mark = SyncMark::read(lock_file).map_err(Error::io("read", &storage.path(LOCK)))?;
    let (end, excess) = match mark {
        None => find_end_without_mark(storage, file, length)?,
        Some(mark) => find_end_after_mark(storage, file, mark, length, on_ambiguous_tail)?,
    };
    // Checked before anything is changed, so that a refused open leaves the log as it was.
    if purpose != Purpose::Refresh {
        check_snapshot_not_ahead(storage, end.head)?;
    }
    let new_mark = SyncMark { head: end.head, bytes: end.offset };
    let write_mark = || {
        let written = new_mark.write(lock_file, &mut String::new()).and_then(|()| lock_file.sync());
        written.map_err(Error::io("write the sync mark to", &storage.path(LOCK)))
    };
    let mut quarantined = None;
    if let Some(reason) = excess {
        let failed = || Error::io("quarantine the tail of", &path);
        let tail = copy_before_record(storage, LOG, file, lock_file, end.offset, length, reason);
        quarantined = Some(tail.map_err(failed())?);
        if reason == QuarantineReason::Truncated {
            // Before the cut: a crash after the cut must not leave a mark beyond the end of the
            // log.
            write_mark()?;
        }
        cut_before_record(storage, LOG, file, file.base(), end.offset).map_err(failed())?;
    }
    if mark != Some(new_mark) {
        // New events link to the last one, so that one must be durable, even if its writer died
        // before the sync. Without a mark, it is unknown which bytes are unsynced: then the file is
        // synced but not rewritten.
        let synced_bytes = mark.map_or(end.offset, |mark| mark.bytes);
        rewrite_and_sync(storage, LOG, file, file.base(), synced_bytes..end.offset)
            .map_err(Error::io("sync", &path))?;
    }
    if mark != Some(new_mark) || purpose != Purpose::Refresh {
        // No tail is left, so the record of an earlier quarantine is complete, and a tail that is
        // found later is another one.
        if quarantined.is_none()
            && PendingRecord::read(lock_file).map_err(Error::io("read", &storage.path(LOCK)))?.is_some()
        {
            PendingRecord::clear(lock_file).map_err(Error::io("write to", &storage.path(LOCK)))?;
        }
        // An open writes the mark even if it is unchanged: the one in the file may never have been
        // synced.
        write_mark()?;
    }
    Ok((end, quarantined))
}

/// Why the bytes after the end of the valid part are quarantined; `None` if the file ends there.
type Excess = Option<QuarantineReason>;

/// Finds the end of a log whose sync mark is known.
fn find_end_after_mark(
    storage: &dyn Storage,
    file: &LogFile,
    mark: SyncMark,
    length: u64,
    on_ambiguous_tail: AmbiguousTail,
) -> Result<(End, Excess)> {
    let path = storage.path(LOG);
    let reading = || Error::io("read the tail of", &path);
    // If only the last line break is missing, every synced event is there.
    let without_line_break = SyncMark { bytes: length, ..mark };
    if length + 1 == mark.bytes && matches_log(file, without_line_break).map_err(reading())? {
        return Ok((End { head: mark.head, offset: length, unterminated: true }, None));
    }
    if length < mark.bytes {
        // If only a part of the last synced event is missing, appends can continue from the event
        // before it.
        if let Tail::Torn(end) = classify_tail(file, length).map_err(reading())?
            && end.head.index.checked_add(1) == Some(mark.head.index)
        {
            return Ok((end, Some(QuarantineReason::Truncated)));
        }
        // A scan counts the events that are left, or finds that the log is damaged.
        return Err(locate_damage(storage, file, Some(mark), length));
    }
    let Some(integrity) = scan_after_mark(file, mark, length).map_err(reading())? else {
        return Err(locate_damage(storage, file, Some(mark), length));
    };
    let head = integrity.head;
    let end_at =
        |byte_offset, reason| Ok((End { head, offset: byte_offset, unterminated: false }, Some(reason)));
    match integrity.finding {
        Finding::Torn { byte_offset, .. } => end_at(byte_offset, QuarantineReason::Torn),
        Finding::Ambiguous(fault) if on_ambiguous_tail.is_quarantined_at(fault.byte_offset) => {
            end_at(fault.byte_offset, QuarantineReason::Ambiguous)
        }
        Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
        Finding::Fault(_) => Err(locate_damage(storage, file, Some(mark), length)),
        // The scan starts at the mark, which is not beyond the end, so nothing can be missing.
        Finding::Sound | Finding::Missing(_) | Finding::Truncated { .. } => {
            let last_line = after_last_newline(file, length).map_err(reading())?;
            Ok((End { head, offset: length, unterminated: last_line < length }, None))
        }
    }
}

/// Finds the end of a log without a sync mark: a log copied from elsewhere, or one whose lock file
/// was deleted.
fn find_end_without_mark(storage: &dyn Storage, file: &LogFile, length: u64) -> Result<(End, Excess)> {
    let tail = classify_tail(file, length).map_err(Error::io("read the tail of", &storage.path(LOG)))?;
    match tail {
        Tail::Whole(end) => Ok((end, None)),
        Tail::Torn(end) => Ok((end, Some(QuarantineReason::Torn))),
        Tail::Damaged => Err(locate_damage(storage, file, None, length)),
    }
}

/// Refuses a log with fewer events than its snapshot records, since events are missing. A snapshot
/// that cannot be read is ignored.
fn check_snapshot_not_ahead(storage: &dyn Storage, head: Head) -> Result<()> {
    let snapshot = Snapshot::read(storage).ok();
    let recorded = snapshot.map_or(0, |snapshot| snapshot.event_count());
    if recorded <= head.index {
        return Ok(());
    }
    Err(missing_events(storage, head.index, recorded, SNAPSHOT))
}

/// Returns the head of the valid part of a log, or `None` if the tail is damaged. Reads the line
/// that ends at the sync mark and those after it or, if no mark matches the log, at most the last
/// three lines.
pub(crate) fn head(file: &LogFile, mark: Option<SyncMark>, length: u64) -> io::Result<Option<Head>> {
    if let Some(mark) = mark.filter(|mark| mark.bytes <= length)
        && let Some(integrity) = scan_after_mark(file, mark, length)?
    {
        return Ok(Some(integrity.head));
    }
    Ok(match classify_tail(file, length)? {
        Tail::Whole(end) | Tail::Torn(end) => Some(end.head),
        Tail::Damaged => None,
    })
}

/// Verifies the lines after the sync mark, up to the end of the log. Returns `None` if the log does
/// not hold the mark's event at the mark's position.
fn scan_after_mark(file: &LogFile, mark: SyncMark, length: u64) -> io::Result<Option<Integrity>> {
    if !matches_log(file, mark)? {
        return Ok(None);
    }
    let lines = Lines::new(file.clone(), mark.bytes, length);
    integrity::scan_tail(lines, mark.head, Some(mark)).map(Some)
}

/// What the last lines of a log show without a sync mark.
#[derive(Debug)]
enum Tail {
    /// The log ends with a valid event.
    Whole(End),
    /// The last line is incomplete, or longer than any event. The event before it is valid.
    Torn(End),
    /// The line that should be the last event is invalid or does not link to the one before it.
    Damaged,
}

fn classify_tail(file: &LogFile, length: u64) -> io::Result<Tail> {
    let last_line = after_last_newline(file, length)?;
    let whole = End { head: Head::default(), offset: length, unterminated: last_line < length };
    let torn = End { head: Head::default(), offset: last_line, unterminated: false };
    // Longer than any line that is ever written, so it cannot be an event.
    if length - last_line > MAX_LINE_BYTES as u64 {
        return verify_last_event(file, torn, Tail::Torn);
    }
    match last_line_before(file, length)? {
        Some(last) if !last.terminated && is_unfinished(last.bytes.as_deref()) => {
            verify_last_event(file, torn, Tail::Torn)
        }
        _ => verify_last_event(file, whole, Tail::Whole),
    }
}

/// Verifies the last line before `end.offset` against the line before that one. If it is valid,
/// sets the head of `end` and wraps `end` in the variant `tail`; otherwise returns
/// [`Tail::Damaged`].
fn verify_last_event(file: &LogFile, end: End, tail: fn(End) -> Tail) -> io::Result<Tail> {
    let start = file.start().head;
    let Some(last) = last_line_before(file, end.offset)? else {
        return Ok(tail(End { head: start, ..end }));
    };
    let previous = last_line_before(file, last.offset)?;
    let head = verify_line(last.bytes.as_deref(), previous.map(|line| line.bytes), start);
    Ok(head.map_or(Tail::Damaged, |head| tail(End { head, ..end })))
}

/// Returns the head after `line`, if it is a valid event and links to `previous`. `previous` is
/// `None` for the first line of a log, which links to `start`, and `Some(None)` if that line is too
/// long to be an event.
fn verify_line(line: Option<&[u8]>, previous: Option<Option<Vec<u8>>>, start: Head) -> Option<Head> {
    let line = Line::read(line?).ok()?;
    let head = match previous {
        None => start,
        Some(previous) => {
            let previous = previous?;
            let previous = Line::read(&previous).ok()?;
            let index = previous.index().filter(|_| previous.has_schema())?;
            Head { index, checksum: Some(previous.verify_alone(index).ok()?) }
        }
    };
    line.verify_after(head).ok()
}

/// Returns the error for a log that is damaged or lost its end. Scans the whole log, so that the
/// error names the first fault and not only the one at the tail.
pub(crate) fn locate_damage(
    storage: &dyn Storage,
    file: &LogFile,
    mark: Option<SyncMark>,
    length: u64,
) -> Error {
    let path = storage.path(LOG);
    let scanned = integrity::scan(
        file,
        length,
        mark,
        chunk::available_threads(),
        |(): &mut (), _, _, _| {},
        |_, _| Ok(()),
        &mut |_| {},
    );
    match scanned {
        Ok(integrity) => match integrity.finding {
            Finding::Fault(fault) => Error::Damaged { path, fault },
            Finding::Ambiguous(fault) => Error::Ambiguous { path, fault },
            Finding::Missing(recorded) => missing_events(storage, integrity.head.index, recorded, LOCK),
            // Every event is valid, but the log is not the one that the mark describes.
            _ => Error::Changed {
                path,
                reason: "the log was replaced: its events are valid, but they are not those that bus.lock \
                         records. Restore the log, or delete bus.lock to accept this one",
            },
        },
        Err(source) => Error::Io { action: "read", path, source },
    }
}
