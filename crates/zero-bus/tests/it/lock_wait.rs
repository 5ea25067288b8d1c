//! Waiting for the lock of a bus.

use std::fs::File;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use zero_bus::storage::LockHolder;
use zero_bus::{Bus, Error, LOCK, LockWait, OpenOptions, report_lock_waits};

use crate::support::{bus_of, directory, draft, numbers};

#[test]
fn a_wait_for_the_lock_ends_with_an_error_that_names_the_holder() {
    let directory = directory();
    bus_of(directory.path(), 1);
    let bus = OpenOptions::new().lock_timeout(Duration::from_millis(20)).open(directory.path()).unwrap();
    let lock_file = File::open(directory.path().join(LOCK)).unwrap();
    lock_file.lock().unwrap();
    // Each failed wait leaves a thread behind, which must not release a later lock.
    for _ in 0..3 {
        match bus.append(draft(2)) {
            Err(error @ Error::Locked { .. }) => {
                let message = error.to_string();
                let holder = format!("process {}", std::process::id());
                assert!(message.contains("bus.lock") && message.contains("kill -CONT"), "{message}");
                assert!(message.contains(&holder) || message.contains("another process"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    lock_file.unlock().unwrap();
    // The handle is not poisoned: nothing was written.
    assert_eq!(bus.append(draft(2)).unwrap().index, 2);
    assert_eq!(numbers(directory.path()), [1, 2]);
}

#[test]
fn an_abandoned_wait_does_not_keep_the_lock() {
    let directory = directory();
    bus_of(directory.path(), 1);
    let impatient = OpenOptions::new().lock_timeout(Duration::from_millis(5)).open(directory.path()).unwrap();
    let other = Bus::open(directory.path()).unwrap();
    let lock_file = File::open(directory.path().join(LOCK)).unwrap();
    for number in 2..50 {
        lock_file.lock().unwrap();
        assert!(matches!(impatient.append(draft(0)), Err(Error::Locked { .. })));
        lock_file.unlock().unwrap();
        other.append(draft(number)).unwrap();
    }
    assert_eq!(numbers(directory.path()), (1..50).collect::<Vec<_>>());
}

/// The waits that this process has reported.
static WAITS: Mutex<Vec<LockWait>> = Mutex::new(Vec::new());

#[test]
fn a_long_wait_is_reported_and_ends_when_the_lock_is_free() {
    report_lock_waits(|wait| WAITS.lock().unwrap().push(wait.clone()));
    let directory = directory();
    bus_of(directory.path(), 1);
    let bus = Bus::open(directory.path()).unwrap();
    let lock_path = directory.path().join(LOCK);
    let lock_file = File::open(&lock_path).unwrap();
    lock_file.lock().unwrap();
    std::thread::scope(|scope| {
        let append = scope.spawn(|| bus.append(draft(2)).unwrap());
        let reported = || WAITS.lock().unwrap().iter().find(|wait| wait.path == lock_path).cloned();
        let wait = loop {
            match reported() {
                Some(wait) => break wait,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(wait.timeout, Duration::from_secs(30));
        assert!(wait.to_string().contains("bus.lock: "), "{wait}");
        lock_file.unlock().unwrap();
        assert_eq!(append.join().unwrap().index, 2);
    });
}

#[test]
fn the_holder_of_a_lock_is_found_by_process_and_name() {
    let directory = directory();
    let path = directory.path().join("file");
    File::create(&path).unwrap();
    assert_eq!(LockHolder::of(&path), None);
    // flock prints a line once it has the lock, and keeps it until its input ends.
    let child = Command::new("flock")
        .arg(&path)
        .args(["sh", "-c", "echo locked; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return println!("not tested: flock is missing") };
    let mut line = [0; 7];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    match LockHolder::of(&path) {
        // The lock belongs to flock, and the command inherits it.
        Some(holder) => assert_eq!(holder.process_id, Some(child.id())),
        None => assert!(!std::path::Path::new("/proc/locks").exists(), "the holder is not found"),
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(LockHolder::of(&path), None);
}
