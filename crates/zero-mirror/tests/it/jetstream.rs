//! The JetStream destination against real servers: a single one, and a cluster of three whose nodes
//! are killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::contract::is_soak;
use crate::nats::{Nats, left_out, stream_of};
use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use zero_bus::{Bus, Checksum, Draft, Event, Head};
use zero_mirror::{Error, JetStream, Mirror, Record};

/// The records of a new bus with this many events.
fn records(events: u64, author: &str) -> Vec<Record> {
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    let kinds = ["decision.record", "fill.record", "operator note", "odd.*.>"];
    let draft = |n: u64| {
        let payload =
            BTreeMap::from([("n", n.to_string()), ("who", author.to_owned()), ("text", "x".repeat(400))]);
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

/// Another chain of the same bus, which shares the first `common` events.
fn fork(records: &[Record], common: usize, events: u64, author: &str) -> Vec<Record> {
    let directory = tempfile::tempdir().unwrap();
    let log: String = records[..common].iter().map(|record| format!("{}\n", record.line)).collect();
    std::fs::write(directory.path().join(zero_bus::LOG), log).unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    let payload = BTreeMap::from([("who", author)]);
    let draft = Draft::new("fill.record", 1777593600.0, &payload).unwrap();
    let added = bus.append_batch(vec![draft; events as usize - common]).unwrap();
    records[..common].iter().cloned().chain(added.into_iter().map(record)).collect()
}

fn bus_of(records: &[Record]) -> Checksum {
    records[0].event.checksum
}

fn head_at(records: &[Record], index: u64) -> Head {
    let checksum = index.checked_sub(1).map(|before| records[before as usize].event.checksum);
    Head { index, checksum }
}

/// Counts of what happened while mirroring.
#[derive(Debug, Default)]
struct Stats {
    batches: u64,
    /// Errors that are tried again, by message.
    unavailable: BTreeMap<String, u64>,
    cursor_moves: u64,
}

/// Mirrors the records and tries again until it succeeds. Fails the test if a head is not of their
/// chain. `held` receives the highest head.
fn mirror(mirror: &mut JetStream, records: &[Record], batch: usize, held: &AtomicU64, stats: &mut Stats) {
    let bus = bus_of(records);
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut known_head = None;
    loop {
        assert!(Instant::now() < deadline, "not mirrored in time: {stats:?}");
        let head = known_head.take().map_or_else(|| mirror.head(bus), Ok);
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
            Ok(stored) => {
                stats.batches += 1;
                known_head = Some(head_at(records, (index + stored) as u64));
            }
            Err(error @ Error::Unavailable { .. }) => {
                let message = error.to_string();
                let message = message.split_once(": ").unwrap().1.to_owned();
                *stats.unavailable.entry(message).or_default() += 1;
                // Like `catch_up`, this waits before the next try.
                thread::sleep(Duration::from_millis(100));
            }
            Err(Error::CursorMoved { .. }) => stats.cursor_moves += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Mirrors the records to a destination that must be available.
#[track_caller]
fn fill(destination: &mut JetStream, records: &[Record], batch: usize) {
    let mut stats = Stats::default();
    mirror(destination, records, batch, &AtomicU64::new(0), &mut stats);
    assert_eq!((stats.unavailable, stats.cursor_moves), (BTreeMap::new(), 0));
}

/// Repeats a call while the destination is unavailable, for instance while it elects a leader.
fn retry<T>(mut call: impl FnMut() -> zero_mirror::Result<T>) -> T {
    for _ in 0..100 {
        match call() {
            Err(Error::Unavailable { .. }) => thread::sleep(Duration::from_millis(100)),
            answer => return answer.unwrap(),
        }
    }
    panic!("the destination stays unavailable");
}

/// Reads all lines of a bus, page by page.
fn lines(mirror: &mut JetStream, bus: Checksum) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    loop {
        let page = retry(|| mirror.lines(bus, lines.len() as u64 + 1));
        if page.is_empty() {
            return lines;
        }
        lines.extend(page);
    }
}

/// Asserts that a mirror holds every record once, at its index, byte for byte.
#[track_caller]
fn assert_holds(mirror: &mut JetStream, records: &[Record]) {
    let bus = bus_of(records);
    assert_eq!(retry(|| mirror.head(bus)), head_at(records, records.len() as u64));
    let lines = lines(mirror, bus);
    assert_eq!(lines.len(), records.len());
    for ((index, line), record) in lines.iter().zip(records) {
        assert_eq!((*index, line), (record.event.index, &record.line));
    }
}

/// A random number, different in each run.
fn random() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

#[test]
fn a_single_server_stores_and_returns_a_bus() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(3000, "ann");
    let bus = bus_of(&records);
    let mut destination = JetStream::new(&nats.address("ONE")).unwrap();
    assert_eq!(destination.buses().unwrap(), []);
    assert_eq!(destination.head(bus).unwrap(), Head::default());
    assert_eq!(destination.lines(bus, 1).unwrap(), []);
    fill(&mut destination, &records[..1000], 1);
    fill(&mut destination, &records, 700);
    assert_holds(&mut destination, &records);
    assert_eq!(destination.buses().unwrap(), [bus]);
    assert_eq!(destination.lines(bus, 3000).unwrap(), [(3000, records[2999].line.clone())]);
    assert_eq!(destination.lines(bus, 3001).unwrap(), []);
    // A batch at a stale cursor is refused.
    let stale = destination.append(bus, head_at(&records, 2000), &records[2000..2500]);
    assert!(matches!(stale, Err(Error::CursorMoved { .. })), "{stale:?}");
    let empty = destination.append(bus, head_at(&records, 3000), &[]);
    assert!(empty.is_ok(), "{empty:?}");
    assert_holds(&mut destination, &records);
}

/// Stores a number when it is dropped.
struct StoreOnDrop<'a>(&'a AtomicU64, u64);

impl Drop for StoreOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, SeqCst);
    }
}

