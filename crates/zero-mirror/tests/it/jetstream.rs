//! The JetStream destination against real servers: one alone, and a cluster of three whose nodes are killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::nats::{Nats, left_out, stream_of};
use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use zero_bus::{Bus, Checksum, Draft, Event, Head};
use zero_mirror::{Error, JetStream, Mirror, Record};

/// A bus of so many events, as records.
fn records(events: u64, who: &str) -> Vec<Record> {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    let kinds = ["decision.record", "fill.record", "operator note", "odd.*.>"];
    let draft = |n: u64| {
        let payload =
            BTreeMap::from([("n", n.to_string()), ("who", who.to_owned()), ("text", "x".repeat(400))]);
        Draft::new(kinds[(n % 4) as usize], 1777593600.0 + n as f64, &payload).unwrap()
    };
    let drafts: Vec<_> = (1..=events).map(draft).collect();
    let events = drafts.chunks(1000).flat_map(|drafts| bus.append_batch(drafts.to_vec()).unwrap());
    events.map(record).collect()
}

fn record(event: Event) -> Record {
    let line = event.line();
    Record { event, line }
}

/// Another chain of the same bus, which differs behind an index.
fn fork(records: &[Record], same: usize, events: u64, who: &str) -> Vec<Record> {
    let directory = tempfile::tempdir().unwrap();
    let log: String = records[..same].iter().map(|record| format!("{}\n", record.line)).collect();
    std::fs::write(directory.path().join(zero_bus::LOG), log).unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    let payload = BTreeMap::from([("who", who)]);
    let draft = Draft::new("fill.record", 1777593600.0, &payload).unwrap();
    let added = bus.append_batch(vec![draft; events as usize - same]).unwrap();
    records[..same].iter().cloned().chain(added.into_iter().map(record)).collect()
}

fn bus_of(records: &[Record]) -> Checksum {
    records[0].event.checksum
}

fn head_at(records: &[Record], index: u64) -> Head {
    let checksum = index.checked_sub(1).map(|before| records[before as usize].event.checksum);
    Head { index, checksum }
}

/// What a mirroring met on its way.
#[derive(Debug, Default)]
struct Met {
    batches: u64,
    away: BTreeMap<String, u64>,
    moved: u64,
}

