//! An append-only file of canonical JSON lines with a single writer. Both journals are such files.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use zero_bus::storage::{Access, Directory, Lock, Storage, StorageFile};
use zero_bus::{Checksum, JournalTail, Json, MAX_LINE_BYTES, QuarantinedTail, Value};

use crate::error::{Error, Result};
use crate::field::{Field, Problem};
use crate::raw_name::RawNameDirectory;

/// An append-only file of canonical JSON lines. Its writer holds an exclusive lock on it while it
/// is open.
///
/// A file that [`LineFile::open`] created and that was never appended to is removed on drop,
/// together with the directories created for it. A start that fails therefore leaves nothing on the
/// disk.
pub struct LineFile {
    path: PathBuf,
    /// The name in `storage`.
    name: String,
    storage: Arc<dyn Storage>,
    /// The storage as a directory of the file system, which may have been created for this file.
    directory: Option<Arc<Directory>>,
    file: Box<dyn StorageFile>,
    /// The file existed before it was opened.
    existed: bool,
    /// An append was attempted, so the file must not be removed on drop.
    append_attempted: bool,
    /// Length of the complete lines, which is where the next line starts.
    complete_bytes: u64,
    /// Number of the last complete line, once all lines up to it were counted.
    line_count: u64,
    /// What follows the complete lines, until [`LineFile::repair_tail`].
    tail: JournalTail,
    quarantined: Option<QuarantinedTail>,
    /// A write or a sync failed, so the content of the file is unknown. Nothing may be appended.
    poisoned: bool,
}

impl LineFile {
    /// Opens and locks a file. Creates it (0600) and its directory (0700) if they are missing. Does
    /// not change an existing file, see [`LineFile::repair_tail`].
    ///
    /// # Errors
    /// [`Error::Refused`] if another process has the file open, [`Error::Io`] if a system call
    /// fails.
    pub fn open(path: &Path) -> Result<Self> {
        let raw_name = path.file_name().ok_or_else(|| Error::Refused {
            path: path.to_owned(),
            problem: "is not the path of a file".to_owned(),
        })?;
        let parent = parent_of(path);
        let directory = Arc::new(Directory::create(parent).map_err(Error::io("open the directory", parent))?);
        let (storage, name) = storage_of(directory.clone(), parent, raw_name);
        let opened = Self::open_locked(&*storage, &name, path).inspect_err(|_| directory.remove_created())?;
        let file = Self::inspect(storage, Some(directory), name, path.to_owned(), opened)?;
        file.sync_directory()?;
        Ok(file)
    }

    /// Opens and locks a file in any storage, see [`LineFile::open`].
    ///
    /// # Errors
    /// As [`LineFile::open`].
    pub fn open_in(storage: Arc<dyn Storage>, name: &str) -> Result<Self> {
        let path = storage.path(name);
        let opened = Self::open_locked(&*storage, name, &path)?;
        let file = Self::inspect(storage, None, name.to_owned(), path, opened)?;
        file.sync_directory()?;
        Ok(file)
    }

    /// Makes the file's name durable.
    fn sync_directory(&self) -> Result<()> {
        self.storage.sync().map_err(Error::io("sync the directory of", &self.path))
    }

    /// Opens an existing file for reading. Takes no lock: the writer may be appending to it.
    ///
    /// # Errors
    /// [`Error::Io`] if a system call fails.
    pub fn read_only(path: &Path) -> Result<Self> {
        let reading = || Error::io("open it for reading", path);
        let raw_name =
            path.file_name().ok_or_else(|| reading()(io::Error::other("it is not the path of a file")))?;
        let parent = parent_of(path);
        let directory = Arc::new(Directory::open(parent).map_err(reading())?);
        let (storage, name) = storage_of(directory, parent, raw_name);
        let file = storage.open(&name, Access::Read).map_err(reading())?;
        Self::inspect(storage, None, name, path.to_owned(), (file, true))
    }

    /// Finds the end of the complete lines. Reads only the tail of the file.
    fn inspect(
        storage: Arc<dyn Storage>,
        directory: Option<Arc<Directory>>,
        name: String,
        path: PathBuf,
        (file, existed): (Box<dyn StorageFile>, bool),
    ) -> Result<Self> {
        let mut opened = Self {
            path,
            name,
            storage,
            directory,
            file,
            existed,
            append_attempted: false,
            complete_bytes: 0,
            line_count: 0,
            tail: JournalTail::Clean,
            quarantined: None,
            poisoned: false,
        };
        let path = &opened.path;
        let size = opened.file.size().map_err(Error::io("read its size", path))?;
        opened.tail =
            JournalTail::inspect(&*opened.file, size).map_err(Error::io("read its last line", path))?;
        opened.complete_bytes = match opened.tail {
            JournalTail::Torn { byte_offset } => byte_offset,
            JournalTail::Clean | JournalTail::Unterminated => size,
        };
        Ok(opened)
    }

