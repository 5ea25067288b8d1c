//! The mirror in a PostgreSQL database, against a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::contract::logs::Log;
use crate::contract::process::{self, Death};
use crate::contract::{Server, Tampering, TestBed, bus_of, holds_all, mirror};
use crate::database::{PASSWORD, PgBouncer, Postgres, left_out, sql};
use zero_bus::Checksum;
use zero_mirror::Error;

impl TestBed for Postgres {
    const NAME: &'static str = "PostgreSQL";

    fn start() -> Self {
        Postgres::start()
    }

    fn destination(&mut self) -> String {
        self.database()
    }

    fn server(&mut self) -> Option<&mut dyn Server> {
        Some(self)
    }

    fn tamper(&mut self, url: &str, _: Checksum, tampering: &Tampering) -> bool {
        match tampering {
            Tampering::Line(index, line) => {
                let line = line.replace('\'', "''");
                sql(url, &format!("UPDATE zero.events SET line = '{line}' WHERE event_index = {index}"));
            }
            Tampering::Delete(index) => {
                sql(url, &format!("DELETE FROM zero.events WHERE event_index = {index}"));
            }
            Tampering::Swap(first, second) => {
                for (from, to) in [(*first as i64, -1), (*second as i64, *first as i64), (-1, *second as i64)]
                {
                    sql(
                        url,
                        &format!("UPDATE zero.events SET event_index = {to} WHERE event_index = {from}"),
                    );
                }
            }
        }
        true
    }
}

impl Server for Postgres {
    fn kill(&mut self) {
        Postgres::kill(self);
    }

    fn start(&mut self) {
        self.run();
    }
}

#[test]
fn postgres_passes_the_contract() {
    if !left_out() {
        crate::contract::run_all::<Postgres>();
    }
}

fn refusal(url: &str) -> String {
    match mirror(Log::of(3).path(), url, 5) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unsuitable_database_is_refused_with_the_reason() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    assert!(refusal(&server.url("none")).ends_with("database \"none\" does not exist (3D000)"));
    let wrong = server.url("postgres").replace("%2B", "-");
    let message = refusal(&wrong);
    assert!(message.ends_with("password authentication failed for user \"zero\" (28P01)"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");

    let foreign = server.database();
    sql(&foreign, "CREATE SCHEMA zero; CREATE TABLE zero.notes (text text)");
    assert!(
        refusal(&foreign)
            .ends_with("has a schema `zero` of another program; name another database for the mirror")
    );

    let newer = server.database();
    mirror(Log::of(1).path(), &newer, 5).unwrap();
    sql(&newer, "UPDATE zero.version SET version = 7");
    assert!(
        refusal(&newer).ends_with(
            "has tables of version 7, but this program supports versions up to 3: use a newer one"
        )
    );

    sql(&server.url("postgres"), "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0");
    assert!(
        refusal(&server.url("latin"))
            .ends_with("has the encoding LATIN1, which cannot represent every text; use a UTF8 database")
    );

    // A role that may not create the tables is refused; once they exist, it may fill them.
    let shared = server.database();
    sql(&shared, "CREATE ROLE writer LOGIN PASSWORD 'w'");
    let writer = shared.replace("zero:hunter2%2B7", "writer:w");
    assert!(refusal(&writer).contains("permission denied for database"), "{}", refusal(&writer));
    let log = Log::of(5);
    mirror(log.path(), &shared, 5).unwrap();
    sql(
        &shared,
        "GRANT USAGE ON SCHEMA zero TO writer; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA zero TO writer",
    );
    log.append(6, 9, "writer");
    mirror(log.path(), &writer, 5).unwrap();
    holds_all(log.path(), &shared);

    // Opening read-only creates no schema.
    let empty = server.database();
    let message = zero_mirror::open_read_only(&empty).unwrap().buses().unwrap_err().to_string();
    assert!(message.ends_with("holds no mirror: nothing was mirrored to it"), "{message}");
    assert_eq!(sql(&empty, "SELECT FROM pg_namespace WHERE nspname = 'zero'").len(), 0);
}

/// The pool gives each transaction another connection, which other programs use after it.
#[test]
fn nothing_outlives_a_transaction_behind_a_pooler() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    let direct = server.database();
    let pooler = PgBouncer::start(&server);
    let pooled = pooler.url(&server, &direct);
    // Opens every connection of the pool: transactions that run at the same time need one each.
    std::thread::scope(|scope| {
        for _ in 0..PgBouncer::POOL_SIZE {
            scope.spawn(|| sql(&pooled, "SELECT pg_sleep(2)"));
        }
    });
    let settings = || {
        let select = "SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements), \
                      (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings \
                       WHERE context = 'user' AND name <> 'application_name')";
        let rows = (0..2 * PgBouncer::POOL_SIZE).map(|_| sql(&pooled, select).remove(0));
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        rows.dedup();
        rows
    };
    let before = settings();
    assert_eq!(before.len(), PgBouncer::POOL_SIZE);
    let log = Log::of(100);
    mirror(log.path(), &pooled, 7).unwrap();
    holds_all(log.path(), &pooled);
    let mut reading = zero_mirror::open_read_only(&pooled).unwrap();
    assert_eq!(reading.buses().unwrap(), [bus_of(log.path())]);
    assert_eq!(settings(), before);
}

/// A statement waits longer than the role's time limits allow.
#[test]
fn the_time_limits_of_a_role_do_not_stop_a_mirror() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    let (log, url) = (Log::of(5), server.database());
    mirror(log.path(), &url, 5).unwrap();
    sql(
        &url,
        "CREATE ROLE hasty LOGIN PASSWORD 'w'; ALTER ROLE hasty SET statement_timeout = '50ms'; \
         ALTER ROLE hasty SET lock_timeout = '50ms'; GRANT USAGE ON SCHEMA zero TO hasty; \
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA zero TO hasty",
    );
    let hasty = url.replace("zero:hunter2%2B7", "hasty:w");
    log.append(6, 9, "later");
    std::thread::scope(|scope| {
        let url = &url;
        scope.spawn(move || {
            sql(url, "BEGIN; LOCK TABLE zero.events IN EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT")
        });
        let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = 'zero.events'::regclass";
        while sql(url, locks) != [[Some("1".to_owned())]] {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let once = zero_mirror::CatchUpOptions { tries: 1, ..crate::contract::plan(5) };
        let mut mirror = crate::contract::open(&hasty);
        zero_mirror::catch_up(log.path(), &mut *mirror, &once, &Default::default(), &mut |_| {}).unwrap();
    });
    holds_all(log.path(), &url);
}

/// Several programs find an empty database at the same time; one of them creates the tables.
#[test]
fn concurrent_mirrors_create_the_tables_once() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    let url = server.database();
    let logs: Vec<Log> = (0..4).map(|_| Log::of(50)).collect();
    let mut mirrors: Vec<_> =
        logs.iter().map(|log| process::start(log.path(), &url, 5, Death::Never)).collect();
    for mirror in &mut mirrors {
        assert!(mirror.wait().unwrap().success());
    }
    for log in &logs {
        holds_all(log.path(), &url);
    }
    assert_eq!(sql(&url, "SELECT count(*) FROM zero.version"), [[Some("1".to_owned())]]);
}

