//! Requests and answers that nobody should send get an error, never a panic.

use proptest::prelude::*;
use zero_bus::sim::{Rng, SimDisk};
use zero_proof::AddCheckpoint;
use zero_witness::witness::hash_origin;

use crate::support::{COSIGNED_AT, TestServer, new_witness, open_witness};
use crate::test_log::{ORIGIN, TestLog};

/// A request with one random change.
pub(crate) fn mutate(valid: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    let at = rng.below(bytes.len());
    match rng.below(6) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.below(256) as u8,
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, b"\n 0=+\xe2\xff\0"[rng.below(8)]),
        4 => bytes.truncate(at),
        _ => {
            let end = (at + 1 + rng.below(40)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
    }
    bytes
}

/// Each changed request is refused, or is exactly as good as the valid one: then it is cosigned,
/// and the state has a tree of the log.
#[test]
fn changed_requests_by_the_thousand_are_refused() {
    let log = TestLog::new(40);
    let roots: Vec<_> = (0..=40).map(|size| log.root(size)).collect();
    let valid = log.request(21, 37).encode().into_bytes();
    let mut rng = Rng::new(1);
    let (mut refused, mut cosigned) = (0, 0);
    let mut witness = new_witness();
    witness.add_checkpoint(&log.request(0, 21), COSIGNED_AT).unwrap();
    for _ in 0..20_000 {
        let bytes = mutate(&valid, &mut rng);
        let Ok(request) = AddCheckpoint::parse(&bytes) else {
            refused += 1;
            continue;
        };
        if witness.add_checkpoint(&request, COSIGNED_AT).is_err() {
            refused += 1;
            continue;
        }
        let checkpoint = request.checkpoint.checkpoint();
        assert_eq!((checkpoint.size, checkpoint.root), (37, roots[37]));
        assert_eq!(request.proof, log.prove(21, 37));
        cosigned += 1;
        witness = open_witness(SimDisk::new().storage()).unwrap();
        witness.add_checkpoint(&log.request(0, 21), COSIGNED_AT).unwrap();
    }
    // Only a change in a signature by an unknown key goes unnoticed, or one that repeats a line.
    assert!(refused > 19_000 && refused + cosigned == 20_000, "{refused} refused, {cosigned} cosigned");
}

/// Over HTTP: each gets a status code of the specification, and the server goes on.
#[test]
fn changed_requests_over_http_get_a_status_code() {
    let log = TestLog::new(40);
    let server = TestServer::start(new_witness());
    assert_eq!(server.post(log.request(0, 21).encode()).status, 200);
    let valid = log.request(21, 37).encode().into_bytes();
    let mut rng = Rng::new(2);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..1000 {
        let bytes = mutate(&valid, &mut rng);
        let response = server.post(&bytes);
        *counts.entry(response.status).or_insert(0) += 1;
    }
    let allowed = [200, 400, 403, 404, 409, 422];
    assert!(counts.keys().all(|status| allowed.contains(status)), "{counts:?}");
    assert!(counts[&400] > 100 && counts[&403] > 50, "{counts:?}");
    let served = server.get(&format!("/{}/checkpoint", hash_origin(ORIGIN)));
    assert_eq!(served.status, 200);
}

#[test]
fn each_part_of_a_request_has_one_form() {
    let valid = TestLog::new(9).request(5, 9).encode();
    assert!(AddCheckpoint::parse(valid.as_bytes()).is_ok());
    let line = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    for (from, to, problem) in [
        ("old 5\n", "", "line 1: must be `old`"),
        ("old 5\n", "old 05\n", "line 1: must be `old`"),
        ("old 5\n", "old +5\n", "line 1: must be `old`"),
        ("old 5\n", "old  5\n", "line 1: must be `old`"),
        ("old 5\n", "Old 5\n", "line 1: must be `old`"),
        ("old 5\n", "old 5 \n", "line 1: must be `old`"),
        ("old 5\n", "old 5\r\n", "line 1: must be `old`"),
        ("old 5\n", "old 18446744073709551616\n", "line 1: must be `old`"),
        ("old 5\n", "old 5\nAAAA\n", "line 2: a line of the proof"),
        ("old 5\n", "old 5\n\n", "checkpoint, line 4: the tree size"),
        ("=\n", "\n", "line 2: a line of the proof"),
    ] {
        let text = valid.replacen(from, to, 1);
        let error = AddCheckpoint::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(problem), "{to:?}: {error}");
    }
    let with_proof = |hashes: usize| valid.replacen("old 5\n", &format!("old 5\n{}", line.repeat(hashes)), 1);
    let own = TestLog::new(9).prove(5, 9).len();
    assert_eq!(AddCheckpoint::parse(with_proof(63 - own).as_bytes()).unwrap().proof.len(), 63);
    let error = AddCheckpoint::parse(with_proof(64 - own).as_bytes()).unwrap_err().to_string();
    assert!(error.contains("line 65: the proof has more than 63 hashes"), "{error}");
    let error = AddCheckpoint::parse(&vec![b'a'; 1 << 20]).unwrap_err().to_string();
    assert!(error.contains("longer than 262144 bytes"), "{error}");
    let error = AddCheckpoint::parse(b"old 5\n\xff").unwrap_err().to_string();
    assert!(error.contains("byte 6: is not UTF-8"), "{error}");
    assert!(AddCheckpoint::parse(b"").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(request) = AddCheckpoint::parse(&bytes) {
            prop_assert_eq!(request.encode().into_bytes(), bytes);
        }
    }

    #[test]
    fn what_is_encoded_is_parsed_again(old_size in 0_u64..40, growth in 0_u64..40) {
        let log = TestLog::new(80);
        let request = log.request(old_size, old_size + growth);
        prop_assert_eq!(AddCheckpoint::parse(request.encode().as_bytes()).unwrap(), request);
    }
}
