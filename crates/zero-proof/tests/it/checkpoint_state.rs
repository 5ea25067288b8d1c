//! A log signs only what extends what it signed before, whatever happens.

use std::collections::BTreeMap;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft, LOG};
use zero_proof::checkpoint_state::CheckpointState;
use zero_proof::disclosure::DisclosureSecret;
use zero_proof::tile_store::TileStore;
use zero_proof::{Checkpoint, SignedCheckpoint, StoreError};

use crate::support::{ORIGIN, SIGNED_AT, secret, signer};

const STATE: &str = "checkpoint-state";

/// An operator: a bus, its tiles, and the state, each on a disk of its own.
struct Operator {
    bus: SimDisk,
    tiles: SimDisk,
    state: SimDisk,
}

impl Operator {
    fn new() -> Self {
        Self { bus: SimDisk::new(), tiles: SimDisk::new(), state: SimDisk::new() }
    }

    fn append(&self, events: &[&str]) {
        let bus = Bus::open_in(self.bus.storage()).unwrap();
        for event in events {
            bus.append(Draft::new(*event, 0.0, &BTreeMap::from([("a", 1)])).unwrap()).unwrap();
        }
    }

    fn sign_with(&self, secret: &DisclosureSecret) -> Result<SignedCheckpoint, StoreError> {
        let reader = zero_bus::Reader::open_in(self.bus.storage());
        let mut state = CheckpointState::open(self.state.storage(), STATE)?;
        let mut tiles = TileStore::open(self.tiles.storage())?;
        state.sign_next(&reader, &mut tiles, secret, &signer(ORIGIN), SIGNED_AT)
    }

    fn sign(&self) -> Result<Checkpoint, StoreError> {
        self.sign_with(&secret()).map(|signed| signed.checkpoint().clone())
    }

    /// Replaces the log by one with these events.
    fn rewrite(&mut self, events: &[&str]) {
        self.bus = SimDisk::new();
        self.append(events);
    }
}

