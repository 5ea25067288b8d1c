//! Recovery: finds the end of a log that appends can continue from, and repairs what a crash left
//! after it.
//!
//! A crash can lose or tear bytes that were never synced. It cannot change bytes that were. The
//! *sync mark* in `bus.lock` says how far the log is known to be synced and names the last synced
//! event. It decides what recovery makes of the tail:
//!
//! - The last synced event is not at its place. Synced bytes changed, which is *damage*: recovery
//!   changes nothing and refuses.
//! - After the mark, an invalid line follows, and no valid event after it. That is a *torn tail*:
//!   recovery moves the bytes to a file next to the log (*quarantine*), cuts the log and continues.
//! - After the mark, an invalid line follows, and a valid event after it. That is an *ambiguous
//!   tail*, since a crash or tampering could have left it: recovery changes nothing and refuses,
//!   until an operator decides.
//! - The log ends before the mark. Synced events are missing: recovery refuses. If the log still
//!   holds the beginning of the last event, and all events before it, recovery quarantines that
//!   beginning and continues. It reports that no crash of a program explains this.
//!
//! Without a sync mark (a log copied from elsewhere, or a deleted lock file), the last two lines
//! decide: an incomplete last line is a torn tail, and any other invalid line is damage.
//!
//! Recovery reads the lines after the mark, or the last two lines. It does not read the log before
//! them, which verification checks. The exception is damage: then a scan from the start finds the
//! first fault, for the error message.
//!
//! [`recover`] needs the exclusive lock on `bus.lock`. [`head`] only reads and needs no lock.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::canonical::Value;
use crate::chain::{Head, Line, is_unfinished};
use crate::chunk;
use crate::error::{Error, Result};
use crate::event::MAX_LINE_BYTES;
use crate::integrity::{self, Finding, Integrity, matches_log};
use crate::lines::{LOCK, LOG, LastLine, Lines, after_last_newline, last_line_before};
use crate::snapshot::{SNAPSHOT, Snapshot};
use crate::storage::{Access, Storage, StorageFile, read_exact_at};
use crate::sync_mark::SyncMark;

/// Bytes copied at a time.
const COPY_BYTES: usize = 256 << 10;

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
    Open {
        /// The operator's decision about an ambiguous tail that starts at this byte: quarantine it.
        quarantine_from: Option<u64>,
    },
    /// An open handle found bytes after its own end: another handle has appended, or crashed while
    /// it did.
    Refresh,
}

/// Bytes at the end of a log that hold no complete event. They were moved to a file next to the log
/// when the bus was opened for appending, so that a person can examine them.
///
/// [`Bus::quarantined`](crate::Bus::quarantined) lists the tails that a handle has moved. A program
/// should report them to its operator, who alone can tell whether the lost event matters.
/// [`fmt::Display`] writes one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedTail {
    /// Where the tail began in the file, and so the length to which the file was cut.
    pub byte_offset: u64,
    /// Length of the tail.
    pub bytes: u64,
    /// Name of the file that holds the tail now, in the directory of the log.
    pub file: String,
    /// The tail is the beginning of an event that was synced as a whole. No crash of a program
    /// causes this: either the disk lost synced bytes, or the file was cut.
    pub was_synced: bool,
}

impl fmt::Display for QuarantinedTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quarantined an incomplete last line of {} bytes in {}", self.bytes, self.file)?;
        if self.was_synced {
            f.write_str(
                "; the whole line had been synced, so the disk lost a part of it or the file was cut",
            )?;
        }
        Ok(())
    }
}

