//! The runtime's binary. What needs `zero-bus` as well is tested in `zero-cli`.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn help_names_every_option_and_the_exit_codes() {
    let output = Command::new(env!("CARGO_BIN_EXE_zero-engine-run")).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for option in [
        "--scenario",
        "--journal",
        "--cycle-journal",
        "--runtime-bus",
        "--once",
        "--max-cycles",
        "--interval",
    ] {
        assert!(text.contains(option), "{option} in {text}");
    }
    assert!(text.contains("Exit codes: 0 "), "{text}");
}
