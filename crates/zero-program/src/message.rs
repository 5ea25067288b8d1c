//! Messages for people, on standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;
use zero_bus::JsonError;

/// Prints one line on standard error, headed by the program's name. Control characters in `text` are escaped, so that it
/// stays one line and sends no commands to a terminal.
pub fn print_message(program: &str, text: &str) {
    // When standard error is closed, there is nobody left to report that to.
    let _ = writeln!(io::stderr(), "{program}: {}", zero_paper::text::escape(text));
}

/// Prints a warning, see [`print_message`].
pub fn print_warning(program: &str, text: &str) {
    print_message(program, &format!("warning: {text}"));
}

/// Prints an error and its causes as one line.
pub fn print_error(program: &str, error: &anyhow::Error) {
    print_message(program, &with_causes(error));
}

/// An error and its causes, each mentioned once.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Describes what is wrong with a line of JSON. The caller names the line.
pub fn describe_json_error(error: &JsonError) -> String {
    let path = error.path();
    let separator = if path.is_empty() { "" } else { ": " };
    let byte = error.offset().map(|offset| format!(" (byte {offset} of the line)")).unwrap_or_default();
    format!("{path}{separator}{}{byte}", error.problem())
}

/// Turns exceeding a file size limit (`ulimit -f`) into an error that is reported like a full disk. By default, SIGXFSZ
/// kills the process without a message.
pub fn report_file_size_limits(program: &str) {
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))) {
        print_warning(
            program,
            &format!("exceeding a file size limit would end this program silently: {error}"),
        );
    }
}
