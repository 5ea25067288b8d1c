//! The commands `prove` and `check` as functions, for programs that contain this one.

use std::path::{Path, PathBuf};

use zero_bus::Json;

use crate::commands::{check, prove};
use crate::event_ref::EventRef;

/// What is to be proven, and where the proof goes.
#[derive(Clone, Debug)]
pub struct Request {
    /// The bus directory.
    pub bus: PathBuf,
    /// Which events.
    pub events: Events,
    /// The file with the disclosure secret of the bus.
    pub secret: PathBuf,
    /// The fields to disclose, as `--reveal` takes them.
    pub reveal: Vec<String>,
    /// A file with a signed checkpoint; by default the newest one that is stored.
    pub checkpoint: Option<PathBuf>,
    /// The policy of those who will check the proof, if it must accept the checkpoint.
    pub policy: Option<PathBuf>,
    /// The state next to which checkpoints are stored; by default that of the bus.
    pub state: Option<PathBuf>,
    /// The file to write.
    pub output: PathBuf,
}

/// The events that a proof is about.
#[derive(Clone, Copy, Debug)]
pub enum Events {
    /// The event with this index.
    One(u64),
    /// All events from one index to another: a track record. By default from the first of the log
    /// to the last of the checkpoint.
    Range(Option<u64>, Option<u64>),
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Problem {
    /// The log cannot be read.
    Bus(zero_bus::Error),
    /// A file, the checkpoint or the request is at fault.
    Other(String),
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        error.downcast().map_or_else(|other| Self::Other(format!("{other:#}")), Self::Bus)
    }
}

/// Writes a proof. Returns what `zero-bus prove --json` prints.
///
/// # Errors
/// [`Problem`]. Then no file was written.
pub fn prove(request: Request) -> Result<Json, Problem> {
    let index = |index: u64| EventRef::Index(index);
    let (event, from, to) = match request.events {
        Events::One(event) => (Some(index(event)), None, None),
        Events::Range(first, last) => (None, first.map(index), last.map(index)),
    };
    let arguments = prove::Arguments {
        dir: request.bus,
        event,
        all: event.is_none(),
        from,
        to,
        secret: request.secret,
        reveal: request.reveal,
        checkpoint: request.checkpoint,
        policy: request.policy,
        state: request.state,
        output: request.output,
        json: true,
    };
    let document = prove::write(&arguments)?.map_err(Problem::Other)?;
    Ok(Json::parse(&document).map_err(anyhow::Error::from)?)
}

/// Checks a proof or a track record against a policy. Returns what `zero-bus check --json` prints:
/// `ok` is false if nothing is proven.
///
/// # Errors
/// [`Problem::Other`] if a file cannot be read, or is no policy.
pub fn check(file: &Path, policy: &Path) -> Result<Json, Problem> {
    Ok(check::document(file, policy)?)
}
