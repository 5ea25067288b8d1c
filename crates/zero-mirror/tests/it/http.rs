//! The HTTP destination and its receiver: batches, tokens, TLS, shutdown and metrics.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::receiver::{
    Mood, Running, all_lines, body_of, bus_of, chain, head_of, posting, settings, texts_of,
};
use zero_bus::{Bus, Draft, Event, Head};
use zero_mirror::ingest::{ReceiverOptions, Rights, Scope, add_token};
use zero_mirror::{Error, Http, Mirror, Record, Token};

#[test]
fn sent_lines_are_returned_byte_for_byte() {
    let running = Running::start();
    let mut client = running.client();
    let chain = chain("a", 0, 25_000);
    let bus = bus_of(&chain);
    assert_eq!(client.head(bus).unwrap(), Head::default());
    assert!(client.buses().unwrap().is_empty());
    assert!(client.lines(bus, 1).unwrap().is_empty());
    // More lines than fit into one request, then small batches.
    client.append(bus, Head::default(), &chain[..24_000]).unwrap();
    client.append(bus, head_of(&chain[..24_000]), &chain[24_000..24_001]).unwrap();
    client.append(bus, head_of(&chain[..24_001]), &chain[24_001..]).unwrap();
    client.append(bus, head_of(&chain), &[]).unwrap();
    assert_eq!(client.head(bus).unwrap(), head_of(&chain));
    assert_eq!(client.buses().unwrap(), [bus]);
    assert_eq!(all_lines(&mut client, bus), texts_of(&chain));
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
    assert_eq!(client.lines(bus, 24_999).unwrap()[0], (24_999, chain[24_998].line.clone()));
    assert!(client.lines(bus, 25_001).unwrap().is_empty());
    assert!(client.lines(bus, i64::MAX as u64).unwrap().is_empty());
}

#[test]
fn the_longest_lines_and_other_spellings_are_stored_unchanged() {
    let temporary = tempfile::tempdir().unwrap();
    let bus = Bus::open(temporary.path()).unwrap();
    let text = "x".repeat(zero_bus::MAX_LINE_BYTES - 400);
    let drafts = (0..3).map(|_| Draft::new("long", 1.0, &BTreeMap::from([("text", &text)])).unwrap());
    let mut chain: Vec<Record> =
        bus.append_batch(drafts.collect()).unwrap().into_iter().map(crate::receiver::record).collect();
    let draft = Draft::new("short", 2.0, &BTreeMap::from([("n", 1)])).unwrap();
    let event = bus.append(draft).unwrap();
    let line = format!("{} \t\r", event.line().replacen("{\"as_of\":2.0,", "{ \"as_of\" : 2e0,", 1));
    assert_eq!(Event::read(line.as_bytes(), head_of(&chain)).unwrap(), event);
    chain.push(Record { event, line });
    let running = Running::start();
    let mut client = running.client();
    client.append(bus_of(&chain), Head::default(), &chain).unwrap();
    assert_eq!(running.memory.lines_of(bus_of(&chain)), texts_of(&chain));
    assert_eq!(all_lines(&mut client, bus_of(&chain)), texts_of(&chain));
}

