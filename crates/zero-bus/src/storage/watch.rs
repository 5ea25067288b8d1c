//! Chooses how to watch a directory: with inotify(7) where the system grants it, otherwise by
//! polling.

use std::io;
use std::path::Path;

use super::interface::Watch;
use super::watch_poll;

#[cfg(target_os = "linux")]
pub(super) use super::watch_inotify::PathWatch;
#[cfg(not(target_os = "linux"))]
pub(super) use super::watch_poll::PathWatch;

/// Starts watching a directory. If the system grants no inotify instance or watch, the directory is
/// polled, and [`Watch::warning`] says which limit to raise.
pub(super) fn watch_directory(directory: &Path) -> io::Result<Box<dyn Watch>> {
    #[cfg(target_os = "linux")]
    return with_fallback(directory, super::watch_inotify::DirectoryWatch::open(directory));
    #[cfg(not(target_os = "linux"))]
    return Ok(Box::new(watch_poll::DirectoryWatch::open(None)));
}

#[cfg(target_os = "linux")]
fn with_fallback<W: Watch + 'static>(directory: &Path, watch: io::Result<W>) -> io::Result<Box<dyn Watch>> {
    let error = match watch {
        Ok(watch) => return Ok(Box::new(watch)),
        Err(error) => error,
    };
    let Some(remedy) = remedy(&error) else { return Err(error) };
    let warning = format!(
        "cannot watch {} with inotify, so new events are looked for every {} ms: {remedy}",
        directory.display(),
        watch_poll::POLL_INTERVAL.as_millis()
    );
    Ok(Box::new(watch_poll::DirectoryWatch::open(Some(warning))))
}

/// Returns why inotify is not available and what to do; `None` for an error that polling would meet
/// too.
#[cfg(target_os = "linux")]
fn remedy(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    Some(match Errno::from_io_error(error)? {
        // The same error for both limits.
        Errno::MFILE => {
            "no inotify instance is left. Raise the sysctl fs.inotify.max_user_instances, or the limit of open \
             files (ulimit -n)"
        }
        // The system's own text for this error is about disk space.
        Errno::NOSPC => "no inotify watch is left. Raise the sysctl fs.inotify.max_user_watches",
        Errno::NFILE => "the system has too many open files. Raise the sysctl fs.file-max",
        Errno::NOMEM => "the kernel has no memory for a watch",
        Errno::NOSYS | Errno::PERM => "the system does not offer inotify",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io;
    use std::path::Path;

    use rustix::io::Errno;

    use super::with_fallback;
    use crate::storage::watch_inotify::DirectoryWatch;

    #[test]
    fn a_missing_inotify_facility_is_replaced_by_polling_and_named() -> io::Result<()> {
        for (error, limit) in [
            (Errno::MFILE, "fs.inotify.max_user_instances"),
            (Errno::NOSPC, "fs.inotify.max_user_watches"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOSYS, "does not offer inotify"),
        ] {
            let watch = with_fallback::<DirectoryWatch>(Path::new("some/bus"), Err(error.into()))?;
            let warning = watch.warning().unwrap_or_default();
            assert!(
                warning.starts_with("cannot watch some/bus with inotify, so new events are"),
                "{warning}"
            );
            assert!(warning.contains(limit), "{warning}");
            assert!(!warning.contains("space"), "{warning}");
            assert!(watch.waker().is_some());
        }
        let missing = with_fallback::<DirectoryWatch>(Path::new("."), Err(Errno::NOENT.into()));
        assert!(missing.is_err(), "polling would not find the directory either");
        let watch = with_fallback(Path::new("."), DirectoryWatch::open(Path::new(".")))?;
        let is_polling = watch.warning().is_some();
        // Here too the system may have no instance left.
        assert!(!is_polling || DirectoryWatch::open(Path::new(".")).is_err());
        Ok(())
    }
}
