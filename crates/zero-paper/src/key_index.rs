//! The idempotency keys of a long run, in a hash table on the disk.
//!
//! The table is a companion of the journal: deleting it loses nothing, because the next start
//! reads the keys from the journal again. It holds the first 128 bits of each key's SHA-256 with
//! one number, which is where the key was used first.
//!
//! The file consists of sectors of 512 bytes: a header, then the buckets. The upper bits of a hash
//! choose its bucket; if that is full, the hash is in the first later bucket that is not. A lookup
//! reads one bucket in most cases, and the table needs no memory.
//!
//! A disk writes a sector as a whole or not at all, and nothing is ever removed. After a power cut,
//! each bucket therefore holds at least the keys that it held at the last sync. Each sector ends
//! with a check value, so that damage is an error and never a missing key.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Serialize;
use zero_bus::Checksum;
use zero_bus::storage::{Access, Storage, StorageFile};

use crate::error::{Error, Result};

const SECTOR_BYTES: usize = 512;
const ENTRY_BYTES: usize = 24;
/// Entries of a bucket. The rest of its sector is the check value.
const BUCKET_ENTRIES: usize = 21;
/// The table grows when its buckets hold more entries than this on average.
const MAX_AVERAGE_ENTRIES: u64 = 13;
/// A table begins with 2^4 buckets.
const MIN_BITS: u32 = 4;
/// More buckets than any memory or disk can hold.
const MAX_BITS: u32 = 40;
/// Buckets after the last one, for hashes that its bucket has no room for.
const SPARE_BUCKETS: u64 = 32;
/// Sectors that are written at once when a table is created.
const WRITE_SECTORS: usize = 128;
const MAGIC: &[u8; 8] = b"zerokeys";

/// The hash of a key: the first 128 bits of its SHA-256.
pub(crate) fn key_hash(key: &str) -> u128 {
    let checksum = Checksum::of(key.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&checksum.as_bytes()[..16]);
    u128::from_be_bytes(first)
}

/// Which table, with how many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct IndexIdentity {
    pub(crate) entries: u64,
    pub(crate) id: u64,
}

/// A hash and its number.
pub(crate) type Entry = (u128, u64);

/// The open table. Its owner keeps every other process from opening it.
pub(crate) struct KeyIndex {
    storage: Arc<dyn Storage>,
    name: String,
    table: Mutex<Table>,
    /// The first failed lookup.
    failure: OnceLock<String>,
}

struct Table {
    file: Box<dyn StorageFile>,
    /// Distinguishes this table from those of other journals.
    id: u64,
    /// The table has 2^bits buckets and [`SPARE_BUCKETS`].
    bits: u32,
    /// Number of entries. A crash can leave a number that is too small, never one far off.
    entries: u64,
}

