//! For which bus a key or a secret is used: a file next to it, with `.used-for` after its name.
//!
//! A key that signs two logs cannot be told from one whose log was rewritten, and a secret of two
//! buses gives their events the same salts. The record notices both on one machine. A copy of the
//! key without the record is noticed by witnesses only.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zero_bus::{Checksum, Reader};
use zero_program::message::print_warning;

use crate::private_file::replace_private_file;
use crate::program::PROGRAM;
use crate::proof_input::read_file;

/// What the name of a record has after that of the key or the secret.
const SUFFIX: &str = ".used-for";

pub(crate) const SCHEMA: &str = "zero.runtime.key-use.v1";
/// The schema of the record next to the key of a witness.
pub(crate) const WITNESS_SCHEMA: &str = "zero.runtime.witness-key-use.v1";
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 10;

/// The use of a key or a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyUse {
    /// The checksum of the first event, which no other bus has.
    bus: Checksum,
    /// What the key signed last is recorded there. `None` for a secret.
    state: Option<PathBuf>,
}

/// Refuses a secret that is used for another bus. Records the use of one that is not used yet.
/// Returns false for an empty bus, which has no identity yet.
pub(crate) fn check_secret_use(secret: &Path, reader: &Reader) -> Result<bool> {
    let hint = "two buses with one secret have the same salts, and a disclosed field of one helps to guess those of the \
                other; create a secret for this bus with zero-bus secret new";
    check_use(secret, reader, None, hint)
}

/// Refuses a key that signs another bus, or the same one with another state. Records the use of one
/// that is not used yet. Returns false for an empty bus.
pub(crate) fn check_key_use(key: &Path, reader: &Reader, state: &Path) -> Result<bool> {
    let hint = "one key that signs two logs looks like a log that was rewritten; create a key with another name for this \
                bus with zero-bus key new";
    check_use(key, reader, Some(state), hint)
}

/// Forgets the use of a file that was created anew under its name.
pub(crate) fn forget_use(file: &Path) -> Result<()> {
    let record = record_path(file)?;
    match fs::remove_file(&record) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot remove it", record.display()))
        }
        _ => Ok(()),
    }
}

/// A record of a key or a secret that is used for a bus.
pub(crate) struct RecordedUse {
    /// The file of the record.
    pub(crate) record: PathBuf,
    /// The state that a key's record names.
    pub(crate) state: Option<PathBuf>,
}

/// Returns the records for a bus in the directory that the bus is in. Other files there are left
/// out, also those that cannot be read.
pub(crate) fn uses_next_to(dir: &Path, reader: &Reader) -> Result<Vec<RecordedUse>> {
    let Some(bus) = reader.bus_id()? else { return Ok(Vec::new()) };
    let resolved = dir.canonicalize().with_context(|| format!("{}: cannot look it up", dir.display()))?;
    let Some(entries) = resolved.parent().and_then(|parent| fs::read_dir(parent).ok()) else {
        return Ok(Vec::new());
    };
    let names_bus = |path: PathBuf| {
        let is_record = path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
        let found = Some(&path).filter(|_| is_record).and_then(|path| KeyUse::read(path).ok());
        found.filter(|found| found.bus == bus).map(|found| RecordedUse { record: path, state: found.state })
    };
    let mut uses: Vec<_> = entries.flatten().filter_map(|entry| names_bus(entry.path())).collect();
    uses.sort_by(|one, other| one.record.cmp(&other.record));
    Ok(uses)
}

fn check_use(file: &Path, reader: &Reader, state: Option<&Path>, hint: &str) -> Result<bool> {
    // A damaged log is reported by whatever reads it next.
    let Ok(Some(bus)) = reader.bus_id() else { return Ok(false) };
    let current = KeyUse { bus, state: state.map(Path::to_owned) };
    let record = record_path(file)?;
    let recorded = match record.exists() {
        true => Some(KeyUse::read(&record)?),
        false => None,
    };
    if let Some(recorded) = &recorded {
        if recorded.bus != current.bus {
            bail!("{}: is used for another bus, as {} says; {hint}", file.display(), record.display());
        }
        if let (Some(old), Some(new)) = (&recorded.state, &current.state)
            && old != new
            && old.exists()
        {
            bail!(
                "{}: what it signed is recorded in {}, not in {}; name that state with --state, or move its directory",
                file.display(),
                old.display(),
                new.display()
            );
        }
    }
    if recorded.as_ref() != Some(&current)
        && let Err(error) = replace_private_file(&record, current.encode().as_bytes())
    {
        let problem = format!("{error:#}; see to it that no other bus uses {}", file.display());
        print_warning(PROGRAM, &problem);
    }
    Ok(true)
}

/// The record lies next to the file itself, not next to a link to it.
pub(crate) fn record_path(file: &Path) -> Result<PathBuf> {
    let target = file.canonicalize().with_context(|| format!("{}: cannot look it up", file.display()))?;
    let mut name = target.into_os_string();
    name.push(SUFFIX);
    Ok(name.into())
}

impl KeyUse {
    /// The schema, the checksum and, for a key, the path of the state, each on a line.
    fn encode(&self) -> String {
        let mut text = format!("{SCHEMA}\n{}\n", self.bus);
        if let Some(state) = &self.state {
            text += &format!("{}\n", state.display());
        }
        text
    }

    fn read(record: &Path) -> Result<Self> {
        let content = read_file(record, MAX_RECORD_BYTES)?;
        if content.starts_with(WITNESS_SCHEMA.as_bytes()) {
            bail!("{}: says that the key is that of a witness; a log needs another one", record.display());
        }
        Self::parse(&content).with_context(|| {
            let record = record.display();
            format!("{record}: is not a record of the bus that a key or secret is used for; if it is used for this bus \
                     alone, remove that file")
        })
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?.strip_prefix(SCHEMA)?.strip_prefix('\n')?;
        let text = text.strip_suffix('\n')?;
        let (bus, state) = match text.split_once('\n') {
            Some((bus, state)) => (bus, Some(PathBuf::from(state))),
            None => (text, None),
        };
        Some(Self { bus: bus.parse().ok()?, state })
    }
}
