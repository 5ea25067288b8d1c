//! A bounded run of fuzz targets that needs no fuzzer: over the corpus, and over seeded mutations
//! of it. The tests of the crates include this file.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use zero_bus::sim::Rng;

/// How the inputs of a run are made from those of the corpus.
pub(crate) struct Mutations {
    /// Inputs per target.
    pub(crate) count: u64,
    /// An input has 1 to this many edits.
    pub(crate) max_edits: usize,
    /// Bytes that overwrite others.
    pub(crate) bytes: &'static [u8],
    /// An edit that inserts a piece of another input takes fewer bytes than this.
    pub(crate) piece_bytes: usize,
    /// The corpus has at least this many inputs.
    pub(crate) min_corpus: usize,
}

pub(crate) fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn corpus(target: &str, min_corpus: usize) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= min_corpus, "{} files in the corpus of {target}", files.len());
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

impl Mutations {
    /// Returns an input with a few bytes changed, removed, repeated, or replaced by some of another
    /// input.
    fn mutated(&self, corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
        let mut dice = Rng::new(seed);
        let mut dice = |size| dice.below(size);
        let mut data = corpus[dice(corpus.len())].clone();
        for _ in 0..=dice(self.max_edits) {
            let at = dice(data.len() + 1);
            let end = (at + dice(9)).min(data.len());
            match dice(5) {
                0 => drop(data.drain(at..end)),
                1 => data[at..end].iter_mut().for_each(|byte| *byte ^= 1 << dice(8)),
                2 => data[at..end].iter_mut().for_each(|byte| *byte = self.bytes[dice(self.bytes.len())]),
                3 => {
                    let copy = data[at..end].to_vec();
                    drop(data.splice(at..at, copy));
                }
                _ => {
                    let other = &corpus[dice(corpus.len())];
                    let from = dice(other.len() + 1);
                    let to = (from + dice(self.piece_bytes)).min(other.len());
                    drop(data.splice(at..end, other[from..to].iter().copied()));
                }
            }
        }
        data
    }

    /// Runs a target. A failure names the seed that repeats it.
    pub(crate) fn run(&self, target: &str, check: fn(&[u8])) {
        let corpus = corpus(target, self.min_corpus);
        corpus.iter().for_each(|data| check(data));
        for seed in 0..self.count {
            let data = self.mutated(&corpus, seed);
            catch_unwind(|| check(&data))
                .unwrap_or_else(|_| panic!("{target}, seed {seed}: {}", data.escape_ascii()));
        }
    }
}
