//! SHA-256 checksums: `sha256` has one checksum and its text form, `pair` computes two at a time.

mod pair;
mod sha256;

pub(crate) use pair::PairHasher;
pub use sha256::{Checksum, ChecksumError};
