//! Going through what a destination holds, judging every line: what verification and restoring are made of.

use zero_bus::{Checksum, Event, Head};

use crate::Mirror;
use crate::error::{Error, Result};

/// How far a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Events that were found sound.
    pub events: u64,
    /// Events there are, as the destination says.
    pub events_total: u64,
}

/// Walks the chain of a bus as a destination holds it, from its first event to its cursor, and judges every line as a
/// reader of the log does. `each` gets them in their order. Memory is that of one page.
///
/// Nothing that the destination says is believed: an index out of order, a line that is none, a chain that breaks, a
/// first event that is not the bus's, one that is missing before the cursor, one too many behind it.
///
/// # Errors
/// [`Error::Unsound`] at the first fault, when all before it were handed out; what the destination and `each` report.
pub fn walk<E: From<Error>>(
    mirror: &mut dyn Mirror,
    bus: Checksum,
    mut each: impl FnMut(Event, &str, Walk) -> Result<(), E>,
) -> Result<Head, E> {
    let unsound = |mirror: &dyn Mirror, index: u64, problem: String| {
        E::from(Error::Unsound { destination: mirror.name(), bus, index, problem })
    };
    let mut cursor = mirror.head(bus)?;
    if cursor.index == 0 {
        let problem = "is not there".to_owned();
        return Err(unsound(mirror, 0, problem));
    }
    let mut head = Head::default();
    loop {
        let page = mirror.lines(bus, head.index.saturating_add(1))?;
        if page.is_empty() {
            break;
        }
        for (index, line) in page {
            let wanted = head.index.saturating_add(1);
            if index != wanted {
                return Err(unsound(
                    mirror,
                    wanted,
                    format!("event {wanted} is missing; {index} is in its place"),
                ));
            }
            let event = Event::read(line.as_bytes(), head)
                .map_err(|fault| unsound(mirror, wanted, fault.to_string()))?;
            if index == 1 && event.checksum != bus {
                return Err(unsound(mirror, 1, "event 1 is another bus's".to_owned()));
            }
            if index > cursor.index {
                // Others may have mirrored on meanwhile.
                cursor = mirror.head(bus)?;
            }
            if index > cursor.index {
                return Err(unsound(mirror, index, format!("event {index} stands behind the cursor")));
            }
            head = event.head();
            if index == cursor.index && head != cursor {
                return Err(unsound(
                    mirror,
                    index,
                    format!("event {index} is not the one that the cursor names"),
                ));
            }
            each(event, &line, Walk { events: index, events_total: cursor.index })?;
        }
    }
    if head.index < cursor.index {
        let missing = head.index.saturating_add(1);
        let problem = format!("event {missing} is missing, and all behind it up to {}", cursor.index);
        return Err(unsound(mirror, missing, problem));
    }
    Ok(head)
}

/// The bus that is meant: the only one, or the one whose id begins so, with or without `sha256:`.
///
/// # Errors
/// [`Error::Refused`] where none or several fit, which are named.
pub fn choose(mirror: &mut dyn Mirror, id: Option<&str>) -> Result<Checksum> {
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
