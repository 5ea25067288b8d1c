//! The Merkle tree against the definition of RFC 6962, and against the trees of its examples.

use proptest::prelude::*;
use zero_proof::tree::{CompactRange, MAX_SIZE, check_consistency, check_inclusion, prove_consistency, root};
use zero_proof::{Error, Hash, Node};

use crate::support::{Leaves, compact};

fn hex(hash: &Hash) -> String {
    hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tree of the reference implementation of Certificate Transparency: eight leaves, and the
/// roots of the first 0 to 8 of them.
#[test]
fn the_reference_tree_of_certificate_transparency_has_its_known_roots() {
    let entries: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut range = CompactRange::empty(0);
    assert_eq!(hex(&range.root().unwrap()), roots[0]);
    for (entry, root) in entries.into_iter().zip(&roots[1..]) {
        range.push(Hash::of_leaf(entry), &mut |_, _| {}).unwrap();
        assert_eq!(hex(&range.root().unwrap()), *root);
    }
}

#[test]
fn every_leaf_of_every_small_tree_is_included_and_no_other_hash_is() {
    for size in 1..=33 {
        let leaves = Leaves::numbered(size);
        let root = leaves.root();
        for index in 0..size {
            let path = leaves.inclusion(index);
            let leaf = leaves.0[index as usize];
            check_inclusion(&leaf, index, size, &path, &root).unwrap();
            let failed = Err(Error::NotIncluded { index, size });
            assert_eq!(check_inclusion(&Hash::of(b"other"), index, size, &path, &root), failed);
            assert_eq!(check_inclusion(&leaf, index, size, &path, &Hash::of(b"other")), failed);
            for other in (0..size).filter(|other| *other != index) {
                assert!(
                    check_inclusion(&leaf, other, size, &path, &root).is_err(),
                    "{index} as {other} of {size}"
                );
            }
            assert!(check_inclusion(&leaf, size, size, &path, &root).is_err());
            for at in 0..path.len() {
                let mut changed = path.clone();
                changed[at] = Hash::of(b"other");
                assert_eq!(check_inclusion(&leaf, index, size, &changed, &root), failed);
                changed.remove(at);
                assert_eq!(check_inclusion(&leaf, index, size, &changed, &root), failed);
            }
            let longer = [&path[..], &[root]].concat();
            assert_eq!(check_inclusion(&leaf, index, size, &longer, &root), failed);
        }
    }
}

#[test]
fn every_small_tree_extends_every_smaller_one_and_no_other_tree() {
    for size in 0..=33 {
        let leaves = Leaves::numbered(size);
        let root = leaves.root();
        for old_size in 0..=size {
            let old_root = leaves.hash(0, old_size);
            let proof = prove_consistency(old_size, size, |node| leaves.node(node)).unwrap();
            check_consistency(old_size, &old_root, size, &root, &proof).unwrap();
            let failed = Err(Error::Inconsistent { old_size, size });
            let other = Hash::of(b"other");
            assert_eq!(check_consistency(old_size, &other, size, &root, &proof), failed);
            if old_size > 0 {
                assert_eq!(check_consistency(old_size, &old_root, size, &other, &proof), failed);
            }
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                changed[at] = other;
                assert_eq!(check_consistency(old_size, &old_root, size, &root, &changed), failed);
                changed.remove(at);
                assert_eq!(check_consistency(old_size, &old_root, size, &root, &changed), failed);
            }
            let longer = [&proof[..], &[root]].concat();
            assert_eq!(check_consistency(old_size, &old_root, size, &root, &longer), failed);
        }
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let leaves = Leaves::numbered(3);
    let invalid = |result: Result<Vec<Hash>, Error>| matches!(result, Err(Error::Invalid { .. }));
    assert!(invalid(zero_proof::tree::prove_inclusion(3, 3, |node| leaves.node(node))));
    assert!(invalid(zero_proof::tree::prove_inclusion(0, u64::MAX, |node| leaves.node(node))));
    assert!(invalid(prove_consistency(4, 3, |node| leaves.node(node))));
    assert!(invalid(prove_consistency(1, u64::MAX, |node| leaves.node(node))));
    assert!(CompactRange::from_hashes(2, 1, &[]).is_err());
    assert!(CompactRange::from_hashes(0, 3, &[Hash::EMPTY_TREE]).is_err());
    assert!(CompactRange::from_hashes(0, u64::MAX, &[]).is_err());
    let hash = Hash::of(b"");
    for size in [u64::MAX, MAX_SIZE + 1] {
        assert!(check_inclusion(&hash, 0, size, &[], &hash).is_err());
        assert!(check_consistency(1, &hash, size, &hash, &[]).is_err());
    }
    let mut full = CompactRange::from_hashes(MAX_SIZE, MAX_SIZE, &[]).unwrap();
    assert!(full.push(hash, &mut |_, _| {}).is_err());
}

#[test]
fn each_perfect_subtree_is_reported_once() {
    let leaves = Leaves::numbered(37);
    let mut range = CompactRange::empty(0);
    let mut completed = Vec::new();
    for leaf in &leaves.0 {
        range.push(*leaf, &mut |node, hash| completed.push((node, hash))).unwrap();
    }
    for (node, hash) in &completed {
        assert_eq!(leaves.node(*node).unwrap(), *hash);
    }
    let mut nodes: Vec<Node> = completed.iter().map(|(node, _)| *node).collect();
    nodes.sort();
    let expected: Vec<Node> =
        (0..6).flat_map(|level| (0..37 >> level).map(move |index| Node { level, index })).collect();
    assert_eq!(nodes, expected);
}

proptest! {
    #[test]
    fn ranges_join_to_the_tree(size in 0_u64..300, one: u64, two: u64) {
        let leaves = Leaves::numbered(size);
        let (one, two) = (one % (size + 1), two % (size + 1));
        let (begin, end) = (one.min(two), one.max(two));
        let mut range = compact(&leaves, 0, begin);
        for next in [compact(&leaves, begin, end), compact(&leaves, end, size)] {
            let hashes: Vec<Hash> = next.hashes().collect();
            prop_assert_eq!(&hashes, &leaves.covering(next.begin(), next.end()));
            prop_assert_eq!(&CompactRange::from_hashes(next.begin(), next.end(), &hashes).unwrap(), &next);
            prop_assert_eq!(next.root().is_some(), next.begin() == 0);
            range.append(&next).unwrap();
        }
        prop_assert_eq!(range.root(), Some(leaves.root()));
        prop_assert_eq!(root(size, |node| leaves.node(node)), Ok(leaves.root()));
        prop_assert_eq!(range, compact(&leaves, 0, size));
    }

    #[test]
    fn proofs_of_larger_trees_hold(size in 1_u64..3000, index: u64, old_size: u64) {
        let leaves = Leaves::numbered(size);
        let (index, old_size) = (index % size, old_size % (size + 1));
        let path = leaves.inclusion(index);
        check_inclusion(&leaves.0[index as usize], index, size, &path, &leaves.root()).unwrap();
        let proof = prove_consistency(old_size, size, |node| leaves.node(node)).unwrap();
        check_consistency(old_size, &leaves.hash(0, old_size), size, &leaves.root(), &proof).unwrap();
    }

    #[test]
    fn any_hashes_are_refused_without_a_panic(
        numbers: [u64; 2],
        hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let hashes: Vec<Hash> = hashes.into_iter().map(Hash::from_bytes).collect();
        let hash = Hash::of(b"x");
        for shift in [0, 1, 32, 60] {
            let [one, two] = numbers.map(|number| number >> shift);
            prop_assert!(check_inclusion(&hash, one, two, &hashes, &Hash::of(b"y")).is_err());
            if one != two {
                prop_assert!(check_consistency(one, &hash, two, &Hash::of(b"y"), &hashes).is_err());
            }
        }
    }
}
