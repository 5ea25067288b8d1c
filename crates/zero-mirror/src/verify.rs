//! Going through what a destination holds, judging every line: what verification and restoring are made of.

use zero_bus::{Checksum, Event, Head};

use crate::error::{Error, Result};
use crate::mirror::Mirror;

/// How far a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanProgress {
    /// Events that were found sound.
    pub events: u64,
    /// Events there are, as the destination says.
    pub events_total: u64,
}

/// Walks the chain of a bus as a destination holds it, from its first event to its cursor, and judges every line as a
/// reader of the log does. `each` gets them in their order. Memory is that of some pages.
///
/// Nothing that the destination says is believed: an index out of order, a line that is none, a chain that breaks, a
/// first event that is not the bus's, one that is missing before the cursor, one too many behind it.
///
/// # Errors
/// [`Error::Corrupt`] at the first fault, when all before it were handed out; what the destination and `each` report.
pub fn scan<E: From<Error>>(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    each: impl FnMut(&Event, &str, ScanProgress) -> Result<(), E>,
) -> Result<Head, E> {
    go(mirror, bus, false, each)
}

/// The same, and what the destination keeps beside the lines is held against them: a question must not be answered wrong.
///
/// # Errors
/// As [`scan`].
pub fn verify<E: From<Error>>(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    each: impl FnMut(&Event, &str, ScanProgress) -> Result<(), E>,
) -> Result<Head, E> {
    go(mirror, bus, true, each)
}

fn go<E: From<Error>>(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    columns: bool,
    mut each: impl FnMut(&Event, &str, ScanProgress) -> Result<(), E>,
) -> Result<Head, E> {
    let mut cursor = mirror.head(bus)?;
    let mut head = Head::default();
    if cursor.index == 0 {
        return Err(Wrong { index: 0, problem: "is not there".to_owned() }.at(mirror, bus).into());
    }
    loop {
        let page = mirror.lines(bus, head.index.saturating_add(1))?;
        if page.is_empty() {
            break;
        }
        if page.last().is_some_and(|(index, _)| *index > cursor.index) {
            // Others may have mirrored on meanwhile.
            cursor = mirror.head(bus)?;
        }
        let (mut events, mut lines) = (Vec::with_capacity(page.len()), Vec::with_capacity(page.len()));
        let mut wrong = None;
        let mut last = head;
        for (index, line) in page {
            match judge(index, &line, last, cursor, bus) {
                Ok(event) => {
                    last = event.head();
                    events.push(event);
                    lines.push(line);
                }
                Err(found) => {
                    wrong = Some(found);
                    break;
                }
            }
        }
        if columns && let Some((index, column)) = mirror.first_mismatch(bus, &events)? {
            let problem = format!("event {index} has another `{column}` than its line");
            events.retain(|event| event.index < index);
            wrong = Some(Wrong { index, problem });
        }
        for (event, line) in events.iter().zip(&lines) {
            head = event.head();
            each(event, line, ScanProgress { events: event.index, events_total: cursor.index })?;
        }
        if let Some(wrong) = wrong {
            return Err(wrong.at(mirror, bus).into());
        }
    }
    if head.index < cursor.index {
        let index = head.index.saturating_add(1);
        let problem = format!("event {index} is missing, and all behind it up to {}", cursor.index);
        return Err(Wrong { index, problem }.at(mirror, bus).into());
    }
    Ok(head)
}

/// What was found wrong, and with which event.
struct Wrong {
    index: u64,
    problem: String,
}

impl Wrong {
    fn at(self, mirror: &dyn Mirror, bus: Checksum) -> Error {
        let Self { index, problem } = self;
        Error::Corrupt { destination: mirror.name(), bus, index, problem }
    }
}

/// Judges a line that is kept at an index as the one behind `head`.
fn judge(index: u64, line: &str, head: Head, cursor: Head, bus: Checksum) -> Result<Event, Wrong> {
    let wanted = head.index.saturating_add(1);
    let wrong = |problem| Wrong { index: wanted, problem };
    if index != wanted {
        return Err(wrong(format!("event {wanted} is missing; {index} is in its place")));
    }
    let event = Event::read(line.as_bytes(), head).map_err(|fault| wrong(fault.to_string()))?;
    if index == 1 && event.checksum != bus {
        return Err(wrong("event 1 is another bus's".to_owned()));
    }
    if index > cursor.index {
        return Err(wrong(format!("event {index} stands behind the cursor")));
    }
    if index == cursor.index && event.head() != cursor {
        return Err(wrong(format!("event {index} is not the one that the cursor names")));
    }
    Ok(event)
}

/// The bus that is meant: the only one, or the one whose id begins so, with or without `sha256:`.
///
/// # Errors
/// [`Error::Refused`] where none or several fit, which are named.
pub fn select_bus(mirror: &mut dyn Mirror, id: Option<&str>) -> Result<Checksum> {
    let wanted = id.map(|id| id.strip_prefix("sha256:").unwrap_or(id));
    let fits = |bus: &Checksum| {
        wanted.is_none_or(|wanted| bus.to_string().trim_start_matches("sha256:").starts_with(wanted))
    };
    let there = mirror.buses()?;
    let fitting: Vec<Checksum> = there.iter().copied().filter(fits).collect();
    let problem = match (fitting[..].first(), fitting.len()) {
        (Some(bus), 1) => return Ok(*bus),
        (None, _) if there.is_empty() => "holds no bus".to_owned(),
        (None, _) => format!("holds no bus whose id begins so; it holds {}", some(&there)),
        _ if wanted.is_some() => format!("holds several buses whose ids begin so: {}", some(&fitting)),
        _ => format!("holds several buses; name one with --bus: {}", some(&fitting)),
    };
    Err(Error::Refused { destination: mirror.name(), problem })
}

/// As many as one looks through.
fn some(buses: &[Checksum]) -> String {
    const MANY: usize = 20;
    let named: Vec<String> = buses.iter().take(MANY).map(ToString::to_string).collect();
    let rest = buses.len().saturating_sub(MANY);
    let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{rest}", named.join(", "))
}
