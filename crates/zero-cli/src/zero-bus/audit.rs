//! `zero-bus audit`: the audit document.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;
use zero_bus::{AuditError, Reader, Verdict};
use zero_cli::end::{Judgement, OutputClosed};
use zero_cli::progress::Bar;

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
    /// Where to write it (0600, replaced as a whole). Without it: standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Judgement> {
    let reader = Reader::open(&arguments.dir)?;
    let verdict = match &arguments.output {
        Some(path) => to_file(&reader, path)?,
        None => to_standard_output(&reader)?,
    };
    if !verdict.ok() {
        eprintln!(
            "zero-bus: {}: log: {}; snapshot: {}",
            arguments.dir.display(),
            verdict.integrity.reason(),
            verdict.snapshot_integrity.reason
        );
    }
    Ok(Judgement::of(verdict.ok()))
}

fn write(reader: &Reader, out: impl Write) -> Result<Verdict, AuditError> {
    let bar = Bar::new("auditing");
    let (verdict, _) = reader.audit(out, &mut |progress| bar.show(progress))?;
    Ok(verdict)
}

fn to_standard_output(reader: &Reader) -> Result<Verdict> {
    let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
    let verdict = write(reader, &mut out).map_err(|error| match error {
        AuditError::Write(error) => OutputClosed(error).into(),
        error => anyhow::Error::from(error),
    })?;
    if io::stdout().is_terminal() {
        writeln!(out).map_err(OutputClosed)?;
    }
    out.flush().map_err(OutputClosed)?;
    Ok(verdict)
}

fn to_file(reader: &Reader, path: &Path) -> Result<Verdict> {
    let naming = || format!("{}: cannot write it", path.display());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside its place and with a mode of 0600; gone again if anything fails.
    let mut file = NamedTempFile::new_in(parent).with_context(naming)?;
    let mut out = BufWriter::with_capacity(256 << 10, &mut file);
    let verdict = write(reader, &mut out).with_context(naming)?;
    out.flush().with_context(naming)?;
    drop(out);
    file.as_file().sync_all().with_context(naming)?;
    file.persist(path).with_context(naming)?;
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).with_context(naming)?;
    Ok(verdict)
}
