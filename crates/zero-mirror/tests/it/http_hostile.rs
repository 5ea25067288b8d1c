//! Hostile and defective HTTP clients and servers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::receiver::{Answer, Running, body_of, bus_of, chain, head_of, posting, settings, texts_of};
use zero_bus::{Bus, Draft, Head};
use zero_mirror::ingest::{Limits, ReceiverOptions, Rights, Scope, add_token};
use zero_mirror::{Error, Http, Mirror, Token};

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 19).unwrap()
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::best()).read_to_end(&mut packed).unwrap();
    packed
}

#[test]
fn an_invalid_line_is_refused_with_its_number() {
    let running = Running::start();
    let (valid, other) = (chain("a", 0, 4), chain("b", 0, 4));
    let bus = bus_of(&valid);
    let lines = texts_of(&valid);
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
    let mut bytes = body_of(&valid);
    bytes[20] = 0xff;
    running.post(bus, Head::default(), "", &bytes).is_problem(422, "line");
    assert!(running.memory.lines_of(bus).is_empty());
    // The client does not try such a batch again.
    let mut wrong = valid.clone();
    wrong[1].line.insert(0, '!');
    assert!(matches!(
        running.client().append(bus, Head::default(), &wrong).unwrap_err(),
        Error::Refused { .. }
    ));
}

#[test]
fn malformed_requests_are_refused() {
    let running = Running::start();
    let chain = chain("a", 0, 2);
    let (bus, empty, body) = (bus_of(&chain), Head::default(), body_of(&chain));
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
            .post(bus, empty, &format!("content-encoding: {encoding}\r\n"), &body)
            .is_problem(400, "request");
        let packed = if encoding == "zstd" { zstd_of(&body) } else { gzip_of(&body) };
        running
            .post(bus, empty, &format!("content-encoding: {encoding}\r\n"), &packed[..packed.len() - 1])
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
            let chain = crate::receiver::chain(encoding, 0, 2);
            (bus_of(&chain), body_of(&chain))
        };
        let packed = match encoding {
            "zstd" => zstd_of(&body),
            "identity" => body,
            _ => gzip_of(&body),
        };
        assert_eq!(
            running.post(bus, empty, &format!("content-encoding: {encoding}\r\n"), &packed).status,
            200
        );
    }
}

#[test]
fn oversized_requests_are_refused_before_they_are_buffered() {
    let limits = Limits { max_batch_bytes: 1 << 20, max_batch_lines: 100, ..Limits::default() };
    let running = Running::with(ReceiverOptions { limits, ..settings() });
    let chain = chain("a", 0, 101);
    let (bus, empty) = (bus_of(&chain), Head::default());
    running.post(bus, empty, "", &body_of(&chain)).is_problem(413, "size");
    running.post(bus, empty, "", &vec![b'x'; (1 << 20) + 1]).is_problem(413, "size");
    let zeros = vec![0; 256 << 20];
    for (encoding, bomb) in [("zstd", zstd_of(&zeros)), ("gzip", gzip_of(&zeros))] {
        assert!(bomb.len() < 1 << 20);
        running.post(bus, empty, &format!("content-encoding: {encoding}\r\n"), &bomb).is_problem(413, "size");
    }
    // A body without a declared length.
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
    assert_eq!(running.post(bus, empty, "", &body_of(&chain[..100])).status, 200);
}

#[test]
fn the_rate_limit_applies_to_each_token() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("tokens");
    let busy = add_token(&path, Scope::Any, Rights::Write, "busy").unwrap();
    let calm = add_token(&path, Scope::Any, Rights::Write, "calm").unwrap();
    let limits = Limits { requests_per_second: 1, ..Limits::default() };
    let running = Running::with(ReceiverOptions { tokens: Some(path), limits, ..settings() });
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
    // The client reports it as an error to try again.
    let error = (0..1000).find_map(|_| running.client_with(&busy).buses().err()).unwrap();
    assert!(
        matches!(&error, Error::Unavailable { .. }) && error.to_string().contains("Retry-After 1"),
        "{error}"
    );
}

