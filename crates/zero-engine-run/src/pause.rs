//! The pause between two cycles, which signals and operator commands interrupt.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use zero_paper::PauseEnd;
use zero_program::signals::{exit_code, stop_signals};

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
        let first_seen = Arc::new(AtomicBool::new(false));
        let stop_signals = stop_signals();
        for &signal in &stop_signals {
            // Handlers run in the order of their registration. At the first signal, the conditional
            // shutdown still sees `false`; the second handler then sets the flag.
            flag::register_conditional_shutdown(signal, exit_code(signal), Arc::clone(&first_seen))
                .and_then(|_| flag::register(signal, Arc::clone(&first_seen)))
                .context("cannot install the signal handlers")?;
        }
        let mut signals = Signals::new(&stop_signals).context("cannot install the signal handlers")?;
        let (sender, receiver) = mpsc::channel();
        let signal_sender = sender.clone();
        let forward_signals = move || {
            for _ in signals.forever() {
                if signal_sender.send(Wake::Signal).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(forward_signals)
            .context("cannot start the thread that waits for signals")?;
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
