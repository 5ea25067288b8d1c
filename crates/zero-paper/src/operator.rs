//! Operator commands: how an operator controls a running runtime through its bus.
//!
//! Any process appends an `operator.command` event. From that event on the command is *in force*:
//! the runtime applies it before its next decision and confirms it with an `operator.applied` event
//! that names the command. Both events are on the bus, so a restarted runtime finds the same
//! commands in force.
//!
//! A *resume* revokes the commands that were applied before the resume was appended. It does not
//! revoke a command that the runtime had not applied by then: its operator may not have known of
//! it. Of several commands in force, the most restrictive one governs.

use serde::Serialize;
use zero_bus::{Bus, Checksum, Draft, Event, Head, Json, Value, event_id};

use crate::error::Result;
use crate::event_types::{OPERATOR_APPLIED, OPERATOR_COMMAND};
use crate::field::{Field, Problem};
use crate::risk::TradingMode;

/// The `schema_version` of a command's payload.
pub const COMMAND_SCHEMA: &str = "zero.operator.command.v1";

/// The `schema_version` of a confirmation's payload.
pub const APPLIED_SCHEMA: &str = "zero.operator.applied.v1";

/// What an operator can command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Accept only orders that reduce a position, for the time being.
    Pause,
    /// Revoke the commands that were applied before.
    Resume,
    /// Accept only orders that reduce a position, as a lasting policy.
    ReduceOnly,
    /// Close every position at its last known price, then accept only orders that reduce a
    /// position.
    Flatten,
    /// Accept no order and stop. The runtime refuses to start until a resume.
    Kill,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::ReduceOnly, Self::Flatten, Self::Kill];

    /// Returns the action's name in the records and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::ReduceOnly => "reduce-only",
            Self::Flatten => "flatten",
            Self::Kill => "kill",
        }
    }

    /// Returns the action with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Returns the trading mode that the action requires while its command is in force.
    fn trading_mode(self) -> TradingMode {
        match self {
            Self::Resume => TradingMode::Open,
            Self::ReduceOnly | Self::Flatten => TradingMode::ReduceOnly,
            Self::Pause => TradingMode::Paused,
            Self::Kill => TradingMode::Killed,
        }
    }
}

/// Returns the draft of a command's event.
///
/// # Errors
/// [`zero_bus::JsonError`] if actor or reason has no canonical form.
///
/// ```
/// use zero_paper::operator::{Action, command};
/// let draft = command(Action::Pause, "ops", "spread too wide", 1777593600.0)?;
/// assert_eq!(draft.event_type, "operator.command");
/// let payload = draft.payload.as_str();
/// assert!(payload.starts_with(r#"{"action":"pause","actor":"ops","reason":"spread too wide""#));
/// # Ok::<(), zero_bus::JsonError>(())
/// ```
pub fn command(action: Action, actor: &str, reason: &str, as_of: f64) -> Result<Draft, zero_bus::JsonError> {
    #[derive(Serialize)]
    struct Payload<'a> {
        action: Action,
        actor: &'a str,
        reason: &'a str,
        schema_version: &'a str,
    }
    let payload = Payload { action, actor, reason, schema_version: COMMAND_SCHEMA };
    Draft::new(OPERATOR_COMMAND, as_of, &payload)
}

/// A command on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The index of its event.
    pub index: u64,
    /// The action; `None` if this version does not know it.
    pub action: Option<Action>,
    /// Who gave the command.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Whether the runtime has confirmed the command.
    applied: bool,
}

impl Command {
    fn from_event(event: &Event) -> Self {
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

    /// Reads the serialized form.
    fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let text = |key| Ok::<_, Problem>(field.required(key)?.text()?.to_owned());
        Ok(Self {
            index: field.required("index")?.count()?,
            action: field.required("action")?.optional_text().and_then(Action::named),
            actor: text("actor")?,
            reason: text("reason")?,
            applied: field.required("applied")?.bool()?,
        })
    }

    /// Describes the command for a person: action, event, actor and reason.
    pub fn describe(&self) -> String {
        let name = self.action.map_or("an unknown command", Action::name);
        let mut text = format!("{name} in {}", event_id(self.index));
        // Any program with write access to the bus can choose these texts, and they go to a
        // terminal.
        let escape = |text: &str| text.chars().take(200).flat_map(char::escape_debug).collect::<String>();
        if !self.actor.is_empty() {
            text += &format!(" by {}", escape(&self.actor));
        }
        if !self.reason.is_empty() {
            text += &format!(": {}", escape(&self.reason));
        }
        text
    }

    /// Whether the command restricts trading while it is in force.
    fn is_restriction(&self) -> bool {
        self.action.is_some_and(|action| action.trading_mode() != TradingMode::Open)
    }
}

/// The commands in force, as a function of a bus's events.
///
/// Contains every command that the runtime has not applied yet, and of the applied ones the latest
/// of each restricting action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandsInForce {
    /// In the order of their events.
    commands: Vec<Command>,
}

impl CommandsInForce {
    /// Applies the next event of the bus. Every event may be passed; other types have no effect.
    pub fn apply(&mut self, event: &Event) {
        match event.event_type.as_str() {
            OPERATOR_COMMAND => {
                let command = Command::from_event(event);
                if command.action == Some(Action::Resume) {
                    self.commands.retain(|earlier| !earlier.applied);
                }
                self.commands.push(command);
            }
            OPERATOR_APPLIED => {
                let index = confirmed_index(event);
                let confirmed = self.commands.iter_mut().filter(|command| Some(command.index) == index);
                confirmed.for_each(|command| command.applied = true);
                self.drop_superseded();
            }
            _ => {}
        }
    }

