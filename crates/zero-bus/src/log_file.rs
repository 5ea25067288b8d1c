//! The log as one sequence of bytes: the sealed segments, and the active file after them.
//!
//! Offsets are those of the plain log. Sealing moves bytes from the active file to a segment but
//! changes no offset, so nothing above this module knows where a byte is stored. A bus that was
//! never sealed has only the active file.
//!
//! The first line of the active file tells which segments are *in force*: those that begin before
//! its event. A crash can leave segments that hold what the active file still holds, too; they are
//! not in force. The same holds for the parts of the record of retired events: those in force say
//! where the log starts. A part whose events the active file holds is not in force: the log was put
//! back.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::chain::{self, Head};
use crate::event::MAX_LINE_BYTES;
use crate::fault::{Fault, FaultKind};
use crate::retired::{RETIRED, Retired};
use crate::segment::{FrameReader, SEGMENTS, Segment, Span};
use crate::storage::{Access, Lock, Storage, StorageFile, read_up_to};
use crate::sync::lock;

/// File name of the log in a bus directory; once the bus is sealed, of the active file.
pub const LOG: &str = "events.jsonl";

/// File name of the lock file in a bus directory. Appenders hold its exclusive lock for one batch,
/// readers its shared lock while they sample the end of the log.
pub const LOCK: &str = "bus.lock";

/// Segments whose index is kept in memory. Threads that verify a log work on neighbours.
const MAX_OPEN_SEGMENTS: usize = 4;

/// Frames that are kept decompressed, for those that read lines. A pass over the log reads whole
/// frames and keeps none, see [`LogFile::read_frame`].
const MAX_FRAMES: usize = 4;
const MAX_FRAMES_BYTES: u64 = 32 << 20;

/// Times that a log is opened again because it was sealed and retired meanwhile.
const MAX_OPEN_ATTEMPTS: usize = 8;

/// The end of the verified part of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VerifiedEnd {
    /// The last verified event.
    pub(crate) head: Head,
    /// Byte offset of the next line.
    pub(crate) offset: u64,
}

/// An open log. A clone is the same open files.
#[derive(Clone)]
pub(crate) struct LogFile(Arc<Files>);

struct Files {
    storage: Arc<dyn Storage>,
    active: Box<dyn StorageFile>,
    /// Offset in the log of the first byte of the active file.
    base: u64,
    /// Index of the first event of the active file, if a segment or a record made it matter and its
    /// first line is an event.
    first_in_active: Option<u64>,
    /// `None` if no segment is in force.
    sealed: Option<Sealed>,
    /// Segments that are not in force.
    stale: Vec<Span>,
    /// The events before the first one of the log.
    retired: Option<Arc<Retired>>,
    /// Segments of retired events that are still there.
    leftovers: Vec<Span>,
}

impl LogFile {
    /// Opens the active file, and finds the segments. An unsealed bus costs one system call more
    /// than opening the file (`openat`).
    pub(crate) fn open(storage: &Arc<dyn Storage>, access: Access) -> io::Result<Self> {
        for _ in 1..MAX_OPEN_ATTEMPTS {
            if let Some(log) = Self::try_open(storage, access, None, false)? {
                return Ok(log);
            }
        }
        let opened = Self::try_open(storage, access, None, true)?;
        opened.ok_or_else(|| io::Error::other("it was replaced again and again while it was opened"))
    }

    /// Opens the log for reading as it would be with another record of retired events.
    pub(crate) fn open_with_record(storage: &Arc<dyn Storage>, record: &Retired) -> io::Result<Self> {
        let opened = Self::try_open(storage, Access::Read, Some(record), true)?;
        opened.ok_or_else(|| io::Error::other("it was replaced while it was opened"))
    }

