//! A disk that can lose power: a [`Storage`] in memory that remembers what was synced and what was not, for tests of
//! whatever is built on a bus.
//!
//! Running programs see what they wrote, as through a page cache. When the power goes ([`SimDisk::crash_at`]), each
//! [survivor](SimDisk::survivors) is a disk as it may be found afterwards: everything that was synced is there; of what
//! was not, any part may be lost, torn at any byte, persisted in another order, or stand as zeros or garbage in a
//! file that has grown around it. Names that were not synced in their directory may be missing, in the order they came.
//!
//! What it assumes is what `docs/FORMAT.md` says of the media: a sync that succeeded holds, a rename is all or nothing,
//! and an overwrite within one sector ([`SECTOR`] bytes) is all or nothing.
//!
//! ```
//! use std::collections::BTreeMap;
//! use zero_bus::{Bus, Draft, sim::SimDisk};
//!
//! let disk = SimDisk::new();
//! let bus = Bus::open_in(disk.storage())?;
//! let draft = || Draft::new("step.done", 0.0, &BTreeMap::from([("step", 1)]));
//! bus.append(draft()?)?; // acknowledged
//! disk.crash_at(disk.calls() + 2); // the write happens, its sync does not
//! assert!(bus.append(draft()?).is_err());
//!
//! for survivor in disk.survivors(7, 100) {
//!     let events = Bus::open_in(survivor.storage())?.head().index;
//!     assert!(events == 1 || events == 2, "the acknowledged one is there, the other one whole or not at all");
//! }
//! # Ok::<(), zero_bus::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::storage::{Access, Lock, Storage, StorageFile, Watch};

/// Bytes that a disk writes all or nothing.
pub const SECTOR: u64 = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    /// As running programs see them.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// Since the directory was synced.
    name_changes: Vec<NameChange>,
    calls: u64,
    crash_at: Option<u64>,
    failure: Option<(u64, Failure)>,
    crashed: bool,
    handles: u64,
}

#[derive(Clone, Default)]
struct File {
    /// As running programs see it.
    content: Vec<u8>,
    synced: Vec<u8>,
    /// Since the file was synced.
    changes: Vec<Change>,
    shared: Vec<u64>,
    exclusive: Option<u64>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
}

/// What a call that is made to fail did all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing. A sync that fails so has given up what it should have written: a later one that succeeds does not
    /// bring it back, as with Linux' page cache.
    Failed,
    /// Everything: only the answer was lost.
    FailedButPersisted,
    /// A write: half of it, as on a disk that becomes full. Other calls: as [`Failure::Failed`].
    Half,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }))
    }

    /// The disk as a directory for [`Bus::open_in`](crate::Bus::open_in) and
    /// [`Reader::open_in`](crate::Reader::open_in).
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// How many calls that change something (or sync it) were made: the points at which a crash can differ.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets the power go in place of the call with this number, counted from 1 and from the beginning. From
    /// then on every call fails, and nobody waits for a lock.
    pub fn crash_at(&self, call: u64) {
        self.state().crash_at = Some(call);
    }

    /// Whether the power is gone.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Lets the call with this number fail, and then all is well again.
    pub fn fail_at(&self, call: u64, failure: Failure) {
        self.state().failure = Some((call, failure));
    }

    /// A file as running programs see it; `None` where there is none.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|file| state.files[*file].content.clone())
    }

    /// Puts a file there, synced.
    pub fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(File { content: content.to_vec(), synced: content.to_vec(), ..File::default() });
        state.names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
    }

    /// Disks as they may be found if the power goes now: all of them where there are no more than `at_most`, else that
    /// many, chosen by `seed`, the two extremes (all lost, all there) among them.
    pub fn survivors(&self, seed: u64, at_most: usize) -> Vec<SimDisk> {
        let state = self.state();
        let mut dice = Dice(seed);
        let choices: Vec<Vec<Vec<u8>>> =
            state.files.iter().map(|file| file.survivors(&mut dice, at_most)).collect();
        let name_choices = state.name_changes.len() + 1;
        let all = choices.iter().map(Vec::len).fold(name_choices, usize::saturating_mul);
        let picks: Vec<Vec<usize>> = if all <= at_most {
            (0..all).map(|pick| spread(pick, name_choices, &choices)).collect()
        } else {
            let extremes = [vec![0; choices.len() + 1], {
                let last = choices.iter().map(|choices| choices.len() - 1);
                std::iter::once(name_choices - 1).chain(last).collect()
            }];
            let random = (2..at_most).map(|_| {
                let sizes = std::iter::once(name_choices).chain(choices.iter().map(Vec::len));
                sizes.map(|size| dice.below(size)).collect()
            });
            extremes.into_iter().chain(random.collect::<Vec<_>>()).collect()
        };
        picks
            .into_iter()
            .map(|pick| state.survivor(pick[0], |file| choices[file][pick[file + 1]].clone()))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that changes something: counts it, and lets it crash or fail where that was asked for. `doing` gets
    /// whether it should do all, half or nothing, and the answer follows from that.
    fn call<T>(&self, doing: impl FnOnce(&mut State, Extent) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.alive()?;
        state.calls += 1;
        if state.crash_at.is_some_and(|call| state.calls >= call) {
            state.crashed = true;
            self.0.changed.notify_all();
            return Err(gone());
        }
        let number = state.calls;
        let failure = state.failure.take_if(|(call, _)| *call == number);
        let extent = match failure {
            None | Some((_, Failure::FailedButPersisted)) => Extent::All,
            Some((_, Failure::Half)) => Extent::Half,
            Some((_, Failure::Failed)) => Extent::Nothing,
        };
        let result = doing(&mut state, extent);
        drop(state);
        self.0.changed.notify_all();
        match failure {
            None => result,
            // What ENOSPC looks like.
            Some(_) => Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk says no")),
        }
    }
}

