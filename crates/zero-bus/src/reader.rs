//! Reads verified events of a log, from any index to the end.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bisect::find_event;
use crate::chain::{Head, Line};
use crate::chunk::{self, VerifiedEnd};
use crate::error::{Error, Result};
use crate::event::{Event, index_of_id};
use crate::fault::FaultKind;
use crate::integrity::{self, Finding, Integrity, Progress};
use crate::lines::{LOCK, LOG, Lines};
use crate::log::Bus;
use crate::recover::{self, locate_damage};
use crate::snapshot::{Snapshot, StoredSnapshot};
use crate::storage::{Access, Directory, Lock, Storage, StorageFile};
use crate::sync_mark::SyncMark;

/// A bus opened for reading. Needs only the right to read, and changes nothing.
#[derive(Clone)]
pub struct Reader {
    storage: Arc<dyn Storage>,
}

impl Reader {
    /// Opens the bus in a directory for reading. A directory without a log is an empty bus.
    ///
    /// # Errors
    /// [`Error::NotABus`] if the path is not a directory, [`Error::Io`] for what the system
    /// refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let not_a_bus = |reason: &str| Error::NotABus { path: path.to_owned(), reason: reason.to_owned() };
        let directory = Directory::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_a_bus("there is no such directory"),
            io::ErrorKind::NotADirectory => not_a_bus("it is a file, not a directory"),
            _ => Error::io("open the directory", path)(error),
        })?;
        let reader = Self::open_in(Arc::new(directory));
        // Fails here rather than on the first read, if the log or the lock file cannot be opened.
        reader.durable_log()?;
        Ok(reader)
    }

    /// Opens the bus in any storage for reading.
    pub fn open_in(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// Returns the events from an index on, in order, up to the present end of the log. Each event
    /// is verified: its checksum and its link to the event before.
    ///
    /// Finds the first event by bisection, which reads about twenty lines of a log of a million.
    ///
    /// # Errors
    /// [`Error::Io`]. The iterator returns the first fault of the log as an error in place of the
    /// faulty event, and ends.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Reader};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for celsius in [21.5, 22.0, 22.5] {
    ///     let reading = BTreeMap::from([("celsius", celsius)]);
    ///     bus.append(Draft::new("sensor.reading", 1777593600.0, &reading)?)?;
    /// }
    /// for event in Reader::open(dir.path())?.events(2)? {
    ///     let event = event?;
    ///     println!("{} {} {}", event.id(), event.event_type, event.payload);
    /// }
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn events(&self, from: u64) -> Result<Events> {
        Events::open(Arc::clone(&self.storage), from.max(1))
    }

    /// Verifies the events from an index on, like [`Reader::events`], but on several threads. Calls
    /// `on_event` in order with those for which `matches` returns true. `matches` gets the type and
    /// the trace of each event.
    ///
    /// `on_event` is called by one thread at a time, but not always by the same one. Ends at the
    /// present end of the log.
    ///
    /// # Errors
    /// As [`Reader::events`], after all matching events before the fault were passed on; and the
    /// error that `on_event` returns.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Error};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for event_type in ["door.opened", "door.closed", "door.opened"] {
    ///     bus.append(Draft::new(event_type, 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    /// }
    /// let mut opened = Vec::new();
    /// bus.reader().select(1, |event_type, _| event_type == "door.opened", |event| {
    ///     opened.push(event.index);
    ///     Ok::<(), Error>(())
    /// })?;
    /// assert_eq!(opened, [1, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn select<E: From<Error> + Send>(
        &self,
        from: u64,
        matches: impl Fn(&str, Option<&str>) -> bool + Sync,
        mut on_event: impl FnMut(Event) -> Result<(), E> + Send,
    ) -> Result<Selected, E> {
        let mut events = self.events(from)?;
        let from = events.from;
        if let Some(lines) = &mut events.lines {
            let start = VerifiedEnd { head: events.head, offset: lines.offset() };
            let mut caller_error = None;
            let visit = |selected: &mut Vec<Event>, head: Head, line: &Line<'_>, _| {
                if head.index >= from && matches(&line.event_type(), line.trace_id().as_deref()) {
                    selected.extend(line.event(head));
                }
            };
            let merge = |selected: &mut Vec<Event>, _, _: &mut [u8]| {
                selected.drain(..).try_for_each(&mut on_event).map_err(|error| {
                    caller_error = Some(error);
                    io::Error::other("the caller stopped the selection")
                })
            };
            let file = Arc::clone(lines.file());
            let threads = chunk::available_threads();
            let verified = chunk::verify_chunks(&*file, start, lines.end(), None, threads, visit, merge);
            if let Some(error) = caller_error {
                return Err(error);
            }
            let verified = verified.map_err(Error::io("read it", &self.log_path()))?;
            lines.seek(verified.offset);
            events.head = verified.head;
        }
        // The rest: the last lines, or everything from the first chunk on that is not entirely
        // valid.
        for event in events.by_ref() {
            let event = event?;
            if matches(&event.event_type, event.trace_id.as_deref()) {
                on_event(event)?;
            }
        }
        Ok(Selected { last: events.head.index, torn_bytes: events.torn_bytes() })
    }

    /// Returns the event at an index; `None` beyond the end.
    ///
    /// # Errors
    /// [`Error::Damaged`] if that event or the one before it is not valid, [`Error::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let door = BTreeMap::from([("by", "cat")]);
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &door)?)?;
    /// assert_eq!(bus.reader().event(1)?, Some(event.clone()));
    /// assert_eq!(bus.reader().event_by_id("evt-000000000001")?, Some(event));
    /// assert_eq!(bus.reader().event(2)?, None);
    /// assert_eq!(bus.reader().head()?, bus.head());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn event(&self, index: u64) -> Result<Option<Event>> {
        if index == 0 {
            return Ok(None);
        }
        match self.events(index)?.next() {
            Some(event) => event.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the event with an id; `None` if the log does not hold it.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn event_by_id(&self, id: &str) -> Result<Option<Event>> {
        index_of_id(id).map_or(Ok(None), |index| self.event(index))
    }

    /// Returns whether the log holds the event that a head names: this index with this checksum.
    /// The empty head is the start of every log.
    ///
    /// This is the check for a checksum that was kept elsewhere. If [`Reader::verify`] passes too,
    /// no event up to `head` was changed or removed since that head was recorded, and the log was
    /// not rewritten. By itself, this method verifies only that one event.
    ///
    /// # Errors
    /// As [`Reader::event`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Checksum, Draft, Head};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let door = BTreeMap::from([("by", "cat")]);
    /// let recorded = bus.append(Draft::new("door.opened", 1777593600.0, &door)?)?.head();
    /// bus.append(Draft::new("door.closed", 1777593601.0, &door)?)?;
    ///
    /// assert!(bus.reader().contains(recorded)?);
    /// let other = Head { checksum: Some(Checksum::of(b"another event")), ..recorded };
    /// assert!(!bus.reader().contains(other)?);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn contains(&self, head: Head) -> Result<bool> {
        if head.index == 0 {
            return Ok(head == Head::default());
        }
        Ok(self.event(head.index)?.is_some_and(|event| event.head() == head))
    }

    /// Returns the last valid event of the log. Reads only the tail.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the tail is not valid, [`Error::Io`].
    pub fn head(&self) -> Result<Head> {
        let Some(DurableLog { file, end, sync_mark }) = self.durable_log()? else {
            return Ok(Head::default());
        };
        match recover::head(&file, sync_mark, end).map_err(Error::io("read its tail", &self.log_path()))? {
            Some(head) => Ok(head),
            None => Err(locate_damage(&*self.storage, &file, sync_mark, end)),
        }
    }

    /// Returns the path of the log, which need not exist.
    pub fn log_path(&self) -> PathBuf {
        self.storage.path(LOG)
    }

    /// Returns the snapshot; `None` if it is missing or unreadable. [`Reader::verify`] checks
    /// whether it matches the log.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn snapshot(&self) -> Result<Option<Snapshot>> {
        Ok(match Snapshot::read(&*self.storage)? {
            StoredSnapshot::Snapshot(snapshot, _) => Some(snapshot),
            StoredSnapshot::Missing | StoredSnapshot::Unreadable(_) => None,
        })
    }

    /// Returns the length of the log in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn size_bytes(&self) -> Result<u64> {
        Ok(self.durable_log()?.map_or(0, |log| log.end))
    }

    /// Scans the log up to its present end, see [`integrity::scan`].
    pub(crate) fn scan<T: Default>(
        &self,
        threads: NonZeroUsize,
        visit: impl Fn(&mut T, u64, &Line<'_>, Option<usize>) + Sync,
        merge: impl FnMut(&mut T, &mut [u8]) -> io::Result<()> + Send,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Integrity> {
        let Some(DurableLog { file, end, sync_mark }) = self.durable_log()? else {
            return self.integrity_without_log();
        };
        integrity::scan(&file, end, sync_mark, threads, visit, merge, progress)
            .map_err(Error::io("read it", &self.log_path()))
    }

    /// Returns the verdict of a bus without a log: valid, unless a sync mark records that it had
    /// one.
    fn integrity_without_log(&self) -> Result<Integrity> {
        let path = self.storage.path(LOCK);
        let sync_mark = match self.storage.open(LOCK, Access::Read) {
            Ok(lock_file) => SyncMark::read(&*lock_file).map_err(Error::io("read it", &path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("open it for reading", &path)(error)),
        };
        let missing = sync_mark.map(|mark| mark.head.index).filter(|events| *events > 0);
        Ok(Integrity { head: Head::default(), finding: missing.map_or(Finding::Sound, Finding::Missing) })
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Returns the log and its present end; `None` if there is no log.
    pub(crate) fn durable_log(&self) -> Result<Option<DurableLog>> {
        DurableLog::open(&*self.storage)
    }
}

impl Bus {
    /// Returns a reader of the same bus.
    pub fn reader(&self) -> Reader {
        Reader::open_in(Arc::clone(self.storage()))
    }
}

/// An open log, up to an end before which everything is durable.
pub(crate) struct DurableLog {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) end: u64,
    pub(crate) sync_mark: Option<SyncMark>,
}

impl DurableLog {
    fn open(storage: &dyn Storage) -> Result<Option<Self>> {
        let path = storage.path(LOG);
        let file: Arc<dyn StorageFile> = match storage.open(LOG, Access::Read) {
            Ok(file) => Arc::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open it for reading", &path)(error)),
        };
        let (end, sync_mark) = durable_end(storage, &*file)?;
        Ok(Some(Self { file, end, sync_mark }))
    }
}

/// Returns the present end of the log and its sync mark, after making everything before the end
/// durable.
///
/// The end is sampled under the shared lock of the lock file. An appender holds the exclusive lock
/// until its batch is synced, so no reader sees part of a batch. If an appender died before its
/// sync, the sync mark does not cover the end; then the log is synced here. A reader thus never
/// returns an event that a power cut could still take back.
fn durable_end(storage: &dyn Storage, file: &dyn StorageFile) -> Result<(u64, Option<SyncMark>)> {
    let path = storage.path(LOCK);
    let lock_file = match storage.open(LOCK, Access::Read) {
        Ok(lock_file) => Some(lock_file),
        // This library never appended here: the log was copied from elsewhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("open it for reading", &path)(error)),
    };
    if let Some(lock_file) = &lock_file {
        lock_file.lock(Lock::Shared).map_err(Error::io("lock it", &path))?;
    }
    let end = file.size().map_err(Error::io("read the size of it", &storage.path(LOG)))?;
    let sync_mark = lock_file.as_ref().map_or(Ok(None), |lock_file| SyncMark::read(&**lock_file));
    if let Some(lock_file) = &lock_file {
        lock_file.unlock().map_err(Error::io("unlock it", &path))?;
    }
    let sync_mark = sync_mark.map_err(Error::io("read it", &path))?;
    if sync_mark.is_none_or(|mark| mark.bytes < end) {
        match file.sync() {
            // A file that cannot be written has nothing to sync.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::ReadOnlyFilesystem
                ) => {}
            synced => synced.map_err(Error::io("sync it", &storage.path(LOG)))?,
        }
    }
    Ok((end, sync_mark))
}

/// Where a [`Reader::select`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The index of the last verified event.
    pub last: u64,
    /// Length of the torn tail after it in bytes; 0 if there is none.
    pub torn_bytes: u64,
}

