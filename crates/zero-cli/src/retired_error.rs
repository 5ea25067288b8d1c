//! What to do if a command needs events that were retired.

use anyhow::{Error, anyhow};
use zero_bus::Error::Retired;
use zero_report::csv::CsvError;

/// Adds advice to the error that says that events were retired. Other errors stay as they are.
pub(crate) fn with_advice(error: impl Into<Error>, advice: &str) -> Error {
    let error = error.into();
    let is_retired = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(Retired { .. }))
            || matches!(cause.downcast_ref(), Some(zero_paper::Error::Bus(Retired { .. })))
            || matches!(cause.downcast_ref(), Some(CsvError::Bus(Retired { .. })))
    });
    if is_retired { anyhow!("{error:#}; {advice}") } else { error }
}
