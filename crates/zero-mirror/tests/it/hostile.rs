//! Destinations that lie, that are away, and that say one thing and do another.

use std::time::Duration;

use crate::contract::logs::Log;
use crate::contract::{bus_of, lines_of};
use zero_bus::{Checksum, Event, Head, MAX_LINE_BYTES};
use zero_mirror::{
    CancelHandle, CatchUpOptions, Error, Mirror, Record, Result, RetryReads, catch_up, restore, scan,
    select_bus,
};

/// What is answered about a log's lines from an index on.
type Answer = fn(&[String], u64) -> Vec<(u64, String)>;

/// A destination that gives the answers it was told to.
struct Liar {
    head: Head,
    lines: Answer,
    log: Vec<String>,
    /// What it answers to a batch.
    take: fn() -> Result<()>,
    asked: u32,
}

impl Liar {
    fn about(log: &Log, lines: Answer) -> Self {
        let log = lines_of(log.path());
        let head = Event::read_alone(log.last().unwrap().as_bytes(), log.len() as u64).unwrap().head();
        Self { head, lines, log, take: || Ok(()), asked: 0 }
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
        self.asked += 1;
        Ok(self.head)
    }

    fn append(&mut self, _: Checksum, _: Head, _: &[Record]) -> Result<()> {
        (self.take)()
    }

    fn lines(&mut self, _: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        Ok((self.lines)(&self.log, from))
    }
}

/// The truth, three lines a page.
fn truth(log: &[String], from: u64) -> Vec<(u64, String)> {
    (from..).zip(log.iter().skip(from as usize - 1).cloned()).take(3).collect()
}

/// A name, the lie, and the first event that is wrong.
type Lie = (&'static str, Answer, u64);

const LIES: [Lie; 8] = [
    ("the same page for ever", |log, _| truth(log, 1), 4),
    ("an index that is not its line's", |log, from| truth(log, from.max(2) - 1).split_off(1), 1),
    (
        "events of another place",
        |log, from| (from..).zip(truth(log, 4).into_iter().map(|(_, line)| line)).collect(),
        1,
    ),
    ("nothing", |_, _| Vec::new(), 1),
    ("an end too early", |log, from| if from > 6 { Vec::new() } else { truth(log, from) }, 7),
    ("a line without end", |_, from| vec![(from, "x".repeat(MAX_LINE_BYTES + 1))], 1),
    ("what is no event", |_, from| vec![(from, "{}".to_owned())], 1),
    ("indexes at the end of numbers", |log, _| vec![(u64::MAX, log[0].clone())], 1),
];

#[test]
fn a_lie_is_found_and_nothing_is_restored_from_it() {
    let log = Log::of(9);
    let bus = bus_of(log.path());
    assert_eq!(scan(&mut Liar::about(&log, truth), bus, |_, _, _| Ok::<(), Error>(())).unwrap().index, 9);
    for (name, lie, wrong) in LIES {
        let walked = scan(&mut Liar::about(&log, lie), bus, |_, _, _| Ok::<(), Error>(()));
        assert!(matches!(walked, Err(Error::Corrupt { index, .. }) if index == wrong), "{name}: {walked:?}");
        let directory = tempfile::tempdir().unwrap();
        let restored = restore(&mut Liar::about(&log, lie), bus, directory.path(), &mut |_| {});
        assert!(matches!(restored, Err(Error::Corrupt { .. })), "{name}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    // A sound chain that goes on behind what the destination says it holds, or that is another bus's.
    let mut more = Liar::about(&log, truth);
    more.head = Event::read_alone(more.log[4].as_bytes(), 5).unwrap().head();
    let walked = scan(&mut more, bus, |_, _, _| Ok::<(), Error>(()));
    assert!(matches!(walked, Err(Error::Corrupt { index: 6, .. })), "{walked:?}");
    let walked = scan(&mut Liar::about(&log, truth), Checksum::of(b"another"), |_, _, _| Ok::<(), Error>(()));
    assert!(matches!(walked, Err(Error::Corrupt { index: 1, .. })), "{walked:?}");
}

/// The place where two chains part is asked of the destination, so it may lie about that too.
#[test]
fn a_lie_about_a_fork_ends_too() {
    let log = Log::of(4);
    let other = log.copy();
    log.append(5, 9, "ours");
    other.append(5, 9, "theirs");
    for (name, lie, _) in LIES {
        let error = go(&log, &mut Liar::about(&other, lie), false).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. } | Error::Fork { .. }), "{name}: {error:?}");
    }
    // A cursor that names an event which is not there.
    let mut liar = Liar::about(&log, truth);
    liar.head.checksum = Some(Checksum::of(b"none"));
    assert!(matches!(go(&log, &mut liar, false), Err(Error::Corrupt { index: 9, .. })));
    liar.head = Head { index: u64::MAX, checksum: None };
    assert!(matches!(
        go(&log, &mut liar, false),
        Err(Error::LogShorter { mirrored: u64::MAX, events: 9, .. })
    ));
}

