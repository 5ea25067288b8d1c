//! What every command needs to know about the program.

use zero_program::exit::is_damage;
use zero_proof::StoreError;
use zero_tables::export::ExportError;

/// The program's name in messages.
pub(crate) const PROGRAM: &str = "zero-bus";

/// Whether an error is the finding of a check (exit code 1): damage to a log, a head that is not
/// the expected one, or a journal, a mirror, an export or a checkpoint that contradicts the log.
pub(crate) fn is_failed_check(error: &anyhow::Error) -> bool {
    use zero_mirror::Error::{Corrupt, Fork, LogEmptied, LogReplaced, LogShorter};
    is_damage(error)
        || error.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(zero_bus::Error::HeadMismatch { .. }))
                || matches!(cause.downcast_ref(), Some(zero_paper::Error::Reconcile { .. }))
                || match cause.downcast_ref() {
                    Some(
                        Fork { .. }
                        | LogShorter { .. }
                        | LogEmptied { .. }
                        | LogReplaced { .. }
                        | Corrupt { .. },
                    ) => true,
                    Some(zero_mirror::Error::Bus(inner)) => zero_program::exit::is_damaged_log(inner),
                    _ => false,
                }
                || cause.downcast_ref().is_some_and(is_failed_proof)
                || match cause.downcast_ref() {
                    Some(ExportError::NotExtended { .. }) => true,
                    Some(ExportError::Bus(inner)) => zero_program::exit::is_damaged_log(inner),
                    _ => false,
                }
        })
}

/// Whether a log is not the one that was signed, or is damaged.
fn is_failed_proof(error: &StoreError) -> bool {
    match error {
        StoreError::LogChanged { .. } | StoreError::LogDiffers { .. } | StoreError::OtherTree { .. } => true,
        StoreError::Bus(inner) => zero_program::exit::is_damaged_log(inner),
        _ => false,
    }
}
