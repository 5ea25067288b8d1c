//! `zero-bus append`: append one event, or a stream of events.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use serde::Serialize;
use zero_bus::{Bus, Draft, Event, Head, Json, LOG, OpenOptions, Reader, Value};
use zero_paper::text::counted;
use zero_paper::{Clock, SystemClock};
use zero_program::message::{describe_json_error, print_message, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::{OutputClosed, print};

use crate::head_arg::parse_expected_head;
use crate::input::{Input, Line};
use crate::json_option::AlwaysJson;
use crate::program::PROGRAM;

/// Append events, and print each once it is durable.
///
/// The events are linked to the last event of the log. Only the end of the log is read, however
/// long it is; run `zero-bus verify` to check all of it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The bus directory. Created if it does not exist.
    dir: PathBuf,
    /// The event's type, as in `decision.record`.
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "batch", conflicts_with = "batch")]
    event_type: Option<String>,
    /// The trace that the event belongs to.
    #[arg(long, value_name = "TRACE", conflicts_with = "batch")]
    trace_id: Option<String>,
    /// The event's time, in seconds since the Unix epoch. [default: now]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, allow_negative_numbers = true, conflicts_with = "batch")]
    as_of: Option<f64>,
    /// The event's payload: a JSON object, or `-` to read it from standard input.
    #[arg(value_name = "PAYLOAD|-", required_unless_present = "batch", conflicts_with = "batch")]
    payload: Option<String>,
    /// Read events from a file or standard input, one JSON object per line: {"event_type",
    /// "payload", "as_of"?, "trace_id"?}. Each is answered with one line: {"checksum", "event_id",
    /// "event_index"}.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    batch: Option<PathBuf>,
    /// Answer an invalid line of a batch with {"error", "line"}, and continue; exit 1 at the end.
    // `requires` has no effect beside an argument that conflicts with --batch.
    #[arg(long, requires = "batch", conflicts_with_all = ["event_type", "payload"])]
    keep_going: bool,
    /// Append only if this is the head: the index of the last event and its checksum, or 0 for an
    /// empty log. Otherwise print the head and exit 1. Without a checksum, any event at the index
    /// matches. With --batch, this holds for the first event of the input.
    #[arg(long, value_name = "INDEX[:CHECKSUM]", value_parser = parse_expected_head)]
    expect_head: Option<Head>,
    #[command(flatten)]
    _json: AlwaysJson,
}

const EXAMPLES: &str = "\
Examples:
  zero-bus append bus --type note.added '{\"text\":\"switched to the spare line\"}'
  zero-bus append bus --type note.added --trace-id shift-7 - < note.json
  my-program | zero-bus append bus --batch
  zero-bus append bus --batch events.jsonl --keep-going
  zero-bus append bus --type lease.taken --expect-head 42 '{\"by\":\"worker-1\"}'

Exit codes: 0 passed, 1 failed (the log is damaged, --keep-going met an invalid line, or the head is not the
expected one), 2 could not run.";

fn parse_seconds(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number of seconds, as in 1777593600 or 1777593600.5".to_owned())
}

pub(crate) fn run(arguments: Arguments) -> Result<Outcome> {
    let Arguments { dir, event_type, trace_id, as_of, payload, batch, keep_going, expect_head, _json: _ } =
        arguments;
    if let Some(batch) = batch {
        let input = Input::open(&batch)?;
        let batch = Batch { dir: &dir, bus: None, input, keep_going, expect_head, invalid_lines: 0 };
        return batch.append().map_err(print_actual_head);
    }
    let payload = match payload.unwrap_or_default() {
        dash if dash == "-" => Input::open(Path::new("-"))?.read_all()?,
        text => text,
    };
    let draft = Draft {
        event_type: event_type.unwrap_or_default(),
        as_of: as_of.unwrap_or_else(|| SystemClock.now()),
        payload: Json::parse(&payload).map_err(|error| anyhow!("payload: {error}"))?,
        trace_id,
    };
    // An invalid draft must not create the bus.
    draft.check()?;
    let event = match expect_head {
        None => open(&dir)?.append(draft)?,
        Some(expected) => {
            let appended =
                open_expecting(&dir, expected).and_then(|bus| bus.append_expecting(expected, draft));
            appended.map_err(|error| print_actual_head(error.into()))?
        }
    };
    print_receipts(&[event.line()])?;
    Ok(Outcome::Passed)
}

