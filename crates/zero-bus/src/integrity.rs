//! One walk over a log from its start, judging each line by the one before: what verification, the audit
//! document and the naming of damage are made of.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::chain::{Head, Line, is_unfinished};
use crate::chunk::{self, Sound};
use crate::fault::{Fault, FaultKind};
use crate::lines::{Found, Lines};
use crate::storage::StorageFile;
use crate::sync_mark::SyncMark;

/// How far a walk is, handed to a progress callback: by one thread at a time, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes there are.
    pub bytes_total: u64,
}

/// The integrity verdict over a log: how far it is sound, and what ends the sound part.
///
/// Serializes as `{"events", "last_checksum", "ok", "reason"}`, with `byte_offset` where something is wrong
/// and `torn_bytes` where the tail is torn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// Where the sound part ends.
    pub head: Head,
    /// What follows it.
    pub finding: Finding,
}

/// What ends the sound part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The end of the log.
    Sound,
    /// An unfinished end, with nothing sound behind it: what a crash leaves. It is set aside when the bus is
    /// next opened for appending.
    Torn {
        /// Where it begins, in bytes from the start of the log.
        byte_offset: u64,
        /// How many bytes it has.
        bytes: u64,
    },
    /// The last event was synced whole, and only its beginning is there: the disk lost the rest, or somebody cut it.
    /// No crash of a program leaves this. It is set aside as a torn end is, and told.
    Truncated {
        /// Where it begins, in bytes from the start of the log.
        byte_offset: u64,
        /// How many bytes of it there are.
        bytes: u64,
    },
    /// A line that is wrong: damage or tampering.
    Fault(Fault),
    /// A line that is wrong, with sound ones behind it, none of which is known to have been synced: a crash may
    /// have left this, or somebody.
    Ambiguous(Fault),
    /// Nothing is wrong with what is there, but more was synced: the lock_file of the log knows of this many
    /// events.
    Missing(u64),
}

impl Integrity {
    /// Whether the log is sound to its end.
    pub fn ok(&self) -> bool {
        self.finding == Finding::Sound
    }

    /// `ok`, or what is wrong, in the words that other programs read.
    pub fn reason(&self) -> String {
        match &self.finding {
            Finding::Sound => "ok".to_owned(),
            Finding::Torn { bytes, .. } => {
                format!(
                    "torn tail after event {}: {} of an unfinished append",
                    self.head.index,
                    in_bytes(*bytes)
                )
            }
            Finding::Truncated { bytes, .. } => {
                let event = self.head.index + 1;
                format!(
                    "torn tail after event {}: {} of event {event}, which was synced whole",
                    self.head.index,
                    in_bytes(*bytes)
                )
            }
            Finding::Fault(fault) => fault.to_string(),
            Finding::Ambiguous(fault) => format!("undecided: {fault}"),
            Finding::Missing(events) => {
                format!("missing tail after event {}: {events} events were synced", self.head.index)
            }
        }
    }
}

fn in_bytes(bytes: u64) -> String {
    format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" })
}

impl Serialize for Integrity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.finding {
            Finding::Sound | Finding::Missing(_) => {}
            Finding::Torn { byte_offset, bytes } | Finding::Truncated { byte_offset, bytes } => {
                map.serialize_entry("byte_offset", byte_offset)?;
                map.serialize_entry("torn_bytes", bytes)?;
            }
            Finding::Fault(fault) | Finding::Ambiguous(fault) => {
                map.serialize_entry("byte_offset", &fault.byte_offset)?;
            }
        }
        map.serialize_entry("events", &self.head.index)?;
        map.serialize_entry("last_checksum", &self.head.checksum)?;
        map.serialize_entry("ok", &self.ok())?;
        map.serialize_entry("reason", &self.reason())?;
        map.end()
    }
}