    /// Returns `None` if the active file was replaced while it was opened, unless it `is_last_try`.
    /// A `record` counts instead of the one that is there.
    fn try_open(
        storage: &Arc<dyn Storage>,
        access: Access,
        record: Option<&Retired>,
        is_last_try: bool,
    ) -> io::Result<Option<Self>> {
        // Before the segments are listed: whatever the active file no longer holds is in a segment
        // by then.
        let active = storage.open(LOG, access)?;
        let names = storage.list(SEGMENTS)?;
        let mut files = Files {
            storage: Arc::clone(storage),
            active,
            base: 0,
            first_in_active: None,
            sealed: None,
            stale: Vec::new(),
            retired: None,
            leftovers: Vec::new(),
        };
        if names.is_empty() && record.is_none() {
            return Ok(Some(Self(Arc::new(files))));
        }
        let mut spans: Vec<Span> = names.iter().filter_map(|name| Span::parse(name)).collect();
        spans.sort_by_key(|span| span.first);
        let first = first_index(&*files.active)?;
        files.first_in_active = first;
        // After the segments are listed: those that are missing by then are retired in the record.
        let (record, problem) = match record {
            Some(record) => (Some(record.clone()), None),
            None => match Retired::read(&**storage, RETIRED)? {
                Ok(record) => (record, None),
                Err(problem) => (None, Some(problem)),
            },
        };
        if let Some(first) = first {
            files.stale = spans.split_off(spans.partition_point(|span| span.first < first));
        }
        let recorded_up_to = record.as_ref().map(|record| record.head().index);
        let in_force = record.and_then(|record| record.before(first.unwrap_or(u64::MAX)));
        // Another log was put in place of the active file, or a seal and a retirement came after it
        // was opened.
        if in_force.as_ref().map(|record| record.head().index) != recorded_up_to
            && !is_last_try
            && !storage.is_current(LOG, &*files.active)?
        {
            return Ok(None);
        }
        if let Some(record) = in_force {
            let held = spans.split_off(spans.partition_point(|span| span.last <= record.head().index));
            files.leftovers = std::mem::replace(&mut spans, held);
            files.retired = Some(Arc::new(record));
        }
        let start = files.start();
        files.base = spans.last().map_or(start.offset, |last| last.bytes.end);
        let (followed, mut gap) = first_gap(start, &spans, first);
        if let (0, Some(Fault { kind: FaultKind::Segment(_, text), .. })) = (followed, &mut gap) {
            let problem = problem.map(|problem| format!("; {problem}")).unwrap_or_default();
            *text += &format!("{problem}. If they were retired, run `zero-bus repair`");
        }
        if gap.as_ref().is_some_and(|gap| gap.byte_offset == files.base) {
            // Where the active file begins is unknown. The gap must have a byte that a read can
            // meet.
            files.base = files.base.saturating_add(1);
        }
        spans.truncate(followed);
        files.sealed = (!spans.is_empty() || gap.is_some()).then(|| Sealed::new(spans, gap));
        Ok(Some(Self(Arc::new(files))))
    }

    /// If the path of the log leads to a file that a seal put in place of this one, opens that.
    /// Returns `None` if it leads to this file, to no file, or to a file that no seal explains.
    pub(crate) fn reopen_sealed(&self, access: Access) -> io::Result<Option<Self>> {
        let storage = &self.0.storage;
        if storage.is_current(LOG, &*self.0.active)? {
            return Ok(None);
        }
        // Opening for reading first creates no file if the bus was moved away.
        let read = match Self::open(storage, Access::Read) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if read.0.base <= self.0.base {
            return Ok(None);
        }
        if access == Access::Read { Ok(Some(read)) } else { Self::open(storage, access).map(Some) }
    }

    /// Offset in the log of the first byte of the active file.
    pub(crate) fn base(&self) -> u64 {
        self.0.base
    }

    /// Where the log starts: after the retired events.
    pub(crate) fn start(&self) -> VerifiedEnd {
        self.0.start()
    }

    /// The events before the first one of the log.
    pub(crate) fn retired(&self) -> Option<&Arc<Retired>> {
        self.0.retired.as_ref()
    }

    /// Index of the first event of the active file, if there are segments or a record of retired
    /// events, and if its first line is an event.
    pub(crate) fn first_in_active(&self) -> Option<u64> {
        self.0.first_in_active
    }

