//! Progress bars on standard error, shown on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zero_bus::Progress;

/// A progress bar. Dropping it removes it from the terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar for work that is counted in bytes. `activity` names the work, as in "verifying".
    pub(crate) fn new(activity: &'static str) -> Self {
        Self::with_template(
            activity,
            "{msg} [{wide_bar}] {percent}% of {total_bytes} {bytes_per_sec}, {eta} left",
        )
    }

    /// A bar for work that is counted in events.
    pub(crate) fn of_events(activity: &'static str) -> Self {
        Self::with_template(
            activity,
            "{msg} [{wide_bar}] {percent}% of {human_len} events {per_sec}, {eta} left",
        )
    }

    /// A bar that is never drawn.
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    fn with_template(activity: &'static str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        // `set_message` would draw the bar before it has any progress to show.
        Self(bar.with_message(activity))
    }

    /// Shows progress in bytes.
    pub(crate) fn show(&self, progress: Progress) {
        self.set(progress.bytes, progress.bytes_total);
    }

    /// Shows progress in events.
    pub(crate) fn show_events(&self, events: u64, events_total: u64) {
        self.set(events, events_total);
    }

    /// Sets position and length in one update, so that the bar is never drawn with only one of
    /// them.
    fn set(&self, position: u64, length: u64) {
        self.0.update(|state| {
            state.set_len(length);
            state.set_pos(position);
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