#[test]
fn silent_and_slow_clients_are_disconnected() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(300),
        max_connections: 4,
        ..Limits::default()
    };
    let running = Running::with(ReceiverOptions { limits, ..settings() });
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    let request = posting(bus, Head::default(), "", &body_of(&chain));
    // More silent connections than the limit, each stopped at another byte. All are closed.
    let silent: Vec<_> = [0, 1, 30, 60, 100, request.len() / 2, request.len() - 1, 0, 0, 0]
        .iter()
        .map(|end| {
            let mut stream = running.connect();
            stream.write_all(&request[..*end]).unwrap();
            stream
        })
        .collect();
    for stream in silent {
        let answer = Answer::read(stream);
        assert!(matches!(answer.status, 0 | 408), "{answer:?}");
    }
    // A client that sends one byte at a time, without end.
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
    let mut client = running.client();
    client.append(bus, Head::default(), &chain).unwrap();
    assert_eq!(client.head(bus).unwrap(), head_of(&chain));
}

#[test]
fn a_stalled_connection_is_closed_and_frees_its_slot() {
    let limits = Limits { idle_timeout: Duration::from_millis(100), max_connections: 1, ..Limits::default() };
    let running = Running::with(ReceiverOptions { limits, ..settings() });
    let temporary = tempfile::tempdir().unwrap();
    let bus = Bus::open(temporary.path()).unwrap();
    let text = "x".repeat(1 << 20);
    let drafts = (0..8).map(|_| Draft::new("long", 1.0, &BTreeMap::from([("text", &text)])).unwrap());
    let events = bus.append_batch(drafts.collect()).unwrap();
    let chain: Vec<_> = events.into_iter().map(crate::receiver::record).collect();
    let bus = bus_of(&chain);
    running.client().append(bus, Head::default(), &chain).unwrap();
    // Each of these holds the only slot until it is closed: a client that requests much and reads
    // nothing, and a client that stays idle after its response.
    let mut unread = running.connect();
    unread
        .write_all(format!("GET /v1/buses/{bus}/events HTTP/1.1\r\nhost: x\r\n\r\n").repeat(50).as_bytes())
        .unwrap();
    assert_eq!(running.client().head(bus).unwrap(), head_of(&chain));
    let mut idle = running.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert_eq!(running.client().head(bus).unwrap(), head_of(&chain));
    assert_eq!(Answer::read(idle).status, 200);
}

#[test]
fn a_truncated_body_is_not_stored() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    let request = posting(bus, Head::default(), "", &body_of(&chain));
    for end in [request.len() - 1, request.len() - 300, request.len() - body_of(&chain).len()] {
        let mut stream = running.connect();
        stream.write_all(&request[..end]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_ne!(Answer::read(stream).status, 200);
    }
    assert!(running.memory.lines_of(bus).is_empty());
    assert_eq!(running.raw(&request).status, 200);
}

#[test]
fn conflicting_lengths_and_garbage_are_refused() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let bus = bus_of(&chain);
    // A second length is a smuggling attempt: two parsers could see different requests.
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

/// A server that sends the next of these responses to each connection. Its thread returns the
/// requests.
fn answering(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                request.push(byte[0]);
            }
            requests.push(String::from_utf8(request).unwrap());
            let _ = stream.write_all(&answer);
        }
        requests
    });
    (url, thread)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_redirect_is_refused_and_gets_no_token() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("location: http://{}/v1/buses\r\n", elsewhere.local_addr().unwrap());
    let statuses = ["301 x", "302 x", "303 x", "307 x", "308 x"];
    let (url, server) = answering(statuses.iter().map(|status| answer(status, &location, b"")).collect());
    let token = Token::generate("zero_mirror_").unwrap();
    let mut client = Http::with_token(&url, Some(token.clone())).unwrap();
    for _ in statuses {
        let error = client.buses().unwrap_err();
        assert!(matches!(&error, Error::Refused { .. }) && error.to_string().contains("redirect"), "{error}");
        assert!(!error.to_string().contains(token.reveal()));
    }
    let requests = server.join().unwrap();
    assert!(requests.iter().all(|request| request.starts_with("GET /prefix/v1/buses HTTP/1.1\r\n")));
    assert!(requests.iter().all(|request| request.contains(&format!("Bearer {}", token.reveal()))));
    assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(!format!("{token:?}").contains(token.reveal()));
}

