//! The record of retired events: which events at the beginning of the log were removed, and where
//! they are kept.
//!
//! The record is a small file in the directory of the segments, in place of those that were
//! removed. Each part of it is also the payload of an event [`RETIRED_TYPE`] in the chain, which
//! verification compares with it.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::canonical::{Json, Value};
use crate::checksum::Checksum;
use crate::event::{Event, RETIRED_TYPE};
use crate::head::Head;
use crate::storage::{Access, Storage, put_in_place, read_up_to};

/// Value of `schema_version` in the payload of a [`RETIRED_TYPE`] event.
pub const RETIRED_SCHEMA: &str = "zero.bus.retired.v1";

/// Value of `schema_version` in the record.
const RECORD_SCHEMA: &str = "zero.bus.retired.record.v1";

/// Name of the record in a bus directory.
pub const RETIRED: &str = "segments/retired.json";

/// Name of the record that a retirement writes before its event. It is in force under the name
/// [`RETIRED`].
pub(crate) const RETIRING: &str = "segments/retiring.json";

/// Bound for the memory that a record takes: about 30,000 retirements.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// Events that one call of [`Bus::retire`](crate::Bus::retire) removed from the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetiredPart {
    /// When they were retired, in seconds since the Unix epoch.
    pub as_of: f64,
    /// The event that records it.
    pub event: Head,
    /// What that event says.
    pub payload: RetiredPayload,
}

// The time is finite.
impl Eq for RetiredPart {}

/// The payload of an event [`RETIRED_TYPE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetiredPayload {
    /// The bus: the checksum of its event 1.
    pub bus: Checksum,
    /// Who retired the events.
    pub by: String,
    /// Where the log begins since then: the number of bytes of all events that were ever retired.
    pub byte_end: u64,
    /// Bytes that the events took in the log.
    pub bytes: u64,
    /// Bytes that their segments took.
    pub bytes_sealed: u64,
    /// Checksum of the last of them, to which the first event of the log links.
    pub checksum: Checksum,
    /// SHA-256 of the part before this one in the record, in canonical form. That part names the
    /// one before it in the same way. `None` for the first.
    pub earlier: Option<Checksum>,
    /// Index of the first event.
    pub first: u64,
    /// Where the events are kept; `None` if nowhere.
    pub kept_in: Option<String>,
    /// Index of the last event.
    pub last: u64,
    schema_version: &'static str,
    /// Number of segments that were removed.
    pub segments: u64,
    /// SHA-256 of the files of the segments, one after the other.
    pub sha256: Checksum,
}

/// What is to be removed, before it is part of a record.
pub(crate) struct Removal {
    pub(crate) bus: Checksum,
    pub(crate) by: String,
    pub(crate) kept_in: Option<String>,
    /// The last event to remove, and where the log then begins.
    pub(crate) head: Head,
    pub(crate) byte_end: u64,
    pub(crate) bytes_sealed: u64,
    pub(crate) segments: u64,
    pub(crate) sha256: Checksum,
}

/// All events that were ever retired from a log: those before its first one.
///
/// [`fmt::Display`] writes one sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    parts: Vec<RetiredPart>,
}

impl Serialize for Retired {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            first_held: u64,
            head: Head,
            parts: &'a [RetiredPart],
        }
        Form { first_held: self.first_held(), head: self.head(), parts: &self.parts }.serialize(serializer)
    }
}

impl Retired {
    /// Returns the parts, in the order of their events. At least one, if the library returned this.
    ///
    /// The first one begins with event 1, unless the record was
    /// [written again](crate::Reader::lost_record): the events that recorded earlier parts may
    /// be retired themselves.
    pub fn parts(&self) -> &[RetiredPart] {
        &self.parts
    }

    /// Returns the last event that was retired, to which the first event of the log links.
    pub fn head(&self) -> Head {
        self.parts.last().map_or(Head::default(), |part| Head {
            index: part.payload.last,
            checksum: Some(part.payload.checksum),
        })
    }

    /// Returns the index of the first event that the log still has.
    pub fn first_held(&self) -> u64 {
        self.head().index + 1
    }

    /// Returns the id of the bus: the checksum of its event 1.
    pub fn bus(&self) -> Option<Checksum> {
        self.parts.first().map(|part| part.payload.bus)
    }

