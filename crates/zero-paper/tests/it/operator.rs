//! Which operator commands are in force, and which of them governs.

use std::collections::BTreeMap;

use zero_bus::sim::SimDisk;
use zero_bus::{Bus, Draft};
use zero_paper::event_types::OPERATOR_APPLIED;
use zero_paper::operator::{Action, CommandsInForce, command};
use zero_paper::risk::TradingMode;

/// An event on the bus, in the order of the test case.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The operator appends a command.
    Command(Action),
    /// The runtime confirms the command at this event index.
    Applied(u64),
}

fn trading_mode_after(steps: &[Step]) -> TradingMode {
    let bus = Bus::open_in(SimDisk::new().storage()).unwrap();
    let mut commands_in_force = CommandsInForce::default();
    for step in steps {
        let draft = match *step {
            Step::Command(action) => command(action, "ops", "", 1.0).unwrap(),
            Step::Applied(index) => {
                Draft::new(OPERATOR_APPLIED, 1.0, &BTreeMap::from([("command_index", index)])).unwrap()
            }
        };
        commands_in_force.apply(&bus.append(draft).unwrap());
    }
    commands_in_force.trading_mode()
}

#[test]
fn the_most_restrictive_command_in_force_governs() {
    use Action::{Flatten, Kill, Pause, ReduceOnly, Resume};
    use Step::{Applied, Command};
    let cases: [(&[Step], TradingMode); 10] = [
        (&[], TradingMode::Open),
        (&[Command(Pause)], TradingMode::Paused),
        (&[Command(Pause), Command(ReduceOnly)], TradingMode::Paused),
        (&[Command(Flatten), Applied(1), Command(ReduceOnly)], TradingMode::ReduceOnly),
        (&[Command(Kill), Command(Pause)], TradingMode::Killed),
        // A resume revokes the commands that were applied before it.
        (&[Command(Pause), Applied(1), Command(Resume)], TradingMode::Open),
        (
            &[Command(Pause), Applied(1), Command(ReduceOnly), Applied(3), Command(Resume), Applied(5)],
            TradingMode::Open,
        ),
        // It does not revoke a command that was applied later, or not at all.
        (&[Command(Pause), Command(Resume), Applied(1), Applied(2)], TradingMode::Paused),
        (&[Command(Pause), Applied(1), Command(Kill), Command(Resume)], TradingMode::Killed),
        (&[Command(Resume), Command(Pause), Applied(1), Applied(2)], TradingMode::Paused),
    ];
    for (steps, expected) in cases {
        assert_eq!(trading_mode_after(steps), expected, "{steps:?}");
    }
}
