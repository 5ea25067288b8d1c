//! Verifies a destination's copy of a bus, event by event.

use zero_bus::{Checksum, Event, Head};

use crate::error::{Error, Result};
use crate::mirror::Mirror;

/// The progress of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanProgress {
    /// Events that were verified.
    pub events: u64,
    /// Events that the destination holds, by its cursor.
    pub events_total: u64,
}

/// Reads a bus from a destination, from the first event to the cursor, and verifies every line as a
/// reader of the log does. Calls `each` with every verified event, in order. Memory is that of a
/// few pages.
///
/// The scan trusts nothing that the destination reports. It detects an index out of order, an
/// invalid line, a broken chain, a first event of another bus, an event missing before the cursor,
/// and an event after the cursor.
///
/// # Errors
/// [`Error::Corrupt`] at the first failed check, after `each` was called for all events before it;
/// any error of the destination or of `each`.
pub fn scan<E: From<Error>>(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    each: impl FnMut(&Event, &str, ScanProgress) -> Result<(), E>,
) -> Result<Head, E> {
    scan_with(mirror, bus, Checks::Lines, each)
}

/// Does the same, and compares the destination's queryable columns with the lines, since queries
/// read the columns.
///
/// # Errors
/// As [`scan`].
pub fn verify<E: From<Error>>(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    each: impl FnMut(&Event, &str, ScanProgress) -> Result<(), E>,
) -> Result<Head, E> {
    scan_with(mirror, bus, Checks::LinesAndColumns, each)
}

#[derive(PartialEq, Eq)]
enum Checks {
    Lines,
    LinesAndColumns,
}

fn scan_with<E: From<Error>>(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    checks: Checks,
    mut each: impl FnMut(&Event, &str, ScanProgress) -> Result<(), E>,
) -> Result<Head, E> {
    let mut cursor = mirror.head(bus)?;
    let mut head = Head::default();
    if cursor.index == 0 {
        return Err(Failed { index: 0, problem: "not found".to_owned() }.into_error(mirror, bus).into());
    }
    loop {
        let page = mirror.lines(bus, head.index.saturating_add(1))?;
        if page.is_empty() {
            break;
        }
        if page.last().is_some_and(|(index, _)| *index > cursor.index) {
            // Another mirror may have appended events since the cursor was read.
            cursor = mirror.head(bus)?;
        }
        let (mut events, mut lines) = (Vec::with_capacity(page.len()), Vec::with_capacity(page.len()));
        let mut failed = None;
        let mut verified_head = head;
        for (index, line) in page {
            match verify_line(index, &line, verified_head, cursor, bus) {
                Ok(event) => {
                    verified_head = event.head();
                    events.push(event);
                    lines.push(line);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if checks == Checks::LinesAndColumns
            && let Some((index, column)) = mirror.first_mismatch(bus, &events)?
        {
            let problem = format!("event {index}: its `{column}` does not match its line");
            events.retain(|event| event.index < index);
            failed = Some(Failed { index, problem });
        }
        for (event, line) in events.iter().zip(&lines) {
            head = event.head();
            each(event, line, ScanProgress { events: event.index, events_total: cursor.index })?;
        }
        if let Some(failed) = failed {
            return Err(failed.into_error(mirror, bus).into());
        }
    }
    if head.index < cursor.index {
        let index = head.index.saturating_add(1);
        let problem = format!("event {index} and all after it up to {} are missing", cursor.index);
        return Err(Failed { index, problem }.into_error(mirror, bus).into());
    }
    Ok(head)
}

/// A failed check.
struct Failed {
    index: u64,
    problem: String,
}

impl Failed {
    fn into_error(self, mirror: &dyn Mirror, bus: Checksum) -> Error {
        let Self { index, problem } = self;
        Error::Corrupt { destination: mirror.name(), bus, index, problem }
    }
}

/// Verifies a line that the destination stores at `index` as the event directly after `head`.
fn verify_line(index: u64, line: &str, head: Head, cursor: Head, bus: Checksum) -> Result<Event, Failed> {
    let expected = head.index.saturating_add(1);
    let failed = |problem| Failed { index: expected, problem };
    if index != expected {
        return Err(failed(format!("event {expected} is missing; event {index} is in its place")));
    }
    let event = Event::read(line.as_bytes(), head).map_err(|fault| failed(fault.to_string()))?;
    if index == 1 && event.checksum != bus {
        return Err(failed("event 1 belongs to another bus".to_owned()));
    }
    if index > cursor.index {
        return Err(failed(format!("event {index} is after the cursor")));
    }
    if index == cursor.index && event.head() != cursor {
        return Err(failed(format!("event {index} does not match the cursor")));
    }
    Ok(event)
}

/// Maximum number of buses that a message lists.
const MAX_LISTED_BUSES: usize = 20;

/// Selects a bus of a destination: the only one, or the one whose id starts with `id`, with or
/// without `sha256:`.
///
/// # Errors
/// [`Error::Refused`] if no bus or several buses match; the message lists them.
pub fn select_bus(mirror: &mut dyn Mirror, id: Option<&str>) -> Result<Checksum> {
    let prefix = id.map(|id| id.strip_prefix("sha256:").unwrap_or(id));
    let is_match = |bus: &Checksum| {
        prefix.is_none_or(|prefix| bus.to_string().trim_start_matches("sha256:").starts_with(prefix))
    };
    let buses = mirror.buses()?;
    let matching: Vec<Checksum> = buses.iter().copied().filter(is_match).collect();
    let problem = match (matching[..].first(), matching.len()) {
        (Some(bus), 1) => return Ok(*bus),
        (None, _) if buses.is_empty() => "holds no bus".to_owned(),
        (None, _) => format!("holds no bus whose id starts like this; it holds {}", list(&buses)),
        _ if prefix.is_some() => {
            format!("holds several buses whose ids start like this: {}", list(&matching))
        }
        _ => format!("holds several buses; name one with --bus: {}", list(&matching)),
    };
    Err(Error::refused(mirror.name(), problem))
}

fn list(buses: &[Checksum]) -> String {
    let ids: Vec<String> = buses.iter().take(MAX_LISTED_BUSES).map(ToString::to_string).collect();
    let omitted = buses.len().saturating_sub(MAX_LISTED_BUSES);
    let omitted = if omitted > 0 { format!(" and {omitted} more") } else { String::new() };
    format!("{}{omitted}", ids.join(", "))
}
