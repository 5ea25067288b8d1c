//! Checks that the cycle records of a cycle journal follow each other.

use std::path::Path;

use zero_bus::Value;

use crate::line_file::LinePosition;

/// The sequence of cycle numbers in a cycle journal.
#[derive(Default)]
pub(crate) struct CycleSequence {
    /// Journal or bus keep the decisions, so cycle numbers continue from run to run and never
    /// restart at 1.
    persistent: bool,
    previous: u64,
    highest: u64,
    /// Number of cycles that do not follow the one before, and the first of them.
    breaks: u64,
    first_break: Option<Break>,
}

/// A cycle that does not follow the one before it.
struct Break {
    line: u64,
    cycle_id: u64,
    previous: u64,
}

impl CycleSequence {
    /// Returns a sequence that continues after a cycle; 0 for a whole file.
    pub(crate) fn after(cycle_id: u64, persistent: bool) -> Self {
        Self { persistent, previous: cycle_id, highest: cycle_id, ..Self::default() }
    }

    /// Checks the next cycle record.
    pub(crate) fn check(&mut self, position: LinePosition, record: &Value) {
        let cycle_id = record.get("cycle_id").and_then(Value::as_u64).unwrap_or_default();
        let follows = Some(cycle_id) == self.previous.checked_add(1) && cycle_id > 0;
        // A new file may start with any cycle. A run whose decisions are not kept starts with cycle
        // 1.
        let starts = position.line == 1 && cycle_id > 0 || cycle_id == 1 && !self.persistent;
        if !follows && !starts {
            self.breaks += 1;
            let previous = self.previous;
            self.first_break.get_or_insert(Break { line: position.line, cycle_id, previous });
        }
        self.previous = cycle_id;
        self.highest = if starts { cycle_id } else { self.highest.max(cycle_id) };
    }

    /// Returns the highest cycle of the last run in the file.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Returns a warning if cycles are missing, repeated or out of order.
    pub(crate) fn warning(&self, path: &Path) -> Option<String> {
        let Break { line, cycle_id, previous } = self.first_break.as_ref()?;
        let more = match self.breaks {
            1 => String::new(),
            2 => ", and 1 later line is out of sequence".to_owned(),
            breaks => format!(", and {} later lines are out of sequence", breaks - 1),
        };
        let path = path.display();
        Some(format!(
            "{path}: line {line} is cycle {cycle_id} after cycle {previous}{more}; empty the file to rebuild it \
             from the bus"
        ))
    }
}
