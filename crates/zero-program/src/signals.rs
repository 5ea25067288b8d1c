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

/// SIGINT, SIGTERM and SIGHUP, without those that this process ignores. A signal that was ignored
/// at start stays ignored, as `nohup` and shells without job control ask for.
///
/// Nothing is known to be ignored where the system has no `/proc`.
pub fn stop_signals() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    STOP_SIGNALS.into_iter().filter(|signal| mask & (1 << (signal - 1)) == 0).collect()
}

/// Ends the process with [`exit_code`] on SIGINT, SIGTERM and SIGHUP if it is process 1, as in a
/// container. The system ends any other process by default, but not process 1.
///
/// A program calls either this or [`on_stop_signal`].
///
/// # Errors
/// The system refuses a handler.
pub fn end_as_init_on_stop_signal() -> Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    for signal in stop_signals() {
        flag::register_conditional_shutdown(signal, exit_code(signal), Arc::new(AtomicBool::new(true)))
            .context("cannot handle signals")?;
    }
    Ok(())
}

/// Calls `stop` with the signal when the first of SIGINT, SIGTERM and SIGHUP arrives. A second one
/// ends the process at once with [`exit_code`], whatever the program is doing.
///
/// A signal that was ignored when the process started stays ignored.
///
/// Returns once the handlers are installed, so that no later signal is lost. `stop` runs on a
/// thread of its own and may therefore take locks and do I/O.
///
/// # Errors
/// The system refuses a handler or the thread.
pub fn on_stop_signal(stop: impl FnOnce(i32) + Send + 'static) -> Result<()> {
    let stop_signals = stop_signals();
    // Comes first: a signal that arrives before the flags below are registered must not be lost.
    let mut signals = Signals::new(&stop_signals).context("cannot handle signals")?;
    let stop_requested = Arc::new(AtomicBool::new(false));
    for &signal in &stop_signals {
        // Handlers of a signal run in the order of registration: the first signal finds the flag
        // unset and then sets it, so only the second one ends the process.
        flag::register_conditional_shutdown(signal, exit_code(signal), Arc::clone(&stop_requested))
            .and_then(|_| flag::register(signal, Arc::clone(&stop_requested)))
            .context("cannot handle signals")?;
    }
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
