//! The operator's commands as the replay finds them on the bus.

use zero_bus::{Event, Value};

use crate::event_types::{OPERATOR_APPLIED, OPERATOR_COMMAND};
use crate::operator::{Action, CommandsInForce};

/// Largest number of possible sets of commands.
const MAX_POSSIBLE_SETS: usize = 32;

/// The sets of commands that the runtime may have read at one point of the log.
///
/// A command that is appended while a cycle runs precedes that cycle's events in the log, although
/// the runtime has not read it yet. Every command therefore adds a set that includes it. The
/// runtime's confirmation that it applied a command removes the sets without that command.
pub(super) struct PossibleCommands {
    /// Never empty. Each set includes the commands of the sets before it; the last one includes all
    /// commands.
    sets: Vec<CommandsInForce>,
}

impl Default for PossibleCommands {
    fn default() -> Self {
        Self { sets: vec![CommandsInForce::default()] }
    }
}

impl PossibleCommands {
    pub(super) fn apply(&mut self, event: &Event) {
        match event.event_type.as_str() {
            OPERATOR_COMMAND => {
                if self.sets.len() < MAX_POSSIBLE_SETS {
                    self.sets.push(self.sets.last().cloned().unwrap_or_default());
                }
                // At the maximum, the last set gains the command without a copy. After that many
                // commands, the runtime has read them, or it is not running.
                self.sets.last_mut().into_iter().for_each(|all| all.apply(event));
            }
            OPERATOR_APPLIED => {
                let index = event.payload.value().get("command_index").and_then(Value::as_u64);
                if let Some(first) = self.sets.iter().position(|commands| commands.has_pending(index)) {
                    self.sets.drain(..first);
                }
                self.sets.iter_mut().for_each(|commands| commands.apply(event));
            }
            _ => {}
        }
    }

    /// Returns the possible commands, most likely first: the runtime has usually read all of them.
    pub(super) fn sets(&self) -> impl Iterator<Item = &CommandsInForce> {
        self.sets.iter().rev()
    }
}

/// Whether an event says that the runtime has applied a resume.
pub(super) fn is_applied_resume(event: &Event) -> bool {
    event.event_type == OPERATOR_APPLIED
        && event.payload.value().get("action").and_then(Value::as_str) == Some(Action::Resume.name())
}
