//! A simulated disk that can lose power: a [`Storage`] in memory that knows what was synced. For
//! tests of this library and of programs that use it; needs the cargo feature `sim`.
//!
//! A running program reads what it wrote, as through a page cache. When the power fails
//! ([`SimDisk::crash_at`]), each [survivor](SimDisk::survivors) is one state in which the disk may
//! be found afterwards:
//!
//! - Everything that was synced is there.
//! - Any part of an unsynced write may be lost, torn at any byte, or persisted before an earlier
//!   write. In a file that has grown, lost bytes may be zeros or garbage.
//! - Names that were not synced in their directory may be missing, the newest first.
//!
//! The simulation assumes of the disk what `docs/FORMAT.md` states: a successful sync holds, a
//! rename happens as a whole or not at all, and so does an overwrite within one sector ([`SECTOR`]
//! bytes).
//!
//! ```
//! use std::collections::BTreeMap;
//! use zero_bus::{Bus, Draft, sim::SimDisk};
//!
//! let disk = SimDisk::new();
//! let bus = Bus::open_in(disk.storage())?;
//! let draft = || Draft::new("step.done", 0.0, &BTreeMap::from([("step", 1)]));
//! bus.append(draft()?)?; // acknowledged
//! disk.crash_at(disk.calls() + 2); // after the write, before its sync
//! assert!(bus.append(draft()?).is_err());
//!
//! for survivor in disk.survivors(7, 100) {
//!     let events = Bus::open_in(survivor.storage())?.head().index;
//!     assert!(events == 1 || events == 2, "the acknowledged event was lost");
//! }
//! # Ok::<(), zero_bus::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::storage::{Access, Lock, Storage, StorageFile, Watch};

/// Bytes that a disk writes as a whole or not at all.
pub const SECTOR: u64 = 512;

/// A simulated disk. A clone is the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Signalled after each call that changes something, and when a lock is released.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    /// Index in `files` by name, as running programs see it.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// Changes of `names` since the last sync of the directory.
    unsynced_names: Vec<NameChange>,
    calls: u64,
    crash_at: Option<u64>,
    /// The call that fails next, and how.
    failure: Option<(u64, Failure)>,
    crashed: bool,
    /// Handles opened so far; the id of the newest one.
    handles: u64,
}

#[derive(Clone, Default)]
struct File {
    /// Content as running programs see it.
    content: Vec<u8>,
    synced: Vec<u8>,
    /// Changes since the last sync of the file.
    unsynced: Vec<Change>,
    /// Ids of the handles that hold the shared lock.
    shared_by: Vec<u64>,
    /// Id of the handle that holds the exclusive lock.
    locked_by: Option<u64>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// A change of a name. A change in a subdirectory is durable once that subdirectory is synced, and
/// lost with a subdirectory whose own name is lost.
#[derive(Clone)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

/// What a failed call did before it returned its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing. A sync that fails this way drops the unsynced changes: a later successful sync does
    /// not write them, as with the page cache of Linux.
    Failed,
    /// Everything that it should: only the reply was lost.
    FailedButPersisted,
    /// Half of a write, as on a disk that becomes full. Other calls: as [`Failure::Failed`].
    Half,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// Creates an empty disk.
    pub fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Returns the disk as a directory for [`Bus::open_in`](crate::Bus::open_in) and
    /// [`Reader::open_in`](crate::Reader::open_in).
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// Returns how many calls have changed or synced something. A crash before each of them leaves
    /// another disk.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Cuts the power in place of call number `call`, counted from 1 since the disk was created.
    /// From then on every call fails, also calls that wait for a lock.
    pub fn crash_at(&self, call: u64) {
        self.state().crash_at = Some(call);
    }

    /// Returns whether the power has failed.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Makes call number `call` fail, and no other one.
    pub fn fail_at(&self, call: u64, failure: Failure) {
        self.state().failure = Some((call, failure));
    }

