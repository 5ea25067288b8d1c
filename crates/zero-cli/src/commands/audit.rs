//! `zero-bus audit`: write the audit document.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use zero_bus::{AuditError, LOCK, LOG, Reader, SNAPSHOT, Verdict};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::signals::{exit_code, on_stop_signal};

use crate::output_file::OutputFile;
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
    let output = OutputFile::resolve(path, bus)?;
    let cannot_write = || output.cannot_write();
    if let Some(stream) = output.open_stream()? {
        return write_to_stream(reader, stream).with_context(cannot_write);
    }
    let mut file = output.create()?;
    remove_on_signal(file.path())?;
    let verdict = write(reader, &mut file, &progress_bar()).with_context(cannot_write)?;
    output.persist(file)?;
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
