//! The decision journal, written ahead of the engine's state: what is in it happened.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use zero_bus::storage::{Access, Directory, Storage, StorageFile};
use zero_bus::{Json, MAX_LINE_BYTES, SetAside, finish_last_line};

use crate::decision::Decision;
use crate::error::{Error, Result};

/// An append-only file of canonical lines, opened for one process at a time.
pub struct LineFile {
    path: PathBuf,
    file: Box<dyn StorageFile>,
    /// Bytes of whole lines.
    length: u64,
    set_aside: Option<SetAside>,
}

/// Everything that is in a line file, with where each line stands.
pub(crate) struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<FromStart<'a>>,
    line: u64,
    byte_offset: u64,
}

/// A line, and where it stands.
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) byte_offset: u64,
}

impl LineFile {
    /// Opens a file, making it (0600) and its directory (0700) where there is none. An unfinished last line,
    /// which a crash leaves, is set aside in a file next to it and cut off.
    ///
    /// # Errors
    /// [`Error::Refused`] where another process has it open, [`Error::Io`] for what the system refuses.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::Refused {
            path: path.to_owned(),
            problem: "is no path of a file".to_owned(),
        })?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = Directory::create(parent).map_err(Error::io("open the directory", parent))?;
        let file = directory.open(name, Access::Append).map_err(Error::io("open it for appending", path))?;
        if !file.try_lock().map_err(Error::io("lock it", path))? {
            let problem = "is in use by another runtime; stop that one, or name another file".to_owned();
            return Err(Error::Refused { path: path.to_owned(), problem });
        }
        directory.sync().map_err(Error::io("sync the directory", parent))?;
        let (length, set_aside) =
            finish_last_line(&directory, name, &*file).map_err(Error::io("mend its last line", path))?;
        Ok(Self { path: path.to_owned(), file, length, set_aside })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The unfinished line that opening set aside, if there was one.
    pub fn set_aside(&self) -> Option<&SetAside> {
        self.set_aside.as_ref()
    }

    /// Appends a record as one canonical line. Gives where it begins. Durable after [`LineFile::sync`].
    ///
    /// # Errors
    /// [`Error::Io`] for what the system refuses, [`Error::Bus`] where the record has no canonical form.
    pub fn append<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<u64> {
        let mut line = Json::of(record)?.to_string();
        line.push('\n');
        self.file.append(line.as_bytes()).map_err(Error::io("append to it", &self.path))?;
        let begin = self.length;
        self.length += line.len() as u64;
        Ok(begin)
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync().map_err(Error::io("sync it", &self.path))
    }

    /// Everything in it, from the start.
    pub(crate) fn lines(&self) -> Lines<'_> {
        let reader = BufReader::with_capacity(256 << 10, FromStart { file: &*self.file, at: 0 });
        Lines { path: &self.path, reader, line: 0, byte_offset: 0 }
    }

    /// The line that begins at a place.
    pub(crate) fn line_at(&self, byte_offset: u64) -> Result<String> {
        let from = FromStart { file: &*self.file, at: byte_offset };
        let mut lines = Lines { path: &self.path, reader: BufReader::new(from), line: 0, byte_offset };
        Ok(lines.next()?.map(|(_, text)| text).unwrap_or_default())
    }
}

impl Lines<'_> {
    /// The next line, its line break included where it has one.
    pub(crate) fn next(&mut self) -> Result<Option<(Place, String)>> {
        let mut bytes = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes);
        read.map_err(Error::io("read it", self.path))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let place = Place { line: self.line + 1, byte_offset: self.byte_offset };
        self.line += 1;
        self.byte_offset += bytes.len() as u64;
        if bytes.len() as u64 == limit && bytes.last() != Some(&b'\n') {
            return Err(self.problem(&place, format!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        // Not UTF-8 is not JSON either: whoever reads the line finds the mark in its place.
        Ok(Some((place, String::from_utf8_lossy(&bytes).into_owned())))
    }

    pub(crate) fn problem(&self, place: &Place, problem: String) -> Error {
        Error::Journal {
            path: self.path.to_owned(),
            line: place.line,
            byte_offset: place.byte_offset,
            problem,
        }
    }
}

/// Reads a file from a place on.
struct FromStart<'a> {
    file: &'a dyn StorageFile,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Where decisions are kept: in a journal file, or for as long as the process lives.
pub enum Journal {
    /// In memory only.
    Memory(Vec<Decision>),
    /// In a file, each synced before it takes effect.
    File(LineFile),
}

impl Journal {
    /// Opens a journal file. Tells whether it was there before.
    ///
    /// # Errors
    /// As [`LineFile::open`].
    pub fn open(path: &Path) -> Result<(Self, bool)> {
        let was_there = fs::symlink_metadata(path).is_ok();
        Ok((Self::File(LineFile::open(path)?), was_there))
    }

    /// Hands every decision in the journal to somebody, oldest first, with the place to find it again.
    ///
    /// # Errors
    /// [`Error::Journal`] naming the first line that is no decision.
    pub fn replay(&self, mut each: impl FnMut(u64, Decision) -> Result<(), String>) -> Result<()> {
        match self {
            Self::Memory(decisions) => {
                for (place, decision) in decisions.iter().enumerate() {
                    each(place as u64, decision.clone())
                        .map_err(|problem| Error::Refused { path: PathBuf::from("memory"), problem })?;
                }
            }
            Self::File(file) => {
                let mut lines = file.lines();
                while let Some((place, text)) = lines.next()? {
                    if text.trim_ascii().is_empty() {
                        continue;
                    }
                    Decision::parse(&text)
                        .and_then(|decision| each(place.byte_offset, decision))
                        .map_err(|problem| lines.problem(&place, problem))?;
                }
            }
        }
        Ok(())
    }

    /// Puts a decision on record, durably. Gives the place to find it again.
    ///
    /// # Errors
    /// [`Error::Io`]: then the decision must not take effect, and the journal be opened anew.
    pub fn record(&mut self, decision: &Decision) -> Result<u64> {
        match self {
            Self::Memory(decisions) => {
                decisions.push(decision.clone());
                Ok(decisions.len() as u64 - 1)
            }
            Self::File(file) => {
                let place = file.append(decision)?;
                file.sync()?;
                Ok(place)
            }
        }
    }

    /// The decision at a place that [`Journal::replay`] or [`Journal::record`] gave.
    ///
    /// # Errors
    /// [`Error::Journal`] where there is none any more.
    pub fn decision(&self, place: u64) -> Result<Decision> {
        match self {
            Self::Memory(decisions) => Ok(decisions[place as usize].clone()),
            Self::File(file) => Decision::parse(&file.line_at(place)?).map_err(|problem| Error::Journal {
                path: file.path.clone(),
                line: 0,
                byte_offset: place,
                problem,
            }),
        }
    }

    /// The file, where it is in one.
    pub fn file(&self) -> Option<&LineFile> {
        match self {
            Self::Memory(_) => None,
            Self::File(file) => Some(file),
        }
    }
}
