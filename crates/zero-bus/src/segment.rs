//! A sealed segment: consecutive events of the log, compressed, in a file that never changes.
//!
//! The file is zstd in the seekable format: frames of about 1 MiB of the log, each with whole
//! lines, and at its end a seek table. Before the seek table is one more skippable frame, the
//! *index*, which only this library reads: it tells which events the segment and each frame hold,
//! how late they are, and the SHA-256 of each frame's compressed bytes. Every byte of the file is
//! checked when it is used: a frame against its hash, the rest against what the index must make of
//! it.
//!
//! Formats: RFC 8878 (zstd) and `zstd_seekable_compression_format.md` 0.1.0 of the zstd project.
//! `docs/FORMAT.md` describes index and file name.

use std::io;
use std::ops::Range;

use serde::Serialize;

use crate::canonical::{Json, Value, is_canonical};
use crate::checksum::Checksum;
use crate::event::MAX_LINE_BYTES;
use crate::fault::{Fault, FaultKind};
use crate::storage::{Access, Storage, StorageFile, read_exact_at};

/// The subdirectory of a bus that holds its sealed segments.
pub const SEGMENTS: &str = "segments";

/// Values of `schema_version` in the index of a segment: the one that is written, and an earlier
/// one, whose frames lack [`Frame::latest`].
const SCHEMA: &str = "zero.bus.segment.v2";
const SCHEMA_1: &str = "zero.bus.segment.v1";

/// What is before the value of the last member of an index.
const SEAL_MEMBER: &str = r#","seal":""#;

/// Plain bytes of a frame, apart from the part of its last line that extends past them.
pub(crate) const FRAME_BYTES: u64 = 1 << 20;

/// No frame that this library writes is longer: white space, lines, and a last line.
const MAX_FRAME_BYTES: u64 = 3 * FRAME_BYTES + MAX_LINE_BYTES as u64;

/// Bound for the memory that an index takes.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Compressed bytes that a [`SegmentWriter`] writes before it syncs them.
const UNSYNCED_BYTES: u64 = 1 << 20;

/// Skippable frames, as little-endian numbers: the index, and the seek table with its end.
const INDEX_MAGIC: u32 = 0x184D_2A50;
const SEEK_TABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// Bytes of the header of a skippable frame, of an entry of the seek table, and of its footer.
const SKIPPABLE_HEADER_BYTES: u64 = 8;
const ENTRY_BYTES: u64 = 8;
const FOOTER_BYTES: u64 = 9;

/// Which part of the log a segment holds, as its file name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Index of its first event, and of its last one.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Its bytes in the log.
    pub(crate) bytes: Range<u64>,
}

impl Span {
    /// Returns the name of the segment's file in the bus directory.
    pub(crate) fn path(&self) -> String {
        let Self { first, last, bytes: Range { start, end } } = self;
        format!("{SEGMENTS}/events-{first:012}-{last:012}-{start}-{end}.jsonl.zst")
    }

    /// Reads a file name in the subdirectory. Returns `None` for any other file.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let numbers = name.strip_prefix("events-")?.strip_suffix(".jsonl.zst")?;
        let mut numbers = numbers.splitn(4, '-').map(|number| number.parse().ok());
        let mut number = || numbers.next().flatten();
        let span = Self { first: number()?, last: number()?, bytes: number()?..number()? };
        // Only a name that `path` would make counts.
        let is_named = span.path().strip_prefix(SEGMENTS)?.strip_prefix('/')? == name;
        (is_named && span.first <= span.last && !span.bytes.is_empty()).then_some(span)
    }

    /// Returns the fault of a segment that is not what it must be.
    fn fault(&self, problem: impl Into<String>) -> io::Error {
        let kind = FaultKind::Segment(self.path(), problem.into());
        Fault { event: self.first, byte_offset: self.bytes.start, kind }.into()
    }
}

