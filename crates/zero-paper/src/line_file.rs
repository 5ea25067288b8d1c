//! A file of canonical lines that is appended to by one process at a time: what the journals are kept in.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use zero_bus::storage::{Access, Directory, Storage, StorageFile};
use zero_bus::{JournalTail, Json, MAX_LINE_BYTES, QuarantinedTail, Value};

use crate::error::{Error, Result};

/// An append-only file of canonical lines, locked for as long as it is open.
///
/// One that was made by opening it, and never appended to, is taken away again when it is dropped, and so are the
/// directories that were made for it: a start that fails leaves nothing behind.
pub struct LineFile {
    path: PathBuf,
    name: String,
    storage: Arc<dyn Storage>,
    /// Where it is a directory of the file system, which may have been made for it.
    directory: Option<Arc<Directory>>,
    file: Box<dyn StorageFile>,
    was_there: bool,
    /// Somebody began to append to it.
    used: bool,
    /// Bytes of whole lines.
    length: u64,
    /// What stands behind them, until it is mended.
    rest: JournalTail,
    set_aside: Option<QuarantinedTail>,
    /// A write or a sync failed: what the file holds is unknown.
    poisoned: bool,
}

impl LineFile {
    /// Opens a file, making it (0600) and its directory (0700) where there is none. Changes nothing in a file
    /// that was there, see [`LineFile::mend`].
    ///
    /// # Errors
    /// [`Error::Refused`] where another process has it open, [`Error::Io`] for what the system refuses.
    pub fn open(path: &Path) -> Result<Self> {
        let refused = |problem: &str| Error::Refused { path: path.to_owned(), problem: problem.to_owned() };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| refused("is no path of a file"))?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = Arc::new(Directory::create(parent).map_err(Error::io("open the directory", parent))?);
        let opened =
            Self::open_locked(&*directory, &name, path).inspect_err(|_| directory.remove_created())?;
        let file = Self::look_at(directory.clone(), Some(directory), name, path.to_owned(), opened)?;
        file.sync_its_name()?;
        Ok(file)
    }

    /// Opens a file in any storage, see [`LineFile::open`].
    ///
    /// # Errors
    /// As [`LineFile::open`].
    pub fn open_in(storage: Arc<dyn Storage>, name: &str) -> Result<Self> {
        let path = storage.path(name);
        let opened = Self::open_locked(&*storage, name, &path)?;
        let file = Self::look_at(storage, None, name.to_owned(), path, opened)?;
        file.sync_its_name()?;
        Ok(file)
    }

    fn sync_its_name(&self) -> Result<()> {
        self.storage.sync().map_err(Error::io("sync the directory of", &self.path))
    }

    /// Opens a file that is there for reading, without its lock: its owner may be writing to it.
    ///
    /// # Errors
    /// [`Error::Io`] for what the system refuses.
    pub fn read_only(path: &Path) -> Result<Self> {
        let reading = || Error::io("open it for reading", path);
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| reading()(io::Error::other("it is no path of a file")))?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let storage: Arc<dyn Storage> = Arc::new(Directory::open(parent).map_err(reading())?);
        let file = storage.open(&name, Access::Read).map_err(reading())?;
        Self::look_at(storage, None, name, path.to_owned(), (file, true))
    }

    fn look_at(
        storage: Arc<dyn Storage>,
        directory: Option<Arc<Directory>>,
        name: String,
        path: PathBuf,
        (file, was_there): (Box<dyn StorageFile>, bool),
    ) -> Result<Self> {
        let (rest, set_aside) = (JournalTail::Clean, None);
        let (length, used, poisoned) = (0, false, false);
        let mut opened =
            Self { path, name, storage, directory, file, was_there, used, length, rest, set_aside, poisoned };
        let path = &opened.path;
        let size = opened.file.size().map_err(Error::io("look at it", path))?;
        opened.rest =
            JournalTail::inspect(&*opened.file, size).map_err(Error::io("read its last line", path))?;
        opened.length = match opened.rest {
            JournalTail::Torn { byte_offset } => byte_offset,
            JournalTail::Clean | JournalTail::Unterminated => size,
        };
        Ok(opened)
    }

    /// The locked file, and whether it was there before.
    fn open_locked(storage: &dyn Storage, name: &str, path: &Path) -> Result<(Box<dyn StorageFile>, bool)> {
        loop {
            let (opened, was_there) = match storage.open(name, Access::New) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    (storage.open(name, Access::Append), true)
                }
                opened => (opened, false),
            };
            let file = opened.map_err(Error::io("open it for appending", path))?;
            if !file.try_lock().map_err(Error::io("lock it", path))? {
                let problem = "is in use by another runtime; stop that one, or name another file".to_owned();
                return Err(Error::Refused { path: path.to_owned(), problem });
            }
            // Who held it until now may have taken it away.
            if storage.is_current(name, &*file).map_err(Error::io("look at it", path))? {
                return Ok((file, was_there));
            }
        }
    }

    /// Leaves the file at the end of a whole line: a complete one without its line break gets it, an unfinished one,
    /// which a crash leaves, is set aside in a file next to it and cut off. All of it is durable then: whoever wrote the
    /// last line may have died before its sync, or been told that it failed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn mend(&mut self) -> Result<()> {
        let mended = self.rest.mend(&*self.storage, &self.name, &*self.file);
        self.set_aside = mended.map_err(Error::io("mend its last line", &self.path))?;
        if self.rest == JournalTail::Unterminated {
            self.length += 1;
        }
        self.rest = JournalTail::Clean;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was there before it was opened.
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// Bytes behind the whole lines: of an unfinished one, until it is mended.
    pub(crate) fn unfinished_bytes(&self) -> u64 {
        match self.rest {
            JournalTail::Torn { byte_offset } => {
                self.file.size().map_or(0, |size| size.saturating_sub(byte_offset))
            }
            JournalTail::Clean | JournalTail::Unterminated => 0,
        }
    }

    /// The unfinished line that was set aside, if there was one.
    pub fn quarantined(&self) -> Option<&QuarantinedTail> {
        self.set_aside.as_ref()
    }

    /// Appends a record as one canonical line. Gives where it begins. Durable after [`LineFile::sync`].
    ///
    /// # Errors
    /// [`Error::Io`] for what the system refuses; nothing more is taken then. [`Error::Refused`] where the file was
    /// replaced, or the record makes a line that would be too long to read back. [`Error::Bus`] where it has no
    /// canonical form.
    pub fn append<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<u64> {
        let mut line = Json::of(record)?.to_string();
        if line.len() > MAX_LINE_BYTES {
            return Err(self.refused("would get a line that is longer than 16 MiB"));
        }
        line.push('\n');
        if self.poisoned {
            return Err(
                self.refused("an earlier write or sync failed; start anew, which looks at what is there")
            );
        }
        if !self.storage.is_current(&self.name, &*self.file).map_err(Error::io("look at it", &self.path))? {
            return Err(self.refused("is no longer the file that was opened; put that back, or start anew"));
        }
        let size = self.file.size().map_err(Error::io("look at it", &self.path))?;
        if size != self.length {
            return Err(self.refused(&format!(
                "has {size} bytes where {} were written: somebody else changed it; restore it, or start anew, which looks at what is there",
                self.length
            )));
        }
        self.used = true;
        self.poisoned = true;
        self.file.append(line.as_bytes()).map_err(Error::io("append to it", &self.path))?;
        self.poisoned = false;
        let begin = self.length;
        self.length += line.len() as u64;
        Ok(begin)
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing more is taken then.
    pub fn sync(&mut self) -> Result<()> {
        let synced = self.file.sync().map_err(Error::io("sync it", &self.path));
        self.poisoned |= synced.is_err();
        synced
    }

    /// The whole lines, from the start.
    pub(crate) fn lines(&self) -> Lines<'_> {
        self.lines_from(0)
    }

    /// The line that begins at a place.
    pub(crate) fn line_at(&self, byte_offset: u64) -> Result<String> {
        Ok(self.lines_from(byte_offset).next()?.map(|(_, text)| text).unwrap_or_default())
    }

    /// Goes through a file of records that are synced now and then only: what a power cut leaves behind the sound
    /// ones, [`LineFile::mend`] will set aside. Where each was synced before the next (`each_synced`), only the last can be
    /// spoilt so. Gives each sound one with its place.
    ///
    /// # Errors
    /// [`Error::Refused`] where the file holds something else than records of this schema, or a
    /// line that no crash has spoilt.
    pub(crate) fn read_records(
        &mut self,
        schema: &str,
        each_synced: bool,
        mut each: impl FnMut(LinePosition, Value),
    ) -> Result<()> {
        let mut sound = 0_u64;
        let mut lines = self.lines();
        let spoilt = loop {
            let (place, text) = match lines.next() {
                Ok(None) => break None,
                Ok(Some((_, text))) if text.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => line,
                Err(Error::Journal { byte_offset, .. }) => break Some(byte_offset),
                Err(error) => return Err(error),
            };
            match Value::parse(&text) {
                Ok(value) if value.get("schema_version").and_then(Value::as_str) == Some(schema) => {
                    sound += 1;
                    each(place, value);
                }
                Ok(_) => return Err(self.holds_else(schema)),
                Err(_) => break Some(place.byte_offset),
            }
        };
        if let Some(byte_offset) = spoilt {
            let by_a_crash = self.rest == JournalTail::Torn { byte_offset };
            // Nothing sound before it: somebody's own file.
            if sound == 0 && !by_a_crash {
                return Err(self.holds_else(schema));
            }
            if each_synced && !by_a_crash {
                let problem = "is no record, and no crash has spoilt it: each was synced before the next; restore the file, or \
                               name another one";
                return Err(Error::Refused {
                    path: self.path.clone(),
                    problem: format!("what begins at byte {byte_offset} {problem}"),
                });
            }
            self.length = byte_offset;
            self.rest = JournalTail::Torn { byte_offset };
        }
        Ok(())
    }

    fn holds_else(&self, schema: &str) -> Error {
        self.refused(&format!("holds something else than {schema}; name another file"))
    }

    fn lines_from(&self, byte_offset: u64) -> Lines<'_> {
        let content = Content { file: &*self.file, at: byte_offset, end: self.length };
        let reader = BufReader::with_capacity(64 << 10, content);
        Lines { path: &self.path, reader, line: 0, byte_offset }
    }

    fn refused(&self, problem: &str) -> Error {
        Error::Refused { path: self.path.clone(), problem: problem.to_owned() }
    }
}

