//! The tokens file of a receiver: who may do what.
//!
//! One token a line: `CHECKSUM SCOPE RIGHTS NAME`, separated by spaces. `CHECKSUM` is `sha256:` of the token, which itself is
//! kept nowhere; `SCOPE` is `any`, `first` or the checksum of a bus; `RIGHTS` is `write` (which reads too) or `read`; `NAME` is
//! for people. Empty lines and lines that begin with `#` are left alone. The file is 0600. It is read again when it changed,
//! so that a token that is taken out of it ends with the next request.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use subtle::ConstantTimeEq;
use zero_bus::Checksum;

use crate::error::{Error, Result};
use crate::token::{Token, read_private, refused};

/// Most bytes of a tokens file: some thirty thousand tokens.
const MAX_BYTES: u64 = 4 << 20;
/// Most characters of a name.
const MAX_NAME: usize = 64;

/// Which buses a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every bus.
    Any,
    /// The bus that it is first used for, which must be a new one at the receiver; from then on that one alone.
    First,
    /// One bus.
    Bus(Checksum),
}

impl Scope {
    /// Reads the written form; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "any" => Some(Self::Any),
            "first" => Some(Self::First),
            _ => Checksum::parse(text).map(Self::Bus),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::First => f.write_str("first"),
            Self::Bus(bus) => bus.fmt(f),
        }
    }
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Hand events over, and read.
    Write,
    /// Read.
    Read,
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Write { "write" } else { "read" })
    }
}

/// A token as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) digest: Checksum,
    pub(super) scope: Scope,
    pub(super) rights: Rights,
    name: String,
}

impl Known {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let digest = Checksum::parse(words.next()?)?;
        let scope = Scope::parse(words.next()?)?;
        let rights = match words.next()? {
            "write" => Rights::Write,
            "read" => Rights::Read,
            _ => return None,
        };
        let name = words.next().filter(|name| is_name(name))?.to_owned();
        words.next().is_none().then_some(Self { digest, scope, rights, name })
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.digest, self.scope, self.rights, self.name)
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A tokens file in use.
pub(super) struct Tokens {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    stamp: Stamp,
    known: Arc<Vec<Known>>,
}

/// What tells that a file was changed: which file, when, how long.
type Stamp = (u64, u64, i64, i64, u64);

impl Tokens {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), loaded: Mutex::new(load(path)?) })
    }

    /// The token that is shown, where it is known. Every known one is compared in a time that tells nothing about it.
    pub(super) fn find(&self, shown: &[u8]) -> Result<Option<Known>> {
        let known = self.current()?;
        let digest = Token::digest(shown);
        let mut found = None;
        for candidate in known.iter() {
            if bool::from(candidate.digest.as_bytes().ct_eq(digest.as_bytes())) {
                found = Some(candidate.clone());
            }
        }
        Ok(found)
    }

    /// Binds a token for the first bus to a bus, durably. `false` where it was bound to another, or taken out, meanwhile.
    pub(super) fn claim(&self, digest: Checksum, bus: Checksum) -> Result<bool> {
        let mut claimed = false;
        rewrite(&self.path, |known| {
            for token in known.iter_mut().filter(|token| token.digest == digest) {
                if token.scope == Scope::First {
                    token.scope = Scope::Bus(bus);
                }
                claimed = token.scope == Scope::Bus(bus);
            }
        })?;
        self.current()?;
        Ok(claimed)
    }

    fn current(&self) -> Result<Arc<Vec<Known>>> {
        let stamp = stamp(&self.path)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.stamp != stamp {
            *loaded = load(&self.path)?;
        }
        Ok(Arc::clone(&loaded.known))
    }
}

/// Makes a token and notes it in a tokens file, which is made where there is none. The token itself is in what comes back
/// and nowhere else.
///
/// # Errors
/// [`Error::Refused`](crate::Error::Refused) where the file can't be read or written, or the name is none.
pub fn add(path: &Path, scope: Scope, rights: Rights, name: &str) -> Result<Token> {
    if !is_name(name) {
        let problem = format!("a name has 1 to {MAX_NAME} letters, digits, `.`, `_` and `-`");
        return Err(refused(&name.escape_debug().to_string(), &problem));
    }
    let token = Token::generate()?;
    let digest = Token::digest(token.reveal().as_bytes());
    rewrite(path, |known| known.push(Known { digest, scope, rights, name: name.to_owned() }))?;
    Ok(token)
}

