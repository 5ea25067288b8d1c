//! Following: existing events, then new ones, until the follower is cancelled.

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::support::{WatchedStorage, add_to_log, bus_of, child_argument, directory, draft, run_again};
use zero_bus::sim::SimDisk;
use zero_bus::{Bus, CancelHandle, Error, Follow, RECOVERED_TYPE, Reader};

/// Long enough on a busy machine. A test that waits this long has failed.
const TIME_LIMIT: Duration = Duration::from_secs(60);

const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send::<Follow>();
    is_send_and_sync::<CancelHandle>();
};

#[test]
fn a_follower_returns_existing_events_and_then_new_ones() {
    let directory = directory();
    let reader = Reader::open(directory.path()).unwrap();
    // The follower starts before there is a log.
    let mut follower = reader.follow(2).unwrap();
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap(), None);
    let bus = Bus::open(directory.path()).unwrap();
    let path = directory.path().to_owned();
    let writer = std::thread::spawn(move || {
        for number in 1..=200 {
            bus.append(draft(number)).unwrap();
        }
        (path, bus)
    });
    for index in 2..=200 {
        let event = follower.next_timeout(TIME_LIMIT).unwrap().unwrap();
        assert_eq!(event.index, index);
    }
    let _ = writer.join().unwrap();
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap(), None);
}

#[test]
fn the_iterator_waits_for_new_events_and_ends_when_it_is_cancelled() {
    let directory = directory();
    let written = bus_of(directory.path(), 3);
    let mut follower = Reader::open(directory.path()).unwrap().follow(1).unwrap();
    let cancel = follower.cancel_handle();
    let bus = Bus::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        let (sender, received) = std::sync::mpsc::channel();
        let follower = &mut follower;
        scope.spawn(move || {
            for event in follower {
                sender.send(event.unwrap()).unwrap();
            }
        });
        for event in &written {
            assert_eq!(received.recv_timeout(TIME_LIMIT).unwrap(), *event);
        }
        for number in 4..=20 {
            let event = bus.append(draft(number)).unwrap();
            assert_eq!(received.recv_timeout(TIME_LIMIT).unwrap(), event);
        }
        cancel.cancel();
        // The sender is dropped when the iterator ends.
        assert!(received.recv_timeout(TIME_LIMIT).is_err());
    });
    bus.append(draft(21)).unwrap();
    assert!(follower.next().is_none(), "a cancelled follower stays cancelled");
}

#[test]
fn a_cancel_wakes_a_waiting_follower_at_once() {
    let directory = directory();
    bus_of(directory.path(), 1);
    let mut follower = Reader::open(directory.path()).unwrap().follow(2).unwrap();
    let cancel = follower.cancel_handle();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (follower.next_timeout(Duration::MAX), Instant::now()));
        // Gives the thread time to wait; the test holds even if it does not wait yet.
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished() && !cancel.is_cancelled());
        let cancelled = Instant::now();
        cancel.clone().cancel();
        let (next, woken) = waiting.join().unwrap();
        assert_eq!(next.unwrap(), None);
        assert!(cancel.is_cancelled());
        assert!(woken - cancelled < TIME_LIMIT);
    });
}

#[test]
fn a_cancel_is_not_lost_whenever_it_comes() {
    let directory = directory();
    bus_of(directory.path(), 1);
    let reader = Reader::open(directory.path()).unwrap();
    for _ in 0..200 {
        let follower = reader.follow(2).unwrap();
        let cancel = follower.cancel_handle();
        let waiting =
            std::thread::spawn(move || follower.map(|event| event.unwrap().index).collect::<Vec<_>>());
        cancel.cancel();
        assert!(waiting.join().unwrap().is_empty());
    }
}

#[test]
fn a_cancelled_follower_returns_none_although_there_are_events() {
    let directory = directory();
    let written = bus_of(directory.path(), 3);
    let reader = Reader::open(directory.path()).unwrap();
    let mut follower = reader.follow(1).unwrap();
    assert_eq!(follower.next().unwrap().unwrap(), written[0]);
    follower.cancel_handle().cancel();
    assert!(follower.next().is_none());
    assert_eq!(follower.next_timeout(TIME_LIMIT).unwrap(), None);
    assert_eq!(follower.next_line_timeout(TIME_LIMIT).unwrap(), None);
    // Another follower of the same reader is not affected, and resumes after the last event.
    assert_eq!(reader.follow(2).unwrap().next().unwrap().unwrap(), written[1]);
}

