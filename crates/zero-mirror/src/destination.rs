//! Opens the destination that an address names. This is the only module that knows every
//! destination.
//!
//! Each destination is a cargo feature. An address whose destination was not compiled in is refused
//! with a message that names the feature.

use crate::error::{Error, Result};
use crate::mirror::Mirror;

/// Opens the destination at an address. Nothing is connected before the first call.
///
/// - `sqlite:PATH` (feature `sqlite`)
/// - `postgres://USER@HOST:PORT/DATABASE` (feature `postgres`)
/// - `nats://HOST[:PORT][,HOST...]/STREAM` (feature `jetstream`)
/// - `http(s)://HOST[:PORT][/PREFIX][?OPTIONS]` (feature `http`)
///
/// # Errors
/// [`Error::Refused`] if the address is invalid, or if its destination was not compiled in.
pub fn open(url: &str) -> Result<Box<dyn Mirror>> {
    open_with(url, Access::ReadWrite)
}

/// Opens the destination at an address for reading. Nothing is created, and nothing is written.
///
/// # Errors
/// As [`open`].
pub fn open_read_only(url: &str) -> Result<Box<dyn Mirror>> {
    open_with(url, Access::ReadOnly)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
}

fn open_with(url: &str, access: Access) -> Result<Box<dyn Mirror>> {
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    match scheme {
        "sqlite" => open_sqlite(rest, access),
        "postgres" | "postgresql" => open_postgres(url, access),
        "nats" | "tls" => open_jetstream(url),
        "http" | "https" => open_http(url),
        // The address may contain a password, so the message does not repeat it.
        _ => Err(Error::refused("the address", "must begin with sqlite:, postgres:, nats:, http: or https:")),
    }
}

#[cfg(feature = "sqlite")]
fn open_sqlite(path: &str, access: Access) -> Result<Box<dyn Mirror>> {
    use crate::sqlite::Sqlite;
    let path = match path.strip_prefix("//") {
        // As in `sqlite:///var/lib/bus.db`.
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            let reason = "two slashes begin the name of a host; write sqlite:PATH, such as sqlite:bus.db";
            return Err(Error::refused("sqlite:", reason));
        }
        None => path,
    };
    if path.is_empty() {
        return Err(Error::refused("sqlite:", "the address names no file; write sqlite:PATH"));
    }
    Ok(Box::new(match access {
        Access::ReadWrite => Sqlite::new(path),
        Access::ReadOnly => Sqlite::read_only(path),
    }))
}

#[cfg(not(feature = "sqlite"))]
fn open_sqlite(_: &str, _: Access) -> Result<Box<dyn Mirror>> {
    Err(not_compiled_in("sqlite:", "sqlite"))
}

#[cfg(feature = "postgres")]
fn open_postgres(url: &str, access: Access) -> Result<Box<dyn Mirror>> {
    use crate::postgres::Postgres;
    Ok(Box::new(match access {
        Access::ReadWrite => Postgres::new(url)?,
        Access::ReadOnly => Postgres::read_only(url)?,
    }))
}

#[cfg(not(feature = "postgres"))]
fn open_postgres(_: &str, _: Access) -> Result<Box<dyn Mirror>> {
    Err(not_compiled_in("postgres:", "postgres"))
}

// JetStream and HTTP create nothing before the first append, so there is no difference for reading.

#[cfg(feature = "jetstream")]
fn open_jetstream(url: &str) -> Result<Box<dyn Mirror>> {
    Ok(Box::new(crate::jetstream::JetStream::new(url)?))
}

#[cfg(not(feature = "jetstream"))]
fn open_jetstream(_: &str) -> Result<Box<dyn Mirror>> {
    Err(not_compiled_in("nats:", "jetstream"))
}

#[cfg(feature = "http")]
fn open_http(url: &str) -> Result<Box<dyn Mirror>> {
    Ok(Box::new(crate::http::Http::open(url)?))
}

#[cfg(not(feature = "http"))]
fn open_http(_: &str) -> Result<Box<dyn Mirror>> {
    Err(not_compiled_in("http:", "http"))
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "jetstream", feature = "http")))]
fn not_compiled_in(scheme: &str, feature: &str) -> Error {
    let problem = format!(
        "this program was built without this destination; build it again with the feature `{feature}` of zero-mirror"
    );
    Error::refused(scheme, problem)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_is_opened_or_its_missing_feature_is_named() {
        for (url, feature, is_compiled_in) in [
            ("sqlite:x.db", "sqlite", cfg!(feature = "sqlite")),
            ("postgres://me@localhost/x", "postgres", cfg!(feature = "postgres")),
            ("nats://localhost/X", "jetstream", cfg!(feature = "jetstream")),
            ("http://localhost", "http", cfg!(feature = "http")),
        ] {
            for opened in [open(url), open_read_only(url)] {
                match opened {
                    Ok(_) => assert!(is_compiled_in, "{url}"),
                    Err(Error::Refused { problem, .. }) => {
                        assert!(!is_compiled_in && problem.contains(&format!("`{feature}`")), "{problem}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    #[test]
    fn an_unknown_scheme_is_refused_without_repeating_the_address() {
        for url in ["ftp://me:secret@x", "secret", "", ":"] {
            let message = open(url).err().unwrap().to_string();
            assert!(message.contains("must begin with sqlite:") && !message.contains("secret"), "{message}");
        }
    }
}
