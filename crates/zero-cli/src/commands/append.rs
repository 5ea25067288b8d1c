//! `zero-bus append`: append one event, or a stream of events.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use zero_bus::{Bus, Draft, Event, Json, Value};
use zero_paper::{Clock, SystemClock};
use zero_program::message::{describe_json_error, print_warning};
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;

use crate::PROGRAM;
use crate::input::{Input, Line};

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
}

const EXAMPLES: &str = "\
Examples:
  zero-bus append bus --type note.added '{\"text\":\"switched to the spare line\"}'
  zero-bus append bus --type note.added --trace-id shift-7 - < note.json
  my-program | zero-bus append bus --batch

Exit codes: 0 passed, 1 failed (the log is damaged), 2 could not run.";

fn parse_seconds(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number of seconds, as in 1777593600 or 1777593600.5".to_owned())
}

pub(crate) fn run(arguments: Arguments) -> Result<Outcome> {
    let Arguments { dir, event_type, trace_id, as_of, payload, batch } = arguments;
    if let Some(batch) = batch {
        return append_batch(&dir, Input::open(&batch)?);
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
    let event = open(&dir)?.append(draft)?;
    print_receipts(&[event.line()])?;
    Ok(Outcome::Passed)
}

fn append_batch(dir: &Path, mut input: Input) -> Result<Outcome> {
    let mut bus = None;
    loop {
        let group = input.next_group()?;
        if group.is_empty() {
            return Ok(Outcome::Passed);
        }
        let mut drafts = Vec::with_capacity(group.len());
        let mut invalid_line = None;
        let mut last_line = 0;
        for Line { number, text } in group {
            match text.and_then(|text| parse_line(&text)) {
                Ok(None) => {}
                Ok(Some(draft)) => {
                    drafts.push(draft);
                    last_line = number;
                }
                Err(problem) => {
                    let problem = format!("{problem}; this line and those after it were not appended");
                    invalid_line = Some(input.error_in_line(number, &problem));
                    break;
                }
            }
        }
        if !drafts.is_empty() {
            if bus.is_none() {
                bus = Some(open(dir)?);
            }
            let bus = bus.as_ref().context("the bus is open")?;
            let count = drafts.len();
            let events = bus.append_batch(drafts).with_context(|| {
                format!("{}: the {count} events up to line {last_line} were not appended", input.name)
            })?;
            print_receipts(&events.iter().map(receipt).collect::<Vec<_>>())?;
        }
        if let Some(error) = invalid_line {
            return Err(error);
        }
    }
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
pub(crate) fn open(dir: &Path) -> Result<Bus> {
    let bus = Bus::open(dir)?;
    for warning in bus.warnings() {
        print_warning(PROGRAM, &warning);
    }
    Ok(bus)
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