/// The number of kills: two in a normal run, more in a soak.
fn rounds(soak: u64) -> u64 {
    if is_soak() { soak } else { 2 }
}

/// Mirrors a growing log while nodes are killed and restarted.
fn kill_while_mirroring(prefix: &str, rounds: u64, victims: impl Fn(usize) -> Vec<usize> + Sync) {
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
    let (stats, kills) = thread::scope(|scope| {
        let mirroring = scope.spawn(|| {
            let mut destination = JetStream::new(&address).unwrap();
            let mut stats = Stats::default();
            while held.load(SeqCst) < events {
                let end = log_end.load(SeqCst);
                if held.load(SeqCst) < end {
                    mirror(&mut destination, &records[..end as usize], 250, &held, &mut stats);
                }
                thread::yield_now();
            }
            stats
        });
        // Lets the mirroring thread finish even if this thread panics.
        let _release = StoreOnDrop(&log_end, events);
        let mut kills = Vec::new();
        for round in 0..rounds {
            nats.wait_for("the stream to exist", |nats| nats.leader(&stream).is_some());
            let victims = victims(nats.wait_until_complete(&stream));
            // Three quarters of the round's events exist before the kill, which happens at a random
            // event among them. The last quarter follows when the nodes return.
            let start = round * part;
            log_end.store(start + part * 3 / 4, SeqCst);
            let kill_at = start + random() % (part / 2);
            nats.wait_for("the mirror to make progress", |_| held.load(SeqCst) >= kill_at);
            let killed_at = held.load(SeqCst);
            for victim in &victims {
                nats.kill(*victim);
            }
            if victims.len() == 1 {
                nats.wait_for("a leader among the remaining nodes", |nats| nats.leader(&stream).is_some());
            }
            log_end.store(start + part, SeqCst);
            for victim in &victims {
                nats.restart(*victim);
            }
            kills.push((victims, killed_at, start + part * 3 / 4));
        }
        (mirroring.join().unwrap(), kills)
    });
    let while_sending = kills.iter().filter(|(_, killed_at, end)| killed_at < end).count();
    assert!(while_sending as u64 >= rounds / 2, "too few kills hit a mirror that was sending: {kills:?}");
    nats.wait_until_complete(&stream);
    // A leader answers reads from its own copy, so each replica must lead once in a soak.
    let mut led = [!is_soak(); 3];
    let mut destination = JetStream::new(&address).unwrap();
    loop {
        let leader = nats.wait_until_complete(&stream);
        for node in 0..nats.servers() {
            assert_eq!(nats.replica(node, &stream).unwrap().sequences(), (events, 1, events), "node {node}");
        }
        assert_holds(&mut destination, &records);
        led[leader] = true;
        if !led.contains(&false) {
            break;
        }
        nats.kill(leader);
        nats.wait_for("another leader", |nats| nats.leader(&stream).is_some());
        nats.restart(leader);
    }
    println!(
        "{prefix}: {events} events, killed (nodes, at event, of events in the log) {kills:?}; {stats:?}; \
         {} stuck replicas restarted",
        nats.stuck
    );
}

