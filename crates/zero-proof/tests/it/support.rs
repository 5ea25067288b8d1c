//! What several tests need: keys, a bus with events, and its tree.

use std::collections::BTreeMap;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft, Event, Json};
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::key::SignatureType;
use zero_proof::tree::CompactRange;
use zero_proof::{
    Checkpoint, Entry, Error, Hash, Node, Policy, SignedCheckpoint, SigningKey, VerifierKey, tree,
};

pub(crate) const ORIGIN: &str = "example.com/bus";
pub(crate) const SIGNED_AT: u64 = 1_777_593_700;
pub(crate) const COSIGNED_AT: u64 = 1_777_593_705;

pub(crate) fn secret() -> DisclosureSecret {
    DisclosureSecret::from_bytes([7; 32])
}

/// A signer with both keys.
pub(crate) fn signer(name: &str) -> SigningKey {
    let seed = Hash::of(name.as_bytes());
    let ml_dsa_seed = Hash::of(seed.as_bytes());
    SigningKey::from_seeds(name, seed.as_bytes(), Some(ml_dsa_seed.as_bytes())).unwrap()
}

pub(crate) fn vkey(key: &SigningKey, signature_type: SignatureType) -> VerifierKey {
    key.verifier_key(signature_type).unwrap()
}

/// A log that any witness of three must have cosigned.
pub(crate) fn policy() -> Policy {
    let log = vkey(&signer(ORIGIN), SignatureType::Ed25519);
    let witness = |name| vkey(&signer(name), SignatureType::CosignatureEd25519);
    let text = format!(
        "log {log}\nwitness a {}\nwitness b {}\nwitness c {}\ngroup one any a b c\nquorum one\n",
        witness("a.example"),
        witness("b.example"),
        witness("c.example"),
    );
    Policy::parse(text.as_bytes()).unwrap()
}

/// A tree whose leaves are all known.
#[derive(Default)]
pub(crate) struct Leaves(pub(crate) Vec<Hash>);

impl Leaves {
    /// Leaves with the entries `0`, `1`, `2` ...
    pub(crate) fn numbered(size: u64) -> Self {
        Self((0..size).map(|index| Hash::of_leaf(index.to_string().as_bytes())).collect())
    }

    /// MTH as RFC 6962 section 2.1 defines it.
    pub(crate) fn hash(&self, begin: u64, end: u64) -> Hash {
        match end - begin {
            0 => Hash::EMPTY_TREE,
            1 => self.0[begin as usize],
            leaves => {
                // The largest power of two that is smaller than the number of leaves.
                let middle = begin + leaves.next_power_of_two() / 2;
                Hash::of_node(&self.hash(begin, middle), &self.hash(middle, end))
            }
        }
    }

    pub(crate) fn root(&self) -> Hash {
        self.hash(0, self.0.len() as u64)
    }

    pub(crate) fn node(&self, node: Node) -> Result<Hash, Error> {
        Ok(self.hash(node.index << node.level, (node.index + 1) << node.level))
    }

    pub(crate) fn inclusion(&self, index: u64) -> Vec<Hash> {
        tree::prove_inclusion(index, self.0.len() as u64, |node| self.node(node)).unwrap()
    }

    pub(crate) fn covering(&self, begin: u64, end: u64) -> Vec<Hash> {
        Node::covering(begin, end).map(|node| self.node(node).unwrap()).collect()
    }
}

/// Events of two types: every second one is a `decision.record`.
pub(crate) fn events(count: usize) -> Vec<Event> {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let event = |number: usize| {
        let draft = if number.is_multiple_of(2) {
            let payload = format!(
                r#"{{"allowed":{},"notional_usd":{}.5,"symbol":"BTC","note":"confidential {number}"}}"#,
                number.is_multiple_of(4),
                number
            );
            let payload = Json::parse(&payload).unwrap();
            Draft {
                event_type: "decision.record".to_owned(),
                as_of: 1e9,
                payload,
                trace_id: Some("t".to_owned()),
            }
        } else {
            Draft::new("cycle.started", 1e9 + number as f64, &BTreeMap::from([("cycle", number)])).unwrap()
        };
        bus.append(draft).unwrap()
    };
    (1..=count).map(event).collect()
}

pub(crate) fn leaves_of(events: &[Event]) -> Leaves {
    Leaves(events.iter().map(|event| Entry::of(event, &secret()).leaf_hash()).collect())
}

/// The signed checkpoint of these leaves, cosigned by witness `a.example`.
pub(crate) fn checkpoint_of(leaves: &Leaves) -> SignedCheckpoint {
    let checkpoint = Checkpoint::new(ORIGIN, leaves.0.len() as u64, leaves.root());
    let mut signed = SignedCheckpoint::sign(checkpoint, &signer(ORIGIN), SIGNED_AT).unwrap();
    let cosignatures = signed.cosign(&signer("a.example"), COSIGNED_AT).unwrap();
    signed.add_signatures(cosignatures).unwrap();
    signed
}

/// The tree of these leaves, built leaf by leaf.
pub(crate) fn compact(leaves: &Leaves, begin: u64, end: u64) -> CompactRange {
    let mut range = CompactRange::empty(begin);
    for leaf in &leaves.0[begin as usize..end as usize] {
        range.push(*leaf, &mut |_, _| {}).unwrap();
    }
    range
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// The vkey of any public key, valid or not.
pub(crate) fn vkey_of(name: &str, signature_type: u8, public: &[u8]) -> String {
    let key = [&[signature_type], public].concat();
    let hash = Hash::of(&[name.as_bytes(), b"\n", &key].concat());
    let id: String = hash.as_bytes()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}+{id}+{}", base64(&key))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
