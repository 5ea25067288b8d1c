//! Quarantine: moves the invalid tail of an append-only file to a file next to it.
//!
//! The copy is durable before the file is cut, so a crash in between loses nothing.
//!
//! For a log, the quarantine is also recorded in the chain, as the event `bus.recovered`. A crash
//! between the cut and the record must not lose the record:
//!
//! 1. [`copy_before_record`] copies the tail, and notes the copy in the lock file as a
//!    [`PendingRecord`].
//! 2. [`cut_before_record`] replaces the tail with one byte.
//! 3. [`overwrite_tail`] writes the record over that byte.
//!
//! Until the record is complete, the log has a torn tail, so the next recovery finds the pending
//! record and finishes the work with the existing copy.

use std::fmt;
use std::io;
use std::ops::Range;

use serde::Serialize;

use crate::canonical::{Json, Value};
use crate::checksum::Checksum;
use crate::storage::{Access, Storage, StorageFile, read_exact_at, read_up_to};
use crate::sync_mark;

/// Value of `schema_version` in the payload of a [`RECOVERED_TYPE`](crate::RECOVERED_TYPE) event.
pub const RECOVERED_SCHEMA: &str = "zero.bus.recovered.v1";

/// Bytes copied at a time.
const COPY_BYTES: usize = 256 << 10;

/// What recovery leaves of a tail until the record is written. It begins no JSON text and is not
/// white space, so the log keeps a torn tail.
const PLACEHOLDER: [u8; 1] = *b"#";

/// The invalid tail of an append-only file, moved to a file next to it when the file was opened for
/// appending, so that a person can examine it.
///
/// [`Bus::quarantined`](crate::Bus::quarantined) lists the tails that a handle has moved. A program
/// should report them to its operator, who alone can tell whether lost events matter.
/// [`fmt::Display`] writes one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantinedTail {
    /// Where the tail began in the file, and so the length to which the file was cut.
    pub byte_offset: u64,
    /// Length of the tail.
    pub bytes: u64,
    /// Name of the file that holds the tail now, in the directory of the log.
    pub file: String,
    /// Why it was moved.
    pub reason: QuarantineReason,
    /// SHA-256 of the tail.
    pub sha256: Checksum,
}

/// Why a tail was quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum QuarantineReason {
    /// A torn tail: it holds no valid event.
    Torn,
    /// The tail is the beginning of an event that was synced as a whole. No crash of a program
    /// causes this: either the disk lost synced bytes, or the file was cut.
    Truncated,
    /// An ambiguous tail: it begins with an invalid line, but holds valid events. It was
    /// quarantined because an operator ran `repair`, or because the options of the opening program
    /// allow it.
    Ambiguous,
}

impl fmt::Display for QuarantinedTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { byte_offset, bytes, file, reason, .. } = self;
        match reason {
            QuarantineReason::Torn => {
                write!(f, "quarantined an incomplete last line of {bytes} bytes in {file}")
            }
            QuarantineReason::Truncated => write!(
                f,
                "quarantined an incomplete last line of {bytes} bytes in {file}; the whole line had been synced, so \
                 the disk lost a part of it or the file was cut"
            ),
            QuarantineReason::Ambiguous => write!(
                f,
                "quarantined an ambiguous tail of {bytes} bytes from byte {byte_offset} on in {file}; valid events are \
                 among them"
            ),
        }
    }
}

/// The payload of the event that records a quarantine.
#[derive(Serialize)]
pub(crate) struct RecoveryRecord<'a> {
    #[serde(flatten)]
    tail: &'a QuarantinedTail,
    schema_version: &'static str,
}

impl<'a> From<&'a QuarantinedTail> for RecoveryRecord<'a> {
    fn from(tail: &'a QuarantinedTail) -> Self {
        Self { tail, schema_version: RECOVERED_SCHEMA }
    }
}

/// A quarantine that is not recorded in the chain yet, kept in the lock file after the sync mark.
/// One canonical object, padded with spaces and ended by a line break; it shares the sector of the
/// mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PendingRecord {
    /// Number of the quarantine file among those of this offset.
    attempt: u32,
    byte_offset: u64,
    reason: QuarantineReason,
}

impl PendingRecord {
    /// Reads the pending record. Returns `None` if the lock file does not contain a valid one.
    pub(crate) fn read(lock_file: &dyn StorageFile) -> io::Result<Option<Self>> {
        let mut bytes = [0; sync_mark::SIZE_BYTES];
        let length = read_up_to(lock_file, &mut bytes, sync_mark::SIZE_BYTES as u64)?;
        Ok(std::str::from_utf8(&bytes[..length]).ok().and_then(Self::parse))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = Value::parse(text).ok()?;
        let reasons =
            [QuarantineReason::Torn, QuarantineReason::Truncated, QuarantineReason::Ambiguous].into_iter();
        let attempt = u32::try_from(value.get("attempt")?.as_u64()?).ok()?;
        let byte_offset = value.get("byte_offset")?.as_u64()?;
        // Only a text that `write` would have written counts.
        reasons
            .map(|reason| Self { attempt, byte_offset, reason })
            .find(|pending| Json::of(pending).is_ok_and(|canonical| canonical.as_str() == text.trim_end()))
    }