    /// Whether the first events of the log are neither there nor retired.
    pub(crate) fn lacks_its_beginning(&self) -> bool {
        let gap = self.0.sealed.as_ref().and_then(|sealed| sealed.gap.as_ref());
        gap.is_some_and(|gap| gap.byte_offset == self.start().offset)
    }

    /// Segments of retired events that an interrupted retirement left.
    pub(crate) fn leftovers(&self) -> &[Span] {
        &self.0.leftovers
    }

    /// Refuses an event that was retired.
    pub(crate) fn check_held(&self, index: u64) -> io::Result<()> {
        match &self.0.retired {
            Some(retired) if index <= retired.head().index => Err(retired.error()),
            _ => Ok(()),
        }
    }

    /// The segments that hold the beginning of the log, in order, up to a gap.
    pub(crate) fn spans(&self) -> &[Span] {
        self.0.sealed.as_ref().map_or(&[], |sealed| &sealed.spans)
    }

    /// Segments that a crash left before they came into force.
    pub(crate) fn stale(&self) -> &[Span] {
        &self.0.stale
    }

    /// Returns a range of bytes that holds the line of an event, if the event is sealed: those of
    /// one frame. Otherwise, the bytes of the active file.
    pub(crate) fn range_of(&self, index: u64, end: u64) -> io::Result<Range<u64>> {
        let position = self.spans().partition_point(|span| span.last < index);
        match &self.0.sealed {
            Some(sealed) if position < sealed.spans.len() => {
                Ok(sealed.segment(&*self.0.storage, position)?.frame_of(index).bytes.clone())
            }
            _ => Ok(self.0.base..end),
        }
    }

    /// Returns where the part of the log ends that a pass should read at once: that of the frame,
    /// or `length` bytes after `from`.
    pub(crate) fn part_end(&self, from: u64, length: u64) -> u64 {
        let is_sealed = (self.start().offset..self.0.base).contains(&from);
        let Some(sealed) = self.0.sealed.as_ref().filter(|_| is_sealed) else {
            return from.saturating_add(length);
        };
        match sealed.locate(&*self.0.storage, from) {
            Ok((_, segment, number)) => segment.frames[number].bytes.end,
            // Reading will find that, too.
            Err(_) => from.saturating_add(length).min(self.0.base),
        }
    }

    /// If these bytes of the log are a sealed frame, decompresses it into `plain` and returns
    /// `true`. Decompresses it again each time.
    pub(crate) fn read_frame(
        &self,
        bytes: &Range<u64>,
        reader: &mut FrameReader,
        plain: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let is_sealed = (self.start().offset..self.0.base).contains(&bytes.start);
        let Some(sealed) = self.0.sealed.as_ref().filter(|_| is_sealed) else { return Ok(false) };
        let (_, segment, number) = sealed.locate(&*self.0.storage, bytes.start)?;
        if segment.frames[number].bytes != *bytes {
            return Ok(false);
        }
        segment.read_frame(number, reader, plain)?;
        Ok(true)
    }

    /// Checks the time that the index of a segment gives for the frame before `end` against the
    /// latest event in that frame. Returns the fault of an index that gives an earlier time.
    pub(crate) fn check_latest(&self, end: u64, latest: f64) -> io::Result<Option<Fault>> {
        let Some(sealed) = self.0.sealed.as_ref().filter(|_| end <= self.0.base) else { return Ok(None) };
        let (_, segment, number) = sealed.locate(&*self.0.storage, end.saturating_sub(1))?;
        let is_false = segment.frames[number].latest < latest;
        Ok(is_false.then(|| segment.frame_fault(number, "has a later event than its index says")))
    }

    /// Returns the index of an event before which all events are earlier than `time`, as far as
    /// the indexes of the segments tell. Costs three reads for each segment that may hold later
    /// events.
    pub(crate) fn first_since(&self, time: f64) -> io::Result<u64> {
        let mut first = self.spans().last().map_or(self.start().head.index, |span| span.last) + 1;
        let Some(sealed) = &self.0.sealed else { return Ok(first) };
        for position in (0..sealed.spans.len()).rev() {
            let segment = match sealed.segment(&*self.0.storage, position) {
                Err(error) if Fault::of(&error).is_some() => return Ok(self.start().head.index + 1),
                segment => segment?,
            };
            if segment.latest() < time {
                break;
            }
            let number = segment.frames.partition_point(|frame| frame.latest < time);
            first = segment.frames[number].first;
        }
        Ok(first)
    }

