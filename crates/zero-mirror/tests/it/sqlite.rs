//! The mirror in an SQLite file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::contract::{Tampering, TestBed};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use zero_bus::Checksum;
use zero_mirror::Mirror;

struct Files {
    directory: TempDir,
    created: usize,
}

fn file(url: &str) -> &str {
    url.strip_prefix("sqlite:").unwrap()
}

impl TestBed for Files {
    const NAME: &'static str = "SQLite";

    fn start() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), created: 0 }
    }

    fn destination(&mut self) -> String {
        self.created += 1;
        format!("sqlite:{}/mirror-{}.db", self.directory.path().display(), self.created)
    }

    fn tamper(&mut self, url: &str, _: Checksum, tampering: &Tampering) -> bool {
        let connection = Connection::open(file(url)).unwrap();
        let set = "UPDATE events SET event_index = ?2 WHERE event_index = ?1";
        let changed = match tampering {
            Tampering::Line(index, line) => connection
                .execute("UPDATE events SET line = ?2 WHERE event_index = ?1", params![*index as i64, line]),
            Tampering::Delete(index) => {
                connection.execute("DELETE FROM events WHERE event_index = ?1", [*index as i64])
            }
            Tampering::Swap(first, second) => {
                for (from, to) in [(*first as i64, -1), (*second as i64, *first as i64), (-1, *second as i64)]
                {
                    assert_eq!(connection.execute(set, [from, to]).unwrap(), 1);
                }
                Ok(1)
            }
        };
        assert_eq!(changed.unwrap(), 1);
        true
    }
}

#[test]
fn sqlite_passes_the_contract() {
    crate::contract::run_all::<Files>();
}

#[test]
fn the_files_have_mode_0600() {
    let mut files = Files::start();
    let (log, url) = (crate::contract::logs::Log::of(10), files.destination());
    let mut mirror = crate::contract::open(&url);
    zero_mirror::catch_up(
        log.path(),
        &mut *mirror,
        &crate::contract::plan(5),
        &Default::default(),
        &mut |_| {},
    )
    .unwrap();
    let mut names = 0;
    for entry in fs::read_dir(files.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        names += 1;
    }
    assert_eq!(names, 3, "the file, its -wal and its -shm");
}

/// Each mirror finds no file, or a file that another mirror is just creating.
#[test]
fn concurrent_mirrors_create_one_file() {
    let mut files = Files::start();
    let log = crate::contract::logs::Log::of(3);
    for _ in 0..150 {
        let url = files.destination();
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    crate::contract::mirror(log.path(), &url, 5).unwrap();
                });
            }
        });
    }
}

