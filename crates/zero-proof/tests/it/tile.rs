//! Tiles: paths, and the hashes in them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use zero_proof::tile::{
    Layer, Tile, decode_entries, decode_hashes, encode_entries, encode_hashes, new_tiles, node_hash,
};
use zero_proof::{Error, Hash, Node};

use crate::support::Leaves;

#[test]
fn paths_are_those_of_the_standard() {
    for (layer, index, width, path) in [
        (Layer::Hashes(0), 0, 256, "tile/0/000"),
        (Layer::Hashes(0), 999, 255, "tile/0/999.p/255"),
        (Layer::Hashes(1), 1000, 1, "tile/1/x001/000.p/1"),
        (Layer::Hashes(63), 1_234_067, 256, "tile/63/x001/x234/067"),
        (Layer::Entries, 1_234_067, 7, "tile/entries/x001/x234/067.p/7"),
        (Layer::Hashes(0), u64::MAX, 256, "tile/0/x018/x446/x744/x073/x709/x551/615"),
    ] {
        let tile = Tile { layer, index, width };
        assert_eq!(tile.path(), path);
        assert_eq!(Tile::parse(path), Ok(tile));
    }
}

#[test]
fn other_paths_are_refused_with_the_place() {
    for (path, offset) in [
        ("", 0),
        ("tiles/0/000", 0),
        ("tile/0", 5),
        ("tile/64/000", 5),
        ("tile/00/000", 5),
        ("tile/-1/000", 5),
        ("tile/entry/000", 5),
        ("tile/0/", 7),
        ("tile/0/00", 7),
        ("tile/0/0000", 7),
        ("tile/0/x000", 7),
        ("tile/0/x000/001", 7),
        ("tile/0/001/001", 7),
        ("tile/0/x001/x001", 12),
        ("tile/0/000/", 7),
        ("tile/0/000.p/0", 13),
        ("tile/0/000.p/256", 13),
        ("tile/0/000.p/01", 13),
        ("tile/0/000.p/", 13),
        ("tile/0/000.p/1/", 13),
        ("tile/0/x018/x446/x744/x073/x709/x551/616", 37),
        ("tile/0/../000", 7),
    ] {
        let error = Tile::parse(path).unwrap_err();
        assert!(error.to_string().starts_with(&format!("tile path, byte {offset}: ")), "{path}: {error}");
    }
}

/// The example of the standard.
#[test]
fn a_tree_of_70000_leaves_has_the_tiles_of_the_standard() {
    let tiles: Vec<Tile> = new_tiles(0, 70_000).unwrap().collect();
    let of_level = |level, full: bool| {
        tiles
            .iter()
            .filter(|tile| tile.layer == Layer::Hashes(level) && tile.is_full() == full)
            .collect::<Vec<_>>()
    };
    assert_eq!((of_level(0, true).len(), of_level(0, false)[0].width), (273, 112));
    assert_eq!((of_level(1, true).len(), of_level(1, false)[0].width), (1, 17));
    assert_eq!((of_level(2, true).len(), of_level(2, false)[0].width), (0, 1));
    assert_eq!(tiles.len(), 273 + 1 + 1 + 1 + 1);
    let paths: Vec<String> = new_tiles(0, 256).unwrap().map(|tile| tile.path()).collect();
    assert_eq!(paths, ["tile/0/000", "tile/1/000.p/1"]);
    assert!(new_tiles(0, 0).unwrap().next().is_none());
    assert!(new_tiles(2, 1).is_err());
}

/// The content of each tile of a tree.
fn contents(leaves: &Leaves) -> BTreeMap<Tile, Vec<Hash>> {
    let tiles = new_tiles(0, leaves.0.len() as u64).unwrap();
    tiles
        .map(|tile| {
            let Layer::Hashes(level) = tile.layer else { panic!("{tile:?}") };
            let hash = |index| leaves.node(Node { level: level * 8, index }).unwrap();
            (tile, tile.range().map(hash).collect())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_node_is_found_in_a_tile(size in 1_u64..1500) {
        let leaves = Leaves::numbered(size);
        let contents = contents(&leaves);
        for level in 0..12 {
            for index in 0..size >> level {
                let node = Node { level, index };
                let (tile, range) = Tile::of_node(node, size).unwrap();
                prop_assert_eq!(node_hash(&contents[&tile][range]), leaves.node(node).unwrap());
            }
            prop_assert_eq!(Tile::of_node(Node { level, index: size >> level }, size), None);
        }
    }

    #[test]
    fn growing_adds_exactly_the_tiles_that_are_new(size in 0_u64..200_000, more in 0_u64..70_000) {
        let all: Vec<Tile> = new_tiles(0, size + more).unwrap().collect();
        let old: Vec<Tile> = new_tiles(0, size).unwrap().collect();
        let new: Vec<Tile> = new_tiles(size, size + more).unwrap().collect();
        let expected: Vec<Tile> = all.iter().copied().filter(|tile| !old.contains(tile)).collect();
        prop_assert_eq!(new, expected);
    }

    #[test]
    fn contents_are_read_back(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..=256)) {
        let width = entries.len() as u16;
        let tile = Tile { layer: Layer::Entries, index: 3, width };
        let content = encode_entries(&entries).unwrap();
        prop_assert_eq!(decode_entries(&tile, &content).unwrap(), entries.clone());
        let hashes: Vec<Hash> = entries.iter().map(|entry| Hash::of_leaf(entry)).collect();
        let tile = Tile { layer: Layer::Hashes(0), index: 3, width };
        let content = encode_hashes(&hashes);
        prop_assert_eq!(decode_hashes(&tile, &content).unwrap(), hashes);
    }

    #[test]
    fn a_tile_that_is_too_short_or_too_long_is_refused(cut in 0_usize..66, extra in 1_usize..40) {
        let tile = Tile { layer: Layer::Hashes(0), index: 0, width: 2 };
        let content = [9; 64];
        if cut < 64 {
            prop_assert!(decode_hashes(&tile, &content[..cut]).is_err());
        }
        prop_assert!(decode_hashes(&tile, &vec![9; 64 + extra]).is_err());
        let entries = encode_entries(&[[1; 30], [2; 30]]).unwrap();
        let tile = Tile { layer: Layer::Entries, ..tile };
        if cut < 64 {
            let error = decode_entries(&tile, &entries[..cut]).unwrap_err();
            let is_malformed = matches!(error, Error::Malformed { .. });
            prop_assert!(is_malformed);
        }
        prop_assert!(decode_entries(&tile, &[&entries[..], &vec![0; extra]].concat()).is_err());
    }

    #[test]
    fn any_path_that_parses_is_written_as_it_was(path in "tile/(0|7|63|entries)/(x[0-9]{3}/){0,3}[0-9]{3}(\\.p/[0-9]{1,3})?") {
        if let Ok(tile) = Tile::parse(&path) {
            prop_assert_eq!(tile.path(), path);
        }
    }
}

#[test]
fn an_entry_that_is_too_long_for_a_tile_is_refused() {
    assert!(encode_entries(&[vec![0; 65_535]]).is_ok());
    assert!(matches!(encode_entries(&[vec![0; 65_536]]), Err(Error::Invalid { .. })));
}
