//! A mirror in a PostgreSQL database, in its schema `zero`.
//!
//! A batch is one transaction under the advisory lock of its bus: it compares the cursor, copies
//! the rows and moves the cursor, or changes nothing.
//!
//! Between the program and the server there may be a pooler that gives each transaction another
//! connection, such as PgBouncer with `pool_mode=transaction`. Every request is therefore one
//! transaction, and nothing outlives it: settings are local to it, and the only prepared statement
//! with a name, that of the `COPY`, is closed before the commit.

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

/// Each script migrates the schema from one version to the next, the first from no schema to
/// version 1.
const MIGRATIONS: [&str; 3] = [
    include_str!("postgres/schema.sql"),
    include_str!("postgres/functions-2.sql"),
    include_str!("postgres/views-3.sql"),
];

/// Time limit of one call, including the connection. A batch is a few MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Key of the advisory lock that serializes migrations: "zeromigr".
const MIGRATION_LOCK: i64 = 0x7a65_726f_6d69_6772;

/// Size of the pieces in which a `COPY` is sent.
const COPY_BUFFER_BYTES: usize = 128 << 10;

/// A mirror in a PostgreSQL database.
///
/// The address has libpq's form, `postgres://USER:PASSWORD@HOST:PORT/DATABASE?SETTINGS`. The host
/// of a socket is its directory, with `/` as `%2F`. A password that is not in the address comes
/// from `PGPASSWORD`, or from the file that `PGPASSFILE` names, or from `~/.pgpass`.
///
/// `sslmode` is `disable`, `prefer`, `require`, `verify-ca` or `verify-full`, as in libpq, and
/// `sslrootcert` a file of certificate authorities, or `system`. The default mode is `disable` for
/// this machine, and `verify-full` for any other.
pub struct Postgres {
    address: Address,
    read_only: bool,
    runtime: Option<Runtime>,
    client: Option<Client>,
}

/// Why a request failed.
enum RequestError {
    /// The server or the connection.
    Postgres(tokio_postgres::Error),
    /// A check of this module.
    Mirror(Error),
    /// No response within [`REQUEST_TIMEOUT`].
    TimedOut,
    /// A query that returns a row returned none.
    NoRow,
}

impl From<tokio_postgres::Error> for RequestError {
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

