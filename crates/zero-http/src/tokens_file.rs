//! The tokens file of a server: which token may do what.
//!
//! One token per line: `CHECKSUM SCOPE RIGHTS NAME`, separated by spaces. `CHECKSUM` is the SHA-256
//! of the token as `sha256:` and hex digits; the token itself is stored nowhere. `SCOPE` is defined
//! by the server ([`TokenScope`]). `RIGHTS` is `write`, which includes reading, or `read`. `NAME`
//! is for people. Empty lines and lines that start with `#` are kept as they are.
//!
//! The file has mode 0600. A server reloads it whenever it has changed, so a token is revoked with
//! the next request after its line was removed.

use std::fmt::{self, Display};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use subtle::ConstantTimeEq;
use zero_bus::Checksum;

use crate::error::{Error, Result};
use crate::private_file::read_private_file;
use crate::token::Token;

/// Maximum size of a tokens file: some thirty thousand tokens.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Maximum length of a token's name in characters.
const MAX_NAME_LENGTH: usize = 64;

/// What a token gives access to. Each server defines its own scopes.
///
/// The written form contains no space, and `parse` must accept what `Display` writes.
pub trait TokenScope: Clone + Display + Send + Sync + 'static {
    /// Reads the written form; `None` if it is invalid.
    fn parse(text: &str) -> Option<Self>;
}

/// What a token may do within its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Write and read.
    Write,
    /// Read.
    Read,
}

impl Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// One token of a tokens file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry<S> {
    /// SHA-256 of the token, which identifies it.
    pub digest: Checksum,
    /// What it gives access to.
    pub scope: S,
    /// What it may do there.
    pub rights: Rights,
    name: String,
}

impl<S: TokenScope> TokenEntry<S> {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let digest = Checksum::parse(words.next()?)?;
        let scope = S::parse(words.next()?)?;
        let rights = match words.next()? {
            "write" => Rights::Write,
            "read" => Rights::Read,
            _ => return None,
        };
        let name = words.next().filter(|name| is_valid_name(name))?.to_owned();
        words.next().is_none().then_some(Self { digest, scope, rights, name })
    }
}

impl<S: Display> Display for TokenEntry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.digest, self.scope, self.rights, self.name)
    }
}

fn is_valid_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// One round of SHA-256 suffices, because a token has 256 random bits: a slow hash would not make
/// guessing any harder.
fn digest_of(token: &[u8]) -> Checksum {
    Checksum::of(token)
}

/// A tokens file in use by a server.
pub struct TokensFile<S> {
    path: PathBuf,
    /// The file as it was last read. The lock is held while the file is reloaded.
    loaded: Mutex<Loaded<S>>,
}

struct Loaded<S> {
    stamp: Stamp,
    entries: Arc<Vec<TokenEntry<S>>>,
}

/// Identifies one version of a file: device, inode, modification time (seconds, nanoseconds) and
/// length.
type Stamp = (u64, u64, i64, i64, u64);

impl<S: TokenScope> TokensFile<S> {
    /// Opens a tokens file.
    ///
    /// # Errors
    /// [`Error`] if the file is unreadable, not private, or invalid.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), loaded: Mutex::new(load(path)?) })
    }

    /// Finds the entry of a token that a client presented. Compares all entries in constant time,
    /// so that the duration reveals nothing about them.
    ///
    /// # Errors
    /// [`Error`] if the file has changed and cannot be reloaded.
    pub fn find(&self, token: &[u8]) -> Result<Option<TokenEntry<S>>> {
        let entries = self.entries()?;
        let digest = digest_of(token);
        let mut matching = None;
        for entry in entries.iter() {
            if bool::from(entry.digest.as_bytes().ct_eq(digest.as_bytes())) {
                matching = Some(entry.clone());
            }
        }
        Ok(matching)
    }

    /// Changes the scope of a token durably. `change` runs under the lock of the file, once per
    /// entry with this digest: never, if the token has been removed meanwhile.
    ///
    /// # Errors
    /// [`Error`] if the file cannot be read or replaced.
    pub fn change_scope(&self, digest: Checksum, mut change: impl FnMut(&mut S)) -> Result<()> {
        rewrite(&self.path, |entries: &mut Vec<TokenEntry<S>>| {
            for entry in entries.iter_mut().filter(|entry| entry.digest == digest) {
                change(&mut entry.scope);
            }
        })?;
        self.entries().map(drop)
    }

    /// The current entries, reloaded if the file has changed.
    fn entries(&self) -> Result<Arc<Vec<TokenEntry<S>>>> {
        let stamp = read_stamp(&self.path)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.stamp != stamp {
            *loaded = load(&self.path)?;
        }
        Ok(Arc::clone(&loaded.entries))
    }
}

/// Generates a token that starts with `prefix`, adds its digest to a tokens file, and returns the
/// token. The file is created if it does not exist. The token is stored nowhere, so this is the
/// only time it can be read.
///
/// # Errors
/// [`Error`] if the file cannot be read or replaced, or if the name is invalid.
pub fn add_token<S: TokenScope>(
    path: &Path,
    prefix: &str,
    scope: S,
    rights: Rights,
    name: &str,
) -> Result<Token> {
    if !is_valid_name(name) {
        let problem = format!("a token's name has 1 to {MAX_NAME_LENGTH} letters, digits, `.`, `_` and `-`");
        return Err(Error::new(name.escape_debug().to_string(), problem));
    }
    let token = Token::generate(prefix)?;
    let digest = digest_of(token.reveal().as_bytes());
    rewrite(path, |entries| entries.push(TokenEntry { digest, scope, rights, name: name.to_owned() }))?;
    Ok(token)
}

