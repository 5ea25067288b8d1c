//! Two operators witness each other.

use zero_bus::sim::SimDisk;
use zero_proof::key::SignatureType;
use zero_proof::{Policy, SignedCheckpoint, SigningKey};
use zero_witness::witness::hash_origin;
use zero_witness::{ClientOptions, StateDirectory, SubmitError, Witness, WitnessClient};

use crate::support::TestServer;
use crate::test_log::{TestLog, ed25519_signer, vkey};

/// An operator: a log, and a witness of the other's log.
struct Operator {
    log: TestLog,
    witness_key: SigningKey,
    server: TestServer,
}

impl Operator {
    fn new(name: &str, other: &str, events: u64) -> Self {
        let witness_key = ed25519_signer(&format!("{name}/witness"));
        let other_log = vkey(&ed25519_signer(&format!("{other}/log")), SignatureType::Ed25519);
        let state = StateDirectory::open(SimDisk::new().storage()).unwrap();
        let key = ed25519_signer(&format!("{name}/witness"));
        let server = TestServer::start(Witness::open(key, vec![other_log], state).unwrap());
        Self { log: TestLog::with_origin(&format!("{name}/log"), events), witness_key, server }
    }

    /// What an auditor of this operator's log requires.
    fn policy(&self, other: &Self) -> Policy {
        let log = vkey(&self.log.key, SignatureType::Ed25519);
        let witness = vkey(&other.witness_key, SignatureType::CosignatureEd25519);
        let text = format!("log {log}\nwitness other {witness} {}\nquorum other\n", other.server.url);
        Policy::parse(text.as_bytes()).unwrap()
    }

    fn checkpoint(
        &self,
        other: &Self,
        previous_size: u64,
        size: u64,
    ) -> Result<SignedCheckpoint, SubmitError> {
        let client = WitnessClient::new(&self.policy(other), ClientOptions::default()).unwrap();
        let mut checkpoint = self.log.checkpoint(size);
        let prove = |old_size| Ok::<_, String>(self.log.prove(old_size, size));
        let mut submission = client.submit(&checkpoint, previous_size, prove);
        checkpoint.add_signatures(submission.signatures()).unwrap();
        match submission.failures.pop() {
            None => Ok(checkpoint),
            Some(failure) => Err(failure.error),
        }
    }
}

/// What the witness serves is what the log published, so that whoever asks both sees one log.
#[test]
fn two_operators_witness_each_other() {
    let (mut a, b) =
        (Operator::new("a.example", "b.example", 30), Operator::new("b.example", "a.example", 50));
    for (operator, other, sizes) in [(&a, &b, [3, 8, 8, 30]), (&b, &a, [1, 2, 49, 50])] {
        let mut previous = 0;
        for size in sizes {
            let published = operator.checkpoint(other, previous, size).unwrap();
            let policy = operator.policy(other);
            assert_eq!(policy.check(&published).unwrap().cosigners.len(), 1);
            // No other policy accepts it.
            assert!(other.policy(operator).check(&published).is_err());
            let origin = &published.checkpoint().origin;
            let served = other.server.get(&format!("/{}/checkpoint", hash_origin(origin))).body;
            assert_eq!(served, published.encode());
            assert_eq!(
                policy.check(&SignedCheckpoint::parse(served.as_bytes()).unwrap()).unwrap().cosigners.len(),
                1
            );
            previous = size;
        }
        // Its own witness does not know the log.
        let own = operator.server.get(&format!("/{}/checkpoint", hash_origin(operator.log.key.name())));
        assert_eq!(own.status, 404);
    }

    // One of the two rewrites its log, another time truncates it.
    let honest = a.log.clone();
    a.log = honest.rewritten_from(20);
    for (previous_size, size) in [(30, 30), (0, 30)] {
        let error = a.checkpoint(&b, previous_size, size).unwrap_err();
        assert!(matches!(error, SubmitError::Inconsistent { .. }), "{error}");
        assert!(error.to_string().contains("the log was rewritten"), "{error}");
    }
    let error = a.checkpoint(&b, 0, 25).unwrap_err();
    assert!(matches!(error, SubmitError::Inconsistent { .. }), "{error}");
    assert!(
        error.to_string().contains("it has cosigned 30 events of this log, but the checkpoint has 25"),
        "{error}"
    );
    let messages = b.server.messages();
    assert!(messages[0].contains("the log has signed two trees"), "{messages:?}");
    a.log = honest;
    a.checkpoint(&b, 30, 30).unwrap();
}