    /// Returns the part that an event belongs to.
    pub fn part_of(&self, index: u64) -> Option<&RetiredPart> {
        self.parts.iter().find(|part| (part.payload.first..=part.payload.last).contains(&index))
    }

    /// Where the log begins, in bytes.
    pub(crate) fn byte_end(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.payload.byte_end)
    }

    /// Returns what the event that records a removal must say.
    pub(crate) fn next_payload(&self, removal: Removal) -> io::Result<RetiredPayload> {
        let checksum = removal.head.checksum.ok_or_else(|| io::Error::other("there is no such event"))?;
        Ok(RetiredPayload {
            bus: removal.bus,
            by: removal.by,
            byte_end: removal.byte_end,
            bytes: removal.byte_end - self.byte_end(),
            bytes_sealed: removal.bytes_sealed,
            checksum,
            earlier: self.parts.last().map(RetiredPart::hash).transpose()?,
            first: self.first_held(),
            kept_in: removal.kept_in,
            last: removal.head.index,
            schema_version: RETIRED_SCHEMA,
            segments: removal.segments,
            sha256: removal.sha256,
        })
    }

    /// Returns the record with one more part.
    pub(crate) fn with(&self, part: RetiredPart) -> Self {
        Self { parts: self.parts.iter().cloned().chain([part]).collect() }
    }

    /// Returns the parts that end before an event; `None` if no part does.
    pub(crate) fn before(mut self, index: u64) -> Option<Self> {
        self.parts.truncate(self.parts.partition_point(|part| part.payload.last < index));
        (!self.parts.is_empty()).then_some(self)
    }

    /// Builds the record of the events up to `last` from the parts that events of the log record,
    /// in any order: that part, and those before it as far as they are there.
    pub(crate) fn of_parts(mut candidates: Vec<RetiredPart>, last: u64) -> Option<Self> {
        // Of two events that record the same range, the later one counts: the events of the earlier
        // one were put back.
        candidates.sort_by_key(|part| part.event.index);
        let of_last = |last| candidates.iter().rev().find(move |part| part.payload.last == last);
        let mut parts = vec![of_last(last)?.clone()];
        while let Some(RetiredPart { payload, .. }) = parts.last()
            && let Some(earlier) = payload.earlier
        {
            let is_earlier = |part: &&RetiredPart| {
                part.payload.last.checked_add(1) == Some(payload.first)
                    && part.hash().is_ok_and(|hash| hash == earlier)
            };
            let Some(part) = candidates.iter().rev().find(is_earlier) else { break };
            parts.push(part.clone());
        }
        parts.reverse();
        Some(Self { parts })
    }

    /// Reads a record. `None` if there is no such file. The inner error tells why it is invalid.
    pub(crate) fn read(storage: &dyn Storage, name: &str) -> io::Result<Result<Option<Self>, String>> {
        let file = match storage.open(name, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
            Err(error) => return Err(error),
        };
        let size = file.size()?;
        if size > MAX_RECORD_BYTES {
            return Ok(Err(format!("{name} is longer than {MAX_RECORD_BYTES} bytes")));
        }
        let mut bytes = vec![0; size as usize];
        let filled = read_up_to(&*file, &mut bytes, 0)?;
        let record = std::str::from_utf8(&bytes[..filled]).ok().and_then(Self::parse);
        Ok(record.map(Some).ok_or_else(|| format!("{name} was changed")))
    }

    /// Writes the record under a name. Durable once the directory of the segments is synced.
    pub(crate) fn write(&self, storage: &dyn Storage, name: &str) -> io::Result<()> {
        let text = self.to_text()?;
        if text.len() as u64 > MAX_RECORD_BYTES {
            return Err(io::Error::other("the record of retired events would become too long"));
        }
        put_in_place(storage, name, text.as_bytes())
    }

    fn to_text(&self) -> io::Result<String> {
        #[derive(Serialize)]
        struct Record<'a> {
            parts: &'a [RetiredPart],
            schema_version: &'static str,
        }
        let record = Json::of(&Record { parts: &self.parts, schema_version: RECORD_SCHEMA });
        let record = record.map_err(io::Error::other)?;
        let seal = Checksum::of(record.as_str().as_bytes());
        Ok(format!("{{\"record\":{record},\"seal\":\"{seal}\"}}\n"))
    }

    /// Returns whether the record can be read once it is written.
    pub(crate) fn is_valid(&self) -> bool {
        self.to_text().is_ok_and(|text| Self::parse(&text).as_ref() == Some(self))
    }

    /// Returns `None` unless the text is exactly what [`Retired::to_text`] would write, and its
    /// parts follow each other.
    fn parse(text: &str) -> Option<Self> {
        let value = Value::parse(text.strip_suffix('\n')?).ok()?;
        let Value::Array(parts) = value.get("record")?.get("parts")? else { return None };
        let parts = parts.iter().map(parse_part).collect::<Option<Vec<_>>>()?;
        let first = &parts.first()?.payload;
        // Without the parts before it, the first one is as its event says.
        let (mut next, mut offset) = (first.first, first.byte_end.checked_sub(first.bytes)?);
        let mut earlier = first.earlier;
        if (next == 1, offset == 0) != (earlier.is_none(), earlier.is_none()) {
            return None;
        }
        for part in &parts {
            let RetiredPart { event, payload, .. } = part;
            let follows = payload.first == next
                && payload.bus == first.bus
                && payload.last >= payload.first
                && event.index > payload.last
                && payload.byte_end > offset
                && payload.bytes == payload.byte_end - offset
                && payload.earlier == earlier;
            if !follows {
                return None;
            }
            (next, offset) = (payload.last.checked_add(1)?, payload.byte_end);
            earlier = Some(part.hash().ok()?);
        }
        let record = Self { parts };
        (record.to_text().ok()? == text).then_some(record)
    }

    /// Returns the record that a read of retired events reports as a system error.
    pub(crate) fn of(error: &io::Error) -> Option<&Arc<Self>> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).map(|RetiredPlace(retired)| retired)
    }

    /// Returns the system error for a read of retired events.
    pub(crate) fn error(self: &Arc<Self>) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, RetiredPlace(Arc::clone(self)))
    }
}

