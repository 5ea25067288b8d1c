//! Command-line arguments and usage errors.

use std::io::{self, Write};

use crate::message::print_message;
use crate::output::OutputClosed;

/// Parses the arguments of the process. Invalid arguments end the process with one line on standard
/// error and exit code 2. `--help` and `--version` print their text and end it with exit code 0.
pub fn parse_arguments<P: clap::Parser>(program: &str) -> P {
    P::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() {
            print_message(program, &describe_usage_error(program, &P::command(), &error));
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

/// Describes a usage error in one line: the problem, a suggestion, and the help to read.
fn describe_usage_error(program: &str, command: &clap::Command, error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        return format!("name a command: {}; see {program} --help", names.join(", "));
    }
    let text = error.to_string();
    let parts = text.split("\n\n").map(str::trim_start);
    let parts = parts.filter_map(|part| part.strip_prefix("error: ").or_else(|| part.strip_prefix("tip: ")));
    let parts: Vec<_> = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let name = std::env::args_os().nth(1).filter(|name| command.find_subcommand(name).is_some());
    let name = name.map_or(String::new(), |name| format!(" {}", name.display()));
    format!("{}; see {program}{name} --help", parts.join("; "))
}