    /// Returns the locked file, and whether it existed before.
    fn open_locked(storage: &dyn Storage, name: &str, path: &Path) -> Result<(Box<dyn StorageFile>, bool)> {
        loop {
            let (opened, existed) = match storage.open(name, Access::New) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    (storage.open(name, Access::Append), true)
                }
                opened => (opened, false),
            };
            let file = opened.map_err(Error::io("open it for appending", path))?;
            if !file.try_lock(Lock::Exclusive).map_err(Error::io("lock it", path))? {
                let problem = "is in use by another runtime; stop that one, or name another file".to_owned();
                return Err(Error::Refused { path: path.to_owned(), problem });
            }
            // The previous owner may have removed the file between our open and our lock. Then
            // retry.
            if storage.is_current(name, &*file).map_err(Error::io("check its name", path))? {
                return Ok((file, existed));
            }
        }
    }

    /// Leaves the file at the end of a complete line, and durable.
    ///
    /// If only the line break of the last line is missing, it is added. A torn line, which a crash
    /// leaves, is moved to a quarantine file next to this one. The last complete line is rewritten
    /// and synced, because its writer may have died before the sync, or the sync may have failed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn repair_tail(&mut self) -> Result<()> {
        let repaired = self.tail.mend(&*self.storage, &self.name, &*self.file);
        self.quarantined = repaired.map_err(Error::io("repair its last line", &self.path))?;
        if self.tail == JournalTail::Unterminated {
            self.complete_bytes += 1;
        }
        self.tail = JournalTail::Clean;
        Ok(())
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file existed before it was opened.
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// Returns the length of the torn line at the end; 0 after [`LineFile::repair_tail`].
    pub(crate) fn unfinished_bytes(&self) -> u64 {
        match self.tail {
            JournalTail::Torn { byte_offset } => {
                self.file.size().map_or(0, |size| size.saturating_sub(byte_offset))
            }
            JournalTail::Clean | JournalTail::Unterminated => 0,
        }
    }

    /// Returns the tail that [`LineFile::repair_tail`] moved to a quarantine file.
    pub fn quarantined(&self) -> Option<&QuarantinedTail> {
        self.quarantined.as_ref()
    }

    /// Appends a record as one canonical line, and returns the byte offset of the line. The line is
    /// durable after [`LineFile::sync`].
    ///
    /// # Errors
    /// [`Error::Io`] if a system call fails; no append works after that. [`Error::Refused`] if
    /// another process replaced or changed the file, or if the line exceeds the length that can be
    /// read back. [`Error::Bus`] if the record has no canonical form.
    pub fn append<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<u64> {
        let mut line = Json::of(record)?.to_string();
        if line.len() > MAX_LINE_BYTES {
            return Err(self.refused("cannot append to it: the line is longer than 16 MiB"));
        }
        line.push('\n');
        if self.poisoned {
            return Err(self.refused(
                "cannot append to it: an earlier write or sync failed; restart the runtime, which checks the file",
            ));
        }
        if !self
            .storage
            .is_current(&self.name, &*self.file)
            .map_err(Error::io("check its name", &self.path))?
        {
            return Err(self.refused(
                "is no longer the file that was opened; put that file back, or restart the runtime",
            ));
        }
        let size = self.file.size().map_err(Error::io("read its size", &self.path))?;
        if size != self.complete_bytes {
            return Err(self.refused(&format!(
                "has {size} bytes, but {} were written: another program changed it; restore it, or restart the \
                 runtime, which checks the file",
                self.complete_bytes
            )));
        }
        self.append_attempted = true;
        self.poisoned = true;
        self.file.append(line.as_bytes()).map_err(Error::io("append to it", &self.path))?;
        self.poisoned = false;
        let byte_offset = self.complete_bytes;
        self.complete_bytes += line.len() as u64;
        self.line_count += 1;
        Ok(byte_offset)
    }

    /// Makes all appended lines durable.
    ///
    /// # Errors
    /// [`Error::Io`]; no append works after that.
    pub fn sync(&mut self) -> Result<()> {
        let synced = self.file.sync().map_err(Error::io("sync it", &self.path));
        self.poisoned |= synced.is_err();
        synced
    }

    /// Returns the complete lines.
    pub(crate) fn lines(&self) -> Lines<'_> {
        self.lines_after(FileStart::default())
    }

    /// Returns the complete lines after a place.
    pub(crate) fn lines_after(&self, start: FileStart) -> Lines<'_> {
        let range = FileRange { file: &*self.file, byte_offset: start.bytes, end: self.complete_bytes };
        let reader = BufReader::with_capacity(64 << 10, range);
        Lines { path: &self.path, reader, line: start.lines, byte_offset: start.bytes }
    }

    /// Reads the line that starts at a byte offset; empty at the end of the file.
    pub(crate) fn read_line_at(&self, byte_offset: u64) -> Result<String> {
        let start = FileStart { bytes: byte_offset, lines: 0 };
        Ok(self.lines_after(start).next()?.map(|(_, text)| text).unwrap_or_default())
    }

    /// Reads the first line that begins at or after a byte offset, with its byte offset. A line
    /// begins at `line_start`, which is not after it.
    pub(crate) fn first_line_from(&self, byte_offset: u64, line_start: u64) -> Result<Option<(u64, String)>> {
        // From the byte before, so that a line that begins exactly there is found.
        let mut start = byte_offset.saturating_sub(1).max(line_start);
        let mut range = FileRange { file: &*self.file, byte_offset: start, end: self.complete_bytes };
        if byte_offset > line_start {
            let mut reader = BufReader::with_capacity(4 << 10, &mut range);
            let skipped = reader.skip_until(b'\n').map_err(Error::io("read it", &self.path))?;
            start += skipped as u64;
        }
        let line = self.lines_after(FileStart { bytes: start, lines: 0 }).next()?;
        Ok(line.map(|(position, text)| (position.byte_offset, text)))
    }

    /// Returns the length of the complete lines in bytes, which is where the next line starts.
    pub(crate) fn complete_bytes(&self) -> u64 {
        self.complete_bytes
    }

    /// Sets the number of the last complete line, after all lines up to it were read.
    pub(crate) fn set_line_count(&mut self, lines: u64) {
        self.line_count = lines;
    }

    /// Returns the end of the complete lines.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn head(&self) -> Result<FileHead> {
        let checksum = self.checksum_of_line_before(self.complete_bytes)?;
        Ok(FileHead { bytes: self.complete_bytes, checksum, lines: self.line_count })
    }

    /// Whether the file has a complete line that ends where `head` says and has its checksum.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn has_head(&self, head: FileHead) -> Result<bool> {
        let is_within = head.bytes <= self.complete_bytes;
        Ok(is_within && self.checksum_of_line_before(head.bytes)? == head.checksum)
    }

    /// Returns the checksum of the line that ends at a byte offset, with its line break; `None` at
    /// the start of the file, and if no line ends there.
    fn checksum_of_line_before(&self, byte_offset: u64) -> Result<Option<Checksum>> {
        const BLOCK_BYTES: u64 = 64 << 10;
        let (mut line, mut start) = (Vec::new(), byte_offset);
        while start > 0 && line.len() <= MAX_LINE_BYTES {
            let block_start = start.saturating_sub(BLOCK_BYTES);
            let mut block = Vec::new();
            let mut range = FileRange { file: &*self.file, byte_offset: block_start, end: start };
            range.read_to_end(&mut block).map_err(Error::io("read its last line", &self.path))?;
            if start == byte_offset && block.pop() != Some(b'\n') {
                return Ok(None);
            }
            let before_line = block.iter().rposition(|byte| *byte == b'\n');
            block.drain(..before_line.map_or(0, |at| at + 1));
            block.append(&mut line);
            line = block;
            if before_line.is_some() {
                break;
            }
            start = block_start;
        }
        Ok((byte_offset > 0).then(|| Checksum::of(&line)))
    }

    /// Returns the storage of the file and its name there, for companions of the file.
    pub(crate) fn storage(&self) -> (Arc<dyn Storage>, &str) {
        (Arc::clone(&self.storage), &self.name)
    }

    /// Passes each valid record after `start` to `each`, with its position. A valid record ends at
    /// `start`, unless it is the start of the file. Stops at the first invalid line: a power cut
    /// can leave one, and everything from it on becomes the torn tail.
    ///
    /// With `each_synced`, every record was synced before the next one was written, so that a crash
    /// can damage the last line only.
    ///
    /// # Errors
    /// [`Error::Refused`] if the file contains anything but records of this schema, or a damaged
    /// line that a crash cannot explain.
    pub(crate) fn read_records_after(
        &mut self,
        start: FileStart,
        schema: &str,
        each_synced: bool,
        mut each: impl FnMut(LinePosition, Value),
    ) -> Result<()> {
        let mut valid_records = u64::from(start.bytes > 0);
        let mut last_line = start.lines;
        let mut lines = self.lines_after(start);
        let damaged = loop {
            let (position, text) = match lines.next() {
                Ok(None) => break None,
                Ok(Some((_, text))) if text.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => line,
                Err(Error::Journal { byte_offset, .. }) => break Some(byte_offset),
                Err(error) => return Err(error),
            };
            match Value::parse(&text) {
                Ok(value) if value.get("schema_version").and_then(Value::as_str) == Some(schema) => {
                    valid_records += 1;
                    last_line = position.line;
                    each(position, value);
                }
                Ok(_) => return Err(self.not_of_schema(schema)),
                Err(_) => break Some(position.byte_offset),
            }
        };
        if let Some(byte_offset) = damaged {
            let torn = self.tail == JournalTail::Torn { byte_offset };
            // Without any valid record this is probably a file of another program.
            if valid_records == 0 && !torn {
                return Err(self.not_of_schema(schema));
            }
            if each_synced && !torn {
                return Err(self.refused(&format!(
                    "the line at byte {byte_offset} is not a record, and no crash explains it, because each record \
                     was synced before the next; restore the file, or name another one"
                )));
            }
            self.complete_bytes = byte_offset;
            self.tail = JournalTail::Torn { byte_offset };
        }
        self.line_count = last_line;
        Ok(())
    }

    fn not_of_schema(&self, schema: &str) -> Error {
        self.refused(&format!("contains lines that are not {schema} records; name another file"))
    }

    fn refused(&self, problem: &str) -> Error {
        Error::Refused { path: self.path.clone(), problem: problem.to_owned() }
    }
}

