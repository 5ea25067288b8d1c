//! A program that exchanges lines with this one over its standard input and output.
//!
//! The program leads a process group of its own, which is killed when its [`ChildProcess`] is
//! dropped. Its standard error is this process's, so its messages reach the operator. If this
//! process is killed, the program sees the end of its input.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::line_reader::{LineError, LineReader, NextLine, wait_for};

/// How often an ended program is looked for. Nothing waits for this while a run goes on.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A running program.
pub(crate) struct ChildProcess {
    child: Child,
    /// `None` once it is closed. Writing to it never blocks.
    input: Option<File>,
    /// Bytes written to the input.
    written_bytes: u64,
    output: LineReader,
}

/// Why a line could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("did not read its input in time")]
    Timeout,
    #[error("closed its input")]
    Closed,
    #[error("cannot write to it: {0}")]
    Io(io::Error),
}

impl ChildProcess {
    /// Starts a program with lines of at most `max_line_bytes`. Without `has_input`, its standard
    /// input is empty.
    pub(crate) fn start(mut command: Command, has_input: bool, max_line_bytes: usize) -> io::Result<Self> {
        command.stdin(if has_input { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn()?;
        let input = child.stdin.take().map(|input| File::from(OwnedFd::from(input)));
        // Piped above, so it is there.
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let output = LineReader::new(File::from(OwnedFd::from(output)), max_line_bytes);
        // From here on, an early return drops the child and thereby kills it.
        let process = Self { child, input, written_bytes: 0, output };
        if let Some(input) = &process.input {
            // Only this end of the pipe: the program's end has flags of its own.
            fcntl_setfl(input, fcntl_getfl(input)? | OFlags::NONBLOCK)?;
        }
        Ok(process)
    }

    /// Writes a line, which ends with its line break. The program must read it before `deadline`.
    pub(crate) fn write_line(&mut self, line: &str, deadline: Instant) -> Result<(), WriteError> {
        let Some(input) = &mut self.input else { return Err(WriteError::Closed) };
        let mut unwritten = line.as_bytes();
        while !unwritten.is_empty() {
            match input.write(unwritten) {
                Ok(written) => {
                    unwritten = &unwritten[written..];
                    self.written_bytes += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(WriteError::Closed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(input, PollFlags::OUT, deadline).map_err(WriteError::Io)? {
                        return Err(WriteError::Timeout);
                    }
                }
                Err(error) => return Err(WriteError::Io(error)),
            }
        }
        Ok(())
    }

    /// Whether the program has read nothing of what was written to it, as far as the system tells.
    pub(crate) fn has_read_nothing(&self) -> bool {
        let unread_bytes = self.input.as_ref().and_then(|input| ioctl_fionread(input).ok());
        unread_bytes == Some(self.written_bytes)
    }

    /// Closes the program's standard input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Returns the next line that the program prints before `deadline`.
    pub(crate) fn next_line(&mut self, deadline: Instant) -> Result<NextLine<'_>, LineError> {
        self.output.next_line(Some(deadline))
    }

    /// Whether the program has printed something that was not returned yet. Does not wait.
    pub(crate) fn has_output(&mut self) -> io::Result<bool> {
        self.output.has_more()
    }

    /// Waits until the program has ended, at most until `deadline`. Returns how it ended, as in
    /// `exited with code 1`; `None` if it still runs.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Option<Exit> {
        loop {
            // The program stays a zombie, so that its number and its group's remain its own.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if let Ok(Some(status)) = waitid(WaitId::Pid(self.id()?), options) {
                let code = status.exit_status();
                return Some(code.map_or(Exit::Signal(status.terminating_signal().unwrap_or(0)), Exit::Code));
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return None;
            }
            thread::sleep(rest.min(EXIT_POLL_INTERVAL));
        }
    }

    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if let Some(group) = self.id() {
            // Fails if all processes of the group have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        // Nothing remains to be done about a process that cannot be waited for.
        let _ = self.child.wait();
    }
}

/// The program that [`command`] starts without the shell; `None` if it uses the shell.
pub(crate) fn direct_program(command_line: &str) -> Option<&str> {
    command_line.split_whitespace().next().filter(|_| !command_line.contains(SHELL_CHARACTERS))
}

/// Characters that mean something to the shell.
const SHELL_CHARACTERS: [char; 22] = [
    '|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '[', ']', '#', '~', '=', '{',
    '}', '\n',
];

/// A command line: words that are a program and its arguments or, if a character means something to
/// the shell, a command of the shell.
pub(crate) fn command(command_line: &str) -> Command {
    match direct_program(command_line) {
        Some(program) => {
            let mut command = Command::new(program);
            command.args(command_line.split_whitespace().skip(1));
            command
        }
        None => {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", command_line]);
            command
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}
