//! Reading and verifying single events, for programs that receive lines from elsewhere.

use super::line::Line;
use crate::event::{Event, MAX_LINE_BYTES};
use crate::fault::{Fault, FaultKind};
use crate::head::Head;

impl Event {
    /// Reads and verifies the line of the event after `head`, as a receiver of a log does. The line
    /// has no line break and may have any spelling that a log may hold. Costs one hash, and memory
    /// for the event.
    ///
    /// # Errors
    /// The first fault. Its `event` counts from `head`, its `byte_offset` is 0.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Event, Head};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let payload = BTreeMap::from([("by", "cat")]);
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &payload)?)?;
    /// let line = event.line();
    /// assert_eq!(Event::read(line.as_bytes(), Head::default()), Ok(event));
    /// assert!(Event::read(line.replace("cat", "dog").as_bytes(), Head::default()).is_err());
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn read(line: &[u8], head: Head) -> Result<Self, Fault> {
        Self::read_verified(line, |line| line.verify_after(head)).map_err(|kind| Fault {
            event: head.index.saturating_add(1),
            byte_offset: 0,
            kind,
        })
    }

    /// Reads and verifies the line of the event at `index`, without its link to the previous event.
    ///
    /// # Errors
    /// As [`Event::read`].
    pub fn read_alone(line: &[u8], index: u64) -> Result<Self, Fault> {
        Self::read_verified(line, |line| {
            if !line.has_schema() {
                return Err(FaultKind::UnsupportedSchema);
            }
            if line.index() != Some(index) {
                return Err(FaultKind::NonSequentialIndex);
            }
            line.verify_alone(index).map(|checksum| Head { index, checksum: Some(checksum) })
        })
        .map_err(|kind| Fault { event: index, byte_offset: 0, kind })
    }

    fn read_verified(
        line: &[u8],
        verify: impl FnOnce(&Line<'_>) -> Result<Head, FaultKind>,
    ) -> Result<Self, FaultKind> {
        if line.len() > MAX_LINE_BYTES {
            return Err(FaultKind::LineTooLong);
        }
        let line = Line::read(line)?;
        let head = verify(&line)?;
        // Unreachable: the time is a canonical float, and verifying returned a checksum.
        line.event(head).ok_or_else(|| FaultKind::WrongField("as_of", "is not a number".to_owned()))
    }
}
