//! Files with keys and secrets, which only their owner may read. They are never inside a bus, where
//! mirrors, backups and people who may read the bus would find them.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;
use zero_bus::{LOCK, LOG};
use zeroize::Zeroizing;

/// Reads a file of at most `max_bytes`. A file that group or others may access is refused. No error
/// quotes the content.
pub(crate) fn read_private_file(path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("{name}: cannot read it"))?;
    // The mode of the open file, so that the file cannot be exchanged between the check and the
    // read.
    let metadata = file.metadata().with_context(|| format!("{name}: cannot read it"))?;
    if !metadata.is_file() {
        bail!("{name}: is not a file");
    }
    if metadata.mode() & 0o077 != 0 {
        bail!("{name}: other users may access it; run: chmod 600 {name}");
    }
    check_is_outside_a_bus(path)?;
    // Room for all of it, so that no copy is left behind by a reallocation.
    let mut content = Zeroizing::new(Vec::with_capacity(max_bytes + 2));
    file.take(max_bytes as u64 + 1)
        .read_to_end(&mut content)
        .with_context(|| format!("{name}: cannot read it"))?;
    if content.len() > max_bytes {
        bail!("{name}: longer than {max_bytes} bytes");
    }
    Ok(content)
}

/// Creates a file (mode 0600) with this content. An existing file is refused: replacing a key or a
/// secret loses it.
pub(crate) fn create_private_file(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.display();
    let cannot_create = || cannot_create(path);
    check_is_outside_a_bus(path)?;
    let parent = parent(path);
    match write_temporary(path, content)?.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            bail!("{name}: exists already, and is not replaced; name another file")
        }
        Err(error) => return Err(error.error).with_context(cannot_create),
    }
    File::open(parent).and_then(|parent| parent.sync_all()).with_context(cannot_create)
}

/// Replaces a file (mode 0600), which need not exist.
pub(crate) fn replace_private_file(path: &Path, content: &[u8]) -> Result<()> {
    write_temporary(path, content)?.persist(path).with_context(|| cannot_create(path))?;
    File::open(parent(path)).and_then(|parent| parent.sync_all()).with_context(|| cannot_create(path))
}

/// Writes the content next to the path, under a temporary name.
fn write_temporary(path: &Path, content: &[u8]) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(parent(path)).with_context(|| cannot_create(path))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).with_context(|| cannot_create(path))?;
    Ok(file)
}

fn cannot_create(path: &Path) -> String {
    format!("{}: cannot create it", path.display())
}

/// Refuses a path in a directory that holds a bus, or below one. A symbolic link is refused as its
/// target is.
pub(crate) fn check_is_outside_a_bus(path: &Path) -> Result<()> {
    let cannot_look_up = || format!("{}: cannot look it up", path.display());
    let mut places = vec![parent(path).canonicalize().with_context(cannot_look_up)?];
    // A file that is to be created has no target.
    places.extend(path.canonicalize());
    let holds_bus = |place: &&Path| [LOG, LOCK].iter().any(|name| place.join(name).exists());
    match places.iter().find_map(|place| place.ancestors().find(holds_bus)) {
        Some(bus) => bail!("{}: is inside the bus {}; keep it elsewhere", path.display(), bus.display()),
        None => Ok(()),
    }
}

/// Refuses a path inside a directory that may become a bus.
pub(crate) fn check_is_outside(path: &Path, bus: &Path) -> Result<()> {
    let resolve = |path: &Path| -> Result<PathBuf> {
        path.canonicalize().with_context(|| format!("{}: cannot look it up", path.display()))
    };
    if resolve(parent(path))?.starts_with(resolve(bus)?) {
        bail!("{}: is inside the bus {}; keep it elsewhere", path.display(), bus.display());
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
