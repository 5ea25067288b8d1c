//! `zero-bus backup`: copy a bus while it may be written to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use zero_bus::storage::{Directory, Storage};
use zero_bus::{Json, Reader};
use zero_paper::text::counted;
use zero_program::message::print_warning;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::program::PROGRAM;
use crate::progress::Bar;

/// Copy a bus, also while producers append to it.
///
/// Copies the durable part of the log, byte for byte, and the snapshot. The target is itself a bus.
/// If it already has a backup of this bus, only new events are copied; an interrupted backup
/// resumes. Both logs are verified. A target with another bus, another history of this bus, or more
/// events than this bus is refused and left unchanged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus backup bus /backups/bus
  zero-bus backup bus /backups/bus --json

To return to a backup, stop the runtime, move the damaged bus away, and copy the backup to its place. Commands given after \
the backup are lost: repeat a kill or a pause before you start the runtime.

Exit codes: 0 passed, 1 failed (the bus or its backup is damaged), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The directory of the backup. Created (mode 0700) if it does not exist.
    target: PathBuf,
    /// Print one JSON object: {"bytes", "bytes_new", "events", "snapshot_fits"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let name = arguments.target.display();
    // Before the target is created: a bus that cannot be read must not leave an empty backup.
    if reader.size_bytes()? == 0 {
        bail!("{}: the bus is empty; there is nothing to copy", arguments.dir.display());
    }
    let directory =
        Directory::create(&arguments.target).with_context(|| format!("{name}: cannot open the directory"))?;
    let directory = Arc::new(directory);
    if lies_within(&arguments.dir, &arguments.target)? || lies_within(&arguments.target, &arguments.dir)? {
        directory.remove_created();
        bail!("{name}: the bus and its backup must not be inside each other; name another target");
    }
    let locked =
        directory.try_lock_directory().with_context(|| format!("{name}: cannot lock the directory"))?;
    if !locked {
        bail!("{name}: in use by a runtime or another backup; wait, or name another target");
    }
    let bar = Bar::new("backing up");
    let target: Arc<dyn Storage> = directory.clone();
    let backup = reader.backup(&target, &mut |progress| bar.show(progress));
    drop(bar);
    // Removes the directory only if it is empty: what was copied stays, and the next backup resumes
    // there.
    let backup = backup.inspect_err(|_| directory.remove_created())?;
    if !backup.snapshot_fits {
        print_warning(PROGRAM, "the snapshot of the bus does not match its log and was not copied");
    }
    if arguments.json {
        return print(Json::of(&backup)?.as_str(), Outcome::Passed);
    }
    let text = format!(
        "{name}: {}, {}, {} of them new; verified",
        counted(backup.events, "event"),
        counted(backup.bytes, "byte"),
        backup.bytes_new
    );
    print(&text, Outcome::Passed)
}

/// Whether `path` is `directory` or inside it.
fn lies_within(path: &Path, directory: &Path) -> Result<bool> {
    let resolve = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
    Ok(resolve(path)?.starts_with(resolve(directory)?))
}
