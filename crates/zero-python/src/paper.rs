//! What the paper runtime's library derives from a log, as canonical JSON.

use std::fmt;

use zero_bus::{Event, Json, Reader};
use zero_paper::cycle::trace_id;
use zero_paper::event_types::{CYCLE, OBSERVATION};
use zero_paper::explain::Explanation;
use zero_paper::replay::{LimitOverrides, replay, what_if};
use zero_paper::report::{self, Report};
use zero_paper::state::State;

/// Why there is no result.
pub(crate) enum Problem {
    /// The log cannot be read.
    Bus(zero_bus::Error),
    /// The log can be read, but does not answer the question; or the question is invalid.
    Other(String),
}

impl From<zero_bus::Error> for Problem {
    fn from(error: zero_bus::Error) -> Self {
        Self::Bus(error)
    }
}

impl From<zero_paper::Error> for Problem {
    fn from(error: zero_paper::Error) -> Self {
        match error {
            zero_paper::Error::Bus(error) => Self::Bus(error),
            other => Self::other(other),
        }
    }
}

impl From<zero_bus::JsonError> for Problem {
    fn from(error: zero_bus::JsonError) -> Self {
        Self::other(error)
    }
}

impl Problem {
    fn other(problem: impl fmt::Display) -> Self {
        Self::Other(problem.to_string())
    }
}

/// The runtime's state after an event, or after the last one.
pub(crate) fn state(reader: &Reader, index: Option<u64>) -> Result<Json, Problem> {
    let last = reader.head()?.index;
    if let Some(index) = index.filter(|index| *index > last) {
        return Err(Problem::Other(format!("at: there is no event {index}; the last one is {last}")));
    }
    Ok(Json::of(&State::at(reader, index)?)?)
}

/// The last cycle of a trace, or with a number.
pub(crate) fn explain(reader: &Reader, subject: &str) -> Result<Json, Problem> {
    let trace = subject.parse().map_or_else(|_| subject.to_owned(), trace_id);
    let mut events: Vec<Event> = Vec::new();
    reader.select(
        1,
        |_, found| found == Some(&*trace),
        |event| {
            // A cycle on market data begins with its observation, every other one with its record.
            let follows_observation = events.last().is_some_and(|last| last.event_type == OBSERVATION);
            if event.event_type == OBSERVATION || (event.event_type == CYCLE && !follows_observation) {
                events.clear();
            }
            events.push(event);
            Ok::<(), zero_bus::Error>(())
        },
    )?;
    if events.is_empty() {
        return Err(Problem::Other(format!("there is no cycle {subject}")));
    }
    let explanation = Explanation::of(&events).map_err(Problem::other)?;
    Ok(Json::of(&explanation)?)
}

/// The recorded run, run again and compared; with limits, the run under them side by side.
pub(crate) fn replay_run(reader: &Reader, limits: Option<&Json>) -> Result<Json, Problem> {
    let Some(limits) = limits else { return Ok(Json::of(&replay(reader, &mut |_| {})?)?) };
    let limits = LimitOverrides::parse(limits.as_str())
        .map_err(|problem| Problem::Other(format!("limits: {problem}")))?;
    Ok(Json::of(&what_if(reader, limits, &mut |_| {})?)?)
}

/// Profit and loss, costs, drawdown, trades and rejections of the last run.
pub(crate) fn report_run(reader: &Reader) -> Result<Json, Problem> {
    let verdict = reader.verify()?;
    let reading = report::read(reader, &mut |_| Ok::<(), zero_bus::Error>(()), &mut |_| {})?;
    let snapshot = &verdict.snapshot_integrity;
    let verdict = match verdict.integrity.ok() && !snapshot.consistent {
        true => format!("snapshot: {}", snapshot.reason),
        false => verdict.integrity.reason(),
    };
    match reading.damage {
        Some(damage) => Err(damage.into()),
        None if !has_run(&reading.report) => Err(Problem::other("the log holds no run to report about")),
        None => Ok(reading.report.to_json(&verdict)?),
    }
}

/// Returns whether the events are those of a run. Otherwise the figures are defaults.
fn has_run(report: &Report) -> bool {
    report.cycles + report.decisions + report.fills > 0 || !report.rejections.is_empty()
}