    /// Returns a file's content as running programs see it, or `None` if there is no such file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|file| state.files[*file].content.clone())
    }

    /// Returns the names of all files and subdirectories, as running programs see them.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// Creates or replaces a file, synced.
    pub fn put(&self, name: &str, content: &[u8]) {
        if let Some((directory, _)) = name.split_once('/')
            && self.content(directory).is_none()
        {
            self.put(directory, &[]);
        }
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(File { content: content.to_vec(), synced: content.to_vec(), ..File::default() });
        state.names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
    }

    /// Returns disks as they may be found if the power fails now. Returns all of them if there are
    /// at most `max`; otherwise `max` of them, chosen by `seed`. Both extremes are included: every
    /// unsynced change lost, and every one persisted.
    pub fn survivors(&self, seed: u64, max: usize) -> Vec<SimDisk> {
        let state = self.state();
        let mut rng = Rng::new(seed);
        let choices: Vec<Vec<Vec<u8>>> =
            state.files.iter().map(|file| file.survivors(&mut rng, max)).collect();
        // The root and the subdirectory lose their newest changes independently of each other.
        let in_root = state.unsynced_names.iter().filter(|change| change.directory().is_none()).count();
        let in_subdirectory = state.unsynced_names.len() - in_root;
        let name_choices = (in_root + 1) * (in_subdirectory + 1);
        let combinations = choices.iter().map(Vec::len).fold(name_choices, usize::saturating_mul);
        let picks: Vec<Vec<usize>> = if combinations <= max {
            (0..combinations).map(|number| combination(number, name_choices, &choices)).collect()
        } else {
            let extremes = [vec![0; choices.len() + 1], {
                let last = choices.iter().map(|choices| choices.len() - 1);
                std::iter::once(name_choices - 1).chain(last).collect()
            }];
            let random = (2..max).map(|_| {
                let sizes = std::iter::once(name_choices).chain(choices.iter().map(Vec::len));
                sizes.map(|size| rng.below(size)).collect()
            });
            extremes.into_iter().chain(random.collect::<Vec<_>>()).collect()
        };
        picks
            .into_iter()
            .map(|pick| {
                let kept = [pick[0] % (in_root + 1), pick[0] / (in_root + 1)];
                state.survivor(kept, |file| choices[file][pick[file + 1]].clone())
            })
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that changes something, and makes it crash or fail if that was requested.
    /// `change` is told how much of the call it must carry out.
    fn call<T>(&self, change: impl FnOnce(&mut State, Extent) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.check_power()?;
        state.calls += 1;
        if state.crash_at.is_some_and(|call| state.calls >= call) {
            state.crashed = true;
            self.0.changed.notify_all();
            return Err(power_failure());
        }
        let number = state.calls;
        let failure = state.failure.take_if(|(call, _)| *call == number);
        let extent = match failure {
            None | Some((_, Failure::FailedButPersisted)) => Extent::All,
            Some((_, Failure::Half)) => Extent::Half,
            Some((_, Failure::Failed)) => Extent::Nothing,
        };
        let result = change(&mut state, extent);
        drop(state);
        self.0.changed.notify_all();
        match failure {
            None => result,
            // The error kind of ENOSPC.
            Some(_) => Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk refuses the call")),
        }
    }
}

/// How much of a call is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    All,
    Half,
    Nothing,
}

fn power_failure() -> io::Error {
    io::Error::other("the simulated power has failed")
}

/// Returns combination `number`: one choice for the names, then one for each file.
fn combination(mut number: usize, names: usize, files: &[Vec<Vec<u8>>]) -> Vec<usize> {
    let mut digit = |size: usize| {
        let digit = number % size;
        number /= size;
        digit
    };
    std::iter::once(names).chain(files.iter().map(Vec::len)).map(&mut digit).collect()
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.crashed { Err(power_failure()) } else { Ok(()) }
    }

    /// Returns a disk with the first changes of names in the root and in the subdirectory.
    fn survivor(&self, mut kept: [usize; 2], content: impl Fn(usize) -> Vec<u8>) -> SimDisk {
        let mut names = self.synced_names.clone();
        for change in &self.unsynced_names {
            let kept = &mut kept[usize::from(change.directory().is_some())];
            if let Some(rest) = kept.checked_sub(1) {
                *kept = rest;
                change.apply(&mut names);
            }
        }
        let root = names.clone();
        names
            .retain(|name, _| name.split_once('/').is_none_or(|(directory, _)| root.contains_key(directory)));
        let disk = SimDisk::new();
        names.into_iter().for_each(|(name, file)| disk.put(&name, &content(file)));
        disk
    }
}

