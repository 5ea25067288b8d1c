//! `zero-bus audit`: write the audit document.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::NamedTempFile;
use zero_bus::{AuditError, LOCK, LOG, Reader, SNAPSHOT, Verdict};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::signals::{exit_code, on_stop_signal};

use crate::program::PROGRAM;
use crate::progress::Bar;

/// Write the audit document of a bus.
///
/// It is one JSON object with all events, the snapshot and both verdicts, made from the files of
/// the bus alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zero-bus audit bus -o audit.json
  zero-bus audit bus | gzip > audit.json.gz

Exit codes: 0 passed, 1 failed (the document is written and contains the verdicts), 2 could not run.")]
pub(crate) struct Arguments {
    /// The bus directory.
    dir: PathBuf,
    /// The file to write (mode 0600). It is replaced as a whole. [default: standard output, also
    /// for `-`]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.dir)?;
    let verdict = match arguments.output.as_deref() {
        Some(path) if path.as_os_str() != "-" => write_to_file(&reader, &arguments.dir, path)?,
        _ => write_to_standard_output(&reader, &arguments.dir)?,
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

/// Writes the document to a stream, which may be a terminal. On a terminal a progress bar would be
/// drawn into the document, so there is none, and a newline follows the document.
fn write_to_stream(reader: &Reader, mut out: impl Write + Send + IsTerminal) -> Result<Verdict, AuditError> {
    if !out.is_terminal() {
        return write(reader, out, &progress_bar());
    }
    let verdict = write(reader, &mut out, &Bar::hidden())?;
    writeln!(out).map_err(AuditError::Write)?;
    Ok(verdict)
}

fn progress_bar() -> Bar {
    Bar::new("auditing")
}

fn write_to_standard_output(reader: &Reader, bus: &Path) -> Result<Verdict> {
    let stdout = rustix::fs::fstat(io::stdout()).context("standard output")?;
    for name in [LOG, LOCK, SNAPSHOT] {
        let is_stdout =
            |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == (stdout.st_dev, stdout.st_ino);
        if fs::metadata(bus.join(name)).is_ok_and(is_stdout) {
            bail!("standard output is {name} of the bus itself; write the document elsewhere");
        }
    }
    // A closed pipe is an error here, unlike elsewhere: half a document is not a document.
    write_to_stream(reader, io::stdout()).map_err(|error| match error {
        AuditError::Write(error) => anyhow!("standard output: {error}"),
        error => error.into(),
    })
}

fn write_to_file(reader: &Reader, bus: &Path, path: &Path) -> Result<Verdict> {
    let cannot_write = || format!("{}: cannot write it", path.display());
    // A link's target is replaced, not the link.
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(_) if path.is_symlink() && fs::metadata(path).is_err() => {
            bail!("{}: is a symbolic link without a target; name a file", path.display())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error).with_context(cannot_write),
    };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let bus = bus.canonicalize().with_context(cannot_write)?;
    if parent.canonicalize().with_context(cannot_write)?.starts_with(bus) {
        bail!("{}: is inside the bus; name a file elsewhere", path.display());
    }
    if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        // A device or a pipe is written to, not replaced.
        let out = fs::OpenOptions::new().write(true).open(&target).with_context(cannot_write)?;
        return write_to_stream(reader, out).with_context(cannot_write);
    }
    let mut file = NamedTempFile::new_in(parent).map_err(|error| anyhow!("{}: {error}", cannot_write()))?;
    remove_on_signal(file.path())?;
    let verdict = write(reader, &mut file, &progress_bar()).with_context(cannot_write)?;
    file.as_file().sync_all().with_context(cannot_write)?;
    file.persist(&target).with_context(cannot_write)?;
    fs::File::open(parent).and_then(|parent| parent.sync_all()).with_context(cannot_write)?;
    Ok(verdict)
}

/// Removes the unfinished file when a signal ends the program.
fn remove_on_signal(path: &Path) -> Result<()> {
    let path = path.to_owned();
    on_stop_signal(move |signal| {
        let _ = fs::remove_file(path);
        std::process::exit(exit_code(signal));
    })
}