    /// Drops applied commands that no longer have an effect: those that restrict nothing, and all
    /// but the latest of each action.
    fn drop_superseded(&mut self) {
        let latest_applied = |action: Action| {
            let same =
                self.commands.iter().filter(|command| command.applied && command.action == Some(action));
            same.map(|command| command.index).next_back()
        };
        let latest = Action::ALL.map(latest_applied);
        self.commands.retain(|command| {
            !command.applied || (command.is_restriction() && latest.contains(&Some(command.index)))
        });
    }

    /// Returns the trading mode: the most restrictive one that a command in force requires.
    pub fn trading_mode(&self) -> TradingMode {
        let modes = self.commands.iter().filter_map(|command| command.action).map(Action::trading_mode);
        modes.max().unwrap_or_default()
    }

    /// Returns the governing command: the most restrictive one, and the latest of equals. `None` if
    /// no command restricts trading.
    pub fn governing(&self) -> Option<&Command> {
        self.commands.iter().filter(|command| command.is_restriction()).max_by_key(|command| {
            (command.action.map(Action::trading_mode).unwrap_or_default(), command.index)
        })
    }

    /// Returns the command that ends the run, if one is in force.
    pub fn killed_by(&self) -> Option<&Command> {
        self.governing().filter(|_| self.trading_mode() == TradingMode::Killed)
    }

    /// Returns the first command that the runtime has not applied yet.
    pub fn first_pending(&self) -> Option<&Command> {
        self.commands.iter().find(|command| !command.applied)
    }

    /// Returns the first command that restricts trading and that the runtime has not applied yet.
    pub fn first_pending_restriction(&self) -> Option<&Command> {
        self.commands.iter().find(|command| !command.applied && command.is_restriction())
    }

    /// Whether the command at this event index is not applied yet.
    pub(crate) fn has_pending(&self, index: Option<u64>) -> bool {
        self.commands.iter().any(|command| !command.applied && Some(command.index) == index)
    }

    /// Returns the recorded effect of applying a command. Other programs read these texts.
    fn effect(&self, command: &Command) -> String {
        match (command.action, self.trading_mode()) {
            (None, _) => "not known, nothing was done".to_owned(),
            (Some(Action::Resume), TradingMode::Open) => "resumed".to_owned(),
            (Some(Action::Resume), _) => match self.governing() {
                Some(governing) => format!("outweighed by {}", event_id(governing.index)),
                None => "resumed".to_owned(),
            },
            (Some(Action::Pause), _) => "paused".to_owned(),
            (Some(Action::ReduceOnly), _) => "reduce only".to_owned(),
            (Some(Action::Flatten), TradingMode::Killed) => "killed, what is open stays open".to_owned(),
            (Some(Action::Flatten), _) => "flat, reduce only".to_owned(),
            (Some(Action::Kill), _) => "killed".to_owned(),
        }
    }

    /// Returns the draft of the event that confirms a command.
    pub(crate) fn confirmation(&self, command: &Command, as_of: f64) -> Result<Draft> {
        #[derive(Serialize)]
        struct Payload {
            action: Option<Action>,
            command_event_id: String,
            command_index: u64,
            effect: String,
            schema_version: &'static str,
        }
        let payload = Payload {
            action: command.action,
            command_event_id: event_id(command.index),
            command_index: command.index,
            effect: self.effect(command),
            schema_version: APPLIED_SCHEMA,
        };
        Ok(Draft::new(OPERATOR_APPLIED, as_of, &payload)?)
    }
}

/// Returns the index of the command that an `operator.applied` event confirms.
fn confirmed_index(event: &Event) -> Option<u64> {
    event.payload.value().get("command_index").and_then(Value::as_u64)
}

/// A reading position on a bus, with the commands in force at that position.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CommandCursor {
    /// The last event that was applied or skipped.
    last: Head,
    pub(crate) commands_in_force: CommandsInForce,
}

impl CommandCursor {
    /// Returns the last event that was applied or skipped.
    pub(crate) fn last(&self) -> Head {
        self.last
    }

    /// Applies the next event of the bus.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.commands_in_force.apply(event);
        self.last = event.head();
    }

    /// Applies all events after the cursor. If no other process has appended, this costs one look
    /// at the size of the log.
    pub(crate) fn catch_up(&mut self, bus: &Bus) -> Result<()> {
        if self.last.index == bus.head().index && bus.is_at_end()? {
            return Ok(());
        }
        for event in bus.reader().events(self.last.index + 1)? {
            self.apply(&event?);
        }
        Ok(())
    }

    /// Moves the cursor over events that the runtime has just published, if they follow it
    /// directly. Otherwise other events came first, and the next [`CommandCursor::catch_up`] reads
    /// all of them.
    pub(crate) fn skip_own_events(&mut self, published: &[Event]) {
        if let [first, .., last] | [first @ last] = published
            && first.index == self.last.index + 1
        {
            self.last = last.head();
        }
    }

    /// Returns the form that a start-up checkpoint keeps.
    pub(crate) fn to_json(&self) -> Result<Json> {
        #[derive(Serialize)]
        struct Form<'a> {
            commands: &'a [Command],
            last: Head,
        }
        Ok(Json::of(&Form { commands: &self.commands_in_force.commands, last: self.last })?)
    }

    /// Reads that form.
    pub(crate) fn read(field: &Field<'_>) -> Result<Self, Problem> {
        let last = field.required("last")?;
        let checksum = last.required("checksum")?;
        let checksum = checksum.optional_text().and_then(Checksum::parse);
        let last = Head { index: last.required("index")?.count()?, checksum };
        let commands = field.required("commands")?;
        let commands = commands.items()?.map(|command| Command::read(&command)).collect::<Result<_, _>>()?;
        Ok(Self { last, commands_in_force: CommandsInForce { commands } })
    }
}
