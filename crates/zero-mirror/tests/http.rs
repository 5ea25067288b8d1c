//! The two ends of HTTP, and clients and servers that mean no good.

#![allow(clippy::unwrap_used)]

mod receiver;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use receiver::{
    Answer, Mood, Running, all_lines, body_of, bus_of, chain, head_of, posting, settings, texts_of,
};
use zero_bus::{Bus, Draft, Event, Head};
use zero_mirror::ingest::{Limits, Rights, Scope, Settings, add_token};
use zero_mirror::{Error, Http, Mirror, Record, Token};

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 19).unwrap()
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut packed).unwrap();
    packed
}

#[test]
fn what_is_handed_over_comes_back_byte_for_byte() {
    let running = Running::start();
    let mut client = running.client();
    let chain = chain("a", 0, 25_000);
    let bus = bus_of(&chain);
    assert_eq!(client.head(bus).unwrap(), Head::default());
    assert!(client.buses().unwrap().is_empty());
    assert!(client.lines(bus, 1).unwrap().is_empty());
    // More than goes into one request, and then a little.
    client.take(bus, Head::default(), &chain[..24_000]).unwrap();
    client.take(bus, head_of(&chain[..24_000]), &chain[24_000..24_001]).unwrap();
    client.take(bus, head_of(&chain[..24_001]), &chain[24_001..]).unwrap();
    client.take(bus, head_of(&chain), &[]).unwrap();
    assert_eq!(client.head(bus).unwrap(), head_of(&chain));
    assert_eq!(client.buses().unwrap(), [bus]);
    assert_eq!(all_lines(&mut client, bus), texts_of(&chain));
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
    assert_eq!(client.lines(bus, 24_999).unwrap()[0], (24_999, chain[24_998].line.clone()));
    assert!(client.lines(bus, 25_001).unwrap().is_empty());
    assert!(client.lines(bus, i64::MAX as u64).unwrap().is_empty());
}

#[test]
fn the_longest_lines_and_other_spellings_go_through() {
    let place = tempfile::tempdir().unwrap();
    let bus = Bus::open(place.path()).unwrap();
    let text = "x".repeat(zero_bus::MAX_LINE_BYTES - 400);
    let drafts = (0..3).map(|_| Draft::new("long", 1.0, &BTreeMap::from([("text", &text)])).unwrap());
    let mut chain: Vec<Record> =
        bus.append_batch(drafts.collect()).unwrap().into_iter().map(receiver::record).collect();
    let spelled = Draft::new("short", 2.0, &BTreeMap::from([("n", 1)])).unwrap();
    let event = bus.append(spelled).unwrap();
    let line = format!("{} \t\r", event.line().replacen("{\"as_of\":2.0,", "{ \"as_of\" : 2e0,", 1));
    assert_eq!(Event::read(line.as_bytes(), head_of(&chain)).unwrap(), event);
    chain.push(Record { event, line });
    let running = Running::start();
    let mut client = running.client();
    client.take(bus_of(&chain), Head::default(), &chain).unwrap();
    assert_eq!(running.memory.lines_of(bus_of(&chain)), texts_of(&chain));
    assert_eq!(all_lines(&mut client, bus_of(&chain)), texts_of(&chain));
}

