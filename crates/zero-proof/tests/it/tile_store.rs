//! The tiles of a bus on disk: up to date, rebuilt, and intact after a crash.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use zero_bus::sim::SimDisk;
use zero_bus::storage::{Access, Storage, StorageFile, Watch};
use zero_bus::{Bus, Draft};
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::tile_store::TileStore;
use zero_proof::tree::{check_consistency, check_inclusion};
use zero_proof::{Entry, Hash, StoreError};

use crate::support::{Leaves, leaves_of, secret};

/// A bus with this many events, and the leaves of its tree.
fn bus_with(events: u64) -> (SimDisk, Bus) {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    extend(&bus, events);
    (disk, bus)
}

fn extend(bus: &Bus, events: u64) {
    let from = bus.head().index;
    let draft = |number| Draft::new("t", number as f64, &BTreeMap::from([("number", number)])).unwrap();
    bus.append_batch((from..from + events).map(draft).collect()).unwrap();
}

fn leaves(bus: &Bus) -> Leaves {
    let events: Vec<_> = bus.reader().events(1).unwrap().map(Result::unwrap).collect();
    leaves_of(&events)
}

fn caught_up(tiles: &SimDisk, bus: &Bus) -> TileStore {
    let mut store = TileStore::open(tiles.storage()).unwrap();
    store.catch_up(&bus.reader(), &secret()).unwrap();
    store
}

/// A storage on which nothing can be written.
struct ReadOnly(Arc<dyn Storage>);

