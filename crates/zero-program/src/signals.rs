//! An orderly stop on SIGINT, SIGTERM and SIGHUP.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

const STOP_SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// The exit code of a program that a signal ended, by the convention of shells.
pub fn exit_code(signal: i32) -> i32 {
    128 + signal
}

/// Calls `stop` with the signal when the first of SIGINT, SIGTERM and SIGHUP arrives. A second one
/// ends the process at once with [`exit_code`], whatever the program is doing.
///
/// Returns once the handlers are installed, so that no later signal is lost. `stop` runs on a
/// thread of its own and may therefore take locks and do I/O.
///
/// # Errors
/// The system refuses a handler or the thread.
pub fn on_stop_signal(stop: impl FnOnce(i32) + Send + 'static) -> Result<()> {
    let stop_requested = Arc::new(AtomicBool::new(false));
    for signal in STOP_SIGNALS {
        // Handlers of a signal run in the order of registration: the first signal finds the flag
        // unset and then sets it, so only the second one ends the process.
        flag::register_conditional_shutdown(signal, exit_code(signal), Arc::clone(&stop_requested))
            .and_then(|_| flag::register(signal, Arc::clone(&stop_requested)))
            .context("cannot handle signals")?;
    }
    let mut signals = Signals::new(STOP_SIGNALS).context("cannot handle signals")?;
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            stop(signal);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .context("cannot start the thread that waits for signals")?;
    Ok(())
}
