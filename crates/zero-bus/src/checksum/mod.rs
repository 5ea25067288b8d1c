//! A checksum and its written form.

mod pair;

pub(crate) use pair::Pair;

use std::fmt;

use sha2::{Digest, Sha256};

/// A SHA-256 checksum, written `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum([u8; 32]);

impl Checksum {
    /// Bytes of the written form.
    pub(crate) const SPELLED_BYTES: usize = 71;

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the written form; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The checksum of some bytes.
    ///
    /// ```
    /// use zero_bus::Checksum;
    /// let checksum = Checksum::of(b"abc");
    /// assert_eq!(Checksum::parse(&checksum.to_string()), Some(checksum));
    /// ```
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The checksum of two parts, one behind the other.
    pub(crate) fn of_parts(parts: [&[u8]; 2]) -> Self {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        Self(hasher.finalize().into())
    }

    /// Puts the member of an object that holds it, and the comma behind it, in a place.
    pub(crate) fn insert_member(&self, place: usize, out: &mut String) {
        let (key, end) = (br#""checksum":""#, br#"","#);
        let mut member = [0; 12 + Self::SPELLED_BYTES + 2];
        member[..12].copy_from_slice(key);
        member[12..][..Self::SPELLED_BYTES].copy_from_slice(self.spelled().as_bytes());
        member[12 + Self::SPELLED_BYTES..].copy_from_slice(end);
        // ASCII, as it was made.
        out.insert_str(place, std::str::from_utf8(&member).unwrap_or_default());
    }

    /// The written form.
    pub(crate) fn spelled(&self) -> Spelled {
        let mut text = *b"sha256:0000000000000000000000000000000000000000000000000000000000000000";
        let (digits, _) = text[7..].as_chunks_mut::<8>();
        let (fours, _) = self.0.as_chunks::<4>();
        for (digits, four) in digits.iter_mut().zip(fours) {
            *digits = hex(*four);
        }
        Spelled(text)
    }
}

/// The written form of a checksum.
pub(crate) struct Spelled([u8; Checksum::SPELLED_BYTES]);

impl Spelled {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        // ASCII, as it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Eight digits of four bytes, all at once.
fn hex(four: [u8; 4]) -> [u8; 8] {
    let mut nibbles = u64::from(u32::from_be_bytes(four));
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Adding 6 carries out of a nibble from 10 on: those are letters, which begin 39 behind the digits' end.
    let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spelled().as_str())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