#[test]
fn a_fork_is_named_by_its_first_event() {
    let running = Running::start();
    let mut client = running.client();
    let (ours, theirs) = (chain("ours", 6, 12), chain("theirs", 6, 12));
    let bus = bus_of(&ours);
    assert_eq!(bus, bus_of(&theirs));
    client.take(bus, Head::default(), &ours).unwrap();
    for behind in [0, 3, 6] {
        let error = client.take(bus, head_of(&theirs[..behind]), &theirs[behind..]).unwrap_err();
        assert!(matches!(&error, Error::Fork { index: 7, bus: found, .. } if *found == bus), "{error}");
        let answer = running.post(bus, head_of(&theirs[..behind]), "", &body_of(&theirs[behind..]));
        answer.is_problem(409, "fork");
        assert_eq!(answer.member("index"), "7");
    }
    // Where the fork lies before the batch, its client finds out more by asking.
    for behind in [7, 11, 12] {
        let error = client.take(bus, head_of(&theirs[..behind]), &theirs[behind..]).unwrap_err();
        assert!(matches!(error, Error::Moved { .. }), "{error}");
        let answer = running.post(bus, head_of(&theirs[..behind]), "", &body_of(&theirs[behind..]));
        answer.is_problem(409, "fork");
        assert_eq!(answer.member("index"), behind.to_string());
        assert!(answer.text().contains(r#""exact":false"#));
    }
    assert_eq!(running.memory.lines_of(bus), texts_of(&ours));
    assert!(running.get("/metrics", "").text().contains("zero_ingest_forks_total 12\n"));
    assert!(running.said.lock().unwrap()[0].contains("event 7 is the first that differs"));
}

#[test]
fn a_batch_that_begins_elsewhere_is_told_where_to_begin() {
    let running = Running::start();
    let mut client = running.client();
    let chain = chain("a", 0, 10);
    let bus = bus_of(&chain);
    client.take(bus, Head::default(), &chain[..5]).unwrap();
    for (from, to) in [(0, 5), (0, 10), (2, 4), (6, 10), (10, 10), (0, 0)] {
        let error = client.take(bus, head_of(&chain[..from]), &chain[from..to]).unwrap_err();
        assert!(matches!(error, Error::Moved { .. }), "{from} {to}: {error}");
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
fn a_line_that_is_not_the_next_event_is_named() {
    let running = Running::start();
    let (whole, other) = (chain("a", 0, 4), chain("b", 0, 4));
    let bus = bus_of(&whole);
    let lines = texts_of(&whole);
    let bad = |third: &str| format!("{}\n{}\n{third}\n{}\n", lines[0], lines[1], lines[3]);
    for (body, line, fault) in [
        (bad("{}"), "3", "missing field `as_of` at event 3"),
        (bad(""), "3", "not JSON at event 3"),
        (bad("\u{1}"), "3", "not JSON at event 3"),
        (bad(&"[".repeat(100_000)), "3", "not JSON at event 3"),
        (bad(&lines[3]), "3", "non-sequential event index at event 3"),
        (bad(&texts_of(&other)[2]), "3", "checksum chain break at event 3"),
        (bad(&lines[2].replace("\"n\":\"3\"", "\"n\":\"4\"")), "3", "checksum mismatch at event 3"),
        (bad(&lines[2].replace("event.v1", "event.v2")), "3", "unsupported schema at event 3"),
        (body_of(&other).iter().map(|b| *b as char).collect(), "1", "the first of another"),
    ] {
        let answer = running.post(bus, Head::default(), "", body.as_bytes());
        answer.is_problem(422, "line");
        assert_eq!(answer.member("line"), line, "{}", answer.text());
        assert!(answer.member("detail").contains(fault), "{}", answer.text());
    }
    let mut bytes = body_of(&whole);
    bytes[20] = 0xff;
    running.post(bus, Head::default(), "", &bytes).is_problem(422, "line");
    assert!(running.memory.lines_of(bus).is_empty());
    // As its client sees it: not a thing to try again.
    let mut wrong = whole.clone();
    wrong[1].line.insert(0, '!');
    assert!(matches!(
        running.client().take(bus, Head::default(), &wrong).unwrap_err(),
        Error::Refused { .. }
    ));
}

#[test]
fn what_is_not_understood_is_refused() {
    let running = Running::start();
    let chain = chain("a", 0, 2);
    let (bus, none, body) = (bus_of(&chain), Head::default(), body_of(&chain));
    let post = |query: &str, headers: &str| {
        let length = body.len();
        let head = format!(
            "POST /v1/buses/{bus}/events{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        running.raw(&[head.as_bytes(), &body].concat())
    };
    let lines = "content-type: application/x-ndjson\r\n";
    for query in [
        "",
        "?index=",
        "?index=-1",
        "?index=+1",
        "?index=1",
        "?index=0x0",
        "?index=9223372036854775808",
        "?index=0&index=0",
        "?index=0&more=1",
        &format!("?index=0&checksum={bus}"),
        "?index=1&checksum=sha256:12",
    ] {
        post(query, lines).is_problem(400, "request");
    }
    for headers in [
        "",
        "content-type: application/json\r\n",
        &format!("{lines}content-encoding:\r\n"),
        &format!("{lines}content-encoding: gzip\r\ncontent-encoding: gzip\r\n"),
        &format!("{lines}content-encoding: br\r\n"),
        &format!("{lines}content-encoding: zstd, gzip\r\n"),
    ] {
        post("?index=0", headers).is_problem(415, "media");
    }
    for encoding in ["zstd", "gzip"] {
        running
            .post(bus, none, &format!("content-encoding: {encoding}\r\n"), &body)
            .is_problem(400, "request");
        let packed = if encoding == "zstd" { zstd_of(&body) } else { gzip_of(&body) };
        running
            .post(bus, none, &format!("content-encoding: {encoding}\r\n"), &packed[..packed.len() - 1])
            .is_problem(400, "request");
    }
    for path in [
        "/v1/buses/x",
        "/v1/buses/sha256:AB",
        "/v1/buses/%ff",
        "/v1/buses?x=1",
        &format!("/v1/buses/{bus}?x"),
        &format!("/v1/buses/{bus}/events?from=0"),
        &format!("/v1/buses/{bus}/events?from=1&from=1"),
        "/health?deep",
        "/metrics?x",
        "/openapi.json?x",
    ] {
        assert_eq!(running.get(path, "").status, 400, "{path}");
    }
    for path in [
        "/",
        "/v1",
        "/v1/buses/",
        "/v2/buses",
        "//v1/buses",
        "/v1/buses/../../health",
        &format!("/v1/buses/{bus}/events/1"),
    ] {
        running.get(path, "").is_problem(404, "address");
    }
    for method in ["PUT", "DELETE", "PATCH", "POST", "BREW"] {
        let answer = running.raw(
            format!(
                "{method} /v1/buses HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            .as_bytes(),
        );
        answer.is_problem(405, "method");
        assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
    }
    assert!(running.memory.lines_of(bus).is_empty());
    for encoding in ["gzip", "GZIP", "zstd", "identity"] {
        let (bus, body) = {
            let chain = receiver::chain(encoding, 0, 2);
            (bus_of(&chain), body_of(&chain))
        };
        let packed = match encoding {
            "zstd" => zstd_of(&body),
            "identity" => body,
            _ => gzip_of(&body),
        };
        assert_eq!(
            running.post(bus, none, &format!("content-encoding: {encoding}\r\n"), &packed).status,
            200
        );
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_held() {
    let limits = Limits { batch_bytes: 1 << 20, batch_lines: 100, ..Limits::default() };
    let running = Running::with(Settings { limits, ..settings() });
    let chain = chain("a", 0, 101);
    let (bus, none) = (bus_of(&chain), Head::default());
    running.post(bus, none, "", &body_of(&chain)).is_problem(413, "size");
    running.post(bus, none, "", &vec![b'x'; (1 << 20) + 1]).is_problem(413, "size");
    let zeros = vec![0; 256 << 20];
    for (encoding, bomb) in [("zstd", zstd_of(&zeros)), ("gzip", gzip_of(&zeros))] {
        assert!(bomb.len() < 1 << 20);
        running.post(bus, none, &format!("content-encoding: {encoding}\r\n"), &bomb).is_problem(413, "size");
    }
    // Of a length that nobody said before.
    let mut stream = running.connect();
    let head = format!(
        "POST /v1/buses/{bus}/events?index=0 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        stream.write_all(&chunk).unwrap();
    }
    Answer::read(stream).is_problem(413, "size");
    let header = format!("x: {}\r\n", "y".repeat(100_000));
    assert!(matches!(running.get("/health", &header).status, 431 | 0));
    assert!(running.memory.lines_of(bus).is_empty());
    assert_eq!(running.post(bus, none, "", &body_of(&chain[..100])).status, 200);
}

#[test]
fn tokens_open_what_they_are_for() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tokens");
    let (one, other) = (chain("one", 0, 4), chain("other", 0, 4));
    let (bus, none) = (bus_of(&one), Head::default());
    let token = |scope, rights, name| add_token(&path, scope, rights, name).unwrap();
    let any = token(Scope::Any, Rights::Write, "any");
    let reader = token(Scope::Any, Rights::Read, "reader");
    let scoped = token(Scope::Bus(bus), Rights::Write, "scoped");
    let running = Running::with_tokens(&path);
    let header = |token: &Token| format!("authorization: Bearer {}\r\n", token.reveal());

    // Nobody, somebody else, and what is no token at all.
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
        running.post(bus, none, wrong, &body_of(&one)).is_problem(401, "token");
    }
    assert_eq!(running.get("/health", "").status, 200);
    assert_eq!(running.get("/openapi.json", "").status, 200);
    assert!(running.memory.lines_of(bus).is_empty());

    // One bus.
    let mut client = running.client_with(&scoped);
    client.take(bus, none, &one[..2]).unwrap();
    assert!(matches!(client.take(bus_of(&other), none, &other).unwrap_err(), Error::Refused { .. }));
    assert!(matches!(client.head(bus_of(&other)).unwrap_err(), Error::Refused { .. }));
    assert!(matches!(client.lines(bus_of(&other), 1).unwrap_err(), Error::Refused { .. }));
    running.get("/metrics", &header(&scoped)).is_problem(403, "scope");

    // Every bus, and reading alone.
    running.client_with(&any).take(bus_of(&other), none, &other).unwrap();
    assert_eq!(client.buses().unwrap(), [bus]);
    let mut client = running.client_with(&reader);
    assert_eq!(client.buses().unwrap().len(), 2);
    assert_eq!(all_lines(&mut client, bus), texts_of(&one[..2]));
    assert!(client.take(bus, head_of(&one[..2]), &one[2..]).unwrap_err().to_string().contains("reading"));
    assert_eq!(running.get("/metrics", &header(&reader)).status, 200);

    // Taken out, it ends at once; what is left alone goes on over the same connection.
    let mut client = running.client_with(&scoped);
    client.head(bus).unwrap();
    let kept: String = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .filter(|line| !line.ends_with("scoped"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, kept).unwrap();
    let error = client.take(bus, head_of(&one[..2]), &one[2..]).unwrap_err().to_string();
    assert!(error.contains("ZERO_MIRROR_TOKEN") && !error.contains(scoped.reveal()), "{error}");
    // A tokens file that can't be read lets nobody in.
    fs::write(&path, "nonsense\n").unwrap();
    running.get("/v1/buses", &header(&any)).is_problem(500, "broken");
    let said = running.said.lock().unwrap().join("\n");
    assert!(
        said.contains("line 1")
            && [&any, &reader, &scoped].iter().all(|token| !said.contains(token.reveal()))
    );
}

#[test]
fn a_token_for_the_first_bus_is_bound_to_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tokens");
    let (held, one, other) = (chain("held", 0, 2), chain("one", 0, 4), chain("other", 0, 4));
    let any = add_token(&path, Scope::Any, Rights::Write, "any").unwrap();
    let first = add_token(&path, Scope::First, Rights::Write, "first").unwrap();
    let running = Running::with_tokens(&path);
    running.client_with(&any).take(bus_of(&held), Head::default(), &held).unwrap();
    let mut client = running.client_with(&first);
    assert!(client.buses().unwrap().is_empty());
    // It opens nothing that is held already, and a batch that is not taken binds it to nothing.
    assert!(matches!(client.head(bus_of(&held)).unwrap_err(), Error::Refused { .. }));
    assert!(matches!(client.lines(bus_of(&held), 1).unwrap_err(), Error::Refused { .. }));
    let error = client.take(bus_of(&held), head_of(&held), &[]).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(matches!(
        client.take(bus_of(&one), head_of(&one[..2]), &one[2..]).unwrap_err(),
        Error::Moved { .. }
    ));
    assert_eq!(client.head(bus_of(&one)).unwrap(), Head::default());
    client.take(bus_of(&other), Head::default(), &other[..2]).unwrap();
    client.take(bus_of(&other), head_of(&other[..2]), &other[2..]).unwrap();
    assert!(matches!(client.take(bus_of(&one), Head::default(), &one).unwrap_err(), Error::Refused { .. }));
    assert_eq!(client.buses().unwrap(), [bus_of(&other)]);
    assert!(fs::read_to_string(&path).unwrap().contains(&format!("{} write first", bus_of(&other))));
}

#[test]
fn a_token_that_asks_too_often_waits() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tokens");
    let busy = add_token(&path, Scope::Any, Rights::Write, "busy").unwrap();
    let calm = add_token(&path, Scope::Any, Rights::Write, "calm").unwrap();
    let limits = Limits { rate: 1, ..Limits::default() };
    let running = Running::with(Settings { tokens: Some(path), limits, ..settings() });
    let header = format!("authorization: Bearer {}\r\n", busy.reveal());
    let answer =
        (0..1000).map(|_| running.get("/v1/buses", &header)).find(|answer| answer.status != 200).unwrap();
    answer.is_problem(429, "rate");
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert!(running.client_with(&calm).buses().unwrap().is_empty());
    let chain = chain("a", 0, 1);
    let answers: Vec<_> =
        (0..100).map(|_| running.post(bus_of(&chain), Head::default(), &header, b"").status).collect();
    assert!(answers.contains(&429), "{answers:?}");
    // Its client comes again later.
    let error = (0..1000).find_map(|_| running.client_with(&busy).buses().err()).unwrap();
    assert!(matches!(&error, Error::Away { .. }) && error.to_string().contains("Retry-After 1"), "{error}");
}

#[test]
fn a_store_that_is_away_is_told_without_its_name() {
    let running = Running::start();
    let mut client = running.client();
    let chain = chain("a", 0, 4);
    let bus = bus_of(&chain);
    assert_eq!(running.get("/health", "").text(), r#"{"status":"ok"}"#);
    client.take(bus, Head::default(), &chain[..2]).unwrap();
    running.memory.set(Mood::Away);
    for error in [
        client.head(bus).unwrap_err(),
        client.buses().unwrap_err(),
        client.lines(bus, 1).unwrap_err(),
        client.take(bus, head_of(&chain[..2]), &chain[2..]).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Away { .. }) && !error.to_string().contains("internal"), "{error}");
    }
    assert!(running.said.lock().unwrap()[0].contains("secret-store.internal"));
    running.memory.set(Mood::Panics);
    let answer = running.get(&format!("/v1/buses/{bus}"), "");
    answer.is_problem(500, "broken");
    running.memory.set(Mood::Fine);
    client.take(bus, head_of(&chain[..2]), &chain[2..]).unwrap();
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
}

#[test]
fn the_health_is_that_of_the_store() {
    let running = Running::start();
    running.memory.set(Mood::Away);
    running.get("/health", "").is_problem(503, "away");
}

#[test]
fn who_is_silent_is_not_waited_for() {
    let limits = Limits {
        silence: Duration::from_millis(100),
        body: Duration::from_millis(300),
        connections: 4,
        ..Limits::default()
    };
    let running = Running::with(Settings { limits, ..settings() });
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    let whole = posting(bus, Head::default(), "", &body_of(&chain));
    // More of them than there are places, each at another point; all are closed.
    let silent: Vec<_> = [0, 1, 30, 60, 100, whole.len() / 2, whole.len() - 1, 0, 0, 0]
        .iter()
        .map(|end| {
            let mut stream = running.connect();
            stream.write_all(&whole[..*end]).unwrap();
            stream
        })
        .collect();
    for stream in silent {
        let answer = Answer::read(stream);
        assert!(matches!(answer.status, 0 | 408), "{answer:?}");
    }
    // One that goes on for ever, a byte at a time.
    let mut stream = running.connect();
    stream.write_all(&posting(bus, Head::default(), "", &vec![b' '; 1 << 20])[..400]).unwrap();
    let mut drip = stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        while drip.write_all(b" ").is_ok() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    });
    let answer = Answer::read(stream);
    assert!(matches!(answer.status, 0 | 408), "{answer:?}");
    dripping.join().unwrap();
    // One that asks for a lot, and takes none of it.
    let mut client = running.client();
    client.take(bus, Head::default(), &chain).unwrap();
    assert_eq!(client.head(bus).unwrap(), head_of(&chain));
}

#[test]
fn half_a_body_is_no_batch() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    let whole = posting(bus, Head::default(), "", &body_of(&chain));
    for end in [whole.len() - 1, whole.len() - 300, whole.len() - body_of(&chain).len()] {
        let mut stream = running.connect();
        stream.write_all(&whole[..end]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_ne!(Answer::read(stream).status, 200);
    }
    assert!(running.memory.lines_of(bus).is_empty());
    assert_eq!(running.raw(&whole).status, 200);
}

#[test]
fn two_requests_on_one_line_of_bytes_are_two() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    // Whoever smuggles a second length is refused, and not understood in two ways.
    let body = body_of(&chain);
    let head = format!(
        "POST /v1/buses/{bus}/events?index=0 HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
    );
    for lengths in [
        format!("content-length: {}\r\ncontent-length: 0\r\n\r\n", body.len()),
        "content-length: -1\r\n\r\n".to_owned(),
    ] {
        let answer = running.raw(&[head.as_bytes(), lengths.as_bytes(), &body].concat());
        assert_eq!(answer.status, 400);
    }
    assert!(running.memory.lines_of(bus).is_empty());
    for garbage in [
        b"\0\0\0\0".as_slice(),
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = running.connect();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_ne!(Answer::read(stream).status, 200, "{garbage:?}");
    }
}

#[test]
fn many_clients_of_one_bus_put_every_event_once() {
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
                    match client.take(bus, head_of(&chain[..at]), &chain[at..to]) {
                        Ok(()) => {}
                        Err(Error::Moved { .. }) => {
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
fn a_hundred_buses_do_not_mix() {
    let running = Running::start();
    let chains: Vec<_> = (0..100).map(|n| chain(&n.to_string(), 0, 3)).collect();
    std::thread::scope(|scope| {
        for chains in chains.chunks(25) {
            let mut client = running.client();
            scope.spawn(move || {
                for chain in chains {
                    client.take(bus_of(chain), Head::default(), chain).unwrap();
                }
            });
        }
    });
    let mut expected: Vec<_> = chains.iter().map(|chain| bus_of(chain).to_string()).collect();
    expected.sort();
    let found: Vec<_> = running.client().buses().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
    for chain in &chains {
        assert_eq!(running.memory.lines_of(bus_of(chain)), texts_of(chain));
    }
}

#[test]
fn what_is_under_way_is_finished_before_the_end() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    running.memory.set(Mood::Waits);
    std::thread::scope(|scope| {
        let (chain, mut client) = (&chain, running.client());
        let taken = scope.spawn(move || client.take(bus, Head::default(), chain));
        running.memory.until_waiting(1);
        running.ask_to_stop();
        // Nobody new is let in, once it has heard.
        while std::net::TcpStream::connect(running.address).is_ok() {}
        assert!(running.memory.lines_of(bus).is_empty());
        running.memory.set(Mood::Fine);
        taken.join().unwrap().unwrap();
    });
    let memory = running.memory.clone();
    running.stop();
    assert_eq!(memory.lines_of(bus), texts_of(&chain));
}

#[test]
fn a_client_that_goes_away_leaves_a_whole_batch() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    running.memory.set(Mood::Waits);
    let mut stream = running.connect();
    stream.write_all(&posting(bus, Head::default(), "", &body_of(&chain))).unwrap();
    running.memory.until_waiting(1);
    drop(stream);
    running.memory.set(Mood::Fine);
    // Whoever comes next waits for it, and then finds it there.
    let error = running.client().take(bus, Head::default(), &chain).unwrap_err();
    assert!(matches!(error, Error::Moved { .. }), "{error}");
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
}

#[test]
fn the_way_is_kept_private_by_tls() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(file("cert.pem"), made.cert.pem()).unwrap();
    fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(file("other.pem"), other.cert.pem()).unwrap();
    fs::write(file("other-key.pem"), other.signing_key.serialize_pem()).unwrap();
    let with = |cert: &str, key: &str| {
        let settings = Settings { tls: Some((file(cert), file(key))), ..settings() };
        zero_mirror::ingest::Receiver::bind(
            settings,
            Box::new(|| Ok(Box::new(receiver::Memory::default()))),
            std::sync::Arc::new(|_| {}),
        )
        .map(drop)
    };
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file("key.pem"), fs::Permissions::from_mode(0o604)).unwrap();
    assert!(with("cert.pem", "key.pem").unwrap_err().to_string().contains("chmod o="));
    fs::set_permissions(file("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(file("other-key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(with("cert.pem", "other-key.pem").unwrap_err().to_string().contains("does not go with"));
    assert!(with("key.pem", "key.pem").unwrap_err().to_string().contains("no certificate"));
    assert!(with("none.pem", "key.pem").unwrap_err().to_string().contains("none.pem"));

    let running = Running::with(Settings { tls: Some((file("cert.pem"), file("key.pem"))), ..settings() });
    let port = running.address.port();
    let url = |host: &str, ca: &str| format!("https://{host}:{port}/?ca={}", file(ca).display());
    let chain = chain("a", 0, 3);
    let mut client = Http::with_token(&url("localhost", "cert.pem"), None).unwrap();
    client.take(bus_of(&chain), Head::default(), &chain).unwrap();
    assert_eq!(all_lines(&mut client, bus_of(&chain)), texts_of(&chain));
    // Another authority, another name, no TLS at all.
    for (host, ca) in [("localhost", "other.pem"), ("127.0.0.1", "cert.pem")] {
        let error = Http::with_token(&url(host, ca), None).unwrap().buses().unwrap_err();
        assert!(matches!(&error, Error::Refused { .. }) && error.to_string().contains("?ca=PATH"), "{error}");
    }
    let error = Http::with_token(&format!("http://localhost:{port}"), None).unwrap().buses().unwrap_err();
    assert!(matches!(error, Error::Away { .. }), "{error}");
    for ca in ["none.pem", "key.pem"] {
        assert!(matches!(
            Http::with_token(&url("localhost", ca), None).err().unwrap(),
            Error::Refused { .. }
        ));
    }
}

#[test]
fn only_what_is_safe_is_listened_on() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tokens");
    add_token(&path, Scope::Any, Rights::Write, "any").unwrap();
    let bind = |settings: Settings| {
        let bound = zero_mirror::ingest::Receiver::bind(
            settings,
            Box::new(|| Ok(Box::new(receiver::Memory::default()))),
            std::sync::Arc::new(|_| {}),
        );
        bound.map(drop).map_err(|error| error.to_string())
    };
    let open = Settings { listen: "0.0.0.0:0".parse().unwrap(), ..settings() };
    assert!(bind(open.clone()).unwrap_err().contains("tokens file"));
    let plain = Settings { tokens: Some(path.clone()), ..open.clone() };
    assert!(bind(plain.clone()).unwrap_err().contains("proxy"));
    bind(Settings { behind_proxy: true, ..plain }).unwrap();
    assert!(
        bind(Settings { tokens: Some(place.path().join("none")), ..settings() })
            .unwrap_err()
            .contains("none")
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(
        bind(Settings { listen: taken.local_addr().unwrap(), ..settings() })
            .unwrap_err()
            .contains("cannot listen")
    );
}

/// A server that gives each connection the next of some answers.
fn answering(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                request.push(byte[0]);
            }
            asked.push(String::from_utf8(request).unwrap());
            let _ = stream.write_all(&answer);
        }
        asked
    });
    (url, thread)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_token_goes_to_no_other_address() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("location: http://{}/v1/buses\r\n", elsewhere.local_addr().unwrap());
    let statuses = ["301 x", "302 x", "303 x", "307 x", "308 x"];
    let (url, server) = answering(statuses.iter().map(|status| answer(status, &location, b"")).collect());
    let token = Token::generate().unwrap();
    let mut client = Http::with_token(&url, Some(token.clone())).unwrap();
    for _ in statuses {
        let error = client.buses().unwrap_err();
        assert!(matches!(&error, Error::Refused { .. }) && error.to_string().contains("redirect"), "{error}");
        assert!(!error.to_string().contains(token.reveal()));
    }
    let asked = server.join().unwrap();
    assert!(asked.iter().all(|request| request.starts_with("GET /prefix/v1/buses HTTP/1.1\r\n")));
    assert!(asked.iter().all(|request| request.contains(&format!("Bearer {}", token.reveal()))));
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(!format!("{token:?}").contains(token.reveal()));
}

