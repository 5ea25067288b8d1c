//! Proofs about a bus for third parties.
//!
//! The owner of a log can show one event to somebody who trusts neither the owner nor this program,
//! and prove that the log held it by a certain time and has not been truncated or rewritten since.
//! Nothing else about any other event is disclosed.
//!
//! # Modules, in reading order
//!
//! All but the last three modules are pure: no file, no clock, no network. Functions come in pairs:
//! sign and verify, encode and parse, prove and check.
//!
//! - [`tree`] is the Merkle tree of RFC 6962; [`tile`] is its form as files.
//! - [`key`] and [`signing_key`] are keys; a [`Note`] is a text with signatures; a [`Checkpoint`]
//!   is the size and root of a tree; [`cosignature`] is what a witness adds; a
//!   [`SignedCheckpoint`] joins them; a [`Policy`] tells whose signatures are needed; an
//!   [`AddCheckpoint`] asks a witness for one.
//! - A [`Disclosure`](disclosure::Disclosure) is one field of an event, an [`Entry`] the commitment
//!   to all of them.
//! - A [`Proof`] proves one event, a [track record](track_record) proves that none is left out. A
//!   [`page`] shows a proof to whoever opens it in a browser.
//! - [`tile_store`] keeps the tree of a bus on disk, and [`checkpoint_state`] makes sure that a log
//!   signs only what extends what it signed before. [`log_roots`] computes roots from the log.
//!
//! # In a minute
//!
//! ```
//! use std::collections::BTreeMap;
//! use zero_bus::{Bus, Draft};
//! use zero_proof::disclosure::DisclosureSecret;
//! use zero_proof::key::SignatureType;
//! use zero_proof::tree::CompactRange;
//! use zero_proof::{Checkpoint, Entry, Policy, Proof, SignedCheckpoint, SigningKey};
//!
//! # let dir = tempfile::tempdir()?;
//! // The owner of a bus signs the tree of its events.
//! let bus = Bus::open(dir.path())?;
//! let payload = BTreeMap::from([("by", "cat")]);
//! let event = bus.append(Draft::new("door.opened", 1777593600.0, &payload)?)?;
//! let secret = DisclosureSecret::from_bytes([1; 32]);
//! let mut tree = CompactRange::empty(0);
//! tree.push(Entry::of(&event, &secret).leaf_hash(), &mut |_, _| {})?;
//! let log_key = SigningKey::from_seeds("example.com/doors", &[2; 32], None)?;
//! let checkpoint = Checkpoint::new("example.com/doors", tree.end(), tree.root().unwrap());
//! let mut checkpoint = SignedCheckpoint::sign(checkpoint, &log_key, 1777593601)?;
//!
//! // A witness cosigns.
//! let witness_key = SigningKey::from_seeds("witness.example", &[3; 32], None)?;
//! checkpoint.add_signatures(checkpoint.cosign(&witness_key, 1777593602)?)?;
//!
//! // The owner discloses one field of one event.
//! let file = Proof::prove(&event, &secret, &["/payload/by"], Vec::new(), checkpoint)?.encode();
//!
//! // Somebody else checks it.
//! let log = log_key.verifier_key(SignatureType::Ed25519).unwrap();
//! let witness = witness_key.verifier_key(SignatureType::CosignatureEd25519).unwrap();
//! let policy = format!("log {log}\nwitness w {witness}\nquorum w\n");
//! let policy = Policy::parse(policy.as_bytes())?;
//! let proof = Proof::parse(file.as_bytes())?;
//! let proven = proof.check(&policy)?;
//! assert_eq!(proven.disclosures[0].value().as_str(), r#""cat""#);
//! assert_eq!(proven.accepted.cosigners[0].timestamp, Some(1777593602));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod encoding;
mod error;
mod hash;
mod lines;

pub mod tile;
pub mod tree;

pub mod add_checkpoint;
pub mod checkpoint;
pub mod cosignature;
pub mod key;
pub mod note;
pub mod policy;
pub mod signed_checkpoint;
pub mod signing_key;

pub mod aggregates;
pub mod decimal;
pub mod disclosure;
pub mod entry;
pub mod page;
pub mod proof;
pub mod track_record;

pub mod checkpoint_state;
mod leaves;
pub mod log_roots;
mod store_error;
pub mod tile_store;
mod tree_head;

pub use add_checkpoint::AddCheckpoint;
pub use checkpoint::Checkpoint;
pub use entry::Entry;
pub use error::{Error, Position, Result};
pub use hash::Hash;
pub use key::VerifierKey;
pub use note::Note;
pub use policy::Policy;
pub use proof::Proof;
pub use signed_checkpoint::SignedCheckpoint;
pub use signing_key::SigningKey;
pub use store_error::{Difference, StoreError};
pub use tree::Node;
pub use tree_head::TreeHead;