    /// Overwrites the pending record. The caller holds the exclusive lock, and syncs the file.
    fn write(&self, lock_file: &dyn StorageFile) -> io::Result<()> {
        let text = Json::of(self).map_err(io::Error::other)?;
        write_padded(lock_file, text.as_str())
    }

    /// Clears the pending record. The caller holds the exclusive lock.
    pub(crate) fn clear(lock_file: &dyn StorageFile) -> io::Result<()> {
        write_padded(lock_file, "")
    }
}

fn write_padded(lock_file: &dyn StorageFile, text: &str) -> io::Result<()> {
    let line = format!("{text:<width$}\n", width = sync_mark::SIZE_BYTES - 1);
    lock_file.write_at(line.as_bytes(), sync_mark::SIZE_BYTES as u64)
}

/// Moves the bytes in `offset..length` of a file to a file next to it, and cuts the file to
/// `offset`.
pub(crate) fn quarantine(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    offset: u64,
    length: u64,
) -> io::Result<QuarantinedTail> {
    let attempt = copy_tail(storage, name, file, offset, length)?;
    file.truncate(offset)?;
    file.sync()?;
    describe(storage, name, PendingRecord { attempt, byte_offset: offset, reason: QuarantineReason::Torn })
}

/// Copies the bytes in `offset..length` of a file to a file next to it, and notes the copy in the
/// lock file, so that a crash from here on does not lose the record. Both are durable.
///
/// If a crash interrupted an earlier recovery at this offset, returns the tail of that recovery:
/// the bytes that are there now are what it left.
pub(crate) fn copy_before_record(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    lock_file: &dyn StorageFile,
    offset: u64,
    length: u64,
    reason: QuarantineReason,
) -> io::Result<QuarantinedTail> {
    let interrupted = PendingRecord::read(lock_file)?.filter(|pending| pending.byte_offset == offset);
    let interrupted = interrupted.and_then(|pending| describe(storage, name, pending).ok());
    let mut first_byte = [0];
    read_exact_at(file, &mut first_byte, offset)?;
    let is_replaced = length - offset == 1 && first_byte == PLACEHOLDER;
    if let Some(tail) = interrupted {
        if !is_replaced {
            // The tail that is already copied, or a part of its record. It is copied all the same:
            // nothing is ever deleted.
            copy_tail(storage, name, file, offset, length)?;
        }
        return Ok(tail);
    }
    let attempt = copy_tail(storage, name, file, offset, length)?;
    let pending = PendingRecord { attempt, byte_offset: offset, reason };
    pending.write(lock_file)?;
    lock_file.sync()?;
    describe(storage, name, pending)
}

/// Replaces the bytes from `offset` on, which [`copy_before_record`] has copied, with one byte.
/// `base` is the offset of the first byte that the file under this name holds.
pub(crate) fn cut_before_record(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    base: u64,
    offset: u64,
) -> io::Result<()> {
    // A handle in append mode would write at the end.
    let writable = open_again(storage, name, file)?;
    let offset = offset_in_file(offset, base)?;
    writable.write_at(&PLACEHOLDER, offset)?;
    writable.sync()?;
    writable.truncate(offset + PLACEHOLDER.len() as u64)?;
    writable.sync()
}

/// Returns what a quarantine file holds.
fn describe(storage: &dyn Storage, name: &str, pending: PendingRecord) -> io::Result<QuarantinedTail> {
    let PendingRecord { attempt, byte_offset, reason } = pending;
    let file = quarantine_name(name, byte_offset, attempt);
    let copy = storage.open(&file, Access::Read)?;
    let bytes = copy.size()?;
    let mut offset = 0;
    let sha256 = Checksum::of_stream(|buffer| {
        let read = read_up_to(&*copy, buffer, offset)?;
        offset += read as u64;
        Ok(read)
    })?;
    Ok(QuarantinedTail { byte_offset, bytes, file, reason, sha256 })
}

/// Writes `line` over the placeholder of a quarantined tail, which is at `offset`, and syncs it.
/// `base` as for [`cut_before_record`].
pub(crate) fn overwrite_tail(
    storage: &dyn Storage,
    name: &str,
    opened: &dyn StorageFile,
    base: u64,
    line: &[u8],
    offset: u64,
) -> io::Result<()> {
    let file = open_again(storage, name, opened)?;
    let offset = offset_in_file(offset, base)?;
    let written = file.write_at(line, offset);
    if written.is_err() {
        // Half a record would be quarantined as well by the next attempt.
        let _ = file.write_at(&PLACEHOLDER, offset);
        let _ = file.truncate(offset + PLACEHOLDER.len() as u64);
    }
    written?;
    file.sync()
}

