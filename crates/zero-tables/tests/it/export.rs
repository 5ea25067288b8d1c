//! Directories of Parquet files.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use zero_bus::{Bus, Draft, Reader};
use zero_tables::export::{ExportError, Exported, STATE, export, open_directory};
use zero_tables::{TABLES, Table};

/// Appends events: each third one is a fill, each third one a decision.
pub(crate) fn append(bus: &Bus, count: u64) -> zero_bus::Result<()> {
    let last = bus.head().index;
    let types = ["other", "fill.record", "decision.record"];
    let drafts = (last + 1..=last + count).map(|index| {
        let payload = BTreeMap::from([("symbol", "BTC")]);
        Draft::new(types[index as usize % 3], index as f64, &payload).unwrap()
    });
    bus.append_batch(drafts.collect()).map(drop)
}

/// The indexes of the events in the rows of a file.
pub(crate) fn rows(content: Vec<u8>) -> Vec<u64> {
    let file = SerializedFileReader::new(bytes::Bytes::from(content)).unwrap();
    file.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(0).unwrap() as u64).collect()
}

fn tables(names: &[&str]) -> Vec<&'static Table> {
    names.iter().map(|name| Table::named(name).unwrap()).collect()
}

fn run(bus: &Path, target: &Path, names: &[&str], events_per_file: u64) -> Result<Exported, ExportError> {
    let directory = open_directory(target, bus)?;
    let events_per_file = NonZeroU64::new(events_per_file).unwrap();
    export(&Reader::open(bus).unwrap(), &directory, &tables(names), events_per_file, &mut |_, _| true)
}

/// The files of a table by name, each with the indexes of its rows.
fn files(target: &Path, table: &str) -> Vec<(String, Vec<u64>)> {
    let entries = fs::read_dir(target.join(table)).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), rows(fs::read(entry.path()).unwrap())))
        .collect();
    files.sort();
    files
}

fn file(first: u64, last: u64, rows: &[u64]) -> (String, Vec<u64>) {
    (format!("{first:012}-{last:012}.parquet"), rows.to_vec())
}

#[test]
fn an_export_adds_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("bus"), dir.path().join("deep/tables"));
    let bus = Bus::open(&path).unwrap();
    append(&bus, 7).unwrap();
    let exported = run(&path, &target, &["fills"], 5).unwrap();
    assert_eq!((exported.events, exported.tables["fills"].files, exported.tables["fills"].rows), (7, 2, 3));
    assert_eq!(files(&target, "fills"), [file(1, 5, &[1, 4]), file(6, 7, &[7])]);
    let before =
        fs::metadata(target.join("fills/000000000001-000000000005.parquet")).unwrap().modified().unwrap();

    let exported = run(&path, &target, &["fills"], 5).unwrap();
    assert_eq!((exported.tables["fills"].files, exported.tables["fills"].rows), (0, 0));

    append(&bus, 14).unwrap();
    run(&path, &target, &["decisions", "fills", "candles"], 5).unwrap();
    let new = [file(8, 10, &[10]), file(11, 15, &[13]), file(16, 20, &[16, 19]), file(21, 21, &[])];
    assert_eq!(files(&target, "fills")[2..], new);
    let decisions: Vec<_> = files(&target, "decisions").into_iter().flat_map(|(_, rows)| rows).collect();
    assert_eq!(decisions, [2, 5, 8, 11, 14, 17, 20]);
    // A table without rows has files, so that a program which reads them finds the columns.
    assert_eq!(files(&target, "candles").len(), 5);
    let after =
        fs::metadata(target.join("fills/000000000001-000000000005.parquet")).unwrap().modified().unwrap();
    assert_eq!(before, after);
    for (path, mode) in
        [("", 0o700), ("fills", 0o700), (STATE, 0o600), ("fills/000000000006-000000000007.parquet", 0o600)]
    {
        assert_eq!(fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn a_log_that_does_not_extend_the_exported_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("bus"), dir.path().join("tables"));
    append(&Bus::open(&path).unwrap(), 4).unwrap();
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(path.join("events.jsonl"), copy.join("events.jsonl")).unwrap();
    append(&Bus::open(&path).unwrap(), 2).unwrap();
    run(&path, &target, &["fills"], 100).unwrap();
    let listed = files(&target, "fills");

    // Shorter, of the same length, and longer.
    let is_refused = || {
        let error = run(&copy, &target, &["fills", "decisions"], 100).unwrap_err();
        assert!(matches!(&error, ExportError::NotExtended { head, .. } if head.index == 6), "{error}");
        assert_eq!(files(&target, "fills"), listed);
        assert!(!target.join("decisions").exists());
    };
    is_refused();
    let other = Bus::open(&copy).unwrap();
    for _ in 0..4 {
        other.append(Draft::new("fill.record", 0.0, &BTreeMap::from([("symbol", "ETH")])).unwrap()).unwrap();
        is_refused();
    }
    run(&path, &target, &["fills"], 100).unwrap();
}

