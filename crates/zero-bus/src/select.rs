//! Selects events of a log, on several threads.

use std::io;
use std::ops::Range;

use crate::chain::{Head, Line};
use crate::chunk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::log_file::VerifiedEnd;
use crate::reader::{Events, Reader};

impl Reader {
    /// Verifies the events from an index on, like [`Reader::events`], but on several threads. Calls
    /// `on_event` in order with those for which `matches` returns true. `matches` gets the type and
    /// the trace of each event.
    ///
    /// `on_event` is called by one thread at a time, but not always by the same one. Ends at the
    /// present end of the log.
    ///
    /// # Errors
    /// As [`Reader::events`], after all matching events before the fault were passed on; and the
    /// error that `on_event` returns.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Error};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for event_type in ["door.opened", "door.closed", "door.opened"] {
    ///     bus.append(Draft::new(event_type, 1777593600.0, &BTreeMap::from([("by", "cat")]))?)?;
    /// }
    /// let mut opened = Vec::new();
    /// bus.reader().select(1, |event_type, _| event_type == "door.opened", |event| {
    ///     opened.push(event.index);
    ///     Ok::<(), Error>(())
    /// })?;
    /// assert_eq!(opened, [1, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn select<E: From<Error> + Send>(
        &self,
        from: u64,
        matches: impl Fn(&str, Option<&str>) -> bool + Sync,
        on_event: impl FnMut(Event) -> Result<(), E> + Send,
    ) -> Result<Selected, E> {
        self.select_map(from, matches, |event| event, on_event)
    }

    /// Like [`Reader::select`], but calls `map` with each matching event on the thread that has
    /// verified it, and `on_value` in order with what `map` returns. Use it where `map` is the
    /// larger part of the work, such as hashing.
    ///
    /// # Errors
    /// As [`Reader::select`].
    pub fn select_map<T: Send, E: From<Error> + Send>(
        &self,
        from: u64,
        matches: impl Fn(&str, Option<&str>) -> bool + Sync,
        map: impl Fn(Event) -> T + Sync,
        mut on_value: impl FnMut(T) -> Result<(), E> + Send,
    ) -> Result<Selected, E> {
        let mut events = self.events(from)?;
        let visit = |selected: &mut Vec<T>, head: Head, line: &Line<'_>, _| {
            if matches(&line.event_type(), line.trace_id().as_deref()) {
                selected.extend(line.event(head).map(&map));
            }
        };
        let merge = |selected: &mut Vec<T>, _: &mut [u8]| selected.drain(..).try_for_each(&mut on_value);
        read_chunks(&mut events, visit, merge)?;
        for event in events.by_ref() {
            let event = event?;
            if matches(&event.event_type, event.trace_id.as_deref()) {
                on_value(map(event))?;
            }
        }
        Ok(Selected { last: events.head.index, torn_bytes: events.torn_bytes() })
    }

    /// Like [`Reader::select`], with the canonical lines of the events, without line breaks,
    /// instead of the events. `matches` also gets the time of each event. Copies nothing of a line
    /// that is canonical in the log.
    ///
    /// # Errors
    /// As [`Reader::select`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, Error};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let door = BTreeMap::from([("by", "cat")]);
    /// let event = bus.append(Draft::new("door.opened", 1777593600.0, &door)?)?;
    /// let mut lines = Vec::new();
    /// bus.reader().select_lines(1, |_, _, as_of| as_of > 0.0, |line| {
    ///     lines.push(line.to_vec());
    ///     Ok::<(), Error>(())
    /// })?;
    /// assert_eq!(lines, [event.line().into_bytes()]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn select_lines<E: From<Error> + Send>(
        &self,
        from: u64,
        matches: impl Fn(&str, Option<&str>, f64) -> bool + Sync,
        mut on_line: impl FnMut(&[u8]) -> Result<(), E> + Send,
    ) -> Result<Selected, E> {
        let mut events = self.events(from)?;
        let visit = |selected: &mut Vec<SelectedLine>, _: Head, line: &Line<'_>, start: Option<usize>| {
            if matches(&line.event_type(), line.trace_id().as_deref(), line.as_of()) {
                let bytes = line.canonical();
                selected.push(match start {
                    Some(start) => SelectedLine::InChunk(start..start + bytes.len()),
                    None => SelectedLine::Copied(bytes.to_vec()),
                });
            }
        };
        let merge = |selected: &mut Vec<SelectedLine>, lines: &mut [u8]| {
            selected.drain(..).try_for_each(|line| match line {
                SelectedLine::InChunk(range) => on_line(&lines[range]),
                SelectedLine::Copied(line) => on_line(&line),
            })
        };
        read_chunks(&mut events, visit, merge)?;
        for event in events.by_ref() {
            let event = event?;
            if matches(&event.event_type, event.trace_id.as_deref(), event.as_of) {
                on_line(event.line().as_bytes())?;
            }
        }
        Ok(Selected { last: events.head.index, torn_bytes: events.torn_bytes() })
    }
}

/// A line that was selected in a chunk.
enum SelectedLine {
    InChunk(Range<usize>),
    Copied(Vec<u8>),
}

/// Reads the entirely valid chunks of a log, see [`chunk::verify_chunks`]. Afterwards, `events`
/// has the rest: the last lines, or everything from the first chunk on that is not valid.
fn read_chunks<C: Default, E: From<Error> + Send>(
    events: &mut Events,
    visit: impl Fn(&mut C, Head, &Line<'_>, Option<usize>) + Sync,
    mut merge: impl FnMut(&mut C, &mut [u8]) -> Result<(), E> + Send,
) -> Result<(), E> {
    let (from, head, path) = (events.from, events.head, events.log_path());
    let Some(lines) = &mut events.lines else { return Ok(()) };
    let start = VerifiedEnd { head, offset: lines.offset() };
    let mut caller_error = None;
    let visit = |collector: &mut C, head: Head, line: &Line<'_>, line_start| {
        if head.index >= from {
            visit(collector, head, line, line_start);
        }
    };
    let merge = |collector: &mut C, _, lines: &mut [u8]| {
        merge(collector, lines).map_err(|error| {
            caller_error = Some(error);
            io::Error::other("the caller stopped the selection")
        })
    };
    let file = lines.file().clone();
    let verified =
        chunk::verify_chunks(&file, start, lines.end(), None, chunk::available_threads(), visit, merge);
    if let Some(error) = caller_error {
        return Err(error);
    }
    let verified = verified.map_err(Error::io("read it", &path))?;
    lines.seek(verified.offset);
    events.head = verified.head;
    Ok(())
}

/// Where a [`Reader::select`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The index of the last verified event.
    pub last: u64,
    /// Bytes of the torn tail after it; 0 without one.
    pub torn_bytes: u64,
}
