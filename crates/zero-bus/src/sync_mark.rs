//! The sync mark: how far the log is known to be synced, kept in the lock file.
//!
//! The mark tells a crash from tampering. The bytes before it were synced, so no crash can have
//! changed them. The bytes after it may never have been synced, so a crash can have lost or torn
//! them.
//!
//! The writer replaces the mark after each batch, but does not sync it. After a power cut, an older
//! mark may be found: it covers less of the log and is still correct. An invalid or missing mark
//! counts as no mark. A mark fits into one sector, which a disk writes as a whole or not at all.

use std::io;

use crate::canonical::Value;
use crate::chain::{Head, write_previous};
use crate::checksum::Checksum;
use crate::event::write_decimal;
use crate::storage::{StorageFile, read_up_to};

/// Size of a mark with its padding: less than a sector.
pub(crate) const SIZE_BYTES: usize = 256;

/// How far the log is known to be synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SyncMark {
    /// The last synced event.
    pub(crate) head: Head,
    /// Length of the log up to the end of that event.
    pub(crate) bytes: u64,
}

/// What the lock file records about how far the log is known to be synced, see
/// [`Reader::sync_mark`](crate::Reader::sync_mark).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredSyncMark {
    /// There is no lock file: the log was copied from elsewhere, or nothing was ever appended.
    NoLockFile,
    /// The lock file is empty: a crash came before the first sync, or another program created it.
    Missing,
    /// A valid mark.
    Valid {
        /// The last event that is known to be synced.
        head: Head,
        /// Length of the log up to the end of that event.
        bytes: u64,
    },
    /// The lock file holds bytes that are not a valid mark. They count as a missing mark.
    Unreadable {
        /// What is wrong with them.
        reason: &'static str,
    },
}

impl StoredSyncMark {
    pub(crate) fn read(lock_file: &dyn StorageFile) -> io::Result<Self> {
        let mut bytes = [0; SIZE_BYTES];
        let length = read_up_to(lock_file, &mut bytes, 0)?;
        let bytes = &bytes[..length];
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Ok(Self::Unreadable { reason: "it is not text" });
        };
        Ok(match SyncMark::parse(text) {
            Some(SyncMark { head, bytes }) => Self::Valid { head, bytes },
            None if length == 0 => Self::Missing,
            None if bytes.iter().all(|byte| *byte == 0) => {
                Self::Unreadable { reason: "it holds only zero bytes" }
            }
            None if Value::parse(text).is_err() => Self::Unreadable { reason: "it is not a JSON object" },
            None => Self::Unreadable { reason: "its seal does not match its content" },
        })
    }
}

impl SyncMark {
    /// Reads the mark. Returns `None` if there is no valid one.
    pub(crate) fn read(lock_file: &dyn StorageFile) -> io::Result<Option<Self>> {
        Ok(match StoredSyncMark::read(lock_file)? {
            StoredSyncMark::Valid { head, bytes } => Some(Self { head, bytes }),
            _ => None,
        })
    }

    /// Returns whether `head` cannot belong to the marked log: the same index with another
    /// checksum.
    pub(crate) fn contradicts(&self, head: Head) -> bool {
        self.head.index == head.index && self.head != head
    }

    /// Overwrites the mark in the file. The caller holds the exclusive lock on the file, or keeps
    /// other handles from writing in another way. `buffer` is cleared and used to format the mark.
    pub(crate) fn write(&self, lock_file: &dyn StorageFile, buffer: &mut String) -> io::Result<()> {
        buffer.clear();
        self.write_canonical(buffer);
        // The padding covers an older, longer mark. The largest numbers leave room for it.
        buffer.extend(std::iter::repeat_n(' ', (SIZE_BYTES - 1).saturating_sub(buffer.len())));
        buffer.push('\n');
        lock_file.write_at(buffer.as_bytes(), 0)
    }

    /// Writes the canonical JSON of the mark. `seal` is the checksum of the same object without
    /// `seal`.
    fn write_canonical(&self, out: &mut String) {
        out.push_str(r#"{"bytes":"#);
        write_decimal(self.bytes, 1, out);
        out.push_str(r#","checksum":"#);
        write_previous(self.head.checksum, out);
        out.push_str(r#","events":"#);
        write_decimal(self.head.index, 1, out);
        let seal = Checksum::of_parts([out.as_bytes(), b"}"]);
        out.push_str(r#","seal":""#);
        out.push_str(seal.to_text().as_str());
        out.push_str("\"}");
    }

    fn parse(text: &str) -> Option<Self> {
        let value = Value::parse(text).ok()?;
        let checksum = match value.get("checksum")? {
            Value::Null => None,
            checksum => Some(Checksum::parse(checksum.as_str()?)?),
        };
        let head = Head { index: value.get("events")?.as_u64()?, checksum };
        let mark = Self { head, bytes: value.get("bytes")?.as_u64()? };
        // Valid only if it is exactly what `write` would have written, the seal included.
        let mut canonical = String::new();
        mark.write_canonical(&mut canonical);
        (canonical == text.trim_end()).then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::{SIZE_BYTES, SyncMark};
    use crate::chain::Head;
    use crate::checksum::Checksum;
    use crate::sim::SimDisk;
    use crate::storage::{Access, Storage};

    #[test]
    fn a_mark_with_any_bit_flipped_is_not_read() -> std::io::Result<()> {
        let disk = SimDisk::new();
        let file = disk.open("bus.lock", Access::ReadWrite)?;
        assert_eq!(SyncMark::read(&*file)?, None);
        let longest =
            SyncMark { head: Head { index: u64::MAX, checksum: Some(Checksum::of(b"x")) }, bytes: u64::MAX };
        for mark in [longest, SyncMark::default()] {
            mark.write(&*file, &mut String::new())?;
            assert_eq!(SyncMark::read(&*file)?, Some(mark));
            let written = disk.content("bus.lock").unwrap_or_default();
            assert_eq!(written.len(), SIZE_BYTES);
            let text_end = written.iter().rposition(|byte| *byte == b'}').unwrap_or(0);
            for bit in 0..=text_end * 8 {
                let mut changed = written.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                file.write_at(&changed, 0)?;
                assert_eq!(SyncMark::read(&*file)?, None, "bit {bit}");
            }
        }
        Ok(())
    }
}