impl RetiredPart {
    /// Reads the part that an event of the chain records.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let payload = Some(event).filter(|event| event.event_type == RETIRED_TYPE)?.payload.value();
        let part = Self { as_of: event.as_of, event: event.head(), payload: parse_payload(&payload)? };
        part.is_recorded_by(event).then_some(part)
    }

    /// Binds the part after this one to it.
    fn hash(&self) -> io::Result<Checksum> {
        let text = Json::of(self).map_err(io::Error::other)?;
        Ok(Checksum::of(text.as_str().as_bytes()))
    }

    /// Returns whether an event of the chain records this part.
    pub(crate) fn is_recorded_by(&self, event: &Event) -> bool {
        event.event_type == RETIRED_TYPE
            && event.head() == self.event
            && event.as_of == self.as_of
            && Json::of(&self.payload).is_ok_and(|payload| payload == event.payload)
    }
}

impl fmt::Display for Retired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log starts at event {}", self.first_held())?;
        let Some(RetiredPart { payload, .. }) = self.parts.last() else { return Ok(()) };
        write!(f, "; events {} to {} were retired by {}, and ", payload.first, payload.last, payload.by)?;
        match &payload.kept_in {
            Some(place) => write!(f, "are kept in {place}")?,
            None => write!(f, "no copy was named")?,
        }
        match payload.first {
            1 => Ok(()),
            first => write!(f, " (events 1 to {} were retired earlier, see {RETIRED})", first - 1),
        }
    }
}

/// A read of retired events, as the source of a system error.
#[derive(Debug)]
struct RetiredPlace(Arc<Retired>);

impl fmt::Display for RetiredPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for RetiredPlace {}

fn parse_part(value: &Value) -> Option<RetiredPart> {
    let event = value.get("event")?;
    Some(RetiredPart {
        as_of: value.get("as_of")?.as_f64()?,
        event: Head {
            index: event.get("index")?.as_u64()?,
            checksum: Some(checksum(event.get("checksum")?)?),
        },
        payload: parse_payload(value.get("payload")?)?,
    })
}