/// Verified events in order, see [`Reader::events`]. Ends at the end that the log had at the start,
/// at a torn tail, or after the first error.
pub struct Events {
    storage: Arc<dyn Storage>,
    /// `None` if there was no log at the start.
    lines: Option<Lines>,
    /// The last verified event, or the event that reading started after.
    head: Head,
    /// Index of the first event to return. If bisection failed, reading starts at the first event
    /// and verifies those before `from` without returning them.
    from: u64,
    torn_bytes: u64,
    /// Offset of an invalid line that was read again once, see [`Events::read`].
    retry_offset: Option<u64>,
    failed: bool,
}

impl Events {
    fn open(storage: Arc<dyn Storage>, from: u64) -> Result<Self> {
        let log = DurableLog::open(&*storage)?;
        let mut events = Self {
            storage,
            lines: None,
            head: Head::default(),
            from,
            torn_bytes: 0,
            retry_offset: None,
            failed: false,
        };
        if let Some(log) = log {
            events.start(log)?;
        }
        Ok(events)
    }

    fn start(&mut self, log: DurableLog) -> Result<()> {
        let DurableLog { file, end, .. } = log;
        let start = find_event(&file, end, self.from - 1).map_err(Error::io("read it", &self.log_path()))?;
        // If an invalid line stopped the bisection, reading starts at 0 and reports the first
        // fault.
        let (offset, head) = start.unwrap_or_default();
        self.head = head;
        self.lines = Some(Lines::new(file, offset, end));
        Ok(())
    }

