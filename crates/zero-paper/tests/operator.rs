//! Which of the operator's commands stand.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft};
use zero_paper::operator::{APPLIED, Action, Standing, command};
use zero_paper::risk::Stance;

/// Commands as they are given (and, by a number, obeyed), and how they bind afterwards.
fn stance(said: &[Result<Action, u64>]) -> Stance {
    let bus = Bus::open_in(SimDisk::new().storage()).unwrap();
    let mut standing = Standing::default();
    for said in said {
        let draft = match said {
            Ok(action) => command(*action, "ops", "", 1.0).unwrap(),
            Err(index) => Draft::new(APPLIED, 1.0, &BTreeMap::from([("command_index", index)])).unwrap(),
        };
        standing.see(&bus.append(draft).unwrap());
    }
    standing.stance()
}

#[test]
fn the_safer_one_counts() {
    use Action::{Flatten, Kill, Pause, ReduceOnly, Resume};
    let cases: [(&[Result<Action, u64>], Stance); 10] = [
        (&[], Stance::Open),
        (&[Ok(Pause)], Stance::Paused),
        (&[Ok(Pause), Ok(ReduceOnly)], Stance::Paused),
        (&[Ok(Flatten), Err(1), Ok(ReduceOnly)], Stance::ReduceOnly),
        (&[Ok(Kill), Ok(Pause)], Stance::Killed),
        // A resume takes back what was obeyed before it was given.
        (&[Ok(Pause), Err(1), Ok(Resume)], Stance::Open),
        (&[Ok(Pause), Err(1), Ok(ReduceOnly), Err(3), Ok(Resume), Err(5)], Stance::Open),
        // What crossed it, it does not.
        (&[Ok(Pause), Ok(Resume), Err(1), Err(2)], Stance::Paused),
        (&[Ok(Pause), Err(1), Ok(Kill), Ok(Resume)], Stance::Killed),
        (&[Ok(Resume), Ok(Pause), Err(1), Err(2)], Stance::Paused),
    ];
    for (said, expected) in cases {
        assert_eq!(stance(said), expected, "{said:?}");
    }
}
