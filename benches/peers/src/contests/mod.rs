//! The contests in the order in which they run.

use anyhow::Result;

use crate::log::Logs;
use crate::report::Report;
use crate::setup::Setup;

mod append;
mod audit;
mod cost;
mod cycle;
mod follow;
pub mod growth;
mod market;
mod open;
mod tail;
mod verify;

/// A comparison of zero-bus with another program.
pub struct Contest {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Setup, &mut Logs, &mut Report) -> Result<()>,
}

pub const CONTESTS: &[Contest] = &[
    Contest { name: "bare-1", about: "1 producer, against write and fdatasync", run: append::bare_1 },
    Contest { name: "sqlite-1", about: "1 producer, against SQLite", run: append::sqlite_1 },
    Contest { name: "bare-16", about: "16 producers, against bare batches of 16", run: append::bare_16 },
    Contest { name: "sqlite-16", about: "16 producers, against SQLite", run: append::sqlite_16 },
    Contest { name: "postgres-16", about: "16 producers, against PostgreSQL", run: append::postgres_16 },
    Contest { name: "okaywal-16", about: "16 producers, against okaywal", run: append::okaywal_16 },
    Contest { name: "bound", about: "bare writes and syncs, against SQLite", run: append::bound },
    Contest { name: "redb", about: "1 and 16 producers, against redb", run: append::redb },
    Contest { name: "fjall", about: "1 and 16 producers, against fjall", run: append::fjall },
    Contest { name: "nats", about: "1 and 16 producers, against NATS JetStream", run: append::nats },
    Contest { name: "bare-64", about: "64 producers, against bare batches of 64", run: append::bare_64 },
    Contest {
        name: "cpu",
        about: "one append without the sync, against canonical form and SHA-256",
        run: cost::run,
    },
    Contest { name: "verify", about: "verify a long log, against openssl and sha256sum", run: verify::run },
    Contest { name: "open", about: "open and append, a long log against a short one", run: open::open },
    Contest { name: "show", about: "read one event in the middle of a long log", run: open::read },
    Contest { name: "audit", about: "audit a long log to a file, against cp", run: audit::run },
    Contest { name: "tail", about: "list the events of a rare type, against grep", run: tail::run },
    Contest { name: "cycle", about: "cycles of the runtime, against their bare syncs", run: cycle::run },
    Contest { name: "market", about: "cycles on market data, with and without records", run: market::run },
    Contest { name: "follow", about: "delay from durable to delivered in another process", run: follow::run },
    Contest { name: "boot", about: "open a long log, against SQLite", run: open::boot },
    Contest {
        name: "growth",
        about: "append, open, read and verify, by length of the log",
        run: growth::run,
    },
];
