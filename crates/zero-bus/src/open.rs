//! Opening a bus for appending: [`OpenOptions`], and the shorthands [`Bus::open`] and
//! [`Bus::open_in`].

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::unix_time;
use crate::lock_wait::LOCK_TIMEOUT;
use crate::log::Bus;
use crate::log_file::LOG;
use crate::recover::AmbiguousTail;
use crate::storage::{Access, Directory, Storage};
use crate::writer::Settings;

/// How to open a bus for appending. [`Bus::open`] opens with the defaults.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// use zero_bus::{Bus, Error, OpenOptions};
///
/// let missing = dir.path().join("missing");
/// let refused = OpenOptions::new().create(false).open(&missing);
/// assert!(matches!(refused, Err(Error::NotABus { .. })));
/// assert!(!missing.exists());
///
/// let bus = OpenOptions::new().max_pending_bytes(64 << 10).open(dir.path())?;
/// assert_eq!(bus.head().index, 0);
/// # Ok::<(), zero_bus::Error>(())
/// ```
#[derive(Clone)]
pub struct OpenOptions {
    create: bool,
    settings: Settings,
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("create", &self.create)
            .field("max_pending_bytes", &self.settings.max_pending_bytes)
            .field("on_ambiguous_tail", &self.settings.on_ambiguous_tail)
            .field("lock_timeout", &self.settings.lock_timeout)
            .finish_non_exhaustive()
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Returns the defaults: create a missing bus, let 1 MiB of submitted events be pending, refuse
    /// an ambiguous tail, and wait 30 seconds for the bus's lock.
    pub fn new() -> Self {
        let settings = Settings {
            max_pending_bytes: 1 << 20,
            on_ambiguous_tail: AmbiguousTail::Refuse,
            lock_timeout: LOCK_TIMEOUT,
            segment_bytes: None,
            clock: Arc::new(unix_time),
        };
        Self { create: true, settings }
    }

    /// Sets whether a missing bus is created. With `false`, opening a directory that does not exist
    /// or holds no log is [`Error::NotABus`], and nothing is created.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Sets how many bytes of [submitted](Bus::submit) events may be pending before the next
    /// submission blocks. An event is pending until its batch is complete and is about to be
    /// written. The bound limits the size of a batch; the last event may exceed it. While one batch
    /// is written, the next one can fill up, so the handle holds at most about twice as many bytes.
    /// 0 counts as 1. Events that a thread waits for are not counted, since each thread adds only
    /// one.
    pub fn max_pending_bytes(&mut self, bytes: usize) -> &mut Self {
        self.settings.max_pending_bytes = bytes.max(1);
        self
    }

    /// Sets what to do about an ambiguous tail ([`Error::Ambiguous`]), at the opening and whenever
    /// the handle finds one that another handle's crash left. Any other log is opened as usual.
    pub fn on_ambiguous_tail(&mut self, on_ambiguous_tail: AmbiguousTail) -> &mut Self {
        self.settings.on_ambiguous_tail = on_ambiguous_tail;
        self
    }

    /// Sets the clock that gives the `as_of` of the event
    /// [`bus.recovered`](crate::RECOVERED_TYPE), in seconds since the Unix epoch. Read only when a
    /// tail is quarantined. The default is the system's clock.
    pub fn clock(&mut self, clock: impl Fn() -> f64 + Send + Sync + 'static) -> &mut Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// Sets how long an open or an append waits for the bus's lock before it fails with
    /// [`Error::Locked`]. Other handles hold the lock for one batch, so only a stopped process or a
    /// disk that hangs makes the wait long. See
    /// [`report_lock_waits`](crate::report_lock_waits).
    pub fn lock_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// Makes the handle seal the log after a commit that brings the active file to this many bytes
    /// (at least 1 MiB), on a thread of its own: [`Bus::seal`] with segments of this size. Events
    /// are appended meanwhile. [`Bus::warnings`] tells if that fails, and dropping the handle waits
    /// for it. Without this call, only [`Bus::seal`] seals.
    pub fn segment_bytes(&mut self, bytes: u64) -> &mut Self {
        self.settings.segment_bytes = Some(bytes.max(1 << 20));
        self
    }

    /// Opens the bus in a directory.
    ///
    /// # Errors
    /// As [`Bus::open`]; [`Error::NotABus`] also if the bus is missing and must not be created.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Bus> {
        let path = path.as_ref();
        let not_a_bus = |reason: &str| Error::NotABus { path: path.to_owned(), reason: reason.to_owned() };
        if path.exists() && !path.is_dir() {
            return Err(not_a_bus("it is a file, not a directory"));
        }
        let directory = if self.create { Directory::create(path) } else { Directory::open(path) };
        let directory = directory.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !self.create => not_a_bus("there is no such directory"),
            _ => Error::io("open the directory", path)(error),
        })?;
        self.open_in(Arc::new(directory))
    }

    /// Opens the bus in any [`Storage`].
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open_in(&self, storage: Arc<dyn Storage>) -> Result<Bus> {
        if !self.create {
            let path = storage.path(LOG);
            storage.open(LOG, Access::Read).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::NotABus { path, reason: "there is no such log".to_owned() },
                _ => Error::io("open it for reading", &path)(error),
            })?;
        }
        Bus::open_with(storage, self.settings.clone())
    }
}

impl Bus {
    /// Opens the bus in a directory for appending. Creates the directory (mode 0700) and the files
    /// (0600) if they are missing. [`OpenOptions`] has more choices.
    ///
    /// A crash can leave an incomplete last line. It is moved to a file next to the log; see
    /// [`Bus::quarantined`]. Bytes that a crash left unsynced are made durable. Opening reads the
    /// line that ends at the sync mark and those after it or, without a sync mark, at most the last
    /// three lines.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Ambiguous`] or [`Error::Missing`] if the log needs an operator,
    /// [`Error::NotABus`] if the path is not a directory, [`Error::Io`] if the system refuses a
    /// file operation.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("bus");
    /// let bus = zero_bus::Bus::open(&path)?;
    /// assert_eq!(bus.head().index, 0);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        OpenOptions::new().open(path)
    }

    /// Opens the bus in any [`Storage`]; otherwise as [`Bus::open`].
    ///
    /// # Errors
    /// As [`Bus::open`].
    pub fn open_in(storage: Arc<dyn Storage>) -> Result<Self> {
        OpenOptions::new().open_in(storage)
    }
}
