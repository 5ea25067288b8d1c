//! `zero-bus append`: one event, or a stream of them.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use zero_bus::{Bus, Draft, Event, Json, Value};
use zero_paper::{Clock, SystemClock};
use zero_program::message::{describe_json_error, print_message};
use zero_program::outcome::Outcome;
use zero_program::output::OutputClosed;

use crate::PROGRAM;
use crate::input::{Input, Line};

/// Append events; each is printed once it is durable.
///
/// They go behind what is there. Only the end of the log is looked at, however long it is: whether all of it is sound,
/// `zero-bus verify` tells.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The bus directory. It is made where there is none.
    dir: PathBuf,
    /// What kind of event, as in `decision.record`.
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "batch", conflicts_with = "batch")]
    event_type: Option<String>,
    /// What the event belongs to.
    #[arg(long, value_name = "TRACE", conflicts_with = "batch")]
    trace_id: Option<String>,
    /// When it happened, in seconds since the Unix epoch. Without it: now.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true, conflicts_with = "batch")]
    as_of: Option<f64>,
    /// What happened: a JSON object, or `-` to read it from standard input.
    #[arg(value_name = "PAYLOAD|-", required_unless_present = "batch", conflicts_with = "batch")]
    payload: Option<String>,
    /// Read events from a file (or standard input), one JSON object a line: {"event_type", "payload", "as_of"?,
    /// "trace_id"?}. Answers with one line each: {"checksum", "event_id", "event_index"}.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    batch: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  zero-bus append bus --type note.added '{\"text\":\"switched to the spare line\"}'
  zero-bus append bus --type note.added --trace-id shift-7 - < note.json
  my-program | zero-bus append bus --batch";

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "is no number of seconds, as in 1777593600 or 1777593600.5".to_owned())
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
    draft.check()?;
    let event = open(&dir)?.append(draft)?;
    print(&[event.line()])?;
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
        let mut refused = None;
        let mut last = 0;
        for Line { number, text } in group.into_iter().filter(|line| !line.text.trim_ascii().is_empty()) {
            match draft(&text) {
                Ok(draft) => drafts.push(draft),
                Err(problem) => {
                    let name = &input.name;
                    refused =
                        Some(anyhow!("{name}: line {number}: {problem}; nothing from it on was appended"));
                    break;
                }
            }
            last = number;
        }
        if !drafts.is_empty() {
            if bus.is_none() {
                bus = Some(open(dir)?);
            }
            let bus = bus.as_ref().context("the bus was opened")?;
            let count = drafts.len();
            let events = bus.append_batch(drafts).with_context(|| {
                format!("{}: the {count} events up to line {last} were not appended", input.name)
            })?;
            let receipts: Result<Vec<String>> = events.iter().map(receipt).collect();
            print(&receipts?)?;
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
    }
}

fn draft(line: &str) -> Result<Draft, String> {
    // The payload by itself may nest as deep as it may alone.
    let value = Value::parse_line(line).map_err(|error| describe_json_error(&error))?;
    let Value::Object(fields) = &value else {
        return Err(format!("expected an object, found {}", value.kind()));
    };
    if let Some(unknown) =
        fields.keys().find(|key| !["event_type", "payload", "as_of", "trace_id"].contains(&key.as_str()))
    {
        return Err(format!("{unknown}: is not known; there are event_type, payload, as_of and trace_id"));
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
    let payload = value.get("payload").ok_or("payload: is missing")?;
    let payload = Json::try_from(payload).map_err(|error| format!("payload: {}", error.problem()))?;
    let draft = Draft {
        event_type: text("event_type")?.ok_or("event_type: is missing")?,
        as_of,
        payload,
        trace_id: text("trace_id")?,
    };
    draft.check().map_err(|error| error.to_string())?;
    Ok(draft)
}

/// Opens a bus for appending, and says what its operator should know.
pub(crate) fn open(dir: &Path) -> Result<Bus> {
    let bus = Bus::open(dir)?;
    for warning in bus.warnings() {
        print_message(PROGRAM, &format!("warning: {warning}"));
    }
    Ok(bus)
}

fn receipt(event: &Event) -> Result<String> {
    Ok(format!(
        r#"{{"checksum":"{}","event_id":"{}","event_index":{}}}"#,
        event.checksum,
        event.id(),
        event.index
    ))
}

/// Prints lines that tell of durable events. Where that fails the events are there, but nobody knows.
fn print(lines: &[String]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut written = Ok(());
    for line in lines {
        written = written.and_then(|()| writeln!(out, "{line}"));
    }
    if let Err(error) = written.and_then(|()| out.flush()) {
        bail!("the events are durable, but could not be reported: {}", OutputClosed(error));
    }
    Ok(())
}
