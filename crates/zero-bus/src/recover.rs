//! What the tail of a log is: whole, torn, damaged or undecided. Looks at what stands behind the lock_file's note,
//! or, where there is none, at the last two lines; and no further.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::canonical::Value;
use crate::chain::{Head, Line, is_unfinished};
use crate::chunk;
use crate::error::{Error, Result};
use crate::event::MAX_LINE_BYTES;
use crate::integrity::{self, Finding, Integrity};
use crate::lines::{LOCK, LOG, LastLine, Lines, after_last_newline, last_line_before};
use crate::snapshot::{SNAPSHOT, Snapshot};
use crate::storage::{Access, Storage, StorageFile, read_exact_at};
use crate::sync_mark::SyncMark;

/// The end of a log that can be built upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) head: Head,
    /// Length of the sound part in bytes.
    pub(crate) offset: u64,
    /// The last event is complete but has no line break: it wants one before the next.
    pub(crate) unterminated: bool,
}

/// What the tail is.
#[derive(Debug)]
enum Tail {
    Whole(End),
    /// An unfinished line follows the end.
    Torn(End),
    Damaged,
}

/// An unfinished last line that was set aside when its file was opened for appending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedTail {
    /// Where the unfinished line began, which is the length the file was cut to.
    pub byte_offset: u64,
    /// How many bytes it had.
    pub bytes: u64,
    /// The name of the file next to it that holds them now.
    pub file: String,
    /// It had been synced whole: no crash of a program left this.
    pub was_synced: bool,
}

fn examine(file: &dyn StorageFile, length: u64) -> io::Result<Tail> {
    let rest = after_last_newline(file, length)?;
    let whole = End { head: Head::default(), offset: length, unterminated: rest < length };
    let torn = End { head: Head::default(), offset: rest, unterminated: false };
    // Too long to be a line, whatever it is.
    if length - rest > MAX_LINE_BYTES as u64 {
        return judge_end(file, torn, Tail::Torn);
    }
    match last_line_before(file, length)? {
        Some(last) if !last.terminated && is_unfinished(last.bytes.as_deref()) => {
            judge_end(file, torn, Tail::Torn)
        }
        _ => judge_end(file, whole, Tail::Whole),
    }
}

/// Judges the last line before an end by itself and the line before it, and puts the head it makes to the
/// end.
fn judge_end(file: &dyn StorageFile, end: End, found: fn(End) -> Tail) -> io::Result<Tail> {
    let Some(last) = last_line_before(file, end.offset)? else { return Ok(found(end)) };
    let before = last_line_before(file, last.offset)?;
    let head = judge_last(last.bytes.as_deref(), before.map(|line| line.bytes));
    Ok(head.map_or(Tail::Damaged, |head| found(End { head, ..end })))
}

/// Where the sound part of a log ends, as far as its tail tells; `None` where that is damaged.
pub(crate) fn head(
    file: &Arc<dyn StorageFile>,
    note: Option<SyncMark>,
    length: u64,
) -> io::Result<Option<Head>> {
    if let Some(note) = note.filter(|note| note.bytes <= length)
        && let Some(integrity) = examine_from(file, note, length)?
    {
        return Ok(Some(integrity.head));
    }
    Ok(match examine(&**file, length)? {
        Tail::Whole(end) | Tail::Torn(end) => Some(end.head),
        Tail::Damaged => None,
    })
}

/// The head that the last line makes, held against itself and the line before it. The outer `Option` of
/// `before` tells whether there is one, the inner whether it can be held.
fn judge_last(last: Option<&[u8]>, before: Option<Option<Vec<u8>>>) -> Option<Head> {
    let last = Line::read(last?).ok()?;
    let behind = match before {
        None => Head::default(),
        Some(before) => {
            let before = before?;
            let before = Line::read(&before).ok()?;
            let index = before.index().filter(|_| before.has_schema())?;
            Head { index, checksum: Some(before.is_sound(index).ok()?) }
        }
    };
    last.follows(behind).ok()
}

impl fmt::Display for QuarantinedTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an unfinished last line of {} bytes was set aside in {}", self.bytes, self.file)?;
        if self.was_synced {
            f.write_str("; it had been synced whole, so the disk lost the rest of it, or somebody cut it")?;
        }
        Ok(())
    }
}