    /// Runs a request in a transaction, over the open connection or over a new one.
    fn request<T>(
        &mut self,
        action: &'static str,
        access: Access,
        request: impl AsyncFnOnce(&Client) -> Result<T, RequestError>,
    ) -> Result<T> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()
                .map_err(|error| Error::unavailable(self.name(), "start a runtime", error))?,
        };
        let open_client = self.client.take().filter(|client| !client.is_closed());
        let result = runtime.block_on(async {
            let running = async {
                let client = match open_client {
                    Some(client) => client,
                    None => self.connect().await?,
                };
                let response = transaction(&client, access, request).await?;
                Ok((client, response))
            };
            timeout(REQUEST_TIMEOUT, running).await.unwrap_or(Err(RequestError::TimedOut))
        });
        self.runtime = Some(runtime);
        // After an error the connection is dropped, which rolls the transaction back: a statement
        // may still be running on it.
        let (client, response) = result.map_err(|error| self.classify(action, error))?;
        self.client = Some(client);
        Ok(response)
    }

    async fn connect(&self) -> Result<Client, RequestError> {
        let refused = |problem| RequestError::Mirror(self.refused(problem));
        let config = self.address.with_password().map_err(refused)?;
        let client = if self.address.tls.mode == Mode::Disable {
            let (client, connection) = config.connect(NoTls).await?;
            // The client reports the error that ends the connection.
            tokio::spawn(async { drop(connection.await) });
            client
        } else {
            let tls = MakeRustlsConnect::new(self.address.tls.client_config().map_err(refused)?);
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(async { drop(connection.await) });
            client
        };
        self.prepare(&client).await?;
        Ok(client)
    }

    /// Checks the database and migrates the schema to this program's version.
    async fn prepare(&self, client: &Client) -> Result<(), RequestError> {
        let version = transaction(client, Access::ReadOnly, async |client| {
            let select = "SELECT current_setting('server_encoding')";
            let encoding: String = query_one(client, select).await?.try_get(0)?;
            if encoding != "UTF8" {
                let problem = format!(
                    "has the encoding {encoding}, which cannot represent every text; use a UTF8 database"
                );
                return Err(RequestError::Mirror(self.refused(problem)));
            }
            self.schema_version(client).await
        })
        .await?;
        match version {
            0 if self.read_only => {
                Err(RequestError::Mirror(self.refused("holds no mirror: nothing was mirrored to it")))
            }
            // The tables are those of version 1; later versions change the views only.
            _ if self.read_only || version == MIGRATIONS.len() => Ok(()),
            _ => transaction(client, Access::ReadWrite, async |client| self.migrate(client).await).await,
        }
    }

    async fn migrate(&self, client: &Client) -> Result<(), RequestError> {
        // Racing mirrors serialize on the lock: the first creates the tables, the others find the
        // current version.
        lock(client, MIGRATION_LOCK).await?;
        let version = self.schema_version(client).await?;
        if version == 0 {
            let select = "SELECT count(*) FROM pg_namespace WHERE nspname = 'zero'";
            if query_one(client, select).await?.try_get::<_, i64>(0)? == 0 {
                client.batch_execute("CREATE SCHEMA zero").await?;
            }
        }
        for migration in &MIGRATIONS[version..] {
            client.batch_execute(migration).await.map_err(|error| match error.code() {
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) if version > 0 => {
                    RequestError::Mirror(self.refused(format!(
                        "has views of version {version}, and this role may not replace them; run the mirror once as \
                         the owner of the schema `zero`"
                    )))
                }
                _ => error.into(),
            })?;
        }
        Ok(())
    }

    /// The version of the schema; 0 if there are no tables.
    async fn schema_version(&self, client: &Client) -> Result<usize, RequestError> {
        let select = "SELECT coalesce(bool_or(relname = 'version'), false), count(*) FROM pg_class \
                      WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'zero')";
        let row = query_one(client, select).await?;
        let (has_version, tables): (bool, i64) = (row.try_get(0)?, row.try_get(1)?);
        if !has_version && tables == 0 {
            return Ok(0);
        }
        let foreign = "has a schema `zero` of another program; name another database for the mirror";
        if !has_version {
            return Err(RequestError::Mirror(self.refused(foreign)));
        }
        let version: Option<i32> =
            query_one(client, "SELECT max(version)::integer FROM zero.version").await?.try_get(0)?;
        let newest = MIGRATIONS.len();
        match version.map(usize::try_from) {
            Some(Ok(version)) if (1..=newest).contains(&version) => Ok(version),
            Some(Ok(version)) if version > newest => Err(RequestError::Mirror(self.refused(format!(
                "has tables of version {version}, but this program supports versions up to {newest}: use a newer one"
            )))),
            _ => Err(RequestError::Mirror(self.refused(foreign))),
        }
    }

    fn refused(&self, problem: impl Into<String>) -> Error {
        Error::refused(self.name(), problem)
    }

    /// Classifies an error by what the caller does next.
    fn classify(&self, action: &'static str, error: RequestError) -> Error {
        let error = match error {
            RequestError::Mirror(error) => return error,
            RequestError::TimedOut => {
                let source = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
                return Error::unavailable(self.name(), action, source);
            }
            RequestError::NoRow => return Error::unavailable(self.name(), action, "the answer has no row"),
            RequestError::Postgres(error) => error,
        };
        let text = with_causes(&error);
        // These classes of SQLSTATE concern permissions, missing objects and values that cannot be
        // stored.
        let needs_correction = error.code().is_some_and(|code| {
            let class = code.code().get(..2).unwrap_or_default();
            // A standby refuses writes, but it may be promoted. Behind a pooler, another program
            // may have left a statement of the same name; the next try uses another name.
            ![SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::DUPLICATE_PSTATEMENT].contains(code)
                && ["0A", "22", "23", "28", "3D", "3F", "42"].contains(&class)
        });
        if needs_correction || is_tls_refusal(&error) {
            return self.refused(format!("cannot {action}: {text}"));
        }
        Error::unavailable(self.name(), action, text)
    }
}

/// Whether a transaction writes.
#[derive(Clone, Copy)]
enum Access {
    ReadOnly,
    ReadWrite,
}

