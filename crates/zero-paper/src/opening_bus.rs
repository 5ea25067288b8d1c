//! Opens the bus of a runtime in the right moment of its start.

use std::sync::Arc;

use zero_bus::storage::Storage;
use zero_bus::{AmbiguousTail, Bus, OpenOptions, SNAPSHOT};

use crate::clock::Clock;
use crate::error::Result;

/// A bus that is opened for appending once the checks of the start have passed, since opening may
/// repair its tail. Nothing can be read past an ambiguous tail, so a bus whose ambiguous tail is to
/// be quarantined is opened before the checks.
pub(crate) struct OpeningBus {
    storage: Option<Arc<dyn Storage>>,
    options: OpenOptions,
    opened: Option<Bus>,
}

impl OpeningBus {
    /// `storage` is `None` for a runtime without a bus. `clock` gives the time of a record of
    /// quarantined bytes.
    pub(crate) fn new(
        storage: Option<Arc<dyn Storage>>,
        on_ambiguous_tail: AmbiguousTail,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let (mut options, clock) = (OpenOptions::new(), Arc::clone(clock));
        options.on_ambiguous_tail(on_ambiguous_tail).clock(move || clock.now());
        let mut opening = Self { storage, options, opened: None };
        if on_ambiguous_tail != AmbiguousTail::Refuse {
            opening.opened = opening.open()?;
        }
        Ok(opening)
    }

    /// Opens the bus, unless it is open already.
    pub(crate) fn open(&mut self) -> Result<Option<Bus>> {
        if let Some(opened) = self.opened.take() {
            return Ok(Some(opened));
        }
        let opened = self.storage.take().map(|storage| self.options.open_in(storage));
        Ok(opened.transpose()?)
    }
}

/// Returns what the operator should know of a bus that was just opened: what [`Bus::warnings`]
/// says, and a snapshot that contradicts the log.
pub(crate) fn warnings_of(bus: &Bus) -> Vec<String> {
    let mut warnings = bus.warnings();
    let path = bus.log_path().with_file_name(SNAPSHOT);
    match bus.reader().verify_snapshot() {
        Ok(snapshot) if snapshot.consistent => {}
        Ok(snapshot) => warnings.push(format!(
            "{}: {}; the state follows from the log, and the next cycle replaces the snapshot",
            path.display(),
            snapshot.reason
        )),
        Err(error) => warnings.push(format!("{}: cannot compare it with the log: {error}", path.display())),
    }
    warnings
}
