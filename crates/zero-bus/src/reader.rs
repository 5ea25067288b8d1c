//! Reading events that were checked on the way, from any index, once or for as long as they come.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chain::{Head, Line, is_unfinished};
use crate::chunk::{self, Sound};
use crate::error::{Error, Result};
use crate::event::{Event, index_of_id};
use crate::fault::FaultKind;
use crate::integrity::{self, Finding, Integrity, Progress};
use crate::lines::{LOCK, LOG, Lines};
use crate::log::Bus;
use crate::recover::{self, locate_damage};
use crate::snapshot::{Found, Snapshot};
use crate::storage::{Access, Directory, Lock, Storage, StorageFile, Watch};
use crate::sync_mark::SyncMark;

/// A bus opened for reading. Changes nothing and needs no more than the right to read.
#[derive(Clone)]
pub struct Reader {
    storage: Arc<dyn Storage>,
}

impl Reader {
    /// Opens the bus in a directory for reading. A directory without a log is an empty bus.
    ///
    /// # Errors
    /// [`Error::NotABus`] where the path is no directory, [`Error::Io`] for what the system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let not_a_bus = |reason: &str| Error::NotABus { path: path.to_owned(), reason: reason.to_owned() };
        let directory = Directory::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_a_bus("there is no such directory"),
            io::ErrorKind::NotADirectory => not_a_bus("it is a file, not a directory"),
            _ => Error::io("open the directory", path)(error),
        })?;
        let reader = Self::open_in(Arc::new(directory));
        // Reports early what every later call would run into.
        reader.log()?;
        Ok(reader)
    }

    /// Opens the bus in any storage for reading.
    pub fn open_in(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// The events from an index on, in their order, up to the end of the log as it is now. Each is checked:
    /// its own checksum, and the link to the one before.
    ///
    /// Finds the place by bisection: some twenty lines are read for a log of a million.
    ///
    /// # Errors
    /// [`Error::Io`]. What is wrong with the log comes as the item in whose place it stands.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Reader};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for celsius in [21.5, 22.0, 22.5] {
    ///     bus.append(Draft::new("sensor.reading", 1777593600.0, &BTreeMap::from([("celsius", celsius)]))?)?;
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

    /// Goes through the events from an index on, as [`Reader::events`] does, on as many threads as the machine runs at
    /// once: `each` gets, in their order, those that `wanted` says yes to, which gets the type and the trace of every one.
    /// Called by one thread at a time, whichever it is. Ends at the end of the log as it is now.
    ///
    /// # Errors
    /// As [`Reader::events`], when all before it have been handed out; and what `each` returns.
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
        wanted: impl Fn(&str, Option<&str>) -> bool + Sync,
        mut each: impl FnMut(Event) -> Result<(), E> + Send,
    ) -> Result<Selected, E> {
        let mut events = self.events(from)?;
        let from = events.from;
        if let Some(lines) = &mut events.lines {
            let start = Sound { head: events.head, at: lines.at() };
            let mut refused = None;
            let gather = |gathered: &mut Vec<Event>, head: Head, line: &Line<'_>, _| {
                if head.index >= from && wanted(&line.event_type(), line.trace_id().as_deref()) {
                    gathered.extend(line.event(head));
                }
            };
            let merge = |gathered: &mut Vec<Event>, _, _: &mut [u8]| {
                gathered.drain(..).try_for_each(&mut each).map_err(|error| {
                    refused = Some(error);
                    io::Error::other("what is wanted is not taken")
                })
            };
            let file = Arc::clone(lines.file());
            let sound = chunk::judge(&*file, start, lines.end(), None, chunk::all_threads(), gather, merge);
            if let Some(refused) = refused {
                return Err(refused);
            }
            let sound = sound.map_err(Error::io("read it", &self.log_path()))?;
            lines.go_to(sound.at);
            events.head = sound.head;
        }
        for event in events.by_ref() {
            let event = event?;
            if wanted(&event.event_type, event.trace_id.as_deref()) {
                each(event)?;
            }
        }
        Ok(Selected { last: events.head.index, torn_bytes: events.torn_bytes() })
    }

    /// The event at an index; `None` beyond the end.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the log is not sound up to there, [`Error::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::{Bus, Draft, Json};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let draft = Draft { event_type: "a".into(), as_of: 0.0, payload: Json::parse("{}")?, trace_id: None };
    /// let event = bus.append(draft)?;
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

    /// The event with an id; `None` where there is none.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn event_by_id(&self, id: &str) -> Result<Option<Event>> {
        index_of_id(id).map_or(Ok(None), |index| self.event(index))
    }

    /// Where the sound part of the log ends, as far as its tail tells.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the tail tells nothing, [`Error::Io`].
    pub fn head(&self) -> Result<Head> {
        let Some(Log { file, end, note }) = self.log()? else { return Ok(Head::default()) };
        match recover::head(&file, note, end)
            .map_err(Error::io("read the end of", &self.storage.path(LOG)))?
        {
            Some(head) => Ok(head),
            None => Err(locate_damage(&*self.storage, &file, note, end)),
        }
    }

    /// Where the log is, or would be.
    pub fn log_path(&self) -> PathBuf {
        self.storage.path(LOG)
    }

    /// The snapshot, where there is one that can be read. Whether the log bears it out is for
    /// [`Reader::verify`] to say.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn snapshot(&self) -> Result<Option<Snapshot>> {
        Ok(match Snapshot::read(&*self.storage)? {
            Found::Snapshot(snapshot, _) => Some(snapshot),
            Found::Nothing | Found::Unreadable(_) => None,
        })
    }

    /// Bytes in the log.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn size_bytes(&self) -> Result<u64> {
        Ok(self.log()?.map_or(0, |log| log.end))
    }

    /// The events from an index on, and then those that are still to come.
    ///
    /// # Errors
    /// As [`Reader::events`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::time::Duration;
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let mut follower = bus.reader().follow(1)?;
    /// assert_eq!(follower.next(Duration::ZERO)?, None);
    ///
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &std::collections::BTreeMap::from([("by", "cat")]))?)?;
    /// assert_eq!(follower.next(Duration::from_secs(5))?, Some(event));
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn follow(&self, from: u64) -> Result<Follow> {
        // Watching begins before the first look, so that nothing falls between the two.
        let watch =
            self.storage.watch().map_err(Error::io("watch the directory of", &self.storage.path(LOG)))?;
        Ok(Follow { events: self.events(from)?, watch })
    }

    /// Walks the log as it is now, see [`integrity::walk`].
    pub(crate) fn walk<T: Default>(
        &self,
        threads: NonZeroUsize,
        each: impl Fn(&mut T, u64, &Line<'_>, Option<usize>) + Sync,
        merge: impl FnMut(&mut T, &mut [u8]) -> io::Result<()> + Send,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Integrity> {
        let Some(Log { file, end, note }) = self.log()? else { return self.without_a_log() };
        integrity::walk(&file, end, note, threads, each, merge, progress)
            .map_err(Error::io("read it", &self.storage.path(LOG)))
    }

    /// The verdict where there is no log: nothing is wrong with a bus that never had one.
    fn without_a_log(&self) -> Result<Integrity> {
        let path = self.storage.path(LOCK);
        let note = match self.storage.open(LOCK, Access::Read) {
            Ok(lock_file) => SyncMark::read(&*lock_file).map_err(Error::io("read it", &path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("open it for reading", &path)(error)),
        };
        let missing = note.map(|note| note.head.index).filter(|events| *events > 0);
        Ok(Integrity { head: Head::default(), finding: missing.map_or(Finding::Sound, Finding::Missing) })
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// The log and where it ends now; `None` where there is none yet.
    pub(crate) fn log(&self) -> Result<Option<Log>> {
        log(&*self.storage)
    }
}

impl Bus {
    /// A reader of the same bus.
    pub fn reader(&self) -> Reader {
        Reader::open_in(Arc::clone(self.storage()))
    }
}

/// The log as it is when nobody is in the middle of appending.
pub(crate) struct Log {
    pub(crate) file: Arc<dyn StorageFile>,
    /// Where it ends. All before it is durable.
    pub(crate) end: u64,
    pub(crate) note: Option<SyncMark>,
}

fn log(storage: &dyn Storage) -> Result<Option<Log>> {
    let path = storage.path(LOG);
    let file: Arc<dyn StorageFile> = match storage.open(LOG, Access::Read) {
        Ok(file) => Arc::from(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open it for reading", &path)(error)),
    };
    let (end, note) = durable_end(storage, &*file)?;
    Ok(Some(Log { file, end, note }))
}

/// The end of the log while nobody is in the middle of appending, and how far it is known to have been synced. Where
/// that is not up to the end, as after a crash, it is synced here: nothing is given out that a power cut could
/// still take back.
fn durable_end(storage: &dyn Storage, file: &dyn StorageFile) -> Result<(u64, Option<SyncMark>)> {
    let path = storage.path(LOCK);
    let lock_file = match storage.open(LOCK, Access::Read) {
        Ok(lock_file) => Some(lock_file),
        // Without the file nobody of ours has ever appended: a bus from elsewhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("open it for reading", &path)(error)),
    };
    if let Some(lock_file) = &lock_file {
        lock_file.lock(Lock::Shared).map_err(Error::io("lock it", &path))?;
    }
    let end = file.size().map_err(Error::io("look at it", &storage.path(LOG)))?;
    let note = lock_file.as_ref().map_or(Ok(None), |lock_file| SyncMark::read(&**lock_file));
    if let Some(lock_file) = &lock_file {
        lock_file.unlock().map_err(Error::io("unlock it", &path))?;
    }
    let note = note.map_err(Error::io("read it", &path))?;
    if note.is_none_or(|note| note.bytes < end) {
        match file.sync() {
            // On what cannot be written to there is nothing left to sync.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::ReadOnlyFilesystem
                ) => {}
            synced => synced.map_err(Error::io("sync it", &storage.path(LOG)))?,
        }
    }
    Ok((end, note))
}

/// Where [`Reader::select`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The index of the last event that was looked at.
    pub last: u64,
    /// Bytes of an unfinished line behind it; 0 where there is none.
    pub torn_bytes: u64,
}

/// Checked events, see [`Reader::events`]. Ends at the end of the log as it was, at a torn tail, or behind
/// the first error.
pub struct Events {
    storage: Arc<dyn Storage>,
    /// `None` while there is no log.
    lines: Option<Lines>,
    head: Head,
    from: u64,
    torn_bytes: u64,
    /// Where a line was found wrong that may have been read in the wrong moment.
    retry_offset: Option<u64>,
    failed: bool,
}

impl Events {
    fn open(storage: Arc<dyn Storage>, from: u64) -> Result<Self> {
        let log = log(&*storage)?;
        let mut events = Self {
            storage,
            lines: None,
            head: Head::default(),
            from,
            torn_bytes: 0,
            retry_offset: None,
            failed: false,
        };
        if let Some(Log { file, end, .. }) = log {
            events.start(file, end)?;
        }
        Ok(events)
    }

    fn start(&mut self, file: Arc<dyn StorageFile>, end: u64) -> Result<()> {
        let before = self.from - 1;
        let place = find(&file, end, before).map_err(Error::io("read it", &self.storage.path(LOG)))?;
        // Without a sound line to start from, reading starts at the beginning and meets the first fault.
        let (at, head) = place.unwrap_or_default();
        self.head = head;
        self.lines = Some(Lines::new(file, at, end));
        Ok(())
    }

    /// Bytes of an unfinished line behind the last event, where reading met one; 0 otherwise.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// How far reading is: bytes before the next event, and bytes up to the end.
    pub fn position(&self) -> Progress {
        let (bytes, bytes_total) = self.lines.as_ref().map_or((0, 0), |lines| (lines.at(), lines.end()));
        Progress { bytes, bytes_total }
    }

    /// Has an unfinished line at the end read anew: it may have been set aside, and another put in its place.
    fn look_at_the_tail_again(&mut self) -> Result<()> {
        if let Some(lines) = &mut self.lines
            && std::mem::take(&mut self.torn_bytes) > 0
        {
            lines.extend(durable_end(&*self.storage, &**lines.file())?.0);
        }
        Ok(())
    }

    /// The next event as the iterator gives it, and its line exactly as the log has it, without the line break: the
    /// canonical one, or another spelling of it. `None` at the end, and behind the first error.
    ///
    /// # Errors
    /// As the items of [`Reader::events`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use zero_bus::{Bus, Draft};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// bus.append(Draft::new("door.opened", 1777593600.0, &std::collections::BTreeMap::from([("by", "cat")]))?)?;
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

    /// The next event, as `take` gives it out together with its line.
    fn read<T>(&mut self, take: fn(Event, &[u8]) -> T) -> Result<Option<T>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let path = self.storage.path(LOG);
        loop {
            let found = lines.next().map_err(Error::io("read it", &path))?;
            let Some(found) = found else { return Ok(None) };
            let byte_offset = found.offset;
            let judged = found.bytes.ok_or(FaultKind::LineTooLong).and_then(Line::read).and_then(|line| {
                let head = line.follows(self.head)?;
                Ok((head, if head.index < self.from { None } else { line.event(head) }))
            });
            if let Ok((head, event)) = judged {
                self.head = head;
                if let Some(event) = event {
                    return Ok(Some(take(event, found.bytes.unwrap_or_default())));
                }
                continue;
            }
            // Whoever asks again gets the same answer, and not what lies behind.
            lines.go_to(byte_offset);
            let (end, note) = durable_end(&*self.storage, &**lines.file())?;
            lines.extend(end);
            if self.retry_offset.replace(byte_offset) != Some(byte_offset) {
                // A torn tail may have been set aside, and another event put in its place, while it was read.
                continue;
            }
            let rest = Lines::new(Arc::clone(lines.file()), byte_offset, end);
            let judged = integrity::judge_rest(rest, self.head, note).map_err(Error::io("read it", &path))?;
            return match judged.finding {
                Finding::Sound => continue,
                Finding::Torn { bytes, .. } | Finding::Truncated { bytes, .. } => {
                    self.torn_bytes = bytes;
                    lines.extend(byte_offset);
                    Ok(None)
                }
                Finding::Ambiguous(fault) => Err(Error::Ambiguous { path, fault }),
                Finding::Fault(fault) => Err(Error::Damaged { path, fault }),
                Finding::Missing(remembered) => Err(Error::Missing {
                    path,
                    events: self.head.index,
                    recorded: remembered,
                    recorded_in: LOCK,
                }),
            };
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.read(alone);
        self.failed = event.is_err();
        event.transpose()
    }
}

fn alone(event: Event, _: &[u8]) -> Event {
    event
}

/// An event and its line. What was read as an event is UTF-8.
fn with_line(event: Event, line: &[u8]) -> (Event, String) {
    (event, String::from_utf8_lossy(line).into_owned())
}

/// Bytes among which a line is looked for one by one.
const FEW: u64 = 4 << 10;

/// Where the line behind the event at an index begins, found by bisection, with the head that this event is.
/// For an index beyond the last, the same of the last event; for index 0, the start. `None` where the lines
/// met do not bear it out.
fn find(file: &Arc<dyn StorageFile>, end: u64, index: u64) -> io::Result<Option<(u64, Head)>> {
    if index == 0 {
        return Ok(Some((0, Head::default())));
    }
    // The line at `low` begins an event that does not lie behind the wanted one; what begins at `high` or
    // behind it does.
    let (mut low, mut high) = (0, end);
    while high - low > FEW {
        let middle = low + (high - low) / 2;
        match first_line_from(file, middle, high, end)? {
            Probe::Event(offset, found) if found <= index => low = offset,
            Probe::Event(..) | Probe::End => high = middle,
            Probe::Bad => return Ok(None),
        }
    }
    let mut lines = Lines::new(Arc::clone(file), low, end);
    let mut last = (low == 0).then_some((0, Head::default()));
    while let Some(found) = lines.next()? {
        if !found.terminated && is_unfinished(found.bytes) {
            break;
        }
        let Some(line) = found.bytes.and_then(|bytes| Line::read(bytes).ok()) else { return Ok(None) };
        let Some(found) = line.index().filter(|found| *found <= index && line.has_schema()) else {
            return Ok(None);
        };
        let Ok(checksum) = line.is_sound(found) else { return Ok(None) };
        last = Some((lines.at(), Head { index: found, checksum: Some(checksum) }));
        if found == index {
            break;
        }
    }
    Ok(last)
}

/// What a step of the bisection met.
enum Probe {
    /// The line of an event: where it begins, and its index.
    Event(u64, u64),
    /// Nothing more.
    End,
    /// A line that is none of an event.
    Bad,
}

/// Looks for the first line that begins at or behind a place and before `high`.
fn first_line_from(file: &Arc<dyn StorageFile>, from: u64, high: u64, end: u64) -> io::Result<Probe> {
    let mut lines = Lines::behind(Arc::clone(file), from, end)?;
    if lines.at() >= high {
        return Ok(Probe::End);
    }
    Ok(match lines.next()? {
        Some(found) if found.offset >= high || (!found.terminated && is_unfinished(found.bytes)) => {
            Probe::End
        }
        Some(found) => {
            let index = found.bytes.and_then(|bytes| Line::read(bytes).ok()).and_then(|line| line.index());
            index.map_or(Probe::Bad, |index| Probe::Event(found.offset, index))
        }
        None => Probe::End,
    })
}

/// Events as they become durable, see [`Reader::follow`].
pub struct Follow {
    events: Events,
    watch: Box<dyn Watch>,
}

impl Follow {
    /// The next event, waiting for it up to a time; `None` when that is over. Sleeps while nothing happens.
    ///
    /// # Errors
    /// [`Error::Damaged`] at the first fault, [`Error::Changed`] where the log was shortened or replaced,
    /// [`Error::Io`].
    pub fn next(&mut self, at_most: Duration) -> Result<Option<Event>> {
        self.wait_for(at_most, alone)
    }

    /// The same with its line exactly as the log has it, see [`Events::next_with_line`]. With [`Duration::ZERO`] it tells
    /// whether there is more right now.
    ///
    /// # Errors
    /// As [`Follow::next`].
    pub fn next_with_line(&mut self, at_most: Duration) -> Result<Option<(Event, String)>> {
        self.wait_for(at_most, with_line)
    }

    fn wait_for<T>(&mut self, at_most: Duration, take: fn(Event, &[u8]) -> T) -> Result<Option<T>> {
        let deadline = Instant::now().checked_add(at_most);
        self.events.look_at_the_tail_again()?;
        loop {
            if let Some(event) = self.events.read(take)? {
                return Ok(Some(event));
            }
            if self.look_again()? {
                continue;
            }
            let left =
                deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            let path = self.events.storage.path(LOG);
            // A long wait is cut into shorter ones, as the system takes no endless ones.
            self.watch
                .wait(left.min(Duration::from_secs(3600)))
                .map_err(Error::io("wait for changes of", &path))?;
            self.events.look_at_the_tail_again()?;
        }
    }

    /// Bytes of an unfinished line at the end of the log, where reading met one; 0 otherwise.
    pub fn torn_bytes(&self) -> u64 {
        self.events.torn_bytes()
    }

    /// Whether there is more to read than there was.
    fn look_again(&mut self) -> Result<bool> {
        let events = &mut self.events;
        let storage = Arc::clone(&events.storage);
        let path = storage.path(LOG);
        let Some(lines) = &mut events.lines else {
            let Some(Log { file, end, .. }) = log(&*storage)? else { return Ok(false) };
            events.start(file, end)?;
            return Ok(true);
        };
        if !storage.is_current(LOG, &**lines.file()).map_err(Error::io("look at it", &path))? {
            return Err(Error::Changed {
                path,
                reason: "was moved away or replaced; open the bus again to judge what is there now",
            });
        }
        let (end, _) = durable_end(&*storage, &**lines.file())?;
        if end < lines.at() {
            return Err(Error::Changed {
                path,
                reason: "is shorter than it was; open the bus again to judge it afresh",
            });
        }
        let grown = end > lines.end().max(lines.at() + events.torn_bytes);
        if grown {
            lines.extend(end);
            events.torn_bytes = 0;
        }
        Ok(grown)
    }
}