#[test]
fn invalid_responses_become_errors() {
    let chain = chain("a", 0, 2);
    let bus = bus_of(&chain);
    let json = "content-type: application/json\r\n";
    let zstd = "content-encoding: zstd\r\nzero-first-index: 1\r\n";
    let bomb = zstd_of(&vec![b'\n'; 256 << 20]);
    let invalid = [
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
        &|client| client.append(bus, Head::default(), &chain),
        &|client| {
            client
                .lines(bus, 1)
                .and_then(|lines| if lines.is_empty() { client.head(bus).map(drop) } else { Ok(()) })
        },
    ];
    for call in calls {
        for response in &invalid {
            let (url, server) = answering(vec![response.clone()]);
            let error = call(&mut Http::with_token(&url, None).unwrap()).unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. } | Error::Refused { .. }), "{error}");
            let message = error.to_string();
            assert!(!message.contains('\x1b') && message.len() < 1000, "{message}");
            server.join().unwrap();
        }
    }
    // Lines of other events than the requested ones.
    let (url, server) = answering(vec![answer("200 x", "zero-first-index: 4\r\n", b"{}\n")]);
    let error = Http::with_token(&url, None).unwrap().lines(bus, 5).unwrap_err();
    assert!(error.to_string().contains("other events"), "{error}");
    server.join().unwrap();
}

/// A proxy with a limit on request bodies, as nginx has it: it answers with a page.
fn limiting_proxy(
    receiver: std::net::SocketAddr,
    max_bytes: usize,
) -> (String, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let page = b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n</html>\r\n";
    let thread = std::thread::spawn(move || {
        let mut refused = 0;
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            if head.is_empty() {
                return refused;
            }
            let text = String::from_utf8(head).unwrap();
            let lower = text.to_ascii_lowercase();
            let length = lower.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            if body.len() > max_bytes {
                refused += 1;
                let headers = "content-type: text/html\r\n";
                stream.write_all(&answer("413 Request Entity Too Large", headers, page)).unwrap();
                continue;
            }
            let mut upstream = std::net::TcpStream::connect(receiver).unwrap();
            let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            upstream.write_all(&[text.as_bytes(), &body].concat()).unwrap();
            let mut response = Vec::new();
            upstream.read_to_end(&mut response).unwrap();
            stream.write_all(&response).unwrap();
        }
    });
    (url, thread)
}

#[test]
fn a_proxy_with_a_smaller_limit_gets_smaller_requests() {
    let running = Running::start();
    let chain = chain("a", 0, 2000);
    let bus = bus_of(&chain);
    let limit = zstd_of(&body_of(&chain)).len() / 3;
    let (url, proxy) = limiting_proxy(running.address, limit);
    let mut client = Http::with_token(&url, None).unwrap();
    client.append(bus, Head::default(), &chain[..1500]).unwrap();
    client.append(bus, head_of(&chain[..1500]), &chain[1500..]).unwrap();
    assert_eq!(running.memory.lines_of(bus), texts_of(&chain));
    drop(client);
    drop(std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap());
    // The size that was accepted once is kept.
    assert!((1..8).contains(&proxy.join().unwrap()));
}

#[test]
fn an_event_that_a_proxy_does_not_accept_is_named_with_the_limit_and_without_html() {
    let running = Running::start();
    let chain = chain("a", 0, 3);
    let (url, proxy) = limiting_proxy(running.address, 10);
    let mut client = Http::with_token(&url, None).unwrap();
    let error = client.append(bus_of(&chain), Head::default(), &chain).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Refused { .. }), "{text}");
    assert!(
        text.contains("does not accept event 1, whose line has") && text.contains("client_max_body_size"),
        "{text}"
    );
    assert!(!text.contains('<'), "{text}");
    drop(client);
    drop(std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap());
    proxy.join().unwrap();
    // Any other status with a page.
    let (url, server) =
        answering(vec![answer("403 Forbidden", "content-type: text/html\r\n", b" <html>\nno</html>")]);
    let text = Http::with_token(&url, None).unwrap().buses().unwrap_err().to_string();
    assert!(text.ends_with("403 Forbidden: an HTML page, probably from a proxy"), "{text}");
    server.join().unwrap();
}

#[test]
fn a_zstd_window_that_is_too_large_is_named() {
    let running = Running::start();
    let chain = chain("a", 0, 2);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&body_of(&chain)).unwrap();
    let body = encoder.finish().unwrap();
    let answer = running.post(bus_of(&chain), Head::default(), "content-encoding: zstd\r\n", &body);
    answer.is_problem(400, "request");
    assert!(answer.member("detail").contains("zstd window of more than 8 MiB"), "{}", answer.text());
}
