//! What the tail of a log is: whole, torn, or damaged. Looks at the last two lines and no further.

use std::io;
use std::sync::Arc;

use crate::chain::{Head, Line, is_unfinished};
use crate::error::{Error, Result};
use crate::lines::{LOG, Lines, last_line};
use crate::storage::{Access, Storage, StorageFile};
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

/// A torn tail that was set aside when the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where the unfinished line began, which is the length the log was cut to.
    pub byte_offset: u64,
    /// How many bytes it had.
    pub bytes: u64,
    /// The file next to the log that holds them now.
    pub file: String,
}

fn examine(file: &dyn StorageFile, length: u64) -> io::Result<Tail> {
    let mut end = End { offset: length, ..End::default() };
    let mut torn = false;
    let Some(mut last) = last_line(file, length)? else {
        end.unterminated = length > 0;
        return Ok(Tail::Whole(end));
    };
    if !last.terminated && is_unfinished(last.bytes.as_deref()) {
        torn = true;
        end.offset = last.offset;
        match last_line(file, last.offset)? {
            Some(before) => last = before,
            None => return Ok(Tail::Torn(end)),
        }
    }
    end.unterminated = !last.terminated;
    let before = last_line(file, last.offset)?;
    let Some(head) = judge_last(last.bytes.as_deref(), before.map(|line| line.bytes)) else {
        return Ok(Tail::Damaged);
    };
    end.head = head;
    Ok(if torn { Tail::Torn(end) } else { Tail::Whole(end) })
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
            let index = before.index()?;
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
            let set_aside = set_aside(storage, file, end.offset, length)?;
            Ok((end, Some(set_aside)))
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

fn set_aside(
    storage: &dyn Storage,
    log: &Arc<dyn StorageFile>,
    offset: u64,
    length: u64,
) -> Result<SetAside> {
    let name = copy_aside(storage, &**log, offset, length)?;
    let path = storage.path(LOG);
    log.truncate(offset).map_err(Error::io("cut the torn tail off", &path))?;
    log.sync().map_err(Error::io("sync it", &path))?;
    Ok(SetAside { byte_offset: offset, bytes: length - offset, file: name })
}

/// Copies a range of the log to a file that was not there before, durably.
fn copy_aside(storage: &dyn Storage, log: &dyn StorageFile, offset: u64, length: u64) -> Result<String> {
    let mut attempt = 1;
    let (name, copy) = loop {
        let name = match attempt {
            1 => format!("torn-at-{offset}.bin"),
            _ => format!("torn-at-{offset}-{attempt}.bin"),
        };
        match storage.open(&name, Access::New) {
            Ok(copy) => break (name, copy),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(Error::io("keep the torn tail in it", &storage.path(&name))(error)),
        }
    };
    let write = || -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let mut at = offset;
        while at < length {
            let wanted = (length - at).min(buffer.len() as u64) as usize;
            crate::storage::read_exact_at(log, &mut buffer[..wanted], at)?;
            copy.append(&buffer[..wanted])?;
            at += wanted as u64;
        }
        copy.sync()?;
        storage.sync()
    };
    write().map_err(Error::io("keep the torn tail in it", &storage.path(&name)))?;
    Ok(name)
}
