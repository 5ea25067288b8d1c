//! The time of day and pauses, which tests replace.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use zero_paper::{Clock, SystemClock};

/// A clock that can wait.
pub trait Time {
    /// Returns the time in milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Waits. Returns whether the reader of the output is still there.
    fn pause(&mut self, duration: Duration) -> bool;
}

/// The system's clock. A pause ends early if the reader of standard output is gone.
pub struct SystemTime;

impl Time for SystemTime {
    fn now_ms(&self) -> i64 {
        (SystemClock.now() * 1000.0) as i64
    }

    fn pause(&mut self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let stdout = std::io::stdout();
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let rest = Timespec {
                tv_sec: rest.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            };
            // Errors and hang-ups are reported whether they are asked for or not.
            match poll(&mut [PollFd::new(&stdout, PollFlags::empty())], Some(&rest)) {
                Ok(0) => return true,
                Ok(_) => return false,
                Err(Errno::INTR) => {}
                Err(_) => {
                    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                    return true;
                }
            }
        }
    }
}