/// Brings a mirror up to the records, as often as it takes. A head that is not of their chain fails the test.
fn mirror(mirror: &mut JetStream, records: &[Record], batch: usize, held: &AtomicU64, met: &mut Met) {
    let bus = bus_of(records);
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut at = None;
    loop {
        assert!(Instant::now() < deadline, "not mirrored in time: {met:?}");
        let head = at.take().map_or_else(|| mirror.head(bus), Ok);
        let index = match &head {
            Ok(head) => {
                assert_eq!(*head, head_at(records, head.index));
                held.fetch_max(head.index, SeqCst);
                head.index as usize
            }
            Err(_) => 0,
        };
        let done = head.and_then(|head| {
            let batch = &records[index..records.len().min(index + batch)];
            mirror.append(bus, head, batch).map(|()| batch.len())
        });
        match done {
            Ok(0) => return,
            Ok(taken) => {
                met.batches += 1;
                at = Some(head_at(records, (index + taken) as u64));
            }
            Err(error @ Error::Unavailable { .. }) => {
                let said = error.to_string();
                let said = said.split_once(": ").unwrap().1.to_owned();
                *met.away.entry(said).or_default() += 1;
                // As the loop that serves all destinations, this does not insist.
                thread::sleep(Duration::from_millis(100));
            }
            Err(Error::CursorMoved { .. }) => met.moved += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The same where nothing is in the way.
#[track_caller]
fn fill(there: &mut JetStream, records: &[Record], batch: usize) {
    let mut met = Met::default();
    mirror(there, records, batch, &AtomicU64::new(0), &mut met);
    assert_eq!((met.away, met.moved), (BTreeMap::new(), 0));
}

/// Asks again while the destination is away, as when it is choosing a leader.
fn patiently<T>(mut ask: impl FnMut() -> zero_mirror::Result<T>) -> T {
    for _ in 0..100 {
        match ask() {
            Err(Error::Unavailable { .. }) => thread::sleep(Duration::from_millis(100)),
            answer => return answer.unwrap(),
        }
    }
    panic!("it does not come back");
}

/// Everything a mirror holds of a bus, page by page.
fn lines(mirror: &mut JetStream, bus: Checksum) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    loop {
        let page = patiently(|| mirror.lines(bus, lines.len() as u64 + 1));
        if page.is_empty() {
            return lines;
        }
        lines.extend(page);
    }
}

/// Every event once, in its place, byte for byte.
#[track_caller]
fn assert_holds(mirror: &mut JetStream, records: &[Record]) {
    let bus = bus_of(records);
    assert_eq!(patiently(|| mirror.head(bus)), head_at(records, records.len() as u64));
    let lines = lines(mirror, bus);
    assert_eq!(lines.len(), records.len());
    for ((index, line), record) in lines.iter().zip(records) {
        assert_eq!((*index, line), (record.event.index, &record.line));
    }
}

/// Numbers that differ from run to run.
fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

#[test]
fn a_single_server_takes_a_bus_and_gives_it_back() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(3000, "ann");
    let bus = bus_of(&records);
    let mut there = JetStream::new(&nats.address("ONE")).unwrap();
    assert_eq!(there.buses().unwrap(), []);
    assert_eq!(there.head(bus).unwrap(), Head::default());
    assert_eq!(there.lines(bus, 1).unwrap(), []);
    fill(&mut there, &records[..1000], 1);
    fill(&mut there, &records, 700);
    assert_holds(&mut there, &records);
    assert_eq!(there.buses().unwrap(), [bus]);
    assert_eq!(there.lines(bus, 3000).unwrap(), [(3000, records[2999].line.clone())]);
    assert_eq!(there.lines(bus, 3001).unwrap(), []);
    // Behind another place than it stands at, nothing is taken.
    let late = there.append(bus, head_at(&records, 2000), &records[2000..2500]);
    assert!(matches!(late, Err(Error::CursorMoved { .. })), "{late:?}");
    let early = there.append(bus, head_at(&records, 3000), &[]);
    assert!(early.is_ok(), "{early:?}");
    assert_holds(&mut there, &records);
}

/// Sets a number when it is dropped.
struct AtTheEnd<'a>(&'a AtomicU64, u64);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, SeqCst);
    }
}

/// How often something is killed: a few times with every run of the tests, often where `ZERO_TEST_SOAK=1` asks for it.
fn rounds(often: u64) -> u64 {
    if std::env::var_os("ZERO_TEST_SOAK").is_some_and(|value| value == "1") { often } else { 2 }
}

/// Mirrors a growing log while nodes are killed in the middle of it, and started again.
fn killed_while_mirroring(prefix: &str, rounds: u64, victims: impl Fn(usize) -> Vec<usize> + Sync) {
    if left_out() {
        return;
    }
    let mut nats = Nats::start(3);
    let part = 4000;
    let events = rounds * part;
    let records = records(events, prefix);
    let bus = bus_of(&records);
    let stream = stream_of(prefix, bus);
    let address = nats.address(prefix);
    let held = AtomicU64::new(0);
    let log_end = AtomicU64::new(1);
    let (met, kills) = thread::scope(|scope| {
        let mirroring = scope.spawn(|| {
            let mut there = JetStream::new(&address).unwrap();
            let mut met = Met::default();
            while held.load(SeqCst) < events {
                let end = log_end.load(SeqCst);
                if held.load(SeqCst) < end {
                    mirror(&mut there, &records[..end as usize], 250, &held, &mut met);
                }
                thread::yield_now();
            }
            met
        });
        // Whatever happens here, the mirror comes to its end.
        let _released = AtTheEnd(&log_end, events);
        let mut kills = Vec::new();
        for round in 0..rounds {
            nats.wait_for("the stream to be there", |nats| nats.leader(&stream).is_some());
            let victims = victims(nats.wait_until_whole(&stream));
            // Most of the round's part is there before the kill, which comes somewhere in it, and the rest when the nodes
            // come back.
            let start = round * part;
            log_end.store(start + part * 3 / 4, SeqCst);
            let moment = start + random() % (part / 2);
            nats.wait_for("the mirror to go on", |_| held.load(SeqCst) >= moment);
            let at = held.load(SeqCst);
            for victim in &victims {
                nats.kill(*victim);
            }
            if victims.len() == 1 {
                nats.wait_for("a leader among those that are left", |nats| nats.leader(&stream).is_some());
            }
            log_end.store(start + part, SeqCst);
            for victim in &victims {
                nats.restart(*victim);
            }
            kills.push((victims, at, start + part * 3 / 4));
        }
        (mirroring.join().unwrap(), kills)
    });
    let at_work = kills.iter().filter(|(_, at, end)| at < end).count();
    assert!(at_work as u64 >= rounds / 2, "most kills met the mirror at work: {kills:?}");
    nats.wait_until_whole(&stream);
    // Each replica in turn leads, and so gives out its own copy.
    let mut led = [false; 3];
    let mut there = JetStream::new(&address).unwrap();
    while led.contains(&false) {
        let leader = nats.wait_until_whole(&stream);
        for node in 0..nats.servers() {
            assert_eq!(nats.seen(node, &stream).unwrap().held(), (events, 1, events), "node {node}");
        }
        assert_holds(&mut there, &records);
        led[leader] = true;
        if led.contains(&false) {
            nats.kill(leader);
            nats.wait_for("another leader", |nats| nats.leader(&stream).is_some());
            nats.restart(leader);
        }
    }
    println!(
        "{prefix}: {events} events, killed (nodes, at event, of the log so far) {kills:?}; {met:?}; each of 3 \
         replicas byte-equal; {} stuck replicas restarted",
        nats.stuck
    );
}