fn read_stamp(path: &Path) -> Result<Stamp> {
    let metadata = fs::metadata(path).map_err(cannot("inspect the file", path))?;
    Ok((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

/// Takes the stamp before it reads, so that the next request notices a change that happens in
/// between.
fn load<S: TokenScope>(path: &Path) -> Result<Loaded<S>> {
    let stamp = read_stamp(path)?;
    let entries = parse(path)?.into_iter().filter_map(Line::into_entry).collect();
    Ok(Loaded { stamp, entries: Arc::new(entries) })
}

/// One line of a tokens file.
enum Line<S> {
    Entry(TokenEntry<S>),
    /// An empty line or a comment, kept as it is.
    Comment(String),
}

impl<S> Line<S> {
    fn into_entry(self) -> Option<TokenEntry<S>> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Comment(_) => None,
        }
    }
}

fn parse<S: TokenScope>(path: &Path) -> Result<Vec<Line<S>>> {
    let text = read_private_file(path, MAX_FILE_BYTES)?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            lines.push(Line::Comment(line.to_owned()));
        } else if let Some(entry) = TokenEntry::parse(line) {
            lines.push(Line::Entry(entry));
        } else {
            // The message does not repeat the line, which may contain a token by mistake.
            let problem = format!("line {number} must be `CHECKSUM SCOPE RIGHTS NAME`");
            return Err(Error::new(path.display().to_string(), problem));
        }
    }
    Ok(lines)
}

/// Replaces a tokens file atomically and durably, under the lock file next to it. `change` may
/// modify entries and append new ones, but must not remove or reorder any, because each old entry
/// is written back to its own line.
fn rewrite<S: TokenScope>(path: &Path, change: impl FnOnce(&mut Vec<TokenEntry<S>>)) -> Result<()> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let lock_file = lock_file.map_err(cannot("create a lock file next to it", path))?;
    lock_file.lock().map_err(cannot("lock it", path))?;
    let old_lines = if path.exists() { parse(path)? } else { Vec::new() };
    let mut entries = Vec::new();
    for line in &old_lines {
        if let Line::Entry(entry) = line {
            entries.push(entry.clone());
        }
    }
    change(&mut entries);
    let mut entries = entries.iter();
    let mut text = String::new();
    for line in &old_lines {
        match line {
            Line::Comment(comment) => text.push_str(comment),
            Line::Entry(_) => text.extend(entries.next().map(TokenEntry::to_string)),
        }
        text.push('\n');
    }
    text.extend(entries.map(|added| format!("{added}\n")));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // `tempfile` creates files with mode 0600.
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(cannot("write next to it", path))?;
    new.write_all(text.as_bytes()).map_err(cannot("write next to it", path))?;
    new.as_file().sync_all().map_err(cannot("sync it", path))?;
    new.persist(path).map_err(|error| cannot("replace it", path)(error.error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(cannot("sync its directory", path))
}

fn cannot(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::new(path.display().to_string(), format!("cannot {action}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Room(String);

    impl TokenScope for Room {
        fn parse(text: &str) -> Option<Self> {
            text.starts_with("room-").then(|| Self(text.to_owned()))
        }
    }

    impl Display for Room {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    fn room(number: u32) -> Room {
        Room(format!("room-{number}"))
    }

    #[test]
    fn the_file_stores_checksums_and_finds_tokens_by_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let one = add_token(&path, "test_", room(1), Rights::Write, "fleet").unwrap();
        fs::write(&path, format!("# ours\n\n{}", fs::read_to_string(&path).unwrap())).unwrap();
        let two = add_token(&path, "test_", room(2), Rights::Write, "new").unwrap();
        assert!(one.reveal().starts_with("test_") && one.reveal().len() == "test_".len() + 64);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\n\nsha256:") && text.lines().count() == 4, "{text}");
        assert!(!text.contains(one.reveal()) && !text.contains(two.reveal()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let tokens = TokensFile::<Room>::open(&path).unwrap();
        assert_eq!(tokens.find(one.reveal().as_bytes()).unwrap().unwrap().scope, room(1));
        assert_eq!(tokens.find(b"test_").unwrap(), None);
        assert_eq!(tokens.find(b"").unwrap(), None);

        let entry = tokens.find(two.reveal().as_bytes()).unwrap().unwrap();
        tokens.change_scope(entry.digest, |scope| *scope = room(3)).unwrap();
        assert_eq!(tokens.find(two.reveal().as_bytes()).unwrap().unwrap().scope, room(3));
        assert_eq!(tokens.find(one.reveal().as_bytes()).unwrap().unwrap().scope, room(1));
        tokens.change_scope(Checksum::of(b"unknown"), |_| panic!("no entry has this digest")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("# ours\n\nsha256:"));

        // A token is revoked as soon as its line is removed.
        let without_fleet: String = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .filter(|line| !line.ends_with("fleet"))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(&path, without_fleet).unwrap();
        assert_eq!(tokens.find(one.reveal().as_bytes()).unwrap(), None);
    }

    #[test]
    fn an_invalid_file_is_refused_without_repeating_its_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let digest = Checksum::of(b"x");
        for invalid_line in [
            "secret",
            "secret room-1 write x",
            &format!("{digest} room-1 secret x"),
            &format!("{digest} secret write x"),
            &format!("{digest} room-1 write a secret"),
        ] {
            fs::write(&path, format!("# one\n{invalid_line}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let message = TokensFile::<Room>::open(&path).err().unwrap().to_string();
            assert!(message.contains("line 2") && !message.contains("secret"), "{message}");
        }
        fs::write(&path, "").unwrap();
        TokensFile::<Room>::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(TokensFile::<Room>::open(&path).err().unwrap().to_string().contains("chmod 600"));
        assert!(add_token(&path, "test_", room(1), Rights::Read, "a b").is_err());
    }
}