fn refusal(url: &str) -> String {
    let log = crate::contract::logs::Log::of(3);
    match crate::contract::mirror(log.path(), url, 5) {
        Err(error @ zero_mirror::Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unsuitable_file_is_refused_and_not_changed() {
    let mut files = Files::start();
    let directory = files.directory.path().display().to_string();
    assert_eq!(
        refusal(&format!("sqlite:{directory}")),
        format!("sqlite:{directory}: is not a file; name a file for the mirror")
    );
    assert!(refusal(&format!("sqlite:{directory}/no/where.db")).contains("cannot create it: No such file"));

    let text = files.destination();
    fs::write(file(&text), "not a database, but long enough to be checked".repeat(20)).unwrap();
    assert!(refusal(&text).ends_with("is not an SQLite database; name another file for the mirror"));

    let foreign = files.destination();
    Connection::open(file(&foreign)).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = fs::read(file(&foreign)).unwrap();
    assert!(refusal(&foreign).ends_with("is another program's database; name another file for the mirror"));
    assert_eq!(fs::read(file(&foreign)).unwrap(), before);

    let newer = files.destination();
    crate::contract::mirror(crate::contract::logs::Log::of(1).path(), &newer, 5).unwrap();
    Connection::open(file(&newer)).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(
        refusal(&newer).ends_with(
            "has tables of version 7, but this program supports versions up to 3: use a newer one"
        )
    );

    let damaged = files.destination();
    crate::contract::mirror(crate::contract::logs::Log::of(500).path(), &damaged, 500).unwrap();
    // Moves the write-ahead log into the file, then damages every page after the first.
    Connection::open(file(&damaged)).unwrap().pragma_update(None, "journal_mode", "DELETE").unwrap();
    let mut bytes = fs::read(file(&damaged)).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(file(&damaged), bytes).unwrap();
    let message = refusal(&damaged);
    assert!(
        message.contains("is damaged (") && message.ends_with("); move it away, and mirror the bus again"),
        "{message}"
    );
}

/// Opening a mirror read-only creates no file and changes none.
#[test]
fn reading_needs_only_read_permission() {
    let mut files = Files::start();
    let (log, url) = (crate::contract::logs::Log::of(9), files.destination());
    let refusal_of = |url: &str| zero_mirror::open_read_only(url).unwrap().buses().unwrap_err().to_string();
    assert!(refusal_of(&url).ends_with("there is no such file"));
    assert!(!fs::exists(file(&url)).unwrap());
    fs::write(file(&url), "").unwrap();
    assert!(refusal_of(&url).ends_with("is empty: nothing was mirrored to it"));
    crate::contract::mirror(log.path(), &url, 5).unwrap();
    let mut read_only = zero_mirror::open_read_only(&url).unwrap();
    assert_eq!(read_only.lines(crate::contract::bus_of(log.path()), 3).unwrap().len(), 7);
    assert_eq!(read_only.lines(crate::contract::bus_of(log.path()), 10).unwrap(), []);
    assert_eq!(read_only.lines(Checksum::of(b"another"), 1).unwrap(), []);
    assert_eq!(read_only.lines(crate::contract::bus_of(log.path()), u64::MAX).unwrap(), []);
    drop(read_only);
    log.append(10, 11, "more");
    let mut read_only = zero_mirror::open_read_only(&url).unwrap();
    let (plan, stop) = (crate::contract::plan(5), Default::default());
    let refused = zero_mirror::catch_up(log.path(), &mut *read_only, &plan, &stop, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("is not writable ("), "{refused}");
    assert_eq!(crate::contract::lines_at(&url, crate::contract::bus_of(log.path())).len(), 9);
}

/// Batches written to a file that was moved away would be missing at its address.
#[test]
fn a_file_moved_during_mirroring_is_detected() {
    let mut files = Files::start();
    let (log, url) = (crate::contract::logs::Log::of(9), files.destination());
    let mut mirror = crate::contract::open(&url);
    let mut catch_up = || {
        let (plan, stop) = (crate::contract::plan(5), Default::default());
        zero_mirror::catch_up(log.path(), &mut *mirror, &plan, &stop, &mut |_| {})
            .map(|report| report.mirrored.unwrap())
    };
    assert_eq!(catch_up().unwrap(), 9);
    fs::rename(file(&url), files.directory.path().join("elsewhere.db")).unwrap();
    assert!(catch_up().unwrap_err().to_string().ends_with("mirror to it again"));
    assert_eq!(catch_up().unwrap(), 9);
    crate::contract::holds_all(log.path(), &url);
}

/// The columns are compared with the line, because queries read the columns.
#[test]
fn a_column_that_differs_from_its_line_is_reported() {
    let mut files = Files::start();
    let (log, url) = (crate::contract::logs::Log::of(9), files.destination());
    crate::contract::mirror(log.path(), &url, 5).unwrap();
    let connection = Connection::open(file(&url)).unwrap();
    let bus = crate::contract::bus_of(log.path());
    for (column, value) in
        [("event_type", "'x'"), ("trace_id", "NULL"), ("as_of", "0"), ("checksum", "''"), ("payload", "'{}'")]
    {
        let save = "CREATE TEMP TABLE kept AS SELECT * FROM events WHERE event_index = 5";
        connection.execute_batch(save).unwrap();
        connection
            .execute(&format!("UPDATE events SET {column} = {value} WHERE event_index = 5"), [])
            .unwrap();
        let verified = zero_mirror::verify(&mut *crate::contract::open(&url), bus, |_, _, _| Ok(()));
        match verified {
            Err(error @ zero_mirror::Error::Corrupt { index: 5, .. }) => {
                let message = error.to_string();
                assert!(
                    message.ends_with(&format!("event 5: its `{column}` does not match its line")),
                    "{message}"
                );
            }
            other => panic!("{column}: {other:?}"),
        }
        let restore = format!(
            "UPDATE events SET {column} = (SELECT {column} FROM kept) WHERE event_index = 5; DROP TABLE kept"
        );
        connection.execute_batch(&restore).unwrap();
    }
    crate::contract::holds_all(log.path(), &url);
}

/// No payload makes a view fail.
#[test]
fn the_views_accept_every_payload() {
    let mut files = Files::start();
    let (log, url) = (crate::contract::logs::Log::of(250), files.destination());
    let kinds = ["decision.record", "fill.record", "rejection.record", "position.snapshot", "runtime.cycle"];
    let bus = zero_bus::Bus::open(log.path()).unwrap();
    for payload in crate::contract::logs::awkward() {
        for kind in kinds {
            let payload = zero_bus::Json::parse(&payload).unwrap();
            bus.append(zero_bus::Draft { event_type: kind.into(), as_of: 0.0, payload, trace_id: None })
                .unwrap();
        }
    }
    crate::contract::mirror(log.path(), &url, 100).unwrap();
    let connection = Connection::open(file(&url)).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    for (view, kind) in
        [("decisions", kinds[0]), ("fills", kinds[1]), ("rejections", kinds[2]), ("cycles", kinds[4])]
    {
        let mut all = connection.prepare(&format!("SELECT * FROM {view}")).unwrap();
        let rows = all.query_map([], |_| Ok(())).unwrap().map(Result::unwrap).count() as i64;
        assert_eq!(
            rows,
            count(&format!("SELECT count(*) FROM events WHERE event_type = '{kind}'")),
            "{view}"
        );
        assert!(rows >= 55);
    }
    // Among the awkward payloads, a single position is an object; its symbol is not a string.
    let mut positions = connection.prepare("SELECT symbol FROM positions WHERE symbol IS NOT 'BTC'").unwrap();
    let symbols: Vec<Option<String>> =
        positions.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(symbols, [None]);
    assert_eq!(
        count("SELECT count(*) FROM events WHERE json_valid(payload)"),
        count("SELECT count(*) FROM events")
    );
}

/// A time as SQLite stores it: -0.0 becomes 0.0.
#[test]
fn verify_accepts_every_time_that_was_mirrored() {
    let mut files = Files::start();
    let (log, url) = (crate::contract::logs::Log::empty(), files.destination());
    let bus = zero_bus::Bus::open(log.path()).unwrap();
    for as_of in [-0.0, 0.0, 5e-324, -5e-324, 1e15, 1e17, 9007199254740992.0, 1e300, f64::MAX, f64::MIN, 0.1]
    {
        let payload = zero_bus::Json::parse(r#"{"zero":-0.0}"#).unwrap();
        bus.append(zero_bus::Draft { event_type: "t".into(), as_of, payload, trace_id: None }).unwrap();
    }
    crate::contract::mirror(log.path(), &url, 5).unwrap();
    crate::contract::holds_all(log.path(), &url);
}

#[test]
fn a_path_that_is_too_long_for_sqlite_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let problem_of = |path: &std::path::Path| zero_mirror::Sqlite::new(path).buses().unwrap_err().to_string();
    // With a suffix of eight bytes, the first name still fits.
    assert_eq!(zero_mirror::Sqlite::new(directory.path().join("x".repeat(247))).buses().unwrap(), []);
    let message = problem_of(&directory.path().join("y".repeat(248)));
    assert!(message.contains("its name is too long, since SQLite adds `-journal` to it"), "{message}");
    let deep: std::path::PathBuf = directory.path().join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    let message = problem_of(&deep.join("f".repeat(200)));
    assert!(message.contains(" bytes, and SQLite opens paths of at most 512"), "{message}");
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 0, "no file is left");
    assert!(!directory.path().join("y".repeat(248)).exists());
}

/// SQLite itself would keep nothing, or write to another file.
#[test]
fn a_special_name_of_sqlite_is_refused_and_leaves_no_file() {
    let place = tempfile::tempdir().unwrap();
    let log = crate::contract::logs::Log::of(3);
    for name in [":memory:", "file::memory:", "file:m.db", "file:m.db?mode=memory", ""] {
        let mut mirror = zero_mirror::Sqlite::new(name);
        let (plan, stop) = (crate::contract::plan(5), Default::default());
        let error = zero_mirror::catch_up(log.path(), &mut mirror, &plan, &stop, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("is a special name of SQLite, not the path of a file"), "{error}");
        assert!(name.is_empty() || !fs::exists(name).unwrap(), "{name}");
    }
    // SQLite supports shorter paths than the system.
    let deep = place.path().join("d".repeat(250)).join("d".repeat(250)).join("d".repeat(250));
    fs::create_dir_all(&deep).unwrap();
    for name in ["m.db", ":memory:"] {
        let url = format!("sqlite:{}/{name}", deep.display());
        if crate::contract::mirror(log.path(), &url, 5).is_err() {
            assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
        }
    }
    // In a directory, these are names like others.
    for name in [":memory:", "file:m.db", "file:m.db?mode=memory", "100%.db", "a?b#c.db"] {
        let url = format!("sqlite:{}/{name}", place.path().display());
        crate::contract::mirror(log.path(), &url, 5).unwrap();
        crate::contract::holds_all(log.path(), &url);
        assert!(fs::metadata(place.path().join(name)).unwrap().len() > 0, "{name}");
    }
}

/// Version 1 differs in its views only, so it can be read without write access.
#[test]
fn a_file_of_version_1_is_read_and_migrated() {
    let mut files = Files::start();
    let (log, url) = (crate::contract::logs::Log::of(9), files.destination());
    let connection = Connection::open(file(&url)).unwrap();
    connection.execute_batch(include_str!("../../src/sqlite/schema.sql")).unwrap();
    connection.pragma_update(None, "application_id", 0x5A42_5553).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    assert_eq!(zero_mirror::open_read_only(&url).unwrap().buses().unwrap(), []);
    crate::contract::mirror(log.path(), &url, 5).unwrap();
    crate::contract::holds_all(log.path(), &url);
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 3);
}

#[test]
fn a_failed_look_up_is_not_reported_as_a_moved_file() {
    let place = tempfile::tempdir().unwrap();
    let (log, parent) = (crate::contract::logs::Log::of(3), place.path().join("parent"));
    fs::create_dir(&parent).unwrap();
    let mut mirror = crate::contract::open(&format!("sqlite:{}/m.db", parent.display()));
    let mut again = || {
        let (plan, stop) = (crate::contract::plan(5), Default::default());
        zero_mirror::catch_up(log.path(), &mut *mirror, &plan, &stop, &mut |_| {})
            .map(|report| report.mirrored.unwrap())
    };
    assert_eq!(again().unwrap(), 3);
    fs::rename(&parent, place.path().join("elsewhere")).unwrap();
    fs::write(&parent, "").unwrap();
    for _ in 0..2 {
        let error = again().unwrap_err().to_string();
        assert!(error.contains("cannot look it up: Not a directory"), "{error}");
    }
}

#[test]
fn a_file_name_of_a_bus_and_an_address_with_a_host_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let log = crate::contract::logs::Log::of(3);
    for name in ["state-snapshot.json.tmp", "events.jsonl.torn-at-5", "bus.lock"] {
        let url = format!("sqlite:{}/{name}", place.path().display());
        let error = crate::contract::mirror(log.path(), &url, 5).unwrap_err().to_string();
        assert!(error.contains("has the name of a file of a bus"), "{error}");
        assert!(!place.path().join(name).exists());
    }
    let Err(error) = zero_mirror::open("sqlite://data/x.db") else { panic!("a host was accepted") };
    assert!(error.to_string().contains("write sqlite:PATH"), "{error}");
    let url = format!("sqlite://{}/m.db", place.path().display());
    crate::contract::mirror(log.path(), &url, 5).unwrap();
    assert!(place.path().join("m.db").exists());
}