/// Writes a range of bytes of a file to the same place again, then syncs the file. `base` as for
/// [`cut_before_record`]; bytes before it are left out, since they are synced.
///
/// A second sync alone proves nothing: after a failed `fdatasync` the kernel may consider the dirty
/// pages clean, and a later sync succeeds without writing them. Rewriting makes the pages dirty
/// again.
pub(crate) fn rewrite_and_sync(
    storage: &dyn Storage,
    name: &str,
    opened: &dyn StorageFile,
    base: u64,
    range: Range<u64>,
) -> io::Result<()> {
    let file = open_again(storage, name, opened)?;
    let mut buffer = vec![0; COPY_BYTES];
    let (mut offset, end) = (range.start.saturating_sub(base), range.end.saturating_sub(base));
    while offset < end {
        let length = (end - offset).min(buffer.len() as u64) as usize;
        read_exact_at(&*file, &mut buffer[..length], offset)?;
        file.write_at(&buffer[..length], offset)?;
        offset += length as u64;
    }
    file.sync()
}

/// Returns the place in a file of an offset in the log. Recovery never reaches what is sealed.
fn offset_in_file(offset: u64, base: u64) -> io::Result<u64> {
    let reason = "the place is in a sealed segment, which never changes";
    offset.checked_sub(base).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// Opens a file a second time, for writing at any offset: in append mode, every write goes to the
/// end.
fn open_again(
    storage: &dyn Storage,
    name: &str,
    opened: &dyn StorageFile,
) -> io::Result<Box<dyn StorageFile>> {
    let file = storage.open(name, Access::ReadWrite)?;
    if !storage.is_current(name, opened)? || file.identity()? != opened.identity()? {
        return Err(io::Error::other("is no longer the file that was opened"));
    }
    Ok(file)
}

/// Copies the bytes in `offset..length` of a file to the first quarantine file of this offset that
/// is free, or holds exactly these bytes already because a crash came before the cut. Returns its
/// number; the copy is durable.
fn copy_tail(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    offset: u64,
    length: u64,
) -> io::Result<u32> {
    let mut attempt = 1;
    loop {
        let copy_name = quarantine_name(name, offset, attempt);
        let copy = storage.open(&copy_name, Access::ReadWrite)?;
        // A failed attempt on a full disk leaves an empty file.
        if copy.size()? == 0 {
            if let Err(error) = copy_range(file, &*copy, offset, length) {
                let _ = copy.truncate(0);
                return Err(error);
            }
        } else if !holds_tail(&*copy, file, offset, length)? {
            attempt += 1;
            continue;
        }
        copy.sync()?;
        storage.sync()?;
        return Ok(attempt);
    }
}

/// Returns the name of a quarantine file: `NAME.torn-at-OFFSET`, `NAME.torn-at-OFFSET-2` and so on.
fn quarantine_name(name: &str, offset: u64, attempt: u32) -> String {
    match attempt {
        1 => format!("{name}.torn-at-{offset}"),
        _ => format!("{name}.torn-at-{offset}-{attempt}"),
    }
}

/// Returns whether `copy` holds exactly the bytes in `offset..length` of `file`.
fn holds_tail(copy: &dyn StorageFile, file: &dyn StorageFile, offset: u64, length: u64) -> io::Result<bool> {
    if copy.size()? != length - offset {
        return Ok(false);
    }
    let (mut copied, mut original) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let mut at = offset;
    while at < length {
        let piece = (length - at).min(COPY_BYTES as u64) as usize;
        read_exact_at(copy, &mut copied[..piece], at - offset)?;
        read_exact_at(file, &mut original[..piece], at)?;
        if copied[..piece] != original[..piece] {
            return Ok(false);
        }
        at += piece as u64;
    }
    Ok(true)
}

/// Copies the bytes in `offset..end` of a file to an empty one. Leaves long runs of zeros as holes:
/// a tail that takes no space on the disk, such as a preallocated one, needs none as a copy.
fn copy_range(from: &dyn StorageFile, to: &dyn StorageFile, offset: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = offset;
    while at < end {
        let length = (end - at).min(buffer.len() as u64) as usize;
        read_exact_at(from, &mut buffer[..length], at)?;
        let is_last = at + length as u64 == end;
        // The last piece is written in any case, since it determines the length of the copy.
        if is_last || buffer[..length].iter().any(|byte| *byte != 0) {
            to.write_at(&buffer[..length], at - offset)?;
        }
        at += length as u64;
    }
    Ok(())
}