/// Finds the end of the log, quarantines a torn tail, and makes everything before the end durable.
/// Returns the end and the tail. Refuses a log with any other fault, without changing it.
///
/// The caller holds the exclusive lock on `lock_file`, so no other handle appends meanwhile.
pub(crate) fn recover(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
    lock_file: &dyn StorageFile,
    purpose: Purpose,
) -> Result<(End, Option<QuarantinedTail>)> {
    let path = storage.path(LOG);
    let length = file.size().map_err(Error::io("read the size of", &path))?;
    let mark = SyncMark::read(lock_file).map_err(Error::io("read", &storage.path(LOCK)))?;
    let (end, excess) = match mark {
        None => find_end_without_mark(storage, file, length)?,
        Some(mark) => find_end_after_mark(storage, file, mark, length, purpose)?,
    };
    // Checked before anything is changed, so that a refused open leaves the log as it was.
    if purpose != Purpose::Refresh {
        check_snapshot_not_ahead(storage, end.head)?;
    }
    let quarantined = match excess {
        Excess::None => None,
        Excess::Torn | Excess::Truncated => {
            let tail = quarantine(storage, LOG, &**file, end.offset, length);
            let tail = tail.map_err(Error::io("quarantine the torn tail of", &path))?;
            Some(QuarantinedTail { was_synced: excess == Excess::Truncated, ..tail })
        }
    };
    let new_mark = SyncMark { head: end.head, bytes: end.offset };
    if mark != Some(new_mark) {
        // New events link to the last one, so it must be durable even if its writer died before the
        // sync. Without a mark, nothing tells which bytes are unsynced: then the file is synced but
        // not rewritten.
        let synced_bytes = mark.map_or(end.offset, |mark| mark.bytes);
        rewrite_and_sync(storage, LOG, &**file, synced_bytes, end.offset)
            .map_err(Error::io("sync", &path))?;
    }
    if mark != Some(new_mark) || purpose != Purpose::Refresh {
        // An open writes the mark even if it is unchanged: the one in the file may never have been
        // synced.
        let written = new_mark.write(lock_file, &mut String::new()).and_then(|()| lock_file.sync());
        written.map_err(Error::io("write the sync mark to", &storage.path(LOCK)))?;
    }
    Ok((end, quarantined))
}

/// The bytes after the end of the valid part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excess {
    None,
    /// A torn tail.
    Torn,
    /// The beginning of an event that was synced as a whole.
    Truncated,
}

/// Finds the end of a log whose sync mark is known.
fn find_end_after_mark(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
    mark: SyncMark,
    length: u64,
    purpose: Purpose,
) -> Result<(End, Excess)> {
    let path = storage.path(LOG);
    let reading = || Error::io("read the tail of", &path);
    // If only the last line break is missing, every synced event is there.
    let without_line_break = SyncMark { bytes: length, ..mark };
    if length + 1 == mark.bytes && matches_log(&**file, without_line_break).map_err(reading())? {
        return Ok((End { head: mark.head, offset: length, unterminated: true }, Excess::None));
    }
    if length < mark.bytes {
        // If only a part of the last synced event is missing, appends can continue from the event
        // before it.
        if let Tail::Torn(end) = classify_tail(&**file, length).map_err(reading())?
            && end.head.index.checked_add(1) == Some(mark.head.index)
        {
            return Ok((end, Excess::Truncated));
        }
        let events = last_valid_index(&**file, length).map_err(reading())?;
        if events >= mark.head.index {
            return Err(locate_damage(storage, file, Some(mark), length));
        }
        return Err(Error::Missing { path, events, recorded: mark.head.index, recorded_in: LOCK });
    }
    let Some(integrity) = scan_after_mark(file, mark, length).map_err(reading())? else {
        return Err(locate_damage(storage, file, Some(mark), length));
    };
    let head = integrity.head;
    let torn_at = |byte_offset| Ok((End { head, offset: byte_offset, unterminated: false }, Excess::Torn));
    match integrity.finding {
        Finding::Torn { byte_offset, .. } => torn_at(byte_offset),
        Finding::Ambiguous(fault)
            if purpose == (Purpose::Open { quarantine_from: Some(fault.byte_offset) }) =>
        {
            torn_at(fault.byte_offset)
        }
        Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
        Finding::Fault(_) => Err(locate_damage(storage, file, Some(mark), length)),
        Finding::Sound | Finding::Missing(_) | Finding::Truncated { .. } => {
            let last_line = after_last_newline(&**file, length).map_err(reading())?;
            Ok((End { head, offset: length, unterminated: last_line < length }, Excess::None))
        }
    }
}

