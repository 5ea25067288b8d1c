//! The help text.

use std::path::Path;

use crate::support::run;

#[test]
fn help_names_every_option_and_the_exit_codes() {
    let help = run(Path::new("."), &["--help"]).success();
    for option in [
        "--scenario",
        "--journal",
        "--cycle-journal",
        "--runtime-bus",
        "--rebuild-journal",
        "--once",
        "--max-cycles",
        "--interval",
        "--fixed-clock",
        "--trust-reduce-only",
        "--production-parity",
        "--output",
        "--market",
        "--strategy",
        "--orders",
        "--clock",
        "--strategy-timeout",
        "--on-failure",
        "--dry",
    ] {
        assert!(help.stdout.contains(option), "{option} in {}", help.stdout);
    }
    assert!(help.stdout.contains("Exit codes: 0 "), "{}", help.stdout);
    assert!(help.stdout.contains("3 the operator's kill stopped the run"), "{}", help.stdout);
}