#[test]
fn a_follower_killed_while_mirroring_changes_nothing() {
    killed_while_mirroring("FOLLOWER", rounds(6), |leader| vec![(leader + 1 + (random() % 2) as usize) % 3]);
}

#[test]
fn the_leader_killed_while_mirroring_changes_nothing() {
    killed_while_mirroring("LEADER", rounds(6), |leader| vec![leader]);
}

#[test]
fn all_killed_at_once_while_mirroring_changes_nothing() {
    killed_while_mirroring("ALL", rounds(4), |_| vec![0, 1, 2]);
}

#[test]
fn two_mirrors_of_one_bus_write_it_once() {
    if left_out() {
        return;
    }
    let mut nats = Nats::start(3);
    let records = records(10_000, "two");
    let address = nats.address("RACE");
    // The stream is there before they race: while it is being made, its server leaves questions about it unanswered.
    fill(&mut JetStream::new(&address).unwrap(), &records[..1], 1);
    let racing = |batch| {
        let (address, records) = (&address, &records);
        move || {
            let mut there = JetStream::new(address).unwrap();
            let mut met = Met::default();
            mirror(&mut there, records, batch, &AtomicU64::new(0), &mut met);
            met
        }
    };
    let met = thread::scope(|scope| {
        let racers = [97, 101, 250].map(|batch| scope.spawn(racing(batch)));
        racers.map(|racer| racer.join().unwrap())
    });
    let mut there = JetStream::new(&address).unwrap();
    assert_holds(&mut there, &records);
    let stream = stream_of("RACE", bus_of(&records));
    nats.wait_until_whole(&stream);
    for node in 0..3 {
        assert_eq!(nats.seen(node, &stream).unwrap().held(), (10_000, 1, 10_000), "node {node}");
    }
    println!("three mirrors of one bus: {met:?}; 10000 events once on each of 3 replicas");
}

#[test]
fn two_chains_of_one_bus_are_told_apart() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let ours = records(400, "ann");
    let theirs = fork(&ours, 300, 400, "bob");
    let mut there = JetStream::new(&nats.address("FORK")).unwrap();
    fill(&mut there, &theirs, 100);
    // Whoever takes it for his own is told where it differs.
    let behind = head_at(&ours, 300);
    let told = there.append(bus_of(&ours), behind, &ours[300..]);
    assert!(matches!(told, Err(Error::Fork { index: 301, .. })), "{told:?}");
    assert_holds(&mut there, &theirs);
}

#[test]
fn a_hundred_buses_stand_side_by_side() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let buses: Vec<_> = (0..100).map(|number| records(20, &format!("bus {number}"))).collect();
    let mut there = JetStream::new(&nats.address("MANY")).unwrap();
    for batch in [7, 20] {
        for records in &buses {
            fill(&mut there, &records[..batch], batch);
        }
    }
    let mut expected: Vec<_> = buses.iter().map(|records| bus_of(records)).collect();
    expected.sort_by_key(|bus| *bus.as_bytes());
    assert_eq!(there.buses().unwrap(), expected);
    for records in &buses {
        assert_holds(&mut there, records);
    }
    // Another prefix is another destination, and its streams are no business of this one.
    assert_eq!(JetStream::new(&nats.address("MAN")).unwrap().buses().unwrap(), []);
}