/// Finds the end of a log without a sync mark: a log copied from elsewhere, or one whose lock file
/// was deleted.
fn find_end_without_mark(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
    length: u64,
) -> Result<(End, Excess)> {
    let tail = classify_tail(&**file, length).map_err(Error::io("read the tail of", &storage.path(LOG)))?;
    match tail {
        Tail::Whole(end) => Ok((end, Excess::None)),
        Tail::Torn(end) => Ok((end, Excess::Torn)),
        Tail::Damaged => Err(locate_damage(storage, file, None, length)),
    }
}

/// Refuses a log that is shorter than its snapshot says, since events are missing from it. A
/// snapshot that cannot be read says nothing.
fn check_snapshot_not_ahead(storage: &dyn Storage, head: Head) -> Result<()> {
    let snapshot = Snapshot::read(storage).ok();
    let recorded = snapshot.map_or(0, |snapshot| snapshot.event_count());
    if recorded <= head.index {
        return Ok(());
    }
    Err(Error::Missing { path: storage.path(LOG), events: head.index, recorded, recorded_in: SNAPSHOT })
}

/// Returns the head of the valid part of a log, or `None` if the tail is damaged. Reads the lines
/// after the sync mark; if there is no mark that matches the log, the last two lines.
pub(crate) fn head(
    file: &Arc<dyn StorageFile>,
    mark: Option<SyncMark>,
    length: u64,
) -> io::Result<Option<Head>> {
    if let Some(mark) = mark.filter(|mark| mark.bytes <= length)
        && let Some(integrity) = scan_after_mark(file, mark, length)?
    {
        return Ok(Some(integrity.head));
    }
    Ok(match classify_tail(&**file, length)? {
        Tail::Whole(end) | Tail::Torn(end) => Some(end.head),
        Tail::Damaged => None,
    })
}

/// Verifies the lines after the sync mark, up to the end of the log. Returns `None` if the log does
/// not hold the mark's event at the mark's position.
fn scan_after_mark(
    file: &Arc<dyn StorageFile>,
    mark: SyncMark,
    length: u64,
) -> io::Result<Option<Integrity>> {
    if !matches_log(&**file, mark)? {
        return Ok(None);
    }
    let lines = Lines::new(Arc::clone(file), mark.bytes, length);
    integrity::scan_tail(lines, mark.head, Some(mark)).map(Some)
}

/// What the last two lines of a log show, without a sync mark.
#[derive(Debug)]
enum Tail {
    /// The log ends with a valid event.
    Whole(End),
    /// An incomplete line follows the last valid event.
    Torn(End),
    Damaged,
}

