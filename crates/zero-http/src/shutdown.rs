//! Graceful shutdown of a server.

use tokio::sync::watch;

/// Shuts a server down, from any thread. Clones refer to the same server.
#[derive(Clone)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Begins the shutdown and returns at once: the server accepts no more connections and finishes
    /// the requests in progress, then [`Listening::serve`](crate::Listening::serve) returns.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the shutdown begins.
    pub(crate) async fn begun(&self) {
        // The sender is alive, since `self` is one; so this cannot fail.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}