impl KeyIndex {
    /// Creates an empty table in place of an existing one. `id` distinguishes it from others.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn create(storage: Arc<dyn Storage>, name: String, id: u64) -> Result<Self> {
        let created = Table::create(&*storage, &name, id, MIN_BITS, &mut || Ok(None));
        let table = created.map_err(Error::io("create it", &storage.path(&name)))?;
        Ok(Self { storage, name, table: Mutex::new(table), failure: OnceLock::new() })
    }

    /// Opens a table. Returns why it cannot be used if it is missing or another one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn open(storage: Arc<dyn Storage>, name: String, id: u64) -> Result<Result<Self, String>> {
        let opened = Table::open(&*storage, &name, id).map_err(Error::io("open it", &storage.path(&name)))?;
        let index =
            opened.map(|table| Self { storage, name, table: Mutex::new(table), failure: OnceLock::new() });
        Ok(index)
    }

    /// Returns the number that is stored for a hash.
    ///
    /// # Errors
    /// [`Error::Io`] if the bucket is damaged or cannot be read. [`KeyIndex::check`] repeats it.
    pub(crate) fn get(&self, hash: u128) -> Result<Option<u64>> {
        let found = self.table().find(hash);
        found.map_err(|error| {
            let _ = self.failure.set(error.to_string());
            Error::io("look up an idempotency key in", &self.storage.path(&self.name))(error)
        })
    }

    /// Returns the error of the first failed lookup, so that nothing is recorded that depends on
    /// it.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(crate) fn check(&self) -> Result<()> {
        let Some(failure) = self.failure.get() else { return Ok(()) };
        let path = self.storage.path(&self.name);
        let problem = format!("cannot be searched ({failure}); delete it and restart the runtime");
        Err(Error::Refused { path, problem })
    }

    /// Stores entries and syncs them. An entry replaces the number of an equal hash.
    ///
    /// Rewrites the bucket of each entry even if it has the entry: after a failed sync, the bucket
    /// may be in memory only.
    ///
    /// # Errors
    /// [`Error::Io`]. The call may be repeated with the same entries.
    pub(crate) fn extend(&self, mut entries: Vec<Entry>) -> Result<()> {
        entries.sort_unstable();
        let path = self.storage.path(&self.name);
        self.table()
            .extend(&*self.storage, &self.name, &entries)
            .map_err(Error::io("add idempotency keys to", &path))
    }

    /// Returns what distinguishes this table from others, and the number of its entries.
    pub(crate) fn identity(&self) -> IndexIdentity {
        let table = self.table();
        IndexIdentity { entries: table.entries, id: table.id }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Sector = [u8; SECTOR_BYTES];

impl Table {
    fn open(storage: &dyn Storage, name: &str, id: u64) -> io::Result<Result<Self, String>> {
        match storage.open(name, Access::Read) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err("is missing".to_owned())),
            Err(error) => return Err(error),
        }
        let file = storage.open(name, Access::ReadWrite)?;
        let mut header = [0; SECTOR_BYTES];
        let damaged = || Ok(Err("is damaged".to_owned()));
        if !read_sector(&*file, 0, &mut header)? || header[..8] != *MAGIC || !is_sealed(&header, id, 0) {
            return damaged();
        }
        let (bits, entries) = (read_u64(&header, 16) as u32, read_u64(&header, 24));
        if !(MIN_BITS..=MAX_BITS).contains(&bits) {
            return damaged();
        }
        let table = Self { file, id, bits, entries };
        if table.file.size()? != (1 + table.buckets()) * SECTOR_BYTES as u64 {
            return damaged();
        }
        Ok(Ok(table))
    }

    /// Writes a table with the entries that `next` returns, whose buckets must not decrease, and
    /// renames it to `name`.
    fn create(
        storage: &dyn Storage,
        name: &str,
        id: u64,
        bits: u32,
        next: &mut dyn FnMut() -> io::Result<Option<Entry>>,
    ) -> io::Result<Self> {
        let temporary = format!("{name}.tmp");
        let buckets = (1 << bits) + SPARE_BUCKETS;
        let file = storage.open(&temporary, Access::Truncate)?;
        let mut buffer = vec![0; SECTOR_BYTES];
        let (mut entries, mut pending) = (0, next()?);
        for bucket in 0..buckets {
            let mut sector = [0; SECTOR_BYTES];
            for slot in 0..BUCKET_ENTRIES {
                let Some((hash, number)) = pending.filter(|(hash, _)| home(*hash, bits) <= bucket) else {
                    break;
                };
                write_entry(&mut sector, slot, hash, number);
                entries += 1;
                pending = next()?;
            }
            seal(&mut sector, id, 1 + bucket);
            buffer.extend_from_slice(&sector);
            if buffer.len() >= WRITE_SECTORS * SECTOR_BYTES || bucket + 1 == buckets {
                file.append(&buffer)?;
                buffer.clear();
            }
        }
        if pending.is_some() {
            return Err(io::Error::other("its last buckets are full"));
        }
        drop(file);
        let file = storage.open(&temporary, Access::ReadWrite)?;
        let table = Self { file, id, bits, entries };
        table.write_header()?;
        table.file.sync()?;
        storage.rename(&temporary, name)?;
        storage.sync()?;
        Ok(table)
    }

    fn buckets(&self) -> u64 {
        (1 << self.bits) + SPARE_BUCKETS
    }

    fn write_header(&self) -> io::Result<()> {
        let mut header = [0; SECTOR_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.id.to_be_bytes());
        header[16..24].copy_from_slice(&u64::from(self.bits).to_be_bytes());
        header[24..32].copy_from_slice(&self.entries.to_be_bytes());
        seal(&mut header, self.id, 0);
        self.file.write_at(&header, 0)
    }

    fn read_bucket(&self, bucket: u64, sector: &mut Sector) -> io::Result<()> {
        if read_sector(&*self.file, 1 + bucket, sector)? && is_sealed(sector, self.id, 1 + bucket) {
            return Ok(());
        }
        let offset = (1 + bucket) * SECTOR_BYTES as u64;
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is damaged at byte {offset}")))
    }

    fn find(&self, hash: u128) -> io::Result<Option<u64>> {
        let mut sector = [0; SECTOR_BYTES];
        for bucket in home(hash, self.bits)..self.buckets() {
            self.read_bucket(bucket, &mut sector)?;
            match place(&sector, hash) {
                Place::Found(_, number) => return Ok(Some(number)),
                Place::Free(_) => return Ok(None),
                Place::Full => {}
            }
        }
        Ok(None)
    }

    fn extend(&mut self, storage: &dyn Storage, name: &str, entries: &[Entry]) -> io::Result<()> {
        let expected = self.entries + entries.len() as u64;
        let mut bits = self.bits;
        while expected > MAX_AVERAGE_ENTRIES << bits {
            bits += 1;
        }
        if bits > self.bits {
            self.grow(storage, name, bits)?;
        }
        for &(hash, number) in entries {
            while !self.insert(hash, number)? {
                self.grow(storage, name, self.bits + 1)?;
            }
        }
        self.write_header()?;
        self.file.sync()
    }

    /// Stores an entry. Returns false if no bucket has room for it.
    fn insert(&mut self, hash: u128, number: u64) -> io::Result<bool> {
        let mut sector = [0; SECTOR_BYTES];
        for bucket in home(hash, self.bits)..self.buckets() {
            self.read_bucket(bucket, &mut sector)?;
            let (slot, is_new) = match place(&sector, hash) {
                Place::Found(slot, _) => (slot, false),
                Place::Free(slot) => (slot, true),
                Place::Full => continue,
            };
            write_entry(&mut sector, slot, hash, number);
            seal(&mut sector, self.id, 1 + bucket);
            self.file.write_at(&sector, (1 + bucket) * SECTOR_BYTES as u64)?;
            self.entries += u64::from(is_new);
            return Ok(true);
        }
        Ok(false)
    }

    /// Replaces the table by a larger one. Reads this one in order; a bucket with room ends the
    /// entries of all buckets up to it.
    fn grow(&mut self, storage: &dyn Storage, name: &str, bits: u32) -> io::Result<()> {
        let (mut bucket, mut sorted) = (0, Vec::<Entry>::new().into_iter());
        let mut next = || {
            loop {
                if let Some(entry) = sorted.next() {
                    return Ok(Some(entry));
                }
                if bucket == self.buckets() {
                    return Ok(None);
                }
                let (mut run, mut sector) = (Vec::new(), [0; SECTOR_BYTES]);
                while bucket < self.buckets() {
                    self.read_bucket(bucket, &mut sector)?;
                    bucket += 1;
                    let before = run.len();
                    run.extend((0..BUCKET_ENTRIES).map_while(|slot| read_entry(&sector, slot)));
                    if run.len() - before < BUCKET_ENTRIES {
                        break;
                    }
                }
                run.sort_unstable();
                sorted = run.into_iter();
            }
        };
        let grown = Self::create(storage, name, self.id, bits, &mut next)?;
        *self = grown;
        Ok(())
    }
}

