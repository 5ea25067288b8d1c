//! A mirror in a PostgreSQL database, in its schema `zero`.
//!
//! A batch is one transaction under an advisory lock of its bus: the cursor is compared, the rows are copied in, the cursor is
//! moved, or nothing of it.

mod address;
mod copy;
mod tls;

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::SinkExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use zero_bus::{Checksum, Event, Head, MAX_LINE_BYTES};

use crate::error::{Error, Result};
use crate::mirror::{Mirror, PAGE_BYTES, Record};
use address::Address;
use tls::Mode;

/// What brings the schema from each version to the next, a missing one to version 1 first.
const MIGRATIONS: [&str; 1] = [include_str!("postgres/schema.sql")];

/// How long a call may take. A batch is some MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The advisory lock under which the tables are made and renewed: "zeromigr".
const MIGRATION_LOCK: i64 = 0x7a65_726f_6d69_6772;

/// Bytes that are sent at a time.
const CHUNK: usize = 128 << 10;

/// A mirror in a PostgreSQL database.
///
/// The address is libpq's, `postgres://USER:PASSWORD@HOST:PORT/DATABASE?SETTINGS`, a socket's directory as host written with
/// `%2F`. A password that is not in it comes from `PGPASSWORD`, or from the file that `PGPASSFILE` names, or from `~/.pgpass`.
///
/// `sslmode` is `disable`, `prefer`, `require`, `verify-ca` or `verify-full`, with libpq's meaning, and `sslrootcert` a file of
/// authorities, or `system`. Without a mode it is `disable` for this machine, and `verify-full` for every other.
pub struct Postgres {
    address: Address,
    read_only: bool,
    runtime: Option<Runtime>,
    client: Option<Client>,
}

/// Why a question was not answered.
enum PostgresError {
    Postgres(tokio_postgres::Error),
    Ours(Error),
    Endless,
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl Postgres {
    /// A mirror in the database at an address. The first call connects.
    ///
    /// # Errors
    /// [`Error::Refused`] if the address is invalid.
    pub fn new(url: &str) -> Result<Self> {
        let address = Address::parse(url).map_err(|problem| Error::refused("postgres:", problem))?;
        Ok(Self { address, read_only: false, runtime: None, client: None })
    }

    /// A mirror that is only read. The database must already hold one.
    ///
    /// # Errors
    /// As [`Postgres::new`].
    pub fn read_only(url: &str) -> Result<Self> {
        Ok(Self { read_only: true, ..Self::new(url)? })
    }

    /// Asks the database something, over the connection that is there or a new one.
    fn ask<T>(
        &mut self,
        action: &'static str,
        question: impl AsyncFnOnce(&mut Client) -> Result<T, PostgresError>,
    ) -> Result<T> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread().enable_io().enable_time().build().map_err(|error| {
                Error::Unavailable {
                    destination: self.name(),
                    action: "begin a runtime",
                    source: Box::new(error),
                }
            })?,
        };
        let there = self.client.take().filter(|client| !client.is_closed());
        let answer = runtime.block_on(async {
            let asking = async {
                let mut client = match there {
                    Some(client) => client,
                    None => self.connect().await?,
                };
                let answer = question(&mut client).await?;
                Ok((client, answer))
            };
            timeout(REQUEST_TIMEOUT, asking).await.unwrap_or(Err(PostgresError::Endless))
        });
        self.runtime = Some(runtime);
        // After trouble the connection is given up: nobody knows what is still on its way.
        let (client, answer) = answer.map_err(|trouble| self.failed(action, trouble))?;
        self.client = Some(client);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Client, PostgresError> {
        let refused = |problem| PostgresError::Ours(self.refused(problem));
        let config = self.address.with_password().map_err(refused)?;
        let mut client = if self.address.tls.mode == Mode::Disable {
            let (client, connection) = config.connect(NoTls).await?;
            // It ends with an error that the client reports too.
            tokio::spawn(async { drop(connection.await) });
            client
        } else {
            let tls = MakeRustlsConnect::new(self.address.tls.client().map_err(refused)?);
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(async { drop(connection.await) });
            client
        };
        self.prepare(&mut client).await?;
        Ok(client)
    }