/// Appends the events of a stream, a group of lines at a time.
struct Batch<'a> {
    dir: &'a Path,
    /// Opened for the first valid event, so that invalid input does not create a bus.
    bus: Option<Bus>,
    input: Input,
    keep_going: bool,
    /// The head that the first event requires. `None` once that event is appended.
    expect_head: Option<Head>,
    /// Lines that were answered with an error.
    invalid_lines: u64,
}

/// A line of a batch that is not blank.
#[derive(Clone)]
struct Entry {
    line: u64,
    draft: Result<Draft, String>,
}

impl Batch<'_> {
    fn append(mut self) -> Result<Outcome> {
        loop {
            let group = self.input.next_group()?;
            if group.is_empty() {
                break;
            }
            let mut entries = Vec::with_capacity(group.len());
            let mut invalid_line = None;
            for Line { number, text } in group {
                let draft = text.and_then(|text| parse_line(&text)).transpose();
                match draft {
                    None => {}
                    Some(Err(problem)) if !self.keep_going => {
                        let problem = format!("{problem}; this line and those after it were not appended");
                        invalid_line = Some(self.input.error_in_line(number, &problem));
                        break;
                    }
                    Some(draft) => entries.push(Entry { line: number, draft }),
                }
            }
            self.append_entries(entries)?;
            if let Some(error) = invalid_line {
                return Err(error);
            }
        }
        if self.invalid_lines > 0 {
            let lines = counted(self.invalid_lines, "invalid line");
            print_message(PROGRAM, &format!("{}: {lines}; all others were appended", self.input.name));
        }
        Ok(Outcome::of(self.invalid_lines == 0))
    }

    /// Appends the valid entries as one batch, and prints the answers in the order of the lines.
    fn append_entries(&mut self, mut entries: Vec<Entry>) -> Result<()> {
        // Only the first event requires a head, so it is appended alone.
        if self.expect_head.is_some()
            && let Some(first) = entries.iter().position(|entry| entry.draft.is_ok())
            && first + 1 < entries.len()
        {
            let others = entries.split_off(first + 1);
            self.append_entries(entries)?;
            return self.append_entries(others);
        }
        let Some(last_line) = entries.last().map(|entry| entry.line) else { return Ok(()) };
        let retry = self.keep_going.then(|| entries.clone());
        let mut drafts = Vec::with_capacity(entries.len());
        let mut problems = Vec::with_capacity(entries.len());
        for Entry { line, draft } in entries {
            match draft {
                Ok(draft) => {
                    drafts.push(draft);
                    problems.push(None);
                }
                Err(error) => problems.push(Some(InvalidLine { error, line })),
            }
        }
        let count = drafts.len();
        let events = match (self.append_drafts(drafts), retry) {
            (Ok(events), _) => events,
            // The exact length of an event's line is known only at its place in the chain, so an
            // event of a checked batch can still be too long. Nothing of the batch was appended:
            // append the events one by one, and answer that one with the error.
            (Err(error @ zero_bus::Error::Invalid { .. }), Some(entries)) => {
                let is_single = entries.len() == 1;
                return entries.into_iter().try_for_each(|mut entry| {
                    if is_single {
                        entry.draft = Err(error.to_string());
                    }
                    self.append_entries(vec![entry])
                });
            }
            (Err(error @ zero_bus::Error::HeadMismatch { .. }), _) => return Err(error.into()),
            (Err(error), _) => {
                return Err(error).with_context(|| {
                    format!(
                        "{}: the {count} events up to line {last_line} were not appended",
                        self.input.name
                    )
                });
            }
        };
        let mut events = events.iter();
        let mut answers = Vec::with_capacity(problems.len());
        for problem in problems {
            answers.push(match problem {
                None => receipt(events.next().context("one event per draft")?),
                Some(problem) => {
                    self.invalid_lines += 1;
                    Json::of(&problem)?.to_string()
                }
            });
        }
        print_receipts(&answers)
    }

    fn append_drafts(&mut self, drafts: Vec<Draft>) -> zero_bus::Result<Vec<Event>> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let bus = match (self.bus.take(), self.expect_head) {
            (Some(bus), _) => bus,
            (None, Some(expected)) => open_expecting(self.dir, expected)?,
            (None, None) => open(self.dir)?,
        };
        let bus = self.bus.insert(bus);
        let Some(expected) = self.expect_head else { return bus.append_batch(drafts) };
        // `append_entries` passes the first event alone.
        let first = drafts.into_iter().map(|draft| bus.append_expecting(expected, draft));
        let events = first.collect::<zero_bus::Result<_>>()?;
        self.expect_head = None;
        Ok(events)
    }
}

