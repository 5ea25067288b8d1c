//! The cases of the contract. Each returns a summary for the table.

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use zero_bus::{Event, Reader};
use zero_mirror::{CancelHandle, CatchUpOptions, Error, catch_up, restore, scan, select_bus};

use super::logs::{Log, recorded};
use super::process::{self, Death};
use super::{Tampering, TestBed, bus_of, holds_all, is_soak, lines_at, lines_of, mirror, open, plan};

type Case<B> = fn(&mut B) -> String;

pub(crate) fn all<B: TestBed>() -> [(&'static str, Case<B>); 15] {
    [
        ("first fill", first_fill),
        ("catch-up", catches_up),
        ("nothing to do", nothing_to_do),
        ("every spelling, every payload", every_spelling),
        ("a concurrent writer", concurrent_writer),
        ("killed at every batch boundary", killed_at_boundaries),
        ("killed in the middle of a batch", killed_in_the_middle),
        ("the destination goes down and returns", server_restarts),
        ("another chain is refused", refuses_forks),
        ("a log shorter than the mirror is refused", refuses_shorter_logs),
        ("a log whose beginning was retired", continues_after_a_retirement),
        ("several mirrors of one bus", racing_mirrors),
        ("many buses", many_buses),
        ("restored byte for byte", restores_exact_bytes),
        ("tampering is found", detects_tampering),
    ]
}

/// Cancels the follower threads when a case ends, even if it panics. Otherwise their scope would
/// wait forever.
struct CancelOnDrop<'a>(&'a CancelHandle);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn first_fill<B: TestBed>(bed: &mut B) -> String {
    let (log, url) = (Log::of(3000), bed.destination());
    let report = mirror(log.path(), &url, 700).unwrap();
    assert_eq!((report.mirrored, report.events, report.lag(), report.away), (Some(3000), 3000, 0, None));
    assert_eq!(report.bus, Some(bus_of(log.path())));
    holds_all(log.path(), &url);
    "3000 events".to_owned()
}

fn catches_up<B: TestBed>(bed: &mut B) -> String {
    let (log, url) = (Log::of(1), bed.destination());
    mirror(log.path(), &url, 7).unwrap();
    let mut events = 1;
    for added in [1, 2, 6, 7, 8, 100] {
        log.append(events + 1, events + added, "later");
        events += added;
        assert_eq!(mirror(log.path(), &url, 7).unwrap().mirrored, Some(events));
        holds_all(log.path(), &url);
    }
    format!("{events} events in 7 runs")
}

fn nothing_to_do<B: TestBed>(bed: &mut B) -> String {
    let url = bed.destination();
    let report = mirror(Log::empty().path(), &url, 7).unwrap();
    assert_eq!((report.bus, report.mirrored), (None, None));
    let log = Log::of(20);
    mirror(log.path(), &url, 7).unwrap();
    for _ in 0..3 {
        let mut reports = 0;
        let report =
            catch_up(log.path(), &mut *open(&url), &plan(7), &CancelHandle::default(), &mut |_| reports += 1)
                .unwrap();
        assert_eq!((report.mirrored, reports), (Some(20), 1));
    }
    holds_all(log.path(), &url);
    "3 runs".to_owned()
}

/// Lines are stored exactly as in the log, even if the database cannot represent the payload.
fn every_spelling<B: TestBed>(bed: &mut B) -> String {
    let url = bed.destination();
    let mut logs: Vec<Log> = recorded().iter().map(|log| Log::copy_of(log)).collect();
    logs.push(Log::of(500));
    // Several recorded logs spell one bus differently; spelling does not change the checksums.
    for log in &logs {
        mirror(log.path(), &url, 7).unwrap();
    }
    let mut lines = BTreeSet::new();
    for log in &logs {
        let fresh = bed.destination();
        mirror(log.path(), &fresh, 7).unwrap();
        holds_all(log.path(), &fresh);
        lines.extend(lines_of(log.path()));
    }
    format!("{} different lines", lines.len())
}

fn concurrent_writer<B: TestBed>(bed: &mut B) -> String {
    const EVENTS: u64 = 2000;
    let (log, url) = (Log::empty(), bed.destination());
    let (reports, reported) = mpsc::channel();
    let stop = CancelHandle::default();
    thread::scope(|scope| {
        let _cancel = CancelOnDrop(&stop);
        let follower = scope.spawn(|| {
            let plan = CatchUpOptions { follow: true, ..plan(64) };
            let mut last = None;
            catch_up(log.path(), &mut *open(&url), &plan, &stop, &mut |report| {
                assert!(report.mirrored >= last, "`mirrored` never decreases");
                last = report.mirrored;
                reports.send(report.clone()).unwrap();
            })
        });
        let mut events = 0;
        for added in (1..=20).cycle() {
            let to = EVENTS.min(events + added);
            log.append(events + 1, to, "meanwhile");
            events = to;
            if events == EVENTS {
                break;
            }
        }
        reported.iter().find(|report| report.mirrored == Some(EVENTS)).unwrap();
        stop.cancel();
        assert_eq!(follower.join().unwrap().unwrap().mirrored, Some(EVENTS));
    });
    holds_all(log.path(), &url);
    format!("{EVENTS} events")
}

