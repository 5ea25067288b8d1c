//! The scopes of a receiver's tokens.

use std::fmt;
use std::path::Path;

use zero_bus::Checksum;
use zero_http::{Problem, Rights, Token, TokenScope};

use crate::error::Result;

/// The first characters of every generated token, by which secret scanners find leaked ones.
const TOKEN_PREFIX: &str = "zero_mirror_";

/// The buses that a token gives access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every bus.
    Any,
    /// The first bus that it is used for. The bus must be new to the receiver; from then on the
    /// scope is this bus.
    First,
    /// One bus.
    Bus(Checksum),
}

impl Scope {
    /// Reads the written form: `any`, `first` or the id of a bus. Returns `None` if it is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "any" => Some(Self::Any),
            "first" => Some(Self::First),
            _ => Checksum::parse(text).map(Self::Bus),
        }
    }
}

impl TokenScope for Scope {
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::First => f.write_str("first"),
            Self::Bus(bus) => bus.fmt(f),
        }
    }
}

/// Generates a token, adds its digest to a tokens file, and returns the token. The file is created
/// if it does not exist. The token is stored nowhere, so this is the only time it can be read.
///
/// # Errors
/// [`Error::Refused`](crate::Error::Refused) if the file cannot be read or replaced, or if the name
/// is invalid.
pub fn add_token(path: &Path, scope: Scope, rights: Rights, name: &str) -> Result<Token> {
    Ok(zero_http::add_token(path, TOKEN_PREFIX, scope, rights, name)?)
}

pub(super) type Access = zero_http::Access<Scope>;

pub(super) fn scope_of(access: &Access) -> Scope {
    match access {
        Access::Unrestricted => Scope::Any,
        Access::Token(token) => token.scope,
    }
}

/// Refuses a bus that is not in scope. A token for the first bus passes: whether the bus is new,
/// only the store knows.
pub(super) fn check_bus(access: &Access, bus: Checksum) -> Result<(), Problem> {
    match scope_of(access) {
        Scope::Bus(other) if other != bus => Err(other_bus()),
        _ => Ok(()),
    }
}

pub(super) fn check_write(access: &Access) -> Result<(), Problem> {
    match access {
        Access::Token(token) if token.rights == Rights::Read => {
            Err(Problem::forbidden("the token is for reading only"))
        }
        _ => Ok(()),
    }
}

/// The problem of a token that is bound to another bus.
pub(super) fn other_bus() -> Problem {
    Problem::forbidden("the token is for another bus")
}

/// The problem of a token for the first bus, used for a bus that the receiver holds already.
pub(super) fn not_new() -> Problem {
    Problem::forbidden("the token is for a bus that is new to the receiver, which holds this one already")
}