#[test]
fn the_end_of_a_timeout_is_not_a_cancel() {
    let directory = directory();
    let mut follower = Reader::open(directory.path()).unwrap().follow(1).unwrap();
    let cancel = follower.cancel_handle();
    let start = Instant::now();
    assert_eq!(follower.next_timeout(Duration::from_millis(20)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(!cancel.is_cancelled());
    let event = bus_of(directory.path(), 1).remove(0);
    assert_eq!(follower.next().unwrap().unwrap(), event);
}

/// A storage whose watch has no waker makes the follower wait for short intervals.
#[test]
fn a_follower_on_any_storage_can_be_cancelled() {
    let disk = SimDisk::new();
    let bus = Bus::open_in(disk.storage()).unwrap();
    let event = bus.append(draft(1)).unwrap();
    let mut follower = bus.reader().follow(1).unwrap();
    let cancel = follower.cancel_handle();
    assert_eq!(follower.next().unwrap().unwrap(), event);
    let waiting = std::thread::spawn(move || follower.next().is_none());
    std::thread::sleep(Duration::from_millis(30));
    cancel.cancel();
    assert!(waiting.join().unwrap());
}

#[test]
fn a_waiting_follower_sleeps_until_something_changes() {
    let directory = directory();
    let storage = WatchedStorage::new(directory.path());
    let bus = Bus::open(directory.path()).unwrap();
    bus.append(draft(1)).unwrap();
    let mut follower = Reader::open_in(storage.clone()).follow(2).unwrap();
    let before = storage.watched.bytes_read.load(SeqCst);
    assert_eq!(follower.next_timeout(Duration::from_millis(300)).unwrap(), None);
    let read = storage.watched.bytes_read.load(SeqCst) - before;
    // Each look at the end reads the sync mark. One look precedes the wait and one follows it.
    assert!(read < 10 * 256, "{read} bytes");
}

#[test]
fn the_iterator_ends_after_an_error_and_a_timed_call_repeats_it() {
    let directory = directory();
    bus_of(directory.path(), 3);
    add_to_log(directory.path(), b"{}\n");
    fs::remove_file(directory.path().join("bus.lock")).unwrap();
    let mut follower = Reader::open(directory.path()).unwrap().follow(3).unwrap();
    assert_eq!(follower.next().unwrap().unwrap().index, 3);
    assert!(matches!(follower.next(), Some(Err(Error::Damaged { .. }))));
    assert!(follower.next().is_none());
    assert!(follower.next().is_none());
    for _ in 0..2 {
        assert!(matches!(follower.next_timeout(Duration::ZERO), Err(Error::Damaged { .. })));
    }
}

#[test]
fn a_follower_continues_after_a_torn_tail_is_quarantined() {
    for torn in [10, 400, 5_000] {
        let directory = directory();
        let written = bus_of(directory.path(), 3);
        // The tail is as long as the line that will replace it, or shorter, or longer.
        let torn = if torn == 400 { written[2].line().len() + 1 } else { torn };
        add_to_log(directory.path(), &vec![b'{'; torn]);
        let reader = Reader::open(directory.path()).unwrap();
        let mut follower = reader.follow(1).unwrap();
        let mut events = reader.events(1).unwrap();
        for event in &written {
            assert_eq!(follower.next_timeout(Duration::ZERO).unwrap().as_ref(), Some(event));
        }
        assert_eq!(follower.next_timeout(Duration::ZERO).unwrap(), None);
        assert_eq!(follower.torn_bytes(), torn as u64);
        let bus = Bus::open(directory.path()).unwrap();
        let record = follower.next_timeout(TIME_LIMIT).unwrap().unwrap();
        assert_eq!((record.index, record.event_type.as_str()), (4, RECOVERED_TYPE));
        let next = bus.append(draft(4)).unwrap();
        assert_eq!(follower.next_timeout(TIME_LIMIT).unwrap(), Some(next));
        // Reading that started before the quarantine returns the valid events too.
        for event in &written {
            assert_eq!(events.next().unwrap().unwrap(), *event);
        }
    }
}

#[test]
fn a_follower_reports_a_log_that_was_replaced_or_shortened() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = directory.path().join("events.jsonl");
    let reader = Reader::open(directory.path()).unwrap();
    let mut follower = reader.follow(4).unwrap();
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap(), None);
    let text = fs::read(&log).unwrap();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(10).unwrap();
    assert!(matches!(follower.next_timeout(Duration::ZERO), Err(Error::Changed { .. })));
    fs::remove_file(&log).unwrap();
    fs::write(&log, text).unwrap();
    assert!(matches!(follower.next_timeout(Duration::ZERO), Err(Error::Changed { .. })));
}

