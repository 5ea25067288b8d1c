//! The pause between two cycles, which signals and operator commands interrupt.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use zero_paper::PauseEnd;
use zero_program::signals::on_stop_signal;

enum Wake {
    Signal,
    Command,
}

/// Wakes a [`Pauser`] when an operator command arrives.
pub(crate) struct CommandWaker(mpsc::Sender<Wake>);

impl CommandWaker {
    pub(crate) fn wake(&self) {
        // Fails if the pauser is gone. The run is then over.
        let _ = self.0.send(Wake::Command);
    }
}

/// Pauses between two cycles.
pub(crate) struct Pauser(mpsc::Receiver<Wake>);

impl Pauser {
    /// Installs the signal handlers. The first signal ends the current or the next pause; a second
    /// one ends the process at once. A signal that was ignored at start stays ignored.
    pub(crate) fn install() -> Result<(Self, CommandWaker)> {
        let (sender, receiver) = mpsc::channel();
        let signal_sender = sender.clone();
        on_stop_signal(move |_| {
            // Fails if the pauser is gone. The run is then over.
            let _ = signal_sender.send(Wake::Signal);
        })?;
        Ok((Self(receiver), CommandWaker(sender)))
    }

    /// Waits until a signal or a command arrives, at most for `duration`.
    pub(crate) fn pause(&self, duration: Duration) -> PauseEnd {
        let start = Instant::now();
        match self.0.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => PauseEnd::Elapsed,
            Ok(Wake::Command) => PauseEnd::Command { remaining: duration.saturating_sub(start.elapsed()) },
            Ok(Wake::Signal) | Err(RecvTimeoutError::Disconnected) => PauseEnd::Stop,
        }
    }
}