#[test]
fn a_fork_is_reported_with_its_first_event() {
    let running = Running::start();
    let mut client = running.client();
    let (ours, theirs) = (chain("ours", 6, 12), chain("theirs", 6, 12));
    let bus = bus_of(&ours);
    assert_eq!(bus, bus_of(&theirs));
    client.append(bus, Head::default(), &ours).unwrap();
    for after in [0, 3, 6] {
        let error = client.append(bus, head_of(&theirs[..after]), &theirs[after..]).unwrap_err();
        assert!(matches!(&error, Error::Fork { index: 7, bus: forked, .. } if *forked == bus), "{error}");
        let answer = running.post(bus, head_of(&theirs[..after]), "", &body_of(&theirs[after..]));
        answer.is_problem(409, "fork");
        assert_eq!(answer.member("index"), "7");
    }
    // If the fork is before the batch, the client must read the head to find it.
    for after in [7, 11, 12] {
        let error = client.append(bus, head_of(&theirs[..after]), &theirs[after..]).unwrap_err();
        assert!(matches!(error, Error::CursorMoved { .. }), "{error}");
        let answer = running.post(bus, head_of(&theirs[..after]), "", &body_of(&theirs[after..]));
        answer.is_problem(409, "fork");
        assert_eq!(answer.member("index"), after.to_string());
        assert!(answer.text().contains(r#""exact":false"#));
    }
    assert_eq!(running.memory.lines_of(bus), texts_of(&ours));
    assert!(running.get("/metrics", "").text().contains("zero_ingest_forks_total 12\n"));
    assert!(running.logged.lock().unwrap()[0].contains("event 7 is the first that differs"));
}

#[test]
fn a_batch_at_a_stale_cursor_is_answered_with_the_position() {
    let running = Running::start();
    let mut client = running.client();
    let chain = chain("a", 0, 10);
    let bus = bus_of(&chain);
    client.append(bus, Head::default(), &chain[..5]).unwrap();
    for (from, to) in [(0, 5), (0, 10), (2, 4), (6, 10), (10, 10), (0, 0)] {
        let error = client.append(bus, head_of(&chain[..from]), &chain[from..to]).unwrap_err();
        assert!(matches!(error, Error::CursorMoved { .. }), "{from} {to}: {error}");
        let answer = running.post(bus, head_of(&chain[..from]), "", &body_of(&chain[from..to]));
        answer.is_problem(409, "position");
        assert!(
            answer.text().contains(&format!(
                r#""position":{{"bus":"{bus}","checksum":"{}","index":5}}"#,
                chain[4].event.checksum
            )),
            "{}",
            answer.text()
        );
    }
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain[..5]));
}

#[test]
fn a_token_grants_only_its_scope_and_rights() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("tokens");
    let (one, other) = (chain("one", 0, 4), chain("other", 0, 4));
    let (bus, empty) = (bus_of(&one), Head::default());
    let token = |scope, rights, name| add_token(&path, scope, rights, name).unwrap();
    let any = token(Scope::Any, Rights::Write, "any");
    let reader = token(Scope::Any, Rights::Read, "reader");
    let scoped = token(Scope::Bus(bus), Rights::Write, "scoped");
    let running = Running::with_tokens(&path);
    let header = |token: &Token| format!("authorization: Bearer {}\r\n", token.reveal());

    // Missing, malformed, unknown and repeated tokens.
    let paths = ["/v1/buses", &format!("/v1/buses/{bus}"), &format!("/v1/buses/{bus}/events"), "/metrics"];
    for wrong in [
        "",
        "authorization: Bearer\r\n",
        "authorization: Bearer zero_mirror_00\r\n",
        "authorization: Basic eDp5\r\n",
        "authorization: Bearer \u{e9}\r\n",
        &header(&any).repeat(2),
        &header(&any).replace(" zero", " Zero"),
    ] {
        for path in paths {
            let answer = running.get(path, wrong);
            answer.is_problem(401, "token");
            assert!(answer.head.contains("www-authenticate: bearer"));
        }
        running.post(bus, empty, wrong, &body_of(&one)).is_problem(401, "token");
    }
    assert_eq!(running.get("/health", "").status, 200);
    assert_eq!(running.get("/openapi.json", "").status, 200);
    assert!(running.memory.lines_of(bus).is_empty());

    // A token for one bus.
    let mut client = running.client_with(&scoped);
    client.append(bus, empty, &one[..2]).unwrap();
    assert!(matches!(client.append(bus_of(&other), empty, &other).unwrap_err(), Error::Refused { .. }));
    assert!(matches!(client.head(bus_of(&other)).unwrap_err(), Error::Refused { .. }));
    assert!(matches!(client.lines(bus_of(&other), 1).unwrap_err(), Error::Refused { .. }));
    running.get("/metrics", &header(&scoped)).is_problem(403, "scope");

    // A token for every bus, and a read-only token.
    running.client_with(&any).append(bus_of(&other), empty, &other).unwrap();
    assert_eq!(client.buses().unwrap(), [bus]);
    let mut client = running.client_with(&reader);
    assert_eq!(client.buses().unwrap().len(), 2);
    assert_eq!(all_lines(&mut client, bus), texts_of(&one[..2]));
    assert!(client.append(bus, head_of(&one[..2]), &one[2..]).unwrap_err().to_string().contains("reading"));
    assert_eq!(running.get("/metrics", &header(&reader)).status, 200);

    // A token removed from the file is refused at once, also on an open connection.
    let mut client = running.client_with(&scoped);
    client.head(bus).unwrap();
    let kept: String = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .filter(|line| !line.ends_with("scoped"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, kept).unwrap();
    let error = client.append(bus, head_of(&one[..2]), &one[2..]).unwrap_err().to_string();
    assert!(error.contains("ZERO_MIRROR_TOKEN") && !error.contains(scoped.reveal()), "{error}");
    // An invalid tokens file refuses every token.
    fs::write(&path, "nonsense\n").unwrap();
    running.get("/v1/buses", &header(&any)).is_problem(500, "broken");
    let log_text = running.logged.lock().unwrap().join("\n");
    assert!(
        log_text.contains("line 1")
            && [&any, &reader, &scoped].iter().all(|token| !log_text.contains(token.reveal()))
    );
}

