//! Whether names still lead where they led. To look each of them up costs more than all else around a sync, the longer the
//! path the more; to ask inotify(7) whether anything has happened to any part of the path costs one call that mostly finds
//! nothing to read.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Device and inode.
type Identity = (u64, u64);

/// How often it is looked before something is set up to be told: that costs more than a few looks.
const LOOKS: u32 = 8;

/// What is known of the names in a directory.
#[derive(Debug, Default)]
pub(super) struct PathGuard(Mutex<State>);

#[derive(Debug)]
enum State {
    /// So many looks so far.
    Looking(u32),
    /// Told of every change since the looks that found these names to lead there.
    Told(watch_inotify::PathWatch, Vec<(String, Identity)>),
    /// There is nobody to tell.
    Unheard,
}

impl Default for State {
    fn default() -> Self {
        Self::Looking(0)
    }
}

impl PathGuard {
    /// Whether a name in a directory leads to a file. Looks, unless it has led there before and nothing happened since.
    pub(super) fn leads_to(
        &self,
        directory: &Path,
        name: &str,
        identity: Identity,
        look: impl FnOnce() -> io::Result<Option<Identity>>,
    ) -> io::Result<bool> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Looking(looks) if *looks < LOOKS => *looks += 1,
            State::Looking(_) => {
                // From before the look on, so that nothing falls between the two.
                *state = match watch_inotify::PathWatch::of(directory) {
                    Ok(Some(watch_inotify)) => State::Told(watch_inotify, Vec::new()),
                    Ok(None) | Err(_) => State::Unheard,
                };
            }
            State::Told(watch_inotify, known) => {
                match watch_inotify.take_changes(|name| known.retain(|(other, _)| other != name)) {
                    Ok(true) if known.iter().any(|known| known.0 == name && known.1 == identity) => {
                        return Ok(true);
                    }
                    Ok(true) => {}
                    Ok(false) | Err(_) => *state = State::Unheard,
                }
            }
            State::Unheard => {}
        }
        let found = look()? == Some(identity);
        if let (true, State::Told(_, known)) = (found, &mut *state) {
            known.retain(|(other, _)| other != name);
            known.push((name.to_owned(), identity));
        }
        Ok(found)
    }
}

#[cfg(target_os = "linux")]
mod watch_inotify {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

    /// An inotify on a directory and all those above it.
    #[derive(Debug)]
    pub(super) struct PathWatch(OwnedFd);

    impl PathWatch {
        /// `None` where not everything can be heard that may lead a path elsewhere: where a link is part of it.
        pub(super) fn of(directory: &Path) -> io::Result<Option<Self>> {
            let real = directory.canonicalize()?;
            if real != std::path::absolute(directory)? {
                return Ok(None);
            }
            let handle = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let itself = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
            let names =
                WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
            for above in real.ancestors().skip(1) {
                inotify::add_watch(&handle, above, itself)?;
            }
            inotify::add_watch(&handle, &real, itself | names)?;
            Ok(Some(Self(handle)))
        }

        /// Tells of each name to which something happened; `false` where something happened to the path, or was missed.
        pub(super) fn take_changes(&mut self, mut happened: impl FnMut(&str)) -> io::Result<bool> {
            let of_a_name =
                ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
            let mut buffer = [MaybeUninit::uninit(); 1024];
            let mut reader = inotify::Reader::new(&self.0, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) if event.events().intersects(of_a_name) => {
                        // Names are given by this crate, so one that is not UTF-8 is not asked for.
                        event.file_name().and_then(|name| name.to_str().ok()).map(&mut happened);
                    }
                    Ok(_) => return Ok(false),
                    Err(rustix::io::Errno::AGAIN) => return Ok(true),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod watch_inotify {
    use std::io;
    use std::path::Path;

    /// Nothing can be heard.
    #[derive(Debug)]
    pub(super) enum PathWatch {}

    impl PathWatch {
        pub(super) fn of(_: &Path) -> io::Result<Option<Self>> {
            Ok(None)
        }

        pub(super) fn take_changes(&mut self, _: impl FnMut(&str)) -> io::Result<bool> {
            match *self {}
        }
    }
}
