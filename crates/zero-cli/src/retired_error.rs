//! What to do if a command needs events that were retired.

use anyhow::{Error, anyhow};

/// Adds advice to the error that says that events were retired. Other errors stay as they are.
pub(crate) fn with_advice(error: impl Into<Error>, advice: &str) -> Error {
    let error = error.into();
    let is_retired = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(zero_bus::Error::Retired { .. }))
            || matches!(cause.downcast_ref(), Some(zero_paper::Error::Bus(zero_bus::Error::Retired { .. })))
    });
    if is_retired { anyhow!("{error:#}; {advice}") } else { error }
}