fn killed_at_boundaries<B: TestBed>(bed: &mut B) -> String {
    let log = Log::of(30);
    let mut kills = 0;
    // The first and the last boundary, or every one.
    let boundaries = if is_soak() { vec![1, 2, 3, 4, 5, 6] } else { vec![1, 6] };
    for n in boundaries {
        for death in [Death::Before(n), Death::After(n)] {
            let url = bed.destination();
            process::run(log.path(), &url, 5, death);
            let held = open(&url).head(bus_of(log.path())).unwrap().index;
            let batches = if matches!(death, Death::Before(_)) { n - 1 } else { n };
            assert_eq!(held, u64::from(batches) * 5, "{death:?}");
            process::run(log.path(), &url, 5, Death::Never);
            holds_all(log.path(), &url);
            kills += 1;
        }
    }
    format!("{kills} kills")
}

fn killed_in_the_middle<B: TestBed>(bed: &mut B) -> String {
    let log = Log::of(4000);
    let (mut kills, mut unfinished) = (0, 0);
    for n in 1..=2 {
        for step in (0..10).step_by(if is_soak() { 1 } else { 4 }) {
            let url = bed.destination();
            process::run(log.path(), &url, 2000, Death::During(n, Duration::from_millis(step * 3)));
            let held = open(&url).head(bus_of(log.path())).unwrap().index;
            unfinished += usize::from(held < u64::from(n) * 2000);
            if held > 0 {
                // A server may still store what the process sent before it was killed.
                assert!(lines_at(&url, bus_of(log.path())).len() as u64 >= held);
            }
            process::run(log.path(), &url, 2000, Death::Never);
            holds_all(log.path(), &url);
            kills += 1;
        }
    }
    format!("{kills} kills, {unfinished} before the batch was stored")
}

fn server_restarts<B: TestBed>(bed: &mut B) -> String {
    let (log, url) = (Log::of(10), bed.destination());
    if bed.server().is_none() {
        return "no server".to_owned();
    }
    bed.server().unwrap().kill();
    // Without `follow`, the mirror gives up after a number of tries.
    let three_tries = CatchUpOptions { tries: 3, ..plan(5) };
    let mut tries = 0;
    let outcome =
        catch_up(log.path(), &mut *open(&url), &three_tries, &CancelHandle::default(), &mut |report| {
            tries += usize::from(report.away.is_some());
        });
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    assert_eq!(tries, 2);
    // With `follow`, it never gives up.
    let (reports, reported) = mpsc::channel();
    let stop = CancelHandle::default();
    let mut events = 10;
    thread::scope(|scope| {
        let _cancel = CancelOnDrop(&stop);
        let follower = scope.spawn(|| {
            let forever = CatchUpOptions { follow: true, wait_max: Duration::from_secs(1), ..plan(5) };
            catch_up(log.path(), &mut *open(&url), &forever, &stop, &mut |report| {
                reports.send(report.clone()).unwrap();
            })
        });
        for _ in 0..3 {
            reported.iter().find(|report| report.away.is_some()).unwrap();
            log.append(events + 1, events + 40, "while the server is down");
            events += 40;
            bed.server().unwrap().start();
            reported.iter().find(|report| report.mirrored == Some(events) && report.away.is_none()).unwrap();
            // The server goes down both while the mirror is idle and while it sends.
            bed.server().unwrap().kill();
            log.append(events + 1, events + 40, "when the server goes down");
            events += 40;
        }
        bed.server().unwrap().start();
        reported.iter().find(|report| report.mirrored == Some(events)).unwrap();
        stop.cancel();
        follower.join().unwrap().unwrap();
    });
    holds_all(log.path(), &url);
    format!("{events} events, 4 kills of the server")
}

