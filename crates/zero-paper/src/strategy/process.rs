//! `exec:COMMAND`: a program in any language decides. It reads a bar from its standard input and
//! prints its answer, one line of JSON each.
//!
//! After any failure the program is killed. A late answer can therefore never be taken for the
//! answer to a later bar. [`Strategy::start`] starts the program anew.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zero_bus::Checksum;

use crate::child_process::{ChildProcess, WriteError, command, direct_program};
use crate::line_reader::{LineError, NextLine};
use crate::strategy::answer::{STOP_LINE, bar_line, parse_answer, start_line};
use crate::strategy::interface::{
    Answer, Failure, FailureKind, Observation, Start, Strategy, StrategyError, StrategyIdentity,
};
use crate::text::shorten;

/// Longest answer.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Largest program. It is read as a whole for its checksum.
const MAX_PROGRAM_BYTES: u64 = 256 << 20;
/// The longest time for an answer. A longer one counts as this.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 86_400);
/// How many unknown fields are reported, and how many characters of each.
const MAX_UNKNOWN_FIELDS: usize = 20;
const MAX_FIELD_CHARACTERS: usize = 100;
/// How long a failed program may take to end before its failure is described without its exit.
const EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// A program as a strategy.
pub(super) struct ProcessStrategy {
    command_line: String,
    /// The file whose checksum the records name.
    program: Option<PathBuf>,
    identity: StrategyIdentity,
    timeout: Duration,
    /// `None` if it does not run.
    process: Option<ChildProcess>,
    /// Unknown fields of answers that were reported.
    unknown_fields: BTreeSet<String>,
    warnings: Vec<String>,
}

impl ProcessStrategy {
    /// Finds the program of a command line. Does not start it.
    pub(super) fn open(spec: &str, command_line: &str, timeout: Duration) -> Result<Self, StrategyError> {
        let invalid = |place: String, problem: String| StrategyError { place, problem };
        let Some(first) = command_line.split_whitespace().next() else {
            return Err(invalid(spec.to_owned(), "names no command; write exec:COMMAND".to_owned()));
        };
        check_in_path(command_line).map_err(|problem| invalid(spec.to_owned(), problem))?;
        let program = program_file(command_line);
        let file = program.as_deref().unwrap_or(Path::new(first));
        let sha256 = checksum(program.as_deref(), command_line);
        let sha256 = sha256.map_err(|problem| invalid(file.display().to_string(), problem))?;
        let name = file.file_name();
        let identity = StrategyIdentity {
            name: name.map_or(first.to_owned(), |name| name.to_string_lossy().into_owned()),
            sha256,
            version: String::new(),
        };
        Ok(Self {
            command_line: command_line.to_owned(),
            program,
            identity,
            timeout: timeout.min(MAX_TIMEOUT),
            process: None,
            unknown_fields: BTreeSet::new(),
            warnings: Vec::new(),
        })
    }

    /// Sends a bar and reads the answer to it.
    fn ask(&mut self, observation: &Observation<'_>, is_replay: bool) -> Result<Answer, Failure> {
        let Some(process) = &mut self.process else {
            return Err(failure(FailureKind::Exited, "the program does not run"));
        };
        let deadline = Instant::now() + self.timeout;
        if process.has_output().map_err(|error| read_failure(&LineError::Io(error)))? {
            return Err(failure(
                FailureKind::InvalidOutput,
                "the program printed a line before it was asked",
            ));
        }
        let line = bar_line(observation, is_replay).map_err(|error| {
            failure(FailureKind::InvalidOutput, &format!("the bar cannot be sent to the program: {error}"))
        })?;
        let written = process.write_line(&line, deadline);
        written.map_err(|error| write_failure(&error, process, self.timeout))?;
        let answer = match process.next_line(deadline) {
            // Nothing in the answer to a replayed bar matters, since its cycle is recorded.
            Ok(NextLine::Line(line)) if line.is_terminated && is_replay => Ok(Answer::default()),
            Ok(NextLine::Line(line)) if line.is_terminated => {
                let (known, warnings) = (&mut self.unknown_fields, &mut self.warnings);
                parse_answer(line.text, observation.cycle_id, |field| {
                    let field = shorten(field, MAX_FIELD_CHARACTERS);
                    if known.len() < MAX_UNKNOWN_FIELDS && known.insert(field.clone()) {
                        warnings
                            .push(format!("the strategy's answer: {field}: is not known and has no effect"));
                    }
                })
            }
            Ok(NextLine::Line(_)) => {
                return Err(exit_failure("the program's output ends within a line", process));
            }
            Ok(NextLine::End) => return Err(exit_failure("the program closed its output", process)),
            Ok(NextLine::Pending) => return Err(timeout_failure(self.timeout)),
            Err(error) => return Err(read_failure(&error)),
        };
        if process.has_output().map_err(|error| read_failure(&LineError::Io(error)))? {
            return Err(failure(
                FailureKind::InvalidOutput,
                "the program printed more than one line for a bar",
            ));
        }
        answer.map_err(|problem| failure(FailureKind::InvalidOutput, &problem))
    }
}