/// How much of a call happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    All,
    Half,
    Nothing,
}

fn gone() -> io::Error {
    io::Error::other("the power is gone")
}

/// The choice with a number, as one choice for the names and one for each file.
fn spread(mut pick: usize, names: usize, files: &[Vec<Vec<u8>>]) -> Vec<usize> {
    let mut digit = |size: usize| {
        let digit = pick % size;
        pick /= size;
        digit
    };
    std::iter::once(names).chain(files.iter().map(Vec::len)).map(&mut digit).collect()
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(gone()) } else { Ok(()) }
    }

    fn survivor(&self, name_changes: usize, content: impl Fn(usize) -> Vec<u8>) -> SimDisk {
        let mut names = self.synced_names.clone();
        for change in &self.name_changes[..name_changes] {
            change.apply(&mut names);
        }
        let disk = SimDisk::new();
        names.into_iter().for_each(|(name, file)| disk.put(&name, &content(file)));
        disk
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
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
        self.changes.push(change);
    }

    /// Contents that may be found after a crash, all lost first, all there last. All of them where they are few.
    fn survivors(&self, dice: &mut Dice, at_most: usize) -> Vec<Vec<u8>> {
        let mut found = vec![self.synced.clone()];
        if let [Change::Write { offset, bytes }] = &self.changes[..]
            && bytes.len() <= at_most
            && !self.overwrites(*offset, bytes.len())
        {
            // One write: torn at every byte, the rest missing or in the file as zeros.
            for kept in 1..bytes.len() {
                let torn = Change::Write { offset: *offset, bytes: bytes[..kept].to_vec() };
                let mut content = self.synced.clone();
                torn.apply(&mut content);
                found.push(content.clone());
                content.resize(offset + bytes.len(), 0);
                found.push(content);
            }
        } else if !self.changes.is_empty() {
            found.extend((0..at_most).map(|_| self.random_survivor(dice)));
        }
        if !self.changes.is_empty() {
            found.push(self.content.clone());
        }
        found
    }

    /// Whether this stays in the sectors that were there, and so is all or nothing.
    fn overwrites(&self, offset: usize, length: usize) -> bool {
        offset + length <= self.synced.len() && length as u64 <= SECTOR
    }

    /// Each change lost, there, or in pieces.
    fn random_survivor(&self, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.synced.clone();
        for change in &self.changes {
            match change {
                _ if dice.below(3) == 0 => {}
                Change::Write { offset, bytes }
                    if !self.overwrites(*offset, bytes.len()) && dice.below(2) == 0 =>
                {
                    let pieces = self.pieces(*offset, bytes, dice);
                    pieces.iter().for_each(|piece| piece.apply(&mut content));
                }
                change => change.apply(&mut content),
            }
        }
        content
    }

    /// A write in pieces: some arrived, some are garbage, some are not there.
    fn pieces(&self, offset: usize, bytes: &[u8], dice: &mut Dice) -> Vec<Change> {
        let mut cuts: Vec<usize> =
            (0..3).map(|_| dice.below(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).filter(|cut| cut[0] < cut[1]).filter_map(|cut| {
            let mut bytes = bytes[cut[0]..cut[1]].to_vec();
            match dice.below(4) {
                0 => return None,
                // Sectors that were there hold the old or the new.
                1 if offset + cut[0] >= self.synced.len() => {
                    bytes.iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
                }
                _ => {}
            }
            Some(Change::Write { offset: offset + cut[0], bytes })
        });
        pieces.collect()
    }
}

