//! How a program ends: 0 fine, 1 judged and found wanting, 2 could not be done.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;
use zero_bus::JsonError;

/// What a command that could be carried out found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing to complain about.
    Fine,
    /// Something is wrong with what was looked at.
    Wanting,
}

impl Judgement {
    /// Fine where something holds.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Fine } else { Self::Wanting }
    }
}

/// Turns what a command came to into an exit code, with one line on standard error where it could not be
/// done.
pub fn exit(program: &str, result: anyhow::Result<Judgement>) -> ExitCode {
    let error = match result {
        Ok(Judgement::Fine) => return ExitCode::SUCCESS,
        Ok(Judgement::Wanting) => return ExitCode::from(1),
        Err(error) => error,
    };
    if let Some(said) = error.downcast_ref::<Said>() {
        return ExitCode::from(if said.wanting { 1 } else { 2 });
    }
    if is_broken_pipe(&error) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    say_error(program, &error);
    ExitCode::from(if is_judgement(&error) { 1 } else { 2 })
}

/// One line about an error and its causes.
pub fn say_error(program: &str, error: &anyhow::Error) {
    say(program, &with_causes(error));
}

/// What went wrong was said when it did, and others went on.
#[derive(Debug)]
pub struct Said {
    /// Whether it was something that was found by looking.
    pub wanting: bool,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not everything could be done")
    }
}

impl std::error::Error for Said {}

/// One line for a person, on standard error. Whatever is in it, it stays one line, and commands nothing to a terminal.
pub fn say(program: &str, text: &str) {
    let escaped =
        text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] });
    // Where nobody can be told, there is nobody to tell that either.
    let _ = writeln!(io::stderr(), "{program}: {}", escaped.collect::<String>());
}

/// From now on a limit on the size of files is an error that is told, as a full disk is, and not an end without a word.
pub fn survive_size_limits(program: &str) {
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))) {
        let text = format!("warning: a limit on the size of files would end this without a word: {error}");
        say(program, &text);
    }
}

/// The arguments as they were given; or, where they are wrong, one line that says so, and the exit.
pub fn arguments<P: clap::Parser>(program: &str) -> P {
    P::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() {
            say(program, &wrong_arguments(program, &P::command(), &error));
            std::process::exit(2);
        }
        // Help and the version were asked for.
        let told = error.print().and_then(|()| io::stdout().flush());
        std::process::exit(match told {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                say(program, &OutputClosed(error).to_string());
                2
            }
            _ => 0,
        })
    })
}

/// What is wrong with the arguments, what may have been meant, and where to read on.
fn wrong_arguments(program: &str, command: &clap::Command, error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        return format!("name a command: {}; see {program} --help", names.join(", "));
    }
    let text = error.to_string();
    let said = text.split("\n\n").map(str::trim_start);
    let said = said.filter_map(|said| said.strip_prefix("error: ").or_else(|| said.strip_prefix("tip: ")));
    let said: Vec<_> = said.map(|said| said.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let name = std::env::args_os().nth(1).filter(|name| command.find_subcommand(name).is_some());
    let name = name.map_or(String::new(), |name| format!(" {}", name.display()));
    format!("{}; see {program}{name} --help", said.join("; "))
}

/// An error and its causes, each said once.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Damage to a log, or a mirror that does not fit it, is something that was found by looking, not something that kept us
/// from it.
pub fn is_judgement(error: &anyhow::Error) -> bool {
    use zero_bus::Error::{Damaged, Missing, Undecided};
    use zero_mirror::Error::{Fork, Shorter, Unsound};
    error.chain().any(|cause| {
        if let Some(Fork { .. } | Shorter { .. } | Unsound { .. }) = cause.downcast_ref() {
            return true;
        }
        let of_runtime = || match cause.downcast_ref()? {
            zero_paper::Error::Bus(inner) => Some(inner),
            _ => None,
        };
        let of_mirror = || match cause.downcast_ref()? {
            zero_mirror::Error::Bus(inner) => Some(inner),
            _ => None,
        };
        let of_backup = || match cause.downcast_ref()? {
            zero_bus::BackupError::Bus(inner) => Some(inner),
            _ => None,
        };
        let inner = cause.downcast_ref().or_else(of_runtime).or_else(of_mirror).or_else(of_backup);
        matches!(inner, Some(Damaged { .. } | Missing { .. } | Undecided { .. }))
    })
}

/// Prints what was found. Whether anybody read it to its end does not change what was found.
///
/// # Errors
/// [`OutputClosed`] where it cannot be written for another reason than that nobody reads.
pub fn print(text: &str, judgement: Judgement) -> anyhow::Result<Judgement> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputClosed(error).into()),
        _ => Ok(judgement),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<OutputClosed>().is_some_and(|closed| closed.0.kind() == io::ErrorKind::BrokenPipe)
}

/// Standard output could not be written to.
#[derive(Debug)]
pub struct OutputClosed(pub io::Error);

impl std::fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for OutputClosed {}

/// What is wrong with a line of JSON, where the line itself is named by the caller.
pub fn problem_in_line(error: &JsonError) -> String {
    let path = error.path();
    let separator = if path.is_empty() { "" } else { ": " };
    let byte = error.offset().map(|offset| format!(" (byte {offset} of the line)")).unwrap_or_default();
    format!("{path}{separator}{}{byte}", error.problem())
}