/// Where a hash is in a bucket, or would be.
enum Place {
    Found(usize, u64),
    Free(usize),
    Full,
}

fn place(sector: &Sector, hash: u128) -> Place {
    for slot in 0..BUCKET_ENTRIES {
        match read_entry(sector, slot) {
            None => return Place::Free(slot),
            Some((found, number)) if found == hash => return Place::Found(slot, number),
            Some(_) => {}
        }
    }
    Place::Full
}

fn home(hash: u128, bits: u32) -> u64 {
    (hash >> (128 - bits)) as u64
}

/// Returns the entry in a slot; `None` if the slot is free. A number is stored plus one, so that
/// zero bytes are a free slot.
fn read_entry(sector: &Sector, slot: usize) -> Option<Entry> {
    let at = slot * ENTRY_BYTES;
    let number = read_u64(sector, at + 16).checked_sub(1)?;
    let hash = (u128::from(read_u64(sector, at)) << 64) | u128::from(read_u64(sector, at + 8));
    Some((hash, number))
}

fn write_entry(sector: &mut Sector, slot: usize, hash: u128, number: u64) {
    let at = slot * ENTRY_BYTES;
    sector[at..at + 16].copy_from_slice(&hash.to_be_bytes());
    sector[at + 16..at + ENTRY_BYTES].copy_from_slice(&number.saturating_add(1).to_be_bytes());
}

fn read_u64(sector: &Sector, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&sector[at..at + 8]);
    u64::from_be_bytes(bytes)
}

fn read_sector(file: &dyn StorageFile, sector: u64, bytes: &mut Sector) -> io::Result<bool> {
    let mut filled = 0;
    while filled < SECTOR_BYTES {
        match file.read_at(&mut bytes[filled..], sector * SECTOR_BYTES as u64 + filled as u64)? {
            0 => return Ok(false),
            read => filled += read,
        }
    }
    Ok(true)
}

const CHECK_AT: usize = SECTOR_BYTES - 8;

