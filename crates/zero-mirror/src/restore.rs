//! Restores a log from a destination.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use zero_bus::storage::{Access, Directory, Lock, Storage};
use zero_bus::{Checksum, Head, LOG};

use crate::error::{Error, Result};
use crate::mirror::{Mirror, PAGE_BYTES};
use crate::verify::{ScanProgress, scan};

/// The name of the log until it is complete.
const PARTIAL: &str = "events.jsonl.restoring";

/// Restores a bus byte for byte into the log of a directory that is empty or does not exist (mode
/// 0700, files 0600). Every line is verified on the way.
///
/// The log is written under another name, synced, and renamed when it is complete. A restore that
/// was interrupted therefore leaves no bus, and the next one starts from the beginning. Existing
/// files are never overwritten. Memory is that of one page.
///
/// # Errors
/// [`Error::Refused`] if the directory is not empty; [`Error::Corrupt`] at the first failed check,
/// with no log in place; [`Error::Bus`] if a system call fails.
pub fn restore(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    directory: &Path,
    progress: &mut dyn FnMut(ScanProgress),
) -> Result<Head> {
    let refused = |problem: String| Error::refused(directory.display().to_string(), problem);
    let io = |action: &'static str, name: &str| {
        let path = directory.join(name);
        move |source: io::Error| Error::Bus(zero_bus::Error::Io { action, path, source })
    };
    let storage = Directory::create(directory).map_err(io("create the directory", ""))?;
    let file = storage.open(PARTIAL, Access::ReadWrite).map_err(io("create it", PARTIAL))?;
    // The lock counts only while the name still refers to the locked file: another restore may have
    // renamed or removed it. After a rename the log exists, and the directory check below refuses.
    let is_alone = file.try_lock(Lock::Exclusive).map_err(io("lock it", PARTIAL))?
        && (storage.is_current(PARTIAL, &*file).map_err(io("inspect it", PARTIAL))?
            || directory.join(LOG).exists());
    if !is_alone {
        return Err(refused("another process is restoring a bus here".to_owned()));
    }
    for entry in fs::read_dir(directory).map_err(io("list it", ""))? {
        let name = entry.map_err(io("list it", ""))?.file_name();
        if name != PARTIAL {
            let _ = fs::remove_file(directory.join(PARTIAL));
            return Err(refused(format!("holds `{}` already; name an empty directory", name.display())));
        }
    }
    // An interrupted restore may have left bytes that were never verified or synced.
    file.truncate(0).map_err(io("truncate it", PARTIAL))?;
    let (mut pending, mut offset) = (String::new(), 0);
    let mut write_pending = |pending: &mut String| -> Result<()> {
        file.write_at(pending.as_bytes(), offset).map_err(io("write it", PARTIAL))?;
        offset += pending.len() as u64;
        pending.clear();
        Ok(())
    };
    let scanned = scan(mirror, bus, |_, line, scan_progress: ScanProgress| {
        pending.push_str(line);
        pending.push('\n');
        if pending.len() >= PAGE_BYTES {
            write_pending(&mut pending)?;
            progress(scan_progress);
        }
        Ok(())
    });
    let head = scanned.and_then(|head| write_pending(&mut pending).map(|()| head)).inspect_err(|_| {
        // Only to leave the directory clean; the next restore would truncate the file.
        let _ = fs::remove_file(directory.join(PARTIAL));
    })?;
    file.sync().map_err(io("sync it", PARTIAL))?;
    rename_to_log(directory).map_err(io("move the restored log into place", LOG))?;
    storage.sync().map_err(io("sync the directory", ""))?;
    Ok(head)
}

/// Renames the complete file to the log's name. Fails if a log exists.
fn rename_to_log(directory: &Path) -> io::Result<()> {
    let (partial, log) = (directory.join(PARTIAL), directory.join(LOG));
    match rustix::fs::renameat_with(CWD, &partial, CWD, &log, RenameFlags::NOREPLACE) {
        // The file system does not support NOREPLACE. A hard link fails too if the name exists.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(&partial, &log)?;
            fs::remove_file(&partial)
        }
        renamed => Ok(renamed?),
    }
}