#[test]
fn a_first_bus_token_is_bound_by_its_first_stored_batch() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("tokens");
    let (held, one, other) = (chain("held", 0, 2), chain("one", 0, 4), chain("other", 0, 4));
    let any = add_token(&path, Scope::Any, Rights::Write, "any").unwrap();
    let first = add_token(&path, Scope::First, Rights::Write, "first").unwrap();
    let running = Running::with_tokens(&path);
    running.client_with(&any).append(bus_of(&held), Head::default(), &held).unwrap();
    let mut client = running.client_with(&first);
    assert!(client.buses().unwrap().is_empty());
    // It grants no bus that is stored already, and a refused batch does not bind it.
    assert!(matches!(client.head(bus_of(&held)).unwrap_err(), Error::Refused { .. }));
    assert!(matches!(client.lines(bus_of(&held), 1).unwrap_err(), Error::Refused { .. }));
    let error = client.append(bus_of(&held), head_of(&held), &[]).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(matches!(
        client.append(bus_of(&one), head_of(&one[..2]), &one[2..]).unwrap_err(),
        Error::CursorMoved { .. }
    ));
    assert_eq!(client.head(bus_of(&one)).unwrap(), Head::default());
    client.append(bus_of(&other), Head::default(), &other[..2]).unwrap();
    client.append(bus_of(&other), head_of(&other[..2]), &other[2..]).unwrap();
    assert!(matches!(client.append(bus_of(&one), Head::default(), &one).unwrap_err(), Error::Refused { .. }));
    assert_eq!(client.buses().unwrap(), [bus_of(&other)]);
    assert!(fs::read_to_string(&path).unwrap().contains(&format!("{} write first", bus_of(&other))));
}