    /// Sets a connection up, and brings the tables to this program's version.
    async fn prepare(&self, client: &mut Client) -> Result<(), PostgresError> {
        client.batch_execute(SETTINGS).await?;
        let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.try_get(0)?;
        if encoding != "UTF8" {
            let problem =
                format!("has the encoding {encoding}, which cannot hold every text; use a UTF8 database");
            return Err(PostgresError::Ours(self.refused(problem)));
        }
        if self.read_only {
            client.batch_execute("SET default_transaction_read_only = on").await?;
            return match self.version(client).await? {
                0 => Err(PostgresError::Ours(self.refused("holds no mirror: nothing was mirrored to it"))),
                version if version < MIGRATIONS.len() => Err(PostgresError::Ours(
                    self.refused(format!("has tables of version {version}: mirror to it once to renew them")),
                )),
                _ => Ok(()),
            };
        }
        if self.version(client).await? == MIGRATIONS.len() {
            return Ok(());
        }
        // Who gets the lock first makes the tables, and the others find them.
        client.batch_execute(BEGIN).await?;
        lock(client, MIGRATION_LOCK).await?;
        let version = self.version(client).await?;
        if version == 0 {
            let there = "SELECT FROM pg_namespace WHERE nspname = 'zero'";
            if client.query_opt(there, &[]).await?.is_none() {
                client.batch_execute("CREATE SCHEMA zero").await?;
            }
        }
        for migration in &MIGRATIONS[version..] {
            client.batch_execute(migration).await?;
        }
        client.batch_execute("COMMIT").await?;
        Ok(())
    }

    /// The version of the tables; 0 where there are none.
    async fn version(&self, client: &Client) -> Result<usize, PostgresError> {
        let there = "SELECT coalesce(bool_or(relname = 'version'), false), count(*) FROM pg_class \
                     WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'zero')";
        let row = client.query_one(there, &[]).await?;
        let (ours, tables): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
        if !ours && tables == 0 {
            return Ok(0);
        }
        let foreign = "has a schema `zero` that is another program's; name another database for the mirror";
        if !ours {
            return Err(PostgresError::Ours(self.refused(foreign)));
        }
        let version: Option<i32> =
            client.query_one("SELECT max(version)::integer FROM zero.version", &[]).await?.try_get(0)?;
        let known = MIGRATIONS.len();
        match version.map(usize::try_from) {
            Some(Ok(version)) if (1..=known).contains(&version) => Ok(version),
            Some(Ok(version)) if version > known => Err(PostgresError::Ours(self.refused(format!(
                "has tables of version {version}, and this program knows them up to {known}: use a newer one"
            )))),
            _ => Err(PostgresError::Ours(self.refused(foreign))),
        }
    }

    fn refused(&self, problem: impl Into<String>) -> Error {
        Error::Refused { destination: self.name(), problem: problem.into() }
    }

    /// What the caller does next about what was reported.
    fn failed(&self, action: &'static str, trouble: PostgresError) -> Error {
        let error = match trouble {
            PostgresError::Ours(error) => return error,
            PostgresError::Endless => {
                let source = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()).into();
                return Error::Unavailable { destination: self.name(), action, source };
            }
            PostgresError::Postgres(error) => error,
        };
        let text = in_words(&error);
        // By the class of its SQLSTATE: rights, what is not there, what cannot be stored.
        let asks_for_a_person = error.code().is_some_and(|code| {
            let class = code.code().get(..2).unwrap_or_default();
            // A standby takes no writes, but may come to.
            *code != SqlState::READ_ONLY_SQL_TRANSACTION
                && ["0A", "22", "23", "28", "3D", "3F", "42"].contains(&class)
        });
        if asks_for_a_person || is_about_trust(&error) {
            return self.refused(format!("cannot {action}: {text}"));
        }
        Error::Unavailable { destination: self.name(), action, source: text.into() }
    }
}

/// What every connection begins with. Names are looked up nowhere but in the system's schema, so nobody's function is called
/// by mistake; a commit that returned is on the server's disk at least; one who is gone does not keep a lock.
const SETTINGS: &str = "
    SET search_path = pg_catalog, pg_temp;
    SET client_min_messages = warning;
    SET idle_in_transaction_session_timeout = '60s';
    SET tcp_keepalives_idle = 30;
    SET tcp_keepalives_interval = 10;
    SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";