/// Judges a tail by the note: from where the log is known to have been synced, line by line. `None` where the
/// note's own event is not in its place.
fn examine_from(file: &Arc<dyn StorageFile>, note: SyncMark, length: u64) -> io::Result<Option<Integrity>> {
    if !matches_log(&**file, note)? {
        return Ok(None);
    }
    let lines = Lines::new(Arc::clone(file), note.bytes, length);
    integrity::scan_tail(lines, note.head, Some(note)).map(Some)
}

/// The index of the last sound event, as far as the last lines tell.
fn last_event(file: &dyn StorageFile, length: u64) -> io::Result<u64> {
    let mut end = length;
    for _ in 0..2 {
        let Some(last) = last_line_before(file, end)? else { return Ok(0) };
        let line = last.bytes.as_deref().and_then(|bytes| Line::read(bytes).ok());
        if let Some(index) = line.filter(Line::is_sound_somewhere).and_then(|line| line.index()) {
            return Ok(index);
        }
        end = last.offset;
    }
    Ok(0)
}

/// Whether the log has the event that the note speaks of where the note says.
fn matches_log(file: &dyn StorageFile, note: SyncMark) -> io::Result<bool> {
    let last = last_line_before(file, note.bytes)?;
    let Some(last) = last else { return Ok(note.head == Head::default()) };
    let line = last.bytes.as_deref().and_then(|bytes| Line::read(bytes).ok());
    Ok(line.is_some_and(|line| {
        line.index() == Some(note.head.index) && line.is_sound(note.head.index).ok() == note.head.checksum
    }))
}

/// What the end of a log is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A handle is opened.
    Anew {
        /// Where somebody has decided that what nobody can tell from the bytes is to be set aside.
        decided: Option<u64>,
    },
    /// A handle finds that another one went on, or died.
    GoingOn,
}

/// Brings the log to an end that can be built upon: cuts a torn tail off, keeping its bytes, syncs what is not known
/// to have been, and refuses the rest. The caller holds the exclusive lock on the lock_file.
pub(crate) fn recover(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
    lock_file: &dyn StorageFile,
    opening: Opening,
) -> Result<(End, Option<QuarantinedTail>)> {
    let path = storage.path(LOG);
    let length = file.size().map_err(Error::io("look at it", &path))?;
    let note = SyncMark::read(lock_file).map_err(Error::io("read it", &storage.path(LOCK)))?;
    let (end, cut) = match note {
        None => recover_unknown(storage, file, length)?,
        Some(note) => recover_known(storage, file, note, length, opening)?,
    };
    if opening != Opening::GoingOn {
        check_snapshot_not_ahead(storage, end.head)?;
    }
    let set_aside = match cut {
        Cut::Nothing => None,
        Cut::Torn | Cut::Synced => {
            let kept = set_aside(storage, LOG, &**file, end.offset, length);
            let kept = kept.map_err(Error::io("set its torn tail aside", &path))?;
            Some(QuarantinedTail { was_synced: cut == Cut::Synced, ..kept })
        }
    };
    let now = SyncMark { head: end.head, bytes: end.offset };
    if note != Some(now) {
        // What is built upon must be durable, also where its writer did not live to see to it.
        let unsynced = note.map_or(end.offset, |note| note.bytes);
        write_again(storage, LOG, &**file, unsynced, end.offset).map_err(Error::io("sync it", &path))?;
    }
    if note != Some(now) || opening != Opening::GoingOn {
        // On opening in any case: whether the one that is there was ever synced is unknown.
        let noted = now.write(lock_file, &mut String::new()).and_then(|()| lock_file.sync());
        noted.map_err(Error::io("note how far the log is synced", &storage.path(LOCK)))?;
    }
    Ok((end, set_aside))
}

/// What stands behind the end that can be built upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Nothing,
    /// What a crash left.
    Torn,
    /// A part of an event that was synced whole.
    Synced,
}

/// Refuses a log that is shorter than what its snapshot was taken of. A snapshot that cannot be read remembers nothing.
fn check_snapshot_not_ahead(storage: &dyn Storage, head: Head) -> Result<()> {
    let found = Snapshot::read(storage).ok();
    let remembered = found.map_or(0, |found| found.event_count());
    if remembered <= head.index {
        return Ok(());
    }
    Err(Error::Missing { path: storage.path(LOG), events: head.index, remembered, witness: SNAPSHOT })
}

