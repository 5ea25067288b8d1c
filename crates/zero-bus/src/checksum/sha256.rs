//! A checksum and its text form.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::de::{self, Visitor};
use sha2::{Digest, Sha256};

/// A SHA-256 checksum. Its text form is `sha256:` and 64 lower-case hex digits, also in every serde
/// format.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(pub(super) [u8; 32]);

/// A text is not a checksum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// The text does not begin with `sha256:`.
    #[error("a checksum begins with `sha256:`")]
    MissingPrefix,
    /// The text has not 64 characters after `sha256:`.
    #[error("a checksum has 64 hex digits after `sha256:`, this one has {0} characters")]
    WrongLength(usize),
    /// A character after `sha256:` is not a digit or one of `a` to `f`.
    #[error("a checksum has lower-case hex digits after `sha256:`, this one has `{0}`")]
    NotHex(char),
}

impl Checksum {
    /// Length of the text form.
    pub(crate) const TEXT_BYTES: usize = 71;

    const PREFIX: &str = "sha256:";

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses the text form. As [`str::parse`], without the reason of a failure.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The checksum of a message.
    ///
    /// ```
    /// use zero_bus::Checksum;
    /// let checksum = Checksum::of(b"abc");
    /// assert_eq!(Checksum::parse(&checksum.to_string()), Some(checksum));
    /// ```
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The checksum of a message that `read` returns piece by piece. `read` fills a buffer and
    /// returns how many bytes it put there, 0 at the end.
    pub(crate) fn of_stream(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Self> {
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
        loop {
            match read(&mut buffer)? {
                0 => return Ok(Self(hasher.finalize().into())),
                length => hasher.update(&buffer[..length]),
            }
        }
    }

    /// The checksum of a message in two parts.
    pub(crate) fn of_parts(parts: [&[u8]; 2]) -> Self {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        Self(hasher.finalize().into())
    }

    /// Inserts `"checksum":"sha256:…",` into the text of an object.
    pub(crate) fn insert_member(&self, at: usize, out: &mut String) {
        let (key, end) = (br#""checksum":""#, br#"","#);
        let mut member = [0; 12 + Self::TEXT_BYTES + 2];
        member[..12].copy_from_slice(key);
        member[12..][..Self::TEXT_BYTES].copy_from_slice(self.to_text().as_bytes());
        member[12 + Self::TEXT_BYTES..].copy_from_slice(end);
        // The member is ASCII.
        out.insert_str(at, std::str::from_utf8(&member).unwrap_or_default());
    }

    /// The text form, without allocating.
    pub(crate) fn to_text(self) -> ChecksumText {
        let mut text = *b"sha256:0000000000000000000000000000000000000000000000000000000000000000";
        let (digits, _) = text[7..].as_chunks_mut::<8>();
        let (fours, _) = self.0.as_chunks::<4>();
        for (digits, four) in digits.iter_mut().zip(fours) {
            *digits = hex_digits(*four);
        }
        ChecksumText(text)
    }
}

/// The text form of a checksum.
pub(crate) struct ChecksumText([u8; Checksum::TEXT_BYTES]);

impl ChecksumText {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        // The text is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The eight hex digits of four bytes, computed in one word.
fn hex_digits(four: [u8; 4]) -> [u8; 8] {
    // Spread the nibbles over the bytes of the word.
    let mut nibbles = u64::from(u32::from_be_bytes(four));
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Adding 6 carries out of a nibble from 10 on. Those are letters: `a` is 39 after `0` + 10.
    let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes()
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Checksum {
    type Err = ChecksumError;

    /// ```
    /// use zero_bus::{Checksum, ChecksumError};
    /// let checksum = Checksum::of(b"abc");
    /// assert_eq!(checksum.to_string().parse(), Ok(checksum));
    /// assert_eq!("md5:00".parse::<Checksum>(), Err(ChecksumError::MissingPrefix));
    /// ```
    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        if let Some(checksum) = Self::parse(text) {
            return Ok(checksum);
        }
        let digits = text.strip_prefix(Self::PREFIX).ok_or(ChecksumError::MissingPrefix)?;
        match digits.chars().find(|digit| !matches!(digit, '0'..='9' | 'a'..='f')) {
            Some(other) => Err(ChecksumError::NotHex(other)),
            None => Err(ChecksumError::WrongLength(digits.len())),
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_text().as_str())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_text().as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Checksum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a checksum: `sha256:` and 64 lower-case hex digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Checksum, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}