/// The check value of a sector: 64-bit FNV-1a over table, position and content. It finds damage; a
/// person who changes the file can compute it.
fn check_value(sector: &Sector, id: u64, position: u64) -> u64 {
    let mut value = 0xcbf2_9ce4_8422_2325_u64;
    for part in [&id.to_be_bytes()[..], &position.to_be_bytes(), &sector[..CHECK_AT]] {
        for byte in part {
            value = (value ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    value
}

fn seal(sector: &mut Sector, id: u64, position: u64) {
    let value = check_value(sector, id, position);
    sector[CHECK_AT..].copy_from_slice(&value.to_be_bytes());
}

fn is_sealed(sector: &Sector, id: u64, position: u64) -> bool {
    read_u64(sector, CHECK_AT) == check_value(sector, id, position)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zero_bus::sim::{Rng, SimDisk};

    use super::{Entry, KeyIndex, SECTOR_BYTES, key_hash};

    fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
        range.map(|n| (key_hash(&format!("key-{n}")), n)).collect()
    }

    fn open(disk: &SimDisk) -> KeyIndex {
        KeyIndex::open(disk.storage(), "keys".to_owned(), 7).unwrap().unwrap()
    }

    #[test]
    fn a_table_finds_every_key_and_no_other_while_it_grows() {
        let disk = SimDisk::new();
        let index = KeyIndex::create(disk.storage(), "keys".to_owned(), 7).unwrap();
        let mut model = BTreeMap::new();
        let mut rng = Rng::new(3);
        let mut next = 0;
        for _ in 0..15 {
            let mut batch = entries(next..next + rng.below(200) as u64);
            next += batch.len() as u64;
            // Hashes that crowd one bucket, and the last one.
            batch.extend((0..3).map(|_| (u128::MAX - rng.below(1 << 20) as u128, next)));
            batch.extend((0..3).map(|_| ((1 << 127) + rng.below(1 << 20) as u128, next)));
            model.extend(batch.iter().copied());
            index.extend(batch).unwrap();
        }
        let reopened = open(&disk);
        for (hash, number) in &model {
            assert_eq!(reopened.get(*hash).unwrap(), Some(*number));
        }
        for (hash, _) in entries(next..next + 500) {
            assert_eq!(reopened.get(hash).unwrap(), None);
        }
        let missing = KeyIndex::open(disk.storage(), "keys".to_owned(), 8).unwrap();
        assert!(missing.is_err(), "the table of another journal");
    }

    #[test]
    fn a_flipped_bit_is_an_error_and_never_a_missing_key() {
        let disk = SimDisk::new();
        let index = KeyIndex::create(disk.storage(), "keys".to_owned(), 7).unwrap();
        index.extend(entries(0..40)).unwrap();
        let file = disk.storage().open("keys", zero_bus::storage::Access::ReadWrite).unwrap();
        let content = disk.content("keys").unwrap();
        for at in (SECTOR_BYTES..17 * SECTOR_BYTES).step_by(97) {
            file.write_at(&[content[at] ^ 4], at as u64).unwrap();
            for (hash, number) in entries(0..40) {
                let found = index.get(hash);
                assert!(found.is_err() || found.unwrap() == Some(number), "byte {at}");
            }
            file.write_at(&content[at..=at], at as u64).unwrap();
        }
        index.check().unwrap_err();
    }

    #[test]
    fn a_power_cut_at_any_call_leaves_every_synced_key() {
        let workload = |disk: &SimDisk, synced: &mut u64| -> crate::Result<()> {
            let index = KeyIndex::create(disk.storage(), "keys".to_owned(), 7)?;
            for n in 0..4 {
                index.extend(entries(n * 60..(n + 1) * 60))?;
                *synced = (n + 1) * 60;
            }
            Ok(())
        };
        let undisturbed = SimDisk::new();
        workload(&undisturbed, &mut 0).unwrap();
        let mut disks = 0;
        for call in 1..=undisturbed.calls() + 1 {
            let disk = SimDisk::new();
            disk.crash_at(call);
            let mut synced = 0;
            let _ = workload(&disk, &mut synced);
            for survivor in disk.survivors(call, 2) {
                disks += 1;
                let opened = KeyIndex::open(survivor.storage(), "keys".to_owned(), 7).unwrap();
                let Ok(index) = opened else {
                    assert_eq!(synced, 0, "call {call}");
                    continue;
                };
                for (hash, number) in entries(0..synced) {
                    assert_eq!(index.get(hash).unwrap(), Some(number), "call {call}");
                }
                // The call after the power cut, as a restarted runtime makes it.
                index.extend(entries(200..250)).unwrap();
                assert_eq!(index.get(key_hash("key-249")).unwrap(), Some(249));
            }
        }
        assert!(disks > 60, "{disks}");
    }
}