/// Writes a part of a file again as it is, and syncs. A sync alone would not do: where an earlier one failed, the
/// system may hold what it was to write for written, and never try again.
fn write_again(
    storage: &dyn Storage,
    name: &str,
    opened: &dyn StorageFile,
    from: u64,
    to: u64,
) -> io::Result<()> {
    // Opened by its name, since a file that is appended to can't be written to anywhere else.
    let replaced = || io::Error::other("is no longer the file that was opened");
    if !storage.is_current(name, opened)? {
        return Err(replaced());
    }
    let file = storage.open(name, Access::ReadWrite)?;
    if file.identity()? != opened.identity()? {
        return Err(replaced());
    }
    let mut buffer = vec![0; 256 << 10];
    let mut at = from;
    while at < to {
        let wanted = (to - at).min(buffer.len() as u64) as usize;
        read_exact_at(&*file, &mut buffer[..wanted], at)?;
        file.write_at(&buffer[..wanted], at)?;
        at += wanted as u64;
    }
    file.sync()
}

fn recover_known(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
    note: SyncMark,
    length: u64,
    opening: Opening,
) -> Result<(End, Cut)> {
    let path = storage.path(LOG);
    let reading = || Error::io("read its tail", &path);
    // A log whose last line break alone is missing has all its events.
    let unbroken = SyncMark { bytes: length, ..note };
    if length + 1 == note.bytes && matches_log(&**file, unbroken).map_err(reading())? {
        return Ok((End { head: note.head, offset: length, unterminated: true }, Cut::Nothing));
    }
    if length < note.bytes {
        // Of the last event alone a part is there: what was before it can be built upon.
        if let Tail::Torn(end) = examine(&**file, length).map_err(reading())?
            && end.head.index.checked_add(1) == Some(note.head.index)
        {
            return Ok((end, Cut::Synced));
        }
        let events = last_event(&**file, length).map_err(reading())?;
        return Err(Error::Missing { path, events, remembered: note.head.index, witness: LOCK });
    }
    let Some(integrity) = examine_from(file, note, length).map_err(reading())? else {
        return Err(locate_damage(storage, file, Some(note), length));
    };
    let head = integrity.head;
    let torn = |byte_offset| Ok((End { head, offset: byte_offset, unterminated: false }, Cut::Torn));
    match integrity.finding {
        Finding::Torn { byte_offset, .. } => torn(byte_offset),
        Finding::Ambiguous(fault) if opening == (Opening::Anew { decided: Some(fault.byte_offset) }) => {
            torn(fault.byte_offset)
        }
        Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
        Finding::Fault(_) => Err(locate_damage(storage, file, Some(note), length)),
        Finding::Sound | Finding::Missing(_) | Finding::Truncated { .. } => {
            let rest = after_last_newline(&**file, length).map_err(reading())?;
            Ok((End { head, offset: length, unterminated: rest < length }, Cut::Nothing))
        }
    }
}

/// A log whose lock_file knows nothing: from elsewhere, or its lock_file was removed.
fn recover_unknown(storage: &dyn Storage, file: &Arc<dyn StorageFile>, length: u64) -> Result<(End, Cut)> {
    match examine(&**file, length).map_err(Error::io("read its tail", &storage.path(LOG)))? {
        Tail::Whole(end) => Ok((end, Cut::Nothing)),
        Tail::Torn(end) => Ok((end, Cut::Torn)),
        Tail::Damaged => Err(locate_damage(storage, file, None, length)),
    }
}

/// The error for a damaged log. To name the first fault, and not merely the one at the tail, the whole log
/// is walked.
pub(crate) fn locate_damage(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
    note: Option<SyncMark>,
    length: u64,
) -> Error {
    let path = storage.path(LOG);
    let walked = integrity::scan(
        file,
        length,
        note,
        chunk::available_threads(),
        |(): &mut (), _, _, _| {},
        |_, _| Ok(()),
        &mut |_| {},
    );
    match walked {
        Ok(integrity) => match integrity.finding {
            Finding::Fault(fault) => Error::Damaged { path, fault },
            Finding::Ambiguous(fault) => Error::Ambiguous { path, fault },
            // A sound log, but not the one that was here.
            _ => Error::Changed {
                path,
                reason: "is not the log that bus.lock beside it remembers; remove that if this one is meant",
            },
        },
        Err(source) => Error::Io { action: "read it", path, source },
    }
}

/// What stands at the end of an append-only file of JSON objects, a line each, other than a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalTail {
    /// Nothing.
    Clean,
    /// A complete line, of which only the line break is missing.
    Unterminated,
    /// What a crash leaves of a line: its beginning, or anything in its place that is no JSON.
    Torn {
        /// Where it begins, in bytes from the start of the file.
        byte_offset: u64,
    },
}