/// One compressed frame of a segment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// Index of the first event in it.
    pub(crate) first: u64,
    /// Its bytes in the log.
    pub(crate) bytes: Range<u64>,
    /// Its bytes in the file of the segment.
    stored: Range<u64>,
    /// SHA-256 of its bytes in the file.
    sha256: Checksum,
    /// No event of the log up to the end of this frame is later. [`f64::MAX`] if that is unknown.
    pub(crate) latest: f64,
}

/// A segment that was opened: its file, and its frames in order.
pub(crate) struct Segment {
    pub(crate) span: Span,
    pub(crate) frames: Vec<Frame>,
    file: Box<dyn StorageFile>,
}

impl Segment {
    /// Opens a segment and reads its index. Costs three reads.
    ///
    /// # Errors
    /// A [`Fault`] in an [`io::Error`] if the file is missing or its end is invalid.
    pub(crate) fn open(storage: &dyn Storage, span: &Span) -> io::Result<Self> {
        Self::open_as(storage, &span.path(), span)
    }

    /// As [`Segment::open`], under another name.
    pub(crate) fn open_as(storage: &dyn Storage, path: &str, span: &Span) -> io::Result<Self> {
        let file = storage.open(path, Access::Read).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => span.fault("is missing"),
            _ => error,
        })?;
        let changed = |part| span.fault(format!("{part} was changed"));
        let size = file.size()?;
        let mut ending = [0; (ENTRY_BYTES + FOOTER_BYTES) as usize];
        let ending_at = size.checked_sub(ending.len() as u64).ok_or_else(|| span.fault("is too short"))?;
        read_exact_at(&*file, &mut ending, ending_at)?;
        // The last entry of the seek table is that of the index.
        let index_bytes = u64::from(number_at(&ending, 0));
        let frames = u64::from(number_at(&ending, 8));
        let end_bytes = index_bytes + SKIPPABLE_HEADER_BYTES + frames * ENTRY_BYTES + FOOTER_BYTES;
        if index_bytes > MAX_INDEX_BYTES || end_bytes > size || frames > index_bytes {
            return Err(changed("its seek table"));
        }
        let mut end = vec![0; end_bytes as usize];
        read_exact_at(&*file, &mut end, size - end_bytes)?;
        let text = end.get(SKIPPABLE_HEADER_BYTES as usize..index_bytes as usize);
        let text =
            text.and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(|| changed("its index"))?;
        let (written_span, frames) = parse_index(text).ok_or_else(|| changed("its index"))?;
        if written_span != *span {
            return Err(span.fault(format!("holds what belongs in {}", written_span.path())));
        }
        if frames.last().map_or(0, |frame| frame.stored.end) != size - end_bytes {
            return Err(span.fault("has another length than its index says"));
        }
        if write_end(text, &frames) != end {
            return Err(changed("its seek table, or the header of its index,"));
        }
        Ok(Self { span: span.clone(), frames, file })
    }

    /// Returns the number of the frame that holds a byte of the log.
    pub(crate) fn frame_at(&self, offset: u64) -> usize {
        self.frames.partition_point(|frame| frame.bytes.end <= offset)
    }

    /// Returns the frame that holds an event.
    pub(crate) fn frame_of(&self, index: u64) -> &Frame {
        let after = self.frames.partition_point(|frame| frame.first <= index);
        &self.frames[after.saturating_sub(1)]
    }

    /// Returns a time that no event up to the end of this segment is later than.
    pub(crate) fn latest(&self) -> f64 {
        self.frames.last().map_or(f64::MAX, |frame| frame.latest)
    }

    /// Returns the fault of a frame that is not what it must be.
    pub(crate) fn frame_fault(&self, number: usize, problem: &str) -> Fault {
        let frame = &self.frames[number];
        let kind = FaultKind::Segment(self.span.path(), format!("frame {} {problem}", number + 1));
        Fault { event: frame.first, byte_offset: frame.bytes.start, kind }
    }

    /// Reads and decompresses a frame into `plain`, whose content is replaced.
    ///
    /// # Errors
    /// A [`Fault`] in an [`io::Error`] if the frame was changed.
    pub(crate) fn read_frame(
        &self,
        number: usize,
        reader: &mut FrameReader,
        plain: &mut Vec<u8>,
    ) -> io::Result<()> {
        let frame = &self.frames[number];
        let fault = |problem: &str| -> io::Error { self.frame_fault(number, problem).into() };
        let stored_bytes = length(&frame.stored);
        if reader.stored.len() < stored_bytes {
            reader.stored.resize(stored_bytes, 0);
        }
        let stored = &mut reader.stored[..stored_bytes];
        read_exact_at(&*self.file, stored, frame.stored.start)?;
        if Checksum::of(stored) != frame.sha256 {
            return Err(fault("was changed"));
        }
        reader.decompressor.decompress(stored, length(&frame.bytes), plain).map_err(|error| {
            match error.kind() {
                io::ErrorKind::Unsupported => error,
                _ => fault(&format!("cannot be unpacked: {error}")),
            }
        })?;
        if plain.len() != length(&frame.bytes) {
            return Err(fault(&format!("holds {} bytes, not {}", plain.len(), length(&frame.bytes))));
        }
        Ok(())
    }
}

