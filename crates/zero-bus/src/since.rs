//! Finds where to start reading the events since a time.

use crate::durable_log::OpenedLog;
use crate::error::{Error, Result};
use crate::reader::Reader;

impl Reader {
    /// Returns the index of an event before which all events have times before `as_of`, to start
    /// reading there. That event itself, and others after it, can have an earlier time: events may
    /// be in any order of their times.
    ///
    /// Reads only the indexes of sealed segments, so it is at most the first event that is not
    /// sealed. Costs three reads for each segment that may have later events, and one more.
    ///
    /// # Errors
    /// [`Error::Io`]. If an index is damaged, returns the first event of the log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft, SealOptions};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// for hour in 0..20 {
    ///     let door = BTreeMap::from([("by", "cat")]);
    ///     bus.append(Draft::new("door.opened", 1777593600.0 + 3600.0 * f64::from(hour), &door)?)?;
    /// }
    /// bus.seal(SealOptions::default().up_to(10), &mut |_| {})?;
    /// bus.seal(SealOptions::default().up_to(15), &mut |_| {})?;
    ///
    /// let reader = bus.reader();
    /// assert_eq!(reader.first_index_since(1777593600.0 + 3600.0 * 12.0)?, 11);
    /// assert_eq!(reader.first_index_since(1777593600.0 + 3600.0 * 18.0)?, 16);
    /// # Ok::<(), zero_bus::Error>(())
    /// ```
    pub fn first_index_since(&self, as_of: f64) -> Result<u64> {
        match self.durable_log()? {
            OpenedLog::Present(log) => {
                log.file.first_since(as_of).map_err(Error::io("read it", &self.log_path()))
            }
            OpenedLog::Missing(_) => Ok(1),
        }
    }
}