impl NameChange {
    /// The subdirectory that changes; `None` for the root.
    fn directory(&self) -> Option<&str> {
        let (Self::Create(name, _) | Self::Rename(name, _) | Self::Remove(name)) = self;
        name.split_once('/').map(|(directory, _)| directory)
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.truncate(*length),
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.content);
        self.unsynced.push(change);
    }

    /// Returns contents that may be found after a crash. The first has no unsynced change, the last
    /// has all of them. A single short write yields every possible content.
    fn survivors(&self, rng: &mut Rng, max: usize) -> Vec<Vec<u8>> {
        let mut contents = vec![self.synced.clone()];
        if let [Change::Write { offset, bytes }] = &self.unsynced[..]
            && bytes.len() <= max
            && !self.overwrites(*offset, bytes.len())
        {
            // One write, torn at every byte; the lost bytes are missing, or zeros.
            for kept in 1..bytes.len() {
                let torn = Change::Write { offset: *offset, bytes: bytes[..kept].to_vec() };
                let mut content = self.synced.clone();
                torn.apply(&mut content);
                contents.push(content.clone());
                content.resize(offset + bytes.len(), 0);
                contents.push(content);
            }
        } else if !self.unsynced.is_empty() {
            contents.extend((0..max).map(|_| self.random_survivor(rng)));
        }
        if !self.unsynced.is_empty() {
            contents.push(self.content.clone());
        }
        contents
    }

    /// Returns whether a write stays within one sector of synced bytes, and so happens as a whole
    /// or not at all.
    fn overwrites(&self, offset: usize, length: usize) -> bool {
        offset + length <= self.synced.len() && length as u64 <= SECTOR
    }

    /// Returns a content in which each unsynced change is lost, persisted, or persisted in pieces.
    fn random_survivor(&self, rng: &mut Rng) -> Vec<u8> {
        let mut content = self.synced.clone();
        for change in &self.unsynced {
            match change {
                _ if rng.below(3) == 0 => {}
                Change::Write { offset, bytes }
                    if !self.overwrites(*offset, bytes.len()) && rng.below(2) == 0 =>
                {
                    let pieces = self.pieces(*offset, bytes, rng);
                    pieces.iter().for_each(|piece| piece.apply(&mut content));
                }
                change => change.apply(&mut content),
            }
        }
        content
    }

    /// Cuts a write into pieces, of which some are persisted, some are garbage and some are lost.
    fn pieces(&self, offset: usize, bytes: &[u8], rng: &mut Rng) -> Vec<Change> {
        let mut cuts: Vec<usize> =
            (0..3).map(|_| rng.below(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).filter(|cut| cut[0] < cut[1]).filter_map(|cut| {
            let mut bytes = bytes[cut[0]..cut[1]].to_vec();
            match rng.below(4) {
                0 => return None,
                // Only bytes beyond the synced content can be garbage: a sector is written as a
                // whole.
                1 if offset + cut[0] >= self.synced.len() => {
                    bytes.iter_mut().for_each(|byte| *byte = rng.below(256) as u8);
                }
                _ => {}
            }
            Some(Change::Write { offset: offset + cut[0], bytes })
        });
        pieces.collect()
    }
}

