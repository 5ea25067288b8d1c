//! Keys, and logs whose leaves are all known. The tests of the program use them too.

use std::sync::Arc;

use zero_proof::AddCheckpoint;
use zero_proof::key::SignatureType;
use zero_proof::{Checkpoint, Hash, Node, SignedCheckpoint, SigningKey, VerifierKey, tree};

pub(crate) const ORIGIN: &str = "example.com/bus";
pub(crate) const SIGNED_AT: u64 = 1_777_593_700;

/// A signer with both keys.
pub(crate) fn signer(name: &str) -> SigningKey {
    let seed = Hash::of(name.as_bytes());
    let ml_dsa_seed = Hash::of(seed.as_bytes());
    SigningKey::from_seeds(name, seed.as_bytes(), Some(ml_dsa_seed.as_bytes())).unwrap()
}

/// A signer with the Ed25519 key only.
pub(crate) fn ed25519_signer(name: &str) -> SigningKey {
    SigningKey::from_seeds(name, Hash::of(name.as_bytes()).as_bytes(), None).unwrap()
}

pub(crate) fn vkey(key: &SigningKey, signature_type: SignatureType) -> VerifierKey {
    key.verifier_key(signature_type).unwrap()
}

pub(crate) fn log_vkey(origin: &str) -> VerifierKey {
    vkey(&signer(origin), SignatureType::Ed25519)
}

/// A log whose leaves are all known.
#[derive(Clone)]
pub(crate) struct TestLog {
    pub(crate) key: Arc<SigningKey>,
    leaves: Vec<Hash>,
}

impl TestLog {
    /// A log with the entries `0`, `1`, `2` ...
    pub(crate) fn new(size: u64) -> Self {
        Self::with_origin(ORIGIN, size)
    }

    pub(crate) fn with_origin(origin: &str, size: u64) -> Self {
        let leaves = (0..size).map(|index| Hash::of_leaf(index.to_string().as_bytes())).collect();
        Self { key: Arc::new(ed25519_signer(origin)), leaves }
    }

    /// The same log, rewritten from a leaf on.
    pub(crate) fn rewritten_from(&self, index: usize) -> Self {
        let mut other = self.clone();
        for leaf in &mut other.leaves[index..] {
            *leaf = Hash::of_leaf(leaf.as_bytes());
        }
        other
    }

    fn node(&self, node: Node) -> Result<Hash, zero_proof::Error> {
        if node.level == 0 {
            return Ok(self.leaves[node.index as usize]);
        }
        let child = |index| self.node(Node { level: node.level - 1, index });
        Ok(Hash::of_node(&child(2 * node.index)?, &child(2 * node.index + 1)?))
    }

    pub(crate) fn root(&self, size: u64) -> Hash {
        tree::root(size, |node| self.node(node)).unwrap()
    }

    pub(crate) fn checkpoint(&self, size: u64) -> SignedCheckpoint {
        self.sign(Checkpoint::new(self.key.name(), size, self.root(size)))
    }

    pub(crate) fn sign(&self, checkpoint: Checkpoint) -> SignedCheckpoint {
        SignedCheckpoint::sign(checkpoint, &self.key, SIGNED_AT).unwrap()
    }

    pub(crate) fn prove(&self, old_size: u64, size: u64) -> Vec<Hash> {
        tree::prove_consistency(old_size, size, |node| self.node(node)).unwrap()
    }

    /// The honest request.
    pub(crate) fn request(&self, old_size: u64, size: u64) -> AddCheckpoint {
        AddCheckpoint { old_size, proof: self.prove(old_size, size), checkpoint: self.checkpoint(size) }
    }
}
