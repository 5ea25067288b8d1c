//! The secret that a client of a receiver shows.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zero_bus::Checksum;

use crate::error::{Error, Result};

/// The variable that holds the token.
const VARIABLE: &str = "ZERO_MIRROR_TOKEN";
/// The variable that names the file that holds the token.
const FILE_VARIABLE: &str = "ZERO_MIRROR_TOKEN_FILE";
/// Most characters a token may have.
const MAX_LENGTH: usize = 512;

/// A bearer token (RFC 6750). Says what it is only to who asks by [`Token::reveal`].
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Makes a new one: 256 bits from the operating system, written so that scanners for leaked secrets can find it.
    ///
    /// # Errors
    /// [`Error::Refused`] where the system has no randomness to give.
    pub fn generate() -> Result<Self> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits)
            .map_err(|error| refused("the operating system's randomness", &error.to_string()))?;
        let mut text = "zero_mirror_".to_owned();
        for byte in bits {
            // Into a string, which takes everything.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    /// Takes a token as text; `None` where it is none: empty, too long, or with something in it that no header takes.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// What the environment says: the token in `ZERO_MIRROR_TOKEN`, or the file named by `ZERO_MIRROR_TOKEN_FILE`, which
    /// nobody but its owner may read. `None` where neither is set.
    ///
    /// # Errors
    /// [`Error::Refused`] where both are set, the file can't be read or others may read it, or there is no token in it.
    pub fn from_environment() -> Result<Option<Self>> {
        let no_token = |place: &str| refused(place, "holds no token: one line of visible characters");
        match (std::env::var_os(VARIABLE), std::env::var_os(FILE_VARIABLE)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(refused(VARIABLE, &format!("{FILE_VARIABLE} is set too; unset one"))),
            (Some(token), None) => {
                token.to_str().and_then(Self::parse).map(Some).ok_or_else(|| no_token(VARIABLE))
            }
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                let text = read_private(&path, 4 << 10)?;
                Self::parse(text.trim()).map(Some).ok_or_else(|| no_token(&path.display().to_string()))
            }
        }
    }

    /// The token itself, for the one place where it has to be shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of a token at rest. One round of SHA-256 is enough: the token has 256 random bits, so there is nothing
    /// that a slow hash would make harder to guess.
    pub(crate) fn digest(shown: &[u8]) -> Checksum {
        Checksum::of(shown)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

/// Reads a file of text that nobody but its owner may read, up to a number of bytes.
pub(crate) fn read_private(path: &Path, at_most: u64) -> Result<String> {
    let name = path.display().to_string();
    let no = |problem: &dyn fmt::Display| refused(&name, &format!("cannot read it: {problem}"));
    let file = File::open(path).map_err(|error| no(&error))?;
    let metadata = file.metadata().map_err(|error| no(&error))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refused(&name, "others may read it; run: chmod 600 on it"));
    }
    let mut text = String::new();
    file.take(at_most + 1).read_to_string(&mut text).map_err(|error| no(&error))?;
    if text.len() as u64 > at_most {
        return Err(refused(&name, &format!("is longer than {at_most} bytes")));
    }
    Ok(text)
}

/// What can't be done so, with a name that is no secret.
pub(crate) fn refused(destination: &str, problem: &str) -> Error {
    Error::Refused { destination: destination.to_owned(), problem: problem.to_owned() }
}