#[test]
fn a_server_that_is_none_is_no_danger() {
    let chain = chain("a", 0, 2);
    let bus = bus_of(&chain);
    let json = "content-type: application/json\r\n";
    let zstd = "content-encoding: zstd\r\nzero-first-index: 1\r\n";
    let bomb = zstd_of(&vec![b'\n'; 256 << 20]);
    let spoilt = [
        answer("200 x", json, b""),
        answer("200 x", json, b"{"),
        answer("200 x", json, &b"[".repeat(1 << 20)),
        answer("200 x", json, b"\xff\xfe"),
        answer("200 x", json, br#"{"buses":["x"],"index":1,"checksum":null,"bus":"x"}"#),
        answer("200 x", json, &format!(r#"{{"bus":"{bus}","checksum":null,"index":1}}"#).into_bytes()),
        answer("200 x", "content-encoding: br\r\n", b"x"),
        answer("200 x", zstd, b"x"),
        answer("200 x", zstd, &bomb),
        answer("200 x", "", &vec![b'x'; 40 << 20]),
        answer("409 x", json, br#"{"type":"urn:zero-bus:problem:other"}"#),
        answer("409 x", json, b"{}"),
        answer("500 x", "", b"\x1b[31mboo"),
        answer("503 x", "retry-after: \x1b[0m\r\n", b"{}"),
        b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n{".to_vec(),
        b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x46".to_vec(),
        [b"HTTP/1.1 200 x\r\nx: ".as_slice(), &vec![b'y'; 4 << 20]].concat(),
        Vec::new(),
    ];
    type Call<'a> = &'a dyn Fn(&mut Http) -> zero_mirror::Result<()>;
    let calls: [Call<'_>; 4] = [
        &|client| client.buses().map(drop),
        &|client| client.head(bus).map(drop),
        &|client| client.take(bus, Head::default(), &chain),
        &|client| {
            client
                .lines(bus, 1)
                .and_then(|lines| if lines.is_empty() { client.head(bus).map(drop) } else { Ok(()) })
        },
    ];
    for call in calls {
        for answer in &spoilt {
            let (url, server) = answering(vec![answer.clone()]);
            let error = call(&mut Http::with_token(&url, None).unwrap()).unwrap_err();
            assert!(matches!(error, Error::Away { .. } | Error::Refused { .. }), "{error}");
            let said = error.to_string();
            assert!(!said.contains('\x1b') && said.len() < 1000, "{said}");
            server.join().unwrap();
        }
    }
    // Lines of other events than were asked for.
    let (url, server) = answering(vec![answer("200 x", "zero-first-index: 4\r\n", b"{}\n")]);
    let error = Http::with_token(&url, None).unwrap().lines(bus, 5).unwrap_err();
    assert!(error.to_string().contains("other events"), "{error}");
    server.join().unwrap();
}

#[test]
fn what_is_served_says_what_it_is() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    running.client().take(bus_of(&chain), Head::default(), &chain).unwrap();
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
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