fn classify_tail(file: &dyn StorageFile, length: u64) -> io::Result<Tail> {
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

/// Verifies the last line before `end` against the line before that one. Returns `tail` of the end
/// with its head filled in, or [`Tail::Damaged`].
fn verify_last_event(file: &dyn StorageFile, end: End, tail: fn(End) -> Tail) -> io::Result<Tail> {
    let Some(last) = last_line_before(file, end.offset)? else { return Ok(tail(end)) };
    let previous = last_line_before(file, last.offset)?;
    let head = verify_line(last.bytes.as_deref(), previous.map(|line| line.bytes));
    Ok(head.map_or(Tail::Damaged, |head| tail(End { head, ..end })))
}

/// Returns the head after `line`, if it is a valid event and links to `previous`. `previous` is
/// `None` for the first line of a log, and `Some(None)` if that line is too long to be an event.
fn verify_line(line: Option<&[u8]>, previous: Option<Option<Vec<u8>>>) -> Option<Head> {
    let line = Line::read(line?).ok()?;
    let head = match previous {
        None => Head::default(),
        Some(previous) => {
            let previous = previous?;
            let previous = Line::read(&previous).ok()?;
            let index = previous.index().filter(|_| previous.has_schema())?;
            Head { index, checksum: Some(previous.verify_alone(index).ok()?) }
        }
    };
    line.verify_after(head).ok()
}

/// Returns the index of the last valid event among the last two lines, or 0.
fn last_valid_index(file: &dyn StorageFile, length: u64) -> io::Result<u64> {
    let mut end = length;
    for _ in 0..2 {
        let Some(last) = last_line_before(file, end)? else { return Ok(0) };
        let line = last.bytes.as_deref().and_then(|bytes| Line::read(bytes).ok());
        if let Some(index) = line.filter(Line::is_valid_event).and_then(|line| line.index()) {
            return Ok(index);
        }
        end = last.offset;
    }
    Ok(0)
}

/// Returns the error for a damaged log. Scans the whole log, so that the error names the first
/// fault and not only the one at the tail.
pub(crate) fn locate_damage(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
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
            Finding::Missing(recorded) => {
                Error::Missing { path, events: integrity.head.index, recorded, recorded_in: LOCK }
            }
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

/// Writes the bytes in `from..to` of a file to the same place again, then syncs the file.
///
/// A second sync alone proves nothing: after a failed `fdatasync` the kernel may consider the dirty
/// pages clean, and a later sync succeeds without writing them. Rewriting makes the pages dirty
/// again.
fn rewrite_and_sync(
    storage: &dyn Storage,
    name: &str,
    opened: &dyn StorageFile,
    from: u64,
    to: u64,
) -> io::Result<()> {
    let replaced = || io::Error::other("is no longer the file that was opened");
    if !storage.is_current(name, opened)? {
        return Err(replaced());
    }
    // `opened` is in append mode, in which every write goes to the end: a second handle is needed.
    let file = storage.open(name, Access::ReadWrite)?;
    if file.identity()? != opened.identity()? {
        return Err(replaced());
    }
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = from;
    while offset < to {
        let length = (to - offset).min(buffer.len() as u64) as usize;
        read_exact_at(&*file, &mut buffer[..length], offset)?;
        file.write_at(&buffer[..length], offset)?;
        offset += length as u64;
    }
    file.sync()
}

/// Moves the bytes in `offset..length` of a file to a new file next to it, and cuts the file to
/// `offset`. The copy is durable before the file is cut, so a crash in between loses nothing.
fn quarantine(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    offset: u64,
    length: u64,
) -> io::Result<QuarantinedTail> {
    let (copy_name, copy) = open_quarantine_file(storage, name, offset)?;
    if let Err(error) = copy_range(file, &*copy, offset, length) {
        // An empty file can be used by the next attempt.
        let _ = copy.truncate(0);
        return Err(error);
    }
    copy.sync()?;
    storage.sync()?;
    file.truncate(offset)?;
    file.sync()?;
    Ok(QuarantinedTail { byte_offset: offset, bytes: length - offset, file: copy_name, was_synced: false })
}

/// Opens the first file of `NAME.torn-at-OFFSET`, `NAME.torn-at-OFFSET-2`, ... that does not exist
/// or is empty. A failed attempt on a full disk leaves an empty one.
fn open_quarantine_file(
    storage: &dyn Storage,
    name: &str,
    offset: u64,
) -> io::Result<(String, Box<dyn StorageFile>)> {
    let mut attempt = 1;
    loop {
        let copy_name = match attempt {
            1 => format!("{name}.torn-at-{offset}"),
            _ => format!("{name}.torn-at-{offset}-{attempt}"),
        };
        match storage.open(&copy_name, Access::New) {
            Ok(copy) => return Ok((copy_name, copy)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let copy = storage.open(&copy_name, Access::Append)?;
        if copy.size()? == 0 {
            return Ok((copy_name, copy));
        }
        attempt += 1;
    }
}

fn copy_range(from: &dyn StorageFile, to: &dyn StorageFile, offset: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = offset;
    while offset < end {
        let length = (end - offset).min(buffer.len() as u64) as usize;
        read_exact_at(from, &mut buffer[..length], offset)?;
        to.append(&buffer[..length])?;
        offset += length as u64;
    }
    Ok(())
}

/// What follows the last complete line of a journal: an append-only file with one JSON object per
/// line, other than a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalTail {
    /// Nothing: the file is empty or its last line is complete.
    Clean,
    /// The last line is a JSON object but lacks its line break.
    Unterminated,
    /// Bytes that are no JSON object, which a crash could have left.
    Torn {
        /// Where they begin, in bytes from the start of the file.
        byte_offset: u64,
    },
}

impl JournalTail {
    /// Classifies the tail of a file of `size` bytes. Reads the last JSON object and what follows
    /// it.
    ///
    /// Each line of a journal is synced before the next one is written, so a crash can spoil only
    /// the last line. If that line holds binary garbage, the garbage may contain line breaks and
    /// look like several lines. Two invalid lines of text, however, are no torn tail: a person or a
    /// program wrote them, and the file counts as clean. In a file without any JSON object, bytes
    /// count as torn only if they begin with `{` or a zero byte.
    ///
    /// # Errors
    /// What the system reports.
    pub fn inspect(file: &dyn StorageFile, size: u64) -> io::Result<Self> {
        let mut first_invalid = None;
        let (mut invalid_lines, mut has_binary, mut has_object) = (0, false, false);
        let mut end = size;
        while let Some(last) = last_line_before(file, end)? {
            if is_object(&last) {
                has_object = true;
                break;
            }
            invalid_lines += 1;
            has_binary |= !is_text(last.bytes.as_deref());
            if invalid_lines > 1 && !has_binary {
                break;
            }
            end = last.offset;
            first_invalid = Some(last);
        }
        match first_invalid {
            Some(_) if invalid_lines > 1 && !has_binary => Ok(Self::Clean),
            Some(first) if has_object || could_begin_record(first.bytes.as_deref()) => {
                Ok(Self::Torn { byte_offset: end })
            }
            // The last line is a JSON object, white space, or text in a file without any object.
            _ if after_last_newline(file, size)? < size => Ok(Self::Unterminated),
            _ => Ok(Self::Clean),
        }
    }

    /// Repairs the tail so that appends can continue: adds a missing line break, or quarantines a
    /// torn tail. Then rewrites and syncs the last line, whose writer may have died before its
    /// sync.
    ///
    /// The caller must keep other programs from appending meanwhile.
    ///
    /// # Errors
    /// What the system reports.
    pub fn mend(
        self,
        storage: &dyn Storage,
        name: &str,
        file: &dyn StorageFile,
    ) -> io::Result<Option<QuarantinedTail>> {
        let quarantined = match self {
            Self::Clean => None,
            Self::Unterminated => {
                file.append(b"\n")?;
                None
            }
            Self::Torn { byte_offset } => Some(quarantine(storage, name, file, byte_offset, file.size()?)?),
        };
        let size = file.size()?;
        let last_line = last_line_before(file, size)?.map_or(size, |last| last.offset);
        rewrite_and_sync(storage, name, file, last_line, size)?;
        Ok(quarantined)
    }
}

fn is_object(line: &LastLine) -> bool {
    let text = line.bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| matches!(Value::parse(text), Ok(Value::Object(_))))
}

/// Returns whether a line is UTF-8 without control characters other than tabs.
fn is_text(line: Option<&[u8]>) -> bool {
    let text = line.and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| !text.contains(|character: char| character.is_control() && character != '\t'))
}

/// Returns whether a power cut during the first append to a file could have left this line: it
/// begins like a record, or with the zeros of a block that was never written.
fn could_begin_record(line: Option<&[u8]>) -> bool {
    line.is_some_and(|line| matches!(line.first(), Some(b'{' | 0)))
}