/// What an administrator does to a server, past the mirror.
fn administrate<T>(nats: &Nats, act: impl AsyncFnOnce(jetstream::Context) -> T) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = async_nats::connect(nats.servers_of_client()).await.unwrap();
        act(jetstream::new(client)).await
    })
}

fn refusal(there: &mut JetStream, records: &[Record]) -> String {
    let said = match there.append(bus_of(records), Head::default(), records) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    if let Ok(head) = there.head(bus_of(records)) {
        assert_eq!(head, Head::default());
    }
    said
}

#[test]
fn a_stream_that_is_set_otherwise_is_refused_by_name() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(3, "ann");
    let stream = stream_of("SET", bus_of(&records));
    let mut there = JetStream::new(&nats.address("SET")).unwrap();
    fill(&mut there, &records, 3);
    let good = administrate(&nats, async |context| {
        let mut stream = context.get_stream(&stream).await.unwrap();
        stream.info().await.unwrap().config.clone()
    });
    let subjects = good.subjects.clone();
    let changes: [(&str, Config); 6] = [
        ("memory", Config { storage: StorageType::Memory, ..good.clone() }),
        ("max_age", Config { max_age: Duration::from_secs(3600), ..good.clone() }),
        ("discard policy", Config { discard: DiscardPolicy::Old, ..good.clone() }),
        ("retention", Config { retention: RetentionPolicy::Interest, ..good.clone() }),
        ("deny_delete", Config { deny_delete: false, ..good.clone() }),
        ("subjects", Config { subjects: vec![subjects[0].replace('>', "*.*")], ..good.clone() }),
    ];
    for (word, config) in changes {
        administrate(&nats, async |context| {
            context.delete_stream(&stream).await.unwrap();
            context.create_stream(config).await.unwrap();
        });
        let said = refusal(&mut JetStream::new(&nats.address("SET")).unwrap(), &records);
        assert!(said.contains(&stream) && said.contains(word), "{said}");
    }
    // Fewer replicas than are asked for.
    administrate(&nats, async |context| {
        context.delete_stream(&stream).await.unwrap();
        context.create_stream(good).await.unwrap();
    });
    let said =
        refusal(&mut JetStream::new(&format!("{}?replicas=3", nats.address("SET"))).unwrap(), &records);
    assert!(said.contains("?replicas="), "{said}");
    // Another stream has its subjects.
    administrate(&nats, async |context| {
        context.delete_stream(&stream).await.unwrap();
        let subjects = vec!["zero.>".to_owned()];
        let config = Config { name: "EVERYTHING".to_owned(), subjects, ..Config::default() };
        context.create_stream(config).await.unwrap();
    });
    let said = refusal(&mut JetStream::new(&nats.address("SET")).unwrap(), &records);
    assert!(said.contains(&stream) && said.contains(&subjects[0]), "{said}");
}