#[test]
fn a_waiting_follower_reports_a_bus_that_was_moved_or_removed() {
    for remove in [true, false] {
        let directory = directory();
        let path = directory.path().join("bus");
        bus_of(&path, 1);
        let mut follower = Reader::open(&path).unwrap().follow(2).unwrap();
        let bus = Bus::open(&path).unwrap();
        let waiting = std::thread::spawn(move || follower.next_timeout(TIME_LIMIT));
        if remove {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::rename(&path, directory.path().join("moved")).unwrap();
        }
        assert!(matches!(waiting.join().unwrap(), Err(Error::Changed { .. })));
        assert!(matches!(bus.append(draft(9)), Err(Error::Changed { .. } | Error::Io { .. })));
    }
}

/// Between two looks of a follower, anything can happen to the log. The new log may be shorter,
/// equally long or longer, in the same file or in another.
#[test]
fn a_follower_reports_a_log_that_was_emptied_removed_or_replaced_between_two_looks() {
    let other = directory();
    let drafts = (5..=9).map(draft).collect();
    Bus::open(other.path()).unwrap().append_batch(drafts).unwrap();
    let other = fs::read(other.path().join("events.jsonl")).unwrap();
    // From an event that the follower has read itself, and from the end of the log.
    for from in [1, 6] {
        for (name, content, removed) in [
            ("emptied", &b""[..], false),
            ("removed", b"", true),
            ("rewritten with fewer bytes", &other[..200], false),
            ("rewritten with as many bytes", &other, false),
            ("rewritten with more bytes", &[&other[..], &other[..]].concat(), false),
            ("rewritten with zeros", &[0; 10_000], false),
            ("created again", &other, true),
        ] {
            let directory = directory();
            bus_of(directory.path(), 5);
            let log = directory.path().join("events.jsonl");
            assert_eq!(fs::metadata(&log).unwrap().len(), other.len() as u64);
            let mut follower = Reader::open(directory.path()).unwrap().follow(from).unwrap();
            while follower.next_timeout(Duration::ZERO).unwrap().is_some() {}
            if removed {
                fs::remove_file(&log).unwrap();
            }
            if !removed || !content.is_empty() {
                fs::write(&log, content).unwrap();
            }
            for _ in 0..2 {
                let next = follower.next_timeout(Duration::ZERO);
                assert!(matches!(next, Err(Error::Changed { .. })), "{name} from {from}: {next:?}");
            }
        }
    }
}

#[test]
fn a_follower_continues_if_the_same_log_is_written_again() {
    let directory = directory();
    bus_of(directory.path(), 3);
    let log = directory.path().join("events.jsonl");
    let mut follower = Reader::open(directory.path()).unwrap().follow(4).unwrap();
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap(), None);
    fs::write(&log, fs::read(&log).unwrap()).unwrap();
    assert_eq!(follower.next_timeout(Duration::ZERO).unwrap(), None);
    let event = Bus::open(directory.path()).unwrap().append(draft(4)).unwrap();
    assert_eq!(follower.next_timeout(TIME_LIMIT).unwrap(), Some(event));
}

/// Runs in a user namespace without inotify instances, or without inotify watches.
#[cfg(target_os = "linux")]
#[test]
fn a_follower_polls_and_names_the_sysctl_if_inotify_is_exhausted() {
    let Some(sysctl) = child_argument() else {
        for (limit, sysctl) in [
            ("max_inotify_instances", "fs.inotify.max_user_instances"),
            ("max_inotify_watches", "fs.inotify.max_user_watches"),
        ] {
            let test = "follow::a_follower_polls_and_names_the_sysctl_if_inotify_is_exhausted";
            let setup = format!("echo 0 > /proc/sys/user/{limit}");
            run_again(&["unshare", "--user", "--map-root-user"], &setup, test, sysctl);
        }
        return;
    };
    let directory = directory();
    bus_of(directory.path(), 1);
    let mut follower = Reader::open(directory.path()).unwrap().follow(2).unwrap();
    let warning = follower.warning().unwrap();
    assert!(warning.contains(&sysctl) && !warning.contains("No space"), "{warning}");
    let bus = Bus::open(directory.path()).unwrap();
    // More than the lookups after which the handle would watch its path.
    for number in 2..=30 {
        let event = bus.append(draft(number)).unwrap();
        assert_eq!(follower.next_timeout(TIME_LIMIT).unwrap(), Some(event));
    }
    let cancel = follower.cancel_handle();
    let waiting = std::thread::spawn(move || follower.next().is_none());
    cancel.cancel();
    assert!(waiting.join().unwrap());
}

#[test]
fn a_follower_on_a_system_with_inotify_has_no_warning() {
    let directory = directory();
    let follower = Reader::open(directory.path()).unwrap().follow(1).unwrap();
    if let Some(warning) = follower.warning() {
        assert!(warning.contains("sysctl"), "this machine has no inotify left: {warning}");
    }
}
