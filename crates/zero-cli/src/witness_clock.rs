//! The times that witnesses state, compared with the clock of this machine.

use zero_paper::text::escape;
use zero_paper::{Clock, SystemClock, rfc3339};
use zero_proof::policy::Cosigner;

/// Clocks that differ by less count as equal.
const TOLERANCE_S: u64 = 300;

/// A warning about each cosignature whose time lies in the future.
pub(crate) fn warn_of_future(cosigners: &[Cosigner<'_>]) -> Vec<String> {
    let is_future = |time: u64| time > now_s().saturating_add(TOLERANCE_S);
    let future = cosigners.iter().filter(|cosigner| cosigner.timestamp.is_some_and(is_future));
    future
        .map(|cosigner| {
            let (name, time) = (escape(&cosigner.witness.name), time_text(cosigner.timestamp.unwrap_or(0)));
            format!("witness {name} states a time in the future, {time}: its clock or that of this machine is wrong")
        })
        .collect()
}

/// A warning about a cosignature that a witness has just made, if its time is not that of now.
pub(crate) fn warn_of_wrong_clock(witness: &str, time: u64) -> Option<String> {
    let now = now_s();
    (time.abs_diff(now) > TOLERANCE_S).then(|| {
        format!(
            "{}: the cosignature states the time {}, and this machine has {}: one of the two clocks is wrong",
            escape(witness),
            time_text(time),
            time_text(now)
        )
    })
}

fn now_s() -> u64 {
    SystemClock.now() as u64
}

fn time_text(seconds: u64) -> String {
    rfc3339(seconds as f64).unwrap_or_else(|| format!("{seconds} seconds after 1970"))
}
