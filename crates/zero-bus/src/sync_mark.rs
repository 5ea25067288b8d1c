//! The lock_file's note of how far the log was synced, written after every batch. It is what tells a crash from
//! tampering: what stands before it was durable, so no crash can have changed it; what stands behind it was never
//! acknowledged by anybody who lived to say so.
//!
//! The note is not synced itself. After a power cut an older one may be found, which knows less and says nothing wrong;
//! one that is damaged or missing is no note. It fits a sector, so it is one or the other.

use std::io;

use crate::canonical::Value;
use crate::chain::{Head, write_previous};
use crate::checksum::Checksum;
use crate::event::write_decimal;
use crate::storage::{StorageFile, read_up_to};

/// Bytes of the note with its padding: less than a sector.
const SIZE: usize = 256;

/// How far the log was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SyncMark {
    pub(crate) head: Head,
    /// Bytes of the log up to the end of that event.
    pub(crate) bytes: u64,
}

impl SyncMark {
    /// Reads the note; `None` where there is none that can be trusted.
    pub(crate) fn read(lock_file: &dyn StorageFile) -> io::Result<Option<Self>> {
        let mut text = [0; SIZE];
        let length = read_up_to(lock_file, &mut text, 0)?;
        Ok(std::str::from_utf8(&text[..length]).ok().and_then(Self::parse))
    }

    /// Whether a head cannot be one of the log that the note is about: it speaks of the same event, and of another checksum.
    pub(crate) fn contradicts(&self, head: Head) -> bool {
        self.head.index == head.index && self.head != head
    }

    /// Writes the note in place of the one before, spelling it in some memory.
    pub(crate) fn write(&self, lock_file: &dyn StorageFile, text: &mut String) -> io::Result<()> {
        text.clear();
        self.spell(text);
        // There is room for the longest numbers there are.
        text.extend(std::iter::repeat_n(' ', (SIZE - 1).saturating_sub(text.len())));
        text.push('\n');
        lock_file.write_at(text.as_bytes(), 0)
    }

    /// The canonical form of the note, sealed with the checksum of its form without the seal.
    fn spell(&self, text: &mut String) {
        text.push_str(r#"{"bytes":"#);
        write_decimal(self.bytes, 1, text);
        text.push_str(r#","checksum":"#);
        write_previous(self.head.checksum, text);
        text.push_str(r#","events":"#);
        write_decimal(self.head.index, 1, text);
        let seal = Checksum::of_parts([text.as_bytes(), b"}"]);
        text.push_str(r#","seal":""#);
        text.push_str(seal.to_text().as_str());
        text.push_str("\"}");
    }

    fn parse(text: &str) -> Option<Self> {
        let value = Value::parse(text).ok()?;
        let checksum = match value.get("checksum")? {
            Value::Null => None,
            checksum => Some(Checksum::parse(checksum.as_str()?)?),
        };
        let head = Head { index: value.get("events")?.as_u64()?, checksum };
        let note = Self { head, bytes: value.get("bytes")?.as_u64()? };
        // Only what this would have written is believed.
        let mut spelled = String::new();
        note.spell(&mut spelled);
        (spelled == text.trim_end()).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::SyncMark;
    use crate::chain::Head;
    use crate::checksum::Checksum;
    use crate::sim::SimDisk;
    use crate::storage::{Access, Storage};

    #[test]
    fn a_note_is_read_as_it_was_written_or_not_at_all() -> std::io::Result<()> {
        let disk = SimDisk::new();
        let file = disk.open("bus.lock", Access::ReadWrite)?;
        assert_eq!(SyncMark::read(&*file)?, None);
        let long =
            SyncMark { head: Head { index: u64::MAX, checksum: Some(Checksum::of(b"x")) }, bytes: u64::MAX };
        for note in [long, SyncMark::default()] {
            note.write(&*file, &mut String::new())?;
            assert_eq!(SyncMark::read(&*file)?, Some(note));
            let written = disk.content("bus.lock").unwrap_or_default();
            assert_eq!(written.len(), super::SIZE);
            let text = written.iter().rposition(|byte| *byte == b'}').unwrap_or(0);
            for bit in 0..=text * 8 {
                let mut changed = written.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                file.write_at(&changed, 0)?;
                assert_eq!(SyncMark::read(&*file)?, None, "bit {bit}");
            }
        }
        Ok(())
    }
}