#[test]
#[ignore = "a soak: run .ci/soak"]
fn killing_a_follower_loses_and_repeats_no_event() {
    kill_while_mirroring("FOLLOWER", rounds(6), |leader| vec![(leader + 1 + (random() % 2) as usize) % 3]);
}

#[test]
fn killing_the_leader_loses_and_repeats_no_event() {
    kill_while_mirroring("LEADER", rounds(6), |leader| vec![leader]);
}

#[test]
#[ignore = "a soak: run .ci/soak"]
fn killing_all_servers_loses_and_repeats_no_event() {
    kill_while_mirroring("ALL", rounds(4), |_| vec![0, 1, 2]);
}

#[test]
fn racing_mirrors_of_one_bus_store_each_event_once() {
    if left_out() {
        return;
    }
    let mut nats = Nats::start(3);
    let records = records(10_000, "two");
    let address = nats.address("RACE");
    // The stream exists before the race: while a stream is created, its server does not answer
    // requests about it.
    fill(&mut JetStream::new(&address).unwrap(), &records[..1], 1);
    let racing = |batch| {
        let (address, records) = (&address, &records);
        move || {
            let mut destination = JetStream::new(address).unwrap();
            let mut stats = Stats::default();
            mirror(&mut destination, records, batch, &AtomicU64::new(0), &mut stats);
            stats
        }
    };
    let stats = thread::scope(|scope| {
        let racers = [97, 101, 250].map(|batch| scope.spawn(racing(batch)));
        racers.map(|racer| racer.join().unwrap())
    });
    let mut destination = JetStream::new(&address).unwrap();
    assert_holds(&mut destination, &records);
    let stream = stream_of("RACE", bus_of(&records));
    nats.wait_until_complete(&stream);
    for node in 0..3 {
        assert_eq!(nats.replica(node, &stream).unwrap().sequences(), (10_000, 1, 10_000), "node {node}");
    }
    println!("three mirrors of one bus: {stats:?}; 10000 events once on each of 3 replicas");
}

#[test]
fn a_second_chain_of_a_bus_is_refused_as_a_fork() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let ours = records(400, "ann");
    let theirs = fork(&ours, 300, 400, "bob");
    let mut destination = JetStream::new(&nats.address("FORK")).unwrap();
    fill(&mut destination, &theirs, 100);
    // The error names the first event that differs.
    let after = head_at(&ours, 300);
    let result = destination.append(bus_of(&ours), after, &ours[300..]);
    assert!(matches!(result, Err(Error::Fork { index: 301, .. })), "{result:?}");
    assert_holds(&mut destination, &theirs);
}

#[test]
fn a_hundred_buses_are_kept_apart() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let buses: Vec<_> = (0..100).map(|number| records(20, &format!("bus {number}"))).collect();
    let mut destination = JetStream::new(&nats.address("MANY")).unwrap();
    for batch in [7, 20] {
        for records in &buses {
            fill(&mut destination, &records[..batch], batch);
        }
    }
    let mut expected: Vec<_> = buses.iter().map(|records| bus_of(records)).collect();
    expected.sort_by_key(|bus| *bus.as_bytes());
    assert_eq!(destination.buses().unwrap(), expected);
    for records in &buses {
        assert_holds(&mut destination, records);
    }
    // Another prefix is another destination, which does not list these streams.
    assert_eq!(JetStream::new(&nats.address("MAN")).unwrap().buses().unwrap(), []);
}

