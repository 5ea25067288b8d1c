//! A log again, from what a destination holds.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use zero_bus::storage::{Access, Directory, Storage};
use zero_bus::{Checksum, Head, LOG};

use crate::error::{Error, Result};
use crate::mirror::{Mirror, PAGE_BYTES};
use crate::verify::{ScanProgress, scan};

/// The log while it is not whole yet.
const PARTIAL: &str = "events.jsonl.restoring";

/// Writes a bus as a destination holds it to the log of a directory that is empty or not there (0700, files 0600), byte for
/// byte, judging every line on the way.
///
/// It is written beside its place, synced, and only put there when it is whole; so one that was killed has left no bus, and
/// is simply done again. What is there is never written over. Memory is that of one page.
///
/// # Errors
/// [`Error::Refused`] where something is in the directory; [`Error::Corrupt`] at the first fault: nothing is put in place
/// then; [`Error::Bus`] for what the system refuses.
pub fn restore(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    directory: &Path,
    progress: &mut dyn FnMut(ScanProgress),
) -> Result<Head> {
    let refused = |problem: String| Error::Refused { destination: directory.display().to_string(), problem };
    let io = |action: &'static str, name: &str| {
        let path = directory.join(name);
        move |source: io::Error| Error::Bus(zero_bus::Error::Io { action, path, source })
    };
    let storage = Directory::create(directory).map_err(io("make the directory", ""))?;
    let file = storage.open(PARTIAL, Access::ReadWrite).map_err(io("make it", PARTIAL))?;
    // Without the lock, or with that of a file which another one has removed, another one is at work.
    let alone = file.try_lock().map_err(io("lock it", PARTIAL))?
        && (storage.is_current(PARTIAL, &*file).map_err(io("look at it", PARTIAL))?
            || directory.join(LOG).exists());
    if !alone {
        return Err(refused("somebody else restores a bus here".to_owned()));
    }
    for entry in fs::read_dir(directory).map_err(io("read it", ""))? {
        let name = entry.map_err(io("read it", ""))?.file_name();
        if name != PARTIAL {
            let _ = fs::remove_file(directory.join(PARTIAL));
            return Err(refused(format!("holds `{}` already; name an empty directory", name.display())));
        }
    }
    // What one that was killed has left is not known to be sound.
    file.truncate(0).map_err(io("empty it", PARTIAL))?;
    let (mut held, mut at) = (String::new(), 0);
    let mut write = |held: &mut String| -> Result<()> {
        file.write_at(held.as_bytes(), at).map_err(io("write it", PARTIAL))?;
        at += held.len() as u64;
        held.clear();
        Ok(())
    };
    let walked = scan(mirror, bus, |_, line, walk: ScanProgress| {
        held.push_str(line);
        held.push('\n');
        if held.len() >= PAGE_BYTES {
            write(&mut held)?;
            progress(walk);
        }
        Ok(())
    });
    let head = walked.and_then(|head| write(&mut held).map(|()| head)).inspect_err(|_| {
        // Not needed for the next try; only tidied up.
        let _ = fs::remove_file(directory.join(PARTIAL));
    })?;
    file.sync().map_err(io("sync it", PARTIAL))?;
    put_in_place(directory).map_err(io("put it in place", LOG))?;
    storage.sync().map_err(io("sync the directory", ""))?;
    Ok(head)
}

/// Gives the whole log its name, if that is still free.
fn put_in_place(directory: &Path) -> io::Result<()> {
    let (partial, log) = (directory.join(PARTIAL), directory.join(LOG));
    match rustix::fs::renameat_with(CWD, &partial, CWD, &log, RenameFlags::NOREPLACE) {
        // Not every file system can tell; a second name is refused everywhere where there is one.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(&partial, &log)?;
            fs::remove_file(&partial)
        }
        renamed => Ok(renamed?),
    }
}
