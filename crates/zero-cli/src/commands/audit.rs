//! `zero-bus audit`: write the audit document.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zero_bus::{AuditError, LOCK, LOG, Reader, SNAPSHOT, Verdict};
use zero_program::message::print_message;
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;
use zero_program::signals::{exit_code, on_stop_signal};

use crate::json_option::AlwaysJson;
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
    #[command(flatten)]
    _json: AlwaysJson,
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
fn write_to_stream(
    reader: &Reader,
    mut out: impl Write + Send,
    is_terminal: bool,
) -> Result<Verdict, AuditError> {
    if !is_terminal {
        return write(reader, out, &progress_bar());
    }
    let verdict = write(reader, &mut out, &Bar::hidden())?;
    writeln!(out).map_err(AuditError::Write)?;
    Ok(verdict)
}

/// A stream that takes no more bytes once its reader is gone, as `head` is. The verdict, and so the
/// exit code, does not depend on the reader.
struct UntilClosed<W> {
    inner: W,
    is_closed: bool,
}

impl<W: Write> UntilClosed<W> {
    fn unless_closed<T>(
        &mut self,
        when_closed: T,
        write: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_closed {
            return Ok(when_closed);
        }
        match write(&mut self.inner) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(when_closed)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), Write::flush)
    }
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
    let out = UntilClosed { inner: io::stdout(), is_closed: false };
    write_to_stream(reader, out, io::stdout().is_terminal()).map_err(|error| match error {
        AuditError::Write(error) => OutputClosed(error).into(),
        error => error.into(),
    })
}

fn write_to_file(reader: &Reader, bus: &Path, path: &Path) -> Result<Verdict> {
    let output = OutputFile::resolve(path, bus)?;
    let cannot_write = || output.cannot_write();
    if let Some(stream) = output.open_stream()? {
        let is_terminal = stream.is_terminal();
        return write_to_stream(reader, stream, is_terminal).with_context(cannot_write);
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
