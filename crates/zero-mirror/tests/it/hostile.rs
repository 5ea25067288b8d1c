//! Destinations that return false answers, are unavailable, or do not do what they report.

use std::time::Duration;

use crate::contract::logs::Log;
use crate::contract::{bus_of, lines_of};
use zero_bus::{Checksum, Event, Head, MAX_LINE_BYTES};
use zero_mirror::{
    CancelHandle, CatchUpOptions, Error, Mirror, Record, Result, RetryReads, catch_up, restore, scan,
    select_bus,
};

/// Returns a page of a log's lines, starting at an index.
type Answer = fn(&[String], u64) -> Vec<(u64, String)>;

/// A destination that returns configured answers.
struct Liar {
    head: Head,
    lines: Answer,
    log: Vec<String>,
    /// The result of each append.
    append_result: fn() -> Result<()>,
    head_calls: u32,
}

impl Liar {
    fn about(log: &Log, lines: Answer) -> Self {
        let log = lines_of(log.path());
        let head = Event::read_alone(log.last().unwrap().as_bytes(), log.len() as u64).unwrap().head();
        Self { head, lines, log, append_result: || Ok(()), head_calls: 0 }
    }
}

impl Mirror for Liar {
    fn name(&self) -> String {
        "liar".to_owned()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        Ok(Vec::new())
    }

    fn head(&mut self, _: Checksum) -> Result<Head> {
        self.head_calls += 1;
        Ok(self.head)
    }

    fn append(&mut self, _: Checksum, _: Head, _: &[Record]) -> Result<()> {
        (self.append_result)()
    }

    fn lines(&mut self, _: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        Ok((self.lines)(&self.log, from))
    }
}

/// The true lines, three on a page.
fn truth(log: &[String], from: u64) -> Vec<(u64, String)> {
    (from..).zip(log.iter().skip(from as usize - 1).cloned()).take(3).collect()
}

/// A name, the false answer, and the first event that is reported.
type Lie = (&'static str, Answer, u64);

const LIES: [Lie; 8] = [
    ("the same page forever", |log, _| truth(log, 1), 4),
    ("an index that differs from its line", |log, from| truth(log, from.max(2) - 1).split_off(1), 1),
    (
        "the lines of other indexes",
        |log, from| (from..).zip(truth(log, 4).into_iter().map(|(_, line)| line)).collect(),
        1,
    ),
    ("no lines", |_, _| Vec::new(), 1),
    ("an early end", |log, from| if from > 6 { Vec::new() } else { truth(log, from) }, 7),
    ("a line that is too long", |_, from| vec![(from, "x".repeat(MAX_LINE_BYTES + 1))], 1),
    ("a line that is not an event", |_, from| vec![(from, "{}".to_owned())], 1),
    ("the largest index", |log, _| vec![(u64::MAX, log[0].clone())], 1),
];

#[test]
fn a_false_answer_is_detected_and_nothing_is_restored() {
    let log = Log::of(9);
    let bus = bus_of(log.path());
    assert_eq!(scan(&mut Liar::about(&log, truth), bus, |_, _, _| Ok::<(), Error>(())).unwrap().index, 9);
    for (name, answer, first_invalid) in LIES {
        let scanned = scan(&mut Liar::about(&log, answer), bus, |_, _, _| Ok::<(), Error>(()));
        assert!(
            matches!(scanned, Err(Error::Corrupt { index, .. }) if index == first_invalid),
            "{name}: {scanned:?}"
        );
        let directory = tempfile::tempdir().unwrap();
        let restored = restore(&mut Liar::about(&log, answer), bus, directory.path(), &mut |_| {});
        assert!(matches!(restored, Err(Error::Corrupt { .. })), "{name}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    // A valid chain that continues after the destination's head, or belongs to another bus.
    let mut more = Liar::about(&log, truth);
    more.head = Event::read_alone(more.log[4].as_bytes(), 5).unwrap().head();
    let scanned = scan(&mut more, bus, |_, _, _| Ok::<(), Error>(()));
    assert!(matches!(scanned, Err(Error::Corrupt { index: 6, .. })), "{scanned:?}");
    let scanned =
        scan(&mut Liar::about(&log, truth), Checksum::of(b"another"), |_, _, _| Ok::<(), Error>(()));
    assert!(matches!(scanned, Err(Error::Corrupt { index: 1, .. })), "{scanned:?}");
}

/// The bisection for the first event that differs reads from the destination.
#[test]
fn a_false_answer_about_a_fork_ends_in_an_error() {
    let log = Log::of(4);
    let other = log.copy();
    log.append(5, 9, "ours");
    other.append(5, 9, "theirs");
    for (name, answer, _) in LIES {
        let error = run_catch_up(&log, &mut Liar::about(&other, answer), false).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. } | Error::Fork { .. }), "{name}: {error:?}");
    }
    // A cursor that names an event which the destination does not have.
    let mut liar = Liar::about(&log, truth);
    liar.head.checksum = Some(Checksum::of(b"none"));
    assert!(matches!(run_catch_up(&log, &mut liar, false), Err(Error::Corrupt { index: 9, .. })));
    liar.head = Head { index: u64::MAX, checksum: None };
    assert!(matches!(
        run_catch_up(&log, &mut liar, false),
        Err(Error::LogShorter { mirrored: u64::MAX, events: 9, .. })
    ));
}