impl Drop for LineFile {
    fn drop(&mut self) {
        let Some(directory) = &self.directory else { return };
        let empty = !self.was_there && !self.used && self.file.size().is_ok_and(|size| size == 0);
        // Under its lock, so that nobody else can be in it; and where this fails, an empty file stays.
        if empty && directory.is_current(&self.name, &*self.file).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
            directory.remove_created();
        }
    }
}

/// Whole lines with where each stands.
pub(crate) struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<Content<'a>>,
    line: u64,
    byte_offset: u64,
}

/// Where a line stands.
#[derive(Clone, Copy)]
pub(crate) struct LinePosition {
    pub(crate) line: u64,
    pub(crate) byte_offset: u64,
}

impl Lines<'_> {
    /// The next line, its line break included where it has one.
    pub(crate) fn next(&mut self) -> Result<Option<(LinePosition, String)>> {
        let mut bytes = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes);
        read.map_err(Error::io("read it", self.path))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let place = LinePosition { line: self.line, byte_offset: self.byte_offset };
        self.byte_offset += bytes.len() as u64;
        if bytes.len() as u64 == limit && bytes.last() != Some(&b'\n') {
            return Err(self.problem(place, format!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((place, text))),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                Err(self.problem(place, format!("is not UTF-8 (byte {at} of the line)")))
            }
        }
    }

    pub(crate) fn problem(&self, place: LinePosition, problem: String) -> Error {
        let LinePosition { line, byte_offset } = place;
        Error::Journal { path: self.path.to_owned(), line, byte_offset, problem }
    }
}

/// The content of a file from a place up to an end.
struct Content<'a> {
    file: &'a dyn StorageFile,
    at: u64,
    end: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = (self.end - self.at).min(buffer.len() as u64) as usize;
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
