//! `zero-bus audit`: the audit document.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use crate::progress::Bar;
use anyhow::{Context, Result, anyhow, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::NamedTempFile;
use zero_bus::{AuditError, LOCK, LOG, Reader, SNAPSHOT, Verdict};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;

use crate::PROGRAM;

/// Write the audit document: everything the bus holds as one JSON object, made from disk alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus audit bus -o audit.json
  zero-bus audit bus | gzip > audit.json.gz

Exit codes: 0 sound and consistent, 1 not (the document is written and says so), 2 could not be done.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// Where to write it (0600, replaced as a whole). Without it, or with `-`: standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let verdict = match arguments.output.as_deref() {
        Some(path) if path.as_os_str() != "-" => to_file(&reader, &arguments.dir, path)?,
        _ => to_standard_output(&reader, &arguments.dir)?,
    };
    if !verdict.ok() {
        let log = verdict.integrity.reason();
        let snapshot = &verdict.snapshot_integrity.reason;
        print_message(PROGRAM, &format!("{}: log: {log}; snapshot: {snapshot}", arguments.dir.display()));
    }
    Ok(Outcome::of(verdict.ok()))
}

fn write(reader: &Reader, out: impl Write + Send, bar: &Bar) -> Result<Verdict, AuditError> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let (verdict, _) = reader.audit(&mut out, &mut |progress| bar.show(progress))?;
    out.flush().map_err(AuditError::Write)?;
    Ok(verdict)
}

/// To what may be a terminal: there the document shows itself how far it is, a bar would be in the middle of it, and what
/// comes next belongs on another line.
fn write_to_stream(reader: &Reader, mut out: impl Write + Send + IsTerminal) -> Result<Verdict, AuditError> {
    if !out.is_terminal() {
        return write(reader, out, &bar());
    }
    let verdict = write(reader, &mut out, &Bar::hidden())?;
    writeln!(out).map_err(AuditError::Write)?;
    Ok(verdict)
}

fn bar() -> Bar {
    Bar::new("auditing")
}

fn to_standard_output(reader: &Reader, bus: &Path) -> Result<Verdict> {
    let out = rustix::fs::fstat(io::stdout()).context("standard output")?;
    for name in [LOG, LOCK, SNAPSHOT] {
        let is_it = |there: fs::Metadata| (there.dev(), there.ino()) == (out.st_dev, out.st_ino);
        if fs::metadata(bus.join(name)).is_ok_and(is_it) {
            bail!("standard output is {name} of the bus itself; write the document elsewhere");
        }
    }
    let verdict = write_to_stream(reader, io::stdout());
    // Half a document is none, also where nobody wanted more.
    verdict.map_err(|error| match error {
        AuditError::Write(error) => anyhow!("standard output: {error}"),
        error => error.into(),
    })
}

fn to_file(reader: &Reader, bus: &Path, path: &Path) -> Result<Verdict> {
    let naming = || format!("{}: cannot write it", path.display());
    // A link's target is what is replaced, not the link.
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(_) if path.is_symlink() && fs::metadata(path).is_err() => {
            bail!("{}: is a link that leads nowhere; name a file", path.display())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error).with_context(naming),
    };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent.canonicalize().with_context(naming)?.starts_with(bus.canonicalize().with_context(naming)?) {
        bail!("{}: is inside of the bus; name a file elsewhere", path.display());
    }
    if fs::metadata(&target).is_ok_and(|there| !there.is_file()) {
        // A device or a pipe takes what is written, and is not replaced.
        let out = fs::OpenOptions::new().write(true).open(&target).with_context(naming)?;
        return write_to_stream(reader, out).with_context(naming);
    }
    let mut file = NamedTempFile::new_in(parent).map_err(|error| anyhow!("{}: {error}", naming()))?;
    gone_with_a_signal(file.path())?;
    let verdict = write(reader, &mut file, &bar()).with_context(naming)?;
    file.as_file().sync_all().with_context(naming)?;
    file.persist(&target).with_context(naming)?;
    fs::File::open(parent).and_then(|parent| parent.sync_all()).with_context(naming)?;
    Ok(verdict)
}

/// Takes the unfinished file away where a signal ends us.
fn gone_with_a_signal(path: &Path) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    let path = path.to_owned();
    let listening = move || {
        if let Some(signal) = signals.forever().next() {
            let _ = fs::remove_file(path);
            std::process::exit(128 + signal);
        }
    };
    thread::Builder::new().spawn(listening).context("cannot begin a thread to wait for signals")?;
    Ok(())
}
