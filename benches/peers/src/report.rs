//! What was measured, as Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::plot;
use crate::stats::Spread;

const BEGIN: &str = "<!-- begin: measured -->";
const END: &str = "<!-- end: measured -->";

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    AtLeast { reach: f64, stretch: f64 },
    AtMost { reach: f64, stretch: f64 },
}

impl Bar {
    fn verdict(self, figure: f64) -> &'static str {
        let (reached, stretched) = match self {
            Self::AtLeast { reach, stretch } => (figure >= reach, figure >= stretch && stretch > reach),
            Self::AtMost { reach, stretch } => (figure <= reach, figure <= stretch && stretch < reach),
        };
        match (reached, stretched) {
            (_, true) => "stretch",
            (true, false) => "reached",
            (false, false) => "not reached",
        }
    }

    fn text(self, unit: Unit) -> String {
        match self {
            // Some bars are one number.
            Self::AtLeast { reach, stretch } if reach == stretch => format!("≥ {}", unit.text(reach)),
            Self::AtLeast { reach, stretch } => format!("≥ {} / {}", unit.text(reach), unit.text(stretch)),
            Self::AtMost { reach, stretch } if reach == stretch => format!("≤ {}", unit.text(reach)),
            Self::AtMost { reach, stretch } => format!("≤ {} / {}", unit.text(reach), unit.text(stretch)),
        }
    }
}

/// What a figure counts.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Ratio,
    Rate,
    Seconds,
    Bytes,
}

impl Unit {
    pub fn text(self, figure: f64) -> String {
        match self {
            Self::Ratio => format!("{figure:.2}"),
            Self::Rate => format!("{}/s", digits(figure)),
            Self::Seconds if figure.abs() < 1e-3 => format!("{} µs", digits(figure * 1e6)),
            Self::Seconds if figure.abs() < 1.0 => format!("{} ms", digits(figure * 1e3)),
            Self::Seconds => format!("{} s", digits(figure)),
            Self::Bytes => format!("{:.0} MiB", figure / f64::from(1 << 20)),
        }
    }
}

/// Three digits that count, and no more noise than that.
fn digits(figure: f64) -> String {
    match figure.abs() {
        ..10.0 => format!("{figure:.2}"),
        10.0..100.0 => format!("{figure:.1}"),
        100.0..10_000.0 => format!("{figure:.0}"),
        _ => format!("{:.1}k", figure / 1e3),
    }
}

/// A line of the table.
pub struct Row {
    pub work: String,
    pub against: String,
    pub bar: Option<Bar>,
    pub unit: Unit,
    pub measured: Spread,
    /// The medians behind a ratio: ours, theirs.
    pub behind: Option<(String, String)>,
}

impl Row {
    /// A ratio of what was measured in the same rounds.
    pub fn ratio(
        work: impl Into<String>,
        against: impl Into<String>,
        unit: Unit,
        (ours, theirs): (&[f64], &[f64]),
    ) -> Result<Self> {
        let behind = (unit.text(Spread::of(ours)?.median), unit.text(Spread::of(theirs)?.median));
        Ok(Self {
            work: work.into(),
            against: against.into(),
            bar: None,
            unit: Unit::Ratio,
            measured: Spread::of_ratios(ours, theirs)?,
            behind: Some(behind),
        })
    }

    /// A figure that stands for itself.
    pub fn figure(work: impl Into<String>, unit: Unit, measured: Spread) -> Self {
        Self { work: work.into(), against: String::new(), bar: None, unit, measured, behind: None }
    }

    pub fn at_least(self, reach: f64, stretch: f64) -> Self {
        Self { bar: Some(Bar::AtLeast { reach, stretch }), ..self }
    }

    pub fn at_most(self, reach: f64, stretch: f64) -> Self {
        Self { bar: Some(Bar::AtMost { reach, stretch }), ..self }
    }

    fn markdown(&self) -> String {
        let Self { work, against, bar, unit, measured, behind } = self;
        let Spread { median, min, max } = *measured;
        let mut measured = format!("**{}**", unit.text(median));
        if min < max {
            let _ = write!(measured, " ({} to {})", unit.text(min), unit.text(max));
        }
        let (ours, theirs) = behind.clone().unwrap_or_default();
        let text = bar.map_or(String::new(), |bar| bar.text(*unit));
        let verdict = bar.map_or("", |bar| bar.verdict(median));
        format!("| {work} | {against} | {text} | {measured} | {ours} | {theirs} | {verdict} |")
    }
}

/// What the contests gave.
#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Who waited for what before it acknowledged.
    waits: Vec<(String, String)>,
    /// Tables of their own.
    pub sections: Vec<String>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// What was appended how much faster than by another: for a picture.
    pub appends: Vec<(String, f64)>,
    /// Pictures: file name and content.
    pub plots: Vec<(String, String)>,
}

impl Report {
    pub fn waits_for(&mut self, who: &str, what: &str) {
        let line = (who.to_owned(), what.to_owned());
        if !self.waits.contains(&line) {
            self.waits.push(line);
        }
    }

    pub fn note(&mut self, note: String) {
        eprintln!("  note: {note}");
        self.notes.push(note);
    }

    pub fn markdown(&self, how: &str, dir: &Path) -> String {
        let mut text = format!("{}\n\n{how}\n", machine::describe(dir));
        // Writing to a string does not fail.
        if !self.rows.is_empty() {
            text.push_str(
                "\n| work | against | bar: reach / stretch | measured: median (range) | ours | theirs | |\n\
                 |---|---|---|---|---|---|---|\n",
            );
            for row in &self.rows {
                let _ = writeln!(text, "{}", row.markdown());
            }
        }
        if !self.waits.is_empty() {
            text.push_str("\nWhat an acknowledgement waited for:\n\n| who | system call |\n|---|---|\n");
            for (who, what) in &self.waits {
                let _ = writeln!(text, "| {who} | {what} |");
            }
        }
        for section in &self.sections {
            let _ = writeln!(text, "\n{}", section.trim_end());
        }
        if !self.notes.is_empty() {
            text.push_str("\nNotes:\n\n");
            for note in &self.notes {
                let _ = writeln!(text, "- {note}");
            }
        }
        text
    }

    /// Puts it between the markers of `PERFORMANCE.md`, with the pictures beside that file.
    pub fn write(&self, how: &str, dir: &Path, docs: &Path) -> Result<()> {
        let path = docs.join("PERFORMANCE.md");
        let old = match fs::read_to_string(&path) {
            Ok(old) => old,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!("{BEGIN}\n{END}\n"),
            Err(error) => return Err(error).context("cannot read PERFORMANCE.md"),
        };
        let Some((before, rest)) = old.split_once(BEGIN) else {
            bail!("PERFORMANCE.md lacks the line {BEGIN}");
        };
        let Some((_, after)) = rest.split_once(END) else {
            bail!("PERFORMANCE.md lacks the line {END} behind the other");
        };
        let measured = self.markdown(how, dir);
        fs::write(&path, format!("{before}{BEGIN}\n{measured}{END}{after}"))
            .context("cannot write PERFORMANCE.md")?;
        let appends = plot::appends(&self.appends)?.map(|plot| ("performance-append.svg".to_owned(), plot));
        for (name, content) in self.plots.iter().chain(&appends) {
            fs::write(docs.join(name), content).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(())
    }
}
