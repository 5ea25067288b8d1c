//! Opens the destination that an address names. The only module that knows every destination.

use crate::error::{Error, Result};
use crate::http::Http;
use crate::jetstream::JetStream;
use crate::mirror::Mirror;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// Opens the destination at an address. Nothing is connected before the first call.
///
/// - `sqlite:PATH`
/// - `postgres://USER@HOST:PORT/DATABASE`, see [`Postgres`]
/// - `nats://HOST[:PORT][,HOST...]/STREAM`, see [`JetStream::new`]
/// - `http(s)://HOST[:PORT][/PREFIX][?OPTIONS]`, see [`Http::open`]
///
/// # Errors
/// [`Error::Refused`] if the address is invalid.
pub fn open(url: &str) -> Result<Box<dyn Mirror>> {
    open_address(url, Access::ReadWrite)
}

/// Opens the destination at an address for reading. Nothing is created, and nothing is written.
///
/// # Errors
/// As [`open`].
pub fn open_read_only(url: &str) -> Result<Box<dyn Mirror>> {
    open_address(url, Access::ReadOnly)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
}

fn open_address(url: &str, access: Access) -> Result<Box<dyn Mirror>> {
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    let read_only = access == Access::ReadOnly;
    match scheme {
        "sqlite" => match rest.strip_prefix("//").unwrap_or(rest) {
            "" => Err(Error::refused("sqlite:", "the address names no file; write sqlite:PATH")),
            path if read_only => Ok(Box::new(Sqlite::read_only(path))),
            path => Ok(Box::new(Sqlite::new(path))),
        },
        "postgres" | "postgresql" if read_only => Ok(Box::new(Postgres::read_only(url)?)),
        "postgres" | "postgresql" => Ok(Box::new(Postgres::new(url)?)),
        "nats" | "tls" => Ok(Box::new(JetStream::new(url)?)),
        "http" | "https" => Ok(Box::new(Http::open(url)?)),
        // The address may contain a password, so it is not repeated.
        _ => Err(Error::refused("the address", "must begin with sqlite:, postgres:, nats:, http: or https:")),
    }
}
