//! The terminal on standard error: labelled rows, and one line per thing that happened.

use std::io::{IsTerminal, Stderr, Write};
use std::path::PathBuf;

use anstream::AutoStream;
use zero_paper::summary::Summary;
use zero_paper::text::escape;
use zero_program::summary_lines::SummaryLines;

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Standard error, which is a terminal.
///
/// Errors of the terminal are ignored, because they must not stop a run.
pub(crate) struct Terminal {
    out: AutoStream<Stderr>,
    lines: SummaryLines,
}

impl Terminal {
    /// Returns `None` if standard error is not a terminal.
    pub(crate) fn on_standard_error() -> Option<Self> {
        let is_terminal = std::io::stderr().is_terminal();
        is_terminal.then(|| Self { out: anstream::stderr(), lines: SummaryLines::default() })
    }

    /// Shows a text with a label.
    pub(crate) fn show_row(&mut self, label: &str, text: &str) {
        let _ = writeln!(self.out, "{DIM}{label:<13}{RESET} {}", escape(text));
    }

    /// Shows the files that a run keeps.
    pub(crate) fn show_files(&mut self, files: &[(&str, &Option<PathBuf>)]) {
        for (label, path) in files {
            if let Some(path) = path {
                self.show_row(label, &path.display().to_string());
            }
        }
        if files.iter().all(|(_, path)| path.is_none()) {
            self.show_row("records", "none; --journal and --runtime-bus keep them");
        }
    }

    /// Shows what happened in a cycle.
    pub(crate) fn show_line(&mut self, cycle_id: u64, as_of: f64, summary: &Summary) {
        let label = format!("cycle {cycle_id:<5}");
        let line = self.lines.format(&label, as_of, summary);
        let _ = self.out.write_all(line.as_bytes());
    }

    /// Shows an empty line.
    pub(crate) fn show_gap(&mut self) {
        let _ = writeln!(self.out);
    }
}
