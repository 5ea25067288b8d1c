//! The file operations of a bus, each documented with its system call.
//!
//! Everything above goes through [`Storage`] and [`StorageFile`], so that a test can replace the
//! disk by one that loses power. [`Directory`] is the implementation for the file system.

mod directory;
mod interface;
mod path_guard;
mod replace;
#[cfg_attr(target_os = "linux", path = "watch_inotify.rs")]
#[cfg_attr(not(target_os = "linux"), path = "watch_poll.rs")]
mod watch;

/// Compiled on Linux for its tests only, so that the other platforms' code is checked here too.
#[cfg(all(test, target_os = "linux"))]
#[allow(dead_code)]
mod watch_poll;

pub use directory::Directory;
pub use interface::{Access, Lock, Storage, StorageFile, Watch};
pub use replace::replace;

pub(crate) use interface::{read_exact_at, read_up_to};
pub(crate) use replace::put_in_place;