/// Seeded random numbers, for tests that can be played again: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
/// number generators, 2014).
///
/// ```
/// use zero_bus::sim::Dice;
/// let (mut one, mut other) = (Dice(7), Dice(7));
/// assert!((0..100).all(|_| one.below(6) < 6));
/// assert_ne!(one.below(1 << 30), other.below(1 << 30));
/// ```
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number below a size; 0 for a size of 0.
    pub fn below(&mut self, size: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % size.max(1) as u64) as usize
    }
}

struct Handle {
    disk: SimDisk,
    file: usize,
    id: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.state().release(self.file, self.id);
        self.disk.0.changed.notify_all();
    }
}

impl State {
    fn release(&mut self, file: usize, id: u64) {
        let file = &mut self.files[file];
        file.shared.retain(|holder| *holder != id);
        file.exclusive.take_if(|holder| *holder == id);
    }

    fn take(&mut self, file: usize, id: u64, lock: Lock) -> bool {
        self.release(file, id);
        let file = &mut self.files[file];
        match lock {
            _ if file.exclusive.is_some() => false,
            Lock::Shared => {
                file.shared.push(id);
                true
            }
            Lock::Exclusive if file.shared.is_empty() => {
                file.exclusive = Some(id);
                true
            }
            Lock::Exclusive => false,
        }
    }
}

impl Storage for SimDisk {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let there = {
            let state = self.state();
            state.alive()?;
            state.names.get(name).copied()
        };
        let file = match (there, access) {
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
                    return Err(gone());
                }
                // Somebody may have been faster.
                if let Some(file) = state.names.get(name) {
                    return Ok(*file);
                }
                let file = state.files.len();
                state.files.push(File::default());
                state.names.insert(name.to_owned(), file);
                state.name_changes.push(NameChange::Create(name.to_owned(), file));
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
                state.name_changes.push(change);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.call(|state, extent| {
            if extent == Extent::All {
                state.synced_names = state.names.clone();
            }
            // What a failed sync gave up no later one brings back.
            state.name_changes.clear();
            Ok(())
        })
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        let identity = file.identity()?;
        let state = self.state();
        state.alive()?;
        Ok(state.names.get(name).is_some_and(|file| (0, *file as u64) == identity))
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        Ok(Box::new(CallsWatch { disk: self.clone(), seen: self.calls() }))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
}

impl StorageFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.alive()?;
        let content = &state.files[self.file].content;
        let from = content.get(offset as usize..).unwrap_or_default();
        let length = from.len().min(buffer.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.disk.call(|state, extent| {
            let arrived = match extent {
                Extent::All => bytes,
                Extent::Half => &bytes[..bytes.len() / 2],
                Extent::Nothing => &[],
            };
            let file = &mut state.files[self.file];
            file.change(Change::Write { offset: file.content.len(), bytes: arrived.to_vec() });
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
                // Not all that is seen: what an earlier failed sync gave up is not written by this one.
                let changes = std::mem::take(&mut file.changes);
                changes.iter().for_each(|change| change.apply(&mut file.synced));
            }
            file.changes.clear();
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
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
            state.alive()?;
            if state.take(self.file, self.id, lock) {
                return Ok(());
            }
            state = self.disk.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.alive()?;
        Ok(state.take(self.file, self.id, Lock::Exclusive))
    }

    fn unlock(&self) -> io::Result<()> {
        self.disk.state().release(self.file, self.id);
        self.disk.0.changed.notify_all();
        Ok(())
    }
}

/// Waits for calls that change something.
struct CallsWatch {
    disk: SimDisk,
    seen: u64,
}

impl Watch for CallsWatch {
    fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        let state = self.disk.state();
        let seen = self.seen;
        let waiting = |state: &mut State| !state.crashed && state.calls == seen;
        let waited = self.disk.0.changed.wait_timeout_while(state, at_most, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.alive()?;
        self.seen = state.calls;
        Ok(())
    }
}
