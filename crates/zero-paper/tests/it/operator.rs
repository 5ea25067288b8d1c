//! Which of the operator's commands stand.

use std::collections::BTreeMap;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft};
use zero_paper::operator::{APPLIED, Action, CommandsInForce, command};
use zero_paper::risk::TradingMode;

/// Commands as they are given (and, by a number, obeyed), and how they bind afterwards.
fn trading_mode(said: &[Result<Action, u64>]) -> TradingMode {
    let bus = Bus::open_in(SimDisk::new().storage()).unwrap();
    let mut commands_in_force = CommandsInForce::default();
    for said in said {
        let draft = match said {
            Ok(action) => command(*action, "ops", "", 1.0).unwrap(),
            Err(index) => Draft::new(APPLIED, 1.0, &BTreeMap::from([("command_index", index)])).unwrap(),
        };
        commands_in_force.see(&bus.append(draft).unwrap());
    }
    commands_in_force.trading_mode()
}

#[test]
fn the_safer_one_counts() {
    use Action::{Flatten, Kill, Pause, ReduceOnly, Resume};
    let cases: [(&[Result<Action, u64>], TradingMode); 10] = [
        (&[], TradingMode::Open),
        (&[Ok(Pause)], TradingMode::Paused),
        (&[Ok(Pause), Ok(ReduceOnly)], TradingMode::Paused),
        (&[Ok(Flatten), Err(1), Ok(ReduceOnly)], TradingMode::ReduceOnly),
        (&[Ok(Kill), Ok(Pause)], TradingMode::Killed),
        // A resume takes back what was obeyed before it was given.
        (&[Ok(Pause), Err(1), Ok(Resume)], TradingMode::Open),
        (&[Ok(Pause), Err(1), Ok(ReduceOnly), Err(3), Ok(Resume), Err(5)], TradingMode::Open),
        // What crossed it, it does not.
        (&[Ok(Pause), Ok(Resume), Err(1), Err(2)], TradingMode::Paused),
        (&[Ok(Pause), Err(1), Ok(Kill), Ok(Resume)], TradingMode::Killed),
        (&[Ok(Resume), Ok(Pause), Err(1), Err(2)], TradingMode::Paused),
    ];
    for (said, expected) in cases {
        assert_eq!(trading_mode(said), expected, "{said:?}");
    }
}
