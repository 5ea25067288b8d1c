//! A file that a command writes as a whole: under its name is either the old content or all of the
//! new one.

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::NamedTempFile;

/// The place of a file to write. It is not inside the bus.
pub(crate) struct OutputFile {
    /// The path, without links.
    target: PathBuf,
    /// The path as the user typed it, for messages.
    typed: PathBuf,
}

impl OutputFile {
    /// Finds the place of a path.
    ///
    /// # Errors
    /// The path is inside the bus, a link without a target, or cannot be looked up.
    pub(crate) fn resolve(path: &Path, bus: &Path) -> Result<Self> {
        // A link's target is replaced, not the link.
        let target = match path.canonicalize() {
            Ok(target) => target,
            Err(_) if path.is_symlink() && fs::metadata(path).is_err() => {
                bail!("{}: is a symbolic link without a target; name a file", path.display())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error).with_context(|| cannot_write(path)),
        };
        let file = Self { target, typed: path.to_owned() };
        let bus = bus.canonicalize().with_context(|| cannot_write(path))?;
        if file.parent().canonicalize().with_context(|| cannot_write(path))?.starts_with(bus) {
            bail!("{}: is inside the bus; name a file elsewhere", path.display());
        }
        Ok(file)
    }

    fn parent(&self) -> &Path {
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    /// Opens the target if it is a device or a pipe, which is written to and not replaced.
    pub(crate) fn open_stream(&self) -> Result<Option<fs::File>> {
        if fs::metadata(&self.target).is_ok_and(|metadata| !metadata.is_file()) {
            let stream = fs::OpenOptions::new().write(true).open(&self.target);
            return stream.map(Some).with_context(|| self.cannot_write());
        }
        Ok(None)
    }

    /// Refuses to replace a file that does not start with one of these texts: a key, for example.
    pub(crate) fn check_replaces_only(&self, starts: &[&str], kind: &str) -> Result<()> {
        if !fs::metadata(&self.target).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(());
        }
        let longest = starts.iter().map(|start| start.len()).max().unwrap_or(0);
        let mut found = Vec::new();
        fs::File::open(&self.target)
            .and_then(|file| file.take(longest as u64).read_to_end(&mut found))
            .with_context(|| self.cannot_write())?;
        if !found.is_empty() && !starts.iter().any(|start| found.starts_with(start.as_bytes())) {
            bail!("{}: exists already and is no {kind}; name another file", self.typed.display());
        }
        Ok(())
    }

    /// Creates the file under a temporary name (mode 0600).
    pub(crate) fn create(&self) -> Result<NamedTempFile> {
        NamedTempFile::new_in(self.parent()).map_err(|error| anyhow!("{}: {error}", self.cannot_write()))
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn persist(&self, file: NamedTempFile) -> Result<()> {
        file.as_file().sync_all().with_context(|| self.cannot_write())?;
        file.persist(&self.target).with_context(|| self.cannot_write())?;
        let parent = fs::File::open(self.parent()).and_then(|parent| parent.sync_all());
        parent.with_context(|| self.cannot_write())
    }

    /// Writes the whole content.
    pub(crate) fn write(&self, content: &[u8]) -> Result<()> {
        if let Some(mut stream) = self.open_stream()? {
            return stream.write_all(content).with_context(|| self.cannot_write());
        }
        let mut file = self.create()?;
        file.write_all(content).with_context(|| self.cannot_write())?;
        self.persist(file)
    }

    /// The beginning of an error message.
    pub(crate) fn cannot_write(&self) -> String {
        cannot_write(&self.typed)
    }
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot write it", path.display())
}

/// Checks that a directory, which need not exist, is not inside the bus.
pub(crate) fn check_directory_is_outside(dir: &Path, bus: &Path) -> Result<()> {
    let cannot_look_up = || format!("{}: cannot look it up", dir.display());
    let bus = bus.canonicalize().with_context(cannot_look_up)?;
    let absolute = std::path::absolute(dir).with_context(cannot_look_up)?;
    let existing = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    if existing.is_some_and(|existing| existing.starts_with(bus)) {
        bail!("{}: is inside the bus; name a directory elsewhere", dir.display());
    }
    Ok(())
}