fn run_catch_up(log: &Log, mirror: &mut Liar, follow: bool) -> Result<u64> {
    let wait = Duration::from_micros(100);
    let plan = CatchUpOptions { follow, wait_min: wait, wait_max: wait, ..CatchUpOptions::default() };
    catch_up(log.path(), mirror, &plan, &CancelHandle::default(), &mut |_| {}).map(|report| report.mirrored.unwrap())
}

/// The number of tries is the one that the options name.
#[test]
fn catch_up_gives_up_after_its_number_of_tries() {
    let log = Log::of(9);
    let unavailable =
        || Error::Unavailable { destination: "liar".into(), action: "connect", source: "it is down".into() };
    let mut liar = Liar::about(&log, truth);
    (liar.head, liar.append_result) = (Head::default(), || {
        Err(Error::Unavailable { destination: "liar".into(), action: "write", source: "it is down".into() })
    });
    let error = run_catch_up(&log, &mut liar, false).unwrap_err();
    assert_eq!((error.to_string(), liar.head_calls), ("liar: cannot write: it is down".to_owned(), 8));
    assert_eq!(unavailable().to_string(), "liar: cannot connect: it is down");
    // A destination that reports a moved cursor, but whose head has not changed.
    liar = Liar::about(&log, truth);
    (liar.head, liar.append_result) =
        (Head::default(), || Err(Error::CursorMoved { destination: "liar".into() }));
    assert!(matches!(run_catch_up(&log, &mut liar, false), Err(Error::CursorMoved { .. })));
    assert_eq!(liar.head_calls, 9);
}

/// A destination whose calls fail a number of times before each answer.
struct Flaky {
    log: Vec<String>,
    head: Head,
    failures: u32,
    failed: u32,
}

impl Flaky {
    fn of(log: &Log, failures: u32) -> Box<dyn Mirror> {
        let Liar { head, log, .. } = Liar::about(log, truth);
        Box::new(Self { log, head, failures, failed: 0 })
    }

    fn fail<T>(&mut self, answer: T) -> Result<T> {
        if self.failed < self.failures {
            self.failed += 1;
            return Err(Error::unavailable("flaky", "read it", "it is away"));
        }
        self.failed = 0;
        Ok(answer)
    }
}

impl Mirror for Flaky {
    fn name(&self) -> String {
        "flaky".to_owned()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        let first = Event::read_alone(self.log[0].as_bytes(), 1).unwrap().checksum;
        self.fail(vec![first])
    }

    fn head(&mut self, _: Checksum) -> Result<Head> {
        self.fail(self.head)
    }

    fn append(&mut self, _: Checksum, _: Head, _: &[Record]) -> Result<()> {
        self.fail(())
    }

    fn lines(&mut self, _: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        self.fail(truth(&self.log, from))
    }

    fn first_mismatch(&mut self, _: Checksum, _: &[Event]) -> Result<Option<(u64, &'static str)>> {
        self.fail(None)
    }
}

