//! The results as Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::plot;
use crate::stats::Spread;

const BEGIN: &str = "<!-- begin: measured -->";
const END: &str = "<!-- end: measured -->";

/// The target of a figure. `stretch` is a higher target; equal to `reach` if there is none.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    AtLeast { reach: f64, stretch: f64 },
    AtMost { reach: f64, stretch: f64 },
}

impl Target {
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
            // Without a stretch target.
            Self::AtLeast { reach, stretch } if reach == stretch => format!("≥ {}", unit.text(reach)),
            Self::AtLeast { reach, stretch } => format!("≥ {} / {}", unit.text(reach), unit.text(stretch)),
            Self::AtMost { reach, stretch } if reach == stretch => format!("≤ {}", unit.text(reach)),
            Self::AtMost { reach, stretch } => format!("≤ {} / {}", unit.text(reach), unit.text(stretch)),
        }
    }
}

/// The unit of a figure.
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

/// Formats a figure with three significant digits.
fn digits(figure: f64) -> String {
    match figure.abs() {
        ..10.0 => format!("{figure:.2}"),
        10.0..100.0 => format!("{figure:.1}"),
        100.0..10_000.0 => format!("{figure:.0}"),
        _ => format!("{:.1}k", figure / 1e3),
    }
}

/// A row of the table.
pub struct Row {
    pub work: String,
    pub compared_with: String,
    pub target: Option<Target>,
    pub unit: Unit,
    pub measured: Spread,
    /// The medians of both sides of a ratio: ours, theirs.
    pub medians: Option<(String, String)>,
}

impl Row {
    /// A ratio of figures that were measured in the same rounds.
    pub fn ratio(
        work: impl Into<String>,
        compared_with: impl Into<String>,
        unit: Unit,
        (ours, theirs): (&[f64], &[f64]),
    ) -> Result<Self> {
        let medians = (unit.text(Spread::of(ours)?.median), unit.text(Spread::of(theirs)?.median));
        Ok(Self {
            work: work.into(),
            compared_with: compared_with.into(),
            target: None,
            unit: Unit::Ratio,
            measured: Spread::of_ratios(ours, theirs)?,
            medians: Some(medians),
        })
    }

    /// A single figure.
    pub fn figure(work: impl Into<String>, unit: Unit, measured: Spread) -> Self {
        Self { work: work.into(), compared_with: String::new(), target: None, unit, measured, medians: None }
    }

    pub fn at_least(self, reach: f64, stretch: f64) -> Self {
        Self { target: Some(Target::AtLeast { reach, stretch }), ..self }
    }

    pub fn at_most(self, reach: f64, stretch: f64) -> Self {
        Self { target: Some(Target::AtMost { reach, stretch }), ..self }
    }

    fn markdown(&self) -> String {
        let Self { work, compared_with, target, unit, measured, medians } = self;
        let Spread { median, min, max } = *measured;
        let mut measured = format!("**{}**", unit.text(median));
        if min < max {
            let _ = write!(measured, " ({} to {})", unit.text(min), unit.text(max));
        }
        let (ours, theirs) = medians.clone().unwrap_or_default();
        let text = target.map_or(String::new(), |target| target.text(*unit));
        let verdict = target.map_or("", |target| target.verdict(median));
        format!("| {work} | {compared_with} | {text} | {measured} | {ours} | {theirs} | {verdict} |")
    }
}

/// The results of all contests.
#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Appenders, and the system call that each acknowledgement waits for.
    waits: Vec<(String, String)>,
    /// Additional tables.
    pub sections: Vec<String>,
    /// Skipped contests with the reason.
    pub notes: Vec<String>,
    /// Append ratios for the plot: label and median.
    pub append_ratios: Vec<(String, f64)>,
    /// Plots: file name and content.
    pub plots: Vec<(String, String)>,
}

impl Report {
    pub fn waits_for(&mut self, appender: &str, system_call: &str) {
        let row = (appender.to_owned(), system_call.to_owned());
        if !self.waits.contains(&row) {
            self.waits.push(row);
        }
    }

    pub fn note(&mut self, note: String) {
        eprintln!("  note: {note}");
        self.notes.push(note);
    }

    pub fn markdown(&self, method: &str, dir: &Path) -> String {
        let mut text = format!("{}\n\n{method}\n", machine::describe(dir));
        // Writing to a string cannot fail.
        if !self.rows.is_empty() {
            text.push_str(
                "\n| work | compared with | target: reach / stretch | measured: median (range) | ours | theirs | result |\n\
                 |---|---|---|---|---|---|---|\n",
            );
            for row in &self.rows {
                let _ = writeln!(text, "{}", row.markdown());
            }
        }
        if !self.waits.is_empty() {
            text.push_str("\nWhat an acknowledgement waits for:\n\n| appender | system call |\n|---|---|\n");
            for (appender, system_call) in &self.waits {
                let _ = writeln!(text, "| {appender} | {system_call} |");
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

    /// Writes the results between the markers of `PERFORMANCE.md`, and the plots next to that file.
    pub fn write(&self, method: &str, dir: &Path, docs: &Path) -> Result<()> {
        let path = docs.join("PERFORMANCE.md");
        let old = match fs::read_to_string(&path) {
            Ok(old) => old,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!("{BEGIN}\n{END}\n"),
            Err(error) => return Err(error).context("cannot read PERFORMANCE.md"),
        };
        let Some((before, after_begin)) = old.split_once(BEGIN) else {
            bail!("PERFORMANCE.md lacks the line {BEGIN}");
        };
        let Some((_, after)) = after_begin.split_once(END) else {
            bail!("PERFORMANCE.md lacks the line {END} after {BEGIN}");
        };
        let measured = self.markdown(method, dir);
        fs::write(&path, format!("{before}{BEGIN}\n{measured}{END}{after}"))
            .context("cannot write PERFORMANCE.md")?;
        let appends =
            plot::append_ratios(&self.append_ratios)?.map(|plot| ("performance-append.svg".to_owned(), plot));
        for (name, content) in self.plots.iter().chain(&appends) {
            fs::write(docs.join(name), content).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(())
    }
}
