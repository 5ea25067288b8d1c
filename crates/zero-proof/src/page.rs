//! A page that shows a proof and verifies it in the browser of whoever opens it.
//!
//! The page is one HTML file. It carries the proof and no key: the reader gives the policy. A
//! content security policy allows the script and the style of the page by their hashes, and nothing
//! else: no other script, no network. Pages differ in one line only, the base64 of the proof.
//!
//! The script implements the checks of this crate a second time, with the cryptography of the
//! browser. Its parts are in `page/`, in reading order:
//!
//! - `encoding.js`: base64, decimals and canonical JSON, each with one spelling;
//! - `note.js`: keys, checkpoints and their signatures;
//! - `policy.js`: policies and their quorum;
//! - `proof.js`: the proof file and the steps of the check;
//! - `view.js`: what the page shows. It enters every text as text, never as HTML.

use crate::encoding::encode_base64;
use crate::hash::Hash;
use crate::proof::Proof;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// One script, so that the policy allows all of it or nothing.
const SCRIPT: &str = concat!(
    include_str!("page/encoding.js"),
    include_str!("page/note.js"),
    include_str!("page/policy.js"),
    include_str!("page/proof.js"),
    include_str!("page/view.js"),
);

/// The page of a proof, which may be valid or not. Costs a few copies of the proof.
///
/// ```
/// # use zero_proof::{Checkpoint, Hash, Proof, SignedCheckpoint, SigningKey};
/// # let key = SigningKey::from_seeds("example.com/bus", &[1; 32], None)?;
/// # let checkpoint = Checkpoint::new("example.com/bus", 1, Hash::of_leaf(b""));
/// # let checkpoint = SignedCheckpoint::sign(checkpoint, &key, 1777593601)?;
/// # let proof = Proof { extra: None, index: 0, path: Vec::new(), checkpoint };
/// let page = zero_proof::page::html(&proof);
/// assert!(page.starts_with("<!DOCTYPE html>"));
/// assert!(!page.contains("http://") && !page.contains("https://"));
/// # Ok::<(), zero_proof::Error>(())
/// ```
pub fn html(proof: &Proof) -> String {
    PAGE.replace("{csp}", &content_security_policy())
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
        .replace("{proof}", &encode_base64(proof.encode()))
}

fn content_security_policy() -> String {
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        Hash::of(SCRIPT.as_bytes()),
        Hash::of(STYLE.as_bytes())
    )
}