impl Storage for ReadOnly {
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StorageFile>> {
        match access {
            Access::Read => self.0.open(name, access),
            _ => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn is_current(&self, name: &str, file: &dyn StorageFile) -> io::Result<bool> {
        self.0.is_current(name, file)
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        self.0.watch()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

#[test]
fn whole_tiles_that_cannot_be_written_prove() {
    let (_, bus) = bus_with(300);
    let tiles = SimDisk::new();
    assert!(TileStore::open(Arc::new(ReadOnly(tiles.storage()))).is_err());
    drop(caught_up(&tiles, &bus));
    let mut store = TileStore::open(Arc::new(ReadOnly(tiles.storage()))).unwrap();
    store.catch_up(&bus.reader(), &secret()).unwrap();
    let (leaves, path) = (leaves(&bus), store.prove_inclusion(7, 300).unwrap());
    check_inclusion(&leaves.0[7], 7, 300, &path, &leaves.root()).unwrap();
    drop(store);
    // Tiles that are behind are not brought up to date, and not used.
    extend(&bus, 1);
    let mut store = TileStore::open(Arc::new(ReadOnly(tiles.storage()))).unwrap();
    assert!(store.catch_up(&bus.reader(), &secret()).is_err());
    assert_eq!(store.head().size, 300);
}

#[test]
fn tiles_follow_the_log_in_steps_of_any_size() {
    let (_, bus) = bus_with(0);
    let tiles = SimDisk::new();
    assert_eq!(caught_up(&tiles, &bus).head().root, Hash::EMPTY_TREE);
    for step in [1, 1, 254, 1, 300, 0, 20_000] {
        extend(&bus, step);
        let store = caught_up(&tiles, &bus);
        let leaves = leaves(&bus);
        let size = leaves.0.len() as u64;
        assert_eq!((store.head().size, store.head().root), (size, leaves.root()));
        assert_eq!(store.head().checksum, bus.head().checksum);
        for index in [0, size / 2, size - 1] {
            let path = store.prove_inclusion(index, size).unwrap();
            check_inclusion(&leaves.0[index as usize], index, size, &path, &leaves.root()).unwrap();
            let proof = store.prove_consistency(index, size).unwrap();
            check_consistency(index, &leaves.hash(0, index), size, &leaves.root(), &proof).unwrap();
            assert_eq!(store.covering(0, index).unwrap(), leaves.covering(0, index));
        }
        assert!(matches!(store.prove_inclusion(0, size + 1), Err(StoreError::Proof(_))));
    }
}

#[test]
fn only_new_events_are_written() {
    let (_, bus) = bus_with(20_000);
    let tiles = SimDisk::new();
    drop(caught_up(&tiles, &bus));
    let before = tiles.calls();
    drop(caught_up(&tiles, &bus));
    assert_eq!(tiles.calls(), before);
    let level = tiles.content("tiles.0").unwrap();
    extend(&bus, 10);
    drop(caught_up(&tiles, &bus));
    let grown = tiles.content("tiles.0").unwrap();
    assert_eq!((grown.len(), &grown[..level.len()]), (level.len() + 320, &level[..]));
}

#[test]
fn tiles_that_are_deleted_damaged_or_of_another_bus_are_rebuilt() {
    let (_, bus) = bus_with(700);
    let (_, other) = bus_with(300);
    other.append(Draft::new("other", 0.0, &BTreeMap::from([("a", 1)])).unwrap()).unwrap();
    extend(&other, 700);
    let root = leaves(&bus).root();
    let rebuilt = |change: &dyn Fn(&SimDisk)| {
        let tiles = SimDisk::new();
        drop(caught_up(&tiles, &bus));
        change(&tiles);
        assert_eq!(caught_up(&tiles, &bus).head().root, root);
    };
    rebuilt(&|tiles| tiles.put("tiles.head", b""));
    rebuilt(&|tiles| tiles.put("tiles.head", b"zero.runtime.tiles.v1\n700\n"));
    rebuilt(&|tiles| tiles.put("tiles.head", &[0xff; 10_000]));
    rebuilt(&|tiles| tiles.put("tiles.0", b""));
    rebuilt(&|tiles| tiles.put("tiles.1", &[7; 64]));
    rebuilt(&|tiles| {
        let text = String::from_utf8(tiles.content("tiles.head").unwrap()).unwrap();
        tiles.put("tiles.head", text.replace("\n700\n", "\n600\n").as_bytes());
    });
    rebuilt(&|tiles| drop(caught_up(tiles, &other)));
    rebuilt(&|tiles| {
        let secret = DisclosureSecret::from_bytes([1; 32]);
        TileStore::open(tiles.storage()).unwrap().catch_up(&bus.reader(), &secret).unwrap();
    });
}

/// A hash that opening the tiles does not read.
#[test]
fn a_proof_from_damaged_tiles_is_not_returned() {
    let (_, bus) = bus_with(700);
    let tiles = SimDisk::new();
    drop(caught_up(&tiles, &bus));
    let mut level = tiles.content("tiles.0").unwrap();
    level[32 * 5] ^= 1;
    tiles.put("tiles.0", &level);
    let mut store = caught_up(&tiles, &bus);
    assert!(matches!(store.prove_inclusion(4, 700), Err(StoreError::DamagedTiles { .. })));
    assert!(matches!(store.prove_inclusion(5, 700), Err(StoreError::DamagedTiles { .. })));
    store.prove_inclusion(600, 700).unwrap();
    store.clear();
    store.catch_up(&bus.reader(), &secret()).unwrap();
    store.prove_inclusion(4, 700).unwrap();
}

/// Cuts the power at each call. What is left is used up to the last record, and the rest is done
/// again.
#[test]
fn a_crash_at_any_point_costs_only_work() {
    let (_, bus) = bus_with(255);
    let base = SimDisk::new();
    drop(caught_up(&base, &bus));
    let old_calls = base.calls();
    extend(&bus, 600);
    let root = leaves(&bus).root();
    let mut survivors = 0;
    for call in 1.. {
        let tiles = SimDisk::new();
        {
            let (_, start) = bus_with(255);
            drop(caught_up(&tiles, &start));
            assert_eq!(tiles.calls(), old_calls);
        }
        tiles.crash_at(old_calls + call);
        let mut store = match TileStore::open(tiles.storage()) {
            Ok(store) => store,
            Err(_) => continue,
        };
        let result = store.catch_up(&bus.reader(), &secret());
        if !tiles.crashed() {
            result.unwrap();
            break;
        }
        assert!(matches!(result, Err(StoreError::Io { .. })));
        drop(store);
        for survivor in tiles.survivors(call, 20) {
            let store = caught_up(&survivor, &bus);
            assert_eq!(store.head().root, root);
            store.prove_inclusion(300, 855).unwrap();
            survivors += 1;
        }
    }
    assert!(survivors > 50, "{survivors}");
}

#[test]
fn entries_of_the_store_are_those_of_the_events() {
    let (_, bus) = bus_with(3);
    let store = caught_up(&SimDisk::new(), &bus);
    let event = bus.reader().event(2).unwrap().unwrap();
    let leaf = store.node(zero_proof::Node::leaf(1)).unwrap();
    assert_eq!(leaf, Entry::of(&event, &secret()).leaf_hash());
}
