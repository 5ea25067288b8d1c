//! One line per event or cycle, for terminals.

use zero_paper::summary::{Summary, Tone};
use zero_paper::text::format_date_and_time;

const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BOLD_CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

/// Formats summaries as lines with columns and colours. A line with the date precedes the first
/// summary of each day. Dates and times are in UTC, and each time says so with `Z`.
///
/// Write the lines to a stream of `anstream`, which removes the colours if they are not wanted.
#[derive(Debug, Default)]
pub struct SummaryLines {
    /// Date of the last summary; empty before the first one.
    date: String,
}

impl SummaryLines {
    /// Formats the summary of an event or cycle. `label` names the event or cycle, padded to the
    /// width of its column.
    pub fn format(&mut self, label: &str, as_of: f64, summary: &Summary) -> String {
        let (date, time) = format_date_and_time(as_of);
        let heading = if date == self.date { String::new() } else { format!("{DIM}{date}{RESET}\n") };
        self.date = date;
        // A time without a time of day has no zone.
        let zone = if time == "-" { "" } else { "Z" };
        let Summary { kind, text, tone } = summary;
        let (colour, reset) = match tone {
            Tone::Done => (GREEN, RESET),
            Tone::Refused => (YELLOW, RESET),
            Tone::Operator => (BOLD_CYAN, RESET),
            Tone::Routine => (DIM, RESET),
            Tone::Other => ("", ""),
        };
        format!("{heading}{DIM}{label} {time}{zone}{RESET} {colour}{kind:<9} {text}{reset}\n")
    }
}
