//! What both ends of the HTTP mirror have in common: the names on the wire, and packed bodies.
//!
//! Version 1 of the protocol is `docs/openapi.json`; a problem is an RFC 9457 problem detail.

use std::io::{self, Read};

use zero_bus::{Checksum, Head, Value};

/// The media type of lines.
pub(crate) const LINES: &str = "application/x-ndjson";
/// The header that says which event the first line of a page is.
pub(crate) const FIRST_INDEX: &str = "zero-first-index";
/// The problem type of a chain that differs from the one that is held.
pub(crate) const FORK: &str = "urn:zero-bus:problem:fork";
/// The problem type of a batch that does not begin where the receiver stands.
pub(crate) const POSITION: &str = "urn:zero-bus:problem:position";

/// The problem type of a held chain that is damaged.
pub(crate) const UNSOUND: &str = "urn:zero-bus:problem:unsound";

/// The largest window that unpacking keeps, as a power of two: 8 MiB, which RFC 8878 asks every decoder to support.
const WINDOW_LOG_MAX: u32 = 23;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// By the name that HTTP has for it, where there is one; `None` for any that is not taken.
    pub(crate) fn named(name: Option<&str>) -> Option<Self> {
        let Some(name) = name else { return Some(Self::Identity) };
        match name.trim().to_ascii_lowercase().as_str() {
            "identity" => Some(Self::Identity),
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why a body can't be unpacked.
#[derive(Debug)]
pub(crate) enum Spoilt {
    /// It becomes longer than the limit. No more than that was kept of it.
    TooLong,
    /// It is not what its encoding says.
    Broken(io::Error),
}

/// Unpacks a body as a stream, and stops at a limit of bytes: what a small body could blow up to is never held.
pub(crate) fn unpack(encoding: Encoding, packed: Vec<u8>, limit: usize) -> Result<Vec<u8>, Spoilt> {
    let unpacked = match encoding {
        Encoding::Identity => return if packed.len() > limit { Err(Spoilt::TooLong) } else { Ok(packed) },
        Encoding::Gzip => read_up_to(flate2::bufread::MultiGzDecoder::new(packed.as_slice()), limit),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(packed.as_slice()).map_err(Spoilt::Broken)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(Spoilt::Broken)?;
            read_up_to(decoder, limit)
        }
    };
    let unpacked = unpacked.map_err(Spoilt::Broken)?;
    if unpacked.len() > limit { Err(Spoilt::TooLong) } else { Ok(unpacked) }
}

/// Packs a body. Level 1: the lines of a log shrink to a tenth already, and both ends keep up with a disk.
pub(crate) fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    zstd::stream::encode_all(bytes, 1)
}

/// At most one byte more than the limit, which tells that there is more.
fn read_up_to(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines of a body, without their line breaks; the last may lack its own.
pub(crate) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = body.strip_suffix(b"\n").unwrap_or(body).split(|byte| *byte == b'\n');
    lines.take(if body.is_empty() { 0 } else { usize::MAX })
}

/// Where a receiver stands for a bus, as it says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Position {
    pub(crate) bus: Checksum,
    pub(crate) index: u64,
    pub(crate) checksum: Option<Checksum>,
}

impl Position {
    pub(crate) fn of(bus: Checksum, head: Head) -> Self {
        Self { bus, index: head.index, checksum: head.checksum }
    }

    /// The head in a position for this bus; `None` where it is none.
    pub(crate) fn read(value: &Value, bus: Checksum) -> Option<Head> {
        let text = |name| value.get(name).and_then(Value::as_str).and_then(Checksum::parse);
        let index = value.get("index").and_then(Value::as_u64)?;
        let checksum = match value.get("checksum")? {
            Value::Null => None,
            _ => Some(text("checksum")?),
        };
        (text("bus") == Some(bus) && checksum.is_some() == (index > 0)).then_some(Head { index, checksum })
    }
}

/// The beginning of what somebody sent, fit for a message.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(200)]).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn what_was_packed_comes_back() {
        let text = b"{}\n".repeat(1000);
        assert_eq!(unpack(Encoding::Zstd, pack(&text).unwrap(), 3000).unwrap(), text);
        assert_eq!(unpack(Encoding::Gzip, gzip(&text), 3000).unwrap(), text);
        assert_eq!(unpack(Encoding::Identity, text.clone(), 3000).unwrap(), text);
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for (encoding, bomb) in [(Encoding::Zstd, pack(&zeros).unwrap()), (Encoding::Gzip, gzip(&zeros))] {
            assert!(bomb.len() < 100_000, "{}", bomb.len());
            assert!(matches!(unpack(encoding, bomb.clone(), 1 << 20), Err(Spoilt::TooLong)));
            assert_eq!(unpack(encoding, bomb, 64 << 20).unwrap().len(), 64 << 20);
        }
    }

    #[test]
    fn a_window_beyond_what_decoders_must_support_is_refused() {
        let mut encoder = zstd::stream::read::Encoder::new(io::repeat(b'x').take(32 << 20), 1).unwrap();
        encoder.window_log(27).unwrap();
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).unwrap();
        assert!(matches!(unpack(Encoding::Zstd, packed, 64 << 20), Err(Spoilt::Broken(_))));
    }

    #[test]
    fn half_a_body_is_no_body() {
        for (encoding, whole) in
            [(Encoding::Zstd, pack(b"{}\n{}\n").unwrap()), (Encoding::Gzip, gzip(b"{}\n{}\n"))]
        {
            for end in 1..whole.len() {
                assert!(
                    matches!(unpack(encoding, whole[..end].to_vec(), 100), Err(Spoilt::Broken(_))),
                    "{encoding:?} {end}"
                );
            }
        }
    }

    #[test]
    fn lines_end_at_line_breaks_alone() {
        let split = |text: &'static str| lines(text.as_bytes()).collect::<Vec<_>>();
        assert!(split("").is_empty());
        assert_eq!(split("\n"), [b""]);
        assert_eq!(split("a\r\nb"), [b"a\r".as_slice(), b"b"]);
        assert_eq!(split("a\n\nb\n"), [b"a".as_slice(), b"", b"b"]);
    }
}
