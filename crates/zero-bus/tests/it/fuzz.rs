//! Runs the fuzz targets over their corpus and over seeded mutations of it: a bounded run that
//! needs no fuzzer. Inputs that a longer run found are in the corpus.

#[path = "../../../../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use zero_bus::sim::Rng;

/// Mutations per target.
const MUTATIONS: u64 = 20_000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20, "{} files in the corpus of {target}", files.len());
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// An input of the corpus with a few bytes changed, removed, repeated, or replaced by some of
/// another input.
fn mutated(corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut dice = Rng::new(seed);
    let mut dice = |size| dice.below(size);
    let mut data = corpus[dice(corpus.len())].clone();
    for _ in 0..=dice(4) {
        let at = dice(data.len() + 1);
        let end = (at + dice(9)).min(data.len());
        match dice(5) {
            0 => drop(data.drain(at..end)),
            1 => data[at..end].iter_mut().for_each(|byte| *byte ^= 1 << dice(8)),
            2 => data[at..end].iter_mut().for_each(|byte| *byte = dice(256) as u8),
            3 => {
                let copy = data[at..end].to_vec();
                drop(data.splice(at..at, copy));
            }
            _ => {
                let other = &corpus[dice(corpus.len())];
                let from = dice(other.len() + 1);
                let to = (from + dice(40)).min(other.len());
                drop(data.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    data
}

fn run(target: &str, check: fn(&[u8])) {
    let corpus = corpus(target);
    corpus.iter().for_each(|data| check(data));
    for seed in 0..MUTATIONS {
        let data = mutated(&corpus, seed);
        catch_unwind(|| check(&data)).unwrap_or_else(|_| panic!("seed {seed}: {}", data.escape_ascii()));
    }
}

#[test]
fn canonical_json() {
    run("canonical", targets::canonical);
}

#[test]
fn lines_of_a_log() {
    run("line", targets::line);
}

#[test]
fn recovery() {
    run("recovery", targets::recovery);
}
