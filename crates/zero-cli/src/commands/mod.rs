//! The subcommands: each module has the arguments of one command, and `run`.

pub(crate) mod append;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod canonical;
pub(crate) mod command;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod ingest;
pub(crate) mod man;
pub(crate) mod mirror;
pub(crate) mod mirror_verify;
pub(crate) mod public;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod seal;
pub(crate) mod show;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod unseal;
pub(crate) mod verify;
