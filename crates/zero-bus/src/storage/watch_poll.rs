//! The twin of `watch_inotify` for systems without inotify, and for a process that gets no inotify
//! instance: waits end at a fixed interval, and paths cannot be watched.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::interface::Watch;

/// The caller looks for changes itself when a wait ends, so this bounds how late it sees one.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Ends each wait after [`POLL_INTERVAL`], whether a file changed or not.
pub(super) struct DirectoryWatch {
    wake_flag: Arc<WakeFlag>,
    /// Why the directory is polled, if inotify would be better.
    warning: Option<String>,
}

impl DirectoryWatch {
    pub(super) fn open(warning: Option<String>) -> Self {
        Self { wake_flag: Arc::default(), warning }
    }
}

impl Watch for DirectoryWatch {
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let woken = self.wake_flag.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = timeout.min(POLL_INTERVAL);
        let waited = self.wake_flag.changed.wait_timeout_while(woken, timeout, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *woken = false;
        Ok(())
    }

    fn waker(&self) -> Option<Waker> {
        Some(Waker::from(Arc::clone(&self.wake_flag)))
    }

    fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Set by a wake and cleared by the wait that it ends, so a wake between two waits is not lost.
#[derive(Default)]
struct WakeFlag {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

/// A path cannot be watched here, so no value of this type exists.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) enum PathWatch {}

#[cfg(not(target_os = "linux"))]
impl PathWatch {
    pub(super) fn open(_: &std::path::Path) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn take_changes(&mut self, _: impl FnMut(&str)) -> io::Result<bool> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{DirectoryWatch, POLL_INTERVAL};
    use crate::storage::Watch;

    #[test]
    fn a_wait_ends_after_the_poll_interval() -> std::io::Result<()> {
        let mut watch = DirectoryWatch::open(None);
        let start = Instant::now();
        watch.wait(Duration::from_secs(60))?;
        assert!((POLL_INTERVAL..Duration::from_secs(30)).contains(&start.elapsed()));
        Ok(())
    }

    #[test]
    fn a_wake_ends_one_wait_and_no_other() -> std::io::Result<()> {
        let mut watch = DirectoryWatch::open(None);
        let Some(waker) = watch.waker() else { panic!("it has a waker") };
        waker.wake_by_ref();
        let start = Instant::now();
        watch.wait(Duration::from_secs(60))?;
        let woken_after = start.elapsed();
        watch.wait(Duration::from_secs(60))?;
        assert!(start.elapsed() - woken_after >= POLL_INTERVAL);
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake_by_ref());
            watch.wait(Duration::from_secs(60))
        })
    }
}