#[test]
fn directories_that_are_not_whole_exports_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("bus"), dir.path().join("tables"));
    append(&Bus::open(&path).unwrap(), 9).unwrap();
    run(&path, &target, &["fills"], 3).unwrap();
    let problem = |expected: &str| {
        let error = run(&path, &target, &["fills"], 3).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let middle = target.join("fills/000000000004-000000000006.parquet");
    fs::rename(&middle, dir.path().join("kept")).unwrap();
    problem("a file ends with event 3, and the next one begins with event 7");
    fs::rename(dir.path().join("kept"), &middle).unwrap();

    let state = fs::read(target.join(STATE)).unwrap();
    fs::remove_file(target.join(STATE)).unwrap();
    problem("export.json, which binds them to a log, is missing");
    for invalid in [&b""[..], b"{}", b"[]", &[b' '; 10_000], &state[..40]] {
        fs::write(target.join(STATE), invalid).unwrap();
        problem("export.json: is not the state of an export");
    }
    fs::write(target.join(STATE), &state).unwrap();
    fs::write(target.join("fills/000000000010-000000000012.parquet"), "").unwrap();
    problem("a file ends with event 12, but export.json ends with event 9");
    fs::remove_file(target.join("fills/000000000010-000000000012.parquet")).unwrap();
    // Files of other programs do not matter, and the oldest files may be moved away.
    fs::write(target.join("fills/README-1.parquet"), "").unwrap();
    fs::remove_file(target.join("fills/000000000001-000000000003.parquet")).unwrap();
    assert_eq!(run(&path, &target, &["fills"], 3).unwrap().tables["fills"].files, 0);

    let inside = run(&path, &path.join("tables"), &["fills"], 3).unwrap_err();
    assert!(matches!(inside, ExportError::Invalid { .. }), "{inside}");
    let held = open_directory(&target, &path).unwrap();
    assert!(matches!(run(&path, &target, &["fills"], 3), Err(ExportError::Locked { .. })));
    drop(held);
}

#[test]
fn a_damaged_log_and_a_stop_leave_what_was_complete() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("bus"), dir.path().join("tables"));
    append(&Bus::open(&path).unwrap(), 9).unwrap();
    let log = path.join("events.jsonl");
    let sound = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = sound.split_inclusive('\n').collect();
    let damaged = lines[6].replace("BTC", "ETH");
    fs::write(&log, sound.replace(lines[6], &damaged)).unwrap();
    assert!(matches!(run(&path, &target, &["events"], 3), Err(ExportError::Bus(_))));
    // A file is complete once an event after it was verified.
    let complete = [file(1, 3, &[1, 2, 3])];
    let mut found = files_without_temporary(&target);
    assert_eq!(found, complete);

    fs::write(&log, &sound).unwrap();
    let directory = open_directory(&target, &path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let three = NonZeroU64::new(3).unwrap();
    let stopped = export(&reader, &directory, &tables(&["events"]), three, &mut |_, _| false);
    assert!(matches!(stopped, Err(ExportError::Stopped)));
    found = files_without_temporary(&target);
    assert_eq!(found, complete);
    drop(directory);
    run(&path, &target, &["events"], 3).unwrap();
    assert_eq!(files(&target, "events")[1..], [file(4, 6, &[4, 5, 6]), file(7, 9, &[7, 8, 9])]);
}

fn files_without_temporary(target: &Path) -> Vec<(String, Vec<u64>)> {
    fs::remove_file(target.join("events/new.tmp")).unwrap();
    files(target, "events")
}

#[test]
fn all_tables_of_an_empty_bus_are_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("bus"), dir.path().join("tables"));
    drop(Bus::open(&path).unwrap());
    let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let exported = run(&path, &target, &names, 3).unwrap();
    assert_eq!((exported.events, exported.tables.len()), (0, names.len()));
    assert!(exported.tables.values().all(|added| added.files == 0));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}
