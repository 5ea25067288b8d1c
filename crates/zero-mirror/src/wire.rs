//! What both ends of the HTTP protocol share: names, encodings, and the framing of lines.
//!
//! `docs/openapi.json` describes version 1 of the protocol.

use std::io::{self, Read};

/// The media type of lines.
pub(crate) const LINES_MEDIA_TYPE: &str = "application/x-ndjson";
/// The header with the index of a page's first event.
pub(crate) const FIRST_INDEX_HEADER: &str = "zero-first-index";

/// Problem type: the batch belongs to another chain than the receiver's.
pub(crate) const FORK: &str = "urn:zero-bus:problem:fork";
/// Problem type: the batch does not start after the receiver's last event.
pub(crate) const POSITION: &str = "urn:zero-bus:problem:position";
/// Problem type: the receiver's copy of the chain is damaged.
pub(crate) const UNSOUND: &str = "urn:zero-bus:problem:unsound";

/// Largest zstd window that a decoder allocates, as a power of two: 8 MiB, which RFC 8878
/// recommends every decoder to support.
const MAX_WINDOW_LOG: u32 = 23;
/// The text of zstd's error `ZSTD_error_frameParameter_windowTooLarge`; its code is lost in an
/// `io::Error`.
const WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";
/// A log compresses to a tenth at level 1 already, and both ends keep up with a disk.
const ZSTD_LEVEL: i32 = 1;

/// The content coding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Reads the value of the header `Content-Encoding`, if there is one. Returns `None` for an
    /// unsupported coding.
    pub(crate) fn from_header(value: Option<&str>) -> Option<Self> {
        let Some(value) = value else { return Some(Self::Identity) };
        match value.trim().to_ascii_lowercase().as_str() {
            "identity" => Some(Self::Identity),
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why a body cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecompressError {
    #[error("it is too long")]
    TooLong,
    /// Its zstd window is larger than [`MAX_WINDOW_LOG`].
    #[error("its zstd window is larger than 8 MiB")]
    WindowTooLarge,
    #[error("it is corrupt: {0}")]
    Corrupt(#[source] io::Error),
}

/// Decompresses a body. Stops as soon as the result exceeds `max_bytes`, so a decompression bomb is
/// never held in memory.
pub(crate) fn decompress(
    encoding: Encoding,
    body: Vec<u8>,
    max_bytes: usize,
) -> Result<Vec<u8>, DecompressError> {
    use DecompressError::{Corrupt, TooLong, WindowTooLarge};
    let decompressed = match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => read_up_to(flate2::bufread::MultiGzDecoder::new(body.as_slice()), max_bytes),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body.as_slice()).map_err(Corrupt)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(Corrupt)?;
            read_up_to(decoder, max_bytes)
        }
    };
    let decompressed = decompressed.map_err(|error| {
        if encoding == Encoding::Zstd && error.to_string() == WINDOW_TOO_LARGE {
            WindowTooLarge
        } else {
            Corrupt(error)
        }
    })?;
    if decompressed.len() > max_bytes { Err(TooLong) } else { Ok(decompressed) }
}

/// Compresses a body with zstd.
pub(crate) fn compress(body: &[u8]) -> io::Result<Vec<u8>> {
    zstd::stream::encode_all(body, ZSTD_LEVEL)
}

/// Reads at most one byte more than `max_bytes`. That byte tells the caller that there is more.
fn read_up_to(reader: impl Read, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max_bytes as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines of a body without their line breaks. The last line may lack its own.
pub(crate) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = body.strip_suffix(b"\n").unwrap_or(body).split(|byte| *byte == b'\n');
    // Splitting an empty body would yield one empty line.
    lines.take(if body.is_empty() { 0 } else { usize::MAX })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::best());
        encoder.read_to_end(&mut compressed).unwrap();
        compressed
    }

    #[test]
    fn decompress_restores_what_was_compressed() {
        let text = b"{}\n".repeat(1000);
        assert_eq!(decompress(Encoding::Zstd, compress(&text).unwrap(), 3000).unwrap(), text);
        assert_eq!(decompress(Encoding::Gzip, gzip(&text), 3000).unwrap(), text);
        assert_eq!(decompress(Encoding::Identity, text.clone(), 3000).unwrap(), text);
    }

    #[test]
    fn decompress_stops_a_bomb_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for (encoding, bomb) in [(Encoding::Zstd, compress(&zeros).unwrap()), (Encoding::Gzip, gzip(&zeros))]
        {
            assert!(bomb.len() < 100_000, "{}", bomb.len());
            let refused = decompress(encoding, bomb.clone(), 1 << 20);
            assert!(matches!(refused, Err(DecompressError::TooLong)));
            assert_eq!(decompress(encoding, bomb, 64 << 20).unwrap().len(), 64 << 20);
        }
        assert!(matches!(decompress(Encoding::Identity, zeros, 1 << 20), Err(DecompressError::TooLong)));
    }

    #[test]
    fn decompress_refuses_a_window_that_decoders_need_not_support() {
        let mut encoder = zstd::stream::read::Encoder::new(io::repeat(b'x').take(32 << 20), 1).unwrap();
        encoder.window_log(27).unwrap();
        let mut compressed = Vec::new();
        encoder.read_to_end(&mut compressed).unwrap();
        let refused = decompress(Encoding::Zstd, compressed, 64 << 20);
        assert!(matches!(refused, Err(DecompressError::WindowTooLarge)), "{refused:?}");
    }

    #[test]
    fn decompress_refuses_a_truncated_body() {
        let text = b"{}\n{}\n";
        for (encoding, whole) in [(Encoding::Zstd, compress(text).unwrap()), (Encoding::Gzip, gzip(text))] {
            for end in 1..whole.len() {
                let refused = decompress(encoding, whole[..end].to_vec(), 100);
                assert!(matches!(refused, Err(DecompressError::Corrupt(_))), "{encoding:?} {end}");
            }
        }
    }

    #[test]
    fn only_a_line_feed_ends_a_line() {
        let split = |text: &'static str| lines(text.as_bytes()).collect::<Vec<_>>();
        assert!(split("").is_empty());
        assert_eq!(split("\n"), [b""]);
        assert_eq!(split("a\r\nb"), [b"a\r".as_slice(), b"b"]);
        assert_eq!(split("a\n\nb\n"), [b"a".as_slice(), b"", b"b"]);
    }
}
