//! The chain: links an event to its predecessor, and verifies that a line is the successor of a
//! head. Opens no file and reads no clock.
//!
//! The checksum of an event is the SHA-256 (FIPS 180-4) of its canonical line without the member
//! `checksum`. That line contains the checksum of the previous event, so an event commits to all
//! events before it.
//!
//! A chain alone does not reveal a missing end, nor a log that was rewritten from some event on
//! with new checksums. To detect those, compare it with a checksum that was stored elsewhere.

// Each module uses only modules above it.
mod layout;
mod link;

mod line;
mod next_line;
mod read;

pub(crate) use crate::head::{Head, write_previous};
pub(crate) use line::{Line, head_of, is_unfinished};
pub(crate) use link::link;
pub(crate) use next_line::NextLineMatcher;