    /// Returns the length of the torn tail in bytes once reading has met it; 0 otherwise.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Returns the byte offset of the next event and of the end.
    pub fn position(&self) -> Progress {
        let (bytes, bytes_total) = self.lines.as_ref().map_or((0, 0), |lines| (lines.offset(), lines.end()));
        Progress { bytes, bytes_total }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.storage.path(LOG)
    }

    /// Returns the next event as the iterator does, with its line exactly as the log holds it:
    /// without the line break, canonical or not. `None` at the end, and after the first error.
    ///
    /// # Errors
    /// As the items of [`Reader::events`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// bus.append(Draft::new("door.opened", 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    /// let (event, line) = bus.reader().events(1)?.next_with_line()?.unwrap();
    /// assert_eq!(line, event.line());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn next_with_line(&mut self) -> Result<Option<(Event, String)>> {
        if self.failed {
            return Ok(None);
        }
        let next = self.read(with_line);
        self.failed = next.is_err();
        next
    }

    /// Reads the next event and converts it and its line with `convert`. After an error, another
    /// call returns the same error, never an event after the fault.
    pub(crate) fn read<T>(&mut self, convert: fn(Event, &[u8]) -> T) -> Result<Option<T>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let path = self.storage.path(LOG);
        loop {
            let Some(raw) = lines.next().map_err(Error::io("read it", &path))? else { return Ok(None) };
            let byte_offset = raw.offset;
            let verified = raw.bytes.ok_or(FaultKind::LineTooLong).and_then(Line::read).and_then(|line| {
                let head = line.verify_after(self.head)?;
                Ok((head, if head.index < self.from { None } else { line.event(head) }))
            });
            if let Ok((head, event)) = verified {
                self.head = head;
                if let Some(event) = event {
                    return Ok(Some(convert(event, raw.bytes.unwrap_or_default())));
                }
                continue;
            }
            lines.seek(byte_offset);
            let (end, sync_mark) = durable_end(&*self.storage, &**lines.file())?;
            lines.set_end(end);
            // While this reader reads a torn tail, an appender may quarantine it and write an event
            // in its place. So an invalid line is read once more before it counts.
            if self.retry_offset.replace(byte_offset) != Some(byte_offset) {
                continue;
            }
            let tail = Lines::new(Arc::clone(lines.file()), byte_offset, end);
            let scanned = integrity::scan_tail(tail, self.head, sync_mark);
            let integrity = scanned.map_err(Error::io("read it", &path))?;
            return match integrity.finding {
                Finding::Sound => continue,
                Finding::Torn { bytes, .. } | Finding::Truncated { bytes, .. } => {
                    self.torn_bytes = bytes;
                    lines.set_end(byte_offset);
                    Ok(None)
                }
                Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
                Finding::Fault(fault) => Err(Error::Damaged { path, fault }),
                Finding::Missing(recorded) => {
                    Err(Error::Missing { path, events: self.head.index, recorded, recorded_in: LOCK })
                }
            };
        }
    }

    /// Makes the next read visit a torn tail again, because an event may be in its place by now.
    pub(crate) fn revisit_torn_tail(&mut self) -> Result<()> {
        if let Some(lines) = &mut self.lines
            && std::mem::take(&mut self.torn_bytes) > 0
        {
            lines.set_end(durable_end(&*self.storage, &**lines.file())?.0);
        }
        Ok(())
    }

    /// Moves the end to the present end of the log. Returns whether there is more to read.
    pub(crate) fn refresh_end(&mut self) -> Result<bool> {
        let Some(lines) = &mut self.lines else {
            let Some(log) = DurableLog::open(&*self.storage)? else { return Ok(false) };
            self.start(log)?;
            return Ok(true);
        };
        let path = self.storage.path(LOG);
        let is_current = self.storage.is_current(LOG, &**lines.file());
        if !is_current.map_err(Error::io("look it up", &path))? {
            return Err(Error::Changed {
                path,
                reason: "was moved away or replaced; open the bus again to read the log that is there now",
            });
        }
        let (end, _) = durable_end(&*self.storage, &**lines.file())?;
        if end < lines.offset() {
            return Err(Error::Changed {
                path,
                reason: "is shorter than it was; open the bus again to read what is left of it",
            });
        }
        // A torn tail that was read already is not more to read, unless the log has grown past it.
        let has_grown = end > lines.end().max(lines.offset() + self.torn_bytes);
        if has_grown {
            lines.set_end(end);
            self.torn_bytes = 0;
        }
        Ok(has_grown)
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.read(event_only);
        self.failed = event.is_err();
        event.transpose()
    }
}

/// A conversion for [`Events::read`] that drops the line.
pub(crate) fn event_only(event: Event, _: &[u8]) -> Event {
    event
}

/// A conversion for [`Events::read`] that keeps the line. It is UTF-8, since it was parsed as an
/// event.
pub(crate) fn with_line(event: Event, line: &[u8]) -> (Event, String) {
    (event, String::from_utf8_lossy(line).into_owned())
}
