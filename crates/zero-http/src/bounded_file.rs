//! Files of certificates, keys and credentials, which are read with a limit: a path can lead to a
//! device or to any file.

use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Maximum size of a file of certificates, keys or credentials. The certificate authorities of a
/// system are about 200 KiB.
pub(crate) const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads a file of certificates, keys or credentials. Follows symbolic links, as such files often
/// are.
///
/// # Errors
/// [`Error`] with the path if the file is not a regular file, is longer than 4 MiB, or cannot be
/// read.
///
/// ```
/// use std::path::Path;
///
/// let error = zero_http::read_bounded_file(Path::new("/dev/zero")).unwrap_err();
/// assert_eq!(error.to_string(), "/dev/zero: cannot read the file: it is not a regular file");
/// ```
pub fn read_bounded_file(path: &Path) -> Result<Vec<u8>> {
    // Checked before the file is opened, since opening a pipe waits for a writer.
    check_metadata(path, fs::metadata(path))?;
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    check_metadata(path, file.metadata())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    check_size(path, bytes.len() as u64)?;
    Ok(bytes)
}

/// Checks the files that the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Libraries read them
/// as a whole, without a limit.
///
/// # Errors
/// As [`read_bounded_file`]. A file that does not exist is no error here.
pub fn check_system_authorities() -> Result<()> {
    check_authorities(env::var_os("SSL_CERT_FILE").as_deref(), env::var_os("SSL_CERT_DIR").as_deref())
}

fn check_authorities(file: Option<&OsStr>, directories: Option<&OsStr>) -> Result<()> {
    if let Some(path) = file.map(Path::new).filter(|path| path.exists()) {
        check_metadata(path, fs::metadata(path))?;
    }
    for directory in directories.iter().flat_map(env::split_paths) {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            // The libraries skip what is not a regular file.
            if let Ok(metadata) = fs::metadata(&path)
                && metadata.is_file()
            {
                check_size(&path, metadata.len())?;
            }
        }
    }
    Ok(())
}

fn check_metadata(path: &Path, metadata: io::Result<fs::Metadata>) -> Result<()> {
    let metadata = metadata.map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(unreadable(path, &"it is not a regular file"));
    }
    check_size(path, metadata.len())
}

fn check_size(path: &Path, bytes: u64) -> Result<()> {
    if bytes > MAX_FILE_BYTES {
        let problem = format!("it is longer than {} MiB; name another file", MAX_FILE_BYTES >> 20);
        return Err(unreadable(path, &problem));
    }
    Ok(())
}

fn unreadable(path: &Path, problem: &dyn Display) -> Error {
    Error::new(path.display().to_string(), format!("cannot read the file: {problem}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A file of any size that takes no space.
    fn file_of(directory: &Path, name: &str, bytes: u64) -> std::path::PathBuf {
        let path = directory.join(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    #[test]
    fn a_device_a_directory_and_a_long_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let longest = file_of(directory.path(), "longest", MAX_FILE_BYTES);
        assert_eq!(read_bounded_file(&longest).unwrap().len() as u64, MAX_FILE_BYTES);
        let too_long = file_of(directory.path(), "too-long", MAX_FILE_BYTES + 1);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for (path, problem) in [
            (&*too_long, "it is longer than 4 MiB"),
            (Path::new("/dev/zero"), "it is not a regular file"),
            (&*link, "it is not a regular file"),
            (directory.path(), "it is not a regular file"),
            (&*directory.path().join("none"), "No such file"),
        ] {
            let error = read_bounded_file(path).unwrap_err();
            assert_eq!(error.subject, path.display().to_string());
            assert!(error.problem.contains(problem), "{error}");
        }
    }

    #[test]
    fn the_authorities_of_the_environment_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let check = |file: Option<&Path>, directories: Option<&Path>| {
            check_authorities(file.map(Path::as_os_str), directories.map(Path::as_os_str))
        };
        let small = file_of(directory.path(), "small", 10);
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(Some(&small), Some(directory.path())), Ok(()));
        assert_eq!(check(Some(&directory.path().join("none")), Some(Path::new("/none"))), Ok(()));
        assert!(check(Some(Path::new("/dev/zero")), None).is_err());
        let too_long = file_of(directory.path(), "too-long", MAX_FILE_BYTES + 1);
        let error = check(None, Some(directory.path())).unwrap_err();
        assert_eq!(error.subject, too_long.display().to_string());
    }
}
