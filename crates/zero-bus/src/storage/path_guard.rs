//! Checks cheaply that a path still leads to an open file.
//!
//! Appending checks this for every batch. Looking the path up (`lstat`) costs more than the rest of
//! the work around a sync, and more the longer the path is. After a few lookups the guard therefore
//! watches the directory and its ancestors with inotify(7). While nothing changes, a check is one
//! `read` that finds no event.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::watch::PathWatch;

/// Device and inode.
type Identity = (u64, u64);

/// Setting up a watch costs more than a few lookups, so a short-lived handle never does it.
const LOOKUPS_BEFORE_WATCH: u32 = 8;

/// Remembers which file each name of one directory leads to, for as long as nothing changes.
#[derive(Debug, Default)]
pub(super) struct PathGuard(Mutex<State>);

#[derive(Debug)]
enum State {
    /// No watch yet; counts the lookups.
    Unwatched { lookups: u32 },
    /// `confirmed` holds each name and the file that a lookup found there after the watch began. A
    /// change to a name removes it.
    Watched { watch: PathWatch, confirmed: Vec<(String, Identity)> },
    /// The path cannot be watched; every check is a lookup.
    Unwatchable,
}

impl Default for State {
    fn default() -> Self {
        Self::Unwatched { lookups: 0 }
    }
}

impl PathGuard {
    /// Returns whether `name` in `directory` leads to the file with this identity. Calls `look_up`
    /// unless a lookup has confirmed it and nothing has changed since.
    pub(super) fn is_current(
        &self,
        directory: &Path,
        name: &str,
        identity: Identity,
        look_up: impl FnOnce() -> io::Result<Option<Identity>>,
    ) -> io::Result<bool> {
        // The lock is held across the lookup, so that no other thread consumes a change in between.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Unwatched { lookups } if *lookups < LOOKUPS_BEFORE_WATCH => *lookups += 1,
            State::Unwatched { .. } => {
                // The watch begins before the lookup below, so that no change falls between the
                // two.
                *state = match PathWatch::open(directory) {
                    Ok(Some(watch)) => State::Watched { watch, confirmed: Vec::new() },
                    Ok(None) | Err(_) => State::Unwatchable,
                };
            }
            State::Watched { watch, confirmed } => {
                match watch.take_changes(|changed| confirmed.retain(|(name, _)| name != changed)) {
                    Ok(true) if confirmed.iter().any(|entry| entry.0 == name && entry.1 == identity) => {
                        return Ok(true);
                    }
                    Ok(true) => {}
                    Ok(false) | Err(_) => *state = State::Unwatchable,
                }
            }
            State::Unwatchable => {}
        }
        let is_current = look_up()? == Some(identity);
        if let (true, State::Watched { confirmed, .. }) = (is_current, &mut *state) {
            confirmed.retain(|(other, _)| other != name);
            confirmed.push((name.to_owned(), identity));
        }
        Ok(is_current)
    }
}
