//! Bearer tokens (RFC 6750).

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::private_file::read_private_file;

/// Maximum length of a token in characters.
const MAX_TOKEN_LENGTH: usize = 512;
/// Maximum size of a file that contains one token.
const MAX_TOKEN_FILE_BYTES: u64 = 4 << 10;

/// A bearer token. `Debug` does not show the secret; only [`Token::reveal`] returns it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Generates a token: `prefix` and 256 random bits in hex. A distinctive prefix lets secret
    /// scanners find leaked tokens.
    ///
    /// # Errors
    /// [`Error`] if the operating system provides no randomness.
    pub fn generate(prefix: &str) -> Result<Self> {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits)
            .map_err(|error| Error::new("the operating system's randomness", error.to_string()))?;
        let mut text = prefix.to_owned();
        for byte in bits {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    /// Reads a token. Returns `None` if the text is empty, too long, or contains a character that a
    /// header cannot carry.
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid =
            (1..=MAX_TOKEN_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self(text.to_owned()))
    }

    /// Reads a token without the white space around it, such as the line break that `echo` adds.
    fn parse_trimmed(text: &str) -> Option<Self> {
        Self::parse(text.trim())
    }

    /// Reads a token from the environment: from `variable`, or from the file that `file_variable`
    /// names, which only its owner may read. White space around the token is ignored. Returns
    /// `None` if neither is set.
    ///
    /// # Errors
    /// [`Error`] if both variables are set, if the file is unreadable or not private, or if it
    /// contains no token.
    pub fn from_environment(variable: &str, file_variable: &str) -> Result<Option<Self>> {
        let no_token = |subject: &str| {
            Error::new(subject, "holds no token; a token is one line of visible ASCII characters")
        };
        match (std::env::var_os(variable), std::env::var_os(file_variable)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Error::new(variable, format!("{file_variable} is set too; unset one of them")))
            }
            (Some(token), None) => {
                token.to_str().and_then(Self::parse_trimmed).map(Some).ok_or_else(|| no_token(variable))
            }
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                let text = read_private_file(&path, MAX_TOKEN_FILE_BYTES)?;
                Self::parse_trimmed(&text).map(Some).ok_or_else(|| no_token(&path.display().to_string()))
            }
        }
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    /// From a variable and from a file alike.
    #[test]
    fn white_space_around_a_token_is_no_part_of_it() {
        for text in ["token", "token\n", "token\r\n", " token\t"] {
            assert_eq!(Token::parse_trimmed(text).as_ref().map(Token::reveal), Some("token"), "{text:?}");
        }
        for text in ["", "\n", "to ken", "to\nken\n"] {
            assert!(Token::parse_trimmed(text).is_none(), "{text:?}");
        }
    }
}