fn parse_payload(payload: &Value) -> Option<RetiredPayload> {
    let number = |field| payload.get(field).and_then(Value::as_u64);
    Some(RetiredPayload {
        bus: checksum(payload.get("bus")?)?,
        by: payload.get("by")?.as_str()?.to_owned(),
        byte_end: number("byte_end")?,
        bytes: number("bytes")?,
        bytes_sealed: number("bytes_sealed")?,
        checksum: checksum(payload.get("checksum")?)?,
        earlier: match payload.get("earlier")? {
            Value::Null => None,
            earlier => Some(checksum(earlier)?),
        },
        first: number("first")?,
        kept_in: match payload.get("kept_in")? {
            Value::Null => None,
            place => Some(place.as_str()?.to_owned()),
        },
        last: number("last")?,
        schema_version: RETIRED_SCHEMA,
        segments: number("segments")?,
        sha256: checksum(payload.get("sha256")?)?,
    })
}

fn checksum(value: &Value) -> Option<Checksum> {
    value.as_str().and_then(Checksum::parse)
}

#[cfg(test)]
mod tests {
    use super::{Removal, Retired, RetiredPart};
    use crate::checksum::Checksum;
    use crate::head::Head;

    fn record(parts: u64) -> Retired {
        (1..=parts).fold(Retired::default(), |mut record, number| {
            let head = Head { index: 10 * number, checksum: Some(Checksum::of(b"last")) };
            let removal = Removal {
                bus: Checksum::of(b"first"),
                by: "anna".to_owned(),
                kept_in: (number % 2 == 1).then(|| "/backup".to_owned()),
                head,
                byte_end: 4000 * number,
                bytes_sealed: 300,
                segments: 1,
                sha256: Checksum::of(b"files"),
            };
            let payload = record.next_payload(removal).unwrap_or_else(|error| panic!("{error}"));
            let event = Head { index: 10 * number + 5, checksum: Some(Checksum::of(b"event")) };
            record.parts.push(RetiredPart { as_of: 1777593600.5, event, payload });
            record
        })
    }

    #[test]
    fn a_record_with_any_bit_flipped_is_not_read() {
        for parts in [1, 3] {
            let written = record(parts);
            let text = written.to_text().unwrap_or_default();
            assert_eq!(Retired::parse(&text).as_ref(), Some(&written));
            assert_eq!(written.first_held(), 10 * parts + 1);
            for bit in 0..text.len() * 8 {
                let mut changed = text.clone().into_bytes();
                changed[bit / 8] ^= 1 << (bit % 8);
                let read = std::str::from_utf8(&changed).ok().and_then(Retired::parse);
                assert_eq!(read, None, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_record_of_parts_that_do_not_follow_each_other_is_not_read() {
        let Retired { parts } = record(3);
        let mut without_earlier = parts[1].clone();
        without_earlier.payload.earlier = None;
        let mut with_earlier = parts[0].clone();
        with_earlier.payload.earlier = parts[1].payload.earlier;
        let mut swapped = parts.clone();
        swapped[0].payload.by = "otto".to_owned();
        for parts in [
            vec![],
            vec![parts[0].clone(), parts[2].clone()],
            vec![without_earlier],
            vec![with_earlier],
            swapped,
        ] {
            let text = Retired { parts }.to_text().unwrap_or_default();
            assert_eq!(Retired::parse(&text), None);
        }
    }

    /// Checking each part against all parts before it would take half a minute.
    #[test]
    fn a_record_of_thousands_of_parts_is_read() {
        let written = record(3_000);
        let text = written.to_text().unwrap_or_default();
        assert_eq!(Retired::parse(&text), Some(written));
    }

    #[test]
    fn a_record_is_built_again_from_the_parts_that_events_record() {
        let whole = record(4);
        let build = |positions: &[usize], last| {
            Retired::of_parts(positions.iter().map(|at| whole.parts[*at].clone()).collect(), last)
        };
        assert_eq!(build(&[3, 1, 0, 2], 40).as_ref(), Some(&whole));
        assert_eq!(build(&[3, 1, 0, 2], 20), whole.clone().before(21));
        assert_eq!(build(&[0, 1], 40), None);
        // The events of the first two parts were retired.
        let built = build(&[2, 3], 40);
        assert_eq!(built.as_ref().map(|built| built.parts()), Some(&whole.parts[2..]));
        let text = built.as_ref().and_then(|built| built.to_text().ok()).unwrap_or_default();
        assert_eq!(Retired::parse(&text), built);
        assert_eq!(built.and_then(|built| built.bus()), whole.bus());
        assert_eq!((whole.clone().before(10), whole.clone().before(11)), (None, build(&[0], 10)));
    }
}