#[test]
fn an_unavailable_store_is_reported_without_its_name() {
    let running = Running::start();
    let mut client = running.client();
    let chain = chain("a", 0, 4);
    let bus = bus_of(&chain);
    assert_eq!(running.get("/health", "").text(), r#"{"status":"ok"}"#);
    client.append(bus, Head::default(), &chain[..2]).unwrap();
    running.memory.set(Mood::Unavailable);
    for error in [
        client.head(bus).unwrap_err(),
        client.buses().unwrap_err(),
        client.lines(bus, 1).unwrap_err(),
        client.append(bus, head_of(&chain[..2]), &chain[2..]).unwrap_err(),
    ] {
        assert!(
            matches!(&error, Error::Unavailable { .. }) && !error.to_string().contains("internal"),
            "{error}"
        );
    }
    assert!(running.logged.lock().unwrap()[0].contains("secret-store.internal"));
    running.memory.set(Mood::Panics);
    let answer = running.get(&format!("/v1/buses/{bus}"), "");
    answer.is_problem(500, "broken");
    running.memory.set(Mood::Fine);
    client.append(bus, head_of(&chain[..2]), &chain[2..]).unwrap();
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
}

#[test]
fn health_reports_the_state_of_the_store() {
    let running = Running::start();
    running.memory.set(Mood::Unavailable);
    running.get("/health", "").is_problem(503, "away");
}

#[test]
fn concurrent_clients_of_one_bus_store_every_event_once() {
    let running = Running::start();
    let chain = chain("a", 0, 600);
    let bus = bus_of(&chain);
    let moved = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for step in [1, 7, 50, 200] {
            let (mut client, chain, moved) = (running.client(), &chain, &moved);
            scope.spawn(move || {
                loop {
                    let at = client.head(bus).unwrap().index as usize;
                    if at == chain.len() {
                        break;
                    }
                    let to = (at + step).min(chain.len());
                    match client.append(bus, head_of(&chain[..at]), &chain[at..to]) {
                        Ok(()) => {}
                        Err(Error::CursorMoved { .. }) => {
                            moved.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
}

#[test]
fn a_hundred_buses_are_kept_apart() {
    let running = Running::start();
    let chains: Vec<_> = (0..100).map(|n| chain(&n.to_string(), 0, 3)).collect();
    std::thread::scope(|scope| {
        for chains in chains.chunks(25) {
            let mut client = running.client();
            scope.spawn(move || {
                for chain in chains {
                    client.append(bus_of(chain), Head::default(), chain).unwrap();
                }
            });
        }
    });
    let mut expected: Vec<_> = chains.iter().map(|chain| bus_of(chain).to_string()).collect();
    expected.sort();
    let buses: Vec<_> = running.client().buses().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(buses, expected);
    for chain in &chains {
        assert_eq!(running.memory.lines_of(bus_of(chain)), texts_of(chain));
    }
}

#[test]
fn shutdown_finishes_the_requests_in_progress() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    running.memory.set(Mood::Waits);
    std::thread::scope(|scope| {
        let (chain, mut client) = (&chain, running.client());
        let append = scope.spawn(move || client.append(bus, Head::default(), chain));
        running.memory.wait_until_waiting(1);
        running.begin_shutdown();
        // New connections are refused once the shutdown has begun.
        while std::net::TcpStream::connect(running.address).is_ok() {}
        assert!(running.memory.lines_of(bus).is_empty());
        running.memory.set(Mood::Fine);
        append.join().unwrap().unwrap();
    });
    let memory = running.memory.clone();
    running.stop();
    assert_eq!(memory.lines_of(bus), texts_of(&chain));
}

#[test]
fn a_batch_is_stored_whole_after_its_client_disconnects() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    running.memory.set(Mood::Waits);
    let mut stream = running.connect();
    stream.write_all(&posting(bus, Head::default(), "", &body_of(&chain))).unwrap();
    running.memory.wait_until_waiting(1);
    drop(stream);
    running.memory.set(Mood::Fine);
    // The next request waits for the batch and then finds it stored.
    let error = running.client().append(bus, Head::default(), &chain).unwrap_err();
    assert!(matches!(error, Error::CursorMoved { .. }), "{error}");
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
}

#[test]
fn tls_verifies_authority_and_host_name() {
    let temporary = tempfile::tempdir().unwrap();
    let file = |name: &str| temporary.path().join(name);
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(file("cert.pem"), certificate.cert.pem()).unwrap();
    fs::write(file("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(file("other.pem"), other.cert.pem()).unwrap();
    fs::write(file("other-key.pem"), other.signing_key.serialize_pem()).unwrap();
    let with = |cert: &str, key: &str| {
        let settings = ReceiverOptions { tls: Some((file(cert), file(key))), ..settings() };
        zero_mirror::ingest::Receiver::bind(
            settings,
            Box::new(|| Ok(Box::new(crate::receiver::Memory::default()))),
            std::sync::Arc::new(|_| {}),
        )
        .map(drop)
    };
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file("key.pem"), fs::Permissions::from_mode(0o604)).unwrap();
    assert!(with("cert.pem", "key.pem").unwrap_err().to_string().contains("chmod o="));
    fs::set_permissions(file("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(file("other-key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(with("cert.pem", "other-key.pem").unwrap_err().to_string().contains("does not match the key"));
    assert!(with("key.pem", "key.pem").unwrap_err().to_string().contains("no certificate"));
    assert!(with("none.pem", "key.pem").unwrap_err().to_string().contains("none.pem"));

    let running =
        Running::with(ReceiverOptions { tls: Some((file("cert.pem"), file("key.pem"))), ..settings() });
    let port = running.address.port();
    let url = |host: &str, ca: &str| format!("https://{host}:{port}/?ca={}", file(ca).display());
    let chain = chain("a", 0, 3);
    let mut client = Http::with_token(&url("localhost", "cert.pem"), None).unwrap();
    client.append(bus_of(&chain), Head::default(), &chain).unwrap();
    assert_eq!(all_lines(&mut client, bus_of(&chain)), texts_of(&chain));
    // Another authority, another host name, and no TLS.
    for (host, ca) in [("localhost", "other.pem"), ("127.0.0.1", "cert.pem")] {
        let error = Http::with_token(&url(host, ca), None).unwrap().buses().unwrap_err();
        assert!(matches!(&error, Error::Refused { .. }) && error.to_string().contains("?ca=PATH"), "{error}");
    }
    let error = Http::with_token(&format!("http://localhost:{port}"), None).unwrap().buses().unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    for ca in ["none.pem", "key.pem"] {
        assert!(matches!(
            Http::with_token(&url("localhost", ca), None).err().unwrap(),
            Error::Refused { .. }
        ));
    }
}

#[test]
fn unsafe_listen_settings_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("tokens");
    add_token(&path, Scope::Any, Rights::Write, "any").unwrap();
    let bind = |settings: ReceiverOptions| {
        let bound = zero_mirror::ingest::Receiver::bind(
            settings,
            Box::new(|| Ok(Box::new(crate::receiver::Memory::default()))),
            std::sync::Arc::new(|_| {}),
        );
        bound.map(drop).map_err(|error| error.to_string())
    };
    let open = ReceiverOptions { listen: "0.0.0.0:0".parse().unwrap(), ..settings() };
    assert!(bind(open.clone()).unwrap_err().contains("tokens file"));
    let plain = ReceiverOptions { tokens: Some(path.clone()), ..open.clone() };
    assert!(bind(plain.clone()).unwrap_err().contains("proxy"));
    bind(ReceiverOptions { behind_proxy: true, ..plain }).unwrap();
    assert!(
        bind(ReceiverOptions { tokens: Some(temporary.path().join("none")), ..settings() })
            .unwrap_err()
            .contains("none")
    );
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(
        bind(ReceiverOptions { listen: occupied.local_addr().unwrap(), ..settings() })
            .unwrap_err()
            .contains("cannot listen")
    );
}

#[test]
fn the_openapi_document_and_metrics_are_served() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    running.client().append(bus_of(&chain), Head::default(), &chain).unwrap();
    let document =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json")).unwrap();
    let answer = running.get("/openapi.json", "");
    assert_eq!((answer.status, answer.text()), (200, document));
    let answer = running.get("/metrics", "");
    assert!(
        answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        answer.head
    );
    let text = answer.text();
    for line in [
        "zero_ingest_requests_total{operation=\"take\",code=\"200\"} 1".to_owned(),
        "zero_ingest_events_total 3".to_owned(),
        format!("zero_ingest_line_bytes_total {}", body_of(&chain).len() - 3),
        "zero_ingest_forks_total 0".to_owned(),
        format!("zero_ingest_bus_index{{bus=\"{}\"}} 3", bus_of(&chain)),
        format!("zero_ingest_bus_as_of_timestamp_seconds{{bus=\"{}\"}} 3.0", bus_of(&chain)),
        "zero_ingest_request_duration_seconds_count{operation=\"take\"} 1".to_owned(),
        "# EOF".to_owned(),
    ] {
        assert!(text.lines().any(|metric| metric == line), "{line}\n{text}");
    }
}