#[test]
fn an_event_that_was_deleted_is_missed() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(30, "ann");
    let bus = bus_of(&records);
    let stream = stream_of("HOLE", bus);
    let mut there = JetStream::new(&nats.address("HOLE")).unwrap();
    fill(&mut there, &records, 10);
    administrate(&nats, async |context| {
        let mut found = context.get_stream(&stream).await.unwrap();
        // As it is set, nobody deletes an event.
        found.delete_message(13).await.unwrap_err();
        let config = found.info().await.unwrap().config.clone();
        context.delete_stream(&stream).await.unwrap();
        let open = Config { deny_delete: false, ..config.clone() };
        let made = context.create_stream(open).await.unwrap();
        for record in &records {
            let subject = config.subjects[0].replace('>', "any");
            context.publish(subject, record.line.clone().into()).await.unwrap().await.unwrap();
        }
        made.delete_message(13).await.unwrap();
        context.update_stream(config).await.unwrap();
    });
    let lines = there.lines(bus, 1).unwrap();
    assert_eq!(lines.last().map(|(index, _)| *index), Some(12));
    for answer in [there.head(bus).map(|_| ()), there.lines(bus, 13).map(|_| ())] {
        match answer {
            Err(error @ Error::Corrupt { index: 13, .. }) => {
                assert!(error.to_string().ends_with("event 13 is missing"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_somebody_else_publishes_is_no_event() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(40, "ann");
    let bus = bus_of(&records);
    let mut there = JetStream::new(&nats.address("FOREIGN")).unwrap();
    fill(&mut there, &records[..20], 10);
    let subject = format!("zero.runtime.{}.fill.record", &bus.to_string()["sha256:".len()..]);
    administrate(&nats, async |context| {
        context.publish(subject, "no event".into()).await.unwrap().await.unwrap();
    });
    let moved = there.append(bus, head_at(&records, 20), &records[20..]);
    assert!(matches!(moved, Err(Error::Fork { index: 21, .. })), "{moved:?}");
    let head = there.head(bus);
    assert!(matches!(head, Err(Error::Corrupt { index: 21, .. })), "{head:?}");
}

/// What one event too many for the server does to those before it: nothing.
#[test]
fn an_event_that_is_too_long_for_the_server_is_named() {
    if left_out() {
        return;
    }
    let nats = Nats::start_with(1, "max_payload: 4096");
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    let draft = |length| Draft::new("a", 0.0, &BTreeMap::from([("text", "x".repeat(length))])).unwrap();
    let events = bus.append_batch([10, 20, 5000, 30].map(draft).to_vec()).unwrap();
    let records: Vec<_> = events.into_iter().map(record).collect();
    let mut there = JetStream::new(&nats.address("LONG")).unwrap();
    let said = match there.append(bus_of(&records), Head::default(), &records) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(said.contains("event 3 has") && said.contains("max_payload"), "{said}");
    assert_eq!(there.head(bus_of(&records)).unwrap(), head_at(&records, 2));
}

#[test]
fn a_login_is_needed_where_it_is_and_never_told() {
    if left_out() {
        return;
    }
    let nats = Nats::start_with(1, "authorization { user: ann, password: \"s3cret/&\" }");
    let records = records(3, "ann");
    let at = |login: &str| nats.address("LOGIN").replace("nats://", &format!("nats://{login}"));
    fill(&mut JetStream::new(&at("ann:s3cret%2F%26@")).unwrap(), &records, 3);
    for login in ["ann:s3cret@", "s3cret@", ""] {
        let mut there = JetStream::new(&at(login)).unwrap();
        match there.head(bus_of(&records)) {
            Err(error @ Error::Refused { .. }) => {
                let said = format!("{error} {error:?} {}", there.name());
                assert!(said.contains("NATS_PASSWORD") && !said.contains("s3cret"), "{said}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nobody_there_is_away() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut there = JetStream::new(&format!("nats://ann:s3cret@127.0.0.1:{free}/S")).unwrap();
    let said = match there.buses() {
        Err(error @ Error::Unavailable { .. }) => format!("{error} {error:?}"),
        other => panic!("{other:?}"),
    };
    assert!(said.contains("cannot connect") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_server_without_jetstream_is_away() {
    if left_out() {
        return;
    }
    let nats =
        Nats::start_with(1, "no_auth_user: ann\naccounts { A { users: [ { user: ann, password: x } ] } }");
    let said = match JetStream::new(&nats.address("S")).unwrap().buses() {
        Err(error @ (Error::Unavailable { .. } | Error::Refused { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(said.to_lowercase().contains("jetstream"), "{said}");
}

/// A consumer asks by subject, so one that says another type than its event is told.
#[test]
fn a_subject_that_is_not_its_events_is_found() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(12, "ann");
    let bus = bus_of(&records);
    let mut there = JetStream::new(&nats.address("SUBJECT")).unwrap();
    fill(&mut there, &records[..5], 5);
    let events: Vec<_> = records.iter().map(|record| record.event.clone()).collect();
    assert_eq!(there.first_mismatch(bus, &events[..5]).unwrap(), None);
    let subject = format!("zero.runtime.{}.cuckoo", &bus.to_string()["sha256:".len()..]);
    let line = records[5].line.clone();
    administrate(&nats, async |context| context.publish(subject, line.into()).await.unwrap().await.unwrap());
    fill(&mut there, &records, 5);
    assert_holds(&mut there, &records);
    assert_eq!(there.first_mismatch(bus, &events).unwrap(), Some((6, "subject")));
}
