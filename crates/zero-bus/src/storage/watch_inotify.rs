//! Watches directories and paths with inotify(7).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::interface::Watch;

/// Waits for changes to the files of one directory.
pub(super) struct DirectoryWatch {
    inotify: OwnedFd,
    wake_event: Arc<WakeEvent>,
}

impl DirectoryWatch {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // The `_SELF` flags report that the directory was moved or removed, which must end a wait
        // too.
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&inotify, directory, flags)?;
        Ok(Self { inotify, wake_event: Arc::new(WakeEvent::new()?) })
    }
}

impl Watch for DirectoryWatch {
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        // A timeout too long for the system means to wait without one.
        let timeout = Timespec::try_from(timeout).ok();
        let mut descriptors =
            [&self.inotify, &self.wake_event.0].map(|descriptor| PollFd::new(descriptor, PollFlags::IN));
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let [inotify_ready, woken] = descriptors.map(|descriptor| !descriptor.revents().is_empty());
        if woken {
            self.wake_event.reset();
        }
        if !inotify_ready {
            return Ok(());
        }
        // The caller only needs to know that there was a change, so the events are discarded.
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn waker(&self) -> Option<Waker> {
        Some(Waker::from(Arc::clone(&self.wake_event)))
    }
}

/// An eventfd(2) that is polled together with inotify. It stays readable until
/// [`WakeEvent::reset`], so a wake between two waits is not lost.
struct WakeEvent(OwnedFd);

impl WakeEvent {
    fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn reset(&self) {
        // Fails only if the counter is 0 already.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl Wake for WakeEvent {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Fails only if the counter is at its maximum; then the descriptor is readable as well.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// Reports changes to the names in a directory, and to the path that leads to it.
#[derive(Debug)]
pub(super) struct PathWatch(OwnedFd);

impl PathWatch {
    /// Watches a directory and all of its ancestors. Returns `None` if the path contains a symbolic
    /// link: inotify would not report that the link was changed.
    pub(super) fn open(directory: &Path) -> io::Result<Option<Self>> {
        let real = directory.canonicalize()?;
        if real != std::path::absolute(directory)? {
            return Ok(None);
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let moved = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        for ancestor in real.ancestors().skip(1) {
            inotify::add_watch(&inotify, ancestor, moved)?;
        }
        inotify::add_watch(&inotify, &real, moved | names)?;
        Ok(Some(Self(inotify)))
    }

    /// Calls `on_change` with each name that changed since the last call. Returns `false` if the
    /// path itself changed or an event was lost; then the watch is of no more use.
    pub(super) fn take_changes(&mut self, mut on_change: impl FnMut(&str)) -> io::Result<bool> {
        let name_events = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().intersects(name_events) => {
                    // All names that this crate asks for are UTF-8, so others need no report.
                    event.file_name().and_then(|name| name.to_str().ok()).map(&mut on_change);
                }
                Ok(_) => return Ok(false),
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
