//! A progress bar for work that takes its time: on a terminal, and nowhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zero_bus::Progress;

/// A bar on standard error, which shows nothing where that is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that says what is being done.
    pub(crate) fn new(doing: &'static str) -> Self {
        Self::with(doing, "{msg} [{wide_bar}] {percent}% of {total_bytes} {bytes_per_sec}, {eta} left")
    }

    /// The same for work that is counted in events.
    pub(crate) fn of_events(doing: &'static str) -> Self {
        Self::with(doing, "{msg} [{wide_bar}] {percent}% of {human_len} events {per_sec}, {eta} left")
    }

    /// One that shows nothing anywhere.
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    fn with(doing: &'static str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        // Not set, which would show it before there is anything to show.
        Self(bar.with_message(doing))
    }

    /// Shows how far the work is.
    pub(crate) fn show(&self, progress: Progress) {
        self.show_events(progress.bytes, progress.bytes_total);
    }

    /// Shows how many events of how many are done.
    pub(crate) fn show_events(&self, events: u64, events_total: u64) {
        // Together, so that nothing is shown of the one without the other.
        self.0.update(|state| {
            state.set_len(events_total);
            state.set_pos(events);
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
