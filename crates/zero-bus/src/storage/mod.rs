//! The file operations of a bus, each documented with its system call.
//!
//! Everything above goes through [`Storage`] and [`StorageFile`], so that a test can replace the
//! disk by one that loses power. [`Directory`] is the implementation for the file system.

mod directory;
mod interface;
mod lock_holder;
mod path_guard;
mod replace;
mod watch;
#[cfg(target_os = "linux")]
mod watch_inotify;
mod watch_poll;

pub use directory::Directory;
pub use interface::{Access, Lock, Storage, StorageFile, Watch};
pub use lock_holder::LockHolder;
pub use replace::replace;

pub(crate) use interface::{read_exact_at, read_some_at, read_up_to};
pub(crate) use replace::put_in_place;