    /// Returns the offset in the active file of an offset in the log.
    fn in_active(&self, offset: u64) -> io::Result<u64> {
        offset.checked_sub(self.0.base).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the place is in a sealed segment, which never changes",
            )
        })
    }
}

impl StorageFile for LogFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match (offset.checked_sub(self.0.base), &self.0.sealed) {
            (Some(offset), _) => self.0.active.read_at(buffer, offset),
            (None, _) if offset < self.start().offset => match &self.0.retired {
                Some(retired) => Err(retired.error()),
                None => Ok(0),
            },
            (None, Some(sealed)) => sealed.read_at(&*self.0.storage, buffer, offset),
            // Without segments, the active file begins at 0.
            (None, None) => Ok(0),
        }
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.active.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.active.write_at(bytes, self.in_active(offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.active.sync()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.base.saturating_add(self.0.active.size()?))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.active.truncate(self.in_active(len)?)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.0.active.identity()
    }

    fn lock(&self, lock: Lock) -> io::Result<()> {
        self.0.active.lock(lock)
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        self.0.active.try_lock(lock)
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.active.unlock()
    }
}

impl Files {
    fn start(&self) -> VerifiedEnd {
        self.retired.as_ref().map_or_else(VerifiedEnd::default, |retired| VerifiedEnd {
            head: retired.head(),
            offset: retired.byte_end(),
        })
    }
}

/// The segments in force.
struct Sealed {
    /// In order, and without a gap.
    spans: Vec<Span>,
    /// The first event that should be in a segment but is not. Nothing between it and the active
    /// file is read.
    gap: Option<Fault>,
    /// Segments that were used last, with their position in `spans`.
    open: Mutex<Recent<usize, Arc<Segment>>>,
    /// Frames that were used last, with the position of their segment and their number in it.
    frames: Mutex<Recent<(usize, usize), Arc<CachedFrame>>>,
}

/// A frame. The thread that uses it first decompresses it, and others wait for that.
type CachedFrame = Mutex<Option<Arc<Vec<u8>>>>;

impl Sealed {
    fn new(spans: Vec<Span>, gap: Option<Fault>) -> Self {
        Self { spans, gap, open: Mutex::default(), frames: Mutex::default() }
    }