impl Strategy for ProcessStrategy {
    fn identity(&self) -> &StrategyIdentity {
        &self.identity
    }

    fn start(&mut self, start: &Start<'_>) -> Result<(), Failure> {
        let not_started = |problem: String| failure(FailureKind::NotStarted, &problem);
        self.process = None;
        let sha256 = checksum(self.program.as_deref(), &self.command_line).map_err(not_started)?;
        if sha256 != self.identity.sha256 {
            return Err(not_started(format!("{} has changed during the run", self.identity.name)));
        }
        let line = start_line(start).map_err(|error| not_started(error.to_string()))?;
        let mut process = ChildProcess::start(command(&self.command_line), true, MAX_LINE_BYTES)
            .map_err(|error| not_started(format!("cannot start `{}`: {error}", self.command_line)))?;
        let written = process.write_line(&line, Instant::now() + self.timeout);
        written.map_err(|error| write_failure(&error, &mut process, self.timeout))?;
        self.process = Some(process);
        Ok(())
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), Failure> {
        let asked = self.ask(observation, true);
        if asked.is_err() {
            self.process = None;
        }
        asked.map(drop)
    }

    fn decide(&mut self, observation: &Observation<'_>) -> Result<Answer, Failure> {
        let answer = self.ask(observation, false);
        if answer.is_err() {
            self.process = None;
        }
        answer
    }

    fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let deadline = Instant::now() + self.timeout;
        let was_silent = !process.has_output().unwrap_or(false);
        // Fails if the program has ended, which is what it should do.
        let _ = process.write_line(STOP_LINE, deadline);
        process.close_input();
        let mut output = (!was_silent).then(|| "the program printed a line before it was asked".to_owned());
        while let Ok(NextLine::Line(line)) = process.next_line(deadline) {
            let text = shorten(line.text, MAX_FIELD_CHARACTERS);
            output.get_or_insert_with(|| format!("the program printed after it was told to stop: {text}"));
        }
        process.wait(deadline);
        output.map_or(Ok(()), |reason| Err(failure(FailureKind::OutputAfterStop, &reason)))
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}

/// Checks that a program without a path is found in `PATH`, where the system looks for it.
fn check_in_path(command_line: &str) -> Result<(), String> {
    let Some(program) = direct_program(command_line).filter(|program| !program.contains('/')) else {
        return Ok(());
    };
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return Ok(());
    }
    let advice = match Path::new(program).is_file() {
        true => format!("; for the file in this directory, write exec:./{command_line}"),
        false => String::new(),
    };
    Err(format!("there is no program {program} in PATH{advice}"))
}

/// The first word of a command line that names a file: the program, or the script that an
/// interpreter runs. `None` if no word does.
fn program_file(command_line: &str) -> Option<PathBuf> {
    let words = command_line.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
    words.map(PathBuf::from).find(|path| path.is_file())
}

/// The checksum of a program's file or, without one, of the command line.
fn checksum(program: Option<&Path>, command_line: &str) -> Result<String, String> {
    let Some(path) = program else { return Ok(Checksum::of(command_line.as_bytes()).to_string()) };
    let problem = |error: std::io::Error| format!("cannot read it: {error}");
    if path.metadata().map_err(problem)?.len() > MAX_PROGRAM_BYTES {
        return Err(format!("is larger than {MAX_PROGRAM_BYTES} bytes"));
    }
    Ok(Checksum::of(&std::fs::read(path).map_err(problem)?).to_string())
}

fn failure(kind: FailureKind, reason: &str) -> Failure {
    Failure { kind, reason: reason.to_owned() }
}

fn timeout_failure(timeout: Duration) -> Failure {
    failure(FailureKind::Timeout, &format!("no answer within {} s", timeout.as_secs_f64()))
}

fn write_failure(error: &WriteError, process: &mut ChildProcess, timeout: Duration) -> Failure {
    match error {
        WriteError::Timeout => timeout_failure(timeout),
        WriteError::Closed => exit_failure("the program closed its input", process),
        WriteError::Io(_) => failure(FailureKind::Exited, &format!("the program {error}")),
    }
}

fn read_failure(error: &LineError) -> Failure {
    let kind = if error.line().is_some() { FailureKind::InvalidOutput } else { FailureKind::Exited };
    failure(kind, &format!("the program's answer {error}"))
}

/// The failure of a program that has probably ended: says how, if it has. A program that has read
/// nothing until its end never was the strategy: the script is missing, or has a syntax error.
fn exit_failure(otherwise: &str, process: &mut ChildProcess) -> Failure {
    let exit = process.wait(Instant::now() + EXIT_TIMEOUT);
    match exit {
        Some(exit) if process.has_read_nothing() => {
            failure(FailureKind::NotStarted, &format!("the program {exit} without reading its input"))
        }
        Some(exit) => failure(FailureKind::Exited, &format!("the program {exit}")),
        None => failure(FailureKind::Exited, otherwise),
    }
}
