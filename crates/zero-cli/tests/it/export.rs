//! `zero-bus export`. What the files hold is tested in `zero-tables` and `zero-python`.

use std::fs;

use crate::support::{append_events, bus, temp_dir};

#[test]
fn an_export_prints_what_it_added() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 5);
    let tables = ["--table", "fills", "--table", "events", "--table", "fills"];
    let command = [&["export", "bus", "--to", "parquet:deep/tables"][..], &tables].concat();
    let printed = bus(dir, &command).success();
    let lines = [
        "deep/tables/events: 5 new rows in 1 new file",
        "deep/tables/fills: 0 new rows in 1 new file",
        "deep/tables: covers 5 events\n",
    ];
    assert_eq!(printed, lines.join("\n"));
    let printed = bus(dir, &[&command[..], &["--json"]].concat()).success();
    let nothing = r#"{"files":0,"rows":0}"#;
    assert_eq!(
        printed,
        format!("{{\"events\":5,\"tables\":{{\"events\":{nothing},\"fills\":{nothing}}}}}\n")
    );
    assert_eq!(fs::read_dir(dir.join("deep/tables")).unwrap().count(), 3);
    // All tables, if none is named.
    assert!(
        bus(dir, &["export", "bus", "--to", "parquet:all"]).success().contains("all/strategy_failures: ")
    );
}

#[test]
fn an_export_that_cannot_be_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 5);
    bus(dir, &["export", "bus", "--to", "parquet:tables"]).success();
    let log = dir.join("bus/events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::create_dir(dir.join("other")).unwrap();
    let first_three: String = text.split_inclusive('\n').take(3).collect();
    fs::write(dir.join("other/events.jsonl"), first_three).unwrap();
    let refused = bus(dir, &["export", "other", "--to", "parquet:tables"]);
    assert!(refused.failure(1).contains("which this log does not hold"));

    fs::write(&log, text.replacen("\"as_of\":", "\"as_of\":1", 1)).unwrap();
    bus(dir, &["export", "bus", "--to", "parquet:new"]).failure(1);
    fs::write(&log, text).unwrap();
    for (arguments, expected) in [
        (&["--to", "parquet:bus/tables"][..], "is inside the bus"),
        (&["--to", "parquet:other"], "holds a bus"),
        (&["--to", "tables"], "expected parquet: and a directory"),
        (&["--to", "parquet:tables", "--table", "fill"], "expected one of events, decisions"),
    ] {
        let refused = bus(dir, &[&["export", "bus"], arguments].concat());
        assert!(refused.failure(2).contains(expected), "{expected}");
    }
    bus(dir, &["export", "missing", "--to", "parquet:new-2"]).failure(2);
    assert!(!dir.join("new-2").exists());
}