fn stamp(path: &Path) -> Result<Stamp> {
    let metadata = fs::metadata(path).map_err(cannot("look at it", path))?;
    Ok((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

/// The stamp is taken before the reading: a change between the two is seen by who asks next.
fn load(path: &Path) -> Result<Loaded> {
    let stamp = stamp(path)?;
    let known = parse(path)?.into_iter().flatten().collect();
    Ok(Loaded { stamp, known: Arc::new(known) })
}

/// The lines of a tokens file: a token, or text that is left alone.
fn parse(path: &Path) -> Result<Vec<Result<Known, String>>> {
    let text = read_private(path, MAX_BYTES)?;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_text = line.trim().is_empty() || line.starts_with('#');
        lines.push(match Known::parse(line) {
            _ if is_text => Err(line.to_owned()),
            Some(known) => Ok(known),
            // The line is not repeated: somebody may have put a token there.
            None => {
                let problem = format!("line {} is no `CHECKSUM SCOPE RIGHTS NAME`", number + 1);
                return Err(refused(&path.display().to_string(), &problem));
            }
        });
    }
    Ok(lines)
}

/// Replaces a tokens file as a whole, while nobody else does. `change` may change tokens and add some. Comments stay where
/// they are.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<Known>)) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&beside);
    let lock = lock.map_err(cannot("make a lock beside it", path))?;
    lock.lock().map_err(cannot("lock it", path))?;
    let lines = if path.exists() { parse(path)? } else { Vec::new() };
    let mut known: Vec<Known> = lines.iter().filter_map(|line| line.as_ref().ok().cloned()).collect();
    change(&mut known);
    // What stays, each in its line, and what was added behind it.
    let mut known = known.iter();
    let mut text = String::new();
    for line in &lines {
        match line {
            Err(comment) => text.push_str(comment),
            Ok(_) => text.extend(known.next().map(Known::to_string)),
        }
        text.push('\n');
    }
    text.extend(known.map(|added| format!("{added}\n")));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // 0600, as every file that this makes.
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(cannot("write beside it", path))?;
    new.write_all(text.as_bytes()).map_err(cannot("write beside it", path))?;
    new.as_file().sync_all().map_err(cannot("sync it", path))?;
    new.persist(path).map_err(|error| cannot("replace it", path)(error.error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(cannot("sync its directory", path))
}

fn cannot(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |error| refused(&path.display().to_string(), &format!("cannot {action}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn tokens_are_kept_as_checksums_and_found_again() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tokens");
        let any = add(&path, Scope::Any, Rights::Write, "fleet").unwrap();
        fs::write(&path, format!("# ours\n\n{}", fs::read_to_string(&path).unwrap())).unwrap();
        let first = add(&path, Scope::First, Rights::Write, "new").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\n\nsha256:") && text.lines().count() == 4, "{text}");
        assert!(!text.contains(any.reveal()) && !text.contains(first.reveal()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let tokens = Tokens::open(&path).unwrap();
        assert_eq!(tokens.find(any.reveal().as_bytes()).unwrap().unwrap().scope, Scope::Any);
        assert_eq!(tokens.find(b"zero_mirror_").unwrap(), None);
        assert_eq!(tokens.find(b"").unwrap(), None);

        let known = tokens.find(first.reveal().as_bytes()).unwrap().unwrap();
        let (one, other) = (Checksum::of(b"one"), Checksum::of(b"other"));
        assert!(tokens.claim(known.digest, one).unwrap());
        assert!(tokens.claim(known.digest, one).unwrap());
        assert!(!tokens.claim(known.digest, other).unwrap());
        assert_eq!(tokens.find(first.reveal().as_bytes()).unwrap().unwrap().scope, Scope::Bus(one));
        assert!(fs::read_to_string(&path).unwrap().starts_with("# ours\n\nsha256:"));

        // Taken out, and it ends at once.
        let rest: String = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .filter(|line| !line.ends_with("fleet"))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(&path, rest).unwrap();
        assert_eq!(tokens.find(any.reveal().as_bytes()).unwrap(), None);
    }

    #[test]
    fn a_tokens_file_that_is_none_is_refused_without_repeating_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tokens");
        let digest = Checksum::of(b"x");
        for bad in [
            "secret",
            "secret any write x",
            &format!("{digest} any secret x"),
            &format!("{digest} any write a secret"),
        ] {
            fs::write(&path, format!("# one\n{bad}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let said = Tokens::open(&path).err().unwrap().to_string();
            assert!(said.contains("line 2") && !said.contains("secret"), "{said}");
        }
        fs::write(&path, "").unwrap();
        Tokens::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Tokens::open(&path).err().unwrap().to_string().contains("chmod 600"));
        assert!(add(&path, Scope::Any, Rights::Read, "a b").is_err());
    }
}