#[test]
fn a_column_that_differs_from_its_line_is_reported() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    let (log, url) = (Log::of(70), server.database());
    mirror(log.path(), &url, 50).unwrap();
    // Event 10 has a payload that jsonb cannot represent; event 21 has a trace that text cannot.
    for (index, column, value) in [
        (5, "event_type", "'x'"),
        (5, "trace_id", "NULL"),
        (5, "as_of", "0"),
        (5, "checksum", "''"),
        (5, "payload", "'{}'"),
        (5, "payload", "NULL"),
        (10, "payload", "'{}'"),
        (21, "trace_id", "'x'"),
    ] {
        sql(
            &url,
            &format!(
                "CREATE TABLE kept AS SELECT * FROM zero.events; UPDATE zero.events SET {column} = {value} WHERE event_index = {index}"
            ),
        );
        let verified =
            zero_mirror::verify(&mut *crate::contract::open(&url), bus_of(log.path()), |_, _, _| Ok(()));
        match verified {
            Err(error @ Error::Corrupt { .. }) => {
                let message = error.to_string();
                assert!(
                    message.ends_with(&format!("event {index}: its `{column}` does not match its line")),
                    "{message}"
                );
            }
            other => panic!("{column}: {other:?}"),
        }
        sql(&url, "TRUNCATE zero.events; INSERT INTO zero.events SELECT * FROM kept; DROP TABLE kept");
    }
    holds_all(log.path(), &url);
}

/// Every payload is stored, and none makes a view fail.
#[test]
fn the_views_accept_every_payload() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    let (log, url) = (Log::of(250), server.database());
    let kinds = ["decision.record", "fill.record", "rejection.record", "position.snapshot", "runtime.cycle"];
    let bus = zero_bus::Bus::open(log.path()).unwrap();
    let digits = format!(
        r#"{{"quantity":{},"positions":[{{"quantity":-{}}}]}}"#,
        "9".repeat(200_000),
        "9".repeat(100_000)
    );
    for payload in crate::contract::logs::awkward().into_iter().chain([digits]) {
        for kind in kinds {
            let payload = zero_bus::Json::parse(&payload).unwrap();
            bus.append(zero_bus::Draft { event_type: kind.into(), as_of: 0.0, payload, trace_id: None })
                .unwrap();
        }
    }
    mirror(log.path(), &url, 100).unwrap();
    holds_all(log.path(), &url);
    let count = |rows: &str| sql(&url, &format!("SELECT count(*) FROM {rows}"))[0][0].clone().unwrap();
    for (view, kind) in
        [("decisions", kinds[0]), ("fills", kinds[1]), ("rejections", kinds[2]), ("cycles", kinds[4])]
    {
        let rows = sql(&url, &format!("SELECT * FROM zero.{view}"));
        assert_eq!(
            rows.len().to_string(),
            count(&format!("zero.events WHERE event_type = '{kind}'")),
            "{view}"
        );
        assert!(rows.len() >= 55);
    }
    assert_eq!(sql(&url, "SELECT symbol, quantity FROM zero.positions"), [[None::<String>, None]; 0]);
    // One event of the log and one of each kind contain NUL; one of each kind has too many digits.
    assert_eq!(count("zero.events WHERE payload IS NULL"), "11");
    assert_eq!(count("zero.events WHERE trace_id IS NULL AND event_index = 21"), "1");
}

