//! Files with secrets, which only their owner may read.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Reads a text file of at most `max_bytes`. A file that group or others may access is refused.
pub(crate) fn read_private_file(path: &Path, max_bytes: u64) -> Result<String> {
    let name = path.display().to_string();
    let unreadable = |problem: &dyn Display| Error::new(&name, format!("cannot read the file: {problem}"));
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    // The mode of the open file, so that the file cannot be exchanged between the check and the
    // read.
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::new(&name, "other users may read the file; run: chmod 600 on it"));
    }
    let mut text = String::new();
    file.take(max_bytes + 1).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() as u64 > max_bytes {
        return Err(Error::new(&name, format!("the file is longer than {max_bytes} bytes")));
    }
    Ok(text)
}