/// Settings of every transaction. The search path contains only the system's schema, so no function
/// of another user can be called by accident. A commit is on the server's disk when it returns. A
/// transaction whose client is gone ends and releases its locks. The time limits of the role do not
/// apply; this program's own is [`REQUEST_TIMEOUT`]. Only some server versions have
/// `transaction_timeout`.
const TRANSACTION_SETTINGS: &str = "
    SET LOCAL statement_timeout = '60s';
    SET LOCAL search_path = pg_catalog, pg_temp;
    SET LOCAL lock_timeout = 0;
    SET LOCAL client_min_messages = warning;
    SET LOCAL idle_in_transaction_session_timeout = '60s';
    SET LOCAL tcp_keepalives_idle = 30;
    SET LOCAL tcp_keepalives_interval = 10;
    SET LOCAL tcp_keepalives_count = 3;
    SELECT set_config(name, CASE name WHEN 'synchronous_commit' THEN 'on' ELSE '0' END, true) FROM pg_settings
    WHERE name = 'transaction_timeout'
       OR name = 'synchronous_commit' AND setting IN ('off', 'local', 'remote_write')";

/// Runs a request in a transaction. Its level is READ COMMITTED, so that a statement after a lock
/// sees everything that was committed before the lock was granted; the server's default could be
/// another.
async fn transaction<T>(
    client: &Client,
    access: Access,
    request: impl AsyncFnOnce(&Client) -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    let mode = match access {
        Access::ReadOnly => "READ ONLY",
        Access::ReadWrite => "READ WRITE",
    };
    let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED {mode}; {TRANSACTION_SETTINGS}");
    client.batch_execute(&begin).await?;
    let response = request(client).await?;
    client.batch_execute("COMMIT").await?;
    Ok(response)
}

/// Runs a query that returns one row, without a prepared statement.
async fn query_one(client: &Client, query: &str) -> Result<Row, RequestError> {
    let mut rows = client.query_typed(query, &[]).await?;
    rows.pop().ok_or(RequestError::NoRow)
}

/// Takes an advisory lock, which the end of the transaction releases.
async fn lock(client: &Client, key: i64) -> Result<(), RequestError> {
    client.query_typed("SELECT pg_advisory_xact_lock($1)", &[(&key, Type::INT8)]).await?;
    Ok(())
}