#[track_caller]
fn assert_refused(result: Result<Checkpoint, StoreError>, first: Option<u64>) {
    match result {
        Err(StoreError::LogChanged { first_difference, .. }) => assert_eq!(first_difference, first),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_checkpoint_extends_the_one_before() {
    let operator = Operator::new();
    assert_eq!(operator.sign().unwrap().size, 0);
    operator.append(&["a", "b", "c"]);
    let first = operator.sign().unwrap();
    assert_eq!(first.size, 3);
    assert_eq!(operator.sign().unwrap(), first);
    operator.append(&["d"]);
    assert_eq!(operator.sign().unwrap().size, 4);
    let state = CheckpointState::open(operator.state.storage(), STATE).unwrap();
    assert_eq!(state.last().unwrap().size, 4);
}

#[test]
fn a_log_that_was_rewritten_truncated_or_restored_is_refused_with_the_first_difference() {
    let mut operator = Operator::new();
    operator.append(&["a", "b", "c", "d"]);
    operator.sign().unwrap();
    for (events, first) in [
        (&["a", "b", "x", "d"][..], 3),
        (&["a", "b", "x", "d", "e"], 3),
        (&["x", "b", "c", "d"], 1),
        (&["a", "b", "c", "x"], 4),
        (&["a", "b", "c"], 4),
        (&["a"], 2),
        (&[], 1),
    ] {
        operator.rewrite(events);
        assert_refused(operator.sign(), Some(first));
        let error = operator.sign().unwrap_err().to_string();
        assert!(error.contains(&format!("event {first} differs or is missing")), "{error}");
    }
    // The refusals have changed nothing.
    operator.rewrite(&["a", "b", "c", "d", "e"]);
    assert_eq!(operator.sign().unwrap().size, 5);
}

#[test]
fn without_tiles_a_changed_log_is_refused_all_the_same() {
    let mut operator = Operator::new();
    operator.append(&["a", "b", "c", "d"]);
    operator.sign().unwrap();
    operator.tiles = SimDisk::new();
    operator.rewrite(&["a", "x", "c", "d"]);
    assert_refused(operator.sign(), None);
    // Tiles of the changed log do not help it.
    let reader = zero_bus::Reader::open_in(operator.bus.storage());
    TileStore::open(operator.tiles.storage()).unwrap().catch_up(&reader, &secret()).unwrap();
    assert_refused(operator.sign(), None);
    operator.rewrite(&["a", "b", "c", "d"]);
    assert_eq!(operator.sign().unwrap().size, 4);
}

/// The state is lost, or is an older copy.
#[test]
fn a_stored_checkpoint_protects_like_the_state() {
    let mut operator = Operator::new();
    operator.append(&["a", "b", "c", "d"]);
    let stored = operator.sign().unwrap();
    let sign = |operator: &Operator| {
        let reader = zero_bus::Reader::open_in(operator.bus.storage());
        let mut state = CheckpointState::open(operator.state.storage(), STATE)?;
        state.must_extend(&stored);
        let mut tiles = TileStore::open(operator.tiles.storage())?;
        state.sign_next(&reader, &mut tiles, &secret(), &signer(ORIGIN), SIGNED_AT)
    };
    let other = DisclosureSecret::from_bytes([1; 32]);
    for has_tiles in [true, false] {
        operator.state = SimDisk::new();
        for (events, first) in
            [(&["a", "b", "x", "d"][..], 3), (&["a", "b", "c", "x", "e"], 4), (&["a", "b"], 3), (&[], 1)]
        {
            operator.rewrite(events);
            if !has_tiles {
                operator.tiles = SimDisk::new();
            }
            match sign(&operator) {
                Err(StoreError::LogChanged { first_difference, .. }) => {
                    assert_eq!(first_difference, has_tiles.then_some(first), "{events:?}");
                }
                Err(StoreError::OtherTree { signed: 4 }) => assert!(!has_tiles && events.len() >= 4),
                other => panic!("{events:?}: {other:?}"),
            }
            assert!(operator.state.content(STATE).is_none());
        }
        operator.rewrite(&["a", "b", "c", "d", "e"]);
        let mut state = CheckpointState::open(operator.state.storage(), STATE).unwrap();
        state.must_extend(&stored);
        let reader = zero_bus::Reader::open_in(operator.bus.storage());
        let mut tiles = TileStore::open(operator.tiles.storage()).unwrap();
        let refused = state.sign_next(&reader, &mut tiles, &other, &signer(ORIGIN), SIGNED_AT);
        assert!(matches!(refused, Err(StoreError::OtherTree { signed: 4 })));
        drop((state, tiles));
        assert_eq!(sign(&operator).unwrap().checkpoint().size, 5);
    }
}

#[test]
fn a_damaged_log_is_refused() {
    let operator = Operator::new();
    operator.append(&["a", "b", "c", "d"]);
    operator.sign().unwrap();
    let log = operator.bus.content(LOG).unwrap();
    let text = String::from_utf8(log).unwrap();
    operator.bus.put(LOG, text.replace("\"event_type\":\"d\"", "\"event_type\":\"x\"").as_bytes());
    assert_refused(operator.sign(), Some(4));
}

#[test]
fn another_secret_signs_nothing_and_destroys_nothing() {
    let operator = Operator::new();
    operator.append(&["a", "b", "c", "d"]);
    operator.sign().unwrap();
    let other = DisclosureSecret::from_bytes([1; 32]);
    assert!(matches!(operator.sign_with(&other), Err(StoreError::OtherTree { signed: 4 })));
    let before = operator.tiles.calls();
    operator.sign().unwrap();
    assert_eq!(operator.tiles.calls(), before);
    let without_tiles = Operator { tiles: SimDisk::new(), ..operator };
    assert!(matches!(without_tiles.sign_with(&other), Err(StoreError::OtherTree { signed: 4 })));
    without_tiles.sign().unwrap();
}

#[test]
fn a_state_that_cannot_be_read_signs_nothing() {
    for text in [
        "",
        "zero.runtime.checkpoint-state.v2\n",
        "zero.runtime.checkpoint-state.v1\n01\n",
        "zero.runtime.checkpoint-state.v1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nsha256:\n",
        "zero.runtime.checkpoint-state.v1\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n-\n",
        "zero.runtime.checkpoint-state.v1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n-\nmore\n",
        "zero.runtime.checkpoint-state.v1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n-",
    ] {
        let operator = Operator::new();
        operator.append(&["a"]);
        operator.state.put(STATE, text.as_bytes());
        let error = operator.sign().unwrap_err();
        assert!(matches!(error, StoreError::Proof(_)), "{text:?}: {error}");
        assert!(error.to_string().starts_with("checkpoint state, line "), "{error}");
        assert_eq!(operator.state.content(STATE).unwrap(), text.as_bytes());
    }
}

/// Cuts the power of the state's disk at each call, then rewrites the log. If a signature had been
/// returned, no state that the disk may be found in leads to a signature of the other log.
#[test]
fn a_crash_at_any_point_never_leads_to_two_inconsistent_signatures() {
    let mut refused = 0;
    for call in 1.. {
        let mut operator = Operator::new();
        operator.append(&["a", "b"]);
        operator.sign().unwrap();
        let calls = operator.state.calls();
        operator.append(&["c"]);
        operator.state.crash_at(calls + call);
        let signed = operator.sign();
        let crashed = operator.state.crashed();
        for survivor in operator.state.survivors(call, 50) {
            operator.state = survivor;
            // A log that extends the first checkpoint in another way.
            let log = std::mem::replace(&mut operator.bus, SimDisk::new());
            operator.append(&["a", "b", "x"]);
            let other = operator.sign();
            match (&signed, other) {
                (Ok(_), Ok(other)) => panic!("{signed:?} and {other:?}"),
                (Ok(_), Err(StoreError::LogChanged { first_difference: Some(3), .. })) => refused += 1,
                (Ok(_), Err(error)) => panic!("{error}"),
                // Nothing was signed, so that any extension of the first checkpoint may be signed.
                (Err(_), Ok(other)) => assert_eq!(other.size, 3),
                (Err(_), Err(StoreError::LogChanged { signed: 3, .. })) => {}
                (Err(_), Err(error)) => panic!("{error}"),
            }
            operator.bus = log;
        }
        if !crashed {
            assert!(signed.is_ok());
            break;
        }
    }
    assert!(refused > 0);
}