/// The answer to an invalid line.
#[derive(Serialize)]
struct InvalidLine {
    error: String,
    line: u64,
}

/// Parses a line of a batch. A blank line is not an event.
fn parse_line(line: &str) -> Result<Option<Draft>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    // `parse_line` allows for the enclosing object, so that the payload may be as deep as in a
    // single append.
    let value = Value::parse_line(line).map_err(|error| describe_json_error(&error))?;
    let Value::Object(fields) = &value else {
        return Err(format!("expected an object, found {}", value.kind()));
    };
    if let Some(unknown) =
        fields.keys().find(|key| !["event_type", "payload", "as_of", "trace_id"].contains(&key.as_str()))
    {
        return Err(format!("{unknown}: unknown field; expected event_type, payload, as_of or trace_id"));
    }
    let text = |field: &str| match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("{field}: expected a string, found {}", other.kind())),
    };
    let as_of = match value.get("as_of") {
        None | Some(Value::Null) => SystemClock.now(),
        Some(time) => {
            time.as_f64().ok_or_else(|| format!("as_of: expected a number, found {}", time.kind()))?
        }
    };
    let payload = value.get("payload").ok_or("payload: missing")?;
    let payload = Json::try_from(payload).map_err(|error| format!("payload: {}", error.problem()))?;
    let draft = Draft {
        event_type: text("event_type")?.ok_or("event_type: missing")?,
        as_of,
        payload,
        trace_id: text("trace_id")?,
    };
    draft.check().map_err(|error| error.to_string())?;
    Ok(Some(draft))
}

/// Opens a bus for appending, and prints its warnings.
pub(crate) fn open(dir: &Path) -> zero_bus::Result<Bus> {
    Bus::open(dir).inspect(print_warnings)
}

fn print_warnings(bus: &Bus) {
    for warning in bus.warnings() {
        print_warning(PROGRAM, &warning);
    }
}

/// Opens a bus that must have the expected head. Creates it only if an empty log is expected.
fn open_expecting(dir: &Path, expected: Head) -> zero_bus::Result<Bus> {
    if expected.index == 0 {
        return open(dir);
    }
    match OpenOptions::new().create(false).open(dir) {
        Err(zero_bus::Error::NotABus { .. }) => {
            let actual = if dir.exists() { Reader::open(dir)?.head()? } else { Head::default() };
            Err(zero_bus::Error::HeadMismatch { path: dir.join(LOG), expected, actual })
        }
        opened => opened.inspect(print_warnings),
    }
}

/// If the head is not the expected one, prints the actual head.
fn print_actual_head(error: Error) -> Error {
    match error.downcast_ref() {
        Some(zero_bus::Error::HeadMismatch { actual, .. }) => {
            print(&actual.to_string(), Outcome::Failed).err().unwrap_or(error)
        }
        _ => error,
    }
}

fn receipt(event: &Event) -> String {
    format!(
        r#"{{"checksum":"{}","event_id":"{}","event_index":{}}}"#,
        event.checksum,
        event.id(),
        event.index
    )
}

/// Prints lines that report durable events. If that fails, the events are durable but the caller
/// does not know it: the error says so.
fn print_receipts(lines: &[String]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    if let Err(error) = written {
        bail!("the events are durable, but could not be reported: {}", OutputClosed(error));
    }
    Ok(())
}