/// What is committed when the lock was got is seen behind it, whatever the server's default is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

async fn lock(client: &Client, key: i64) -> Result<(), PostgresError> {
    client.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&key, Type::INT8)]).await?;
    Ok(())
}

/// An error and its causes, which its own words leave out.
fn in_words(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// Whether the certificate was refused, or there is no TLS: trying again would change nothing.
fn is_about_trust(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inside = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let refused = inside.and_then(|inside| inside.downcast_ref::<rustls::Error>());
        if matches!(refused, Some(rustls::Error::InvalidCertificate(_)))
            || inner.to_string() == "server does not support TLS"
        {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// A bus's number in the database, and its cursor.
async fn cursor(client: &Client, bus: Checksum) -> Result<Option<(i32, Head)>, PostgresError> {
    let select = "SELECT bus, head_index, head_checksum FROM zero.buses WHERE id = $1";
    let rows = client.query_typed(select, &[(&bus.to_string(), Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (number, index, checksum): (i32, i64, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    // A cursor that is none stands nowhere, and fits no log.
    let head = Head { index: index.try_into().unwrap_or(u64::MAX), checksum: Checksum::parse(checksum) };
    Ok(Some((number, head)))
}

/// One batch in one transaction; `false` where the bus stands elsewhere.
async fn put(client: &Client, bus: Checksum, behind: Head, batch: &[Record]) -> Result<bool, PostgresError> {
    let Some(last) = batch.last() else { return Ok(true) };
    client.batch_execute(BEGIN).await?;
    let key = bus.as_bytes().first_chunk().copied().unwrap_or_default();
    lock(client, i64::from_be_bytes(key)).await?;
    let cursor = cursor(client, bus).await?;
    if cursor.map(|(_, head)| head).unwrap_or_default() != behind {
        client.batch_execute("ROLLBACK").await?;
        return Ok(false);
    }
    let (index, checksum) = (last.event.index as i64, last.event.checksum.to_string());
    let head: [(&(dyn ToSql + Sync), Type); 2] = [(&index, Type::INT8), (&checksum, Type::TEXT)];
    let number = match cursor {
        Some((number, _)) => {
            let update = "UPDATE zero.buses SET head_index = $1, head_checksum = $2 WHERE bus = $3";
            let [index, checksum] = head;
            client.query_typed(update, &[index, checksum, (&number, Type::INT4)]).await?;
            number
        }
        None => {
            let insert =
                "INSERT INTO zero.buses (head_index, head_checksum, id) VALUES ($1, $2, $3) RETURNING bus";
            let [index, checksum] = head;
            let rows = client.query_typed(insert, &[index, checksum, (&bus.to_string(), Type::TEXT)]).await?;
            rows.first().map_or(Ok(0), |row| row.try_get(0))?
        }
    };
    let mut sink = pin!(client.copy_in(copy::STATEMENT).await?);
    let mut chunk = BytesMut::with_capacity(CHUNK * 2);
    copy::header(&mut chunk);
    for record in batch {
        copy::row(number, record, &mut chunk);
        if chunk.len() >= CHUNK {
            sink.send(chunk.split().freeze()).await?;
        }
    }
    copy::end(&mut chunk);
    sink.send(chunk.freeze()).await?;
    sink.finish().await?;
    client.batch_execute("COMMIT").await?;
    Ok(true)
}

/// A page of lines. How long they are is looked at before they are sent, and no more is asked for than a page.
async fn page(client: &Client, bus: Checksum, from: i64) -> Result<Vec<(u64, String)>, PostgresError> {
    let select = "
        SELECT event_index, CASE WHEN octet_length(line) <= $3 THEN line ELSE '' END
        FROM (
            SELECT event_index, line, sum(octet_length(line)) OVER (ORDER BY event_index) AS bytes
            FROM (
                SELECT event_index, line FROM zero.events
                WHERE bus = (SELECT bus FROM zero.buses WHERE id = $1) AND event_index >= $2
                ORDER BY event_index LIMIT 8192
            ) AS next
        ) AS next
        WHERE bytes - octet_length(line) < $4
        ORDER BY event_index";
    let (longest, bytes) = (MAX_LINE_BYTES as i32, PAGE_BYTES as i64);
    let bus = bus.to_string();
    let rows = client
        .query_typed(
            select,
            &[(&bus, Type::TEXT), (&from, Type::INT8), (&longest, Type::INT4), (&bytes, Type::INT8)],
        )
        .await?;
    let record = |row: &Row| Ok((row.try_get::<_, i64>(0)? as u64, row.try_get(1)?));
    rows.iter().map(record).collect::<Result<_, tokio_postgres::Error>>().map_err(PostgresError::from)
}

/// The first event of which a row says something else, and in which column. Payloads are compared there, as only the
/// database knows when two are the same.
async fn first_difference(
    client: &Client,
    bus: Checksum,
    events: &[Event],
) -> Result<Option<(u64, &'static str)>, PostgresError> {
    let select = "
        SELECT event_index, event_type, trace_id, as_of, checksum,
               CASE WHEN kept.payload IS NULL OR wanted.payload IS NULL
                    THEN kept.payload IS NULL AND wanted.payload IS NULL
                    ELSE kept.payload = wanted.payload::jsonb END
        FROM unnest($2::bigint[], $3::text[]) AS wanted (index, payload)
        JOIN zero.events AS kept ON kept.event_index = wanted.index
        WHERE bus = (SELECT bus FROM zero.buses WHERE id = $1)
        ORDER BY event_index";
    let indexes: Vec<i64> = events.iter().map(|event| event.index as i64).collect();
    let payloads: Vec<Option<&str>> = events
        .iter()
        .map(|event| Some(event.payload.as_str()).filter(|text| copy::fits_jsonb(text)))
        .collect();
    let bus = bus.to_string();
    let rows = client
        .query_typed(
            select,
            &[(&bus, Type::TEXT), (&indexes, Type::INT8_ARRAY), (&payloads, Type::TEXT_ARRAY)],
        )
        .await?;
    for (n, event) in events.iter().enumerate() {
        let Some(row) = rows.get(n) else { return Ok(Some((event.index, "event_index"))) };
        if let Some(column) = differs(row, event)? {
            return Ok(Some((event.index, column)));
        }
    }
    Ok(None)
}

fn differs(row: &Row, event: &Event) -> Result<Option<&'static str>, tokio_postgres::Error> {
    Ok(if row.try_get::<_, i64>(0)? != event.index as i64 {
        Some("event_index")
    } else if row.try_get::<_, &str>(1)? != event.event_type {
        Some("event_type")
    } else if row.try_get::<_, Option<&str>>(2)? != copy::kept_trace(event.trace_id.as_deref()) {
        Some("trace_id")
    } else if row.try_get::<_, f64>(3)?.total_cmp(&event.as_of).is_ne() {
        Some("as_of")
    } else if row.try_get::<_, &str>(4)? != event.checksum.to_string() {
        Some("checksum")
    } else if !row.try_get::<_, bool>(5)? {
        Some("payload")
    } else {
        None
    })
}

impl Mirror for Postgres {
    fn name(&self) -> String {
        self.address.name.clone()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        let ids: Vec<String> = self.ask("read it", async |client| {
            let rows = client.query_typed("SELECT id FROM zero.buses ORDER BY id COLLATE \"C\"", &[]).await?;
            let ids = rows.iter().map(|row| row.try_get(0));
            ids.collect::<Result<_, tokio_postgres::Error>>().map_err(PostgresError::from)
        })?;
        let no_bus = |id: &str| self.refused(format!("names a bus `{}`, which is none", id.escape_debug()));
        ids.iter().map(|id| Checksum::parse(id).ok_or_else(|| no_bus(id))).collect()
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        let cursor = self.ask("read it", async |client| cursor(client, bus).await)?;
        Ok(cursor.map(|(_, head)| head).unwrap_or_default())
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        match self.ask("write to it", async |client| put(client, bus, after, batch).await)? {
            true => Ok(()),
            false => Err(Error::CursorMoved { destination: self.name() }),
        }
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
        self.ask("read it", async |client| page(client, bus, from).await)
    }

    fn first_mismatch(&mut self, bus: Checksum, events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        if events.is_empty() {
            return Ok(None);
        }
        self.ask("read it", async |client| first_difference(client, bus, events).await)
    }
}