#[test]
fn reading_calls_are_retried_while_a_destination_is_unavailable() {
    let log = Log::of(9);
    let waits = Duration::from_micros(100);
    let plan = CatchUpOptions { wait_min: waits, wait_max: waits, tries: 3, ..CatchUpOptions::default() };
    let mut reported = 0;
    let mut mirror = RetryReads::new(Flaky::of(&log, 2), plan.clone(), |error: &Error| {
        assert_eq!(error.to_string(), "flaky: cannot read it: it is away");
        reported += 1;
    });
    let bus = select_bus(&mut mirror, None).unwrap();
    assert_eq!(bus, bus_of(log.path()));
    assert_eq!(zero_mirror::verify(&mut mirror, bus, |_, _, _| Ok::<(), Error>(())).unwrap().index, 9);
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(restore(&mut mirror, bus, directory.path(), &mut |_| {}).unwrap().index, 9);
    // Only the cursor tells what an append that failed has stored.
    assert!(matches!(mirror.append(bus, Head::default(), &[]), Err(Error::Unavailable { .. })));
    drop(mirror);
    assert!(reported > 5, "{reported}");
    let mut mirror = RetryReads::new(Flaky::of(&log, 3), plan, |_: &Error| {});
    assert!(matches!(mirror.head(bus), Err(Error::Unavailable { .. })));
}

/// With `follow` the number of tries is not limited, and a cancellation ends a wait at once.
#[test]
fn following_waits_until_it_is_cancelled() {
    let log = Log::of(9);
    let mut liar = Liar::about(&log, truth);
    (liar.head, liar.append_result) = (Head::default(), || {
        Err(Error::Unavailable { destination: "liar".into(), action: "write", source: "it is down".into() })
    });
    let forever = Duration::from_secs(1 << 40);
    let plan =
        CatchUpOptions { follow: true, wait_min: forever, wait_max: forever, ..CatchUpOptions::default() };
    let stop = CancelHandle::default();
    let report = catch_up(log.path(), &mut liar, &plan, &stop, &mut |report| {
        assert_eq!(report.away.as_deref(), Some("liar: cannot write: it is down"));
        stop.cancel();
    });
    assert_eq!((report.unwrap().mirrored, liar.head_calls), (Some(0), 1));
}

/// A mirror receives what a reader returns: no torn tail, and no event after damage.
#[test]
fn only_valid_events_before_a_torn_tail_or_damage_are_mirrored() {
    let log = Log::of(20);
    let mut text = std::fs::read_to_string(log.path().join("events.jsonl")).unwrap();
    let valid_log = text.clone();
    let record =
        |take: &mut Vec<u64>, batch: &[Record]| take.extend(batch.iter().map(|record| record.event.index));
    let mut indexes = Vec::new();
    let mut keeper = Keeper { indexes: &mut indexes, record };
    // A torn tail is not mirrored; every event before it is.
    text += &valid_log.lines().last().unwrap()[..50];
    std::fs::write(log.path().join("events.jsonl"), &text).unwrap();
    let plan = crate::contract::plan(7);
    let report = catch_up(log.path(), &mut keeper, &plan, &CancelHandle::default(), &mut |_| {}).unwrap();
    assert_eq!((report.mirrored, report.lag()), (Some(20), 0));
    assert_eq!(indexes, (1..=20).collect::<Vec<_>>());
    // Damage is reported after the events before it are mirrored.
    let damaged = Log::empty();
    std::fs::write(
        damaged.path().join("events.jsonl"),
        valid_log.replacen("\"number\":\"13\"", "\"number\":\"14\"", 1),
    )
    .unwrap();
    let mut indexes = Vec::new();
    let mut keeper = Keeper { indexes: &mut indexes, record };
    let error =
        catch_up(damaged.path(), &mut keeper, &plan, &CancelHandle::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Bus(zero_bus::Error::Damaged { .. })), "{error:?}");
    assert_eq!(indexes, (1..=12).collect::<Vec<_>>());
}

/// A destination that accepts every batch and records its indexes.
struct Keeper<'a> {
    indexes: &'a mut Vec<u64>,
    record: fn(&mut Vec<u64>, &[Record]),
}

impl Mirror for Keeper<'_> {
    fn name(&self) -> String {
        "keeper".to_owned()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        Ok(Vec::new())
    }

    fn head(&mut self, _: Checksum) -> Result<Head> {
        Ok(Head::default())
    }

    fn append(&mut self, _: Checksum, _: Head, batch: &[Record]) -> Result<()> {
        (self.record)(self.indexes, batch);
        Ok(())
    }

    fn lines(&mut self, _: Checksum, _: u64) -> Result<Vec<(u64, String)>> {
        Ok(Vec::new())
    }
}