fn refuses_forks<B: TestBed>(bed: &mut B) -> String {
    let mut refused = 0;
    // Common events, then the number of events of each side after them.
    for (common, ours, theirs) in [(1, 1, 1), (1, 40, 40), (13, 1, 30), (20, 30, 1), (39, 5, 5), (64, 9, 64)]
    {
        let (log, url) = (Log::of(common), bed.destination());
        let other = log.copy();
        log.append(common + 1, common + ours, "ours");
        other.append(common + 1, common + theirs, "theirs");
        mirror(other.path(), &url, 7).unwrap();
        match mirror(log.path(), &url, 7) {
            Err(Error::Fork { bus, index, .. }) => {
                assert_eq!((bus, index), (bus_of(log.path()), common + 1));
            }
            other => panic!("{other:?}"),
        }
        holds_all(other.path(), &url);
        refused += 1;
    }
    format!("{refused} forks, each with its first event")
}

fn refuses_shorter_logs<B: TestBed>(bed: &mut B) -> String {
    let (log, url) = (Log::of(1), bed.destination());
    let mut copies = Vec::new();
    for to in [5, 20, 39] {
        copies.push((log.copy(), Reader::open(log.path()).unwrap().head().unwrap().index));
        log.append(copies.last().unwrap().1 + 1, to, "more");
    }
    mirror(log.path(), &url, 7).unwrap();
    for (copy, events_in_copy) in &copies {
        match mirror(copy.path(), &url, 7) {
            Err(Error::LogShorter { mirrored, events, .. }) => {
                assert_eq!((mirrored, events), (39, *events_in_copy))
            }
            other => panic!("{other:?}"),
        }
    }
    holds_all(log.path(), &url);
    format!("{} copies", copies.len())
}

/// A mirror that has the retired events is not ahead, and goes on. One that lacks some of them, or
/// holds another chain, is refused.
fn continues_after_a_retirement<B: TestBed>(bed: &mut B) -> String {
    let (log, [url, short, forked, new]) = (Log::of(20), [(); 4].map(|()| bed.destination()));
    let bus = bus_of(log.path());
    mirror(log.path(), &short, 7).unwrap();
    let other = log.copy();
    other.append(21, 60, "another");
    mirror(other.path(), &forked, 7).unwrap();
    log.append(21, 60, "more");
    mirror(log.path(), &url, 7).unwrap();
    let backup = log.copy();
    let mut lines = lines_of(log.path());
    log.retire(40);
    for (mirrored, added) in [(61, 0), (64, 3), (64, 0)] {
        if added > 0 {
            log.append(mirrored - added + 1, mirrored, "later");
        }
        let report = mirror(log.path(), &url, 7).unwrap();
        assert_eq!((report.mirrored, report.events, report.bus), (Some(mirrored), mirrored, Some(bus)));
    }
    let mut held = Reader::open(log.path()).unwrap().events(61).unwrap();
    lines.extend(std::iter::from_fn(|| held.next_with_line().unwrap()).map(|(_, line)| line));
    assert!(lines_at(&url, bus) == lines);
    for (url, has) in [(&short, 20), (&new, 0)] {
        match mirror(log.path(), url, 7) {
            Err(Error::BehindRetired { mirrored, retired, .. }) => {
                assert_eq!((mirrored, retired.first_held()), (has, 41));
            }
            other => panic!("{other:?}"),
        }
        // The copy has what it lacks.
        mirror(backup.path(), url, 7).unwrap();
        mirror(log.path(), url, 7).unwrap();
        assert!(lines_at(url, bus) == lines);
    }
    match mirror(log.path(), &forked, 7) {
        Err(Error::Fork { index: 40, .. }) => {}
        other => panic!("{other:?}"),
    }
    "3 runs, 3 refusals".to_owned()
}

fn racing_mirrors<B: TestBed>(bed: &mut B) -> String {
    let (log, url) = (Log::of(600), bed.destination());
    let mirrors: Vec<_> = (0..3).map(|_| process::start(log.path(), &url, 5, Death::Never)).collect();
    for mirror in mirrors {
        let ended = mirror.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
    }
    holds_all(log.path(), &url);
    // Two threads that follow a writer.
    let (log, url) = (Log::of(1), bed.destination());
    let (reports, reported) = mpsc::channel();
    let stop = CancelHandle::default();
    thread::scope(|scope| {
        let _cancel = CancelOnDrop(&stop);
        for _ in 0..2 {
            let (reports, log, url, stop) = (reports.clone(), &log, &url, &stop);
            scope.spawn(move || {
                let plan = CatchUpOptions { follow: true, ..plan(5) };
                let mut report =
                    |report: &zero_mirror::CatchUpReport| reports.send(report.mirrored.unwrap()).unwrap();
                catch_up(log.path(), &mut *open(url), &plan, stop, &mut report).unwrap();
            });
        }
        for n in 0..100 {
            log.append(2 + n * 4, 5 + n * 4, "racing");
        }
        reported.iter().find(|mirrored| *mirrored == 401).unwrap();
        stop.cancel();
    });
    holds_all(log.path(), &url);
    "600 events by 3 processes, 401 by 2 threads".to_owned()
}

