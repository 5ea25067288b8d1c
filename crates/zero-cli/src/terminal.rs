//! Output for people that several commands share. `zero_program::output::print` removes the colours
//! when standard output is not a terminal.

use zero_program::message::print_message;

use crate::program::PROGRAM;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BOLD_RED: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";

/// The mark of a check that passed. All marks are four columns wide.
pub(crate) fn ok_mark() -> String {
    format!("{GREEN}ok{RESET}  ")
}

/// The mark of a check that passed with a warning.
pub(crate) fn warn_mark() -> String {
    format!("{YELLOW}warn{RESET}")
}

/// The mark of a check that failed.
pub(crate) fn fail_mark() -> String {
    format!("{BOLD_RED}FAIL{RESET}")
}

/// The mark of a check that passed or failed.
pub(crate) fn mark(passed: bool) -> String {
    if passed { ok_mark() } else { fail_mark() }
}

/// Reports on standard error that a log ends with a torn tail, which readers skip.
pub(crate) fn report_torn_tail(bytes: u64) {
    if bytes > 0 {
        print_message(PROGRAM, &format!("skipped a torn tail of {bytes} bytes"));
    }
}
