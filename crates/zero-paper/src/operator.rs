//! What the operator says to a runtime: commands on its bus, from any process, and how they bind it.
//!
//! A command stands from its `operator.command` event on. The runtime sees it before its next decision, obeys, and says so
//! with an `operator.applied` event that names it. Both are on the bus, so what stands is known again after a restart.
//!
//! A *resume* takes back what was obeyed before it was given. A command that crossed it on its way is not taken back: of two
//! that disagree, the safer one counts.

use std::ops::Range;

use serde::Serialize;
use zero_bus::{Bus, Draft, Event, Value, event_id};

use crate::error::Result;
use crate::risk::TradingMode;

/// The type of a command's event.
pub const COMMAND: &str = "operator.command";

/// The type of the event that says that a command was obeyed.
pub const APPLIED: &str = "operator.applied";

/// The `schema_version` of a command's payload.
pub const COMMAND_SCHEMA: &str = "zero.operator.command.v1";

/// The `schema_version` of the payload that says that a command was obeyed.
pub const APPLIED_SCHEMA: &str = "zero.operator.applied.v1";

/// What an operator can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Accept nothing but what reduces.
    Pause,
    /// Go on as before: takes back what was obeyed until now.
    Resume,
    /// Accept nothing but what reduces, as a policy.
    ReduceOnly,
    /// Close every position at the last known price, then reduce only.
    Flatten,
    /// Accept nothing more and end; a start is refused until there is a resume.
    Kill,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::ReduceOnly, Self::Flatten, Self::Kill];

    /// Its name in the records and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::ReduceOnly => "reduce-only",
            Self::Flatten => "flatten",
            Self::Kill => "kill",
        }
    }

    /// The action of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// How it binds, while it stands.
    fn trading_mode(self) -> TradingMode {
        match self {
            Self::Resume => TradingMode::Open,
            Self::ReduceOnly | Self::Flatten => TradingMode::ReduceOnly,
            Self::Pause => TradingMode::Paused,
            Self::Kill => TradingMode::Killed,
        }
    }
}

/// The draft of a command.
///
/// # Errors
/// [`zero_bus::JsonError`] where actor or reason have no canonical form.
///
/// ```
/// use zero_paper::operator::{Action, command};
/// let draft = command(Action::Pause, "ops", "spread too wide", 1777593600.0)?;
/// assert_eq!(draft.event_type, "operator.command");
/// assert!(draft.payload.as_str().starts_with(r#"{"action":"pause","actor":"ops","reason":"spread too wide""#));
/// # Ok::<(), zero_bus::JsonError>(())
/// ```
pub fn command(action: Action, actor: &str, reason: &str, as_of: f64) -> Result<Draft, zero_bus::JsonError> {
    #[derive(Serialize)]
    struct Form<'a> {
        action: Action,
        actor: &'a str,
        reason: &'a str,
        schema_version: &'a str,
    }
    Draft::new(COMMAND, as_of, &Form { action, actor, reason, schema_version: COMMAND_SCHEMA })
}

/// A command that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The index of its event.
    pub index: u64,
    /// `None` where it is none that this runtime knows.
    pub action: Option<Action>,
    /// Who gave it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Whether the runtime has said that it obeyed.
    applied: bool,
}

impl Command {
    fn of(event: &Event) -> Self {
        let payload = event.payload.value();
        let text = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            index: event.index,
            action: Action::named(&text("action")),
            actor: text("actor"),
            reason: text("reason"),
            applied: false,
        }
    }

    /// The command for a person: which event it is, by whom, and why.
    pub fn describe(&self) -> String {
        let name = self.action.map_or("a command that is not known", Action::name);
        let mut text = format!("{name} in {}", event_id(self.index));
        // Whoever may append may have written these, and they go to a terminal.
        let plain = |text: &str| text.chars().take(200).flat_map(char::escape_debug).collect::<String>();
        if !self.actor.is_empty() {
            text += &format!(" by {}", plain(&self.actor));
        }
        if !self.reason.is_empty() {
            text += &format!(": {}", plain(&self.reason));
        }
        text
    }
}

/// The commands that stand, as the events of a bus say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandsInForce {
    commands: Vec<Command>,
}