impl Drop for LineFile {
    fn drop(&mut self) {
        let Some(directory) = &self.directory else { return };
        let empty = !self.existed && !self.append_attempted && self.file.size().is_ok_and(|size| size == 0);
        // The lock is still held, so no other process can use the file. A failure leaves an empty
        // file.
        if empty && self.storage.is_current(&self.name, &*self.file).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
            directory.remove_created();
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the storage of the file `raw_name` in a directory, and the file's name in that storage.
fn storage_of(directory: Arc<Directory>, path: &Path, raw_name: &OsStr) -> (Arc<dyn Storage>, String) {
    match raw_name.to_str() {
        Some(name) => (directory, name.to_owned()),
        None => {
            let name = raw_name.to_string_lossy().into_owned();
            (Arc::new(RawNameDirectory::new(directory, path, name.clone(), raw_name.to_owned())), name)
        }
    }
}

/// A place between two lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileStart {
    /// Bytes before it.
    pub(crate) bytes: u64,
    /// Lines before it.
    pub(crate) lines: u64,
}

/// The end of a file: where it is, and what the last line was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FileHead {
    bytes: u64,
    checksum: Option<Checksum>,
    lines: u64,
}

impl FileHead {
    /// Returns the place after the last line.
    pub(crate) fn start(self) -> FileStart {
        FileStart { bytes: self.bytes, lines: self.lines }
    }

    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let checksum = field.optional_unless_null("checksum");
        let checksum = checksum
            .map(|text| Checksum::parse(text.text()?).ok_or_else(|| text.problem("is not a checksum")));
        Ok(Self {
            bytes: field.required("bytes")?.count()?,
            checksum: checksum.transpose()?,
            lines: field.required("lines")?.count()?,
        })
    }
}