/// What reading a frame needs, for any number of frames.
#[derive(Default)]
pub(crate) struct FrameReader {
    /// The compressed bytes of a frame.
    stored: Vec<u8>,
    decompressor: codec::Decompressor,
}

/// Writes a segment, frame by frame.
pub(crate) struct SegmentWriter {
    file: Box<dyn StorageFile>,
    frames: Vec<Frame>,
    /// Where the next frame goes, in the log and in the file.
    offset: u64,
    stored: u64,
    /// Bytes of the file that are synced.
    synced: u64,
    /// See [`Frame::latest`]; `None` before the first event of the log.
    latest: Option<f64>,
    compressor: codec::Compressor,
}

impl SegmentWriter {
    /// Begins a segment of the log from `offset` on in an empty file. No event before it is later
    /// than `latest`.
    pub(crate) fn new(file: Box<dyn StorageFile>, offset: u64, latest: Option<f64>) -> io::Result<Self> {
        let compressor = codec::Compressor::new()?;
        Ok(Self { file, frames: Vec::new(), offset, stored: 0, synced: 0, latest, compressor })
    }

    /// Returns the latest time of an event of the log up to here.
    pub(crate) fn latest(&self) -> Option<f64> {
        self.latest
    }

    /// Byte offset of the next frame in the log.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends whole lines of the log as one frame. `first` is the index of their first event, and
    /// `latest` the latest time of an event in them.
    ///
    /// Syncs the file now and then, so that no sync of an appender has to wait for all of it.
    pub(crate) fn append(&mut self, lines: &[u8], first: u64, latest: f64) -> io::Result<()> {
        let compressed = self.compressor.compress(lines)?;
        self.file.append(&compressed)?;
        let latest = self.latest.map_or(latest, |before| before.max(latest));
        let (end, stored_end) = (self.offset + lines.len() as u64, self.stored + compressed.len() as u64);
        self.frames.push(Frame {
            first,
            bytes: self.offset..end,
            stored: self.stored..stored_end,
            sha256: Checksum::of(&compressed),
            latest,
        });
        (self.offset, self.stored, self.latest) = (end, stored_end, Some(latest));
        if self.stored - self.synced >= UNSYNCED_BYTES {
            self.file.sync()?;
            self.synced = self.stored;
        }
        Ok(())
    }