impl CommandsInForce {
    /// Takes the next event of the bus into account.
    pub fn see(&mut self, event: &Event) {
        match event.event_type.as_str() {
            COMMAND => {
                let command = Command::of(event);
                if command.action == Some(Action::Resume) {
                    self.commands.retain(|earlier| !earlier.applied);
                }
                self.commands.push(command);
            }
            APPLIED => {
                let named = event.payload.value().get("command_index").and_then(Value::as_u64);
                let named = self.commands.iter_mut().filter(|command| Some(command.index) == named);
                named.for_each(|command| command.applied = true);
                // What does not bind is done with, and so is what was said again.
                let last = |action: Option<Action>| {
                    let said =
                        self.commands.iter().filter(|command| command.applied && command.action == action);
                    said.map(|command| command.index).next_back()
                };
                let latest = Action::ALL.map(|action| last(Some(action)));
                let keeps = |command: &Command| command.binds() && latest.contains(&Some(command.index));
                self.commands.retain(|command| !command.applied || keeps(command));
            }
            _ => {}
        }
    }

    /// How the runtime is bound.
    pub fn trading_mode(&self) -> TradingMode {
        let stances = self.commands.iter().filter_map(|command| command.action).map(Action::trading_mode);
        stances.max().unwrap_or_default()
    }

    /// The command that binds most; the latest of several.
    pub fn binding(&self) -> Option<&Command> {
        self.commands.iter().filter(|command| command.binds()).max_by_key(|command| {
            (command.action.map(Action::trading_mode).unwrap_or_default(), command.index)
        })
    }

    /// The first command that the runtime has not obeyed yet.
    pub fn pending(&self) -> Option<&Command> {
        self.commands.iter().find(|command| !command.applied)
    }

    /// The first command that binds and that the runtime has not obeyed yet.
    pub fn unapplied(&self) -> Option<&Command> {
        self.commands.iter().find(|command| !command.applied && command.binds())
    }

    /// Whether a command of this index was given and is not obeyed yet.
    pub(crate) fn has_pending(&self, index: Option<u64>) -> bool {
        self.commands.iter().any(|command| !command.applied && Some(command.index) == index)
    }

    /// What obeying a command comes to, in a few words.
    fn effect(&self, command: &Command) -> String {
        match (command.action, self.trading_mode()) {
            (None, _) => "not known, nothing was done".to_owned(),
            (Some(Action::Resume), TradingMode::Open) => "resumed".to_owned(),
            (Some(Action::Resume), _) => match self.binding() {
                Some(binding) => format!("outweighed by {}", event_id(binding.index)),
                None => "resumed".to_owned(),
            },
            (Some(Action::Pause), _) => "paused".to_owned(),
            (Some(Action::ReduceOnly), _) => "reduce only".to_owned(),
            (Some(Action::Flatten), TradingMode::Killed) => "killed, what is open stays open".to_owned(),
            (Some(Action::Flatten), _) => "flat, reduce only".to_owned(),
            (Some(Action::Kill), _) => "killed".to_owned(),
        }
    }

    /// The draft that says that a command was obeyed.
    pub(crate) fn applied(&self, command: &Command, as_of: f64) -> Result<Draft> {
        #[derive(Serialize)]
        struct Form {
            action: Option<Action>,
            command_event_id: String,
            command_index: u64,
            effect: String,
            schema_version: &'static str,
        }
        let form = Form {
            action: command.action,
            command_event_id: event_id(command.index),
            command_index: command.index,
            effect: self.effect(command),
            schema_version: APPLIED_SCHEMA,
        };
        Ok(Draft::new(APPLIED, as_of, &form)?)
    }
}

impl Command {
    fn binds(&self) -> bool {
        self.action.is_some_and(|action| action.trading_mode() != TradingMode::Open)
    }
}

/// Hears what the operator says on a bus.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CommandCursor {
    /// The index of the last event that was heard.
    heard: u64,
    pub(crate) commands_in_force: CommandsInForce,
}

impl CommandCursor {
    /// Hears the next event.
    pub(crate) fn hear(&mut self, event: &Event) {
        self.commands_in_force.see(event);
        self.heard = event.index;
    }

    /// Hears what was said since. Where nobody else has appended, that is told by one look at the size of the log.
    pub(crate) fn listen(&mut self, bus: &Bus) -> Result<()> {
        if self.heard == bus.head().index && bus.is_at_end()? {
            return Ok(());
        }
        for event in bus.reader().events(self.heard + 1)? {
            self.hear(&event?);
        }
        Ok(())
    }

    /// Passes over events that the runtime has just published itself, if they are the next.
    pub(crate) fn pass(&mut self, published: &Range<u64>) {
        if published.start == self.heard + 1 {
            self.heard = published.end - 1;
        }
    }
}