/// The complete lines of a file, with their positions.
pub(crate) struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<FileRange<'a>>,
    line: u64,
    byte_offset: u64,
}

/// The position of a line.
#[derive(Clone, Copy)]
pub(crate) struct LinePosition {
    /// Number of the line, counted from 1.
    pub(crate) line: u64,
    pub(crate) byte_offset: u64,
}

impl Lines<'_> {
    /// Reads the next line, with its line break if it has one.
    pub(crate) fn next(&mut self) -> Result<Option<(LinePosition, String)>> {
        let mut bytes = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes);
        read.map_err(Error::io("read it", self.path))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let position = LinePosition { line: self.line, byte_offset: self.byte_offset };
        self.byte_offset += bytes.len() as u64;
        if bytes.len() as u64 == limit && bytes.last() != Some(&b'\n') {
            return Err(self.problem(position, format!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((position, text))),
            Err(error) => {
                let valid_bytes = error.utf8_error().valid_up_to();
                let problem = format!("is not UTF-8 (byte {valid_bytes} of the line)");
                Err(self.problem(position, problem))
            }
        }
    }

    pub(crate) fn problem(&self, position: LinePosition, problem: String) -> Error {
        let LinePosition { line, byte_offset } = position;
        Error::Journal { path: self.path.to_owned(), line, byte_offset, problem }
    }
}

/// A byte range of a file, as a reader.
struct FileRange<'a> {
    file: &'a dyn StorageFile,
    byte_offset: u64,
    end: u64,
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (self.end - self.byte_offset).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..length], self.byte_offset)?;
        self.byte_offset += read as u64;
        Ok(read)
    }
}