/// Walks a log from its start up to `end`. `each` gets every line that has the shape of an event, counted from 1, also
/// those behind the first fault, which are no longer judged; what it gathers of them in a `T`, of one line or of many,
/// `merge` takes out in the order of the log, and with it the lines themselves, as in [`chunk::judge`]. `note` tells what
/// a crash can't have done.
pub(crate) fn walk<T: Default>(
    file: &Arc<dyn StorageFile>,
    end: u64,
    note: Option<SyncMark>,
    threads: NonZeroUsize,
    each: impl Fn(&mut T, u64, &Line<'_>, Option<usize>) + Sync,
    mut merge: impl FnMut(&mut T, &mut [u8]) -> io::Result<()> + Send,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> io::Result<Integrity> {
    let each_of_many =
        |gathered: &mut T, head: Head, line: &Line<'_>, place| each(gathered, head.index, line, place);
    let merge_many = |gathered: &mut T, sound: Sound, lines: &mut [u8]| {
        progress(Progress { bytes: sound.at, bytes_total: end });
        merge(gathered, lines)
    };
    let sound = chunk::judge(&**file, Sound::default(), end, note, threads, each_of_many, merge_many)?;
    // What is left: the end, or all from the first stretch on in which something is wrong.
    let mut lines = Lines::new(Arc::clone(file), sound.at, end);
    let mut walker = Walker::from(sound.head, note);
    let mut seen = sound.head.index;
    let mut reported = sound.at;
    let mut gathered = T::default();
    while let Some(found) = lines.next()? {
        let byte_offset = found.offset;
        walker.see(&found, |line| {
            seen += 1;
            each(&mut gathered, seen, line, None);
            merge(&mut gathered, &mut [])
        })?;
        if byte_offset - reported >= 1 << 20 {
            reported = byte_offset;
            progress(Progress { bytes: byte_offset, bytes_total: end });
        }
    }
    progress(Progress { bytes: end, bytes_total: end });
    Ok(walker.integrity(end))
}

/// Judges what stands behind a head, up to the end of the lines.
pub(crate) fn judge_rest(mut lines: Lines, head: Head, note: Option<SyncMark>) -> io::Result<Integrity> {
    let end = lines.end();
    let mut walker = Walker::from(head, note);
    while let Some(found) = lines.next()? {
        walker.see(&found, |_| Ok(()))?;
    }
    Ok(walker.integrity(end))
}

/// Judges lines one behind the other.
struct Walker {
    head: Head,
    note: Option<SyncMark>,
    fault: Option<Fault>,
    /// The faulty line has no line break, and is none that could have had one.
    unfinished: bool,
    /// A line that is sound by itself stands at the fault or behind it.
    sound_behind: bool,
}

impl Walker {
    fn from(head: Head, note: Option<SyncMark>) -> Self {
        Self { head, note, fault: None, unfinished: false, sound_behind: false }
    }

    /// Judges the next line. `each` gets it if it has the shape of an event.
    fn see(&mut self, found: &Found<'_>, each: impl FnOnce(&Line<'_>) -> io::Result<()>) -> io::Result<()> {
        let line = found.bytes.ok_or(FaultKind::LineTooLong).and_then(Line::read);
        if let Ok(line) = &line {
            each(line)?;
        }
        // Only asked once something is wrong: it costs a hash.
        let sound = |line: &Result<Line<'_>, FaultKind>| line.as_ref().is_ok_and(Line::is_valid_event);
        if self.fault.is_some() {
            self.sound_behind = self.sound_behind || sound(&line);
            return Ok(());
        }
        match line
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|line| self.is_remembered(line.verify_after(self.head)?))
        {
            Ok(head) => self.head = head,
            Err(kind) => {
                self.fault =
                    Some(Fault { event: self.head.index.saturating_add(1), byte_offset: found.offset, kind });
                self.unfinished = !found.terminated && is_unfinished(found.bytes);
                self.sound_behind = sound(&line);
            }
        }
        Ok(())
    }

    /// Whether a head is the one that was synced, where the note speaks of it.
    fn is_remembered(&self, head: Head) -> Result<Head, FaultKind> {
        match self.note {
            Some(note) if note.contradicts(head) => Err(FaultKind::ContradictsSyncMark),
            _ => Ok(head),
        }
    }

    /// The verdict over a log of this many bytes.
    fn integrity(self, bytes: u64) -> Integrity {
        let Self { head, note, fault, unfinished, sound_behind } = self;
        // What was synced no crash has changed; what was not, one may have.
        let synced = |byte_offset: u64| note.is_some_and(|note| byte_offset < note.bytes);
        let finding = match (fault, note) {
            (None, Some(note)) if note.head.index > head.index => Finding::Missing(note.head.index),
            (None, _) => Finding::Sound,
            (Some(Fault { byte_offset, .. }), Some(note)) if unfinished && bytes < note.bytes => {
                match note.head.index.checked_sub(head.index) {
                    Some(1) => Finding::Truncated { byte_offset, bytes: bytes - byte_offset },
                    _ => Finding::Missing(note.head.index),
                }
            }
            (Some(fault), Some(_))
                if synced(fault.byte_offset) || fault.kind == FaultKind::ContradictsSyncMark =>
            {
                Finding::Fault(fault)
            }
            (Some(Fault { byte_offset, .. }), note) if unfinished || (note.is_some() && !sound_behind) => {
                Finding::Torn { byte_offset, bytes: bytes - byte_offset }
            }
            (Some(fault), Some(_)) => Finding::Ambiguous(fault),
            (Some(fault), None) => Finding::Fault(fault),
        };
        Integrity { head, finding }
    }
}
