//! The tail of a journal: an append-only file with one JSON object per line, other than a log.

use std::io;

use crate::canonical::Value;
use crate::lines::{LastLine, after_last_newline_of_file, last_line_of_file};
use crate::quarantine::{QuarantinedTail, quarantine, rewrite_and_sync};
use crate::storage::{Storage, StorageFile};

/// What follows the last complete line of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalTail {
    /// Nothing that a crash could have left: the file is empty, its last line is complete, or
    /// several invalid lines of text end it, which the reader of the journal reports.
    Clean,
    /// The last line lacks its line break. It is a JSON object, or text in a file without any
    /// object.
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
    /// Where each line is synced before the next one is written, a crash can spoil only the last
    /// line. If that line holds binary garbage, the garbage may contain line breaks and
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
        while let Some(last) = last_line_of_file(file, end)? {
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
            _ if after_last_newline_of_file(file, size)? < size => Ok(Self::Unterminated),
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
        let last_line = last_line_of_file(file, size)?.map_or(size, |last| last.offset);
        rewrite_and_sync(storage, name, file, 0, last_line..size)?;
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
