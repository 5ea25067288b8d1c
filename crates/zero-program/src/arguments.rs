//! Command-line arguments and usage errors.

use std::ffi::OsString;
use std::io::{self, Write};

use crate::message::print_message;
use crate::output::OutputClosed;

/// Parses the arguments of a program; the first one is its own name. Invalid arguments end the
/// process with one line on standard error and exit code 2. `--help` and `--version` print their
/// text and end it with exit code 0.
pub fn parse_arguments<P: clap::Parser>(program: &str, arguments: impl IntoIterator<Item = OsString>) -> P {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    P::try_parse_from(&arguments).unwrap_or_else(|error| {
        if error.use_stderr() {
            let problem = describe_usage_error(program, &P::command(), arguments.get(1), &error);
            print_message(program, &problem);
            std::process::exit(2);
        }
        let printed = error.print().and_then(|()| io::stdout().flush());
        std::process::exit(match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                print_message(program, &OutputClosed(error).to_string());
                2
            }
            _ => 0,
        })
    })
}

/// Describes a usage error in one line: the problem, a suggestion, and the help to read. `first` is
/// the first argument after the program's name.
fn describe_usage_error(
    program: &str,
    command: &clap::Command,
    first: Option<&OsString>,
    error: &clap::Error,
) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        return format!("name a command: {}; see {program} --help", names.join(", "));
    }
    let text = error.to_string();
    let parts = text.split("\n\n").map(str::trim_start);
    let parts = parts.filter_map(|part| part.strip_prefix("error: ").or_else(|| part.strip_prefix("tip: ")));
    let parts: Vec<_> = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let name = first.filter(|name| command.find_subcommand(name).is_some());
    let name = name.map_or(String::new(), |name| format!(" {}", name.display()));
    format!("{}; see {program}{name} --help", parts.join("; "))
}