fn go(log: &Log, mirror: &mut Liar, follow: bool) -> Result<u64> {
    let waits = Duration::from_micros(100);
    let plan = CatchUpOptions { follow, wait_min: waits, wait_max: waits, ..CatchUpOptions::default() };
    catch_up(log.path(), mirror, &plan, &CancelHandle::default(), &mut |_| {}).map(|report| report.mirrored)
}

/// It is asked as often as the plan says, and no more.
#[test]
fn one_that_is_away_or_never_takes_anything_is_given_up() {
    let log = Log::of(9);
    let away =
        || Error::Unavailable { destination: "liar".into(), action: "connect", source: "it is away".into() };
    let mut liar = Liar::about(&log, truth);
    (liar.head, liar.take) = (Head::default(), || {
        Err(Error::Unavailable { destination: "liar".into(), action: "write", source: "it is away".into() })
    });
    let given_up = go(&log, &mut liar, false).unwrap_err();
    assert_eq!((given_up.to_string(), liar.asked), ("liar: cannot write: it is away".to_owned(), 8));
    assert_eq!(away().to_string(), "liar: cannot connect: it is away");
    // One that says that it stands elsewhere, and where it was.
    liar = Liar::about(&log, truth);
    (liar.head, liar.take) = (Head::default(), || Err(Error::CursorMoved { destination: "liar".into() }));
    assert!(matches!(go(&log, &mut liar, false), Err(Error::CursorMoved { .. })));
    assert_eq!(liar.asked, 9);
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

/// With `follow` it is not given up, and a wait ends at once when it is asked to.
#[test]
fn a_follower_waits_until_it_is_stopped() {
    let log = Log::of(9);
    let mut liar = Liar::about(&log, truth);
    (liar.head, liar.take) = (Head::default(), || {
        Err(Error::Unavailable { destination: "liar".into(), action: "write", source: "it is away".into() })
    });
    let for_ever = Duration::from_secs(1 << 40);
    let plan =
        CatchUpOptions { follow: true, wait_min: for_ever, wait_max: for_ever, ..CatchUpOptions::default() };
    let stop = CancelHandle::default();
    let last = catch_up(log.path(), &mut liar, &plan, &stop, &mut |report| {
        assert_eq!(report.away.as_deref(), Some("liar: cannot write: it is away"));
        stop.cancel();
    });
    assert_eq!((last.unwrap().mirrored, liar.asked), (0, 1));
}

/// What is in a log but not durable yet is not there for a reader, so it is not mirrored; nor is anything behind damage.
#[test]
fn only_what_a_reader_may_give_out_is_mirrored() {
    let log = Log::of(20);
    let mut text = std::fs::read_to_string(log.path().join("events.jsonl")).unwrap();
    let whole = text.clone();
    let record =
        |take: &mut Vec<u64>, batch: &[Record]| take.extend(batch.iter().map(|record| record.event.index));
    let mut taken = Vec::new();
    let mut keeper = Keeper { taken: &mut taken, record };
    // A torn end is left out, and the rest is there.
    text += &whole.lines().last().unwrap()[..50];
    std::fs::write(log.path().join("events.jsonl"), &text).unwrap();
    let plan = crate::contract::plan(7);
    let report = catch_up(log.path(), &mut keeper, &plan, &CancelHandle::default(), &mut |_| {}).unwrap();
    assert_eq!((report.mirrored, report.lag()), (20, 0));
    assert_eq!(taken, (1..=20).collect::<Vec<_>>());
    // Damage is told, when what is before it has been mirrored.
    let damaged = Log::empty();
    std::fs::write(
        damaged.path().join("events.jsonl"),
        whole.replacen("\"number\":\"13\"", "\"number\":\"14\"", 1),
    )
    .unwrap();
    let mut taken = Vec::new();
    let mut keeper = Keeper { taken: &mut taken, record };
    let error =
        catch_up(damaged.path(), &mut keeper, &plan, &CancelHandle::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Bus(zero_bus::Error::Damaged { .. })), "{error:?}");
    assert_eq!(taken, (1..=12).collect::<Vec<_>>());
}

/// A destination that takes everything.
struct Keeper<'a> {
    taken: &'a mut Vec<u64>,
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
        (self.record)(self.taken, batch);
        Ok(())
    }

    fn lines(&mut self, _: Checksum, _: u64) -> Result<Vec<(u64, String)>> {
        Ok(Vec::new())
    }
}
