//! A power cut at every call of an export. The next export completes the directory: each row is
//! there once.

use std::num::NonZeroU64;
use std::sync::Arc;

use zero_bus::sim::SimDisk;
use zero_bus::storage::Storage;
use zero_bus::{Bus, Reader};
use zero_tables::Table;
use zero_tables::export::{ExportError, export};

use crate::export::{append, rows};

const EVENTS: u64 = 8;

fn run(reader: &Reader, storage: &Arc<dyn Storage>, names: &[&str]) -> Result<(), ExportError> {
    let tables: Vec<_> = names.iter().map(|name| Table::named(name).unwrap()).collect();
    export(reader, &**storage, &tables, NonZeroU64::new(3).unwrap(), &mut |_, _| true).map(drop)
}

/// A growing log: a reader of its first 4, 5 and 8 events.
fn readers(logs: &[SimDisk; 3]) -> [Reader; 3] {
    [4, 5, EVENTS].into_iter().zip(logs).for_each(|(count, log)| {
        append(&Bus::open_in(log.storage()).unwrap(), count).unwrap();
    });
    [0, 1, 2].map(|log| Reader::open_in(logs[log].storage()))
}

/// Three exports of a growing log.
fn workload(disk: &SimDisk, readers: &[Reader; 3]) -> Result<(), ExportError> {
    let names = [&["fills"][..], &["fills", "decisions"], &["decisions", "fills"]];
    readers.iter().zip(names).try_for_each(|(reader, names)| run(reader, &disk.storage(), names))
}

/// The rows of a table, after checking that each complete file holds those that its name says.
fn table_rows(disk: &SimDisk, table: &str, first: u64) -> Result<Vec<u64>, String> {
    let mut all = Vec::new();
    let mut names = disk.names();
    names.sort();
    for name in names {
        let range =
            name.strip_prefix(table).and_then(|name| name.strip_prefix('/')?.strip_suffix(".parquet"));
        let Some((from, to)) = range.and_then(|range| range.split_once('-')) else { continue };
        let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
        let expected: Vec<u64> = (from..=to).filter(|index| index % 3 == first).collect();
        let found = rows(disk.content(&name).ok_or("no content")?);
        if found != expected {
            return Err(format!("{name} holds {found:?}"));
        }
        all.extend(found);
    }
    Ok(all)
}

fn check(disk: &SimDisk, reader: &Reader) -> Result<(), String> {
    // What a reader of the files finds before the next export: no row twice, none missing between.
    let before = table_rows(disk, "fills", 1)?;
    if before != [1, 4, 7][..before.len()] {
        return Err(format!("before: {before:?}"));
    }
    run(reader, &disk.storage(), &["fills", "decisions"]).map_err(|error| error.to_string())?;
    let after = (table_rows(disk, "fills", 1)?, table_rows(disk, "decisions", 2)?);
    match after == (vec![1, 4, 7], vec![2, 5, 8]) {
        true => Ok(()),
        false => Err(format!("after: {after:?}")),
    }
}

#[test]
fn a_power_cut_at_any_call_leaves_what_the_next_export_completes() {
    let logs = [SimDisk::new(), SimDisk::new(), SimDisk::new()];
    let readers = readers(&logs);
    let survivors = if std::env::var_os("ZERO_TEST_SOAK").is_some() { 8 } else { 2 };
    let (mut points, mut disks) = (0, 0);
    for call in 1.. {
        let disk = SimDisk::new();
        disk.crash_at(call);
        let done = workload(&disk, &readers);
        if !disk.crashed() {
            assert!(done.is_ok(), "{done:?}");
            break;
        }
        points += 1;
        for survivor in disk.survivors(call, survivors) {
            disks += 1;
            check(&survivor, &readers[2]).unwrap_or_else(|problem| panic!("call {call}: {problem}"));
        }
    }
    println!("{points} points, {disks} disks");
    assert!(points > 150 && disks > 250, "{points} {disks}");
}