impl JournalTail {
    /// Looks at the end of a file of a certain size. Reads the last line, and what is spoilt before it.
    ///
    /// Each line was synced before the next, so a crash spoils one. Where garbage in its place has line breaks of its own, it
    /// looks like several, but not like text; several lines of text are somebody's. Of a file that holds nothing
    /// else, only what begins as a line does, or with zeros, counts as what a crash left.
    ///
    /// # Errors
    /// What the system reports.
    pub fn inspect(file: &dyn StorageFile, size: u64) -> io::Result<Self> {
        let mut first = None;
        let (mut spoilt, mut garbage, mut sound) = (0, false, false);
        let mut end = size;
        while let Some(last) = last_line_before(file, end)? {
            if !is_spoilt(&last) {
                sound = true;
                break;
            }
            spoilt += 1;
            garbage |= !is_text(last.bytes.as_deref());
            if spoilt > 1 && !garbage {
                break;
            }
            end = last.offset;
            first = Some(last);
        }
        match first {
            Some(_) if spoilt > 1 && !garbage => Ok(Self::Clean),
            Some(first) if sound || is_left_by_a_crash(first.bytes.as_deref()) => {
                Ok(Self::Torn { byte_offset: end })
            }
            // Nothing but white space is as good as a line.
            _ if after_last_newline(file, size)? < size => Ok(Self::Unterminated),
            _ => Ok(Self::Clean),
        }
    }

    /// Leaves the file at the end of a whole line, durably: adds the missing line break, or sets the unfinished line
    /// aside, and writes the last line again, for a file of which each line was synced before the next. The caller keeps
    /// others from appending.
    ///
    /// # Errors
    /// What the system reports.
    pub fn mend(
        self,
        storage: &dyn Storage,
        name: &str,
        file: &dyn StorageFile,
    ) -> io::Result<Option<QuarantinedTail>> {
        let set_aside = match self {
            Self::Clean => None,
            Self::Unterminated => {
                file.append(b"\n")?;
                None
            }
            Self::Torn { byte_offset } => Some(set_aside(storage, name, file, byte_offset, file.size()?)?),
        };
        let size = file.size()?;
        let last = last_line_before(file, size)?.map_or(size, |last| last.offset);
        write_again(storage, name, file, last, size)?;
        Ok(set_aside)
    }
}

/// Whether this is no JSON object.
fn is_spoilt(last: &LastLine) -> bool {
    let text = last.bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    !text.is_some_and(|text| matches!(Value::parse(text), Ok(Value::Object(_))))
}

/// Whether these are characters that somebody writes.
fn is_text(bytes: Option<&[u8]>) -> bool {
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| !text.contains(|character: char| character.is_control() && character != '\t'))
}

/// Whether what is no line can be what a power cut left of one, in a file that holds nothing before it: it begins as one
/// does, or with the zeros of a block that was never written.
fn is_left_by_a_crash(line: Option<&[u8]>) -> bool {
    line.is_some_and(|line| matches!(line.first(), Some(b'{' | 0)))
}

/// Copies the end of a file to one that was not there before, durably, and cuts it off.
fn set_aside(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    offset: u64,
    length: u64,
) -> io::Result<QuarantinedTail> {
    let mut attempt = 1;
    let (kept, copy) = loop {
        let kept = match attempt {
            1 => format!("{name}.torn-at-{offset}"),
            _ => format!("{name}.torn-at-{offset}-{attempt}"),
        };
        match storage.open(&kept, Access::New) {
            Ok(copy) => break (kept, copy),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // One that an attempt on a full disk left empty does for the next.
        let there = storage.open(&kept, Access::Append)?;
        if there.size()? == 0 {
            break (kept, there);
        }
        attempt += 1;
    };
    if let Err(error) = copy_range(file, &*copy, offset, length) {
        let _ = copy.truncate(0);
        return Err(error);
    }
    copy.sync()?;
    storage.sync()?;
    file.truncate(offset)?;
    file.sync()?;
    Ok(QuarantinedTail { byte_offset: offset, bytes: length - offset, file: kept, was_synced: false })
}

fn copy_range(from: &dyn StorageFile, to: &dyn StorageFile, offset: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = offset;
    while at < end {
        let wanted = (end - at).min(buffer.len() as u64) as usize;
        read_exact_at(from, &mut buffer[..wanted], at)?;
        to.append(&buffer[..wanted])?;
        at += wanted as u64;
    }
    Ok(())
}