fn many_buses<B: TestBed>(bed: &mut B) -> String {
    let url = bed.destination();
    let buses = if is_soak() { 100 } else { 20 };
    let logs: Vec<Log> = (1..=buses).map(|n| Log::of(n % 7 + 1)).collect();
    for log in &logs {
        mirror(log.path(), &url, 3).unwrap();
    }
    for (log, n) in logs.iter().zip(1..) {
        log.append(n % 7 + 2, n % 7 + 4, "once more");
        mirror(log.path(), &url, 3).unwrap();
    }
    let mut buses: Vec<_> = logs.iter().map(|log| bus_of(log.path())).collect();
    buses.sort_by_key(|bus| *bus.as_bytes());
    assert_eq!(open(&url).buses().unwrap(), buses);
    for (log, bus) in logs.iter().map(|log| (log, bus_of(log.path()))) {
        holds_all(log.path(), &url);
        let name = bus.to_string();
        for id in [&name[..], &name[7..], &name[..40], &name[7..40]] {
            assert_eq!(select_bus(&mut *open(&url), Some(id)).unwrap(), bus);
        }
    }
    for id in [None, Some(""), Some("sha256:"), Some("x")] {
        assert!(matches!(select_bus(&mut *open(&url), id), Err(Error::Refused { .. })), "{id:?}");
    }
    format!("{} buses", logs.len())
}

fn restores_exact_bytes<B: TestBed>(bed: &mut B) -> String {
    let url = bed.destination();
    let mut logs: Vec<Log> =
        recorded().iter().take(3).map(|log| Log::copy_of(log)).chain([Log::of(500)]).collect();
    // Another spelling of a bus has the same id, so a destination takes only one of them.
    logs.remove(1);
    for log in &logs {
        mirror(log.path(), &url, 100).unwrap();
    }
    for log in &logs {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("new/bus");
        let head = restore(&mut *open(&url), bus_of(log.path()), &directory, &mut |_| {}).unwrap();
        assert_eq!(head, Reader::open(log.path()).unwrap().head().unwrap());
        assert_eq!(
            fs::read(directory.join("events.jsonl")).unwrap(),
            fs::read(log.path().join("events.jsonl")).unwrap()
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        // A restored log can be appended to and mirrored again.
        let again = restore(&mut *open(&url), bus_of(log.path()), &directory, &mut |_| {});
        assert!(matches!(again, Err(Error::Refused { .. })));
        let copy = Log::copy_of(&directory);
        copy.append(head.index + 1, head.index + 5, "restored");
        mirror(copy.path(), &url, 100).unwrap();
        holds_all(copy.path(), &url);
    }
    format!("{} buses", logs.len())
}

fn detects_tampering<B: TestBed>(bed: &mut B) -> String {
    let log = Log::of(40);
    let bus = bus_of(log.path());
    let lines = lines_of(log.path());
    let mutated = lines[11].replace("BTC", "ETH");
    let mut rewritten = Event::read_alone(lines[11].as_bytes(), 12).unwrap();
    rewritten.as_of += 1.0;
    assert_ne!(mutated, lines[11]);
    // Each with the first event that is invalid as a result.
    let tamperings = [
        (Tampering::Line(12, mutated), 12),
        // The checksum matches the new line, so the chain breaks at the next event.
        (Tampering::Line(12, rewritten.line()), 13),
        (Tampering::Line(12, String::new()), 12),
        (Tampering::Line(40, lines[38].clone()), 40),
        (Tampering::Delete(1), 1),
        (Tampering::Delete(12), 12),
        (Tampering::Delete(40), 40),
        (Tampering::Swap(12, 13), 12),
        (Tampering::Swap(1, 40), 1),
    ];
    let mut detected = 0;
    for (tampering, first_invalid) in &tamperings {
        let url = bed.destination();
        mirror(log.path(), &url, 7).unwrap();
        if !bed.tamper(&url, bus, tampering) {
            continue;
        }
        let mut valid = 0;
        let scanned = scan(&mut *open(&url), bus, |event, _, _| {
            valid = event.index;
            Ok(())
        });
        match scanned {
            Err(Error::Corrupt { index, .. }) => {
                assert!(valid < index && index <= *first_invalid, "{tampering:?}: {index}, {valid} valid");
            }
            other => panic!("{tampering:?}: {other:?}"),
        }
        let directory = tempfile::tempdir().unwrap();
        let restored = restore(&mut *open(&url), bus, directory.path(), &mut |_| {});
        assert!(matches!(restored, Err(Error::Corrupt { .. })), "{tampering:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a failed restore leaves no file");
        detected += 1;
    }
    format!("{detected} of {} ways", tamperings.len())
}
