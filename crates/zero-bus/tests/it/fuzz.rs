//! Runs the fuzz targets over their corpus and over seeded mutations of it: a bounded run that
//! needs no fuzzer. Inputs that a longer run found are in the corpus.

#[path = "../../../../fuzz/targets.rs"]
mod targets;

#[path = "../../../../fuzz/bounded.rs"]
mod bounded;

use bounded::Mutations;

use crate::support::is_soak;

const EVERY_BYTE: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

fn run(target: &str, check: fn(&[u8])) {
    let mutations = Mutations {
        count: if is_soak() { 20_000 } else { 6_000 },
        max_edits: 4,
        bytes: &EVERY_BYTE,
        piece_bytes: 40,
        min_corpus: 21,
    };
    mutations.run(target, check);
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
