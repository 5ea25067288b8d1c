//! `zero-bus backup`: a copy of a bus that may be written to meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::progress::Bar;
use anyhow::{Context, Result, bail};
use zero_bus::storage::{Directory, Storage};
use zero_bus::{Json, Reader};
use zero_paper::text::counted;
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::print;

use crate::PROGRAM;

/// Copy a bus, also while it is written to: what is durable of its log, byte for byte, and its snapshot.
///
/// The target becomes a bus itself. Where an earlier backup is there, only what is new is copied, and where one was
/// interrupted, it goes on. Both logs are checked on the way; a target that holds another bus, another history of this one,
/// or more than it, is refused, and what it holds stays as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus backup bus /backups/bus
  zero-bus backup bus /backups/bus --json

To go back to a backup, stop the runtime, move the damaged bus away, and copy the backup into its place. What was said \
behind it is gone with the rest: give a kill or a pause again before you start.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The directory of the backup; made (0700) where there is none.
    target: PathBuf,
    /// One JSON object: {"bytes", "bytes_new", "events", "snapshot_fits"}.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let name = arguments.target.display();
    // Nothing is made for a bus that cannot be read.
    if reader.size_bytes()? == 0 {
        bail!("{}: is an empty bus; there is nothing to copy", arguments.dir.display());
    }
    let directory =
        Directory::create(&arguments.target).with_context(|| format!("{name}: cannot open the directory"))?;
    let directory = Arc::new(directory);
    if lies_within(&arguments.dir, &arguments.target)? || lies_within(&arguments.target, &arguments.dir)? {
        directory.remove_created();
        bail!("{name}: the bus and its backup must not lie in each other; name another target");
    }
    let claimed =
        directory.try_lock_directory().with_context(|| format!("{name}: cannot lock the directory"))?;
    if !claimed {
        bail!("{name}: a runtime or another backup uses it; name another target, or wait");
    }
    let bar = Bar::new("backing up");
    let target: Arc<dyn Storage> = directory.clone();
    let done = reader.backup(&target, &mut |progress| bar.show(progress));
    drop(bar);
    // What was copied stays, for the next one to go on with; a directory that got nothing does not.
    let done = done.inspect_err(|_| directory.remove_created())?;
    if !done.snapshot_fits {
        print_message(PROGRAM, "warning: the snapshot of the bus does not fit its log, and was not copied");
    }
    if arguments.json {
        return print(Json::of(&done)?.as_str(), Outcome::Passed);
    }
    let text = format!(
        "{name}: {}, {}, {} of them new; checked",
        counted(done.events, "event"),
        counted(done.bytes, "byte"),
        done.bytes_new
    );
    print(&text, Outcome::Passed)
}

fn lies_within(one: &Path, other: &Path) -> Result<bool> {
    let real = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
    Ok(real(one)?.starts_with(real(other)?))
}