/// Acts as an administrator of the server, without the mirror.
fn administrate<T>(nats: &Nats, act: impl AsyncFnOnce(jetstream::Context) -> T) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = async_nats::connect(nats.servers_of_client()).await.unwrap();
        act(jetstream::new(client)).await
    })
}

fn refusal(destination: &mut JetStream, records: &[Record]) -> String {
    let message = match destination.append(bus_of(records), Head::default(), records) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    if let Ok(head) = destination.head(bus_of(records)) {
        assert_eq!(head, Head::default());
    }
    message
}

#[test]
fn a_stream_with_other_settings_is_refused() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(3, "ann");
    let stream = stream_of("SET", bus_of(&records));
    let mut destination = JetStream::new(&nats.address("SET")).unwrap();
    fill(&mut destination, &records, 3);
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
        let message = refusal(&mut JetStream::new(&nats.address("SET")).unwrap(), &records);
        assert!(message.contains(&stream) && message.contains(word), "{message}");
    }
    // Fewer replicas than the address asks for.
    administrate(&nats, async |context| {
        context.delete_stream(&stream).await.unwrap();
        context.create_stream(good).await.unwrap();
    });
    let message =
        refusal(&mut JetStream::new(&format!("{}?replicas=3", nats.address("SET"))).unwrap(), &records);
    assert!(message.contains("?replicas="), "{message}");
    // Another stream already has the subjects.
    administrate(&nats, async |context| {
        context.delete_stream(&stream).await.unwrap();
        let subjects = vec!["zero.>".to_owned()];
        let config = Config { name: "EVERYTHING".to_owned(), subjects, ..Config::default() };
        context.create_stream(config).await.unwrap();
    });
    let message = refusal(&mut JetStream::new(&nats.address("SET")).unwrap(), &records);
    assert!(message.contains(&stream) && message.contains(&subjects[0]), "{message}");
}