/// A seeded random number generator, for tests that must run the same way again: SplitMix64
/// (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
///
/// ```
/// use zero_bus::sim::Rng;
/// let (mut one, mut other) = (Rng::new(7), Rng::new(7));
/// assert!((0..100).all(|_| one.below(6) < 6));
/// assert_ne!(one.below(1 << 30), other.below(1 << 30));
/// ```
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Creates a generator. The same seed yields the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number in `0..bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}

struct Handle {
    disk: SimDisk,
    file: usize,
    id: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.state().unlock(self.file, self.id);
        self.disk.0.changed.notify_all();
    }
}

impl State {
    /// Releases any lock that a handle holds on a file.
    fn unlock(&mut self, file: usize, id: u64) {
        let file = &mut self.files[file];
        file.shared_by.retain(|holder| *holder != id);
        file.locked_by.take_if(|holder| *holder == id);
    }

    /// Replaces the handle's lock on a file, as `flock` does. Returns whether the new lock was
    /// free; otherwise the handle holds none.
    fn try_lock(&mut self, file: usize, id: u64, lock: Lock) -> bool {
        self.unlock(file, id);
        let file = &mut self.files[file];
        match lock {
            _ if file.locked_by.is_some() => false,
            Lock::Shared => {
                file.shared_by.push(id);
                true
            }
            Lock::Exclusive if file.shared_by.is_empty() => {
                file.locked_by = Some(id);
                true
            }
            Lock::Exclusive => false,
        }
    }
}

impl SimDisk {
    /// Makes the names in one directory durable.
    fn sync_names(&self, directory: Option<&str>) -> io::Result<()> {
        let is_in = |name: &str| name.split_once('/').map(|(directory, _)| directory) == directory;
        self.call(|state, extent| {
            if extent == Extent::All {
                state.synced_names.retain(|name, _| !is_in(name));
                let names = state.names.iter().filter(|(name, _)| is_in(name));
                state.synced_names.extend(names.map(|(name, file)| (name.clone(), *file)));
            }
            // Changes that a failed sync dropped are not written by a later one.
            state.unsynced_names.retain(|change| change.directory() != directory);
            Ok(())
        })
    }
}

impl Storage for SimDisk {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let existing = {
            let state = self.state();
            state.check_power()?;
            state.names.get(name).copied()
        };
        let file = match (existing, access) {
            (Some(_), Access::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (Some(file), Access::Truncate) => self.call(|state, extent| {
                if extent != Extent::Nothing {
                    state.files[file].change(Change::Truncate(0));
                }
                Ok(file)
            })?,
            (Some(file), _) => file,
            (None, _) => self.call(|state, extent| {
                if extent == Extent::Nothing {
                    return Err(power_failure());
                }
                // Another thread may have created it since.
                if let Some(file) = state.names.get(name) {
                    return Ok(*file);
                }
                let file = state.files.len();
                state.files.push(File::default());
                state.names.insert(name.to_owned(), file);
                state.unsynced_names.push(NameChange::Create(name.to_owned(), file));
                Ok(file)
            })?,
        };
        let mut state = self.state();
        state.handles += 1;
        Ok(Box::new(Handle { disk: self.clone(), file, id: state.handles }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(|state, extent| {
            if !state.names.contains_key(from) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if extent != Extent::Nothing {
                let change = NameChange::Rename(from.to_owned(), to.to_owned());
                change.apply(&mut state.names);
                state.unsynced_names.push(change);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_names(None)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        let prefix = format!("{directory}/");
        Ok(state.names.keys().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    fn create_directory(&self, name: &str) -> io::Result<()> {
        // A subdirectory is a name in the root, like a file.
        self.open(name, Access::Append).map(drop)
    }

    fn sync_directory(&self, name: &str) -> io::Result<()> {
        self.sync_names(Some(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(|state, extent| {
            if !state.names.contains_key(name) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if extent != Extent::Nothing {
                let change = NameChange::Remove(name.to_owned());
                change.apply(&mut state.names);
                state.unsynced_names.push(change);
            }
            Ok(())
        })
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        let identity = file.identity()?;
        let state = self.state();
        state.check_power()?;
        Ok(state.names.get(name).is_some_and(|file| (0, *file as u64) == identity))
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        Ok(Box::new(CallsWatch { disk: self.clone(), seen_calls: self.calls() }))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
}

impl StorageFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.check_power()?;
        let content = &state.files[self.file].content;
        let from = content.get(offset as usize..).unwrap_or_default();
        let length = from.len().min(buffer.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.disk.call(|state, extent| {
            let written = match extent {
                Extent::All => bytes,
                Extent::Half => &bytes[..bytes.len() / 2],
                Extent::Nothing => &[],
            };
            let file = &mut state.files[self.file];
            file.change(Change::Write { offset: file.content.len(), bytes: written.to_vec() });
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.call(|state, extent| {
            if extent == Extent::All {
                let change = Change::Write { offset: offset as usize, bytes: bytes.to_vec() };
                state.files[self.file].change(change);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call(|state, extent| {
            let file = &mut state.files[self.file];
            if extent == Extent::All {
                // Not a copy of `content`: it may hold changes that an earlier failed sync dropped.
                let changes = std::mem::take(&mut file.unsynced);
                changes.iter().for_each(|change| change.apply(&mut file.synced));
            }
            file.unsynced.clear();
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_power()?;
        Ok(state.files[self.file].content.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.call(|state, extent| {
            if extent != Extent::Nothing {
                state.files[self.file].change(Change::Truncate(len as usize));
            }
            Ok(())
        })
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.file as u64))
    }

    fn lock(&self, lock: Lock) -> io::Result<()> {
        let mut state = self.disk.state();
        loop {
            state.check_power()?;
            if state.try_lock(self.file, self.id, lock) {
                return Ok(());
            }
            state = self.disk.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.check_power()?;
        Ok(state.try_lock(self.file, self.id, lock))
    }

    fn unlock(&self) -> io::Result<()> {
        self.disk.state().unlock(self.file, self.id);
        self.disk.0.changed.notify_all();
        Ok(())
    }
}

/// Waits until a call changes something.
struct CallsWatch {
    disk: SimDisk,
    /// Calls when the last wait returned.
    seen_calls: u64,
}

impl Watch for CallsWatch {
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let state = self.disk.state();
        let seen_calls = self.seen_calls;
        let unchanged = |state: &mut State| !state.crashed && state.calls == seen_calls;
        let waited = self.disk.0.changed.wait_timeout_while(state, timeout, unchanged);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.check_power()?;
        self.seen_calls = state.calls;
        Ok(())
    }
}