    /// Writes the end of a segment whose last event is `last`, and syncs the file. Returns what the
    /// segment holds, and its size. Not to be called before a frame was appended.
    pub(crate) fn finish(self, last: u64) -> io::Result<(Span, u64)> {
        let first = self.frames.first().map_or(last, |frame| frame.first);
        let start = self.frames.first().map_or(self.offset, |frame| frame.bytes.start);
        let span = Span { first, last, bytes: start..self.offset };
        let text = write_index(&span, &self.frames)?;
        if text.len() as u64 + SKIPPABLE_HEADER_BYTES > MAX_INDEX_BYTES {
            return Err(io::Error::other("the segment has too many frames for its index"));
        }
        self.file.append(&write_end(&text, &self.frames))?;
        self.file.sync()?;
        Ok((span, self.file.size()?))
    }
}

/// The index, as it is serialized.
#[derive(Serialize)]
struct Index<'a> {
    byte_end: u64,
    byte_start: u64,
    first: u64,
    /// For each frame: its first event, its compressed and its plain length, its SHA-256, and
    /// from version 2 on [`Frame::latest`].
    frames: Vec<(u64, u64, u64, Checksum, f64)>,
    last: u64,
    schema_version: &'a str,
}

/// Returns the index as a canonical object. Its last member `seal` is the checksum of the object
/// without it.
fn write_index(span: &Span, frames: &[Frame]) -> io::Result<String> {
    let stored_bytes = |frame: &Frame| frame.stored.end - frame.stored.start;
    let plain_bytes = |frame: &Frame| frame.bytes.end - frame.bytes.start;
    let entry =
        |frame: &Frame| (frame.first, stored_bytes(frame), plain_bytes(frame), frame.sha256, frame.latest);
    let index = Index {
        byte_end: span.bytes.end,
        byte_start: span.bytes.start,
        first: span.first,
        frames: frames.iter().map(entry).collect(),
        last: span.last,
        schema_version: SCHEMA,
    };
    let unsealed = Json::of(&index).map_err(io::Error::other)?;
    let seal = Checksum::of(unsealed.as_str().as_bytes()).to_text();
    let members = unsealed.as_str().strip_suffix('}').unwrap_or_default();
    Ok(format!(r#"{members}{SEAL_MEMBER}{}"}}"#, seal.as_str()))
}

/// Reads an index. Returns `None` unless it is canonical, sealed and in order.
fn parse_index(text: &str) -> Option<(Span, Vec<Frame>)> {
    let (members, seal) = text.strip_suffix("\"}")?.rsplit_once(SEAL_MEMBER)?;
    if Checksum::of_parts([members.as_bytes(), b"}"]) != Checksum::parse(seal)? || !is_canonical(text) {
        return None;
    }
    let value = Value::parse(text).ok()?;
    let number = |field| value.get(field).and_then(Value::as_u64);
    let schema = value.get("schema_version")?.as_str()?;
    let span = Span {
        first: number("first")?,
        last: number("last")?,
        bytes: number("byte_start")?..number("byte_end")?,
    };
    let Value::Array(entries) = value.get("frames")? else { return None };
    let (mut frames, mut offset, mut stored) = (Vec::new(), span.bytes.start, 0_u64);
    for entry in entries {
        let Value::Array(entry) = entry else { return None };
        let (first, stored_bytes, plain_bytes, sha256, latest) = match (schema, &entry[..]) {
            (SCHEMA, [first, stored_bytes, plain_bytes, sha256, latest]) => {
                (first, stored_bytes, plain_bytes, sha256, latest.as_f64()?)
            }
            (SCHEMA_1, [first, stored_bytes, plain_bytes, sha256]) => {
                (first, stored_bytes, plain_bytes, sha256, f64::MAX)
            }
            _ => return None,
        };
        let plain_bytes = plain_bytes.as_u64().filter(|bytes| (1..=MAX_FRAME_BYTES).contains(bytes))?;
        let stored_bytes = stored_bytes.as_u64().filter(|bytes| (1..=2 * MAX_FRAME_BYTES).contains(bytes))?;
        frames.push(Frame {
            first: first.as_u64()?,
            bytes: offset..offset.checked_add(plain_bytes)?,
            stored: stored..stored + stored_bytes,
            sha256: Checksum::parse(sha256.as_str()?)?,
            latest,
        });
        offset += plain_bytes;
        stored += stored_bytes;
    }
    let is_in_order = frames.first()?.first == span.first
        && offset == span.bytes.end
        && frames.is_sorted_by(|frame, next| frame.first < next.first && frame.latest <= next.latest);
    is_in_order.then_some((span, frames))
}

/// Returns what follows the frames in the file: the index and the seek table.
fn write_end(index: &str, frames: &[Frame]) -> Vec<u8> {
    let index_bytes = index.len() as u32 + SKIPPABLE_HEADER_BYTES as u32;
    let entries = frames.iter().map(|frame| (length(&frame.stored) as u32, length(&frame.bytes) as u32));
    // A skippable frame holds no plain bytes.
    let entries: Vec<(u32, u32)> = entries.chain([(index_bytes, 0)]).collect();
    let table_bytes = entries.len() as u32 * ENTRY_BYTES as u32 + FOOTER_BYTES as u32;
    let mut end = Vec::new();
    let mut put = |number: u32| end.extend_from_slice(&number.to_le_bytes());
    put(INDEX_MAGIC);
    put(index.len() as u32);
    end.extend_from_slice(index.as_bytes());
    let mut put = |number: u32| end.extend_from_slice(&number.to_le_bytes());
    put(SEEK_TABLE_MAGIC);
    put(table_bytes);
    entries.iter().for_each(|(stored, plain)| {
        put(*stored);
        put(*plain);
    });
    put(entries.len() as u32);
    // The descriptor: the entries have no checksums.
    end.push(0);
    end.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    end
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn length(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}

/// Compression, if this crate was built with it.
#[cfg(feature = "seal")]
mod codec {
    use std::io;

    /// The default of zstd.
    const LEVEL: i32 = 3;

    pub(super) struct Compressor(zstd::bulk::Compressor<'static>);

    impl Compressor {
        pub(super) fn new() -> io::Result<Self> {
            // Without zstd's own checksum of the content: the index has a better one, and each
            // event has, too.
            Ok(Self(zstd::bulk::Compressor::new(LEVEL)?))
        }

        pub(super) fn compress(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
            self.0.compress(plain)
        }
    }

    /// Takes memory only once it is used.
    #[derive(Default)]
    pub(super) struct Decompressor(Option<zstd::bulk::Decompressor<'static>>);

    impl Decompressor {
        /// Replaces the content of `plain`. Fails if there are more bytes than `plain_bytes` and
        /// than `plain` has room for.
        pub(super) fn decompress(
            &mut self,
            stored: &[u8],
            plain_bytes: usize,
            plain: &mut Vec<u8>,
        ) -> io::Result<()> {
            plain.clear();
            plain.reserve(plain_bytes);
            self.0.get_or_insert_default().decompress_to_buffer(stored, plain)?;
            Ok(())
        }
    }
}

/// Stands for compression in a program that was built without it.
#[cfg(not(feature = "seal"))]
mod codec {
    use std::io;

    const PROBLEM: &str = "the events are in a sealed segment, and this program was built without the feature `seal`, \
                           which reads them; build it with `--features seal`";

    pub(super) struct Compressor;

    impl Compressor {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::Error::new(io::ErrorKind::Unsupported, PROBLEM))
        }

        pub(super) fn compress(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
            Err(io::Error::new(io::ErrorKind::Unsupported, PROBLEM))
        }
    }

    #[derive(Default)]
    pub(super) struct Decompressor;

    impl Decompressor {
        pub(super) fn decompress(&mut self, _: &[u8], _: usize, _: &mut Vec<u8>) -> io::Result<()> {
            Err(io::Error::new(io::ErrorKind::Unsupported, PROBLEM))
        }
    }
}