    /// Reads at most up to the end of the frame that holds `offset`, which is before the active
    /// file.
    fn read_at(&self, storage: &dyn Storage, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (position, segment, number) = self.locate(storage, offset)?;
        let bytes = segment.frames[number].bytes.clone();
        let mut frames = lock(&self.frames);
        let cached =
            frames.get_or_insert((position, number), || Ok((Arc::default(), bytes.end - bytes.start)))?;
        frames.shrink(MAX_FRAMES, MAX_FRAMES_BYTES);
        drop(frames);
        let mut cached = lock(&cached);
        let frame = match &*cached {
            Some(frame) => Arc::clone(frame),
            None => {
                let mut plain = Vec::new();
                segment.read_frame(number, &mut FrameReader::default(), &mut plain)?;
                Arc::clone(cached.insert(Arc::new(plain)))
            }
        };
        drop(cached);
        let rest = &frame[(offset - bytes.start) as usize..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// Returns the segment that holds a byte of the log before the active file, its position, and
    /// the number of the frame that holds the byte.
    fn locate(&self, storage: &dyn Storage, offset: u64) -> io::Result<(usize, Arc<Segment>, usize)> {
        if let Some(gap) = self.gap.as_ref().filter(|gap| gap.byte_offset <= offset) {
            return Err(gap.clone().into());
        }
        let position = self.spans.partition_point(|span| span.bytes.end <= offset);
        let segment = self.segment(storage, position)?;
        let number = segment.frame_at(offset);
        Ok((position, segment, number))
    }

    fn segment(&self, storage: &dyn Storage, position: usize) -> io::Result<Arc<Segment>> {
        let span = &self.spans[position];
        let open = || match Segment::open(storage, span) {
            Ok(segment) => Ok((Arc::new(segment), 0)),
            // It may have been retired since the log was opened.
            Err(error) => match Retired::read(storage, RETIRED)? {
                Ok(Some(retired)) if retired.head().index >= span.last => Err(Arc::new(retired).error()),
                _ => Err(error),
            },
        };
        let mut segments = lock(&self.open);
        let segment = segments.get_or_insert(position, open)?;
        segments.shrink(MAX_OPEN_SEGMENTS, 0);
        Ok(segment)
    }
}

/// Values that were used last, each with its key and its size in bytes; the newest at the back.
struct Recent<K, T>(VecDeque<(K, T, u64)>);

impl<K, T> Default for Recent<K, T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K: PartialEq, T: Clone> Recent<K, T> {
    /// Returns the value of a key, or the one that `new` returns with its size.
    fn get_or_insert(&mut self, key: K, new: impl FnOnce() -> io::Result<(T, u64)>) -> io::Result<T> {
        let found = self.0.iter().position(|(other, ..)| *other == key);
        let entry = match found.and_then(|at| self.0.remove(at)) {
            Some(entry) => entry,
            None => {
                let (value, bytes) = new()?;
                (key, value, bytes)
            }
        };
        let value = entry.1.clone();
        self.0.push_back(entry);
        Ok(value)
    }

    /// Drops the oldest values above a number or a size, but not the newest one.
    fn shrink(&mut self, max: usize, max_bytes: u64) {
        let mut bytes: u64 = self.0.iter().map(|(.., bytes)| bytes).sum();
        while self.0.len() > max || (bytes > max_bytes && self.0.len() > 1) {
            bytes -= self.0.pop_front().map_or(0, |(.., bytes)| bytes);
        }
    }
}

/// Returns how many segments follow the start of the log and each other, and the place where the
/// next one, or the active file, whose first event is `active`, does not follow.
fn first_gap(start: VerifiedEnd, spans: &[Span], active: Option<u64>) -> (usize, Option<Fault>) {
    let (mut next, mut offset) = (start.head.index.saturating_add(1), start.offset);
    let fault = |event, byte_offset, problem: String| {
        Some(Fault { event, byte_offset, kind: FaultKind::Segment(format!("{SEGMENTS}/"), problem) })
    };
    let missing = |from: u64, to: u64| format!("no file holds the events {from} to {to}");
    for (position, span) in spans.iter().enumerate() {
        if span.first > next {
            return (position, fault(next, offset, missing(next, span.first - 1)));
        }
        if span.first < next || span.bytes.start != offset {
            let problem = format!("{} does not follow the segment before it", span.path());
            return (position, fault(span.first, offset, problem));
        }
        (next, offset) = (span.last.saturating_add(1), span.bytes.end);
    }
    let gap = match active {
        Some(active) if active > next => fault(next, offset, missing(next, active - 1)),
        Some(active) if active < next => {
            fault(active, offset, format!("the last one holds events from {active} on, and so does {LOG}"))
        }
        _ => None,
    };
    (spans.len(), gap)
}

/// Returns the index of the first event of the active file; `None` if its first line is not a valid
/// event.
fn first_index(active: &dyn StorageFile) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; 4 << 10];
    loop {
        let filled = read_up_to(active, &mut buffer, 0)?;
        // Blank lines can only follow an event, so they come first if that event was sealed.
        let blank = buffer[..filled].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if let Some(length) = memchr::memchr(b'\n', &buffer[blank..filled]) {
            return Ok(chain::head_of(&buffer[blank..blank + length]).map(|head| head.index));
        }
        if filled < buffer.len() || filled > 2 * MAX_LINE_BYTES {
            return Ok(None);
        }
        buffer.resize(2 * buffer.len(), 0);
    }
}
