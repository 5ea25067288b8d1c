//! Messages for people, on standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;
use zero_bus::JsonError;

/// Prints one line on standard error that begins with the program's name. Control characters are
/// escaped: the text may quote the content of files.
pub fn print_message(program: &str, text: &str) {
    // A failure to write to standard error cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "{program}: {}", zero_paper::text::escape(text));
}

/// Prints a warning in the way of [`print_message`].
pub fn print_warning(program: &str, text: &str) {
    print_message(program, &format!("warning: {text}"));
}

/// Prints an error and its causes in the way of [`print_message`].
pub fn print_error(program: &str, error: &anyhow::Error) {
    print_message(program, &with_causes(error));
}

/// Joins an error and its causes. Leaves out a cause that the text already contains.
pub fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Describes the problem with a line of JSON. The caller names the line.
pub fn describe_json_error(error: &JsonError) -> String {
    let path = error.path();
    let separator = if path.is_empty() { "" } else { ": " };
    let byte = error.offset().map(|offset| format!(" (byte {offset} of the line)")).unwrap_or_default();
    format!("{path}{separator}{}{byte}", error.problem())
}

/// Makes a write beyond the file size limit (`ulimit -f`) return an error, which is then reported
/// like a full disk. Without this call, SIGXFSZ ends the process without a message.
pub fn report_file_size_limits(program: &str) {
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))) {
        print_warning(
            program,
            &format!("cannot catch SIGXFSZ, so a file size limit would end this program silently: {error}"),
        );
    }
}
