//! What the tail of a log is: whole, torn, or damaged. Looks at the last two lines and no further.

use std::io;
use std::sync::Arc;

use crate::canonical::Value;
use crate::chain::{Head, Line, is_unfinished};
use crate::error::{Error, Result};
use crate::event::MAX_LINE_BYTES;
use crate::lines::{LOG, Lines, last_line, start_of_rest};
use crate::storage::{Access, Storage, StorageFile, read_exact_at};
use crate::walk::{self, Finding};

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
pub struct SetAside {
    /// Where the unfinished line began, which is the length the file was cut to.
    pub byte_offset: u64,
    /// How many bytes it had.
    pub bytes: u64,
    /// The name of the file next to it that holds them now.
    pub file: String,
}

fn examine(file: &dyn StorageFile, length: u64) -> io::Result<Tail> {
    let rest = start_of_rest(file, length)?;
    let whole = End { head: Head::default(), offset: length, unterminated: rest < length };
    let torn = End { head: Head::default(), offset: rest, unterminated: false };
    // Too long to be a line, whatever it is.
    if length - rest > MAX_LINE_BYTES as u64 {
        return judge_end(file, torn, Tail::Torn);
    }
    match last_line(file, length)? {
        Some(last) if !last.terminated && is_unfinished(last.bytes.as_deref()) => {
            judge_end(file, torn, Tail::Torn)
        }
        _ => judge_end(file, whole, Tail::Whole),
    }
}

/// Judges the last line before an end by itself and the line before it, and puts the head it makes to the
/// end.
fn judge_end(file: &dyn StorageFile, end: End, found: fn(End) -> Tail) -> io::Result<Tail> {
    let Some(last) = last_line(file, end.offset)? else { return Ok(found(end)) };
    let before = last_line(file, last.offset)?;
    let head = judge_last(last.bytes.as_deref(), before.map(|line| line.bytes));
    Ok(head.map_or(Tail::Damaged, |head| found(End { head, ..end })))
}

/// The head of a log whose tail is whole or torn; `None` where it is damaged.
pub(crate) fn head(file: &dyn StorageFile, length: u64) -> io::Result<Option<Head>> {
    Ok(match examine(file, length)? {
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

/// Brings the log to an end that can be built upon: cuts a torn tail off, keeping its bytes, and refuses
/// damage. The caller holds the exclusive lock.
pub(crate) fn recover(storage: &dyn Storage, file: &Arc<dyn StorageFile>) -> Result<(End, Option<SetAside>)> {
    let path = storage.path(LOG);
    let length = file.size().map_err(Error::io("look at it", &path))?;
    match examine(&**file, length).map_err(Error::io("read its tail", &path))? {
        Tail::Whole(end) => Ok((end, None)),
        Tail::Torn(end) => {
            let set_aside = set_aside(storage, LOG, &**file, end.offset, length);
            Ok((end, Some(set_aside.map_err(Error::io("set its torn tail aside", &path))?)))
        }
        Tail::Damaged => Err(name_the_damage(storage, file, length)),
    }
}

/// The error for a damaged log. To name the first fault, and not merely the one at the tail, the whole log
/// is walked.
pub(crate) fn name_the_damage(storage: &dyn Storage, file: &Arc<dyn StorageFile>, length: u64) -> Error {
    let path = storage.path(LOG);
    let lines = Lines::new(Arc::clone(file), 0, length);
    match walk::walk(lines, |_, _| Ok(()), &mut |_| {}) {
        Ok(integrity) => match integrity.finding {
            Finding::Fault(fault) => Error::Damaged { path, fault },
            // The file changed between the two looks.
            _ => Error::Changed { path, reason: "its content changed while it was examined" },
        },
        Err(source) => Error::Io { action: "read it", path, source },
    }
}

/// Leaves an append-only file of JSON lines, other than a log, at the end of a whole line: a complete last
/// line without its line break gets it, an unfinished one is set aside. Gives the length. The caller keeps
/// others from appending.
///
/// Reads the last line.
///
/// # Errors
/// What the system reports.
pub fn finish_last_line(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
) -> io::Result<(u64, Option<SetAside>)> {
    let length = file.size()?;
    let rest = start_of_rest(file, length)?;
    if rest == length {
        return Ok((length, None));
    }
    let text = match last_line(file, length)?.filter(|last| last.offset == rest) {
        Some(last) => last.bytes,
        // Nothing but white space.
        None => Some(b"null".to_vec()),
    };
    let text = text.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    if text.is_some_and(|text| Value::parse(text).is_ok()) {
        file.append(b"\n")?;
        file.sync()?;
        return Ok((length + 1, None));
    }
    Ok((rest, Some(set_aside(storage, name, file, rest, length)?)))
}

/// Copies the end of a file to one that was not there before, durably, and cuts it off.
fn set_aside(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    offset: u64,
    length: u64,
) -> io::Result<SetAside> {
    let mut attempt = 1;
    let (kept, copy) = loop {
        let kept = match attempt {
            1 => format!("{name}.torn-at-{offset}"),
            _ => format!("{name}.torn-at-{offset}-{attempt}"),
        };
        match storage.open(&kept, Access::New) {
            Ok(copy) => break (kept, copy),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(error),
        }
    };
    let mut buffer = vec![0; 256 << 10];
    let mut at = offset;
    while at < length {
        let wanted = (length - at).min(buffer.len() as u64) as usize;
        read_exact_at(file, &mut buffer[..wanted], at)?;
        copy.append(&buffer[..wanted])?;
        at += wanted as u64;
    }
    copy.sync()?;
    storage.sync()?;
    file.truncate(offset)?;
    file.sync()?;
    Ok(SetAside { byte_offset: offset, bytes: length - offset, file: kept })
}