#[test]
fn a_deleted_event_is_reported_as_missing() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(30, "ann");
    let bus = bus_of(&records);
    let stream = stream_of("HOLE", bus);
    let mut destination = JetStream::new(&nats.address("HOLE")).unwrap();
    fill(&mut destination, &records, 10);
    administrate(&nats, async |context| {
        let mut original = context.get_stream(&stream).await.unwrap();
        // The settings of the stream forbid deletion.
        original.delete_message(13).await.unwrap_err();
        let config = original.info().await.unwrap().config.clone();
        context.delete_stream(&stream).await.unwrap();
        let deletable = Config { deny_delete: false, ..config.clone() };
        let created = context.create_stream(deletable).await.unwrap();
        for record in &records {
            let subject = config.subjects[0].replace('>', "any");
            context.publish(subject, record.line.clone().into()).await.unwrap().await.unwrap();
        }
        created.delete_message(13).await.unwrap();
        context.update_stream(config).await.unwrap();
    });
    let lines = destination.lines(bus, 1).unwrap();
    assert_eq!(lines.last().map(|(index, _)| *index), Some(12));
    for answer in [destination.head(bus).map(|_| ()), destination.lines(bus, 13).map(|_| ())] {
        match answer {
            Err(error @ Error::Corrupt { index: 13, .. }) => {
                assert!(error.to_string().ends_with("event 13 is missing"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_foreign_message_is_reported_as_a_fork_or_corruption() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(40, "ann");
    let bus = bus_of(&records);
    let mut destination = JetStream::new(&nats.address("FOREIGN")).unwrap();
    fill(&mut destination, &records[..20], 10);
    let subject = format!("zero.runtime.{}.fill.record", &bus.to_string()["sha256:".len()..]);
    administrate(&nats, async |context| {
        context.publish(subject, "no event".into()).await.unwrap().await.unwrap();
    });
    let result = destination.append(bus, head_at(&records, 20), &records[20..]);
    assert!(matches!(result, Err(Error::Fork { index: 21, .. })), "{result:?}");
    let head = destination.head(bus);
    assert!(matches!(head, Err(Error::Corrupt { index: 21, .. })), "{head:?}");
}

/// The events before it are stored.
#[test]
fn an_event_above_max_payload_is_refused_with_its_index() {
    if left_out() {
        return;
    }
    let nats = Nats::start_with(1, "max_payload: 4096");
    let directory = tempfile::tempdir().unwrap();
    let bus = Bus::open(directory.path()).unwrap();
    let draft = |length| Draft::new("a", 0.0, &BTreeMap::from([("text", "x".repeat(length))])).unwrap();
    let events = bus.append_batch([10, 20, 5000, 30].map(draft).to_vec()).unwrap();
    let records: Vec<_> = events.into_iter().map(record).collect();
    let mut destination = JetStream::new(&nats.address("LONG")).unwrap();
    let message = match destination.append(bus_of(&records), Head::default(), &records) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(message.contains("event 3 has") && message.contains("max_payload"), "{message}");
    assert_eq!(destination.head(bus_of(&records)).unwrap(), head_at(&records, 2));
}

#[test]
fn a_failed_login_is_refused_without_revealing_the_password() {
    if left_out() {
        return;
    }
    let nats = Nats::start_with(1, "authorization { user: ann, password: \"s3cret/&\" }");
    let records = records(3, "ann");
    let address = |login: &str| nats.address("LOGIN").replace("nats://", &format!("nats://{login}"));
    fill(&mut JetStream::new(&address("ann:s3cret%2F%26@")).unwrap(), &records, 3);
    for login in ["ann:s3cret@", "s3cret@", ""] {
        let mut destination = JetStream::new(&address(login)).unwrap();
        match destination.head(bus_of(&records)) {
            Err(error @ Error::Refused { .. }) => {
                let message = format!("{error} {error:?} {}", destination.name());
                assert!(message.contains("NATS_PASSWORD") && !message.contains("s3cret"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_unreachable_server_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut destination = JetStream::new(&format!("nats://ann:s3cret@127.0.0.1:{free}/S")).unwrap();
    let message = match destination.buses() {
        Err(error @ Error::Unavailable { .. }) => format!("{error} {error:?}"),
        other => panic!("{other:?}"),
    };
    assert!(message.contains("cannot connect") && !message.contains("s3cret"), "{message}");
}

#[test]
fn a_server_without_jetstream_is_reported() {
    if left_out() {
        return;
    }
    let nats =
        Nats::start_with(1, "no_auth_user: ann\naccounts { A { users: [ { user: ann, password: x } ] } }");
    let message = match JetStream::new(&nats.address("S")).unwrap().buses() {
        Err(error @ (Error::Unavailable { .. } | Error::Refused { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(message.to_lowercase().contains("jetstream"), "{message}");
}

/// Consumers filter by subject, so a subject must match the type of its event.
#[test]
fn a_subject_that_differs_from_its_event_type_is_reported() {
    if left_out() {
        return;
    }
    let nats = Nats::start(1);
    let records = records(12, "ann");
    let bus = bus_of(&records);
    let mut destination = JetStream::new(&nats.address("SUBJECT")).unwrap();
    fill(&mut destination, &records[..5], 5);
    let events: Vec<_> = records.iter().map(|record| record.event.clone()).collect();
    assert_eq!(destination.first_mismatch(bus, &events[..5]).unwrap(), None);
    let subject = format!("zero.runtime.{}.cuckoo", &bus.to_string()["sha256:".len()..]);
    let line = records[5].line.clone();
    administrate(&nats, async |context| context.publish(subject, line.into()).await.unwrap().await.unwrap());
    fill(&mut destination, &records, 5);
    assert_holds(&mut destination, &records);
    assert_eq!(destination.first_mismatch(bus, &events).unwrap(), Some((6, "subject")));
}