/// The text of an error with its causes.
fn with_causes(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Whether the server's certificate was refused, or the server has no TLS. Another try would fail
/// the same way.
fn is_tls_refusal(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = cause {
        let io_error = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls_error = io_error.and_then(|error| error.downcast_ref::<rustls::Error>());
        if matches!(tls_error, Some(rustls::Error::InvalidCertificate(_)))
            || inner.to_string() == "server does not support TLS"
        {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The number that stands for a bus in this database, and its cursor.
async fn cursor(client: &Client, bus: Checksum) -> Result<Option<(i32, Head)>, RequestError> {
    let select = "SELECT bus, head_index, head_checksum FROM zero.buses WHERE id = $1";
    let rows = client.query_typed(select, &[(&bus.to_string(), Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (number, index, checksum): (i32, i64, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    // An invalid cursor becomes one that matches no log.
    let head = Head { index: index.try_into().unwrap_or(u64::MAX), checksum: Checksum::parse(checksum) };
    Ok(Some((number, head)))
}

/// Appends a batch. Returns `false`, and has written nothing, if the cursor is not `after`.
async fn append_batch(
    client: &Client,
    bus: Checksum,
    after: Head,
    batch: &[Record],
) -> Result<bool, RequestError> {
    let Some(last) = batch.last() else { return Ok(true) };
    // The lock of the bus is held from before the cursor is read until the commit, so no other
    // mirror can move it.
    let key = bus.as_bytes().first_chunk().copied().unwrap_or_default();
    lock(client, i64::from_be_bytes(key)).await?;
    let cursor = cursor(client, bus).await?;
    if cursor.map(|(_, head)| head).unwrap_or_default() != after {
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
    // The statement is prepared under a name, and closed on the same connection before the commit.
    let mut sink = pin!(client.copy_in(copy::STATEMENT).await?);
    let mut buffer = BytesMut::with_capacity(COPY_BUFFER_BYTES * 2);
    copy::header(&mut buffer);
    for record in batch {
        copy::row(number, record, &mut buffer);
        if buffer.len() >= COPY_BUFFER_BYTES {
            sink.send(buffer.split().freeze()).await?;
        }
    }
    copy::trailer(&mut buffer);
    sink.send(buffer.freeze()).await?;
    sink.finish().await?;
    Ok(true)
}

/// Reads a page of lines. The server computes the lengths and sends no more than a page; a line
/// that is longer than any valid one is sent as an empty string, which the caller's verification
/// refuses.
async fn read_page(client: &Client, bus: Checksum, from: i64) -> Result<Vec<(u64, String)>, RequestError> {
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
    let (max_line_bytes, page_bytes) = (MAX_LINE_BYTES as i32, PAGE_BYTES as i64);
    let bus = bus.to_string();
    let rows = client
        .query_typed(
            select,
            &[
                (&bus, Type::TEXT),
                (&from, Type::INT8),
                (&max_line_bytes, Type::INT4),
                (&page_bytes, Type::INT8),
            ],
        )
        .await?;
    let line_of = |row: &Row| Ok((row.try_get::<_, i64>(0)? as u64, row.try_get(1)?));
    rows.iter().map(line_of).collect::<Result<_, tokio_postgres::Error>>().map_err(RequestError::from)
}

/// The first event whose row does not match, and the column. The server compares the payloads,
/// since only it knows when two `jsonb` values are equal.
async fn find_mismatch(
    client: &Client,
    bus: Checksum,
    events: &[Event],
) -> Result<Option<(u64, &'static str)>, RequestError> {
    let select = "
        SELECT event_index, event_type, trace_id, as_of, checksum,
               CASE WHEN stored.payload IS NULL OR expected.payload IS NULL
                    THEN stored.payload IS NULL AND expected.payload IS NULL
                    ELSE stored.payload = expected.payload::jsonb END
        FROM unnest($2::bigint[], $3::text[]) AS expected (index, payload)
        JOIN zero.events AS stored ON stored.event_index = expected.index
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
        if let Some(column) = mismatched_column(row, event)? {
            return Ok(Some((event.index, column)));
        }
    }
    Ok(None)
}

/// The first column of a row that does not match the event.
fn mismatched_column(row: &Row, event: &Event) -> Result<Option<&'static str>, tokio_postgres::Error> {
    Ok(if row.try_get::<_, i64>(0)? != event.index as i64 {
        Some("event_index")
    } else if row.try_get::<_, &str>(1)? != event.event_type {
        Some("event_type")
    } else if row.try_get::<_, Option<&str>>(2)? != copy::storable_trace(event.trace_id.as_deref()) {
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
        let ids: Vec<String> = self.request("read it", Access::ReadOnly, async |client| {
            let rows = client.query_typed("SELECT id FROM zero.buses ORDER BY id COLLATE \"C\"", &[]).await?;
            let ids = rows.iter().map(|row| row.try_get(0));
            ids.collect::<Result<_, tokio_postgres::Error>>().map_err(RequestError::from)
        })?;
        let invalid = |id: &str| self.refused(format!("holds an invalid bus id: `{}`", id.escape_debug()));
        ids.iter().map(|id| Checksum::parse(id).ok_or_else(|| invalid(id))).collect()
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        let cursor = self.request("read it", Access::ReadOnly, async |client| cursor(client, bus).await)?;
        Ok(cursor.map(|(_, head)| head).unwrap_or_default())
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        let is_appended = self.request("write to it", Access::ReadWrite, async |client| {
            append_batch(client, bus, after, batch).await
        })?;
        match is_appended {
            true => Ok(()),
            false => Err(Error::CursorMoved { destination: self.name() }),
        }
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
        self.request("read it", Access::ReadOnly, async |client| read_page(client, bus, from).await)
    }

    fn first_mismatch(&mut self, bus: Checksum, events: &[Event]) -> Result<Option<(u64, &'static str)>> {
        if events.is_empty() {
            return Ok(None);
        }
        self.request("read it", Access::ReadOnly, async |client| find_mismatch(client, bus, events).await)
    }
}
