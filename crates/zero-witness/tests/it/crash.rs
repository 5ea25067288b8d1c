//! What a witness has answered is in its state, wherever the power is cut and whatever fails.

use zero_bus::sim::{Failure, SimDisk};
use zero_witness::witness::hash_origin;
use zero_witness::{Rejection, Witness};

use crate::support::{COSIGNED_AT, open_witness};
use crate::test_log::{ORIGIN, TestLog};

fn size_in(witness: &Witness) -> u64 {
    witness.logs().find(|(origin, _)| *origin == ORIGIN).unwrap().1
}

/// Cuts the power at each call. Whatever state is found afterwards, the witness starts, and it
/// never cosigns another tree than one that it has answered for.
#[test]
fn a_power_cut_at_any_point_never_leads_to_two_inconsistent_cosignatures() {
    let log = TestLog::new(9);
    let other = log.rewritten_from(6);
    let mut refused = 0;
    for call in 1.. {
        let disk = SimDisk::new();
        let witness = open_witness(disk.storage()).unwrap();
        witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
        disk.crash_at(disk.calls() + call);
        let answer = witness.add_checkpoint(&log.request(5, 7), COSIGNED_AT);
        for survivor in disk.survivors(call, 50) {
            let witness = open_witness(survivor.storage()).unwrap();
            let size = size_in(&witness);
            match (&answer, witness.add_checkpoint(&other.request(5, 8), COSIGNED_AT)) {
                (Ok(_), Err(Rejection::Conflict { size: 7 })) => refused += 1,
                (Ok(_), result) => panic!("{result:?}"),
                // Nothing was answered. The new state may be there or not.
                (Err(_), Ok(_)) => assert_eq!(size, 5),
                (Err(_), Err(Rejection::Conflict { size: 7 })) => {}
                (Err(_), Err(rejection)) => panic!("{rejection}"),
            }
        }
        if !disk.crashed() {
            assert!(answer.is_ok());
            break;
        }
        assert!(matches!(answer, Err(Rejection::Failed(_))), "{answer:?}");
    }
    assert!(refused > 0);
}

/// Each call fails in each way. The witness goes on, and after a power cut its state has what it
/// answered.
#[test]
fn a_failed_write_is_no_answer_and_no_obstacle() {
    let log = TestLog::new(9);
    for failure in [Failure::Failed, Failure::FailedButPersisted, Failure::Half] {
        let mut failed = 0;
        for call in 1.. {
            let disk = SimDisk::new();
            let witness = open_witness(disk.storage()).unwrap();
            witness.add_checkpoint(&log.request(0, 5), COSIGNED_AT).unwrap();
            let served = witness.checkpoint(&hash_origin(ORIGIN));
            let last_call = disk.calls() + call;
            disk.fail_at(last_call, failure);
            match witness.add_checkpoint(&log.request(5, 7), COSIGNED_AT) {
                Ok(_) => {
                    assert!(disk.calls() < last_call);
                    break;
                }
                Err(rejection) => assert!(matches!(rejection, Rejection::Failed(_)), "{rejection}"),
            }
            failed += 1;
            // What was not answered is not served either.
            assert_eq!(witness.checkpoint(&hash_origin(ORIGIN)), served);
            witness.add_checkpoint(&log.request(5, 8), COSIGNED_AT).unwrap();
            for survivor in disk.survivors(call, 50) {
                assert_eq!(size_in(&open_witness(survivor.storage()).unwrap()), 8);
            }
        }
        assert!(failed >= 4, "{failure:?}: {failed}");
    }
}