/// Version 1 differs in its views only.
#[test]
fn a_database_of_version_1_is_read_and_migrated() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    let (log, url) = (Log::of(9), server.database());
    sql(&url, &format!("CREATE SCHEMA zero; {}", include_str!("../../src/postgres/schema.sql")));
    sql(&url, "CREATE ROLE writer LOGIN PASSWORD 'w'; GRANT USAGE ON SCHEMA zero TO writer");
    sql(&url, "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA zero TO writer");
    assert_eq!(zero_mirror::open_read_only(&url).unwrap().buses().unwrap(), []);
    let writer = url.replace("zero:hunter2%2B7", "writer:w");
    assert!(refusal(&writer).ends_with("run the mirror once as the owner of the schema `zero`"));
    mirror(log.path(), &url, 5).unwrap();
    assert_eq!(sql(&url, "SELECT version FROM zero.version"), [[Some("3".to_owned())]]);
    // The role keeps its rights.
    log.append(10, 11, "later");
    mirror(log.path(), &writer, 5).unwrap();
    assert_eq!(sql(&writer, "SELECT count(*) FROM zero.fills").len(), 1);
    holds_all(log.path(), &url);
}

#[test]
fn sslmode_decides_which_certificates_are_trusted() {
    if left_out() {
        return;
    }
    let server = Postgres::start();
    sql(&server.url("postgres"), "CREATE DATABASE tls");
    let log = Log::of(3);
    let by_address = server.url("tls");
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let (authority, other_authority) =
        (server.file("ca.pem").display().to_string(), server.file("other-ca.pem").display().to_string());
    for (url, accepted) in [
        (format!("{by_address}?sslmode=prefer"), true),
        (format!("{by_address}?sslmode=require"), true),
        (format!("{by_address}?sslmode=require&sslrootcert={authority}"), true),
        (format!("{by_address}?sslmode=verify-ca&sslrootcert={authority}"), true),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={authority}"), true),
        (format!("{by_address}?sslmode=verify-full&sslrootcert={authority}"), false),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={other_authority}"), false),
        (format!("{by_address}?sslmode=verify-ca&sslrootcert={other_authority}"), false),
        (format!("{by_address}?sslmode=require&sslrootcert={other_authority}"), false),
        (format!("{by_name}?sslmode=verify-full&sslrootcert=system"), false),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={authority}.none"), false),
        // The server refuses this database without TLS.
        (format!("{by_address}?sslmode=disable"), false),
        (by_address.clone(), false),
    ] {
        if accepted {
            assert_eq!(mirror(log.path(), &url, 5).unwrap().mirrored, Some(3), "{url}");
        } else {
            let message = refusal(&url);
            assert!(!message.contains("hunter2") && !message.contains("sslmode="), "{message}");
        }
    }
    holds_all(log.path(), &format!("{by_address}?sslmode=require"));
}

/// The order of libpq: `PGPASSWORD`, then the file `PGPASSFILE`, then `~/.pgpass`.
#[test]
fn the_password_is_read_where_libpq_reads_it() {
    if left_out() {
        return;
    }
    let mut server = Postgres::start();
    let (log, url) = (Log::of(3), server.database());
    let without = url.replace(":hunter2%2B7", "");
    let pgpass = server.file("pgpass");
    let port = url.rsplit(':').next().unwrap().split('/').next().unwrap();
    fs::write(
        &pgpass,
        format!("# ours\n127.0.0.1:1:*:zero:wrong\n127.0.0.1:{port}:*:zero:{PASSWORD}\n*:*:*:*:wrong\n"),
    )
    .unwrap();
    let home = tempfile::tempdir().unwrap();
    let run = |set: &dyn Fn(&mut Command) -> &mut Command| {
        let mut command = process::command(log.path(), &without, 5, Death::Never);
        command.env_remove("PGPASSWORD").env_remove("PGPASSFILE").env("HOME", home.path());
        let output = set(&mut command).output().unwrap();
        let message =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!message.contains(PASSWORD), "{message}");
        (output.status.success(), message)
    };
    assert!(run(&|command| command).1.contains("password missing"));
    assert!(run(&|command| command.env("PGPASSWORD", PASSWORD)).0);
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o640)).unwrap();
    let (success, message) = run(&|command| command.env("PGPASSFILE", &pgpass));
    assert!(
        !success && message.contains("other users may read the passwords; run: chmod 600 on it"),
        "{message}"
    );
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(run(&|command| command.env("PGPASSFILE", &pgpass)).0);
    fs::copy(&pgpass, home.path().join(".pgpass")).unwrap();
    assert!(run(&|command| command).0);
    assert!(
        !run(&|command| command.env("PGPASSWORD", "wrong")).0,
        "the variable has precedence over the file"
    );
    holds_all(log.path(), &url);
}
